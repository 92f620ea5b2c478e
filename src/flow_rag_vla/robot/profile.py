# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What there is to know about an arm before it may be moved: a YAML file, checked as a whole when it is read."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray

from flow_rag_vla.core.yaml_text import plain_yaml
from flow_rag_vla.robot.fields import Fields, ProfileError

MODES = ("joint_trajectory", "joint_position", "cartesian_pose", "cartesian_twist")
GRIPPERS = ("none", "position", "trajectory")
ROLES = ("front", "wrist")
PI2 = 2 * math.pi
LONGEST_STOP_S = 1.0
"""From its highest speed everything must stop in so many seconds: an emergency stop brings it to rest by no more than
the acceleration, while a person waits beside it."""


@dataclass(frozen=True, slots=True)
class Joint:
    """One joint: its limits in radians, rad/s and rad/s^2, and where it is in the home posture."""

    name: str
    low: float
    high: float
    velocity: float
    acceleration: float
    home: float


@dataclass(frozen=True, slots=True)
class Gripper:
    """A gripper driven by one joint.

    closed, opened: joint values (metres or radians) of the closed and the open gripper
    width_closed, width_open: distance between the fingertips there, metres
    """

    kind: str
    command_topic: str
    joint: str
    closed: float
    opened: float
    width_closed: float
    width_open: float

    def joint_value(self, width: float) -> float:
        """Joint value for a distance between the fingertips, metres, kept inside the range."""
        share = (width - self.width_closed) / (self.width_open - self.width_closed)
        return self.closed + min(max(share, 0.0), 1.0) * (self.opened - self.closed)

    def width(self, value: float) -> float:
        """Distance between the fingertips, metres, for a joint value."""
        share = (value - self.closed) / (self.opened - self.closed)
        return self.width_closed + share * (self.width_open - self.width_closed)


@dataclass(frozen=True, slots=True)
class Camera:
    """A camera that stands for one of the two that the encoder knows. ``info`` is empty if it has no such topic."""

    role: str
    image: str
    compressed: bool
    info: str


@dataclass(frozen=True, slots=True)
class RobotProfile:
    """An arm. Topics are relative to the graph's namespace unless they begin with a slash.

    orientation: exact, or best for an arm whose joints cannot give every orientation
    tool_speed, tool_acceleration, turn_speed: of the tool, m/s, m/s^2, rad/s
    reach_time: a target that the arm cannot reach in so many seconds at its limits is a jump, and refused
    tracking: how far a joint may lag behind what it was told, radians
    command_rate, state_rate: Hz
    state_timeout, command_timeout: seconds of silence after which the arm is held
    """

    file: str
    name: str
    urdf: Path
    base_frame: str
    tool_frame: str
    mode: str
    command_topic: str
    joints: tuple[Joint, ...]
    joint_states: str
    wrench: str
    gripper: Gripper
    cameras: tuple[Camera, ...]
    orientation: str
    tool_speed: float
    tool_acceleration: float
    turn_speed: float
    reach_time: float
    tracking: float
    command_rate: float
    state_rate: float
    state_timeout: float
    command_timeout: float
    workspace_low: tuple[float, ...]
    workspace_high: tuple[float, ...]

    @property
    def joint_names(self) -> tuple[str, ...]:
        """Names in the profile's order, which is the order of every array."""
        return tuple(joint.name for joint in self.joints)

    def limits(self, name: str) -> NDArray[np.float64]:
        """(J,) float64: ``low``, ``high``, ``velocity``, ``acceleration`` or ``home`` of every joint."""
        return np.array([getattr(joint, name) for joint in self.joints], dtype=np.float64)


