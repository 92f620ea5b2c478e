# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from flow_rag_vla.core.goal import GOALS
from flow_rag_vla.data.demonstrations import read_shard
from flow_rag_vla.learn.collect import (
    CollectSettings,
    NoiseBursts,
    collect,
    collect_jobs,
    displaced_start,
    record_episode,
    run_collect_job,
)
from flow_rag_vla.learn.samples import (
    chunk_samples,
    frames_of,
    joined_frames,
    joined_samples,
    read_samples,
    write_samples,
)
from flow_rag_vla.learn.still_scenes import posed_scene
from flow_rag_vla.policy.observation import ENTITIES, ENTITY_DIM
from flow_rag_vla.sim.camera import SceneRenderer
from flow_rag_vla.sim.kinematics import tool_pose
from flow_rag_vla.sim.scene import sample_scene
from flow_rag_vla.sim.world import World

QUICK = CollectSettings(frame_ticks=8)


@pytest.fixture(scope="module")
def world():
    with World() as made:
        yield made


def record(world: World, goal, seed: int = 0, settings: CollectSettings = QUICK):
    rng = np.random.default_rng(seed)
    spec = sample_scene(goal.task, "plain", seed, goal)
    return record_episode(world, spec, NoiseBursts(settings, rng), rng, settings)


def test_an_episode_holds_frames_at_their_distance_and_truth_for_what_is_there(world) -> None:
    item = record(world, GOALS[0])
    assert item.success
    assert np.array_equal(item.frame_ticks, np.arange(0, len(item.actions), 8))
    assert item.images["front"].shape == (len(item.frame_ticks), 128, 128, 3)
    assert item.images["wrist"].shape == (len(item.frame_ticks), 96, 96, 3)
    there = np.isfinite(item.poses[0]).all(axis=1)
    assert {name for name, found in zip(ENTITIES, there, strict=True) if found} == {
        "red_cube", "blue_box", "yellow_cylinder", "bin",
    }  # fmt: skip


def test_the_same_seed_records_the_same_episode(world) -> None:
    first, second = record(world, GOALS[5], seed=3), record(world, GOALS[5], seed=3)
    assert np.array_equal(first.states, second.states)
    assert np.array_equal(first.images["wrist"], second.images["wrist"])


def test_disturbed_actions_are_marked_and_everything_else_is_the_experts(world) -> None:
    wild = replace(QUICK, burst_gap=10.0, gripper_share=0.0)
    item = record(world, GOALS[5], seed=4, settings=wild)
    calm = record(world, GOALS[5], seed=4, settings=replace(wild, burst_gap=1e9))
    assert not item.usable.all()
    assert calm.usable.all()
    first_push = int(np.argmin(item.usable))
    assert np.array_equal(item.actions[:first_push], calm.actions[:first_push])
    assert not np.array_equal(item.actions[first_push], calm.actions[first_push])


def test_samples_come_only_from_undisturbed_windows(world) -> None:
    item = record(world, GOALS[5], seed=4, settings=replace(QUICK, burst_gap=20.0))
    frames = frames_of(item)
    embeddings = np.arange(len(frames), dtype=np.float32)[:, None]
    samples = chunk_samples(item, frames, embeddings, 16)
    wanted = [index for index, tick in enumerate(item.frame_ticks) if item.usable[tick : tick + 16].all()]
    assert samples.embedding[:, 0].tolist() == wanted
    assert samples.chunks.shape == (len(wanted), 16, 5)
    joined = joined_samples([samples, samples])
    assert len(joined) == 2 * len(samples)
    assert len(joined_frames([frames, frames]).take(slice(0, 3))) == 3


def test_kept_samples_are_read_as_they_were(world, tmp_path) -> None:
    item = record(world, GOALS[5], seed=4)
    frames = frames_of(item)
    samples = chunk_samples(item, frames, np.ones((len(frames), 2), np.float32), 16)
    write_samples(tmp_path / "samples.npz", samples)
    read = read_samples(tmp_path / "samples.npz")
    for name in ("embedding", "proprioception", "goal", "chunks", "reading"):
        assert np.array_equal(getattr(read, name), getattr(samples, name))


def test_a_displaced_start_lies_over_the_table(world) -> None:
    spec = sample_scene("stack", "plain", 0)
    for seed in range(20):
        position, _ = tool_pose(np.array(displaced_start(spec, np.random.default_rng(seed)).start_joints))
        assert 0.35 < position[0] < 0.65 and abs(position[1]) < 0.29 and 0.12 < position[2] < 0.35


def test_posed_scenes_say_truly_where_things_are_and_offer_no_action() -> None:
    for goal in (GOALS[0], GOALS[3], GOALS[5]):
        with SceneRenderer(sample_scene(goal.task, "plain", 0, goal)) as renderer:
            item = posed_scene(goal, 7, 5, np.random.default_rng(0), renderer)
        frames = frames_of(item)
        assert not item.usable.any() and not len(chunk_samples(item, frames, np.zeros((5, 2), np.float32), 16))
        places = frames.reading.reshape(5, len(ENTITIES), ENTITY_DIM)[..., :3] + item.states[:, None, :3]
        assert np.allclose(places[frames.present], item.poses[..., :3][frames.present], atol=1e-5)
        assert len({picture.tobytes() for picture in item.images["front"]}) == 5


def test_jobs_cover_every_goal_and_seed_once() -> None:
    # "stack" is not named: a task of one's own is not either, until it is to be trained.
    jobs = collect_jobs({"pick_and_place": 5, "push": 2, "open_drawer": 3}, "x", episodes_per_job=2)
    seen = [(job.goal, seed) for job in jobs for seed in job.seeds]
    assert len(seen) == len(set(seen)) == 3 * 5 + 2 + 3
    assert len({job.shard for job in jobs}) == len(jobs)


def test_a_job_writes_its_shard_and_is_not_done_twice(tmp_path) -> None:
    counts = {"pick_and_place": 0, "push": 0, "stack": 0, "open_drawer": 2}
    jobs = collect_jobs(counts, tmp_path, settings=QUICK)
    seen: list[tuple[int, int, str]] = []
    reports = collect(jobs, workers=1, progress=lambda *a: seen.append(a))
    (path,) = tmp_path.glob("*.npz")
    assert len(read_shard(path)) == reports[0].successes > 0
    assert seen[0][:2] == (1, 1)
    assert collect(jobs, workers=1) == []


def test_posed_jobs_write_frames_without_actions(tmp_path) -> None:
    (job,) = collect_jobs({"pick_and_place": 0, "push": 2, "stack": 0, "open_drawer": 0}, tmp_path, posed_frames=3)
    report = run_collect_job(job)
    assert report.frames == 6
    assert not any(item.usable.any() for item in read_shard(job.shard))
