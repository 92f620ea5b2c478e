# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Whether a sequence of goals can be done one after the other on one table.

The simulator sets up a scene for each task, but a plan is about the world: what was put in the bin is not on the table
any more, and what something stands on is not to be moved.
"""

from __future__ import annotations

from collections.abc import Sequence

from flow_rag_vla.core.goal import GOALS, OBJECT_WORDS, Goal

STACK_BASE = "blue_box"


def conflict(goals: Sequence[Goal]) -> str:
    """Why a sequence cannot be done, in one sentence; empty if it can."""
    in_bin: set[str] = set()
    in_zone: set[str] = set()
    stacked: str | None = None
    opened = False
    for number, goal in enumerate(goals, 1):
        target = OBJECT_WORDS.get(goal.target, goal.target)
        if goal not in GOALS:
            return f"step {number}: the robot has no task {goal.task!r} for the {target}"
        if goal.target in in_bin:
            return f"step {number}: the {target} is in the bin by then"
        if stacked is not None and goal.target == STACK_BASE:
            return f"step {number}: the {OBJECT_WORDS[stacked]} stands on the {target} by then"
        if goal.task == "open_drawer":
            if opened:
                return f"step {number}: the drawer is open by then"
            opened = True
        elif goal.task == "push":
            if goal.target in in_zone:
                return f"step {number}: the {target} is in the green zone by then"
            in_zone.add(goal.target)
        elif goal.task == "stack":
            if STACK_BASE in in_bin:
                return f"step {number}: the {OBJECT_WORDS[STACK_BASE]} is in the bin by then"
            if stacked is not None:
                return f"step {number}: the {target} stands on the {OBJECT_WORDS[STACK_BASE]} by then"
            stacked = goal.target
        else:
            in_bin.add(goal.target)
            if stacked == goal.target:
                stacked = None
    return ""
