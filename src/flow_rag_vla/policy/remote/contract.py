# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What a policy server takes and gives: a YAML file, checked as a whole when it is read.

The files that ship are in ``config/policies/``; one of a person's own is a copy of one of them, named by its path.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from flow_rag_vla.core.parameters import ParameterError, load_parameters, parameter
from flow_rag_vla.core.yaml_text import plain_yaml
from flow_rag_vla.policy.remote.errors import ContractError

CAMERAS = ("front", "wrist")

STATE_PARTS: Mapping[str, str] = {
    "position": "tool in the base frame, 3 metres",
    "rotation_vector": "the tool's orientation as axis times angle, 3 radians",
    "rpy": "the tool's orientation as roll, pitch, yaw about fixed axes, 3 radians",
    "quaternion": "the tool's orientation, 4 numbers x y z w",
    "joint_positions": "the arm's joints, radians",
    "joint_velocities": "the arm's joints, radians per second",
    "gripper_width": "between the fingertips, 1 metre",
    "gripper_opening": "1 number from 0 (closed) to 1 (open)",
    "gripper_closedness": "1 number from 0 (open) to 1 (closed)",
    "fingers": "each finger's way from the middle, 2 metres of opposite sign",
    "wrench": "force and torque on the tool, 3 newtons and 3 newton metres",
}
"""What the robot senses, by the name that a contract gives it."""

KINDS = ("delta_pose", "absolute_pose", "joint_velocity")
ROTATIONS = ("rotation_vector", "rpy")
FRAMES = ("base", "tool")


@dataclass(frozen=True, slots=True)
class ActionMeaning:
    """What the rows of an answer mean: a row is a step of the policy's own rate, its last column the gripper."""

    kind: str = parameter("delta_pose", "What the columns before the gripper are", choices=KINDS)
    rate: float = parameter(20.0, "Steps of the policy a second", unit="Hz", minimum=1.0, maximum=200.0)
    follow: int = parameter(
        5, "Steps that are followed before the next answer takes over", unit="steps", minimum=1, maximum=1000
    )
    clip: float = parameter(
        0.0,
        "Columns before the gripper are kept within so much either way; 0: as they come",
        minimum=0.0,
        maximum=100.0,
    )
    translation: float = parameter(1.0, "Metres of one unit", unit="m", minimum=1e-6, maximum=10.0)
    rotation: float = parameter(1.0, "Radians of one unit", unit="rad", minimum=0.0, maximum=10.0)
    rotation_form: str = parameter("rotation_vector", "How three numbers are a rotation", choices=ROTATIONS)
    frame: str = parameter("base", "Whose axes a delta_pose is along", choices=FRAMES)
    joint: float = parameter(1.0, "Radians a step of one unit of a joint's velocity", minimum=1e-6, maximum=10.0)
    joints: int = parameter(7, "Joints of a joint_velocity", minimum=1, maximum=20)
    gripper_open: float = parameter(1.0, "The gripper's column when it is open", minimum=-1000.0, maximum=1000.0)
    gripper_closed: float = parameter(0.0, "The gripper's column when it is closed", minimum=-1000.0, maximum=1000.0)
    gripper_binary: bool = parameter(False, "Whether it is open or closed and nothing between")

    @property
    def columns(self) -> int:
        """Columns of an answer."""
        return (self.joints if self.kind == "joint_velocity" else 6) + 1


@dataclass(frozen=True, slots=True)
class Contract:
    """What a server takes, by its own names, and what its answer means.

    images: name in the request to camera; state: name to parts of ``STATE_PARTS``, one after the other
    image_size: side of the square that images are fitted into, pixels; 0: as they come
    prompt: name of the instruction in the request
    """

    name: str
    images: Mapping[str, str]
    state: Mapping[str, tuple[str, ...]]
    actions: ActionMeaning
    image_size: int = 224
    prompt: str = "prompt"
    cameras: tuple[str, ...] = field(default=(), init=False)
    """Cameras that are needed, each once."""

    def __post_init__(self) -> None:
        """Derive ``cameras``."""
        object.__setattr__(self, "cameras", tuple(name for name in CAMERAS if name in self.images.values()))


def find_contract(name: str, folder: Path) -> Path:
    """The file of a contract: one of ``folder`` by its name, or any by its path.

    Raises:
        ContractError: naming those that there are.
    """
    for path in (folder / f"{name}.yaml", Path(name).expanduser()):
        if name and path.is_file():
            return path
    shipped = ", ".join(sorted(path.stem for path in folder.glob("*.yaml")))
    raise ContractError(f"there is no policy contract {name!r}; name one of {shipped}, or a YAML file of your own")


def load_contract(path: Path) -> Contract:
    """Read and check a file.

    Raises:
        ContractError: naming file, field, value and remedy.
    """
    try:
        values = plain_yaml(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ContractError(f"{path}: cannot be read: {error}") from None
    return parse_contract(values, path.stem, str(path))


def parse_contract(values: Any, name: str, file: str) -> Contract:
    """The contract that the content of ``file`` says.

    Raises:
        ContractError: as ``load_contract``.
    """
    known = ("image_size", "images", "state", "prompt", "actions")
    values = _mapping(values, file, "the file")
    for key in values:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
            raise ContractError(f"{file}: {key!r} is no field of a policy contract; {hint}")
    images = {}
    for key, camera in _mapping(values.get("images", {}), file, "images").items():
        if camera not in CAMERAS:
            raise ContractError(f"{file}: images.{key} is {camera!r}, expected one of {', '.join(CAMERAS)}")
        images[str(key)] = str(camera)
    if not images:
        raise ContractError(f"{file}: images names no camera; an observation is stamped by its images")
    state = {
        str(key): _parts(parts, file, str(key))
        for key, parts in _mapping(values.get("state", {}), file, "state").items()
    }
    prompt, size = values.get("prompt", "prompt"), values.get("image_size", 224)
    if not isinstance(prompt, str) or not prompt:
        raise ContractError(f"{file}: prompt is {prompt!r}, expected the name of the instruction in the request")
    names = [*images, *state, prompt]
    if len(set(names)) < len(names):
        raise ContractError(f"{file}: {names} are the names in the request; each may stand there once")
    if isinstance(size, bool) or not isinstance(size, int) or not (size == 0 or 16 <= size <= 2048):
        raise ContractError(f"{file}: image_size is {size!r}, expected 16 to 2048 pixels, or 0 for images as they come")
    try:
        actions = load_parameters(ActionMeaning, _mapping(values.get("actions", {}), file, "actions"))
    except ParameterError as error:
        raise ContractError(f"{file}: actions: {error}") from None
    if actions.gripper_open == actions.gripper_closed:
        raise ContractError(f"{file}: actions: gripper_open and gripper_closed are both {actions.gripper_open:g}")
    return Contract(name, images, state, actions, size, prompt)


def _mapping(values: Any, file: str, place: str) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise ContractError(f"{file}: {place} is {str(values)[:60]!r}, expected `name: value` lines")
    return values


def _parts(parts: Any, file: str, key: str) -> tuple[str, ...]:
    if not isinstance(parts, list) or not parts:
        raise ContractError(f"{file}: state.{key} is {parts!r}, expected a list of {', '.join(STATE_PARTS)}")
    for part in parts:
        if part not in STATE_PARTS:
            near = difflib.get_close_matches(str(part), STATE_PARTS, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(STATE_PARTS)}"
            raise ContractError(f"{file}: state.{key} has {part!r}, which is nothing that a robot senses; {hint}")
    return tuple(parts)
