# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""At what share of the speed a command is done, and why: whoever asks for the least is heard.

Three may ask: whoever sends the command, how its words sound (``urgency``), and words that say how carefully it is to
be done (``task_language.manner``). They are not multiplied: the smallest holds.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from flow_rag_vla.control.pace import invalid_pace
from flow_rag_vla.deliberation.urgency import urgency_of
from flow_rag_vla.llm.task_language.manner import asked_speed

if TYPE_CHECKING:
    from flow_rag_vla.llm.schemas import TaskPlan


@dataclass(frozen=True, slots=True)
class Care:
    """pace: share of the speed, above 0 and at most 1; reason: why it is below 1, empty at full speed."""

    pace: float = 1.0
    reason: str = ""

    def lowered(self, pace: float, who: str) -> Care:
        """The same at no more than this pace, which ``who`` asks for."""
        if pace >= self.pace:
            return self
        return Care(pace, "; ".join(filter(None, (self.reason, f"{who} asks for {pace:.2g}"))))


def care_of(asked: float, instruction: str) -> Care:
    """The care that a request and its words ask for together.

    Args:
        asked: speed scale of the request, such as that of a checked plan.
        instruction: the operator's words. How they sound and what they say can only lower the speed.

    Raises:
        ValueError: if ``asked`` is no number above 0 and at most 1.
    """
    problem = invalid_pace(asked)
    if problem is not None:
        raise ValueError(f"{problem}; 1 is full speed")
    tone = urgency_of(instruction)
    said = asked_speed(instruction)
    reasons = [f"asked for {asked:.2g}"] if asked < 1.0 else []
    if tone.speed_scale < 1.0:
        words = ", ".join(tone.words) or "its tone"
        reasons.append(f"how the command sounds ({words}) allows {tone.speed_scale:.2g}")
    if said < 1.0:
        reasons.append(f"its words ask for {said:.2g}")
    return Care(min(tone.slowed(asked), said), "; ".join(reasons))


def as_careful_as_said(plan: TaskPlan, instruction: str) -> TaskPlan:
    """A plan whose steps are no faster than the words ask for, whoever made it.

    Where the grammar reads the same steps, each gets the speed that its own clause asks for; else all of them get the
    least that any word asks for.

    Args:
        plan: steps or a refusal.
        instruction: the operator's words.
    """
    # Plans and the grammar take longer to load than all else that the episode manager imports, and it has no plan.
    from flow_rag_vla.llm.task_language.reader import read_command

    read = read_command(instruction)
    if read.goals == plan.goals:
        speeds = [step.speed_scale for step in read.steps]
    else:
        speeds = [asked_speed(instruction)] * len(plan.steps)
    steps = [
        step.model_copy(update={"speed_scale": min(step.speed_scale, speed)})
        for step, speed in zip(plan.steps, speeds, strict=True)
    ]
    return plan.model_copy(update={"steps": steps})


def paces(plan: TaskPlan, allowed: float) -> tuple[float, ...]:
    """The share of the speed of each step: its own or what is allowed for the whole plan, whichever is less."""
    return tuple(min(allowed, step.speed_scale) for step in plan.steps)
