# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Trials of the simulated robot, one process."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from flow_rag_vla.core.goal import task_names
from flow_rag_vla.evaluate.rollout import RolloutSettings, rollout
from flow_rag_vla.evaluate.trials.bank import CaseBank
from flow_rag_vla.evaluate.trials.collection import collect_bank
from flow_rag_vla.evaluate.trials.homing import homeward
from flow_rag_vla.evaluate.trials.lessons import expert_chunk
from flow_rag_vla.evaluate.trials.plan import make_plan
from flow_rag_vla.evaluate.trials.protocol import FRESH, ONLINE, Start, Trial, TrialError
from flow_rag_vla.evaluate.trials.scenes import DISPLACED_BY, DISPLACED_TURN, scene_of
from flow_rag_vla.evaluate.trials.simulated import RETRIES
from flow_rag_vla.evaluate.trials.simulated_spec import SimulatedSpec, simulated_spec
from flow_rag_vla.evaluate.trials.variants import parse_all
from flow_rag_vla.policy.encoders import make_encoder
from flow_rag_vla.policy.policy import FlowPolicy
from flow_rag_vla.sim.scene import sample_scene
from flow_rag_vla.sim.world import World

DONE = Start(200_001, 200_001)


@pytest.fixture(scope="module")
def spec(tmp_path_factory) -> SimulatedSpec:
    return simulated_spec("push", "held_out_strip", workspace=tmp_path_factory.mktemp("online"))


@pytest.fixture(scope="module")
def bench(spec: SimulatedSpec):
    bench = spec.build()
    yield bench
    bench.close()


@pytest.fixture(scope="module")
def failing(bench, spec: SimulatedSpec) -> Start:
    """The first start at which the shipped policy alone fails: at the very first one, with the present weights."""
    for seed in range(200_000, 200_020):
        if not bench.run(Trial(spec.key, "off", Start(seed, seed))).success:
            return Start(seed, seed)
    pytest.fail("the shipped policy does the held-out strip now: choose a harder scene for these tests")


def test_an_episode_without_memory_is_a_plain_rollout(bench, spec: SimulatedSpec) -> None:
    result = bench.run(Trial(spec.key, "off", DONE))
    with World() as world:
        plain = rollout(world, FlowPolicy.load(), make_encoder("compact"), "push", "held_out_strip", DONE.seed)
    assert (result.success, result.ticks, result.duration, result.observations, result.starved_ticks) == (
        plain.success, plain.ticks, plain.duration_s, plain.chunks, plain.starved_ticks,
    )  # fmt: skip
    assert result.policy.startswith("shipped@")


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_retry_follows_a_failure_only(bench, spec: SimulatedSpec, failing: Start) -> None:
    alone, again = (bench.run(Trial(spec.key, name, failing)) for name in ("off", "retry"))
    assert not alone.success
    assert alone.failures
    assert again.retries >= 1
    # Up to the first failure nothing has changed.
    assert again.failures[0] == alone.failures[0]


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_rewind_follows_a_failure_only_and_goes_through_the_policy(
    bench, spec: SimulatedSpec, failing: Start
) -> None:
    alone, again = (bench.run(Trial(spec.key, name, failing)) for name in ("off", "rewind"))
    assert again.failures[0] == alone.failures[0]
    assert 1 <= again.retries <= RETRIES
    # The arm is led back through chunks of the policy, and tries again away from what failed; no case has a say.
    modes = {item.mode: item for item in again.interventions}
    assert set(modes) == {"guidance", "negative"}
    assert all(item.observations >= 1 and item.case_ids == () for item in modes.values())
    assert again.repeatable == bench.run(Trial(spec.key, "rewind", failing)).repeatable
    # Where nothing fails it is as if it were not there.
    for seed in range(200_001, 200_020):
        untouched = bench.run(Trial(spec.key, "off", Start(seed, seed)))
        if not untouched.failures:
            break
    assert not untouched.failures, "something fails in every episode now: choose an easier scene for this"
    same = bench.run(Trial(spec.key, "rewind", untouched.trial.start))
    assert (same.success, same.ticks, same.retries, same.interventions) == (True, untouched.ticks, 0, ())


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_memory_that_grows_begins_as_none_and_learns_from_its_failures(
    bench, spec: SimulatedSpec, failing: Start
) -> None:
    alone = bench.run(Trial(spec.key, "off", failing))
    first = bench.run(Trial(spec.key, "online+guide", failing, ONLINE, 0))
    # Until its first failure it knows nothing.
    assert first.cases == 0
    assert first.failures[0] == alone.failures[0]
    second = bench.run(Trial(spec.key, "online+guide", failing, ONLINE, 1))
    assert second.cases > 0
    assert second.corrected > 0
    folder = Path(str(spec.workspace)) / spec.key.replace("/", "_") / "online+guide"
    bank = CaseBank(folder)
    assert [item.success for item in bank.episodes] == [first.success, second.success]
    for case in bank.cases():
        assert case.correction_source == "expert"
        assert case.correction is not None
        assert case.correction.shape == case.failed_actions.shape
    repeated = bench.run(Trial(spec.key, "online+guide", failing, ONLINE, 1))
    assert repeated.repeatable == second.repeatable


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_collected_bank_goes_on_where_it_stopped_and_disturbs_no_episode(
    spec: SimulatedSpec, bench, failing: Start, tmp_path: Path
) -> None:
    seen = []
    failed = collect_bank(tmp_path, [spec], 1, failing.seed, progress=lambda done, total, result: seen.append(result))
    assert failed == 1
    # Expert labels were taken in the middle of the episode; its course is the same.
    assert seen[-1].repeatable == bench.run(Trial(spec.key, "off", failing)).repeatable
    failed = collect_bank(tmp_path, [spec], 2, failing.seed)
    bank = CaseBank(tmp_path)
    assert [item.start for item in bank.episodes] == [failing, Start(failing.seed + 1, failing.seed + 1)]
    assert failed == sum(not item.success for item in bank.episodes)
    assert not list(tmp_path.glob("before-*"))
    with pytest.raises(TrialError, match="another folder"):
        collect_bank(tmp_path, [spec], 2, failing.seed + 7)
    known = simulated_spec("push", "held_out_strip", cases=tmp_path)
    assert known.failed_starts()[0] == failing
    with pytest.raises(TrialError, match=f"seed {failing.seed}"):
        make_plan([known], parse_all("guide"), episodes=1, first_seed=failing.seed)
    with pytest.raises(TrialError, match="has 2 known episodes"):
        make_plan([known], parse_all("guide:3"), episodes=1, first_seed=5)
    plan = make_plan([known], parse_all("guide:1"), episodes=1, first_seed=5, repeats=1)
    assert len(plan.trials) == 2 + 2 * 2 * failed


