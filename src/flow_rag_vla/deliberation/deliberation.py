# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""From words to a decision in seven stages, each a task of the pipeline: typed, logged, in time, or the robot holds.

Fail closed. A stage that raises, hangs, answers nonsense or is too late ends the deliberation with ``held`` and the
reason; so does a person who does not answer before the deadline. Nothing is guessed, and nothing of a stage that failed
is used. The tasks carry references: what a stage takes and gives is written to the log as it happens.
"""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flow_rag_vla.deliberation.care import as_careful_as_said, paces
from flow_rag_vla.deliberation.checks import CheckSettings, check_plan
from flow_rag_vla.deliberation.likeness import NEWEST, Sought
from flow_rag_vla.deliberation.score import ScoreSettings, score_plan
from flow_rag_vla.deliberation.stages import (
    STAGES,
    Approval,
    Approver,
    Checked,
    Decision,
    Interpreted,
    Judged,
    Outcome,
    Past,
    Perceived,
    Planned,
    Planner,
    Question,
    Recalled,
    Recaller,
    Scored,
    plain,
    suspicious_labels,
)
from flow_rag_vla.deliberation.urgency import Urgency, urgency_of
from flow_rag_vla.llm.schemas import TaskPlan
from flow_rag_vla.residency.messages import Status, TaskMessage
from flow_rag_vla.residency.pipeline import Pipeline

LONGEST_DEADLINE = 3600.0

RECALL_SHARE = 0.2
"""Part of the time that is left which may be spent on telling which failures are similar."""

OnStage = Callable[[str, str], None]
"""(name of a stage, one sentence): called as each begins, on the loop's thread."""


@dataclass(frozen=True, slots=True)
class DeliberationSettings:
    """How strict.

    ask_below: score (the lower end of its range where it is not known whole) below which a person is asked; 0: never
    log: file that gets a JSON line for each stage; None: none
    """

    checks: CheckSettings = field(default_factory=CheckSettings)
    score: ScoreSettings = field(default_factory=ScoreSettings)
    ask_below: float = 0.0
    log: Path | None = None

    def __post_init__(self) -> None:
        if not 0.0 <= self.ask_below <= 1.0:
            raise ValueError(f"ask_below is {self.ask_below}, expected 0 to 1")


class Nobody:
    """An approver where there is none: what asks a person is not done."""

    async def approve(self, scored: Scored) -> Approval:
        """Say no."""
        return Approval(False, "", "nobody is there to ask")


class _StageFailed(Exception):
    """A stage gave nothing; the text says which and why."""


