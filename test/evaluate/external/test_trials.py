# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import dataclasses
import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from flow_rag_vla.evaluate.external import bench as bench_module
from flow_rag_vla.evaluate.external.bench import Admission, ExternalBench, ExternalBenchSpec, read_admission
from flow_rag_vla.evaluate.external.cases import DoneWell
from flow_rag_vla.evaluate.external.environment import ExternalError
from flow_rag_vla.evaluate.external.labels import Labels, label_visits
from flow_rag_vla.evaluate.external.preparation import (
    FAILURE_SEEDS,
    FAILURES_FILE,
    SETTINGS_FILE,
    FailureBank,
    Preparation,
    load_bank,
    load_prepared,
    prepare,
    save_bank,
)
from flow_rag_vla.evaluate.external.rollout import EpisodeSettings, Visit, run_episode
from flow_rag_vla.evaluate.external.study import is_external, prepared_benches
from flow_rag_vla.evaluate.external.training import ExternalTraining
from flow_rag_vla.evaluate.trials.plan import make_plan
from flow_rag_vla.evaluate.trials.protocol import Start, Trial, TrialError
from flow_rag_vla.evaluate.trials.session import run_plan
from flow_rag_vla.evaluate.trials.variants import parse_all


@pytest.fixture
def prepared(prepared_folder):
    return load_prepared(prepared_folder)


@pytest.fixture
def point_bench(prepared_folder, point_module, tmp_path):
    """A bench of a task that has no name to find it by, on a copy of the prepared folder."""
    folder = tmp_path / "prepared"
    shutil.copytree(prepared_folder, folder)
    home = lambda first: lambda state: np.clip((first["point"] - state["point"]) / point_module.STRIDE, -1, 1)  # noqa: E731
    task = point_module.point_task(home=home)
    spec = ExternalBenchSpec.of("test/point", folder)
    monkey = pytest.MonkeyPatch()
    monkey.setattr(bench_module, "external_task", lambda name, **_: task)
    bench = ExternalBench(spec, task)
    yield bench
    bench.close()
    monkey.undo()


def trial(variant, seed=FAILURE_SEEDS, noise=None, displaced=0):
    return Trial("b", variant, Start(seed, seed if noise is None else noise, displaced))


def test_failures_are_collected_with_corrections_that_were_seen_to_work(prepared, prepared_folder, point_module):
    bank = prepared.bank
    assert 0 < len(bank.failed_seeds) <= bank.episodes == 8
    assert bank.failures
    with point_module.point_task().make("state") as environment:
        for seed in bank.failed_seeds:
            assert not run_episode(environment, prepared.policy, seed).success
        # From where the policy stood, the correction leads nearer to the goal than what it was about to do.
        failure = bank.failures[0]
        ends = []
        for chunk in (failure.failed, failure.correction):
            environment.reset(failure.seed)
            core = environment._environment
            core.goal, core.point = failure.observation[:2].astype(float), failure.observation[2:].astype(float)
            for action in chunk:
                environment.step(action)
            ends.append(np.linalg.norm(core.point - core.goal))
        assert ends[1] < ends[0]


class Wrong:
    """Stands in for a policy that always does the same: half the largest step, along one axis."""

    horizon = 8

    def situation(self, observation):
        return np.asarray(observation, dtype=np.float32)

    def draw(self, situation, seed):
        return SimpleNamespace(chosen=torch.tensor([[0.5, 0.0]]).repeat(self.horizon, 1))


def away(environment, point=(-1.5, -1.5), goal=(1.5, 1.0)):
    """The start of an episode whose goal is some 20 steps away; what the policy would do there."""
    environment.reset(1)
    core = environment._environment
    core.point, core.goal = np.array(point), np.array(goal)
    return environment.step(np.zeros(2)).observation


def test_a_moment_from_which_the_expert_fails_too_is_not_labelled(environment, point_module):
    away(environment)
    visits = [
        Visit(0, np.zeros(4), np.full(4, float(number)), -np.ones((8, 2), dtype=np.float32), environment.snapshot())
        for number in range(4)
    ]
    options = {"execute": 100, "least_difference": 0.1, "apart": 0.1, "most": 9}
    arguments = (1, visits, Wrong())
    expert = point_module.straight_to_the_goal
    assert label_visits(environment, lambda state: np.full(2, 2.0), *arguments, **options) == Labels((), ())
    assert len(label_visits(environment, expert, *arguments, **options).wrong) == 4
    assert len(label_visits(environment, expert, *arguments, **{**options, "most": 2}).wrong) == 2
    assert len(label_visits(environment, expert, *arguments, **{**options, "apart": 9}).wrong) == 1
    alike = label_visits(environment, expert, *arguments, **{**options, "least_difference": 2.1})
    assert alike.wrong == () and alike.right == tuple(visits)


