# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Episodes made by hand: a line walked through embedding space, and ways to stray from it."""

from __future__ import annotations

import numpy as np

from flow_rag_vla.core.action import TICK_NS, ActionChunk, Provenance
from flow_rag_vla.core.goal import GOALS, Goal
from flow_rag_vla.core.phase import Phase
from flow_rag_vla.failure.frame import Frame
from flow_rag_vla.failure.trace import Origin, Trace, TraceInfo

DIMENSION = 12
ORIGIN = Origin("compact", "0123456789ab", "flow", "abcdef012345")


def unit(values: np.ndarray) -> np.ndarray:
    return (values / np.linalg.norm(values)).astype(np.float32)


def make_chunk(stamp_ns: int, speed: float, rng: np.random.Generator, spread: float = 0.05) -> ActionChunk:
    actions = np.zeros((16, 7), dtype=np.float32)
    actions[:, 0] = 0.006 * speed
    actions[:, :3] += rng.normal(0.0, 0.0003, (16, 3)).astype(np.float32)
    actions[:, 6] = 1.0
    uncertainty = np.full(16, spread, dtype=np.float32) * rng.uniform(0.8, 1.2)
    source = Provenance(stamp_ns, ORIGIN.policy, ORIGIN.policy_revision)
    return ActionChunk(stamp_ns // TICK_NS, stamp_ns, actions, "push", uncertainty, 3, source)


def make_frame(
    step: int, progress: float, rng: np.random.Generator, goal: Goal = GOALS[3], astray: float = 0.0, chunk: bool = True
) -> Frame:
    """The frame of a picture: ``progress`` 0 to 1 along the line, ``astray`` beside it."""
    stamp_ns = 1_000_000_000 + step * 4 * TICK_NS
    place = np.zeros(DIMENSION)
    place[0], place[1], place[2] = 1.0 - progress, progress, 0.3
    place[5] = astray
    place += rng.normal(0.0, 0.02, DIMENSION)
    speed = 1.0 if astray == 0.0 else float(rng.choice([-1.0, 1.0]))
    return Frame(
        stamp_ns=stamp_ns,
        elapsed=step * 0.1,
        task=goal.task,
        goal=goal,
        phase=Phase.REACH,
        phase_elapsed=step * 0.1,
        embedding=unit(place),
        position=np.array([0.4 + 0.2 * progress, 0.0, 0.2]) + rng.normal(0.0, 0.002, 3),
        yaw=0.0,
        gripper_width=0.08,
        opening=1.0,
        strain=float(rng.uniform(0.0, 0.3)),
        evidence=0.0,
        chunk=make_chunk(stamp_ns, speed, rng) if chunk else None,
    )


def make_trace(seed: int, failure: str = "", goal: Goal = GOALS[3], chunks: bool = True) -> Trace:
    """A success of about two seconds, or a failure of six: ``stuck`` half-way, or ``astray`` from there on."""
    rng = np.random.default_rng(seed)
    length = int(rng.integers(18, 23))
    frames = []
    for step in range(60 if failure else length):
        progress = min(step / length, 0.5) if failure else step / length
        astray = 0.6 if failure == "astray" and step > length // 2 else 0.0
        frames.append(make_frame(step, progress, rng, goal, astray, chunks))
    duration = 6.0 if failure else length * 0.1
    return Trace(
        TraceInfo(
            task=goal.task,
            target=goal.target,
            seed=seed,
            variant="plain",
            success=not failure,
            duration=duration,
            timeout_at=duration,
            cause=failure,
            onset=length * 0.05 if failure else 0.0,
            first_truth=length * 0.05 if failure else None,
        ),
        tuple(frames),
    )


def successes(count: int, first: int = 0, goals: tuple[Goal, ...] = (GOALS[3],)) -> list[Trace]:
    return [make_trace(seed, goal=goals[seed % len(goals)]) for seed in range(first, first + count)]
