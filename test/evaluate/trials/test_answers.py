# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What each method of the memory answers, from real cases in a real memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from flow_rag_vla.core.action import CorrectionMode
from flow_rag_vla.core.correction import Correction
from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.core.goal import GOALS
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.evaluate.trials.answers import ANSWERS, AnswerContext, EpisodeContext, memory_stamp
from flow_rag_vla.evaluate.trials.bank import TemporaryMemory
from flow_rag_vla.evaluate.trials.protocol import Start
from flow_rag_vla.evaluate.trials.variants import methods
from flow_rag_vla.memory.case import FailureCase
from flow_rag_vla.memory.patience import PatienceSettings
from flow_rag_vla.policy.encoders import Encoder, make_encoder
from flow_rag_vla.policy.policy import FlowPolicy
from flow_rag_vla.policy.sampler import Attraction, draw

STATE = RobotState(0, np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0]), gripper_width=0.0)
GOAL = GOALS[0]


@pytest.fixture(scope="module")
def encoder() -> Encoder:
    return make_encoder("compact")


@pytest.fixture(scope="module")
def policy() -> FlowPolicy:
    return FlowPolicy.load()


def situation(encoder: Encoder, number: int) -> np.ndarray:
    vector = np.random.default_rng(number).normal(size=encoder.dimension)
    return (vector / np.linalg.norm(vector)).astype(np.float32)


@pytest.fixture
def known(encoder: Encoder, policy: FlowPolicy) -> FailureCase:
    actions = np.zeros((policy.horizon, 7), dtype=np.float32)
    actions[:, 0] = 0.004
    wanted = actions.copy()
    wanted[:, 1] = 0.003
    return FailureCase(
        FailureType.COLLISION, "push", "reach", encoder.name, encoder.revision, situation(encoder, 1), actions, wanted,
        "expert", case_id=5,
    )  # fmt: skip


@pytest.fixture
def ask(encoder: Encoder, policy: FlowPolicy) -> Iterator[object]:
    held: list[TemporaryMemory] = []

    def answer(name: str, cases: list[FailureCase], number: int = 1, phase: str = "reach") -> Correction:
        held.append(TemporaryMemory(cases))
        context = AnswerContext(held[-1].memory, memory_stamp(encoder), policy, encoder, GOAL)
        found = ANSWERS[name](context)
        found.begin(EpisodeContext("push", lambda: phase, Start(0, 0)))
        correction = found(situation(encoder, number), STATE, GOAL, 25)
        assert correction is not None
        assert correction.stamp_ns == 25
        return correction

    yield answer
    for memory in held:
        memory.close()


@pytest.mark.parametrize(
    ("name", "mode"),
    [
        ("dispatch", CorrectionMode.GUIDANCE), ("guide", CorrectionMode.GUIDANCE),
        ("sequential", CorrectionMode.GUIDANCE), ("negative", CorrectionMode.NEGATIVE),
        ("residual", CorrectionMode.RESIDUAL), ("blend", CorrectionMode.BLEND),
        ("rag_only", CorrectionMode.BLEND), ("prior", CorrectionMode.GUIDANCE),
    ],
)  # fmt: skip
def test_each_method_acts_in_its_own_way_and_names_its_case(ask, known, name: str, mode: CorrectionMode) -> None:
    correction = ask(name, [known])
    assert (correction.mode, correction.case_ids) == (mode, (5,))
    if mode in (CorrectionMode.GUIDANCE, CorrectionMode.RESIDUAL) or name == "rag_only":
        np.testing.assert_allclose(correction.actions, known.correction)
    if name == "blend":
        np.testing.assert_allclose(correction.actions[:, 0], 0.8 * 0.004, rtol=1e-5)
    if name == "negative":
        np.testing.assert_allclose(correction.failed_actions[0], known.failed_actions)


@pytest.mark.parametrize("name", ["dispatch", "guide", "negative", "residual", "blend", "sequential", "prior"])
def test_nothing_credible_changes_nothing(ask, known, name: str) -> None:
    for cases, number, phase in (([], 1, "reach"), ([known], 2, "reach"), ([known], 1, "grasp"),
                                 ([replace(known, task="stack")], 1, "reach")):  # fmt: skip
        assert ask(name, cases, number, phase).mode is CorrectionMode.NONE


@pytest.mark.parametrize("name", ["guide", "prior", "residual"])
def test_methods_that_need_a_correction_leave_a_case_without_one_alone(ask, known, name: str) -> None:
    assert ask(name, [replace(known, correction=None, correction_source="")]).mode is CorrectionMode.NONE


def test_without_a_flow_the_robot_stands_still_where_nothing_is_known(ask, known) -> None:
    still = ask("rag_only", [replace(known, task="stack")])
    assert still.mode is CorrectionMode.BLEND
    assert not np.asarray(still.actions).any()
    assert ask("rag_only", [known], 2).case_ids == (5,)


@pytest.mark.parametrize(("name", "lets_go"), [("consensus", True), ("by_cause", True), ("steadfast", False)])
def test_the_consensus_lets_go_of_an_arm_that_it_leads_nowhere(
    encoder, policy, known, name: str, lets_go: bool
) -> None:
    second = 1_000_000_000
    settings = PatienceSettings()
    with TemporaryMemory([known]) as held:
        context = AnswerContext(held.memory, memory_stamp(encoder), policy, encoder, GOAL)
        answer = ANSWERS[name](context)
        for _ in range(2):
            # Each episode begins afresh.
            answer.begin(EpisodeContext("push", lambda: "reach", Start(0, 0)))
            led = {
                tenth * second // 10: answer(situation(encoder, 1), STATE, GOAL, tenth * second // 10)
                for tenth in range(30)
            }
            silent = [at for at, found in led.items() if found is not None and found.mode is CorrectionMode.NONE]
            assert silent == ([at for at in led if at >= settings.lead_ns] if lets_go else [])


def test_only_the_sequential_pathway_pays_for_its_search(encoder, policy) -> None:
    with TemporaryMemory([]) as held:
        context = AnswerContext(held.memory, memory_stamp(encoder), policy, encoder, GOAL)
        delays = {name: make(context).delay_ticks for name, make in ANSWERS.items()}
    assert {name for name, delay in delays.items() if delay} == {"sequential"}


def test_every_method_with_cases_has_answers_here() -> None:
    assert {method.name for method in methods() if method.needs_cases} <= set(ANSWERS)


def test_a_prior_begins_the_flow_from_the_noised_correction(ask, known) -> None:
    assert ask("prior", [known]).strength == 1.0
    rows, steps, shape = torch.linspace(-1.0, 1.0, 12).reshape(3, 4), 6, (3, 4)

    def velocity(point: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        return torch.sin(3.0 * point) + time[:, None, None]

    drawn = draw(
        velocity, shape, torch.Generator().manual_seed(4), samples=1, steps=steps,
        attraction=Attraction(rows, torch.ones(3), 1.0),
    )  # fmt: skip
    # The early part of the flow are the three steps that begin before EARLY_FRACTION.
    noise = torch.randn((1, *shape), generator=torch.Generator().manual_seed(4))
    point = 0.5 * noise + 0.5 * rows
    for step in range(3, steps):
        point = point + velocity(point, torch.full((1,), step / steps)) / steps
    torch.testing.assert_close(drawn.chosen, point[0])
