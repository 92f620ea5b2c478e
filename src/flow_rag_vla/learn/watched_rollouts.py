# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The policy in closed loop, undisturbed or with a fault, seen as the failure monitor sees it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.control.integrator import TargetIntegrator
from flow_rag_vla.core.action import CONTROL_RATE_HZ, TICK_NS, TICK_S
from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.core.goal import Goal, check_task, task_names
from flow_rag_vla.core.processes import worker_pool
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.failure.detector import FailureDetector
from flow_rag_vla.failure.frame import Frame
from flow_rag_vla.failure.sample import Command, Episode
from flow_rag_vla.failure.trace import Origin, Trace, TraceInfo
from flow_rag_vla.learn.failure_rollouts import FRAME_TICKS
from flow_rag_vla.learn.failure_truth import FailureTruth
from flow_rag_vla.policy.encoders import Encoder, make_encoder
from flow_rag_vla.policy.follower import ChunkFollower
from flow_rag_vla.policy.policy import FlowPolicy
from flow_rag_vla.sim.camera import FRONT, WRIST
from flow_rag_vla.sim.failure_generator import FailureGenerator, Fault, faulty_scene, sample_fault
from flow_rag_vla.sim.perturbation import PERTURBATIONS, PerturbationKind
from flow_rag_vla.sim.scene import sample_scene
from flow_rag_vla.sim.tasks import TASK_RULES
from flow_rag_vla.sim.world import World

DELAY_TICKS = 3
"""Ticks from a picture to the first tick at which its chunk can be followed."""


@dataclass(frozen=True, slots=True)
class WatchedJob:
    """One episode to run. kind: name of a ``PerturbationKind``; "": undisturbed."""

    task: str
    seed: int
    kind: str = ""
    variant: str = "plain"


def success_jobs(episodes: int, first_seed: int, tasks: Sequence[str] | None = None) -> list[WatchedJob]:
    """Undisturbed episodes, tasks in turn."""
    names = [check_task(task) for task in tasks or task_names()]
    return [WatchedJob(names[seed % len(names)], seed) for seed in range(first_seed, first_seed + episodes)]


def fault_jobs(episodes: int, first_seed: int, kinds: Sequence[PerturbationKind] | None = None) -> list[WatchedJob]:
    """Episodes with a fault: kinds in turn, and for each kind its tasks in turn."""
    kinds = tuple(PerturbationKind) if kinds is None else tuple(kinds)
    jobs = []
    for number in range(episodes):
        kind = kinds[number % len(kinds)]
        tasks = PERTURBATIONS[kind].tasks
        jobs.append(WatchedJob(tasks[number // len(kinds) % len(tasks)], first_seed + number, kind.value))
    return jobs


def watched_rollout(world: World, policy: FlowPolicy, encoder: Encoder, job: WatchedJob) -> Trace:
    """Run one episode until success or the task's time limit.

    The fault, if any, is drawn from the seed. The same job gives the same trace, bit for bit on one machine.
    """
    rng = np.random.default_rng((job.seed, 11))
    fault: Fault | None = None
    spec = sample_scene(job.task, job.variant, job.seed)
    if job.kind:
        fault = sample_fault(PerturbationKind(job.kind), job.task, rng)
        spec = faulty_scene(spec, fault, rng)
    state = world.reset(spec)
    generator = None if fault is None else FailureGenerator(world, fault, rng)
    limit = round(TASK_RULES[job.task].time_limit_s * CONTROL_RATE_HZ)
    seen: list[NDArray[np.float32]] = []

    def note(embedding: NDArray[np.float32], state: RobotState, goal: Goal, stamp_ns: int) -> None:
        seen.append(embedding)

    follower = ChunkFollower(policy, encoder, spec.goal, seed=job.seed, delay_ticks=DELAY_TICKS, corrector=note)
    integrator, detector = TargetIntegrator(), FailureDetector()
    detector.start(Episode(1, job.task, state.stamp_ns, limit * TICK_S, spec.goal))
    detector.update(state)
    truth = FailureTruth(spec, world.scene_state())
    frames: list[Frame] = []
    timeout_tick = first_truth = None
    tick = 0
    while tick < limit and not world.success():
        if tick % FRAME_TICKS == 0:
            images = {"front": world.render(FRONT), "wrist": world.render(WRIST)}
            chunk = follower.observe(tick, images if generator is None else generator.observation(images), state)
            detector.offer_embedding(tick * TICK_NS, seen.pop())
            frame = detector.offer_chunk(chunk)
            if frame is not None:
                frames.append(frame)
        action = follower.action(tick, state)
        if generator is not None:
            action = generator.action(action)
        target, _, _ = integrator.advance(action, state)
        detector.offer_command(Command(state.stamp_ns, target, state.stamp_ns))
        state = world.step(target)
        tick += 1
        for report in detector.update(state):
            if report.failure_type is FailureType.TIMEOUT and timeout_tick is None:
                timeout_tick = tick
        if first_truth is None and truth.update(tick, world.scene_state(), state, float(action[-1])):
            first_truth = tick
    label = None if generator is None else generator.label
    return Trace(
        TraceInfo(
            task=job.task,
            target=spec.goal.target,
            seed=job.seed,
            variant=job.variant,
            success=world.success(),
            duration=tick * TICK_S,
            timeout_at=(tick if timeout_tick is None else timeout_tick) * TICK_S,
            cause="" if label is None else label.kind.value,
            onset=0.0 if label is None else label.onset_tick * TICK_S,
            amount=0.0 if label is None else label.magnitude,
            unit="" if label is None else label.unit,
            strikes=0 if label is None else label.strikes,
            description="" if label is None else label.description,
            first_truth=None if first_truth is None else first_truth * TICK_S,
        ),
        tuple(frames),
    )


def trace_origin(policy: FlowPolicy, encoder: Encoder) -> Origin:
    """Who makes embeddings and chunks."""
    return Origin(encoder.name, encoder.revision, policy.name, policy.revision)


def run_watched(jobs: Sequence[WatchedJob], checkpoint: str | None = None, encoder: str = "compact") -> list[Trace]:
    """Run jobs in this process, on one thread."""
    import torch

    torch.set_num_threads(1)
    policy, network = FlowPolicy.load(checkpoint), make_encoder(encoder)
    with World() as world:
        return [watched_rollout(world, policy, network, job) for job in jobs]


def watch(
    jobs: Sequence[WatchedJob],
    *,
    checkpoint: str | None = None,
    encoder: str = "compact",
    workers: int = 1,
    batch: int = 8,
) -> Iterator[list[Trace]]:
    """The traces of the jobs in their order, a batch at a time; several workers are processes.

    Raises:
        ValueError: for fewer than 1 worker.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}, expected at least 1")
    parts = [jobs[start : start + batch] for start in range(0, len(jobs), batch)]
    if workers == 1:
        for part in parts:
            yield run_watched(part, checkpoint, encoder)
        return
    with worker_pool(workers) as pool:
        for future in [pool.submit(run_watched, part, checkpoint, encoder) for part in parts]:
            yield future.result()
