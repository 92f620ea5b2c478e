# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What each of the seven stages takes and gives, and who is asked in them.

perceive -> interpret -> recall -> check -> score -> approve -> summarise. Each value holds the one before it, so a
stage sees everything that came earlier and nothing else.
"""

from __future__ import annotations

import enum
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Protocol

import numpy as np
from pydantic import BaseModel

from flow_rag_vla.deliberation.checks import CheckReport
from flow_rag_vla.deliberation.likeness import NEWEST, Sought
from flow_rag_vla.deliberation.limits import RobotLimits
from flow_rag_vla.deliberation.scene import Scene
from flow_rag_vla.deliberation.score import Experience, PlanScore
from flow_rag_vla.deliberation.urgency import Urgency
from flow_rag_vla.llm.request import Message
from flow_rag_vla.llm.schemas import TaskPlan

STAGES = ("perceive", "interpret", "recall", "check", "score", "approve", "summarise")
"""In their order."""

LONGEST_LABEL_WORDS = 6
"""Words of a label above which it may be meant for a language model: names of things are shorter."""


class Outcome(str, enum.Enum):
    """How a deliberation ended. Only the first lets the robot move."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    """The plan must not be done."""
    REJECTED = "rejected"
    """A person said no."""
    HELD = "held"
    """There was no valid plan in time, or something failed."""
    CANCELED = "canceled"


@dataclass(frozen=True, slots=True)
class Question:
    """What a deliberation begins with.

    instruction: the operator's words; deadline: seconds for everything, a person's answer included
    deliberation_id: names it in the log
    """

    deliberation_id: str
    instruction: str
    robot: RobotLimits
    scene: Scene | None = None
    deadline: float = 30.0


@dataclass(frozen=True, slots=True)
class Perceived:
    """What there is to go by. quoted: the scene as data; warnings: labels that are no names of things."""

    question: Question
    quoted: tuple[Message, ...]
    warnings: tuple[str, ...]
    urgency: Urgency


@dataclass(frozen=True, slots=True)
class Planned:
    """What a language model made of the words."""

    plan: TaskPlan
    provider: str
    model: str


@dataclass(frozen=True, slots=True)
class Interpreted:
    """A plan that nothing was held against yet."""

    perceived: Perceived
    planned: Planned


@dataclass(frozen=True, slots=True)
class SimilarFailure:
    """A remembered failure of a task of the plan.

    similarity: cosine to the present, by ``measure`` (see ``likeness``); None if it was not compared
    """

    case_id: int
    task: str
    phase: str
    failure: str
    corrected_by: str
    uses: int
    successes: int
    similarity: float | None = None
    measure: str = NEWEST


@dataclass(frozen=True, slots=True)
class Past:
    """What is known of the past.

    similar: the most alike first; problems: logs that could not be read
    newest: why some of ``similar`` are the newest or compared in words only; empty if none are
    """

    experience: Experience = field(default_factory=Experience)
    similar: tuple[SimilarFailure, ...] = ()
    problems: tuple[str, ...] = ()
    newest: str = ""


@dataclass(frozen=True, slots=True)
class Recalled:
    """A plan and what is known of such tasks."""

    interpreted: Interpreted
    past: Past


@dataclass(frozen=True, slots=True)
class Checked:
    """A plan and what the checks came to."""

    recalled: Recalled
    report: CheckReport


@dataclass(frozen=True, slots=True)
class Scored:
    """A plan and its score. questions: why a person is asked; none: nobody is."""

    checked: Checked
    score: PlanScore
    questions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Approval:
    """What a person said. by: who; reason: theirs."""

    approved: bool
    by: str = ""
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Judged:
    """A scored plan and what a person said of it; None: nobody was asked."""

    scored: Scored
    approval: Approval | None


@dataclass(frozen=True, slots=True)
class Decision:
    """How a deliberation ended.

    reason: one sentence; plan, report, score, urgency: as far as it came
    speed_scale: share of the commanded speed at which the plan may be done; a step's own may be less
    stage: the last one that was begun
    """

    deliberation_id: str
    outcome: Outcome
    reason: str
    stage: str
    speed_scale: float = 1.0
    plan: TaskPlan | None = None
    report: CheckReport | None = None
    score: PlanScore | None = None
    urgency: Urgency = field(default_factory=Urgency)
    approval: Approval | None = None
    provider: str = ""
    model: str = ""
    similar: tuple[SimilarFailure, ...] = ()
    summary: str = ""

    @property
    def accepted(self) -> bool:
        """Whether the robot may do the plan."""
        return self.outcome is Outcome.ACCEPTED and self.plan is not None


class Planner(Protocol):
    """Turns words into a plan; see ``planners``."""

    async def plan(self, instruction: str, data: Sequence[Message], deadline: float) -> Planned:
        """The plan that the words mean; ``deadline`` is seconds from now.

        Raises:
            Exception: of any kind; the robot then holds.
        """
        ...


class Recaller(Protocol):
    """Looks into logs and memories. Called in a thread of its own."""

    def __call__(self, tasks: Sequence[str], sought: Sought) -> Past:
        """What is known of these tasks, and which failures of them are like what is sought."""
        ...


class Approver(Protocol):
    """Asks a person."""

    async def approve(self, scored: Scored) -> Approval:
        """What they said; waits for as long as it takes."""
        ...


def plain(value: Any) -> Any:
    """A value of a stage as JSON values, for the log. Numbers that JSON lacks become null."""
    if isinstance(value, BaseModel):
        return plain(value.model_dump(mode="json"))
    if is_dataclass(value) and not isinstance(value, type):
        return {entry.name: plain(getattr(value, entry.name)) for entry in fields(value)}
    if isinstance(value, enum.Enum):
        return value.value
    if isinstance(value, dict) or hasattr(value, "items"):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple, frozenset)):
        return [plain(item) for item in value]
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else None
    return value


def suspicious_labels(scene: Scene | None) -> tuple[str, ...]:
    """Labels that are no names of things, each in one sentence: somebody may have written them for a model to read."""
    things = () if scene is None else scene.things
    return tuple(
        f"a label in the scene reads like a text: {thing.name!r}"
        for thing in things
        if len(thing.name.split()) > LONGEST_LABEL_WORDS
    )