class Deliberation:
    """Decides about commands. Any number at once, on one asyncio loop."""

    def __init__(
        self,
        planner: Planner,
        *,
        recall: Recaller | None = None,
        approver: Approver | None = None,
        settings: DeliberationSettings | None = None,
    ) -> None:
        """Decide with these.

        Args:
            planner: turns words into plans.
            recall: looks into logs and memories; None: nothing is known.
            approver: asks a person; None: nobody is there.
            settings: how strict.
        """
        self._planner, self._approver = planner, approver or Nobody()
        self._recall: Recaller = recall or (lambda tasks, sought: Past())
        self.settings = settings or DeliberationSettings()

    async def decide(self, question: Question, on_stage: OnStage | None = None) -> Decision:
        """The decision, at the deadline at the latest. Cancel the task to withdraw it; then nothing is decided.

        Raises:
            asyncio.CancelledError: when it is withdrawn. Nothing else.
        """
        run = _Run(self, question, on_stage)
        try:
            return await run.decide()
        finally:
            run.close()

    # The seven stages. What computes is a plain function, which the pipeline calls in a thread.

    def perceive(self, question: Question) -> Perceived:
        """Words and scene, the scene quoted."""
        quoted = question.scene.quoted() if question.scene is not None else ()
        return Perceived(question, quoted, suspicious_labels(question.scene), urgency_of(question.instruction))

    async def interpret(self, perceived: Perceived, remaining: float) -> Interpreted:
        """A first plan, by the language model."""
        planned = await self._planner.plan(perceived.question.instruction, perceived.quoted, remaining)
        if not isinstance(planned, Planned) or not isinstance(planned.plan, TaskPlan):
            raise TypeError(f"the planner gave {type(planned).__name__}, expected a plan")
        # Validated again, whoever made it: what a schema refuses does not get further.
        plan = TaskPlan.model_validate(planned.plan.model_dump())
        plan = as_careful_as_said(plan, perceived.question.instruction)
        return Interpreted(perceived, Planned(plan, planned.provider, planned.model))

    def recall(self, interpreted: Interpreted, remaining: float) -> Recalled:
        """What is known of the plan's tasks, in so many seconds."""
        tasks = tuple(dict.fromkeys(goal.task for goal in interpreted.planned.plan.goals))
        if not tasks:
            return Recalled(interpreted, Past())
        words = interpreted.perceived.question.instruction
        # What is nice to know may not cost the decision: most of the time is left to the stages after it.
        ends = time.monotonic() + RECALL_SHARE * remaining
        sought = Sought(interpreted.planned.plan.goals, words, ends=ends)
        return Recalled(interpreted, self._recall(tasks, sought))

    def check(self, recalled: Recalled) -> Checked:
        """The plan against robot, scene and words."""
        perceived = recalled.interpreted.perceived
        question = perceived.question
        report = check_plan(
            recalled.interpreted.planned.plan,
            question.scene,
            question.robot,
            instruction=question.instruction,
            speed_scale=perceived.urgency.slowed(1.0),
            settings=self.settings.checks,
        )
        return Checked(recalled, report)

    def score(self, checked: Checked) -> Scored:
        """The seven criteria, and why a person is asked."""
        interpreted = checked.recalled.interpreted
        perceived = interpreted.perceived
        score = score_plan(
            interpreted.planned.plan.goals,
            checked.report,
            perceived.question.scene,
            perceived.question.robot,
            checked.recalled.past.experience,
            # Of the step that is done fastest.
            speed_scale=max(paces(interpreted.planned.plan, perceived.urgency.slowed(1.0)), default=1.0),
            settings=self.settings.score,
        )
        questions = [*checked.report.questions, *perceived.warnings]
        if perceived.urgency.asks:
            words = ", ".join(perceived.urgency.words) or "its tone"
            questions.append(f"the command sounds alarmed ({words})")
        worst = score.score if score.score is not None and not score.unknown else score.low
        if worst < self.settings.ask_below:
            unknown = f"; not known: {', '.join(score.unknown)}" if score.unknown else ""
            questions.append(f"the score may be as low as {worst:.2f}, below {self.settings.ask_below:g}{unknown}")
        return Scored(checked, score, tuple(questions))

    async def approve(self, scored: Scored) -> Judged:
        """A person's word, where one is needed and nothing forbids the plan anyway."""
        if scored.score.vetoes or not scored.questions:
            return Judged(scored, None)
        approval = await self._approver.approve(scored)
        if not isinstance(approval, Approval):
            raise TypeError(f"the approver gave {type(approval).__name__}, expected an approval")
        return Judged(scored, approval)

    def summarise(self, judged: Judged) -> Decision:
        """The decision, and all of it in a few sentences."""
        scored = judged.scored
        interpreted = scored.checked.recalled.interpreted
        perceived, plan = interpreted.perceived, interpreted.planned.plan
        outcome, reason = Outcome.ACCEPTED, "; then ".join(step.spoken for step in plan.steps)
        if scored.score.vetoes:
            outcome, reason = Outcome.REFUSED, "; ".join(scored.score.vetoes)
        elif judged.approval is not None and judged.approval.approved is not True:
            said = f": {judged.approval.reason}" if judged.approval.reason else ""
            outcome, reason = Outcome.REJECTED, f"{judged.approval.by or 'nobody'} did not approve it{said}"
        elif scored.questions and judged.approval is None:
            outcome, reason = Outcome.HELD, f"a person was to be asked and was not: {scored.questions[0]}"
        decision = Decision(
            perceived.question.deliberation_id,
            outcome,
            reason,
            STAGES[-1],
            perceived.urgency.slowed(1.0),
            plan,
            scored.checked.report,
            scored.score,
            perceived.urgency,
            judged.approval,
            interpreted.planned.provider,
            interpreted.planned.model,
            scored.checked.recalled.past.similar,
            summary(judged, outcome, reason),
        )
        return decision


