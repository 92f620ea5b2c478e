# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The simulated cameras: a mirror of the scene, rendered in a process of its own.

Rendering would delay the physics if it shared their process; here it can only be late itself.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, Image

from flow_rag_vla.bringup import topics
from flow_rag_vla.bringup.parameters.simulator import SimulatorCameraParameters
from flow_rag_vla.core.action import TICK_S
from flow_rag_vla.core.goal import parse_instruction
from flow_rag_vla.nodes import qos
from flow_rag_vla.nodes.complaints import Complaints
from flow_rag_vla.nodes.conversions import image_message
from flow_rag_vla.nodes.diagnostics import OK, WARN, Diagnostics, Health
from flow_rag_vla.nodes.parameters import NodeParameters
from flow_rag_vla.nodes.runtime import run
from flow_rag_vla.nodes.stamps import to_ns, to_stamp
from flow_rag_vla.sim.bodies import SceneState as WorldState
from flow_rag_vla.sim.camera import FRONT, WRIST, SceneRenderer
from flow_rag_vla.sim.ground import CameraModel
from flow_rag_vla.sim.scene import sample_scene
from flow_rag_vla_interfaces.msg import SceneState

CAMERAS = (
    (FRONT, topics.FRONT_IMAGE, topics.FRONT_INFO),
    (WRIST, topics.WRIST_IMAGE, topics.WRIST_INFO),
)


class SimulatorCamera(Node):
    """Renders both cameras from the newest scene state, at most ``rate`` times a second."""

    def __init__(self) -> None:
        super().__init__("simulator_camera")
        self._complain = Complaints(self.get_logger())
        self._settings = NodeParameters(self, SimulatorCameraParameters)
        self._renderer: SceneRenderer | None = None
        self._shown: tuple[str, str, int, str] | None = None
        self._reset_count = -1
        self._next_ns = 0
        self._frames = 0
        self._render_ms = 0.0
        self._image_publishers = [
            (
                model,
                self.create_publisher(Image, image, qos.SENSOR),
                self.create_publisher(CameraInfo, info, qos.SENSOR),
            )
            for model, image, info in CAMERAS
        ]
        self._infos = {model.name: camera_info(model) for model, _, _ in CAMERAS}
        # Depth 1: a picture of an older scene is of no use once a newer one is there.
        self.create_subscription(SceneState, topics.GROUND_TRUTH, self._on_scene, qos.NEWEST)
        self._diagnostics = Diagnostics(self, "tiny renderer", self._health)

    def destroy_node(self) -> None:
        """Close the renderer, then the node."""
        if self._renderer is not None:
            self._renderer.close()
        super().destroy_node()

    def _on_scene(self, scene: SceneState) -> None:
        stamp_ns = to_ns(scene.header.stamp)
        fresh = scene.reset_count != self._reset_count
        # Half a tick of grace: scene states come every 25 ms, give or take what the scheduler adds.
        if not fresh and 0 <= self._next_ns - stamp_ns - int(TICK_S * 5e8) < 2_000_000_000:
            return
        self._next_ns = stamp_ns + int(1e9 / self._settings.value.rate)
        self._reset_count = scene.reset_count
        renderer = self._mirror(scene)
        if renderer is None:
            return
        started = time.perf_counter()
        renderer.update(world_state(scene))
        for model, images, infos in self._image_publishers:
            images.publish(image_message(renderer.render(model), stamp_ns, f"{model.name}_optical_frame"))
            info = self._infos[model.name]
            info.header.stamp = to_stamp(stamp_ns)
            infos.publish(info)
        self._render_ms = 1e3 * (time.perf_counter() - started)
        self._frames += 1

    def _mirror(self, scene: SceneState) -> SceneRenderer | None:
        wanted = (scene.task, scene.variant, int(scene.seed), scene.instruction)
        if wanted != self._shown:
            try:
                spec = sample_scene(wanted[0], wanted[1], wanted[2], parse_instruction(wanted[3]))
            except ValueError as error:
                self._complain(f"scene not drawn: {error}")
                return None
            if self._renderer is None:
                self._renderer = SceneRenderer(spec)
            else:
                self._renderer.reset(spec)
            self._shown = wanted
        return self._renderer

    def _health(self) -> Health:
        figures = {"frames": self._frames, "render_ms": round(self._render_ms, 2)}
        if not self._frames:
            return WARN, "waiting for the first scene", figures
        return OK, "rendering", figures


def world_state(scene: SceneState) -> WorldState:
    """What the renderer needs of a ground-truth message."""
    return WorldState(
        joint_positions=np.array(scene.joint_positions),
        objects={
            item.name: (
                np.array([item.pose.position.x, item.pose.position.y, item.pose.position.z]),
                np.array(
                    [item.pose.orientation.x, item.pose.orientation.y, item.pose.orientation.z, item.pose.orientation.w]
                ),
            )
            for item in scene.objects
        },
        articulation=np.array(scene.articulation),
    )


def camera_info(model: CameraModel) -> CameraInfo:
    """Pinhole intrinsics of a simulated camera: no distortion."""
    intrinsics = model.intrinsics()
    info = CameraInfo(height=model.height, width=model.width, distortion_model="plumb_bob", d=[0.0] * 5)
    info.header.frame_id = f"{model.name}_optical_frame"
    info.k = intrinsics.ravel().tolist()
    info.r = np.eye(3).ravel().tolist()
    info.p = np.hstack([intrinsics, np.zeros((3, 1))]).ravel().tolist()
    return info


def main(args: Sequence[str] | None = None) -> int:
    """Run the camera node."""
    return run(SimulatorCamera, None if args is None else list(args))


if __name__ == "__main__":
    raise SystemExit(main())
