# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Demonstrations from the scripted expert, disturbed on the way so that recovering is demonstrated too.

What a policy meets in a closed loop is its own small errors. Short bursts of noise (and, in a second round, of an
earlier policy) carry the robot there; the expert then shows the way back. A burst's own actions, and every chunk that
would contain one, are never learned: a policy that learns from noisy labels answers noise that nobody made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.control.integrator import TargetIntegrator
from flow_rag_vla.core.action import ACTION_DIM, CONTROL_RATE_HZ, GRIPPER, TRANSLATION, YAW
from flow_rag_vla.core.goal import GOALS, Goal
from flow_rag_vla.core.processes import worker_pool
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.data.demonstrations import STATE_DIM, Demonstration, state_row, write_shard
from flow_rag_vla.learn.progress import Progress, silent
from flow_rag_vla.learn.still_scenes import posed_scene
from flow_rag_vla.learn.truth import entity_poses
from flow_rag_vla.policy.encoders import make_encoder
from flow_rag_vla.policy.follower import ChunkFollower
from flow_rag_vla.policy.observation import ENTITIES
from flow_rag_vla.policy.policy import FlowPolicy
from flow_rag_vla.sim.camera import FRONT, WRIST, SceneRenderer
from flow_rag_vla.sim.expert import ScriptedExpert
from flow_rag_vla.sim.kinematics import downward_joints
from flow_rag_vla.sim.scene import SceneSpec, sample_scene
from flow_rag_vla.sim.tasks import TASK_RULES
from flow_rag_vla.sim.world import World


@dataclass(frozen=True, slots=True)
class CollectSettings:
    """How episodes are made. Ticks of 25 ms.

    frame_ticks: distance of camera frames
    start_share: share of episodes that begin with the tool anywhere over the table
    burst_gap: mean ticks between bursts; burst_ticks: shortest and longest burst
    burst_step: metres a tick, at most; burst_turn: radians a tick, at most
    gripper_share: share of noise bursts that also flip the gripper (missed grasps, drops)
    policy_ticks: shortest and longest burst of an earlier policy
    after_ticks: how long an episode goes on after success
    """

    frame_ticks: int = 4
    start_share: float = 0.5
    burst_gap: float = 45.0
    burst_ticks: tuple[int, int] = (3, 9)
    burst_step: float = 0.010
    burst_turn: float = 0.05
    gripper_share: float = 0.2
    policy_ticks: tuple[int, int] = (20, 70)
    after_ticks: int = 16


