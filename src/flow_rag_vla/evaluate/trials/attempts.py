# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""One attempt of a policy in practice: what was seen, felt and commanded, and how it ended."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.control.integrator import TargetIntegrator
from flow_rag_vla.core.action import TICK_S
from flow_rag_vla.core.correction import Correction
from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.core.goal import Goal
from flow_rag_vla.core.state import CartesianTarget, RobotState
from flow_rag_vla.evaluate.trials.homing import HOME_TICKS, homeward, is_home
from flow_rag_vla.evaluate.trials.labelled import Seen
from flow_rag_vla.evaluate.trials.rig import Rig
from flow_rag_vla.failure.detector import FailureDetector
from flow_rag_vla.failure.sample import Command, Episode
from flow_rag_vla.policy.follower import Belief, ChunkFollower, Corrector
from flow_rag_vla.sim.camera import FRONT, WRIST
from flow_rag_vla.sim.scene import SceneSpec
from flow_rag_vla.sim.world import World


@dataclass(slots=True)
class Attempt:
    """What was seen and felt in one attempt, and how it ended. kind: of the first failure that was noticed."""

    success: bool = False
    kind: FailureType = FailureType.TIMEOUT
    seen: list[Seen] = field(default_factory=list)
    states: list[RobotState] = field(default_factory=list)
    targets: list[CartesianTarget] = field(default_factory=list)


def attempt(
    rig: Rig,
    world: World,
    scene: SceneSpec,
    state: RobotState,
    noise: int,
    limit: int,
    *,
    shift: NDArray[np.floating] | None = None,
    believed: Belief | None = None,
    beside: Callable[[CartesianTarget], object] | None = None,
    corrector: Corrector | None = None,
) -> Attempt:
    """From here until success or the time of an attempt is over.

    Args:
        rig: whose policy and encoder act.
        world: is stepped.
        scene: what the world holds.
        state: the robot now.
        noise: seed of the policy's noise.
        limit: ticks, at most.
        shift: of the policy's perception, see ``FlowPolicy.act``.
        believed: where things are taken to be instead of where the policy reads them.
        beside: is given each target before the world is stepped, as a copy that goes along.
        corrector: what a memory would answer to each picture.
    """
    settings = rig.spec.settings
    detector, integrator = FailureDetector(), TargetIntegrator()
    detector.start(Episode(1, scene.task, state.stamp_ns, limit * TICK_S, scene.goal))
    detector.update(state)
    embeddings: list[NDArray[np.float32]] = []

    def look(embedding: NDArray[np.float32], state: RobotState, goal: Goal, stamp_ns: int) -> Correction | None:
        embeddings.append(embedding)
        return None if corrector is None else corrector(embedding, state, goal, stamp_ns)

    follower = ChunkFollower(
        rig.policy, rig.encoder, scene.goal, seed=noise, delay_ticks=settings.delay_ticks, corrector=look,
        shift=shift, believed=believed,
    )  # fmt: skip
    result = Attempt(states=[state])
    reported = False
    for tick in range(limit):
        if tick % settings.replan_ticks == 0:
            chunk = follower.observe(tick, {"front": world.render(FRONT), "wrist": world.render(WRIST)}, state)
            result.seen.append(Seen(embeddings[-1], state, detector.phase.value, chunk))
        target, _, _ = integrator.advance(follower.action(tick, state), state)
        detector.offer_command(Command(state.stamp_ns, target, state.stamp_ns))
        if beside is not None:
            beside(target)
        state = world.step(target)
        result.states.append(state)
        result.targets.append(target)
        reports = detector.update(state)
        if reports and not reported:
            result.kind, reported = reports[0].failure_type, True
        if world.success():
            result.success = True
            break
    return result


def go_home(world: World, home: RobotState, beside: Callable[[CartesianTarget], object] | None = None) -> RobotState:
    """Things stay as they are; the arm goes back to where it began, as far as it gets in the time for that."""
    integrator = TargetIntegrator()
    state = world.robot_state()
    for tick in range(HOME_TICKS):
        if is_home(state, home):
            break
        target = integrator.advance(homeward(state, home, tick), state)[0]
        if beside is not None:
            beside(target)
        state = world.step(target)
    return state
