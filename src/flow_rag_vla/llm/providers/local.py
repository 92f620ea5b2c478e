# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A causal language model of one's own, through transformers, from a folder or a hub id.

The model computes on a thread of its own, one request at a time, which gives way to everything else on the machine:
a control loop that wakes beside it does not wait. The coroutine only waits. Between two tokens the thread looks whether
the request was given up, so a cancellation takes effect within one token.
"""

from __future__ import annotations

import asyncio
import importlib.util
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

from flow_rag_vla.core.processes import LOWEST, give_way
from flow_rag_vla.llm.errors import (
    BadRequestError,
    CanceledError,
    DeadlineError,
    MissingPackageError,
    ProviderDownError,
    TruncatedError,
)
from flow_rag_vla.llm.holding import LocalModel, weight_bytes
from flow_rag_vla.llm.pretrained import model_and_tokenizer
from flow_rag_vla.llm.prompts import system_text, turns
from flow_rag_vla.llm.provider import Emit, ProviderSettings
from flow_rag_vla.llm.request import RawAnswer, Request, Usage
from flow_rag_vla.llm.structured import schema_instruction
from flow_rag_vla.llm.translation import detect_language

DEFAULT_MODEL = "LGAI-EXAONE/EXAONE-4.0-1.2B"
"""Small, Korean and English, and known to transformers without code from the hub. Its makers offer it for research
(arXiv 2507.11407); read its licence before any other use."""


_at_work: set[int] = set()
"""Identities of the threads that load or compute now."""


def at_work() -> bool:
    """Whether a model still loads or computes, for an answer that somebody waits for or not."""
    return bool(_at_work)


class _Loaded:
    """A model with its tokenizer. Used from the provider's thread only."""

    def __init__(self, model: Any, tokenizer: Any) -> None:
        self.model, self.tokenizer = model, tokenizer
        self._vocabulary: Any = None

    def constraint(self, request: Request) -> Any:
        """The mask that keeps to the request's schema."""
        try:
            from flow_rag_vla.llm.providers.constrained import Vocabulary
        except ImportError as error:
            raise MissingPackageError(
                "structured answers of provider 'local' need llguidance: pip install 'flow_rag_vla[llm-local]'"
            ) from error
        if self._vocabulary is None:
            self._vocabulary = Vocabulary(self.tokenizer)
        assert request.schema is not None
        return self._vocabulary.constraint(request.schema)


class LocalProvider:
    """See the module."""

    deterministic = False

    def __init__(self, settings: ProviderSettings, name: str = "local") -> None:
        self.name = name
        self.model = settings.model or DEFAULT_MODEL
        self.english_only = settings.english_only
        self._settings = settings
        # What it computes on is started from this thread and inherits its place behind everybody else.
        self._thread = ThreadPoolExecutor(
            max_workers=1, thread_name_prefix="local model", initializer=give_way, initargs=(LOWEST,)
        )
        self._held: LocalModel | None = None
        self._busy = False
        self.waits_for = ""

    async def answer(self, request: Request, emit: Emit | None = None) -> RawAnswer:
        """One answer; the first one loads the model, which counts against its deadline."""
        loop = asyncio.get_running_loop()
        given_up = threading.Event()

        def emit_here(text: str) -> None:
            if emit is not None and not given_up.is_set():
                # The loop may have ended since the look at given_up.
                with suppress(RuntimeError):
                    loop.call_soon_threadsafe(emit, text)

        try:
            return await loop.run_in_executor(self._thread, self._answer, request, emit_here, given_up)
        finally:
            given_up.set()

    async def close(self) -> None:
        """Forget the model; one that still loads or computes is forgotten when it is done, and not waited for."""
        busy = self._busy
        unloaded = self._thread.submit(self._unload)
        self._thread.shutdown(wait=False)
        if not busy:
            await asyncio.wrap_future(unloaded)

    def _unload(self) -> None:
        if self._held is not None:
            self._settings.holder.forget(self._held.name)

    def _answer(self, request: Request, emit: Emit, given_up: threading.Event) -> RawAnswer:
        if given_up.is_set():
            raise CanceledError("the request was given up before its turn came")
        if self.english_only:
            _check_english(self.name, request)
        self._busy = True
        _at_work.add(threading.get_ident())
        try:
            self.waits_for = (
                f"model {self.model!r} is not loaded yet, and one of a hub is fetched first; allow more time, or name "
                "a folder that is there"
            )
            if self._held is None:
                self._held = local_model(self.model, self._settings.device, self._settings.load_in_4bit)
            with self._settings.holder.hold(self._held, request.remaining_s) as loaded:
                self.waits_for = ""
                return self._generated(loaded, request, emit, given_up)
        finally:
            self._busy = False
            self.waits_for = ""
            _at_work.discard(threading.get_ident())

    def _generated(self, loaded: _Loaded, request: Request, emit: Emit, given_up: threading.Event) -> RawAnswer:
        import torch

        model, tokenizer = loaded.model, loaded.tokenizer
        inputs = prompt_tokens(tokenizer, request).to(model.device)
        length = int(inputs.shape[1])
        room = int(getattr(model.config, "max_position_embeddings", 0) or 0)
        if room and length + 16 > room:
            raise BadRequestError(f"the prompt has {length} tokens, the model reads {room} with its answer")
        limit = min(request.sampling.max_tokens, room - length) if room else request.sampling.max_tokens
        constraint = loaded.constraint(request) if request.schema is not None else None
        sampling = request.sampling
        arguments: dict[str, Any] = {"do_sample": False}
        if sampling.temperature:
            arguments = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p or 1.0}
        with torch.inference_mode(), torch.random.fork_rng(enabled=sampling.seed is not None):
            if sampling.seed is not None:
                torch.manual_seed(sampling.seed)
            whole = model.generate(
                inputs,
                attention_mask=torch.ones_like(inputs),
                max_new_tokens=limit,
                logits_processor=[constraint] if constraint is not None else None,
                stopping_criteria=[_Stop(lambda: given_up.is_set() or time.monotonic() > request.deadline)],
                streamer=_streamer(tokenizer, emit),
                pad_token_id=tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id,
                **arguments,
            )
        tokens = whole[0, length:]
        if request.cancel.canceled:
            raise CanceledError("the request was canceled")
        if given_up.is_set() or time.monotonic() > request.deadline:
            raise DeadlineError("the model had not finished at the deadline")
        ended = int(tokens[-1]) in _ends(model, tokenizer) if len(tokens) else False
        if not ended and (constraint is None or not constraint.complete):
            raise TruncatedError(f"local: the answer is longer than {limit} tokens; raise max_tokens or ask for less")
        text = tokenizer.decode(tokens, skip_special_tokens=True)
        return RawAnswer(text, Usage(length, len(tokens)))


