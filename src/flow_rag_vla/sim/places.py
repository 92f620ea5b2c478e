# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Where everything in a scene is, by the names that goals and policies use: ground truth of a world or of a copy."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.rotation import yaw_of
from flow_rag_vla.sim.bodies import SceneState
from flow_rag_vla.sim.scene import SceneSpec
from flow_rag_vla.sim.tasks import handle_position


def places(spec: SceneSpec, scene: SceneState) -> dict[str, tuple[NDArray[np.float64], float]]:
    """Name to (position (3,) metres in the base frame, yaw in radians); ``drawer`` is its handle, which moves."""
    found = {
        name: (np.asarray(position, dtype=np.float64), yaw_of(np.asarray(orientation)))
        for name, (position, orientation) in scene.objects.items()
    }
    for name, furniture in (("bin", spec.bin), ("zone", spec.zone)):
        if furniture is not None:
            found[name] = (np.array(furniture.position), furniture.yaw)
    if spec.drawer is not None:
        found["drawer"] = (handle_position(spec, float(scene.articulation[0])), spec.drawer.yaw)
        found["cabinet"] = (np.array(spec.drawer.position), spec.drawer.yaw)
    return found