def test_the_way_out_of_a_failure_is_labelled_from_the_last_moment_that_could_be_mended(environment, point_module):
    policy = Wrong()
    observation = away(environment)
    visit = Visit(0, observation, observation, policy.draw(None, 0).chosen.numpy(), environment.snapshot())
    options = {"execute": 4, "least_difference": 0.1, "apart": 0.0, "most": 1}
    labels = label_visits(environment, point_module.straight_to_the_goal, 1, [visit], policy, **options).wrong
    assert [label.step for label in labels] == [*range(0, labels[-1].step + 1, 4)] and len(labels) > 5
    points = np.array([label.observation[2:] for label in labels])
    assert (np.diff(np.linalg.norm(points - observation[:2], axis=1)) < 0.0).all(), "nearer to the goal at each"
    for label in labels[:-2]:
        straight = np.clip((label.observation[:2] - label.observation[2:]) / point_module.STRIDE, -1.0, 1.0)
        np.testing.assert_allclose(label.correction[0], straight, atol=1e-5)
        np.testing.assert_array_equal(label.failed, visit.chunk)


def test_equal_trials_end_alike_whatever_ran_before(point_bench):
    first = point_bench.run(trial("residual", 50))
    for variant in ("off", "guide", "shuffled+residual", "retry", "dagger"):
        point_bench.run(trial(variant, 51))
    assert point_bench.run(trial("residual", 50)) == first
    assert point_bench.run(trial("residual", 50, noise=7)) != first


def test_the_policy_alone_and_a_retry_that_was_not_needed_are_one_episode(point_bench, prepared):
    for seed in range(60, 72):
        off, retry = point_bench.run(trial("off", seed)), point_bench.run(trial("retry", seed))
        assert off.interventions == ()
        if off.ticks <= 30:
            assert (off.success, off.ticks) == (retry.success, retry.ticks)
            assert retry.retries == 0
        else:
            assert retry.retries == 1


def test_a_memory_of_the_failed_start_is_used_there(point_bench, prepared):
    seed = prepared.bank.failures[0].seed
    result = point_bench.run(trial("residual", seed))
    assert result.cases > 0
    assert result.corrected > 0
    assert result.interventions[0].mode == "residual"
    assert point_bench.run(trial("residual:1", seed)).cases <= result.cases


def test_the_consensus_of_the_running_graph_acts_where_something_failed(point_bench, prepared):
    seed = prepared.bank.failures[0].seed
    result = point_bench.run(trial("consensus", seed))
    assert result.corrected > 0
    assert result.interventions[0].mode == "consensus"
    assert point_bench.run(trial("consensus", seed)) == result
    assert point_bench.run(trial("consensus:1", seed)).cases <= result.cases
    assert point_bench.run(trial("shuffled+consensus", seed)) != result


def test_a_memory_of_the_first_failures_knows_what_went_well_until_then():
    nothing = np.zeros(2, dtype=np.float32)
    done = tuple(DoneWell(seed, nothing, nothing, nothing) for seed in (10, 11, 13, 15))
    bank = FailureBank((), done, (12, 14), 6)
    assert [item.seed for item in bank.done_by(1)] == [10, 11]
    assert [item.seed for item in bank.done_by(2)] == [10, 11, 13]
    assert bank.done_by(None) == list(done)


def test_relations_of_a_task_are_what_its_situations_are_looked_up_by(point_bench, monkeypatch):
    seed = FAILURE_SEEDS
    plain = point_bench.run(trial("consensus", seed))
    monkeypatch.setattr(
        point_bench, "_task", dataclasses.replace(point_bench._task, relations=lambda seen: (seen[:2] - seen[2:]) / 0.3)
    )
    point_bench._memories.clear()
    related = point_bench.run(trial("consensus", seed))
    assert (related.ticks, related.interventions) != (plain.ticks, plain.interventions)
    memory = point_bench._memories[None, False, True]
    there = np.array([0.5, 0.5, 0.2, 0.2], dtype=np.float32)
    moved = there + 0.1
    np.testing.assert_allclose(memory._key_of(there, there), memory._key_of(moved, moved), atol=1e-5)


def test_a_displaced_start_is_another_and_the_same_each_time(point_bench):
    near = point_bench.run(trial("off", displaced=1))
    assert near == point_bench.run(trial("off", displaced=1))
    assert near.trial.key != trial("off").key


