"""Servers and a tiny model of random weights."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from wire import WireServer

SECRET = "sk-test-0123456789abcdef"
"""No real key: it must not turn up in any text."""


@pytest.fixture
def wire() -> Iterator[Callable[[str], WireServer]]:
    """``wire("claude")`` starts a server that speaks that provider's format."""
    servers: list[WireServer] = []

    def start(dialect: str) -> WireServer:
        servers.append(WireServer(dialect))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def hosted(wire: Callable[[str], WireServer]) -> Callable[[str], tuple[Any, WireServer]]:
    """``hosted("openai")``: the provider, set up against a local server, and that server."""
    from flow_rag_vla.llm.provider import ProviderSettings
    from flow_rag_vla.llm.registry import make_provider

    def make(name: str) -> tuple[Any, WireServer]:
        server = wire(name)
        url = server.url + ("/v1" if name == "openai" else "")
        settings = ProviderSettings("a-model", url, "TEST_KEY", environment={"TEST_KEY": SECRET})
        return make_provider(name, settings), server

    return make


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of an EXAONE 4 of 30,000 random weights, with a byte-level tokenizer and a chat format made here."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import Exaone4Config, Exaone4ForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny_model")
    raw = Tokenizer(models.BPE())
    raw.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    raw.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=320, special_tokens=["<pad>", "</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    raw.train_from_iterator(["put the red cube in the bin", '{"steps": [], "refusal": "none"}'], trainer)
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=raw, eos_token="</s>", pad_token="<pad>")
    tokenizer.chat_template = (
        "{% for message in messages %}[{{ message.role }}]{{ message.content }}{% endfor %}"
        "{% if add_generation_prompt %}[assistant]{% endif %}"
    )
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = Exaone4Config(
        vocab_size=len(tokenizer) + 8,  # as many models have: more rows than tokens
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    Exaone4ForCausalLM(config).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def local(tiny_model: Path) -> Iterator[Any]:
    """The local provider on the tiny model."""
    from flow_rag_vla.llm.provider import ProviderSettings
    from flow_rag_vla.llm.registry import make_provider

    provider = make_provider("local", ProviderSettings(str(tiny_model), device="cpu"))
    yield provider
    asyncio.run(provider.close())
