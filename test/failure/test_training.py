# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Labels from ground truth, and how the rules are scored against them."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.core.goal import GOALS, task_names
from flow_rag_vla.learn.failure_rollouts import FailureEpisode, Plan, Trouble, draw_plan, draw_troubles, run_episode
from flow_rag_vla.learn.failure_truth import TrueFailure
from flow_rag_vla.learn.rule_scores import Tally, is_reported
from flow_rag_vla.sim.perturbation import Perturbation, PerturbationKind
from flow_rag_vla.sim.scene import sample_scene
from flow_rag_vla.sim.world import World


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    with World() as world:
        yield world


def episode(failure_ticks: list[int], success: bool = True) -> FailureEpisode:
    truth = tuple(TrueFailure(tick, "missed", FailureType.GRASP_FAILURE) for tick in failure_ticks)
    return FailureEpisode(GOALS[0], "plain", 0, success, 80, truth, ())


@pytest.mark.parametrize("task", task_names())
def test_an_undisturbed_success_has_nothing_wrong_in_truth(world, task):
    result = run_episode(world, Plan(sample_scene(task, "plain", 11)), np.random.default_rng(0), limit=480)
    assert result.clean
    assert result.reports == ()


def test_a_committed_miss_is_seen_by_truth_and_rules_alike(world):
    plan = Plan(sample_scene("pick_and_place", "plain", 3), (Trouble("committed_miss", 0, 45, (0.008, 0.004, 0.0)),))
    result = run_episode(world, plan, np.random.default_rng(0))
    assert [failure.kind for failure in result.truth][:1] == ["missed"]
    assert is_reported(result.truth[0], result)
    assert result.reports[0].failure_type is FailureType.GRASP_FAILURE


def test_a_plunge_is_a_collision_for_truth_and_rules_alike(world):
    plan = Plan(sample_scene("stack", "plain", 5), (Trouble("plunge", 2, 40),))
    result = run_episode(world, plan, np.random.default_rng(0))
    kinds = {failure.kind for failure in result.truth}
    types = {report.failure_type for report in result.reports}
    assert ("pressed" in kinds) == (FailureType.COLLISION in types)


def test_a_slip_is_a_failure_for_truth_and_rules_alike(world):
    perturbation = Perturbation(PerturbationKind.SLIP, 5, 20.0)
    result = run_episode(
        world, Plan(sample_scene("pick_and_place", "plain", 4), perturbation=perturbation), np.random.default_rng(0)
    )
    assert {report.failure_type for report in result.reports} <= {FailureType.GRASP_FAILURE, FailureType.DROP}
    assert result.reports
    assert all(is_reported(failure, result) for failure in result.truth)


def test_a_frozen_arm_and_a_shoved_one_are_no_failures_by_themselves(world):
    troubles = (Trouble("freeze", 3, 20), Trouble("shove", 30, 5, (0.0, 0.0, 0.004)))
    result = run_episode(world, Plan(sample_scene("push", "plain", 4), troubles), np.random.default_rng(0), limit=400)
    assert result.clean
    assert result.reports == ()


def test_plans_are_functions_of_their_seed_and_troubles_come_as_often_as_asked():
    assert draw_plan("push", 5, 1.0) == draw_plan("push", 5, 1.0)
    calm = [draw_plan("stack", seed, 0.0) for seed in range(20)]
    wild = [draw_plan("stack", seed, 1.0) for seed in range(20)]
    assert all(not plan.troubles and plan.perturbation is None for plan in calm)
    assert all(plan.troubles or plan.perturbation is not None for plan in wild)
    assert all(1 <= len(draw_troubles(np.random.default_rng(seed))) <= 2 for seed in range(20))


def test_a_tally_counts_false_alarms_only_on_clean_success():
    tally = Tally()
    tally.add(episode([]))
    tally.add(episode([5]))
    tally.add(episode([], success=False))
    assert (tally.episodes, tally.success, tally.clean, tally.false_alarms) == (3, 2, 1, 0)
    assert dict(tally.failures) == {"missed": 1}
