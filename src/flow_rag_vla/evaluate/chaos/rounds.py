# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""One round: a fault, and what came of it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from flow_rag_vla.evaluate.chaos.plan import Fault


@dataclass
class Round:
    """Filled in while it goes on. Times in milliseconds from the fault's beginning; None if it did not come.

    start_ns, end_ns: steady time; no end while it goes on
    back: until the node that was killed reported again
    following: until commands followed a chunk again, 0 if they never stopped to
    taken_up: whether the episode went on under an episode manager that was started again
    problems: kind and sentence of what must not be; reactions: how often the loop named each reason
    """

    number: int
    fault: Fault
    start_ns: int
    end_ns: int = 0
    back: float | None = None
    following: float | None = None
    taken_up: bool = False
    notes: list[str] = field(default_factory=list)
    problems: list[tuple[str, str]] = field(default_factory=list)
    reactions: Counter[str] = field(default_factory=Counter)

    def told(self) -> dict[str, Any]:
        """As it stands in the report."""
        return {
            "number": self.number,
            "kind": self.fault.kind,
            "target": self.fault.target,
            "fault": self.fault.text,
            "seconds": max(self.end_ns - self.start_ns, 0) / 1e9,
            "back_ms": self.back,
            "following_ms": self.following,
            "reactions": dict(self.reactions),
            "notes": self.notes,
            "problems": [text for _, text in self.problems],
        }
