# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""An arm's links as its URDF gives them: what to draw, and where each link stands on the one before it.

That is all that viewers need: they put the links together themselves. So it takes a URDF and numpy, and no kinematics.
"""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.rotation import quaternion_conjugate, quaternion_from_rotation_vector, quaternion_multiply

Array = NDArray[np.float64]

_ROTATING, _SLIDING = ("revolute", "continuous"), ("prismatic",)
_ROD = 0.015
"""Metres: half the thickness of a link that has no shape of its own."""
_SHORTEST_ROD = 0.005


class DescriptionError(ValueError):
    """A URDF cannot be drawn; the message says what is wrong in it."""


@dataclass(frozen=True, slots=True)
class Transform:
    """Where ``child`` stands in ``parent``: position (3,) metres, unit quaternion (4,) x y z w."""

    parent: str
    child: str
    position: Array
    orientation: Array

    def __matmul__(self, other: Transform) -> Transform:
        """Where the other's child stands in this one's parent."""
        return Transform(
            self.parent,
            other.child,
            self.position + rotated(self.orientation, other.position),
            quaternion_multiply(self.orientation, other.orientation),
        )

    def inverse(self) -> Transform:
        """Where the parent stands in the child."""
        back = quaternion_conjugate(self.orientation)
        return Transform(self.child, self.parent, -rotated(back, self.position), back)


@dataclass(frozen=True, slots=True)
class JointFrame:
    """One joint: where its child stands at zero, and how it moves it.

    axis: (3,) unit vector in the child's frame; follows: joint, factor and offset of one that mimics another
    """

    name: str
    kind: str
    zero: Transform
    axis: Array
    follows: tuple[str, float, float] | None = None

    @property
    def fixed(self) -> bool:
        """Whether the child never moves on its parent."""
        return self.kind == "fixed"

    def at(self, value: float) -> Transform:
        """Where the child stands for a joint value in radians, or metres of one that slides."""
        if self.fixed:
            return self.zero
        turn, slide = (value, 0.0) if self.kind in _ROTATING else (0.0, value)
        moved = Transform("", self.zero.child, self.axis * slide, quaternion_from_rotation_vector(self.axis * turn))
        return self.zero @ moved


@dataclass(frozen=True, slots=True)
class Description:
    """An arm's tree of links. ``root`` is the link that stands on no other."""

    name: str
    links: tuple[str, ...]
    joints: tuple[JointFrame, ...]
    root: str

    @property
    def movable(self) -> tuple[str, ...]:
        """Names of the joints that have a value of their own."""
        return tuple(joint.name for joint in self.joints if not joint.fixed and joint.follows is None)

    def fixed(self) -> tuple[Transform, ...]:
        """The links that never move on the one before them."""
        return tuple(joint.zero for joint in self.joints if joint.fixed)

    def moved(self, values: Mapping[str, float]) -> tuple[Transform, ...]:
        """The other links, for joint values by name, radians or metres; a joint without one stands at zero."""
        return tuple(joint.at(_value(joint, values)) for joint in self.joints if not joint.fixed)

    def place(self, link: str, values: Mapping[str, float]) -> Transform:
        """Where a link stands in the root, for joint values as in ``moved``."""
        above = {joint.zero.child: joint for joint in self.joints}
        place = same_place(link, link)
        while place.parent != self.root:
            joint = above[place.parent]
            place = joint.at(_value(joint, values)) @ place
        return place


def same_place(parent: str, child: str) -> Transform:
    """Two frames that are one."""
    return Transform(parent, child, np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0]))


def read_description(text: str, source: str) -> Description:
    """Read a URDF; ``source`` names it in messages.

    Raises:
        DescriptionError: naming what is wrong: no XML, a joint of a kind that has no single value, no tree.
    """
    robot = _parsed(text, source)
    links = tuple(_named(link, source) for link in robot.findall("link"))
    joints = tuple(_joint(element, source) for element in robot.findall("joint"))
    children = [joint.zero.child for joint in joints]
    for joint in joints:
        for link in (joint.zero.parent, joint.zero.child):
            if link not in links:
                raise DescriptionError(f"{source}: joint {joint.name!r} names the link {link!r}, which is not there")
    roots = [link for link in links if link not in children]
    reached = set(roots)
    while more := {j.zero.child for j in joints if j.zero.parent in reached} - reached:
        reached |= more
    if len(roots) != 1 or len(set(children)) != len(children) or len(reached) != len(links):
        apart = sorted({*roots[1:], *(set(links) - reached), *(name for name in children if children.count(name) > 1)})
        raise DescriptionError(f"{source}: the links are not one tree; look at {', '.join(apart) or 'their names'}")
    return Description(robot.get("name", ""), links, joints, roots[0])


def drawable(text: str, source: str, mesh_at: Callable[[str], str]) -> str:
    """The URDF as viewers are to get it: meshes where they lie, and rods for an arm without any shape.

    mesh_at: address of the mesh that the URDF names

    Raises:
        DescriptionError: as ``read_description``.
    """
    robot = _parsed(text, source)
    for mesh in robot.iter("mesh"):
        mesh.set("filename", mesh_at(mesh.get("filename", "")))
    if robot.find("link/visual") is None:
        joints = read_description(text, source).joints
        for link in robot.findall("link"):
            ends = [joint.zero.position for joint in joints if joint.zero.parent == link.get("name")]
            _add_rods(link, ends)
    return ElementTree.tostring(robot, encoding="unicode")


def rotated(orientation: Array, vector: Array) -> Array:
    """A vector (3,) turned by a unit quaternion (4,) x y z w."""
    pure = np.array([*vector, 0.0])
    return quaternion_multiply(quaternion_multiply(orientation, pure), quaternion_conjugate(orientation))[:3]


