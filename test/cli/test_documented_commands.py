# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What the pages and the help texts tell people to type is understood by the commands."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from flow_rag_vla.bringup.resources import share_folder
from flow_rag_vla.cli.main import app

ROOT = share_folder()
COMMAND = typer.main.get_command(app)
"""A group has ``commands``. Typer brings its own click, so there is no public class to ask for."""
PROGRAM = "flow_rag_vla"
PAGES = sorted([ROOT / "README.md", ROOT / "docker" / "README.md", *(ROOT / "docs").glob("*.md")])
INLINE = re.compile(r"`(flow_rag_vla [^`]+)`")
BLOCK = re.compile(r"^```(?:sh|bash|console|)?\n(.*?)^```", re.MULTILINE | re.DOTALL)


def commands_of_page(text: str) -> Iterator[tuple[str, bool]]:
    """Commands in blocks (whole: True) and between backticks, which may name a part; without prompt and comment."""
    for block in BLOCK.findall(text):
        for line in re.sub(r"\\\n\s*", " ", block).splitlines():
            line = re.sub(r"^(\$ )?([A-Z_]+=\S+ )*", "", line.strip())
            if line.startswith(f"{PROGRAM} "):
                yield line, True
    yield from ((line, False) for line in INLINE.findall(BLOCK.sub("", text)))


def commands_of_help(text: str) -> Iterator[str]:
    """Example lines of a help text; what stands three spaces behind the command explains it."""
    for line in text.splitlines():
        if line.strip().startswith(f"{PROGRAM} "):
            yield re.split(r"\s{3,}", line.strip())[0]


def every_command(command: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """All commands below a group, with their names."""
    if not hasattr(command, "commands"):
        yield path, command
        return
    for name, inner in command.commands.items():
        yield from every_command(inner, (*path, name))


def problem(line: str, whole: bool = True) -> str:
    """Why the command line is not understood, or nothing."""
    line = re.split(r"\s#\s|\s[|>]\s|;\s|\s&&\s", line)[0].split(" > ")[0]
    try:
        words = shlex.split(line)[1:]
    except ValueError as error:
        return f"{line}: {error}"
    command: Any = COMMAND
    while hasattr(command, "commands"):
        if not words or words[0].startswith("-") or words[0] in ("...", "COMMAND"):
            return ""
        # Several commands named in one go: security policy|enclaves
        names = words[0].split("|")
        for name in names:
            if name not in command.commands:
                return f"{line}: there is no command {name!r}"
        command, words = command.commands[names[0]], words[1:]
    if "--help" in words or any(word.startswith("...") for word in words):
        return ""
    try:
        given, rest, _ = command.make_parser(command.context_class(command)).parse_args([*words])
    except Exception as error:  # the class of what click raises is not public here
        return f"{line}: {error.message if hasattr(error, 'message') else error}"
    found = (str, tuple, list)
    needed = [item.name for item in command.params if item.required and not isinstance(given.get(item.name), found)]
    return f"{line}: too much: {rest}" if rest else f"{line}: lacks {needed}" if needed and words and whole else ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_on_a_page_is_understood(page: Path):
    lines = commands_of_page(page.read_text(encoding="utf-8"))
    assert [found for line, whole in lines if (found := problem(line, whole))] == []


def test_every_example_in_a_help_text_is_understood_and_of_its_own_command():
    wrong = []
    for path, command in every_command(COMMAND):
        examples = list(commands_of_help(command.help or ""))
        own = f"{PROGRAM} {' '.join(path)}"
        if not any(f"{line} ".startswith(f"{own} ") for line in examples):
            wrong.append(f"{own}: no example of its own")
        wrong += [found for line in examples if (found := problem(line))]
    assert wrong == []


def test_a_command_that_is_not_there_is_found():
    assert "no command 'simm'" in problem("flow_rag_vla simm")
    assert "--epsodes" in problem("flow_rag_vla sim --epsodes 3   # three")
    assert "too much: ['b']" in problem("flow_rag_vla report a b")
    assert "lacks ['folder']" in problem("flow_rag_vla dataset export runs/A")
    assert problem("flow_rag_vla sim -t all -n 20   # every task") == ""
