# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""One state over all nodes: which are up, which are missing, and how bad the worst of them is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

OK, WARN, ERROR, STALE = 0, 1, 2, 3
"""Levels of diagnostic_msgs/DiagnosticStatus."""

LEVELS = ("ok", "warn", "error", "stale")

SILENCE_S = 5.0
"""Nodes report each second; one that missed five reports is stale."""


@dataclass(frozen=True, slots=True)
class Overall:
    """The state of the whole: a level, one sentence, and each node's own level."""

    level: int
    sentence: str
    nodes: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Readiness:
    """What must report before the graph counts as ready."""

    expected: tuple[str, ...]

    def levels(self, nodes: Mapping[str, Mapping[str, Any]], now_s: float) -> dict[str, int]:
        """Level of every node that is expected or has reported; ``heard`` is on the clock of ``now_s``."""
        names = sorted({*self.expected, *nodes})
        return {name: _level(nodes.get(name), now_s) for name in names}

    def up(self, nodes: Mapping[str, Mapping[str, Any]], now_s: float) -> dict[str, bool]:
        """Whether each node reports and is not in error."""
        return {name: level in (OK, WARN) for name, level in self.levels(nodes, now_s).items()}

    def missing(self, nodes: Mapping[str, Mapping[str, Any]], now_s: float) -> Sequence[str]:
        """Why the graph is not ready, a sentence for each node that is expected and not up."""
        sentences = []
        for name in self.expected:
            values = nodes.get(name)
            level = _level(values, now_s)
            if values is None:
                sentences.append(f"{name} has not reported on /diagnostics")
            elif level == STALE:
                sentences.append(f"{name} has not reported for {now_s - float(values['heard']):.0f} s")
            elif level == ERROR:
                sentences.append(f"{name}: {values['message']}")
        return sentences

    def overall(self, nodes: Mapping[str, Mapping[str, Any]], now_s: float) -> Overall:
        """One state over all: as bad as the worst node, where a silent one is an error if it is expected."""
        levels = self.levels(nodes, now_s)
        missing = self.missing(nodes, now_s)
        if missing:
            return Overall(ERROR, "; ".join(missing), levels)
        warned = [name for name, level in levels.items() if level != OK]
        if warned:
            first = nodes[warned[0]]
            silent = levels[warned[0]] == STALE
            return Overall(WARN, f"{warned[0]}: {'silent' if silent else first['message']}", levels)
        return Overall(OK, f"{len(levels)} nodes are well", levels)


def _level(values: Mapping[str, Any] | None, now_s: float) -> int:
    if values is None or now_s - float(values["heard"]) > SILENCE_S:
        return STALE
    return int(values["level"])
