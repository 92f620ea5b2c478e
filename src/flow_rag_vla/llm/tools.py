# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Tools of MCP servers, for any provider.

Every provider can fill a schema, so a tool is asked for by a structure, not by each provider's own mechanism: in each
round the model either names a tool with its arguments or says that it is ready, and then the question is asked again
with everything that the tools gave, quoted as data. Nothing is called that is not allowed by name, or that does not
declare itself to be read-only; arguments are checked against the tool's own schema first.
"""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sys
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any, Literal, TextIO, cast

from pydantic import StringConstraints

from flow_rag_vla.llm.errors import (
    BadRequestError,
    MissingPackageError,
    ProviderDownError,
    StructureError,
    UnsupportedSchemaError,
)
from flow_rag_vla.llm.redaction import redact
from flow_rag_vla.llm.request import Answer, Message, Request
from flow_rag_vla.llm.schemas import Structure
from flow_rag_vla.llm.service import LanguageModel, OnPiece, within

if TYPE_CHECKING:
    from mcp import Client

LONGEST_RESULT = 4000
"""Characters of a tool's result that a model is shown."""

MOST_CALLS = 6

_PASSED_ON = ("PATH", "HOME", "LANG", "TMPDIR")
"""Of the environment: what a program needs to start. Keys stay here."""


class ToolChoice(Structure):
    """What to do next. ``arguments``: a JSON object."""

    action: Literal["call", "ready"]
    tool: Annotated[str, StringConstraints(max_length=120)]
    arguments: Annotated[str, StringConstraints(max_length=2000)]


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool of one server. ``schema``: JSON schema of its arguments."""

    name: str
    description: str
    schema: Mapping[str, Any]
    read_only: bool


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that was made."""

    tool: str
    arguments: Mapping[str, Any]
    result: str
    failed: bool


class Toolbox:
    """The tools of the attached servers; lives as long as :func:`attached`."""

    def __init__(self, tools: Mapping[str, tuple[Client, Tool]]) -> None:
        self._tools = dict(tools)

    @property
    def tools(self) -> tuple[Tool, ...]:
        """Those that may be called."""
        return tuple(tool for _, tool in self._tools.values())

    async def call(self, name: str, arguments: Mapping[str, Any]) -> ToolCall:
        """Call a tool.

        Raises:
            StructureError: for a tool that is not there or not allowed, or arguments that its schema refuses.
            ProviderDownError: if its server went away.
        """
        import jsonschema

        if name not in self._tools:
            raise StructureError(f"there is no tool {name!r}; there are: {', '.join(self._tools) or 'none'}")
        client, tool = self._tools[name]
        try:
            jsonschema.validate(dict(arguments), dict(tool.schema))
        except jsonschema.ValidationError as error:
            raise StructureError(f"tool {name!r} does not take these arguments: {error.message}") from None
        except jsonschema.SchemaError as error:
            raise StructureError(f"tool {name!r} declares arguments that make no sense: {error.message}") from None
        try:
            result = await client.call_tool(name, dict(arguments))
        except Exception as error:
            raise ProviderDownError(f"tool {name!r}: {type(error).__name__}: {redact(str(error))[:200]}") from None
        parts = [str(getattr(part, "text", "")) or f"({part.type} left out)" for part in result.content]
        return ToolCall(name, dict(arguments), "\n".join(parts)[:LONGEST_RESULT], bool(result.is_error))


@asynccontextmanager
async def attached(
    commands: Sequence[str], allowed: Collection[str] | None = None, start_timeout_s: float = 20.0
) -> AsyncIterator[Toolbox]:
    """Start MCP servers that speak over standard input and output, and offer their tools.

    Args:
        commands: a command line a server.
        allowed: names of tools that may be called, whatever they do; None: those that declare themselves read-only.
        start_timeout_s: seconds for each server to answer.

    Raises:
        MissingPackageError: without the mcp package.
        ProviderDownError: if a server does not start or does not answer.
        BadRequestError: for what is no command line, two tools of one name, or an allowed name that no server has.
    """
    try:
        from mcp import Client, StdioServerParameters, stdio_client
    except ImportError as error:
        raise MissingPackageError("tools need the mcp package: pip install 'flow_rag_vla[mcp]'") from error
    environment = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
    caught: BaseException | None = None
    async with AsyncExitStack() as stack:
        # What is raised in here, the caller's own errors included, would leave the clients' task groups wrapped in an
        # exception group. So it is kept until they are closed.
        try:
            found: dict[str, tuple[Client, Tool]] = {}
            for command in commands:
                program, *arguments = _words(command)
                server = StdioServerParameters(command=program, args=arguments, env=environment)
                # What a server says in its log goes to this process's own error output. mcp would take what stood for
                # it when it was imported, which may be closed by now or no file at all; None hands the output on.
                speaking = stdio_client(server, errlog=cast("TextIO", sys.__stderr__))
                client, tools = await _started(stack, Client(speaking, read_timeout_seconds=start_timeout_s), command)
                for tool in tools:
                    if tool.name in found:
                        raise BadRequestError(f"two servers have a tool {tool.name!r}; attach one of them")
                    found[tool.name] = (client, tool)
            yield Toolbox(_usable(found, allowed))
        except BaseException as error:
            caught = error
    if caught is not None:
        raise caught