def summary(judged: Judged, outcome: Outcome, reason: str) -> str:
    """A decision in a few sentences, made of what was measured alone."""
    scored = judged.scored
    score, past = scored.score, scored.checked.recalled.past
    said = [f"{outcome.value}: {reason}."]
    if score.score is not None:
        said.append(f"Score {score.score:.2f} of the known criteria, between {score.low:.2f} and {score.high:.2f}.")
    if score.unknown:
        said.append(f"Not known: {', '.join(score.unknown)}.")
    if judged.approval is not None:
        verb = "approved" if judged.approval.approved is True else "did not approve"
        said.append(f"{judged.approval.by or 'Nobody'} {verb} it; asked because {scored.questions[0]}.")
    if past.similar:
        said.append(_of_failures(past))
    said += [f"Not read: {problem}." for problem in past.problems]
    return " ".join(said)


def _of_failures(past: Past) -> str:
    """Which remembered failures were looked at, and how alike they are."""
    kinds = ", ".join(sorted({case.failure for case in past.similar}))
    alike = [
        f"case {case.case_id} at {case.similarity:.2f} by {case.measure}"
        for case in past.similar
        if case.similarity is not None
    ]
    told = f"the most alike: {', '.join(alike)}" if alike else ""
    if any(case.measure == NEWEST for case in past.similar):
        told = f"{told}; the others are the newest" if told else "the newest, which may not be alike"
    why = f" ({past.newest})" if past.newest else ""
    return f"{len(past.similar)} remembered failures of such tasks: {kinds}; {told}{why}."


