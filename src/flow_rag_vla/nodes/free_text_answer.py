# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What was answered to a command in free words: one known task, or why not."""

from __future__ import annotations

from flow_rag_vla.control.pace import invalid_pace
from flow_rag_vla.core.goal import GOALS, UnknownTaskError
from flow_rag_vla.deliberation.reading import second_reading
from flow_rag_vla.llm.schemas import PlanStep, TaskPlan
from flow_rag_vla.llm.task_language.reader import read_command
from flow_rag_vla.nodes.deliberation_messages import plan_of
from flow_rag_vla_interfaces import msg
from flow_rag_vla_interfaces.action import DeliberateTask
from flow_rag_vla_interfaces.srv import Ask

_FLOAT32 = 1e-6
"""What a number below 1 may lose on its way."""


def step_of(instruction: str, answer: Ask.Response) -> PlanStep:
    """The one task that a language model's answer means, if it is clear, and its speed.

    Raises:
        UnknownTaskError: if there is no answer or no plan, it is refused, is more than one task or is read in two ways.
    """
    if not answer.ok:
        raise UnknownTaskError(f"the language model does not say what {instruction!r:.200} means: {answer.message}")
    plan = _plan(instruction, answer.plan, "the language model")
    if not plan.accepted:
        raise UnknownTaskError(f"instruction {instruction!r:.200} is refused ({plan.refusal}): {plan.reason}")
    step = _one(instruction, plan)
    doubts = second_reading(instruction, plan)
    if doubts:
        raise UnknownTaskError(
            f"instruction {instruction!r:.200} needs a person's look ({doubts[0]}); use the action deliberate_task"
        )
    return step


def grammar_step(instruction: str) -> PlanStep:
    """The one task that the grammar alone reads in an instruction, and its speed.

    Raises:
        UnknownTaskError: if it refuses the words, or they are more than one task.
    """
    plan = read_command(instruction)
    if not plan.accepted:
        known = "; ".join(goal.instruction for goal in GOALS)
        raise UnknownTaskError(
            f"instruction {instruction!r:.200} is refused ({plan.refusal}): {plan.reason}; without the node llm only a "
            f"grammar reads it, which knows: {known}"
        )
    return _one(instruction, plan)


def decided_step(instruction: str, decision: DeliberateTask.Result) -> PlanStep:
    """The one task that a deliberation lets the robot do, at the speed that it allows.

    Raises:
        UnknownTaskError: if it accepted nothing, more than one task, or something that is no plan.
    """
    said = f"instruction {instruction!r:.200}"
    if decision.outcome != DeliberateTask.Result.OUTCOME_ACCEPTED:
        outcome = "withdrawn" if decision.outcome == DeliberateTask.Result.OUTCOME_CANCELED else decision.outcome
        raise UnknownTaskError(f"{said} is {outcome or 'held'}: {decision.reason or 'no reason was given'}")
    plan = _plan(instruction, decision.plan, "the deliberation")
    if not plan.accepted:
        raise UnknownTaskError(f"{said} is held: what was accepted is a refusal ({plan.refusal})")
    step = _one(instruction, plan)
    allowed = float(decision.speed_scale)
    problem = invalid_pace(allowed)
    if problem is not None:
        raise UnknownTaskError(f"{said} is held: of what the deliberation allows, {problem}")
    return step.model_copy(update={"speed_scale": min(step.speed_scale, allowed + _FLOAT32)})


def _plan(instruction: str, plan: msg.TaskPlan, whose: str) -> TaskPlan:
    try:
        return plan_of(plan)
    except ValueError as error:
        raise UnknownTaskError(f"{whose} gave no plan for {instruction!r:.200}: {error}") from None


def _one(instruction: str, plan: TaskPlan) -> PlanStep:
    if len(plan.goals) != 1:
        steps = "; then ".join(goal.instruction for goal in plan.goals)
        raise UnknownTaskError(
            f"instruction {instruction!r:.200} is {len(plan.goals)} tasks ({steps}) and an episode is one; ask for "
            "them one by one, or use flow_rag_vla ask --run"
        )
    return plan.steps[0]