def from_rpy(roll: float, pitch: float, yaw: float) -> Array:
    """Quaternion (4,) x y z w of rotations about the fixed axes x, y, z, radians, as a URDF gives them."""
    about_x, about_y, about_z = (quaternion_from_rotation_vector(turn) for turn in np.diag([roll, pitch, yaw]))
    return quaternion_multiply(about_z, quaternion_multiply(about_y, about_x))


def looking(parent: str, child: str, eye: Sequence[float], look_at: Sequence[float], up: Sequence[float]) -> Transform:
    """A camera's optical frame (x right, y down, z forward): where it is and looks, (3,) metres each, in ``parent``.

    up: (3,) what is up in its picture

    Raises:
        DescriptionError: if it looks along ``up``, or at itself.
    """
    forward = np.subtract(look_at, eye, dtype=np.float64)
    right = np.cross(forward, up)
    if np.linalg.norm(right) < 1e-9:
        raise DescriptionError(f"a camera at {list(eye)} that looks at {list(look_at)} has no upright picture")
    forward, right = forward / np.linalg.norm(forward), right / np.linalg.norm(right)
    return Transform(parent, child, np.array(eye), from_axes(np.stack([right, np.cross(forward, right), forward], 1)))


def from_axes(axes: Array) -> Array:
    """Unit quaternion (4,) x y z w of a rotation matrix (3, 3): the largest eigenvector of Bar-Itzhack [2000]."""
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = axes
    matrix = np.array(
        [
            [xx - yy - zz, yx + xy, zx + xz, zy - yz],
            [yx + xy, yy - xx - zz, zy + yz, xz - zx],
            [zx + xz, zy + yz, zz - xx - yy, yx - xy],
            [zy - yz, xz - zx, yx - xy, xx + yy + zz],
        ]
    )
    return np.asarray(np.linalg.eigh(matrix)[1][:, -1])


def _parsed(text: str, source: str) -> ElementTree.Element:
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        # A few of its entities can stand for gigabytes.
        raise DescriptionError(f"{source}: has a document type, which no URDF needs; take it out")
    try:
        robot = ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise DescriptionError(f"{source}: is no XML: {error}") from None
    if robot.tag != "robot":
        raise DescriptionError(f"{source}: begins with <{robot.tag}>, expected <robot>; run xacro on it first")
    return robot


def _joint(element: ElementTree.Element, source: str) -> JointFrame:
    name, kind = _named(element, source), element.get("type", "")
    if kind not in ("fixed", *_ROTATING, *_SLIDING):
        known = ", ".join(("fixed", *_ROTATING, *_SLIDING))
        raise DescriptionError(f"{source}: joint {name!r} is of type {kind!r}, expected one of {known}")
    ends = [element.find(tag) for tag in ("parent", "child")]
    parent, child = ("" if end is None else end.get("link", "") for end in ends)
    origin, axis, mimic = element.find("origin"), element.find("axis"), element.find("mimic")
    position = _numbers(origin, "xyz", (0.0, 0.0, 0.0), name, source)
    angles = _numbers(origin, "rpy", (0.0, 0.0, 0.0), name, source)
    direction = _numbers(axis, "xyz", (1.0, 0.0, 0.0), name, source)
    length = float(np.linalg.norm(direction))
    if length < 1e-9:
        raise DescriptionError(f"{source}: joint {name!r} has the axis {direction.tolist()}, expected a direction")
    follows = None
    if mimic is not None:
        factor = float(_numbers(mimic, "multiplier", (1.0,), name, source)[0])
        follows = mimic.get("joint", ""), factor, float(_numbers(mimic, "offset", (0.0,), name, source)[0])
    return JointFrame(name, kind, Transform(parent, child, position, from_rpy(*angles)), direction / length, follows)


def _value(joint: JointFrame, values: Mapping[str, float]) -> float:
    if joint.follows is None:
        return values.get(joint.name, 0.0)
    name, factor, offset = joint.follows
    return factor * values.get(name, 0.0) + offset


def _named(element: ElementTree.Element, source: str) -> str:
    name = element.get("name", "")
    if not name:
        raise DescriptionError(f"{source}: a <{element.tag}> has no name")
    return name


def _numbers(
    element: ElementTree.Element | None, name: str, default: Sequence[float], joint: str, source: str
) -> Array:
    text = None if element is None else element.get(name)
    if text is None:
        return np.array(default)
    try:
        values = np.array([float(word) for word in text.split()])
    except ValueError:
        values = np.array([])
    if values.shape != (len(default),) or not np.isfinite(values).all():
        raise DescriptionError(f"{source}: joint {joint!r} has {name}={text!r}, expected {len(default)} numbers")
    return values


def _add_rods(link: ElementTree.Element, ends: Iterable[Array]) -> None:
    """A rod from the link's origin to each joint on it."""
    for end in ends:
        length = float(np.linalg.norm(end))
        if length < _SHORTEST_ROD:
            continue
        visual = ElementTree.SubElement(link, "visual")
        # A cylinder lies along z: pitch, then yaw, bring that to the direction.
        pitch, yaw = float(np.arccos(end[2] / length)), float(np.arctan2(end[1], end[0]))
        middle = " ".join(f"{value:.6g}" for value in end / 2)
        ElementTree.SubElement(visual, "origin", xyz=middle, rpy=f"0 {pitch:.6g} {yaw:.6g}")
        geometry = ElementTree.SubElement(visual, "geometry")
        ElementTree.SubElement(geometry, "cylinder", radius=f"{_ROD:g}", length=f"{length:.6g}")