def load_profile(path: str | Path) -> RobotProfile:
    """Read and check a profile.

    Raises:
        ProfileError: naming the file, the field, its value and what is expected.
    """
    file = Path(path).expanduser()
    try:
        values = plain_yaml(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ProfileError(f"{file}: cannot be read ({error.strerror}); name a profile's YAML file") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ProfileError(f"{file}: is no YAML: {' '.join(str(error).split())}") from None
    return read_profile(values, file)


def read_profile(values: object, file: Path) -> RobotProfile:
    """Check a profile's values; ``file`` is where they were read, for messages and relative paths.

    Raises:
        ProfileError: naming the file, the field, its value and what is expected.
    """
    top = Fields(values, str(file))
    urdf = (file.parent / Path(top.text("urdf")).expanduser()).resolve()
    if not urdf.is_file():
        raise top.wrong("urdf", str(urdf), "a file", "give its path relative to the profile")
    state, motion = top.inner("state"), top.inner("motion", optional=True)
    rates, timeouts, space = (
        top.inner("rates", optional=True),
        top.inner("timeouts", optional=True),
        top.inner("workspace"),
    )
    command_rate = rates.number("command", 10.0, 1000.0, 40.0)
    low, high = space.numbers("low", 3, -5.0, 5.0), space.numbers("high", 3, -5.0, 5.0)
    if any(below >= above for below, above in zip(low, high, strict=True)):
        raise space.wrong("high", list(high), f"more than low ({list(low)}) on every axis")
    tool_speed = motion.number("tool_speed", 0.01, 3.0, 0.5)
    profile = RobotProfile(
        file=str(file),
        name=top.text("name"),
        urdf=urdf,
        base_frame=top.text("base_frame"),
        tool_frame=top.text("tool_frame"),
        mode=top.text("mode", choices=MODES),
        command_topic=top.text("command_topic"),
        joints=_joints(top),
        joint_states=state.text("joint_states"),
        wrench=state.text("wrench", ""),
        gripper=_gripper(top.inner("gripper", optional=True)),
        cameras=_cameras(top),
        orientation=motion.text("orientation", "exact", ("exact", "best")),
        tool_speed=tool_speed,
        tool_acceleration=_stopping(
            motion, "tool_acceleration", tool_speed, motion.number("tool_acceleration", 0.05, 30.0, 5.0)
        ),
        turn_speed=motion.number("turn_speed", 0.05, 10.0, 2.5),
        reach_time=motion.number("reach_time", 0.05, 2.0, 0.25),
        tracking=motion.number("tracking", 0.01, 1.0, 0.2),
        command_rate=command_rate,
        state_rate=rates.number("state", 10.0, 1000.0, 40.0),
        # A limit below two periods would hold the arm at every late sample.
        state_timeout=timeouts.number("state", 0.02, 2.0, 0.15),
        command_timeout=timeouts.number("command", 2.0 / command_rate, 2.0, max(0.1, 4.0 / command_rate)),
        workspace_low=low,
        workspace_high=high,
    )
    for fields in (state, motion, rates, timeouts, space, top):
        fields.end()
    return profile


def _joints(top: Fields) -> tuple[Joint, ...]:
    joints: list[Joint] = []
    for fields in top.each("joints"):
        low, high = fields.number("low", -PI2, PI2), fields.number("high", -PI2, PI2)
        if low >= high:
            raise fields.wrong("high", high, f"more than low ({low:g})")
        velocity = fields.number("velocity", 0.01, 20.0)
        acceleration = _stopping(fields, "acceleration", velocity, fields.number("acceleration", 0.05, 200.0))
        joint = Joint(fields.text("name"), low, high, velocity, acceleration, fields.number("home", low, high))
        fields.end()
        if joint.name in [other.name for other in joints]:
            raise fields.wrong("name", joint.name, "a name that no other joint has")
        joints.append(joint)
    return tuple(joints)


def _stopping(fields: Fields, name: str, speed: float, acceleration: float) -> float:
    """The acceleration, if it stops that speed in time."""
    if speed > acceleration * LONGEST_STOP_S:
        raise fields.wrong(
            name,
            acceleration,
            f"at least {speed / LONGEST_STOP_S:g}, to stop from {speed:g} in {LONGEST_STOP_S:g} s",
            "lower the speed, or look at the units",
        )
    return acceleration


def _gripper(fields: Fields) -> Gripper:
    kind = fields.text("kind", "none", GRIPPERS)
    if kind == "none":
        fields.end()
        return Gripper("none", "", "", 0.0, 1.0, 0.0, 0.08)
    width = fields.numbers("width", 2, 0.0, 0.5)
    gripper = Gripper(
        kind, fields.text("command_topic"), fields.text("joint"), fields.number("closed", -PI2, PI2),
        fields.number("open", -PI2, PI2), width[0], width[1],
    )  # fmt: skip
    if gripper.width_closed >= gripper.width_open:
        raise fields.wrong("width", list(width), "[closed, open] with closed below open, metres")
    if abs(gripper.closed - gripper.opened) < 1e-6:
        raise fields.wrong("open", gripper.opened, "a joint value that differs from closed")
    fields.end()
    return gripper


def _cameras(top: Fields) -> tuple[Camera, ...]:
    cameras: list[Camera] = []
    for fields in top.each("cameras", optional=True):
        role = fields.text("role", choices=ROLES)
        if role in [camera.role for camera in cameras]:
            raise fields.wrong("role", role, "each role once")
        cameras.append(Camera(role, fields.text("image"), fields.flag("compressed", False), fields.text("info", "")))
        fields.end()
    return tuple(cameras)


def find_profile(name: str, folder: Path) -> Path:
    """The file of a profile: a path to a YAML file, or the name of one in ``folder``.

    Raises:
        ProfileError: naming the profiles that ship.
    """
    path = Path(name).expanduser()
    if path.suffix in (".yaml", ".yml") or "/" in name:
        return path
    shipped = sorted(found.stem for found in folder.glob("*.yaml"))
    if name in shipped:
        return folder / f"{name}.yaml"
    near = difflib.get_close_matches(name, shipped, 1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ProfileError(f"profile {name!r} is not known; {hint}shipped: {', '.join(shipped)}; or name a YAML file")
