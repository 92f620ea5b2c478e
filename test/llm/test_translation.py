# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Language detection, and translation only where it is needed: on a tiny translation model trained in the test."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tiny import train_tokenizer

from flow_rag_vla.llm import errors
from flow_rag_vla.llm.prompts import make_request
from flow_rag_vla.llm.provider import Provider, ProviderSettings
from flow_rag_vla.llm.registry import make_provider
from flow_rag_vla.llm.request import Message, RawAnswer, deadline_in
from flow_rag_vla.llm.schemas import TaskPlan
from flow_rag_vla.llm.service import LanguageModel, ServiceSettings
from flow_rag_vla.llm.task_language.held_out import read_commands
from flow_rag_vla.llm.translation import SequenceTranslator, TranslatingProvider, detect_language, sentences, translated

PAIRS = {
    "빨간 큐브를 통에 넣어줘": "put the red cube in the bin",
    "서랍을 열어.": "open the drawer.",
    "그다음 멈춰.": "then stop.",
    "미끄러운 상자": "a slippery box",
}


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("put the red cube in the bin", "en"),
        ("Stop!", "en"),
        ("gripper_width 0.002 m beyond 0.01", "en"),
        ("빨간 큐브를 통에 넣어줘", "ko"),
        ("red cube를 bin에 넣어", "ko"),
        ("Flow-RAG-VLA 로봇의 gripper를 열어 주세요", "ko"),
        ("ㅋㅋ", "ko"),
        ("赤い箱を開けて", "other"),
        ("открой ящик", "other"),
        ("mets le cube rouge dans le bac et ferme le tiroir", "other"),
        ("öffne bitte die Schublade für mich", "other"),
        ("The word 서랍 means drawer in this language", "en"),
        ("", ""),
        ("12.5 + 3 = ?", ""),
    ],
)
def test_a_language_is_told_by_script_and_words(text, language):
    assert detect_language(text) == language


def test_every_command_of_the_held_out_list_is_told_rightly():
    commands = read_commands(Path(__file__).parent / "held_out_commands.tsv")
    wrong = [one.text for one in commands if detect_language(one.text) != one.language]
    assert len(commands) == 200 and wrong == []


@given(st.text(max_size=60))
def test_any_text_has_an_answer_and_it_is_always_the_same(text):
    assert detect_language(text) == detect_language(text) in ("ko", "en", "other", "")


def test_sentences_keep_every_word():
    assert sentences("하나. 둘!  셋\uff1f 넷\n\n다섯 3.5 여섯") == ["하나.", "둘!", "셋\uff1f", "넷", "다섯 3.5 여섯"]


