# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The arm as RViz and Foxglove draw it: its description, and the frames that never move, from world to cameras."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from flow_rag_vla.bringup import live, topics
from flow_rag_vla.bringup.resources import share_folder
from flow_rag_vla.core.state import GRIPPER_MAX_WIDTH
from flow_rag_vla.robot.description import (
    Description,
    DescriptionError,
    Transform,
    drawable,
    from_rpy,
    looking,
    read_description,
    same_place,
)
from flow_rag_vla.robot.profile import Gripper, RobotProfile

WORLD = "world"
FRONT_FRAME, WRIST_FRAME = "front_optical_frame", "wrist_optical_frame"
"""Frames of the simulator's pictures and of the mock's."""

_SIMULATED_URDF = "panda.urdf"
_SIMULATED_GRIPPER = Gripper("position", "", "panda_finger_joint1", 0.0, GRIPPER_MAX_WIDTH / 2, 0.0, GRIPPER_MAX_WIDTH)
_DATA_MESHES = "package://pybullet_data/"


@dataclass(frozen=True, slots=True)
class DrawnArm:
    """An arm to be drawn.

    text: its URDF as viewers get it
    base, tool: links that poses of the graph are in, and that a hand's camera rides on
    """

    description: Description
    text: str
    base: str
    tool: str
    gripper: Gripper

    def values(self, names: Sequence[str], positions: Sequence[float], gripper_width: float) -> dict[str, float]:
        """Joint values by name of a robot state, radians; the gripper's joint from its width, metres.

        Raises:
            DescriptionError: if the state is of joints that this arm does not have.
        """
        missing = [name for name in names if name not in self.description.movable]
        if missing:
            raise DescriptionError(
                f"robot_state names the joint {missing[0]!r}, which {self.description.name!r} lacks; say whose arm it "
                "is with the parameter profile of the node dashboard"
            )
        values = dict(zip(names, positions, strict=True))
        if self.gripper.kind != "none":
            values.setdefault(self.gripper.joint, self.gripper.joint_value(gripper_width))
        return values

    def still(self, cameras: Sequence[Transform] = ()) -> tuple[Transform, ...]:
        """Every frame that never moves: the world, the base that the graph's poses are in, fixed links, cameras.

        Raises:
            DescriptionError: if the base is a link that moves on the root: then no frame of the graph can be still.
        """
        links, root = self.description.links, self.description.root
        above: list[Transform] = []
        if topics.BASE_FRAME not in links:
            place = self.description.place(self.base, {})
            turned = self.description.place(self.base, dict.fromkeys(self.description.movable, 1.0))
            if abs(place.position - turned.position).max() > 1e-9:
                raise DescriptionError(f"base_frame {self.base!r} moves on the link {root!r}; name one that does not")
            back = place.inverse()
            above.append(Transform(topics.BASE_FRAME, root, back.position, back.orientation))
        top = topics.BASE_FRAME if above else root
        if WORLD not in links:
            above.insert(0, same_place(WORLD, top))
        return (*above, *self.description.fixed(), *(item for item in cameras if item.child not in links))


def simulated_arm() -> DrawnArm:
    """The simulator's arm.

    Raises:
        DescriptionError: if its URDF cannot be read.
    """
    path = share_folder() / "urdf" / _SIMULATED_URDF
    return _drawn(path, "panda_link0", "panda_hand", _SIMULATED_GRIPPER)


def arm_of(profile: RobotProfile) -> DrawnArm:
    """The arm of a profile.

    Raises:
        DescriptionError: if its URDF cannot be read.
    """
    return _drawn(profile.urdf, profile.base_frame, profile.tool_frame, profile.gripper)


def simulated_cameras() -> tuple[Transform, ...]:
    """The simulator's cameras as they stand unless a variant shifts them."""
    front, wrist = live.SIMULATED_FRONT_CAMERA, live.SIMULATED_WRIST_CAMERA
    return (
        looking(topics.BASE_FRAME, FRONT_FRAME, front[:3], front[3:], (0.0, 0.0, 1.0)),
        looking("panda_hand", WRIST_FRAME, wrist[:3], wrist[3:], (1.0, 0.0, 0.0)),
    )


def told_cameras(
    arm: DrawnArm, names: Mapping[str, str], front: Sequence[float], wrist: Sequence[float]
) -> tuple[Transform, ...]:
    """Cameras whose places a person gave, of those whose frames are known.

    names: frame of the pictures by role, front and wrist
    front: eye and point looked at, (6,) metres, base frame; wrist: x y z roll pitch yaw, (6,) metres and radians, of
        its optical frame in the tool's; both may be empty

    Raises:
        DescriptionError: if the front camera looks straight up or down.
    """
    cameras = []
    if front and names.get("front"):
        cameras.append(looking(topics.BASE_FRAME, names["front"], front[:3], front[3:], (0.0, 0.0, 1.0)))
    if wrist and names.get("wrist"):
        x, y, z, roll, pitch, yaw = wrist
        cameras.append(Transform(arm.tool, names["wrist"], np.array([x, y, z]), from_rpy(roll, pitch, yaw)))
    return tuple(cameras)


def _drawn(path: Path, base: str, tool: str, gripper: Gripper) -> DrawnArm:
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise DescriptionError(f"{path}: cannot be read ({error})") from None
    source = str(path)
    shown = drawable(text, source, lambda mesh: _mesh_at(mesh, path.parent))
    return DrawnArm(read_description(text, source), shown, base, tool, gripper)


def _mesh_at(mesh: str, folder: Path) -> str:
    """Viewers know neither a Python package nor where the description lay: such meshes are named by their files."""
    if mesh.startswith(_DATA_MESHES):
        found = find_spec("pybullet_data")
        places = found.submodule_search_locations if found is not None else None
        return (Path(places[0]) / mesh.removeprefix(_DATA_MESHES)).resolve().as_uri() if places else mesh
    return mesh if "://" in mesh else (folder / mesh).resolve().as_uri()