class _Run:
    """One deliberation under way."""

    def __init__(self, owner: Deliberation, question: Question, on_stage: OnStage | None) -> None:
        self._owner, self._question, self._on_stage = owner, question, on_stage
        self._pipeline = Pipeline(capacity=len(STAGES))
        self._ends = time.monotonic() + question.deadline if _is_time(question.deadline) else -math.inf
        self._stage = STAGES[0]
        self._urgency = Urgency()

    def close(self) -> None:
        """Withdraw whatever is under way."""
        self._pipeline.close()

    async def decide(self) -> Decision:
        """See ``Deliberation.decide``."""
        owner, question = self._owner, self._question
        try:
            if not _is_time(question.deadline):
                raise _StageFailed(
                    f"deadline is {question.deadline} s, expected above 0 and at most {LONGEST_DEADLINE:g}"
                )
            perceived = await self._run("perceive", question, lambda: owner.perceive(question))
            self._urgency = perceived.urgency

            async def interpret() -> Interpreted:
                return await owner.interpret(perceived, self._remaining)

            interpreted = await self._run("interpret", perceived, interpret)
            recalled = await self._run("recall", interpreted, lambda: owner.recall(interpreted, self._remaining))
            checked = await self._run("check", recalled, lambda: owner.check(recalled))
            scored = await self._run("score", checked, lambda: owner.score(checked))

            async def approve() -> Judged:
                return await owner.approve(scored)

            judged = await self._run("approve", scored, approve)
            decided: Decision = await self._run("summarise", judged, lambda: owner.summarise(judged))
            return decided
        except _StageFailed as failed:
            reason = str(failed)
            decision = Decision(
                question.deliberation_id, Outcome.HELD, reason, self._stage,
                self._urgency.slowed(1.0), urgency=self._urgency, summary=f"held: {reason}.",
            )  # fmt: skip
            await self._log("decision", question, decision, 0.0, "")
            return decision

    @property
    def _remaining(self) -> float:
        return self._ends - time.monotonic()

    async def _run(self, name: str, given: Any, work: Callable[[], Any]) -> Any:
        """One stage through the pipeline: what it gave, or why it gave nothing."""
        self._stage = name
        remaining = self._remaining
        if remaining <= 0.0:
            raise _StageFailed(f"the deadline of {self._question.deadline:g} s passed before the stage {name}")
        if self._on_stage is not None:
            self._on_stage(name, _SAYS[name])
        given_back: list[Any] = []
        if asyncio.iscoroutinefunction(work):

            async def waits(_task: TaskMessage) -> dict[str, Any]:
                given_back.append(await work())
                return {"type": type(given_back[0]).__name__}

            self._pipeline.register(name, waits, timeout_s=remaining)
        else:

            def computes(_task: TaskMessage) -> dict[str, Any]:
                given_back.append(work())
                return {"type": type(given_back[0]).__name__}

            self._pipeline.register(name, computes, timeout_s=remaining)
        started = time.monotonic()
        data = {"deliberation": self._question.deliberation_id, "type": type(given).__name__}
        result = await self._pipeline.submit(TaskMessage(name, type(given).__name__, data, step=name))
        error = ""
        if result.status is Status.TIMEOUT:
            error = f"no valid answer of the stage {name} before the deadline of {self._question.deadline:g} s"
        elif result.status is not Status.OK:
            error = f"the stage {name} failed ({result.error})"
        elif self._remaining <= 0.0:
            error = f"the deadline of {self._question.deadline:g} s passed in the stage {name}"
        output = None if error else given_back[0]
        await self._log(name, given, output, time.monotonic() - started, error)
        if error:
            raise _StageFailed(error)
        return output

    async def _log(self, name: str, given: Any, output: Any, seconds: float, error: str) -> None:
        path = self._owner.settings.log
        if path is None:
            return
        line = {
            "deliberation": self._question.deliberation_id,
            "stage": name,
            "number": STAGES.index(name) + 1 if name in STAGES else 0,
            "wall_ns": time.time_ns(),
            "seconds": round(seconds, 6),
            "input_type": type(given).__name__,
            "input": _own(given),
            "output_type": type(output).__name__ if output is not None else "",
            "output": _own(output),
            "error": error,
        }
        text = json.dumps(line, ensure_ascii=False, allow_nan=False, separators=(",", ":")) + "\n"
        try:
            # A log that cannot be written must not decide anything: neither for the plan nor against it.
            await asyncio.get_running_loop().run_in_executor(None, _append, path, text)
        except OSError:
            return


_SAYS = {
    "perceive": "quoting the scene",
    "interpret": "asking the language model",
    "recall": "looking into logs and memory",
    "check": "checking the plan",
    "score": "scoring the plan",
    "approve": "asking a person if one is needed",
    "summarise": "deciding",
}


def _own(value: Any) -> Any:
    """A stage's value without the stage before it, which has a line of its own, and without whole histories."""
    if value is None:
        return None
    if isinstance(value, Recalled):
        experience = value.past.experience
        return {
            "episodes": len(experience.facts),
            "tasks": sorted({fact.task for fact in experience.facts}),
            "cases": plain(experience.cases),
            "similar": plain(value.past.similar),
            "problems": plain(value.past.problems),
            "newest": value.past.newest,
        }
    earlier = {"question", "perceived", "interpreted", "recalled", "checked", "scored"}
    content = plain(value)
    if isinstance(value, (Perceived, Interpreted, Checked, Scored, Judged)):
        content = {key: item for key, item in content.items() if key not in earlier}
    return content


def _append(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a", encoding="utf-8") as stream:
        stream.write(text)


def _is_time(seconds: float) -> bool:
    return math.isfinite(seconds) and 0.0 < seconds <= LONGEST_DEADLINE
