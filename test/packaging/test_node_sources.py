# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What every node and every message keeps to, read from the sources: who waits, who prints, what fields mean."""

from __future__ import annotations

import ast
import itertools
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SOURCES = ROOT / "src/flow_rag_vla/nodes"
INTERFACES = ROOT / "src/flow_rag_vla_interfaces"

WAITING = {
    # In threads of their own.
    ("bag_player", "_play"),
    ("bag_player", "_wait_for_listeners"),
    ("clock_guard", "_watch"),
    ("graph_client", "_spin"),
    ("launching", "_watch_middleware"),
    ("recorder", "_fetch_on"),
    # Before the node spins, while it ends, and the spinning itself.
    ("robot", "destroy_node"),
    ("runtime", "run"),
    ("standby", "_fork"),  # where its parent has not ended yet
    # Of commands, which have nothing else to do.
    ("chaos_client", "_call"),
    ("chaos_client", "release"),
    ("memory_switch", "_set"),
    ("operator", "execute"),
    ("person", "_asked"),
    ("person", "next_plan"),
    ("teleoperator", "release"),
}
"""(module, function) that may wait: none of them is a callback."""

PRINTING = {
    # Their output is what whoever started them reads.
    "benchmark_feed",
    "benchmark_memory",
    "benchmark_pictures",
    "benchmark_timer",
    # An address with a secret in it, which must not get into a log that the graph hears.
    "dashboard",
    # Why there is no node, and so no logger.
    "runtime",
}

WAITS = {"sleep", "wait_for_service", "wait_for_services", "wait_for_server", "spin", "spin_once", "call"}


def calls(tree: ast.AST, function: str = "") -> Iterator[tuple[str, ast.Call]]:
    """Every call in a source with the name of the function it stands in."""
    for child in ast.iter_child_nodes(tree):
        inside = child.name if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef)) else function
        if isinstance(child, ast.Call):
            yield inside, child
        yield from calls(child, inside)


def waiting(module: str, source: str) -> Iterator[tuple[str, str]]:
    """Where a source waits: (module, function). What a coroutine awaits lets others run meanwhile."""
    for function, call in calls(ast.parse(source)):
        if not isinstance(call.func, ast.Attribute):
            continue
        of = call.func.value.id if isinstance(call.func.value, ast.Name) else ""
        if call.func.attr == "spin_until_future_complete" or (call.func.attr in WAITS and of != "asyncio"):
            yield module, function


def printing(module: str, source: str) -> Iterator[str]:
    """The module, if it prints."""
    for _, call in calls(ast.parse(source)):
        if isinstance(call.func, ast.Name) and call.func.id == "print":
            yield module


def unexplained(text: str) -> Iterator[str]:
    """Fields of an interface without a comment of their own, beside them or above them.

    The comment that a file begins with is of the whole; an indented one goes on with what is said of the field before.
    A comment that only says the field's name again says nothing.
    """
    above = ""
    for line in itertools.dropwhile(lambda line: line.startswith("#"), text.splitlines()):
        if line.startswith("#"):
            above = line
            continue
        declared, _, beside = line.partition("#")
        words = declared.split()
        if len(words) > 1 and not words[1].partition("=")[0].isupper():
            said = set(re.findall(r"\w+", f"{above} {beside}".lower()))
            if not said - {"a", "of", "the", *words[1].split("_")}:
                yield words[1]
        above = ""


def test_no_callback_waits_and_no_node_prints():
    found = {path.stem: path.read_text(encoding="utf-8") for path in SOURCES.glob("*.py")}
    assert len(found) > 60
    assert {place for module, text in found.items() for place in waiting(module, text)} - WAITING == set()
    assert {module for name, text in found.items() for module in printing(name, text)} - PRINTING == set()


def test_every_field_of_an_interface_has_a_comment_of_its_own():
    found = [path for kind in ("msg", "srv", "action") for path in sorted((INTERFACES / kind).iterdir())]
    assert len(found) > 60
    texts = {path.name: path.read_text(encoding="utf-8") for path in found}
    assert not [f"{name}: {field}" for name, text in texts.items() for field in unexplained(text)]
    assert not [name for name, text in texts.items() if not text.startswith("# ")]


@pytest.mark.parametrize(
    "source",
    [
        "def _on_image(self, message):\n    time.sleep(0.1)\n",
        "def _on_timer(self):\n    self._client.wait_for_service(1.0)\n",
        "def _on_timer(self):\n    return self._client.call(request)\n",
        "def _on_timer(self):\n    rclpy.spin_until_future_complete(self, future)\n",
    ],
)
def test_what_waits_is_found(source):
    assert list(waiting("mine", source))
    assert not list(waiting("mine", "async def ask(self):\n    await asyncio.sleep(0.1)\n"))


def test_what_prints_and_what_says_nothing_is_found():
    assert list(printing("mine", "def _on_image(self, message):\n    print(message)\n"))
    assert list(unexplained("# A gripper.\nstring name\n\nfloat32 width  # the width\n")) == ["name", "width"]
    assert list(unexplained("# A gripper.\n---\nuint8 OPEN=0  # wide\nuint8 state\n")) == ["state"]
    assert list(unexplained("float32 width  # metres,\n               # or 0\nfloat32 height 1.0\n")) == ["height"]
    assert list(unexplained("bool ok  # it is\n# newtons\nfloat32 force\nfloat32 torque\n")) == ["torque"]
