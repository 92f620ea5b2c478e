# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Options that commands which ask a language model have in common, and a question with tools."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from flow_rag_vla.llm.request import Answer, Request
    from flow_rag_vla.llm.service import LanguageModel

KEY_VARIABLE = typer.Option(
    "", help="Name of the environment variable that holds the key, never the key; empty: the provider's own."
)
TOOLS = typer.Option(
    [],
    "--tool",
    help="Command line of an MCP server whose tools may be used; started for the question, ended after it. Repeatable.",
)
ALLOWED_TOOLS = typer.Option(
    [],
    "--allow-tool",
    help="A tool that may be used, whatever it does; repeat it for more. None: those that declare to be read-only.",
)


async def ask_model(
    model: LanguageModel,
    request: Request,
    tools: Sequence[str],
    allowed: Sequence[str],
    say: Callable[[str], None],
) -> Answer:
    """The answer, with the tools of MCP servers if any are named.

    Args:
        model: who answers.
        request: the question.
        tools: a command line a server; they have ended when this returns, or raises and its loop is closed.
        allowed: names of tools that may be used, whatever they do; none: those that declare to be read-only.
        say: gets a line for each call that was made.

    Raises:
        BadRequestError: for allowed tools without a server.
        LlmError: as ``LanguageModel.ask`` and ``llm.tools.attached``.
    """
    from flow_rag_vla.llm.errors import BadRequestError

    if not tools:
        if allowed:
            raise BadRequestError(f"--allow-tool {allowed[0]} names a tool of no server; name its server with --tool")
        return await model.ask(request)
    from flow_rag_vla.llm.tools import ask_with_servers

    answer, calls = await ask_with_servers(model, request, tools, allowed or None)
    for call in calls:
        say(f"tool {call.tool} {'failed' if call.failed else 'answered'}")
    if not calls:
        say("no tool was used")
    return answer
