# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A person at a real terminal is asked: yes, no, silence, Ctrl-C and what was typed too early. Only a yes moves."""

from __future__ import annotations

import io
import json
import os
import pty
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from rich.console import Console

from flow_rag_vla.cli.asking import said_yes

WAIT_S = 60.0


class Terminal:
    """A command with a terminal of its own."""

    def __init__(self, cwd: Path, *arguments: str, **environment: str) -> None:
        self._master, slave = pty.openpty()
        environment = {**os.environ, "LLM_PROVIDER": "", "COLUMNS": "200", "TERM": "xterm", **environment}
        command = [sys.executable, "-m", "flow_rag_vla.cli.main", *arguments]
        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            cwd=cwd,
            env=environment,
            start_new_session=True,
            # A test run in the background ignores Ctrl-C, and so would what it starts.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        os.close(slave)
        self.shown = ""

    def until(self, words: str) -> None:
        """Read until they are shown."""
        end = time.monotonic() + WAIT_S
        while words not in self.shown:
            left = end - time.monotonic()
            assert left > 0.0 and self._read(left), f"{words!r} was not shown:\n{self.shown}"

    def say(self, text: str) -> None:
        """Type."""
        os.write(self._master, text.encode())

    def code(self) -> int:
        """The exit code, once it ended."""
        end = time.monotonic() + WAIT_S
        while self._read(max(end - time.monotonic(), 0.0)):
            pass
        return self.process.wait(WAIT_S)

    def close(self) -> None:
        """End whatever is left."""
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        os.close(self._master)

    def _read(self, seconds: float) -> bool:
        if not select.select([self._master], [], [], seconds)[0]:
            return False
        try:
            text = os.read(self._master, 4096)
        except OSError:
            return False  # the other side is closed
        self.shown += text.decode("utf-8", "replace")
        return bool(text)


@pytest.fixture
def deliberate(tmp_path: Path) -> Iterator[object]:
    """``deliberate("--deadline", "5")`` on a table with a person so near that somebody has to be asked."""
    table = tmp_path / "table.json"
    things = [{"name": "red cube", "position": [0.45, -0.1, 0.02]}, {"name": "bin", "position": [0.5, 0.24, 0.0]}]
    table.write_text(json.dumps([*things, {"name": "person", "position": [0.45, 1.2, 0.0]}]), encoding="utf-8")
    started: list[Terminal] = []

    def start(*more: str) -> Terminal:
        command = "put the red cube in the bin"
        started.append(Terminal(tmp_path, "deliberate", command, "--scene", str(table), *more))
        return started[-1]

    yield start
    for terminal in started:
        terminal.close()


@pytest.mark.parametrize(
    ("typed", "answer"),
    [("y\n", True), ("YES\n", True), ("예\n", True), ("n\n", False), ("\n", False), ("yes please\n", False),
     ("yy\n", False), ("\x04", False), ("y", None)],
    ids=["y", "yes", "Korean", "no", "nothing", "more words", "twice", "end of input", "not sent"],
)  # fmt: skip
def test_only_a_clear_yes_is_a_yes(monkeypatch, typed, answer):
    master, slave = pty.openpty()
    shown = io.StringIO()

    def type_it() -> None:
        while "[y/N" not in shown.getvalue():
            time.sleep(0.01)
        os.write(master, typed.encode())

    with os.fdopen(slave, "r") as stdin:
        monkeypatch.setattr(sys, "stdin", stdin)
        typist = threading.Thread(target=type_it)
        typist.start()
        said = said_yes(Console(file=shown, width=80), "do it", 30.0 if answer is not None else 0.5)
        typist.join()
    os.close(master)
    assert said is answer


def test_a_yes_at_the_terminal_lets_the_plan_pass(deliberate):
    terminal = deliberate()
    terminal.until("[y/N")
    terminal.say("y\n")
    assert terminal.code() == 0, terminal.shown
    assert "accepted" in terminal.shown


def test_silence_until_the_deadline_holds_and_the_command_ends(deliberate):
    terminal = deliberate("--deadline", "3")
    terminal.until("[y/N")
    assert terminal.code() == 1, terminal.shown
    assert "held" in terminal.shown and "Traceback" not in terminal.shown


def test_ctrl_c_withdraws_the_question_at_once(deliberate):
    terminal = deliberate("--deadline", "600")
    terminal.until("[y/N")
    terminal.say("\x03")
    terminal.process.send_signal(signal.SIGINT)  # a session of its own has no foreground group to get it from the key
    assert terminal.code() == 130, terminal.shown
    assert "withdrawn" in terminal.shown and "accepted" not in terminal.shown and "Traceback" not in terminal.shown


def test_what_was_typed_before_the_question_answers_nothing(deliberate):
    terminal = deliberate("--deadline", "5")
    terminal.say("y\ny\n")
    terminal.until("[y/N")
    assert terminal.code() == 1, terminal.shown
    assert "held" in terminal.shown and "accepted" not in terminal.shown


@pytest.mark.parametrize(
    ("said", "code", "shown"),
    [("n\n", 1, "you said no"), (None, 1, "nobody answered within"), ("\x03", 130, "withdrawn")],
)
def test_ask_runs_nothing_without_a_yes(tmp_path, said, code, shown):
    sys.path.insert(0, str(Path(__file__).parents[1] / "llm"))
    from wire import Reply, WireServer

    server = WireServer("openai")
    plan = {"steps": [{"task": "pick_and_place", "target": "red_cube"}], "refusal": "none", "reason": ""}
    server.replies = [Reply((json.dumps(plan),))]
    arguments = ["tidy up a bit", "--run", "-p", "openai", "--model", "m", "--base-url", f"{server.url}/v1"]
    terminal = Terminal(tmp_path, "ask", *arguments, "--answer-within", "3", OPENAI_API_KEY="sk-test")
    try:
        terminal.until("[y/N")
        if said == "\x03":
            terminal.process.send_signal(signal.SIGINT)
        elif said:
            terminal.say(said)
        assert terminal.code() == code, terminal.shown
    finally:
        terminal.close()
        server.close()
    assert shown in terminal.shown and "Traceback" not in terminal.shown
    assert not (tmp_path / "runs").exists(), "no graph was started"