def _words(command: str) -> list[str]:
    try:
        return shlex.split(command) or [""]
    except ValueError as error:
        raise BadRequestError(f"tool server {command!r} is no command line: {error}; close what is quoted") from None


async def _started(stack: AsyncExitStack, client: Client, command: str) -> tuple[Client, list[Tool]]:
    try:
        client = await stack.enter_async_context(client)
        listed = await client.list_tools()
    except Exception as error:
        said = f"{type(error).__name__}: {redact(str(error))[:200]}"
        raise ProviderDownError(
            f"tool server {command!r} does not start or answer: {said}; the command line has to start an MCP server "
            "that speaks over standard input and output"
        ) from None
    tools = [
        Tool(
            item.name,
            (item.description or "")[:400],
            item.input_schema,
            bool(item.annotations and item.annotations.read_only_hint),
        )
        for item in listed.tools
    ]
    return client, tools


def _usable(
    found: Mapping[str, tuple[Client, Tool]], allowed: Collection[str] | None
) -> dict[str, tuple[Client, Tool]]:
    if allowed is None:
        return {name: entry for name, entry in found.items() if entry[1].read_only}
    unknown = sorted(set(allowed) - set(found))
    if unknown:
        raise BadRequestError(f"no server has a tool {unknown[0]!r}; there are: {', '.join(found) or 'none'}")
    return {name: entry for name, entry in found.items() if name in allowed}


async def ask_with_tools(
    model: LanguageModel,
    request: Request,
    toolbox: Toolbox,
    most_calls: int = MOST_CALLS,
    on_piece: OnPiece | None = None,
) -> tuple[Answer, list[ToolCall]]:
    """The answer to a request whose model may look things up first, and the calls that it made.

    Everything happens within the request's deadline. A call that is refused or fails is told to the model and counts.
    A provider that cannot choose tools (``rules``) answers without.

    Raises:
        LlmError: as ``LanguageModel.ask``.
    """
    calls: list[ToolCall] = []
    told: list[Message] = []
    while len(calls) < most_calls and toolbox.tools:
        try:
            choice = (await model.ask(_choosing(request, toolbox.tools, told))).value
        except UnsupportedSchemaError:
            break
        assert isinstance(choice, ToolChoice)
        if choice.action == "ready":
            break
        call = await _called(toolbox, choice, request)
        calls.append(call)
        state = "failed" if call.failed else "gave"
        text = f"{call.tool}({json.dumps(call.arguments, ensure_ascii=False)}) {state}: {call.result}"
        told.append(Message("data", text, f"tool {call.tool}"))
    return await model.ask(replace(request, messages=_with_data(request, told)), on_piece), calls


async def ask_with_servers(
    model: LanguageModel,
    request: Request,
    commands: Sequence[str],
    allowed: Collection[str] | None = None,
    on_piece: OnPiece | None = None,
) -> tuple[Answer, list[ToolCall]]:
    """As ``ask_with_tools``, with servers that are started for this request and ended after it.

    Raises:
        LlmError: as ``attached`` and ``LanguageModel.ask``, at the deadline at the latest.
    """

    async def asked() -> tuple[Answer, list[ToolCall]]:
        async with attached(commands, allowed, max(request.remaining_s, 0.001)) as toolbox:
            return await ask_with_tools(model, request, toolbox, on_piece=on_piece)

    return await within(asked(), request)


async def _called(toolbox: Toolbox, choice: ToolChoice, request: Request) -> ToolCall:
    arguments: Any = {}
    try:
        arguments = json.loads(choice.arguments or "{}")
        if not isinstance(arguments, dict):
            raise StructureError("arguments are no JSON object")
        return await asyncio.wait_for(toolbox.call(choice.tool, arguments), max(request.remaining_s, 0.001))
    except (StructureError, ProviderDownError, ValueError) as error:
        return ToolCall(choice.tool, arguments if isinstance(arguments, dict) else {}, str(error), True)
    except asyncio.TimeoutError:
        return ToolCall(choice.tool, arguments, "no result before the deadline", True)


def _choosing(request: Request, tools: Sequence[Tool], told: Sequence[Message]) -> Request:
    listed = "\n".join(
        f"{tool.name}: {tool.description} Arguments: {json.dumps(tool.schema, ensure_ascii=False)}" for tool in tools
    )
    rule = Message(
        "system",
        "Before the question is answered you may call tools, one at a time. Say 'call' with a tool and its arguments "
        "as a JSON object, or 'ready', with both empty, when you need none or know enough. The tools are described in "
        "data.",
    )
    described = Message("data", listed, "tools")
    # The request's own check is of its answer, not of a choice.
    return replace(request, messages=(rule, described, *_with_data(request, told)), schema=ToolChoice, check=None)


def _with_data(request: Request, told: Sequence[Message]) -> tuple[Message, ...]:
    place = next(index for index, message in enumerate(request.messages) if message.role == "user")
    return (*request.messages[:place], *told, *request.messages[place:])