def _check_english(name: str, request: Request) -> None:
    """A model that reads English alone answers Korean with a guess. A translator before it leaves none.

    Raises:
        BadRequestError: for Korean in what a user says, or in data.
    """
    if any(item.role in ("user", "data") and detect_language(item.text) == "ko" for item in request.messages):
        raise BadRequestError(
            f"provider {name!r} understands only English and is asked in Korean; give it a translator (llm register "
            "--translator, or the parameter translator of the node llm), or ask in English"
        )


def local_model(name: str, device: str, load_in_4bit: str) -> LocalModel:
    """What a holder needs to know of a model. Its size is estimated from its files; of a hub id it is found out."""
    import torch

    cuda = torch.cuda.is_available() if device == "auto" else device == "cuda"
    quantized = cuda and load_in_4bit != "never" and importlib.util.find_spec("bitsandbytes") is not None
    # A quantized value takes half a byte, its scales and the layers that stay whole about as much again.
    size = weight_bytes(Path(name).expanduser(), 1.0 if quantized else 2.0 if cuda else 4.0)
    label = f"local {name} {'cuda' if cuda else 'cpu'}{' 4 bits' if quantized else ''}"
    return LocalModel(label, lambda: load(name, device, load_in_4bit), size, cuda)


def load(name: str, device: str, load_in_4bit: str) -> _Loaded:
    """A model and its tokenizer from a folder or hub id.

    Raises:
        UnknownModelError: if it is in neither, is no causal language model, or needs code of its own.
        ProviderDownError: if it does not fit into memory.
    """
    import torch
    import transformers

    cuda = torch.cuda.is_available() if device == "auto" else device == "cuda"
    quantized = cuda and load_in_4bit != "never" and importlib.util.find_spec("bitsandbytes") is not None
    if load_in_4bit == "always" and not quantized:
        raise MissingPackageError("load_in_4bit is 'always', which needs CUDA and bitsandbytes; install it or say auto")
    arguments: dict[str, Any] = {"dtype": torch.bfloat16 if cuda else torch.float32}
    if quantized:
        arguments["quantization_config"] = transformers.BitsAndBytesConfig(  # type: ignore[no-untyped-call]
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.bfloat16
        )
        arguments["device_map"] = "cuda"
    try:
        model, tokenizer = model_and_tokenizer(
            transformers.AutoModelForCausalLM, name, "model", "a causal language model", **arguments
        )
        if cuda and not quantized:
            model = model.to("cuda")
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise ProviderDownError(f"model {name!r} does not fit into memory: {error}") from error
    return _Loaded(model.eval(), tokenizer)


def prompt_tokens(tokenizer: Any, request: Request) -> Any:
    """(1, tokens) int64: the messages in the model's chat format, or plainly one after the other without one."""
    system = system_text(request.messages)
    if request.schema is not None:
        system = f"{system}\n\n{schema_instruction(request.schema)}".strip()
    messages = [{"role": "system", "content": system}] if system else []
    messages += [{"role": role, "content": text} for role, text in turns(request.messages)]
    if tokenizer.chat_template:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids
    text = "".join(f"{message['role']}: {message['content']}\n" for message in messages) + "assistant: "
    return tokenizer(text, return_tensors="pt").input_ids


class _Stop:
    """A stopping criterion of transformers."""

    def __init__(self, due: Callable[[], bool]) -> None:
        self._due = due

    def __call__(self, input_ids: Any, scores: Any, **_more: Any) -> Any:
        import torch

        return torch.full((input_ids.shape[0],), self._due(), dtype=torch.bool, device=input_ids.device)


def _streamer(tokenizer: Any, emit: Emit) -> Any:
    import transformers

    class Streamer(transformers.TextStreamer):
        """Hands on whole words instead of printing them."""

        def on_finalized_text(self, text: str, stream_end: bool = False) -> None:
            if text:
                emit(text)

    return Streamer(tokenizer, skip_prompt=True, skip_special_tokens=True)


def _ends(model: Any, tokenizer: Any) -> set[int]:
    configured = model.generation_config.eos_token_id
    ends = configured if isinstance(configured, list) else [configured]
    return {int(end) for end in (*ends, tokenizer.eos_token_id) if end is not None}


def make(settings: ProviderSettings, name: str = "local") -> LocalProvider:
    """The provider, by another name for a model of one's own; the model is loaded by the first question.

    Raises:
        MissingPackageError: without transformers or torch.
    """
    missing = [name for name in ("transformers", "torch") if importlib.util.find_spec(name) is None]
    if missing:
        raise MissingPackageError(
            f"provider 'local' needs {' and '.join(missing)}: pip install 'flow_rag_vla[llm-local]'"
        )
    return LocalProvider(settings, name)
