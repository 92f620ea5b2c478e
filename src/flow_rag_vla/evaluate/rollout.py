# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Closed-loop episodes in one process, with the delays of the graph.

A picture at tick k becomes a chunk at tick k + ``delay_ticks``; a new picture is taken every ``replan_ticks``; every
action passes the controller's integrator. What is left out is jitter: each delay is the same.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import as_completed
from dataclasses import dataclass, field

from flow_rag_vla.control.arbiter import ArbiterSettings
from flow_rag_vla.control.integrator import TargetIntegrator
from flow_rag_vla.core.action import CONTROL_RATE_HZ, TICK_S
from flow_rag_vla.core.goal import Goal
from flow_rag_vla.core.processes import worker_pool
from flow_rag_vla.evaluate.arbitration import Arbitration
from flow_rag_vla.policy.encoders import Encoder, make_encoder
from flow_rag_vla.policy.flow import Method
from flow_rag_vla.policy.follower import ChunkFollower, Corrector
from flow_rag_vla.policy.policy import FlowPolicy
from flow_rag_vla.sim.camera import FRONT, WRIST
from flow_rag_vla.sim.scene import sample_scene
from flow_rag_vla.sim.tasks import TASK_RULES
from flow_rag_vla.sim.world import World

DEFAULT_DELAY_TICKS = 3
DEFAULT_REPLAN_TICKS = 4
TEST_SEEDS = 100_000
"""Seeds from here on are for tests only: nothing is trained or chosen on them."""


@dataclass(frozen=True, slots=True)
class RolloutSettings:
    """How the loop runs. delay_ticks, replan_ticks: ticks of 25 ms; solver, steps, samples: of the flow."""

    delay_ticks: int = DEFAULT_DELAY_TICKS
    replan_ticks: int = DEFAULT_REPLAN_TICKS
    solver: Method = "euler"
    steps: int = 6
    samples: int = 4


@dataclass(frozen=True, slots=True)
class RolloutResult:
    """One episode. duration_s: simulated seconds; progress: 0 to 1, the highest that was reached."""

    task: str
    target: str
    variant: str
    seed: int
    success: bool
    ticks: int
    duration_s: float
    progress: float
    chunks: int
    starved_ticks: int


def rollout(
    world: World,
    policy: FlowPolicy,
    encoder: Encoder,
    task: str,
    variant: str,
    seed: int,
    *,
    goal: Goal | None = None,
    settings: RolloutSettings | None = None,
    corrector: Corrector | None = None,
    noise: int | None = None,
    arbiter: ArbiterSettings | None = None,
) -> RolloutResult:
    """Run one episode until success or the task's time limit.

    Args:
        world: reset here; may have held any scene before.
        policy: what acts.
        encoder: the one that the policy was trained with.
        task: name of the task.
        variant: of the scene.
        seed: of the scene, and of the noise unless ``noise`` is given.
        goal: one of the task's goals; None draws it from the seed.
        settings: how the loop runs.
        corrector: a failure memory that is asked at each picture; what of its answers is the controller's is applied
            by the controller's arbiter.
        noise: seed of the flow's noise.
        arbiter: how far corrections may go; None: as the controller's defaults.
    """
    settings = settings or RolloutSettings()
    spec = sample_scene(task, variant, seed, goal)
    state = world.reset(spec)
    integrator = TargetIntegrator()
    arbitration = None if corrector is None else Arbitration(corrector, arbiter)
    follower = ChunkFollower(
        policy,
        encoder,
        spec.goal,
        seed=seed if noise is None else noise,
        delay_ticks=settings.delay_ticks,
        corrector=None if arbitration is None else arbitration.correct,
        arrived=None if arbitration is None else arbitration.arrive,
    )
    limit = round(TASK_RULES[task].time_limit_s * CONTROL_RATE_HZ)
    best, tick = 0.0, 0
    while tick < limit and not world.success():
        if tick % settings.replan_ticks == 0:
            follower.observe(tick, {"front": world.render(FRONT), "wrist": world.render(WRIST)}, state)
            best = max(best, world.progress())
        target, _, _ = integrator.advance(follower.action(tick, state), state)
        state = world.step(target)
        tick += 1
    success = world.success()
    return RolloutResult(
        task=task,
        target=spec.goal.target,
        variant=variant,
        seed=seed,
        success=success,
        ticks=tick,
        duration_s=tick * TICK_S,
        progress=1.0 if success else best,
        chunks=follower.chunks,
        starved_ticks=follower.starved_ticks,
    )


@dataclass(frozen=True, slots=True)
class RolloutJob:
    """Episodes that one worker runs in a row."""

    task: str
    variant: str
    seeds: tuple[int, ...]
    checkpoint: str | None = None
    encoder: str = "compact"
    settings: RolloutSettings = field(default_factory=RolloutSettings)


def run_job(job: RolloutJob) -> list[RolloutResult]:
    """Run a job in this process, on one thread."""
    import torch

    torch.set_num_threads(1)
    policy = FlowPolicy.load(job.checkpoint)
    policy.configure(solver=job.settings.solver, steps=job.settings.steps, samples=job.settings.samples)
    encoder = make_encoder(job.encoder)
    with World() as world:
        return [
            rollout(world, policy, encoder, job.task, job.variant, seed, settings=job.settings) for seed in job.seeds
        ]


def rollout_jobs(
    tasks: Sequence[str],
    variants: Sequence[str],
    episodes: int,
    first_seed: int,
    *,
    checkpoint: str | None = None,
    encoder: str = "compact",
    settings: RolloutSettings | None = None,
    episodes_per_job: int = 10,
) -> list[RolloutJob]:
    """Every task in every variant, ``episodes`` seeds from ``first_seed`` on, cut into jobs."""
    seeds = range(first_seed, first_seed + episodes)
    return [
        RolloutJob(
            task,
            variant,
            tuple(seeds[first : first + episodes_per_job]),
            checkpoint,
            encoder,
            settings or RolloutSettings(),
        )
        for task in tasks
        for variant in variants
        for first in range(0, episodes, episodes_per_job)
    ]


def run_jobs(jobs: Sequence[RolloutJob], workers: int) -> Iterator[list[RolloutResult]]:
    """The results of each job as it ends, from ``workers`` processes; 1 runs them here.

    Raises:
        ValueError: for fewer than 1 worker.
    """
    if workers < 1:
        raise ValueError(f"workers is {workers}, expected at least 1")
    if workers == 1:
        yield from map(run_job, jobs)
        return
    with worker_pool(workers) as pool:
        for future in as_completed([pool.submit(run_job, job) for job in jobs]):
            yield future.result()
