# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What the watchers beside the graph wrote, read while they write."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from flow_rag_vla.evaluate.chaos.stretch import Stretch

Line = dict[str, Any]


class Tail:
    """Lines of JSON as they are added to a file."""

    def __init__(self, path: Path) -> None:
        self._path, self._place, self._rest = path, 0, b""
        self.lines: list[Line] = []

    def read(self) -> list[Line]:
        """The whole lines since the last call; they are kept in ``lines`` too."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as stream:
            stream.seek(self._place)
            added = stream.read()
        self._place += len(added)
        *whole, self._rest = (self._rest + added).split(b"\n")
        found = [json.loads(line) for line in whole if line.strip()]
        self.lines += found
        return found


def of(lines: Iterable[Line], *what: str) -> list[Line]:
    """The monitor's lines of these kinds."""
    return [line for line in lines if line["what"] in what]


def holds(lines: Sequence[Line], reason: str, end_ns: int) -> list[Stretch]:
    """When the receiving end held for a reason, from what it said about its holds.

    end_ns: taken as the end of a hold that lasts
    """
    found, start = [], None
    for line in of(lines, "hold"):
        if start is not None:
            found.append(Stretch(start, int(line["ns"])))
            start = None
        if str(line["text"]).startswith(reason):
            start = int(line["ns"])
    return [*found, Stretch(start, end_ns)] if start is not None else found


def stalls(lines: Sequence[Line]) -> list[Stretch]:
    """The empty timer's late ticks."""
    return [Stretch(int(line["start_ns"]), int(line["end_ns"])) for line in lines]
