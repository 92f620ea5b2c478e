"""Where everything really is, in the order in which policies name it. For training and scoring only."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.rotation import yaw_of
from flow_rag_vla.data.demonstrations import POSE_DIM
from flow_rag_vla.policy.observation import ENTITIES
from flow_rag_vla.sim.bodies import SceneState
from flow_rag_vla.sim.scene import SceneSpec
from flow_rag_vla.sim.tasks import handle_position


def entity_poses(spec: SceneSpec, scene: SceneState) -> NDArray[np.float32]:
    """(E, 4) float32: x, y, z (metres), yaw (radians) of ``policy.observation.ENTITIES``; NaN where one is absent."""
    poses = np.full((len(ENTITIES), POSE_DIM), np.nan, dtype=np.float32)
    for name, (position, orientation) in scene.objects.items():
        poses[ENTITIES.index(name)] = [*position, yaw_of(np.asarray(orientation))]
    for name, furniture in (("bin", spec.bin), ("zone", spec.zone)):
        if furniture is not None:
            poses[ENTITIES.index(name)] = [*furniture.position, furniture.yaw]
    if spec.drawer is not None:
        poses[ENTITIES.index("drawer")] = [*handle_position(spec, float(scene.articulation[0])), spec.drawer.yaw]
        poses[ENTITIES.index("cabinet")] = [*spec.drawer.position, spec.drawer.yaw]
    return poses
