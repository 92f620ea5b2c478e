# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A small MCP server over standard input and output, for the tests."""

from __future__ import annotations

import os

from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from mcp.types import ToolAnnotations

server = MCPServer("bench")


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def friction(thing: str) -> str:
    """The coefficient of friction of a thing."""
    if thing == "void":
        raise ToolError("nothing is there")
    return {"red_cube": "0.31"}.get(thing, "unknown")


@server.tool()
def move_arm(metres: float) -> str:
    """Moves the arm."""
    return f"moved {metres}"


@server.tool(annotations=ToolAnnotations(read_only_hint=True))
def key() -> str:
    """What the server can see of keys."""
    return os.environ.get("OPENAI_API_KEY", "no key")


if __name__ == "__main__":
    server.run("stdio")
