# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla knowledge``: what is taken in is found by meaning, cited by answers, and embedded anew."""

from __future__ import annotations

import functools
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from flow_rag_vla.cli import knowledge as commands
from flow_rag_vla.cli.main import app
from flow_rag_vla.core.failure import Evidence, FailureType
from flow_rag_vla.memory.case import FailureCase
from flow_rag_vla.memory.memory import FailureMemory

sys.path.insert(0, str(Path(__file__).parents[1] / "llm"))
from tiny import make_tiny_bert
from wire import SECRET, Reply, WireServer

EMBEDDERS = functools.cache(commands._embedder)
"""The real ones, each loaded once for all commands of this process."""

TOOL_SERVER = Path(__file__).parents[1] / "llm" / "tool_server.py"
MANUAL = "# Gripper\n\nIt opens to 80 mm.\n\n# Arm\n\nIt carries 3 kg.\n"


@pytest.fixture
def knowledge(tmp_path, monkeypatch):
    """``knowledge("show")``: exit code and output of that command on a store of the test's own."""
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.delenv("EMBEDDING_PROVIDER", raising=False)
    monkeypatch.setattr(commands, "_embedder", EMBEDDERS)
    store = tmp_path / "known.db"

    def run(*words: str) -> tuple[int, str]:
        done = CliRunner().invoke(app, ["knowledge", *words, "--store", str(store)])
        assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
        return done.exit_code, done.output

    return run


def test_documents_and_cases_are_found_asked_embedded_anew_and_taken_back(knowledge, tmp_path, monkeypatch):
    # It keeps the error output that it is imported under for its servers, and the runner's has no file descriptor.
    pytest.importorskip("mcp")
    manual, database = tmp_path / "manual.md", tmp_path / "memory.db"
    manual.write_text(MANUAL, encoding="utf-8")
    memory, _ = FailureMemory.open(database)
    evidence = (Evidence("gripper_width", 0.001, 0.012, "m"),)
    memory.add(
        FailureCase(
            failure_type=FailureType.GRASP_FAILURE,
            task="push",
            phase="reach",
            encoder="compact",
            encoder_revision="abc",
            embedding=np.eye(8, dtype=np.float32)[0],
            evidence=evidence,
            failed_actions=np.zeros((4, 7), dtype=np.float32),
        )
    )
    memory.close()
    assert knowledge("add", str(manual)) == (0, f"{manual}: 2 passages\n")
    assert knowledge("cases", str(database)) == (0, f"{database}: 1 cases\n")
    code, said = knowledge("search", "how far does the hand open", "-c", "manual", "-k", "1")
    assert code == 0 and "manual manual.md#0" in said and "80 mm" in said and "3 kg" not in said
    assert "case 1: grasp failure in task push" in knowledge("search", "the fingers held nothing")[1]

    server = WireServer("openai")
    try:
        server.replies = [
            Reply((json.dumps({"known": True, "answer": "80 mm.", "citations": ["R1"]}),)),
            Reply((json.dumps({"known": False, "answer": "It does not say.", "citations": []}),)),
        ]
        hosted = ("-p", "openai", "--base-url", f"{server.url}/v1")
        code, said = knowledge("ask", "how far does the hand open", "-c", "manual", *hosted)
        assert code == 0 and said.startswith("80 mm.\nmanual manual.md#0")
        assert knowledge("ask", "what does it cost", *hosted) == (1, "It does not say.\n")
        asks = {"action": "call", "tool": "friction", "arguments": '{"thing": "red_cube"}'}
        ready = {"action": "ready", "tool": "", "arguments": ""}
        cites = {"known": True, "answer": "It carries 3 kg, and 0.31 is its friction.", "citations": ["R1"]}
        server.replies = [Reply((json.dumps(answer),)) for answer in (asks, ready, cites)]
        monkeypatch.setenv("LAB_KEY", SECRET)
        attached = ("--tool", f"{sys.executable} {TOOL_SERVER}", "--key-variable", "LAB_KEY")
        code, said = knowledge("ask", "what does the arm carry", "-c", "manual", *hosted, *attached)
        assert code == 0 and said.startswith("tool friction answered\nIt carries 3 kg"), said
        assert "0.31" in str(server.requests[-1]) and server.headers[-1]["authorization"] == f"Bearer {SECRET}"
        code, said = knowledge("ask", "what", *hosted, "--tool", "/nowhere/server")
        assert code == 2 and "has to start an MCP server" in said and said.count("\n") == 1
    finally:
        server.close()
    code, said = knowledge("ask", "how far does the hand open", "-p", "rules")
    assert code == 2 and "CitedAnswer" in said

    bert = str(make_tiny_bert(tmp_path / "bert"))
    code, said = knowledge("migrate", "--to", "local", "--to-model", bert)
    assert code == 0 and "3 passages, now embedded by local:bert" in said
    assert knowledge("search", "hand")[0] == 2
    code, said = knowledge("show")
    assert code == 0 and "vectors of minilm" in said and "failure_case" in said
    assert "3 passages, embedded by minilm" in knowledge("rollback", "--to", "minilm")[1]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("search", "x"), "there is no text store at"),
        (("show",), "there is no text store at"),
        (("migrate", "--to", "minilm"), "there is no text store at"),
        (("rollback", "--to", "minilm"), "there is no text store at"),
        (("add", "nowhere.md"), "nowhere.md cannot be read"),
        (("add", __file__, "-e", "oracle"), "unknown embedder 'oracle'; known: minilm"),
        (("cases", "nowhere.db"), "nowhere.db"),
    ],
)
def test_what_goes_wrong_is_one_line(knowledge, words, said):
    code, output = knowledge(*words)
    assert code == 2 and said in output and output.count("\n") == 1


def test_a_wrong_document_is_named_before_a_model_is_loaded(knowledge, tmp_path, monkeypatch):
    good, missing = tmp_path / "good.md", tmp_path / "missing.md"
    good.write_text(MANUAL)
    monkeypatch.setattr(commands, "_embedder", lambda *_: pytest.fail("a model was loaded"))
    code, said = knowledge("add", str(good), str(missing))
    assert code == 2 and f"{missing} cannot be read as text" in said
    assert not (tmp_path / "known.db").exists()


def test_korean_with_an_embedder_of_english_alone_is_told_with_the_remedy(knowledge, tmp_path):
    manual, korean = tmp_path / "manual.md", tmp_path / "korean.md"
    manual.write_text(MANUAL, encoding="utf-8")
    korean.write_text("# 그리퍼\n\n그리퍼는 85 밀리미터까지 벌어진다.\n", encoding="utf-8")
    assert "are Korean" not in knowledge("add", str(manual))[1]
    code, said = knowledge("add", str(manual), str(korean))
    assert code == 0 and "1 of 2 texts are Korean" in said and "knowledge migrate --to local" in said
    code, said = knowledge("search", "그리퍼는 얼마나 벌어지나?")
    assert code == 0 and "1 of 1 texts are Korean" in said and "그리퍼" in said
    assert "are Korean" not in knowledge("search", "how wide does it open?")[1]
