# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The structures that can be asked for by name.

Bounds are tight on purpose: a short answer is a cheap and a quick one, and what a bound refuses cannot reach a robot.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator
from typing_extensions import Self

from flow_rag_vla.core.goal import GOALS, Goal
from flow_rag_vla.llm.errors import BadRequestError
from flow_rag_vla.llm.feasibility import conflict

Task = Literal["pick_and_place", "push", "stack", "open_drawer"]
Target = Literal["red_cube", "blue_box", "yellow_cylinder", "drawer"]
Refusal = Literal[
    "none",
    "not_understood",
    "negated",
    "conditional",
    "question",
    "ambiguous",
    "incomplete",
    "unknown_object",
    "impossible",
]

Line = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Word = Annotated[str, StringConstraints(min_length=1, max_length=60)]
Share = Annotated[float, Field(ge=0.0, le=1.0, allow_inf_nan=False)]


class Structure(BaseModel):
    """What all structures have in common: immutable, closed."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class PlanStep(Structure):
    """One task of the robot, at a share of the speed that is allowed otherwise: never at more."""

    task: Task
    target: Target
    speed_scale: float = Field(
        default=1.0,
        gt=0.0,
        le=1.0,
        allow_inf_nan=False,
        description="share of the speed at which it is done; 1 unless the words ask for less",
    )

    @model_validator(mode="after")
    def _known(self) -> Self:
        if Goal(self.task, self.target) not in GOALS:
            targets = ", ".join(goal.target for goal in GOALS if goal.task == self.task)
            raise ValueError(f"task {self.task} has no target {self.target}; its targets: {targets}")
        return self

    @property
    def goal(self) -> Goal:
        """The step as the goal that policies are conditioned on."""
        return Goal(self.task, self.target)

    @property
    def spoken(self) -> str:
        """The step in words, with its speed if that is not the whole."""
        slower = "" if self.speed_scale == 1.0 else f" at {self.speed_scale:.0%} of the speed"
        return f"{self.goal.instruction}{slower}"


class TaskPlan(Structure):
    """Steps in order, or a refusal with its reason: never both, never neither."""

    steps: list[PlanStep] = Field(max_length=8)
    refusal: Refusal
    reason: str = Field(max_length=400, description="why it is refused, in one sentence; empty otherwise")

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if bool(self.steps) == (self.refusal != "none"):
            raise ValueError("a plan has steps and refusal 'none', or no steps and a refusal")
        if self.refusal != "none" and not self.reason.strip():
            raise ValueError("a refusal says its reason")
        problem = conflict(self.goals)
        if problem:
            raise ValueError(problem)
        return self

    @property
    def goals(self) -> tuple[Goal, ...]:
        """The steps as goals."""
        return tuple(step.goal for step in self.steps)

    @property
    def accepted(self) -> bool:
        """Whether there is something to do."""
        return self.refusal == "none"


class LabelPrompt(Structure):
    """What an open-vocabulary detector is asked to look for."""

    phrases: list[Word] = Field(min_length=1, max_length=16, description="noun phrases in English, singular")


class SeenObject(Structure):
    """One thing in a scene."""

    name: Word
    colour: Annotated[str, StringConstraints(max_length=30)]
    place: Line
    certainty: Share


class SceneDescription(Structure):
    """What stands where."""

    objects: list[SeenObject] = Field(max_length=24)
    summary: Annotated[str, StringConstraints(min_length=1, max_length=400)]


class Offset(Structure):
    """A correction of the tool's path, base frame, millimetres."""

    dx_mm: int = Field(ge=-50, le=50)
    dy_mm: int = Field(ge=-50, le=50)
    dz_mm: int = Field(ge=-50, le=50)


DIAGNOSIS_QUESTION = "Why did this attempt fail, and what might be tried? similar_cases are numbers of given cases."
"""How a :class:`FailureDiagnosis` is asked for: of a running model, and in what one is fine-tuned on."""


class FailureDiagnosis(Structure):
    """Why something went wrong, and what might be tried. A proposal: it acts only after a check."""

    failure: Word
    cause: Line
    evidence: list[Line] = Field(min_length=1, max_length=6, description="each with the value it rests on")
    similar_cases: list[Annotated[int, Field(ge=1)]] = Field(max_length=5)
    proposal: Literal["retry", "offset", "regrasp", "slower", "ask_a_person"]
    offset: Offset
    certainty: Share


class RuleFinding(Structure):
    """One building rule against one plan."""

    rule: Word = Field(description="number of the retrieved rule, such as R2")
    status: Literal["met", "violated", "cannot_tell"]
    spaces: list[Word] = Field(max_length=12)
    finding: Line


class DesignEvaluation(Structure):
    """How good a plan is beyond the rules."""

    strengths: list[Line] = Field(max_length=6)
    weaknesses: list[Line] = Field(max_length=6)
    score: int = Field(ge=0, le=100)


class FloorPlanAnalysis(Structure):
    """A floor plan's topology against retrieved rules."""

    compliance: list[RuleFinding] = Field(min_length=1, max_length=16)
    design_evaluation: DesignEvaluation
    summary: Annotated[str, StringConstraints(min_length=1, max_length=600)]


SCHEMAS: dict[str, type[Structure]] = {
    schema.__name__: schema for schema in (TaskPlan, LabelPrompt, SceneDescription, FailureDiagnosis, FloorPlanAnalysis)
}
"""What can be asked for by name."""


def schema_named(name: str) -> type[Structure]:
    """A built-in structure.

    Raises:
        BadRequestError: with the known ones.
    """
    try:
        return SCHEMAS[name]
    except KeyError:
        raise BadRequestError(f"unknown schema {name!r}; known: {', '.join(SCHEMAS)}") from None
