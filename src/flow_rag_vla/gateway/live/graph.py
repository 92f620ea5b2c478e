# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What the page may ask of the running graph. A node implements it; the gateway knows no ROS.

Every method raises ``GatewayError``: 503 ``node_down`` or ``no_answer`` when nobody serves it, 409 when the graph
refuses, with the graph's own words.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Order:
    """A task to be done. Without ``task`` it is found from the instruction; a timeout of 0 is the task's own."""

    instruction: str
    task: str = ""
    variant: str = ""
    seed: int = 0
    timeout: float = 0.0


@dataclass(frozen=True, slots=True)
class CaseQuery:
    """Which cases to list; an empty word matches any."""

    task: str = ""
    phase: str = ""
    failure_types: tuple[int, ...] = ()
    include_retired: bool = False
    offset: int = 0
    limit: int = 50


@dataclass(frozen=True, slots=True)
class CaseEdit:
    """What changes about a case; None stays as it is."""

    note: str | None = None
    failure_type: int | None = None
    forget_correction: bool = False


class Graph(Protocol):
    """The running graph, seen from the gateway's event loop."""

    def publish_stop(self) -> None:
        """Latch the emergency stop, at once and without waiting for anybody."""

    async def confirm_stop(self) -> str:
        """Have the controller say that it is stopped; its words."""

    async def release(self) -> str:
        """Release the emergency stop; the controller's words."""

    async def start(self, order: Order) -> str:
        """Begin an episode; returns once it is accepted."""

    async def stop(self) -> str:
        """Cancel the running episode, whoever began it."""

    async def answer(self, plan: str, approved: bool, person: str, reason: str) -> str:
        """A person's word on a plan that waits for one; the deliberation's words."""

    async def score(self, success: bool) -> str:
        """A person's judgement of the running episode; the episode manager's words."""

    async def cases(self, query: CaseQuery) -> Mapping[str, Any]:
        """``{"total": N, "cases": [...]}``, newest first, without pictures."""

    async def case(self, case_id: int) -> Mapping[str, Any]:
        """One case with its pictures, evidence, credits and history; 404 ``no_case`` if there is none."""

    async def edit(self, case_id: int, edit: CaseEdit) -> None:
        """Change a case, durably."""

    async def retire(self, case_id: int, retired: bool, reason: str) -> None:
        """Take a case out of every search, or back in."""

    async def export(self, path: Path, include_retired: bool) -> int:
        """Write cases to a file; how many."""
