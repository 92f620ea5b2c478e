# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Questions in Korean for models that understand only English: translated when that is needed, and only then.

A provider declares that it understands only English (``english_only``); hosted models and the grammar ``rules``, which
reads both, declare nothing and are asked as they are. The translator is loaded by the first text that needs it.
"""

from __future__ import annotations

import asyncio
import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from flow_rag_vla.llm.errors import BadRequestError, MissingPackageError, TruncatedError
from flow_rag_vla.llm.holding import KeepAll, LocalModel, ModelHolder, weight_bytes
from flow_rag_vla.llm.pretrained import model_and_tokenizer
from flow_rag_vla.llm.provider import Emit, Provider, sees, waits_for
from flow_rag_vla.llm.request import Message, RawAnswer, Request

LONGEST_TOKENS = 512
"""Of one piece: what Marian and NLLB models are trained for."""

_HANGUL = re.compile("[\uac00-\ud7a3\u1100-\u11ff\u3130-\u318f]")
_LATIN_WORD = re.compile("[A-Za-z]+(?:'[a-z]+)?")
_ACCENTED = re.compile("[\u00c0-\u024f]")
_OTHER_LETTER = re.compile(r"[^\W\d_A-Za-z\u00c0-\u024f\uac00-\ud7a3\u1100-\u11ff\u3130-\u318f]")
_SENTENCE_END = re.compile(r"(?<=[.!?\u3002\uff01\uff1f])\s+|\n+")


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ENGLISH_STOPWORDS = _words(
    "a an and are as at be but by can do does for from has have how if in into is it its my no not of off on or out "
    "please than that the their then there these this to up was were what when where which who why will with you "
    "your"
)
_ENGLISH_COMMANDS = _words(
    "pick put place push pull open close move drop grab take give stop hold stack slide lift lower turn find show "
    "red blue green yellow black white cube box block bin drawer zone table robot arm gripper"
)
"""What commands to this robot are made of: they are often too short for a stopword."""


def detect_language(text: str) -> str:
    """``ko``, ``en`` or ``other``; ``""`` for a text without letters.

    By script first: half of the letters' words in Hangul make it Korean, since Korean sentences carry English names.
    Then by words: a Latin text is English when a fifth of its words are English stopwords or words of commands (a third
    if it has accents), or when it is but one or two words; otherwise it may be anything.
    """
    korean = len([word for word in text.split() if _HANGUL.search(word)])
    latin = [word.lower() for word in _LATIN_WORD.findall(text)]
    other = len(_OTHER_LETTER.findall(text))
    if not korean and not latin and not other:
        return ""
    latin_alone = len([word for word in text.split() if _LATIN_WORD.search(word) and not _HANGUL.search(word)])
    if korean and korean >= latin_alone and korean >= other:
        return "ko"
    if other > len(latin):
        return "other"
    known = sum(word in _ENGLISH_STOPWORDS or word in _ENGLISH_COMMANDS for word in latin)
    if _ACCENTED.search(text) and known * 3 < len(latin):
        return "other"
    return "en" if known * 5 >= len(latin) or len(latin) <= 2 else "other"


class Translator(Protocol):
    """Translates between two languages. Safe between threads."""

    def translate(self, texts: Sequence[str]) -> list[str]:
        """As many texts in the other language.

        Raises:
            LlmError: of the kind that fits.
        """


class SequenceTranslator:
    """A translation model of transformers (Marian, NLLB, M2M100, T5) from a folder; loaded by its first use.

    Args:
        folder: of the model, or a hub id.
        source, target: codes for models of many languages, such as ``kor_Hang`` and ``eng_Latn`` of NLLB; empty for a
            model of one pair, such as opus-mt-ko-en.
        holder: who keeps its weights.
        kept: translations remembered.
    """

    def __init__(
        self, folder: str, *, source: str = "", target: str = "", holder: ModelHolder | None = None, kept: int = 1024
    ) -> None:
        self._folder, self._source, self._target, self._kept = folder, source, target, kept
        self._holder = holder or KeepAll()
        size = weight_bytes(Path(folder).expanduser(), 4.0)
        self._model = LocalModel(f"translator {folder} {source} {target}", self._load, size)
        self._lock = threading.Lock()
        self._known: OrderedDict[str, str] = OrderedDict()
        self.calls = 0
        """Texts that the model was given; those that were remembered are not among them."""

    def translate(self, texts: Sequence[str]) -> list[str]:
        """See :class:`Translator`. Texts are cut at sentence ends; each sentence is remembered."""
        return [" ".join(self._sentence(part) for part in sentences(text)) for text in texts]

    def _sentence(self, text: str) -> str:
        with self._lock:
            if text in self._known:
                self._known.move_to_end(text)
                return self._known[text]
            translated = self._translated(text)
            self._known[text] = translated
            while len(self._known) > self._kept:
                self._known.popitem(last=False)
            return translated

    def _translated(self, text: str) -> str:
        import torch

        self.calls += 1
        with self._holder.hold(self._model, timeout_s=120.0) as loaded, torch.inference_mode():
            model, tokenizer = loaded.model, loaded.tokenizer
            if self._source:
                tokenizer.src_lang = self._source
            inputs = tokenizer(text, return_tensors="pt")
            length = int(inputs["input_ids"].shape[1])
            if length > LONGEST_TOKENS:
                raise BadRequestError(
                    f"a sentence has {length} tokens, at most {LONGEST_TOKENS} are translated at once"
                )
            arguments: dict[str, Any] = {}
            if self._target:
                arguments["forced_bos_token_id"] = tokenizer.convert_tokens_to_ids(self._target)
            whole = model.generate(**inputs, max_new_tokens=LONGEST_TOKENS, do_sample=False, num_beams=1, **arguments)
            ended = int(whole[0, -1]) in _ends(model, tokenizer)
            translated = str(tokenizer.decode(whole[0], skip_special_tokens=True)).strip()
        if not ended:
            raise TruncatedError(f"the translation of {text!r:.60} has no end; say it in shorter sentences")
        if not translated:
            raise BadRequestError(f"the translator has no words for {text!r:.60}; say it otherwise, or in English")
        return translated

    def _load(self) -> Any:
        try:
            import transformers
        except ImportError as error:
            raise MissingPackageError(
                "a translator needs transformers: pip install 'flow_rag_vla[llm-local]'"
            ) from error
        model, tokenizer = model_and_tokenizer(
            transformers.AutoModelForSeq2SeqLM, self._folder, "translator", "a translation model"
        )
        return _Loaded(model.eval(), tokenizer)


def _ends(model: Any, tokenizer: Any) -> set[int]:
    configured = model.generation_config.eos_token_id
    ends = configured if isinstance(configured, list) else [configured]
    return {int(end) for end in (*ends, tokenizer.eos_token_id) if end is not None}


class _Loaded:
    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model, tokenizer


class TranslatingProvider:
    """A provider that understands only English, asked in Korean: questions are translated, English ones pass.

    Args:
        provider: whom to ask.
        to_english: for what a user or a document says in Korean.
        from_english: for answers in words to a Korean question; None leaves them English. Structures are never
            translated: their words are the schema's.
    """

    def __init__(self, provider: Provider, to_english: Translator, from_english: Translator | None = None) -> None:
        self._provider, self._to_english, self._from_english = provider, to_english, from_english
        self.name, self.model, self.deterministic = provider.name, provider.model, provider.deterministic
        self.sees = sees(provider)

    async def answer(self, request: Request, emit: Emit | None = None) -> RawAnswer:
        """See :class:`flow_rag_vla.llm.provider.Provider`. An answer that is translated comes in one part."""
        loop = asyncio.get_running_loop()
        english = await loop.run_in_executor(None, self._in_english, request)
        back = self._from_english
        if back is None or request.schema is not None or detect_language(request.question) != "ko":
            return await self._provider.answer(english, emit)
        raw = await self._provider.answer(english)
        (text,) = await loop.run_in_executor(None, back.translate, [raw.text])
        if emit is not None:
            emit(text)
        return RawAnswer(text, raw.usage)

    async def close(self) -> None:
        """Close the provider."""
        await self._provider.close()

    @property
    def waits_for(self) -> str:
        """See :func:`flow_rag_vla.llm.provider.waits_for`."""
        return waits_for(self._provider)

    def _in_english(self, request: Request) -> Request:
        messages = tuple(self._translated(message) for message in request.messages)
        return request if messages == request.messages else replace(request, messages=messages)

    def _translated(self, message: Message) -> Message:
        if message.role == "system" or detect_language(message.text) != "ko":
            return message
        (text,) = self._to_english.translate([message.text])
        return replace(message, text=text)


def translated(
    provider: Provider, make: Callable[[], Translator] | None, make_back: Callable[[], Translator] | None = None
) -> Provider:
    """The provider, behind a translator if it declares that it understands only English and there is one."""
    if make is None or not getattr(provider, "english_only", False):
        return provider
    return TranslatingProvider(provider, make(), None if make_back is None else make_back())


def sequence_translators(
    there: str, back: str, codes: str, holder: ModelHolder
) -> tuple[Callable[[], Translator] | None, Callable[[], Translator] | None]:
    """What makes the translators to and from English; None for one that has no model.

    Args:
        there: model that translates Korean; empty: none.
        back: model that translates English; empty: none.
        codes: of Korean and English for models of many languages, such as ``kor_Hang eng_Latn``; else empty.
        holder: who keeps their weights.
    """
    korean, _, english = codes.partition(" ")
    return (
        (lambda: SequenceTranslator(there, source=korean, target=english, holder=holder)) if there else None,
        (lambda: SequenceTranslator(back, source=english, target=korean, holder=holder)) if back else None,
    )


def sentences(text: str) -> list[str]:
    """A text's sentences, without empty ones."""
    return [part.strip() for part in _SENTENCE_END.split(text) if part.strip()]
