# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Where everything really is, in the order in which policies name it. For training and scoring only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.data.demonstrations import POSE_DIM
from flow_rag_vla.policy.observation import ENTITIES
from flow_rag_vla.sim.bodies import SceneState
from flow_rag_vla.sim.places import places
from flow_rag_vla.sim.scene import SceneSpec


def entity_poses(spec: SceneSpec, scene: SceneState) -> NDArray[np.float32]:
    """(E, 4) float32: x, y, z (metres), yaw (radians) of ``policy.observation.ENTITIES``; NaN where one is absent."""
    poses = np.full((len(ENTITIES), POSE_DIM), np.nan, dtype=np.float32)
    for name, (position, yaw) in places(spec, scene).items():
        poses[ENTITIES.index(name)] = [*position, yaw]
    return poses