def test_a_variant_that_means_nothing_here_is_refused_before_it_runs(point_bench):
    for variant in ("online", "sequential"):
        with pytest.raises(TrialError, match="test/point"):
            point_bench.run(trial(variant))


def test_a_memory_that_hurts_is_not_admitted(point_bench, monkeypatch, tmp_path):
    assert Admission(10, 3, 2).admitted
    assert not Admission(10, 2, 2).admitted
    monkeypatch.setattr(ExternalBench, "_try_out", lambda self: Admission(10, 1, 4))
    result = point_bench.run(trial("dispatch"))
    assert (result.corrected, result.cases) == (0, 0)
    off = point_bench.run(trial("off"))
    assert (result.success, result.ticks) == (off.success, off.ticks)


def test_an_admission_is_kept_for_the_settings_that_it_was_made_with(tmp_path):
    path = tmp_path / "admission.json"
    assert read_admission(path, {"threshold": 0.7}) is None
    path.write_text(json.dumps({"settings": {"threshold": 0.7}, "episodes": 10, "helped": 4, "hurt": 1}))
    assert read_admission(path, {"threshold": 0.7}) == Admission(10, 4, 1)
    assert read_admission(path, {"threshold": 0.8}) is None
    path.write_text("{")
    assert read_admission(path, {"threshold": 0.7}) is None


def test_an_environment_that_breaks_on_the_way_ends_the_trial_with_its_reason(prepared, environment, point):
    point.breaks_after = 9
    result = run_episode(environment, prepared.policy, prepared.bank.failed_seeds[0])
    assert not result.success
    assert "is nan after step 9" in result.broken


def test_a_blind_retry_where_there_is_no_way_home_is_refused(prepared, environment):
    with pytest.raises(ExternalError, match="no way home"):
        run_episode(environment, prepared.policy, 0, settings=EpisodeSettings(retry_after=5))


def test_what_is_prepared_is_not_made_again_and_other_settings_are_refused(prepared_folder, point_module, tmp_path):
    folder = tmp_path / "prepared"
    shutil.copytree(prepared_folder, folder)
    told = []
    prepare(point_module.point_task(), load_prepared(folder).preparation, folder, told.append)
    assert told == []
    with pytest.raises(ExternalError, match=f"other settings.*{SETTINGS_FILE}"):
        prepare(point_module.point_task(), Preparation(3), folder)


def test_a_task_without_an_expert_says_what_is_missing(point_module, tmp_path):
    task = point_module.task_of("test/point", point_module.PointMass, success="info:success", step_limit=9)
    with pytest.raises(ExternalError, match="has no expert to demonstrate it"):
        prepare(task, Preparation(1), tmp_path)


@pytest.mark.parametrize("damage", ["cut", "nan", "lengths"])
def test_a_damaged_bank_is_refused(prepared, tmp_path, damage):
    path = tmp_path / FAILURES_FILE
    save_bank(prepared.bank, path)
    with np.load(path) as stored:
        arrays = dict(stored)
    if damage == "cut":
        path.write_bytes(path.read_bytes()[:300])
    else:
        arrays["corrections"] = arrays["corrections"][1:] if damage == "lengths" else arrays["corrections"] * np.nan
        np.savez(path, **arrays)
    with pytest.raises(ExternalError, match="prepare anew"):
        load_bank(path)


@pytest.mark.parametrize("workers", [1, 2])
def test_an_environment_of_gymnasium_goes_through_the_whole_protocol(tmp_path, workers):
    assert is_external("gym/MountainCarContinuous-v0")
    assert not is_external("push")
    training = ExternalTraining(horizon=8, iterations=60, batch=32, width=32, blocks=1)
    specs = prepared_benches(
        ["gym/MountainCarContinuous-v0"],
        tmp_path / "prepared",
        policy_seeds=[0, 1],
        preparation=Preparation(1, episodes=2, training=training),
        step_limit=200,
        workers=workers,
    )
    assert len({spec.policy for spec in specs}) == 2
    names = "guide,dagger" if all(spec.failed_starts() for spec in specs) else "dagger"
    plan = make_plan(specs, parse_all(names), episodes=2, first_seed=100_000)
    summary = run_plan(plan, tmp_path / "trials", workers=workers)
    assert summary.broken == ()
    (group,) = summary.groups
    assert (group.task, group.starts, group.incomplete) == ("gym/MountainCarContinuous-v0", 4, 0)
    assert {item.variant for item in group.variants} == {"off", *names.split(",")}
