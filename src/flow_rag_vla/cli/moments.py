# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Times as people write them on the command line."""

from __future__ import annotations

from datetime import datetime, timezone

import typer


def nanoseconds(text: str, option: str) -> int:
    """UTC nanoseconds of a time such as 2026-11-20 or 2026-11-20T14:30; 0 for none.

    Raises:
        typer.BadParameter: it is no time, or one before 1970; ``option`` names where it was given.
    """
    if not text:
        return 0
    try:
        found = datetime.fromisoformat(text)
        stamp = round((found if found.tzinfo else found.replace(tzinfo=timezone.utc)).timestamp()) * 1_000_000_000
    except (ValueError, OverflowError) as error:
        raise typer.BadParameter(f"{option} {text!r}: give a UTC time such as 2026-11-20T14:30") from error
    if stamp < 0:
        raise typer.BadParameter(f"{option} {text!r} is before 1970: give a UTC time such as 2026-11-20T14:30")
    return stamp