class Disturber(Protocol):
    """Takes the robot away from the expert now and then."""

    def observe(self, tick: int, images: Mapping[str, NDArray[np.uint8]], state: RobotState) -> None:
        """See a camera frame."""

    def action(self, tick: int, state: RobotState, wanted: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """(7,) float32 instead of the expert's ``wanted``, or None to let the expert act."""


class NoiseBursts:
    """Pushes in one random direction for a few ticks, sometimes with the gripper flipped."""

    def __init__(self, settings: CollectSettings, rng: np.random.Generator) -> None:
        self._settings, self._rng = settings, rng
        self._next = int(rng.exponential(settings.burst_gap))
        self._end = -1
        self._push = np.zeros(ACTION_DIM, dtype=np.float32)
        self._flip = False

    def observe(self, tick: int, images: Mapping[str, NDArray[np.uint8]], state: RobotState) -> None:
        """Noise sees nothing."""

    def action(self, tick: int, state: RobotState, wanted: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """The expert's action plus the push while a burst lasts."""
        settings, rng = self._settings, self._rng
        if self._end < tick and tick >= self._next:
            direction = rng.normal(size=3)
            direction *= settings.burst_step * rng.uniform(0.3, 1.0) / max(float(np.linalg.norm(direction)), 1e-9)
            self._push[TRANSLATION] = direction
            self._push[YAW] = settings.burst_turn * rng.uniform(-1.0, 1.0)
            self._flip = bool(rng.random() < settings.gripper_share)
            self._end = tick + int(rng.integers(settings.burst_ticks[0], settings.burst_ticks[1] + 1)) - 1
            self._next = self._end + 1 + int(rng.exponential(settings.burst_gap))
        if tick > self._end:
            return None
        action = wanted + self._push
        if self._flip:
            action[GRIPPER] = 1.0 - wanted[GRIPPER]
        return action.astype(np.float32)


class PolicyBursts:
    """Lets an earlier policy act for a while, so that its own errors are met and mended."""

    def __init__(self, follower: ChunkFollower, settings: CollectSettings, rng: np.random.Generator) -> None:
        self._follower, self._settings, self._rng = follower, settings, rng
        # The first burst begins with the episode: that is where a policy begins too.
        self._begin = 0
        self._end = self._length()

    def observe(self, tick: int, images: Mapping[str, NDArray[np.uint8]], state: RobotState) -> None:
        """The policy plans on while it acts or is about to."""
        if self._begin - self._settings.frame_ticks <= tick < self._end:
            self._follower.observe(tick, images, state)

    def action(self, tick: int, state: RobotState, wanted: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """The policy's action while a burst lasts."""
        if tick >= self._end:
            self._begin = tick + 16 + int(self._rng.exponential(self._settings.burst_gap))
            self._end = self._begin + self._length()
        if tick < self._begin:
            return None
        return self._follower.action(tick, state)

    def _length(self) -> int:
        low, high = self._settings.policy_ticks
        return int(self._rng.integers(low, high + 1))


def record_episode(
    world: World, spec: SceneSpec, disturber: Disturber, rng: np.random.Generator, settings: CollectSettings
) -> Demonstration:
    """Run the expert with a disturber over one scene and keep what happened."""
    state = world.reset(spec)
    expert = ScriptedExpert(world, spec.goal, rng)
    integrator = TargetIntegrator()
    states: list[NDArray[np.float32]] = []
    actions: list[NDArray[np.float32]] = []
    usable: list[bool] = []
    frame_ticks: list[int] = []
    pictures: dict[str, list[NDArray[np.uint8]]] = {"front": [], "wrist": []}
    poses: list[NDArray[np.float32]] = []
    limit = round(1.5 * TASK_RULES[spec.task].time_limit_s * CONTROL_RATE_HZ)
    tick, end = 0, limit
    succeeded = False
    while tick < end:
        if tick % settings.frame_ticks == 0:
            images = {"front": world.render(FRONT), "wrist": world.render(WRIST)}
            for camera, image in images.items():
                pictures[camera].append(image)
            frame_ticks.append(tick)
            poses.append(entity_poses(spec, world.scene_state()))
            disturber.observe(tick, images, state)
        wanted = expert.action()
        other = None if succeeded else disturber.action(tick, state, wanted)
        states.append(state_row(state))
        usable.append(other is None)
        actions.append(wanted if other is None else other)
        target, _, _ = integrator.advance(actions[-1], state)
        state = world.step(target)
        tick += 1
        if not succeeded and world.success():
            succeeded, end = True, min(limit, tick + settings.after_ticks)
    return Demonstration(
        goal=spec.goal,
        variant=spec.variant,
        seed=spec.seed,
        success=succeeded,
        states=np.stack(states).reshape(-1, STATE_DIM),
        actions=np.stack(actions).astype(np.float32),
        usable=np.array(usable, dtype=np.bool_),
        frame_ticks=np.array(frame_ticks, dtype=np.int32),
        images={camera: np.stack(images) for camera, images in pictures.items()},
        entities=ENTITIES,
        poses=np.stack(poses),
    )


def displaced_start(spec: SceneSpec, rng: np.random.Generator) -> SceneSpec:
    """The scene with the tool anywhere over the table, above what stands there."""
    tool = np.array([rng.uniform(0.36, 0.64), rng.uniform(-0.28, 0.28), rng.uniform(0.13, 0.34)])
    start = tuple(float(joint) for joint in downward_joints(tool, rng.uniform(-0.7, 0.7)))
    return replace(spec, start_joints=start)


@dataclass(frozen=True, slots=True)
class CollectJob:
    """One shard: episodes of one goal.

    seeds: of the scenes; shard: file to write; seed: of noise and starts
    checkpoint, encoder: an earlier policy whose bursts disturb, or None for noise
    """

    goal: Goal
    seeds: tuple[int, ...]
    shard: str
    seed: int = 0
    settings: CollectSettings = field(default_factory=CollectSettings)
    checkpoint: str | None = None
    encoder: str | None = None
    posed_frames: int = 0
    """Frames of each posed scene; 0 records demonstrations."""


@dataclass(frozen=True, slots=True)
class CollectReport:
    """What a job made."""

    goal: Goal
    episodes: int
    successes: int
    ticks: int
    frames: int


def run_collect_job(job: CollectJob) -> CollectReport:
    """Record a job's episodes and write its shard; those that the expert did not finish are left out."""
    import torch

    torch.set_num_threads(1)
    if job.posed_frames:
        return _run_posed_job(job)
    settings = job.settings
    policy = encoder = None
    if job.checkpoint is not None and job.encoder is not None:
        policy, encoder = FlowPolicy.load(job.checkpoint), make_encoder(job.encoder)
    kept: list[Demonstration] = []
    with World() as world:
        for seed in job.seeds:
            rng = np.random.default_rng([job.seed, job.goal.index, seed, 0 if policy is None else 1])
            spec = sample_scene(job.goal.task, "plain", seed, job.goal)
            if rng.random() < settings.start_share:
                spec = displaced_start(spec, rng)
            disturber: Disturber
            if policy is not None and encoder is not None:
                follower = ChunkFollower(policy, encoder, job.goal, seed=int(rng.integers(2**31)))
                disturber = PolicyBursts(follower, settings, rng)
            else:
                disturber = NoiseBursts(settings, rng)
            demonstration = record_episode(world, spec, disturber, rng, settings)
            if demonstration.success:
                kept.append(demonstration)
    return _written(job, kept)


def _run_posed_job(job: CollectJob) -> CollectReport:
    kept: list[Demonstration] = []
    with SceneRenderer(sample_scene(job.goal.task, "plain", job.seeds[0], job.goal)) as renderer:
        for seed in job.seeds:
            rng = np.random.default_rng([job.seed, job.goal.index, seed, 2])
            kept.append(posed_scene(job.goal, seed, job.posed_frames, rng, renderer))
    return _written(job, kept)


def _written(job: CollectJob, kept: list[Demonstration]) -> CollectReport:
    if kept:
        write_shard(job.shard, kept)
    return CollectReport(
        job.goal,
        len(job.seeds),
        len(kept),
        sum(item.states.shape[0] for item in kept),
        sum(item.frame_ticks.shape[0] for item in kept),
    )


def collect_jobs(
    episodes: Mapping[str, int],
    folder: str | Path,
    *,
    first_seed: int = 0,
    seed: int = 0,
    settings: CollectSettings | None = None,
    checkpoint: str | None = None,
    encoder: str | None = None,
    posed_frames: int = 0,
    episodes_per_job: int = 20,
) -> list[CollectJob]:
    """Jobs for ``episodes`` of every goal, by task, goals interleaved; a task that is not named gets none."""
    jobs: list[list[CollectJob]] = []
    for goal in GOALS:
        count = episodes.get(goal.task, 0)
        seeds = range(first_seed, first_seed + count)
        jobs.append(
            [
                CollectJob(
                    goal,
                    tuple(seeds[first : first + episodes_per_job]),
                    str(Path(folder) / f"{goal.task}-{goal.target}-{first_seed + first:05d}.npz"),
                    seed,
                    settings or CollectSettings(),
                    checkpoint,
                    encoder,
                    posed_frames,
                )
                for first in range(0, count, episodes_per_job)
            ]
        )
    longest = max(len(items) for items in jobs)
    return [items[index] for index in range(longest) for items in jobs if index < len(items)]


def collect(jobs: Sequence[CollectJob], workers: int = 2, *, progress: Progress = silent) -> list[CollectReport]:
    """Run the jobs in ``workers`` processes; shards that are there already are not made again."""
    missing = [job for job in jobs if not Path(job.shard).is_file()]
    reports: list[CollectReport] = []

    def note(done: Iterable[CollectReport]) -> None:
        for report in done:
            reports.append(report)
            progress(len(reports), len(missing), f"{report.goal.task}: {report.successes}/{report.episodes}")

    if workers <= 1:
        note(map(run_collect_job, missing))
        return reports
    with worker_pool(workers) as pool:
        futures = [pool.submit(run_collect_job, job) for job in missing]
        note(future.result() for future in as_completed(futures))
    return reports
