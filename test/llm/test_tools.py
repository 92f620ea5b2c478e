# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Tools of a real MCP server in a process of its own."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from pathlib import Path

import pytest

from flow_rag_vla.llm import errors
from flow_rag_vla.llm.prompts import make_request, turns
from flow_rag_vla.llm.registry import make_provider
from flow_rag_vla.llm.request import RawAnswer, Request, deadline_in
from flow_rag_vla.llm.schemas import Structure
from flow_rag_vla.llm.service import LanguageModel
from flow_rag_vla.llm.tools import ask_with_servers, ask_with_tools, attached

SERVER = f"{sys.executable} {Path(__file__).parent / 'tool_server.py'}"


class Scripted:
    """A model that gives its answers in turn."""

    name, model, deterministic = "scripted", "m", False

    def __init__(self, *answers: object) -> None:
        self._answers = [answer if isinstance(answer, str) else json.dumps(answer) for answer in answers]
        self.asked: list[Request] = []

    async def answer(self, request, emit=None):
        self.asked.append(request)
        return RawAnswer(self._answers.pop(0))

    async def close(self) -> None:
        pass


def call(tool: str, **arguments: object) -> dict:
    return {"action": "call", "tool": tool, "arguments": json.dumps(arguments)}


READY = {"action": "ready", "tool": "", "arguments": ""}


def with_tools(provider, allowed=None, most_calls=6):
    async def asked():
        async with attached([SERVER], allowed) as toolbox:
            request = make_request("Is the red cube slippery?", deadline_in(30.0))
            return await ask_with_tools(LanguageModel(provider), request, toolbox, most_calls)

    return asyncio.run(asked())


def test_what_a_tool_gives_reaches_the_answer_as_data():
    provider = Scripted(call("friction", thing="red_cube"), READY, "Yes: 0.31.")
    answer, calls = with_tools(provider)
    assert answer.text == "Yes: 0.31."
    assert [(item.tool, item.result, item.failed) for item in calls] == [("friction", "0.31", False)]
    text = turns(provider.asked[-1].messages)[0][1]
    assert '<data source="tool friction">' in text and "0.31" in text


def test_the_check_of_an_answer_is_not_asked_of_a_choice_and_holds_for_the_answer():
    class Grip(Structure):
        friction: float

    checked = []
    request = make_request("How slippery is it?", deadline_in(30.0), Grip, check=checked.append)
    provider = Scripted(call("friction", thing="red_cube"), READY, {"friction": 0.31})

    async def asked():
        async with attached([SERVER]) as toolbox:
            return await ask_with_tools(LanguageModel(provider), request, toolbox)

    answer, _ = asyncio.run(asked())
    assert checked == [answer.value] == [Grip(friction=0.31)]


def test_only_tools_that_read_are_offered_unless_others_are_allowed_by_name():
    provider = Scripted(call("move_arm", metres=1.0), READY, "no")
    _, calls = with_tools(provider)
    assert calls[0].failed and "no tool 'move_arm'" in calls[0].result
    assert "move_arm" not in turns(provider.asked[0].messages)[0][1]
    _, calls = with_tools(Scripted(call("move_arm", metres=1.0), READY, "done"), allowed=["move_arm"])
    assert (calls[0].result, calls[0].failed) == ("moved 1.0", False)


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        (call("friction"), "required"),
        (call("friction", thing=7), "not of type 'string'"),
        ({"action": "call", "tool": "friction", "arguments": "{"}, "Expecting"),
        ({"action": "call", "tool": "friction", "arguments": "[]"}, "no JSON object"),
        (call("friction", thing="void"), "nothing is there"),
    ],
)
def test_a_wrong_call_is_told_to_the_model_and_is_no_crash(choice, said):
    provider = Scripted(choice, READY, "I do not know.")
    answer, calls = with_tools(provider)
    assert answer.text == "I do not know." and calls[0].failed and said in calls[0].result
    assert said in turns(provider.asked[1].messages)[0][1]


def test_calls_are_bounded():
    provider = Scripted(*[call("friction", thing="red_cube")] * 2, "enough")
    answer, calls = with_tools(provider, most_calls=2)
    assert answer.text == "enough" and len(calls) == 2


def test_a_server_sees_no_keys(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-0123456789abcdef")
    _, calls = with_tools(Scripted(call("key"), READY, "x"))
    assert calls[0].result == "no key"


def test_a_server_starts_where_the_error_output_was_no_file_when_mcp_was_imported():
    program = """if True:
        import asyncio, contextlib, io, sys
        with contextlib.redirect_stderr(io.StringIO()):
            import mcp
        from flow_rag_vla.llm.tools import attached
        async def names():
            async with attached([sys.argv[1]]) as toolbox:
                return [tool.name for tool in toolbox.tools]
        print(asyncio.run(names()))
    """
    ran = subprocess.run([sys.executable, "-c", program, SERVER], capture_output=True, text=True, timeout=60)
    assert "friction" in ran.stdout, ran.stderr


@pytest.mark.parametrize("command", ["/nowhere/server", f"{sys.executable} -c pass", ""])
def test_a_server_that_does_not_start_is_named(command):
    async def attach() -> None:
        async with attached([command], start_timeout_s=10.0):
            pass

    with pytest.raises(errors.ProviderDownError, match="does not start or answer"):
        asyncio.run(attach())


def test_what_is_no_command_line_is_a_wrong_request():
    async def attach() -> None:
        async with attached(["python 'server.py"]):
            pass

    with pytest.raises(errors.BadRequestError, match="close what is quoted"):
        asyncio.run(attach())


def test_a_name_that_no_server_has_and_one_that_two_have_are_refused():
    async def attach(commands, allowed) -> None:
        async with attached(commands, allowed):
            pass

    with pytest.raises(errors.BadRequestError, match="'fly'"):
        asyncio.run(attach([SERVER], ["fly"]))
    with pytest.raises(errors.BadRequestError, match="two servers"):
        asyncio.run(attach([SERVER, SERVER], None))


def test_an_error_of_the_caller_leaves_the_servers_closed_and_itself_unchanged():
    async def fail() -> None:
        async with attached([SERVER]) as toolbox:
            assert [tool.name for tool in toolbox.tools] == ["friction", "key"]
            raise errors.DeadlineError("too late")

    with pytest.raises(errors.DeadlineError, match="too late"):
        asyncio.run(fail())


def test_servers_live_for_one_request_and_its_deadline_holds():
    request = make_request("Is it slippery?", deadline_in(60.0))
    answer, calls = asyncio.run(ask_with_servers(LanguageModel(make_provider("rules")), request, [SERVER]))
    assert answer.text.startswith("Refused (question)") and calls == []
    hangs = f"{sys.executable} -c 'import time; time.sleep(60)'"
    late = make_request("Is it slippery?", deadline_in(0.5))
    with pytest.raises((errors.DeadlineError, errors.ProviderDownError)):
        asyncio.run(ask_with_servers(LanguageModel(Scripted()), late, [hangs]))


def test_a_model_that_fails_fails_with_its_own_error():
    with pytest.raises(errors.StructureError, match="no ToolChoice"):
        with_tools(Scripted("a", "b", "c"))
