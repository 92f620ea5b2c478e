# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""How long a page is, of which project, and entity tags: which version of an object somebody has read."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header, Query

from flow_rag_vla.gateway.errors import GatewayError, bad_request
from flow_rag_vla.gateway.labeling.schemas import LONGEST_WORD

MOST_IN_PAGE = 500
USUAL_PAGE = 50

Limit = Annotated[int, Query(ge=1, le=MOST_IN_PAGE, description="of what is listed, in a page")]
Cursor = Annotated[str, Query(max_length=1000, description="next_cursor of the page before; empty: the first page")]
RankCursor = Annotated[
    str, Query(pattern=r"^(\d{1,15}-\d{1,9})?$", description="next_cursor of the page before; empty: ranked anew")
]
Project = Annotated[str, Query(max_length=LONGEST_WORD, description="name of one; empty: any")]
IfMatch = Annotated[str | None, Header(max_length=40, description="the ETag that was read; left out: any version")]
IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=120,
        pattern=r"^[!-~]+$",
        description="the same key with the same body stores nothing a second time",
    ),
]


def invalid_cursor(cursor: str) -> GatewayError:
    """422: it is of another listing, or what it names is gone."""
    message = f"{cursor[:80]!r} is no cursor of this listing"
    return GatewayError(422, "invalid_cursor", message, "begin again without a cursor")


def ranked_from(cursor: str) -> tuple[int, int]:
    """The generation of a ranking that a RankCursor counts in, and how many of it came before; empty: both 0."""
    generation, _, place = cursor.partition("-")
    return int(generation or 0), int(place or 0)


def tag_of(version: int) -> str:
    """ETag of a version."""
    return f'"{version}"'


def version_of(if_match: str | None) -> int | None:
    """The version that an If-Match header names; None: any.

    Raises:
        GatewayError: 400 ``invalid_if_match``.
    """
    if if_match is None or if_match.strip() == "*":
        return None
    text = if_match.strip()
    digits = text[1:-1]
    if len(text) > 2 and text[0] == text[-1] == '"' and digits.isascii() and digits.isdigit() and len(digits) < 16:
        return int(digits)
    raise bad_request("invalid_if_match", f"If-Match is {text!r}", 'send the ETag that came with it, e.g. "3"')
