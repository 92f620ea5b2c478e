# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What the policy knows beside the embedding: proprioception, goal, and where things are.

A *scene reading* is what a readout sees in an embedding: for each entity of the simulator's tasks its place relative
to the tool, its heading, and whether it is there. A goal needs two entities of it, the one acted on and the one
acted towards; the rest is left out, so that what a task does not need cannot confuse it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.goal import GOALS, Goal
from flow_rag_vla.core.rotation import yaw_of
from flow_rag_vla.core.state import RobotState

CLOSED_WIDTH = 0.006
"""Metres: below this the fingers have met and hold nothing."""

OPEN_WIDTH = 0.072
"""Metres: above this the hand is open."""

WIDTH_SOFTNESS = 0.003
"""Metres over which the three gripper features blend, so that sensor noise does not make them jump."""

PROPRIOCEPTION_DIM = 9
POSITION, HEADING, FINGERS, HEIGHT = slice(0, 3), slice(3, 5), slice(5, 8), 8
"""Where the parts of ``proprioception`` stand in it."""

POSITION_SCALE = 5.0
"""On the position before a network: metres become numbers of order one."""

CENTRE = np.array([0.475, 0.0, 0.20])
"""Metres, base frame: middle of the workspace, subtracted from the tool's position."""

HEIGHT_SCALE = 0.05
"""Metres: scale on which the height above the table is felt a second time, as the last number."""

ENTITIES = ("red_cube", "blue_box", "yellow_cylinder", "bin", "zone", "drawer", "cabinet")
"""What a reading places; ``drawer`` is its handle, which moves, ``cabinet`` the front, which does not."""

ENTITY_INDEX: Mapping[str, int] = {name: index for index, name in enumerate(ENTITIES)}

YAW_SYMMETRY: Mapping[str, int] = {
    "red_cube": 4, "blue_box": 2, "yellow_cylinder": 0, "bin": 0, "zone": 0, "drawer": 2, "cabinet": 2,
}  # fmt: skip
"""Rotations by 2 pi / n that ask for the same grasp; 0: turning changes nothing."""

DESTINATIONS: Mapping[str, str] = {
    "pick_and_place": "bin", "push": "zone", "stack": "blue_box", "open_drawer": "cabinet",
}  # fmt: skip
"""What the target is brought to, or, for a drawer, away from: how far it is open is told by both together."""

ENTITY_DIM = 5
"""dx, dy, dz relative to the tool (metres, base axes), cos and sin of n times the heading relative to the tool."""

READING_DIM = ENTITY_DIM * len(ENTITIES)
SITUATION_DIM = 2 * ENTITY_DIM
"""Length of what a goal keeps of a reading."""


def proprioception(state: RobotState) -> NDArray[np.float32]:
    """What the robot feels of itself, as (P,) float32.

    Tool position minus ``CENTRE`` (3, metres), cosine and sine of the tool's heading, three gripper features in
    0..1 (fingers met, holding, open), and the height above the table again on a finer scale. The raw width is left
    out: fed back, it drifts to values between those that were demonstrated.

    Raises:
        ValueError: for a state that is not finite.
    """
    position = np.asarray(state.position, dtype=np.float64)
    values = np.array([*position, *np.asarray(state.orientation, dtype=np.float64), state.gripper_width])
    if not np.isfinite(values).all():
        raise ValueError(f"robot state is not finite: position {position}, gripper width {state.gripper_width}")
    yaw = yaw_of(np.asarray(state.orientation, dtype=np.float64))
    opened = _sigmoid((state.gripper_width - OPEN_WIDTH) / WIDTH_SOFTNESS)
    met = _sigmoid((CLOSED_WIDTH - state.gripper_width) / WIDTH_SOFTNESS)
    centred = position - CENTRE
    return np.array(
        [
            *centred,
            math.cos(yaw),
            math.sin(yaw),
            met,
            (1.0 - opened) * (1.0 - met),
            opened,
            math.tanh(position[2] / HEIGHT_SCALE),
        ],
        dtype=np.float32,
    )


def goal_features(goal: Goal) -> NDArray[np.float32]:
    """(G,) float32: one at the place of the goal in ``core.goal.GOALS``.

    Raises:
        ValueError: for a goal that is not among them.
    """
    if goal not in GOALS:
        known = "; ".join(item.instruction for item in GOALS)
        raise ValueError(f"goal {goal.task}/{goal.target} is not known to the policy; known: {known}")
    features = np.zeros(len(GOALS), dtype=np.float32)
    features[goal.index] = 1.0
    return features


@dataclass(frozen=True, slots=True)
class GoalEntities:
    """Places in ``ENTITIES``: what is acted on, and what towards or away from."""

    target: int
    destination: int


def goal_entities(goal: Goal) -> GoalEntities:
    """The entities that a goal is about."""
    return GoalEntities(ENTITY_INDEX[goal.target], ENTITY_INDEX[DESTINATIONS[goal.task]])


SITUATION_COLUMNS: NDArray[np.int64] = np.array(
    [
        [entity * ENTITY_DIM + column for entity in (pair.target, pair.destination) for column in range(ENTITY_DIM)]
        for pair in map(goal_entities, GOALS)
    ],
    dtype=np.int64,
)
"""(goals, SITUATION_DIM): the columns of a reading that each goal keeps."""


def relative_reading(
    state: RobotState, entities: Mapping[str, tuple[NDArray[np.float64], float]]
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The true reading, for training.

    Args:
        state: the robot at that moment.
        entities: name to (position (3,) metres in the base frame, yaw in radians); absent ones are left out.

    Returns:
        (READING_DIM,) float32, zeros where an entity is absent; (len(ENTITIES),) bool, which are there.
    """
    reading = np.zeros((len(ENTITIES), ENTITY_DIM), dtype=np.float32)
    present = np.zeros(len(ENTITIES), dtype=np.bool_)
    tool_yaw = yaw_of(np.asarray(state.orientation, dtype=np.float64))
    for name, (position, yaw) in entities.items():
        index, symmetry = ENTITY_INDEX[name], YAW_SYMMETRY[name]
        angle = symmetry * (yaw - tool_yaw)
        reading[index, :3] = position - state.position
        reading[index, 3:] = (math.cos(angle), math.sin(angle)) if symmetry else (0.0, 0.0)
        present[index] = True
    return reading.reshape(-1), present


def _sigmoid(value: float) -> float:
    return 1.0 / (1.0 + math.exp(-min(max(value, -50.0), 50.0)))
