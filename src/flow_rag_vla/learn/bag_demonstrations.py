# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Recorded episodes as demonstrations: what the trainer learns from, out of bags and data sets."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.action import CorrectionMode
from flow_rag_vla.core.goal import UnknownTaskError, parse_instruction
from flow_rag_vla.data.demonstrations import POSE_DIM, Demonstration
from flow_rag_vla.data.recorded_episode import HELD, RecordedEpisode
from flow_rag_vla.learn.truth import entity_poses
from flow_rag_vla.policy.observation import ENTITIES
from flow_rag_vla.sim.bodies import SceneState
from flow_rag_vla.sim.scene import sample_scene


def demonstrations(episodes: Iterable[RecordedEpisode], *, only_successes: bool = True) -> Iterator[Demonstration]:
    """Demonstrations of recorded episodes.

    Actions from half a second before the onset of a failure until half a second after it are marked as not usable:
    nobody should learn what led into it. So are ticks at which nothing was followed. Poses come from the simulator's
    ground truth where that was recorded, and are NaN otherwise.

    Args:
        episodes: as they were run.
        only_successes: leave out what failed or was not judged.
    """
    for episode in episodes:
        if (only_successes and not episode.success) or not len(episode.frame_ticks):
            continue
        try:
            goal = parse_instruction(episode.instruction)
        except UnknownTaskError:
            continue
        yield Demonstration(
            goal,
            episode.variant,
            episode.seed,
            bool(episode.success),
            episode.states,
            episode.actions,
            _usable(episode),
            episode.frame_ticks,
            episode.images,
            ENTITIES,
            _poses(episode),
        )


FAILURE_LEAD_TICKS = 20
"""Ticks before the onset of a failure that led into it."""

FAILURE_TAIL_TICKS = 20
"""Ticks after the onset in which nobody has reacted yet."""


def _usable(episode: RecordedEpisode) -> NDArray[np.bool_]:
    # A loop that waits for a chunk stands still: nothing that a policy should learn to do there.
    usable = ~np.isin(episode.interventions, (HELD, CorrectionMode.HOLD))
    for place in np.flatnonzero(episode.failures >= 0).tolist():
        usable[max(0, place - FAILURE_LEAD_TICKS) : place + FAILURE_TAIL_TICKS] = False
    return usable


def _poses(episode: RecordedEpisode) -> NDArray[np.float32]:
    frames = len(episode.frame_ticks)
    nothing = np.full((frames, len(ENTITIES), POSE_DIM), np.nan, dtype=np.float32)
    if len(episode.truths) != frames:
        return nothing
    spec: Any = None
    rows = []
    for truth in episode.truths:
        try:
            if spec is None:
                spec = sample_scene(truth.task, truth.variant, int(truth.seed), parse_instruction(truth.instruction))
        except ValueError:
            return nothing
        rows.append(entity_poses(spec, _scene(truth)))
    return np.stack(rows)


def _scene(truth: Any) -> SceneState:
    objects = {}
    for item in truth.objects:
        position, turn = item.pose.position, item.pose.orientation
        objects[item.name] = (
            np.array([position.x, position.y, position.z]),
            np.array([turn.x, turn.y, turn.z, turn.w]),
        )
    return SceneState(
        joint_positions=np.array(truth.joint_positions), objects=objects, articulation=np.array(truth.articulation)
    )
