# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Parameters of the node of language models."""

from __future__ import annotations

from dataclasses import dataclass

from flow_rag_vla.core.parameters import parameter


@dataclass(frozen=True, slots=True)
class LlmParameters:
    """Which language model answers, in which time, at which rate. Keys come from the environment only."""

    provider: str = parameter(
        "", "rules, claude, openai, local, or one that a package added; empty: as LLM_PROVIDER says, else rules"
    )
    model: str = parameter("", "The provider's model: a name, a folder or a hub id; empty: its default")
    base_url: str = parameter("", "Server that speaks the provider's wire format; empty: the provider's own")
    key_variable: str = parameter("", "Environment variable that holds the key; empty: the provider's own")
    device: str = parameter("auto", "Where a local model runs", choices=("auto", "cpu", "cuda"))
    load_in_4bit: str = parameter(
        "auto",
        "Whether a local model is loaded with 4 bits a weight; auto does if CUDA and bitsandbytes are there",
        choices=("auto", "always", "never"),
    )
    english_only: bool = parameter(
        False, "The local model understands only English: Korean questions are translated for it, given a translator"
    )
    translator: str = parameter(
        "", "Folder or hub id of a translation model from Korean to English; loaded by the first text that needs it"
    )
    translator_back: str = parameter(
        "", "The same from English to Korean, for answers in words to Korean questions; empty: they stay English"
    )
    translator_codes: str = parameter(
        "", "Codes of Korean and English of a translation model of many languages, such as 'kor_Hang eng_Latn'"
    )
    host_memory: float = parameter(
        0.0,
        "Memory that models which run here may take together on the CPU; an idle one leaves when another needs its "
        "room; 0: the machine's",
        unit="MB",
        minimum=0.0,
        maximum=1e7,
    )
    gpu_memory: float = parameter(0.0, "The same on the GPU; 0: the GPU's", unit="MB", minimum=0.0, maximum=1e7)
    niceness: int = parameter(
        10, "How much processor time is left to others: 0 as any, 19 only what is idle", minimum=0, maximum=19
    )
    deadline: float = parameter(
        30.0,
        "Time for an answer, retries included, when the request names none",
        unit="s",
        minimum=0.05,
        maximum=3600.0,
        live=True,
    )
    max_tokens: int = parameter(1024, "Longest answer when the request names none", minimum=1, maximum=65536, live=True)
    concurrency: int = parameter(
        8, "Requests under way at once; further ones are refused, not kept waiting", minimum=1, maximum=1000, live=True
    )
    attempts: int = parameter(3, "Calls of a provider that fails in a way that may pass", minimum=1, maximum=10)
    structure_attempts: int = parameter(
        3, "Answers that may miss the schema before the request fails", minimum=1, maximum=10
    )
    requests_per_minute: float = parameter(60.0, "Calls let through on average", minimum=0.1, maximum=1e6)
    burst: float = parameter(10.0, "Calls let through at once", minimum=1.0, maximum=1e6)
    tokens_per_minute: float = parameter(
        0.0, "Tokens let through on average, settled after each answer; 0: no limit", minimum=0.0, maximum=1e9
    )
    cache_size: int = parameter(256, "Answers remembered", minimum=0, maximum=1_000_000)
    cache_lifetime: float = parameter(600.0, "How long an answer is remembered", unit="s", minimum=0.0, maximum=1e7)
    prices: tuple[str, ...] = parameter(
        (), "Prices of a million tokens, as model=input/output; without one an answer's cost is unknown"
    )
    tools: tuple[str, ...] = parameter(
        (), "Command lines of MCP servers whose tools models may use; started for each request and ended after it"
    )
    allowed_tools: tuple[str, ...] = parameter(
        (), "Tools that may be used, whatever they do; none named: those that declare themselves read-only"
    )
    embedder: str = parameter(
        "", "minilm, local or openai; empty: as EMBEDDING_PROVIDER says, else minilm (English only)"
    )
    embedder_model: str = parameter("", "The embedder's model; empty: its default")
