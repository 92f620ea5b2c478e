# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Plans, checks and scores as messages, and scenes out of them."""

from __future__ import annotations

import math
from collections.abc import Sequence

from sensor_msgs.msg import CompressedImage

from flow_rag_vla.core.failure import Evidence, FailureType
from flow_rag_vla.deliberation.checks import Check, Finding
from flow_rag_vla.deliberation.diagnosis import Diagnosed, FailureSeen
from flow_rag_vla.deliberation.scene import Scene, Thing
from flow_rag_vla.deliberation.score import PlanScore, Term
from flow_rag_vla.deliberation.stages import Decision, Scored
from flow_rag_vla.llm.request import Picture
from flow_rag_vla.llm.schemas import TaskPlan
from flow_rag_vla.memory.images import CaseImage
from flow_rag_vla_interfaces import msg
from flow_rag_vla_interfaces.action import DeliberateTask

_FINDINGS = {
    Finding.PASSED: msg.PlanCheck.FINDING_PASSED,
    Finding.ASK: msg.PlanCheck.FINDING_ASK,
    Finding.REFUSED: msg.PlanCheck.FINDING_REFUSED,
}


def scene_of(things: Sequence[msg.SceneObject]) -> Scene:
    """The scene of a goal.

    Raises:
        SceneError: for what cannot be.
    """
    return Scene(
        tuple(
            Thing(
                thing.name,
                (thing.position.x, thing.position.y, thing.position.z) if thing.position_known else None,
                float(thing.certainty),
                thing.source,
                bool(thing.person),
            )
            for thing in things
        )
    )


def plan_of(message: msg.TaskPlan) -> TaskPlan:
    """A plan of the language model's node, validated again.

    Raises:
        ValueError: if it is none.
    """
    # float32 rounds 0.7 down; what rounds to 0 is refused.
    steps = [
        {"task": step.task, "target": step.target, "speed_scale": round(float(step.speed_scale), 6)}
        for step in message.steps
    ]
    return TaskPlan.model_validate({"steps": steps, "refusal": message.refusal, "reason": message.reason})


def plan_message(plan: TaskPlan) -> msg.TaskPlan:
    """Message of a plan."""
    steps = [
        msg.TaskStep(
            task=step.task, target=step.target, instruction=step.goal.instruction, speed_scale=step.speed_scale
        )
        for step in plan.steps
    ]
    return msg.TaskPlan(steps=steps, refusal=plan.refusal, reason=plan.reason)


def check_message(check: Check) -> msg.PlanCheck:
    """Message of one check."""
    return msg.PlanCheck(name=check.name, finding=_FINDINGS[check.finding], step=check.step, text=check.text)


def score_message(score: PlanScore) -> msg.PlanScore:
    """Message of a score; what is not known is NaN."""
    return msg.PlanScore(
        terms=[_term(term) for term in score.terms],
        vetoes=list(score.vetoes),
        score=_number(score.score),
        low=float(score.low),
        high=float(score.high),
    )


def review_message(deliberation_id: str, scored: Scored, time_left: float, *, is_open: bool) -> msg.PlanReview:
    """What a person is shown."""
    interpreted = scored.checked.recalled.interpreted
    return msg.PlanReview(
        deliberation_id=deliberation_id,
        open=is_open,
        instruction=interpreted.perceived.question.instruction,
        plan=plan_message(interpreted.planned.plan),
        questions=list(scored.questions),
        checks=[check_message(check) for check in scored.checked.report.checks],
        score=score_message(scored.score),
        speed_scale=float(interpreted.perceived.urgency.slowed(1.0)),
        time_left=float(time_left),
    )


def result_message(decision: Decision) -> DeliberateTask.Result:
    """How a deliberation ended. Steps are given only if the robot may do them."""
    result = DeliberateTask.Result(
        deliberation_id=decision.deliberation_id,
        outcome=decision.outcome.value,
        reason=decision.reason,
        stage=decision.stage,
        speed_scale=float(decision.speed_scale) if decision.accepted else 0.0,
        provider=decision.provider,
        model=decision.model,
        summary=decision.summary,
        similar_cases=[case.case_id for case in decision.similar],
    )
    if decision.plan is not None:
        if decision.accepted:
            result.plan = plan_message(decision.plan)
        else:
            result.plan.refusal, result.plan.reason = decision.plan.refusal, decision.plan.reason
    if decision.report is not None:
        result.checks = [check_message(check) for check in decision.report.checks]
    if decision.score is not None:
        result.score = score_message(decision.score)
    if decision.approval is not None and decision.approval.approved is True:
        result.approved_by = decision.approval.by
    return result


def failure_seen(event: msg.FailureEvent, wrench: Sequence[float] = ()) -> FailureSeen:
    """A failure event as the diagnosis takes it; a type of a newer interface is unknown."""
    known = event.failure_type in set(FailureType)
    evidence = tuple(
        Evidence(item.name, item.value, item.threshold, item.unit)
        for item in event.evidence
        if math.isfinite(item.value) and math.isfinite(item.threshold)
    )
    return FailureSeen(
        FailureType(event.failure_type if known else 0),
        event.task,
        event.phase,
        evidence,
        float(event.confidence),
        event.description,
        tuple(wrench),
    )


def failure_pictures(images: Sequence[CaseImage]) -> tuple[Picture, ...]:
    """What cameras showed at a failure, for its diagnosis."""
    return tuple(
        Picture(f"{image.name} camera when the failure showed", image.data, f"image/{image.format}") for image in images
    )


def image_message(picture: Picture) -> CompressedImage:
    """A picture as a question to the language model's node takes it."""
    message = CompressedImage(format=picture.media_type.partition("/")[2], data=picture.data)
    message.header.frame_id = picture.name
    return message


def diagnosis_message(event: msg.FailureEvent, diagnosed: Diagnosed) -> msg.FailureDiagnosis:
    """Message of a diagnosis."""
    diagnosis = diagnosed.diagnosis
    message = msg.FailureDiagnosis(
        header=event.header,
        event_id=event.event_id,
        episode_id=event.episode_id,
        failure=diagnosis.failure,
        cause=diagnosis.cause,
        evidence=list(diagnosis.evidence),
        similar_cases=list(diagnosis.similar_cases),
        proposal=diagnosis.proposal,
        certainty=float(diagnosis.certainty),
        source=diagnosed.source,
    )
    offset = diagnosis.offset
    message.offset.x, message.offset.y, message.offset.z = offset.dx_mm / 1e3, offset.dy_mm / 1e3, offset.dz_mm / 1e3
    return message


def _term(term: Term) -> msg.PlanTerm:
    return msg.PlanTerm(
        name=term.name,
        value=_number(term.value),
        unit=term.unit,
        low=float(term.low),
        high=float(term.high),
        good=_number(term.good),
        good_low=float(term.good_low),
        good_high=float(term.good_high),
        samples=term.samples,
        source=term.source,
    )


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
