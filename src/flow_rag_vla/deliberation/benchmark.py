# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What a deliberation costs, stage by stage, beside the bare call of its provider, and what becomes of known commands.

Deliberations and bare calls alternate: what the machine does to one it does to the other.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from flow_rag_vla.core.goal import GOALS
from flow_rag_vla.deliberation.checks import check_plan
from flow_rag_vla.deliberation.deliberation import Deliberation
from flow_rag_vla.deliberation.limits import simulated_limits
from flow_rag_vla.deliberation.planners import FolderRecall, LanguagePlanner
from flow_rag_vla.deliberation.scene import simulated_scene
from flow_rag_vla.deliberation.stages import STAGES, Outcome, Question
from flow_rag_vla.llm.prompts import make_request
from flow_rag_vla.llm.registry import make_provider
from flow_rag_vla.llm.request import deadline_in
from flow_rag_vla.llm.schemas import TaskPlan
from flow_rag_vla.llm.service import LanguageModel
from flow_rag_vla.llm.task_language.held_out import Command
from flow_rag_vla.llm.task_language.reader import read_command
from flow_rag_vla.sim.scene import sample_scene

DEADLINE_S = 30.0
_WARM_UP = 5


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured.

    stages: milliseconds of each stage, its turn in the pipeline included: median and mean; the means add up
    whole_ms, bare_ms: medians of a deliberation and of the provider's bare call, same commands
    checks_per_second: plans checked in full, against robot, scene and words
    plans: how many of the known commands were planned correctly, refused though they can be done, planned wrongly, and
        how many of the correct ones ask a person first
    wrong: the commands that were planned wrongly
    """

    rounds: int
    stages: dict[str, tuple[float, float]]
    whole_ms: float
    whole_mean_ms: float
    bare_ms: float
    bare_mean_ms: float
    checks_per_second: float
    plans: dict[str, int]
    wrong: tuple[str, ...]

    @property
    def ratio(self) -> float:
        """A deliberation's median over that of the bare call."""
        return self.whole_ms / self.bare_ms


def measure(rounds: int, commands: Sequence[Command], progress: Callable[[int, int], None] | None = None) -> Figures:
    """Deliberate ``rounds`` times over the tasks in a simulated scene, then over each known command without one.

    Args:
        rounds: at least 1; beside each runs one bare call.
        commands: with the steps that they mean.
        progress: hears (done, of all).
    """
    return asyncio.run(_measured(rounds, commands, progress or (lambda done, total: None)))


async def _measured(rounds: int, commands: Sequence[Command], progress: Callable[[int, int], None]) -> Figures:
    model = LanguageModel(make_provider("rules"))
    deliberation = Deliberation(LanguagePlanner(model), recall=FolderRecall())
    robot, total = simulated_limits(), rounds + len(commands)
    questions = [
        Question(
            "bench", goal.instruction, robot, simulated_scene(sample_scene(goal.task, "plain", 3, goal)), DEADLINE_S
        )
        for goal in GOALS
    ]
    took: dict[str, list[float]] = {stage: [] for stage in STAGES}
    whole: list[float] = []
    bare: list[float] = []
    for number in range(rounds + _WARM_UP):
        question = questions[number % len(questions)]
        counted = number >= _WARM_UP

        async def decides(question: Question = question, counted: bool = counted) -> None:
            begun: list[float] = []
            decision = await deliberation.decide(question, lambda _stage, _says: begun.append(time.perf_counter()))
            ended = time.perf_counter()
            if not decision.accepted:
                raise RuntimeError(f"{question.instruction!r} was not accepted: {decision.reason}")
            if counted:
                for stage, start, end in zip(STAGES, begun, [*begun[1:], ended], strict=True):
                    took[stage].append((end - start) * 1e3)
                whole.append((ended - begun[0]) * 1e3)

        async def asks(question: Question = question, counted: bool = counted) -> None:
            start = time.perf_counter()
            await model.ask(make_request(question.instruction, deadline_in(DEADLINE_S), TaskPlan))
            if counted:
                bare.append((time.perf_counter() - start) * 1e3)

        for work in (decides, asks) if number % 2 else (asks, decides):
            await work()
        progress(min(number + 1, rounds), total)
    plans = dict.fromkeys(("correct", "refused", "wrong", "asks a person"), 0)
    wrong: list[str] = []
    for number, command in enumerate(commands, 1):
        decision = await deliberation.decide(Question("bench", command.text, robot, None, DEADLINE_S))
        goals = () if decision.plan is None else decision.plan.goals
        # What nobody was there to approve is a plan that asks.
        may = decision.outcome in (Outcome.ACCEPTED, Outcome.REJECTED)
        if (goals if may else ()) == command.goals:
            plans["correct"] += 1
            plans["asks a person"] += decision.outcome is Outcome.REJECTED
        elif not may:
            plans["refused"] += 1
        else:
            plans["wrong"] += 1
            wrong.append(command.text)
        progress(rounds + number, total)
    await model.close()
    return Figures(
        rounds,
        {stage: (statistics.median(times), statistics.fmean(times)) for stage, times in took.items()},
        statistics.median(whole),
        statistics.fmean(whole),
        statistics.median(bare),
        statistics.fmean(bare),
        _checks_per_second(questions, rounds),
        plans,
        tuple(wrong),
    )


def _checks_per_second(questions: Sequence[Question], rounds: int) -> float:
    plans = [(question, read_command(question.instruction)) for question in questions]
    started = time.perf_counter()
    for _ in range(rounds):
        for question, plan in plans:
            report = check_plan(plan, question.scene, question.robot, instruction=question.instruction)
            assert report.passed
    return rounds * len(plans) / (time.perf_counter() - started)


def held_out_file() -> Path:
    """The list of known commands; it lies in the checkout, beside the tests.

    Raises:
        FileNotFoundError: where there is no checkout.
    """
    path = Path(__file__).resolve().parents[3] / "test" / "llm" / "held_out_commands.tsv"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there; run this in a checkout of the project")
    return path
