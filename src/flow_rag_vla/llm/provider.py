# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What a language model is to the rest: one coroutine.

The protocol is asynchronous on purpose. Nearly all of a request is waiting, so one thread serves many; a cancellation
or a deadline ends the wait at once and closes the connection behind it, which a blocked thread cannot do; and a node
runs the loop on a thread beside its executor, so no callback ever blocks. A provider that computes instead of waiting
(``local``) does so on a thread of its own and looks at the request's token between two tokens.

One coroutine serves whole and streamed answers alike: who wants the parts passes ``emit``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from flow_rag_vla.llm.holding import KeepAll, ModelHolder
from flow_rag_vla.llm.request import RawAnswer, Request

Emit = Callable[[str], None]


@runtime_checkable
class Provider(Protocol):
    """One language model behind one way to reach it."""

    @property
    def name(self) -> str:
        """Name in the registry."""
        ...

    @property
    def model(self) -> str:
        """Which model answers."""
        ...

    @property
    def deterministic(self) -> bool:
        """Whether the same request gets the same answer, so that asking again is of no use."""
        ...

    async def answer(self, request: Request, emit: Emit | None = None) -> RawAnswer:
        """Answer once, without retries; ``emit`` gets each part as it comes.

        Raises:
            LlmError: of the kind that fits; asyncio.CancelledError passes through.
        """
        ...

    async def close(self) -> None:
        """Give back connections and memory."""
        ...


def sees(provider: Provider) -> bool:
    """Whether it shows its model the pictures of messages, which it declares by an attribute ``sees``."""
    return bool(getattr(provider, "sees", False))


def address(provider: Provider) -> str:
    """Which server it asks, which it declares by an attribute ``address``; empty for one that asks none."""
    return str(getattr(provider, "address", ""))


def waits_for(provider: Provider) -> str:
    """What keeps it from answering just now, which it tells by an attribute ``waits_for``; empty if nothing does."""
    return str(getattr(provider, "waits_for", ""))


@dataclass(frozen=True, slots=True)
class ProviderSettings:
    """How a provider is set up. What it does not use it ignores.

    model: empty takes the provider's default
    base_url: of a server that speaks the provider's wire format; empty takes the provider's own
    key_variable: environment variable that holds the key; empty takes the provider's own
    device: where a local model runs: auto, cpu or cuda
    load_in_4bit: auto, always or never; auto does if bitsandbytes and CUDA are there
    english_only: whether a local model understands no other language; see :mod:`flow_rag_vla.llm.translation`
    """

    model: str = ""
    base_url: str = ""
    key_variable: str = ""
    device: str = "auto"
    load_in_4bit: str = "auto"
    english_only: bool = False
    environment: Mapping[str, str] | None = field(default=None, repr=False)
    """Where keys are looked up; None: the process' environment. Not shown, because it holds keys."""
    holder: ModelHolder = field(default_factory=KeepAll, repr=False, compare=False)
    """Who keeps the weights of a model that runs here."""
