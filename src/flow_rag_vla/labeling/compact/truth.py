# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What a simulated camera sees, with the truth of each pixel: free labels from the renderer's own segmentation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType

import numpy as np
import pybullet as p
from numpy.typing import NDArray

from flow_rag_vla.labeling.compact.categories import CATEGORIES, category_of
from flow_rag_vla.labeling.detections import Detections, Origin, ScoreKind
from flow_rag_vla.labeling.pipeline.boxes import box_of
from flow_rag_vla.labeling.pipeline.images import Image
from flow_rag_vla.sim.bodies import HAND_JOINT, SceneState, load_scene, write_state
from flow_rag_vla.sim.camera import camera_pose
from flow_rag_vla.sim.ground import CameraModel, paint_ground
from flow_rag_vla.sim.scene import SceneSpec

_LINK_SHIFT = 24
"""PyBullet's segmentation value is the body plus (link + 1) << 24; -1 where nothing was drawn."""


@dataclass(frozen=True, slots=True)
class Light:
    """How a scene is lit. direction: toward the light; the rest as PyBullet takes them, 0 to 1; gains: of R, G, B."""

    direction: tuple[float, float, float] = (1.1, -0.9, 1.5)
    ambient: float = 0.55
    diffuse: float = 0.5
    specular: float = 0.05
    shadow: bool = False
    gains: tuple[float, float, float] = (1.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class TruthFrame:
    """A picture and what each of its pixels shows.

    image: (H, W, 3) uint8 RGB
    classes: (H, W) uint8, 0 where no category is, else 1 + the index in ``CATEGORIES``
    instances: (H, W) uint8, 0 or 1 + the index in ``identities``: which of the scene's things it is
    identities: names that stay the same for as long as the scene does, such as "red_cube" or "gripper"
    """

    image: Image
    classes: NDArray[np.uint8]
    instances: NDArray[np.uint8]
    identities: tuple[str, ...]

    def things(self, least_pixels: int = 1) -> tuple[Detections, tuple[str, ...]]:
        """The visible things as ground truth with masks, and their identities; smaller ones are left out."""
        height, width = self.classes.shape
        boxes, labels, masks, names = [], [], [], []
        for index, name in enumerate(self.identities):
            mask = self.instances == index + 1
            box = box_of(mask)
            if box is None or np.count_nonzero(mask) < least_pixels:
                continue
            boxes.append(box)
            masks.append(mask)
            names.append(name)
            labels.append(CATEGORIES[int(self.classes[mask][0]) - 1])
        count = len(boxes)
        found = Detections(
            width,
            height,
            np.asarray(boxes, np.float32).reshape(-1, 4),
            np.ones(count, np.float32),
            tuple(labels),
            ScoreKind.GROUND_TRUTH,
            Origin("simulator"),
            np.stack(masks) if masks else np.zeros((0, height, width), np.bool_),
        )
        return found, tuple(names)


class TruthRenderer:
    """Draws scenes with their truth, in a physics client of its own and without dynamics. Not thread-safe."""

    def __init__(self) -> None:
        self._client = int(p.connect(p.DIRECT))
        self._spec: SceneSpec | None = None

    def reset(self, spec: SceneSpec) -> None:
        """Build a scene in place of the present one."""
        self._bodies = load_scene(self._client, spec)
        self._spec = spec
        names: dict[int, str] = {body: name for name, body in self._bodies.objects.items()}
        if self._bodies.bin is not None:
            names[self._bodies.bin] = "bin"
        if self._bodies.drawer is not None:
            names[self._bodies.drawer] = "drawer"
        self._names: Mapping[int, str] = names

    def update(self, state: SceneState) -> None:
        """Put everything where ``state`` says.

        Raises:
            ValueError: if the state is of another scene.
        """
        write_state(self._client, self._bodies, state)

    def render(self, camera: CameraModel, light: Light | None = None) -> TruthFrame:
        """What a camera sees now.

        Raises:
            RuntimeError: before the first reset.
        """
        spec = self._spec
        if spec is None:
            raise RuntimeError("the renderer holds no scene yet; call reset(spec) first")
        light = light or Light()
        link = p.getLinkState(
            self._bodies.robot, HAND_JOINT, computeForwardKinematics=True, physicsClientId=self._client
        )
        hand = (np.array(link[4]), np.array(link[5]))
        eye, axes = camera_pose(camera, spec.camera_offset(camera.name), hand)
        view = p.computeViewMatrix(eye.tolist(), (eye + axes[:, 2]).tolist(), (-axes[:, 1]).tolist())
        drawn = p.getCameraImage(
            camera.width,
            camera.height,
            viewMatrix=view,
            projectionMatrix=camera.projection(),
            lightDirection=light.direction,
            lightColor=(1.0, 1.0, 1.0),
            lightAmbientCoeff=light.ambient,
            lightDiffuseCoeff=light.diffuse,
            lightSpecularCoeff=light.specular,
            shadow=int(light.shadow),
            flags=p.ER_SEGMENTATION_MASK_OBJECT_AND_LINKINDEX,
            renderer=p.ER_TINY_RENDERER,
            physicsClientId=self._client,
        )
        shape = (camera.height, camera.width)
        pixels = np.asarray(drawn[2], dtype=np.uint8).reshape(*shape, 4)[:, :, :3]
        empty = np.asarray(drawn[3]).reshape(shape) >= 1.0
        ground = paint_ground(camera, eye, axes, spec.zone)
        image = np.where(empty[..., None], ground, pixels)
        if light.gains != (1.0, 1.0, 1.0):
            image = np.clip(image * np.asarray(light.gains, np.float32), 0, 255).astype(np.uint8)
        zone = None
        if spec.zone is not None:
            zone = empty & (ground != paint_ground(camera, eye, axes, None)).any(axis=2)
        segmentation = np.asarray(drawn[4], dtype=np.int64).reshape(shape)
        return self._framed(image, segmentation, empty, zone)

    def _framed(
        self,
        image: Image,
        segmentation: NDArray[np.int64],
        empty: NDArray[np.bool_],
        zone: NDArray[np.bool_] | None,
    ) -> TruthFrame:
        body = np.where(empty, -1, segmentation & ((1 << _LINK_SHIFT) - 1))
        link = (segmentation >> _LINK_SHIFT) - 1
        robot = body == self._bodies.robot
        masks = {"robot_arm": robot & (link < HAND_JOINT), "gripper": robot & (link >= HAND_JOINT)}
        masks.update({name: body == number for number, name in self._names.items()})
        if zone is not None:
            masks["green_zone"] = zone
        classes = np.zeros(body.shape, np.uint8)
        instances = np.zeros(body.shape, np.uint8)
        known = [name for name in masks if category_of(name) is not None]
        for index, name in enumerate(known):
            category = category_of(name)
            assert category is not None
            classes[masks[name]] = CATEGORIES.index(category) + 1
            instances[masks[name]] = index + 1
        return TruthFrame(np.ascontiguousarray(image), classes, instances, tuple(known))

    def close(self) -> None:
        """Free the client. A second call does nothing."""
        if self._client >= 0:
            p.disconnect(physicsClientId=self._client)
            self._client = -1

    def __enter__(self) -> TruthRenderer:
        """The renderer itself; leaving the block closes it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the renderer."""
        self.close()