@pytest.mark.parametrize("task", task_names())
def test_a_nearby_start_differs_by_a_little_in_what_the_task_is_about(task: str) -> None:
    for seed in range(5):
        there, near, other = (scene_of(task, "held_out_strip", Start(seed, 0, number)) for number in (0, 1, 2))
        assert there == sample_scene(task, "held_out_strip", seed)
        assert near == scene_of(task, "held_out_strip", Start(seed, 99, 1))
        assert near != other
        if there.drawer is not None and near.drawer is not None:
            moved = [(there.drawer, near.drawer)]
        else:
            moved = [(a, b) for a, b in zip(there.objects, near.objects, strict=True) if a != b]
            assert [a.name for a, _ in moved] == [there.goal.target]
        ((before, after),) = moved
        assert 0.0 < math.dist(before.position, after.position) <= DISPLACED_BY + 1e-9
        assert abs(before.yaw - after.yaw) <= DISPLACED_TURN


def test_an_experts_chunk_leaves_the_world_as_it_was() -> None:
    scene = sample_scene("push", "plain", 3)
    with World() as world:
        world.reset(scene)
        moment = world.save()
        first = expert_chunk(world, scene, moment, 16)
        assert first.shape == (16, 7)
        assert world.ticks == 0
        np.testing.assert_array_equal(expert_chunk(world, scene, moment, 16), first)


def test_the_way_home_opens_the_hand_then_rises_then_goes_across() -> None:
    scene = sample_scene("push", "plain", 3)
    with World() as world:
        home = world.reset(scene)
        low = world.robot_state()
        assert homeward(low, home, 0)[6] == 1.0
        assert not homeward(low, home, 0)[:6].any()
        from dataclasses import replace

        down = replace(low, position=home.position + np.array([0.1, 0.05, -0.2]))
        rising = homeward(down, home, 50)
        assert rising[2] > 0
        assert not rising[:2].any()
        level = homeward(replace(low, position=home.position + np.array([0.1, 0.0, 0.0])), home, 50)
        assert level[0] < 0


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: simulated_spec("push", "plain", source="oracle"), "expert, later_success"),
        (lambda: simulated_spec("push", "plain", cases="/nowhere/at/all"), "--collect"),
    ],
)
def test_a_bench_that_cannot_be_is_refused(call, reason: str) -> None:
    with pytest.raises(TrialError, match=reason):
        call()


def test_where_folders_lie_decides_no_result() -> None:
    one = SimulatedSpec("push", "plain", "a@1", cases="/one", cases_revision="r", settings=RolloutSettings())
    other = SimulatedSpec("push", "plain", "a@1", cases="/other", cases_revision="r", settings=RolloutSettings())
    assert one.describe() == other.describe()
    assert one.describe() != SimulatedSpec("push", "plain", "a@1", cases="/one", cases_revision="s").describe()
    assert Trial(one.key, "off", DONE).block == FRESH