def make_translator_model(folder: Path, pairs: dict[str, str]) -> Path:
    """A Marian model of 70,000 weights that was trained on the pairs until it gives them back."""
    import torch
    from transformers import MarianConfig, MarianMTModel

    tokenizer = train_tokenizer([*pairs, *pairs.values()], 420)
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = MarianConfig(
        vocab_size=len(tokenizer), d_model=48, encoder_layers=1, decoder_layers=1, encoder_attention_heads=2,
        decoder_attention_heads=2, encoder_ffn_dim=96, decoder_ffn_dim=96, dropout=0.0, max_position_embeddings=600,
        pad_token_id=tokenizer.pad_token_id, eos_token_id=tokenizer.eos_token_id, forced_eos_token_id=None,
        decoder_start_token_id=tokenizer.pad_token_id, scale_embedding=False,
    )  # fmt: skip
    model = MarianMTModel(config).train()
    inputs = tokenizer(list(pairs), return_tensors="pt", padding=True)
    labels = tokenizer([f"{text}</s>" for text in pairs.values()], return_tensors="pt", padding=True).input_ids
    labels[labels == tokenizer.pad_token_id] = -100
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(400):
        loss = model(input_ids=inputs.input_ids, attention_mask=inputs.attention_mask, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if loss < 0.01:
            break
    model.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return make_translator_model(tmp_path_factory.mktemp("translator"), PAIRS)


def test_a_model_from_a_folder_translates_sentence_by_sentence_and_remembers(model):
    translator = SequenceTranslator(str(model), kept=2)
    assert translator.translate(["서랍을 열어. 그다음 멈춰.", "서랍을 열어."]) == [
        "open the drawer. then stop.",
        "open the drawer.",
    ]
    assert translator.calls == 2
    translator.translate(["미끄러운 상자"])  # pushes the one out that was used least recently
    translator.translate(["서랍을 열어."])
    assert translator.calls == 3
    translator.translate(["그다음 멈춰."])
    assert translator.calls == 4


def test_a_model_of_many_languages_is_told_which(model, monkeypatch):
    translator = SequenceTranslator(str(model), source="kor_Hang", target="</s>")
    # It is made to begin with the code of the target, which here is the end.
    with pytest.raises(errors.BadRequestError, match="has no words for"):
        translator.translate(["서랍을 열어."])


def test_what_cannot_be_translated_is_a_typed_error(model, tmp_path):
    with pytest.raises(errors.UnknownModelError, match="neither a folder with a translation model"):
        SequenceTranslator(str(tmp_path)).translate(["서랍을 열어."])
    with pytest.raises(errors.BadRequestError, match="at most 512 are translated at once"):
        SequenceTranslator(str(model)).translate(["가" * 600])


class EnglishOnly:
    """A model that understands only English, and says what it was asked."""

    name, model, deterministic, english_only = "english", "m", True, True

    def __init__(self) -> None:
        self.asked = []

    async def answer(self, request, emit=None):
        self.asked.append(request)
        text = "then stop." if request.schema is None else '{"steps": [], "refusal": "question", "reason": "x"}'
        if emit is not None:
            emit(text)
        return RawAnswer(text)

    async def close(self) -> None:
        self.closed = True


BACK = {english: korean for korean, english in PAIRS.items()}


@pytest.fixture(scope="module")
def back_model(tmp_path_factory):
    return make_translator_model(tmp_path_factory.mktemp("back"), BACK)


def ask(provider, question, schema=None, **more):
    pieces = []
    request = make_request(question, deadline_in(60.0), schema, **more)
    answer = asyncio.run(
        LanguageModel(provider, ServiceSettings()).ask(request, lambda piece: pieces.append(piece.text))
    )
    assert "".join(pieces) == answer.text
    return answer


def test_korean_is_translated_for_a_model_that_understands_only_english_and_the_rest_is_not(model, back_model):
    inner = EnglishOnly()
    there, back = SequenceTranslator(str(model)), SequenceTranslator(str(back_model))
    provider = translated(inner, lambda: there, lambda: back)
    assert isinstance(provider, Provider) and (provider.name, provider.model) == ("english", "m")
    data = (Message("data", "미끄러운 상자", "label 3"), Message("data", "a box", "label 4"))
    answer = ask(provider, "빨간 큐브를 통에 넣어줘", data=data, system="You plan.")
    assert [message.text for message in inner.asked[0].messages] == [
        "You plan.", "a slippery box", "a box", "put the red cube in the bin",
    ]  # fmt: skip
    assert answer.text == "그다음 멈춰." and there.calls == 2 and back.calls == 1
    assert ask(provider, "open the drawer").text == "then stop.", "an English question gets an English answer"
    assert there.calls == 2 and back.calls == 1
    assert ask(provider, "서랍을 열어.", TaskPlan).value.refusal == "question", "a structure is never translated"
    assert back.calls == 1
    asyncio.run(provider.close())
    assert inner.closed


def test_without_a_way_back_the_answer_stays_english(model):
    provider = TranslatingProvider(EnglishOnly(), SequenceTranslator(str(model)))
    assert ask(provider, "서랍을 열어.").text == "then stop."


def test_nothing_is_translated_or_loaded_for_who_needs_it_not():
    def never():
        raise AssertionError("a translator was made")

    key = {"environment": {"TEST_KEY": "sk-test-0123456789"}, "key_variable": "TEST_KEY", "model": "m"}
    for name, settings in (("rules", ProviderSettings()), ("claude", ProviderSettings(**key)),
                           ("openai", ProviderSettings(**key)), ("local", ProviderSettings("x"))):  # fmt: skip
        provider = make_provider(name, settings)
        assert translated(provider, never, never) is provider
    assert ask(make_provider("rules"), "서랍을 열어줘").text == "open the drawer."
    declared = make_provider("local", ProviderSettings("x", english_only=True))
    assert translated(declared, None) is declared
    assert isinstance(translated(declared, lambda: SequenceTranslator("nowhere")), TranslatingProvider)


def test_a_translator_that_fails_is_the_failure_of_the_request(tmp_path):
    provider = TranslatingProvider(EnglishOnly(), SequenceTranslator(str(tmp_path)))
    with pytest.raises(errors.UnknownModelError):
        ask(provider, "서랍을 열어.")
    assert ask(provider, "open the drawer").text == "then stop."


def test_detection_needs_no_model_library():
    code = (
        "import sys; from flow_rag_vla.llm.translation import detect_language as d; d('x');"
        "sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
