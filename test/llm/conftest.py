# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Servers and a tiny model of random weights."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from tiny import make_tiny_model
from wire import SECRET, WireServer


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
    """Folder of an EXAONE 4 of 30,000 random weights; see :mod:`tiny`."""
    return make_tiny_model(tmp_path_factory.mktemp("tiny_model"))


@pytest.fixture(scope="session")
def local(tiny_model: Path) -> Iterator[Any]:
    """The local provider on the tiny model."""
    from flow_rag_vla.llm.provider import ProviderSettings
    from flow_rag_vla.llm.registry import make_provider

    provider = make_provider("local", ProviderSettings(str(tiny_model), device="cpu"))
    yield provider
    asyncio.run(provider.close())


@pytest.fixture
def foreign_model(tmp_path: Path) -> tuple[Path, Path]:
    """Folder of a model of a type that transformers does not know, with code, and a file that is there if that ran."""
    folder, ran = tmp_path / "foreign", tmp_path / "ran"
    folder.mkdir()
    code = "from pathlib import Path\n\n" + f"Path({str(ran)!r}).touch()\n"
    for name in ("configuration_exaone.py", "modeling_exaone.py"):
        (folder / name).write_text(code)
    places = {"AutoConfig": "configuration_exaone.A", "AutoModelForCausalLM": "modeling_exaone.B"}
    (folder / "config.json").write_text(json.dumps({"model_type": "exaone", "auto_map": places}))
    return folder, ran
