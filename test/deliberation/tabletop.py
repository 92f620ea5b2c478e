# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A table on which everything is in its place, and plans for it."""

from __future__ import annotations

from flow_rag_vla.deliberation.scene import Scene, Thing
from flow_rag_vla.llm.schemas import TaskPlan

PLACES = {
    "red cube": (0.45, -0.10, 0.02),
    "Blue Box": (0.50, -0.22, 0.02),
    "yellow cylinder": (0.55, 0.0, 0.025),
    "bin": (0.50, 0.24, 0.0),
    "green zone": (0.60, 0.10, 0.0),
    "drawer": (0.60, 0.0, 0.055),
}


def table() -> Scene:
    """Everything that tasks speak of, where the robot reaches it."""
    return Scene(tuple(Thing(name, place, 0.9) for name, place in PLACES.items()), "test")


def plan_of(*steps: tuple[str, str]) -> TaskPlan:
    """An accepted plan of (task, target)."""
    return TaskPlan.model_validate(
        {"steps": [{"task": task, "target": target} for task, target in steps], "refusal": "none", "reason": ""}
    )
