# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Builds a scene inside a PyBullet client. The dynamic world and the renderers build from the same code."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pybullet as p
from numpy.typing import NDArray

from flow_rag_vla.sim.assets import resolved_urdf
from flow_rag_vla.sim.scene import DrawerSpec, FurnitureSpec, ObjectSpec, SceneSpec

ARM_JOINTS = (0, 1, 2, 3, 4, 5, 6)
HAND_JOINT = 7
FINGER_JOINTS = (8, 9)
TCP_LINK = 10
MOVING_JOINTS = (*ARM_JOINTS, *FINGER_JOINTS)
"""PyBullet's indices of the joints of ``urdf/panda.urdf``; ``SceneState.joint_positions`` is in this order."""

JOINT_NAMES = (*(f"panda_joint{i}" for i in range(1, 8)), "panda_finger_joint1", "panda_finger_joint2")

FINGER_FRICTION = 1.0
_TABLE_FRICTION = 0.9
_SIDES = 24
TABLE_LOW, TABLE_HIGH = (-0.22, -0.60), (0.88, 0.60)
"""Corners of the table top, metres."""


@dataclass(frozen=True, slots=True)
class SceneState:
    """Where everything is: ground truth, enough to draw the scene elsewhere.

    joint_positions: (9,) float64, the arm's seven (radians) and the two fingers (metres)
    objects: name -> (position (3,) float64 metres, orientation (4,) float64 unit quaternion x y z w)
    articulation: (A,) float64, openings of articulated furniture, metres; A is 1 with a drawer, else 0
    """

    joint_positions: NDArray[np.float64]
    objects: dict[str, tuple[NDArray[np.float64], NDArray[np.float64]]]
    articulation: NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class SceneBodies:
    """PyBullet's ids of what a scene holds."""

    robot: int
    table: int
    objects: dict[str, int]
    bin: int | None
    drawer: int | None


def load_scene(client: int, spec: SceneSpec) -> SceneBodies:
    """Empty the client, then build the scene in it, the robot at its start."""
    p.resetSimulation(physicsClientId=client)
    table = _table(client)
    robot = _robot(client, spec)
    bin_ = _bin(client, spec.bin) if spec.bin else None
    drawer = _drawer(client, spec.drawer) if spec.drawer else None
    objects = {entry.name: _object(client, entry) for entry in spec.objects}
    return SceneBodies(robot, table, objects, bin_, drawer)


def read_state(client: int, bodies: SceneBodies) -> SceneState:
    """The present state of a scene in a client."""
    joints = np.array([s[0] for s in p.getJointStates(bodies.robot, MOVING_JOINTS, physicsClientId=client)])
    objects = {}
    for name, body in bodies.objects.items():
        position, orientation = p.getBasePositionAndOrientation(body, physicsClientId=client)
        objects[name] = (np.array(position), np.array(orientation))
    opening = [] if bodies.drawer is None else [p.getJointState(bodies.drawer, 0, physicsClientId=client)[0]]
    return SceneState(joints, objects, np.array(opening, dtype=float))


def write_state(client: int, bodies: SceneBodies, state: SceneState) -> None:
    """Put everything where ``state`` says, at rest.

    Raises:
        ValueError: if the state is of another scene.
    """
    opening_count = 0 if bodies.drawer is None else 1
    if set(state.objects) != set(bodies.objects) or state.articulation.size != opening_count:
        raise ValueError(
            f"the state has objects {sorted(state.objects)} and {state.articulation.size} articulated joints, "
            f"the scene has {sorted(bodies.objects)} and {opening_count}; reset the renderer with the scene's own spec"
        )
    if state.joint_positions.shape != (len(MOVING_JOINTS),):
        shape = state.joint_positions.shape
        raise ValueError(f"the state has joints of shape {shape}, expected ({len(MOVING_JOINTS)},)")
    for joint, value in zip(MOVING_JOINTS, state.joint_positions, strict=True):
        p.resetJointState(bodies.robot, joint, float(value), physicsClientId=client)
    for name, (position, orientation) in state.objects.items():
        body = bodies.objects[name]
        p.resetBasePositionAndOrientation(body, position.tolist(), orientation.tolist(), physicsClientId=client)
    if bodies.drawer is not None:
        p.resetJointState(bodies.drawer, 0, float(state.articulation[0]), physicsClientId=client)


def yaw_quaternion(yaw: float) -> tuple[float, float, float, float]:
    """Unit quaternion (x y z w) of a turn about the vertical, radians."""
    return (0.0, 0.0, math.sin(yaw / 2), math.cos(yaw / 2))


def _robot(client: int, spec: SceneSpec) -> int:
    with resolved_urdf("panda.urdf") as path:
        robot = int(p.loadURDF(path, useFixedBase=True, physicsClientId=client))
    for joint, value in zip(ARM_JOINTS, spec.start_joints, strict=True):
        p.resetJointState(robot, joint, value, physicsClientId=client)
    for joint in FINGER_JOINTS:
        p.resetJointState(robot, joint, 0.04, physicsClientId=client)
        _dynamics(client, robot, joint, lateralFriction=FINGER_FRICTION, spinningFriction=0.005, restitution=0.0)
    return robot


def _object(client: int, spec: ObjectSpec) -> int:
    if spec.shape == "box":
        half = [extent / 2 for extent in spec.size]
        collision = p.createCollisionShape(p.GEOM_BOX, halfExtents=half, physicsClientId=client)
        visual = p.createVisualShape(p.GEOM_BOX, halfExtents=half, rgbaColor=spec.colour, physicsClientId=client)
    else:
        radius, height = spec.size[0] / 2, spec.size[2]
        collision = p.createCollisionShape(p.GEOM_CYLINDER, radius=radius, height=height, physicsClientId=client)
        visual = _cylinder_visual(client, radius, height, spec.colour)
    body = int(
        p.createMultiBody(
            0.0 if spec.fixed else spec.mass, collision, visual, spec.position, yaw_quaternion(spec.yaw),
            physicsClientId=client,
        )
    )  # fmt: skip
    _dynamics(
        client, body, -1,
        lateralFriction=spec.friction, spinningFriction=0.002, rollingFriction=0.0005, restitution=0.0,
    )  # fmt: skip
    return body


def _bin(client: int, spec: FurnitureSpec) -> int:
    with resolved_urdf("bin.urdf") as path:
        body = int(p.loadURDF(path, spec.position, yaw_quaternion(spec.yaw), useFixedBase=True, physicsClientId=client))
    _dynamics(client, body, -1, lateralFriction=_TABLE_FRICTION, restitution=0.0)
    return body


def _drawer(client: int, spec: DrawerSpec) -> int:
    with resolved_urdf("drawer.urdf") as path:
        body = int(
            p.loadURDF(
                path, spec.position, yaw_quaternion(spec.yaw), useFixedBase=True, globalScaling=spec.scale,
                physicsClientId=client,
            )
        )  # fmt: skip
    # A motor that wants to stand still, with a small force limit, is dry friction.
    p.setJointMotorControl2(
        body, 0, p.VELOCITY_CONTROL, targetVelocity=0.0, force=spec.friction, physicsClientId=client
    )
    _dynamics(client, body, 0, lateralFriction=spec.handle_friction, restitution=0.0)
    # Scaling multiplies the mass by its cube; the drawer's contents are what weighs.
    _dynamics(client, body, 0, mass=0.6)
    return body


def _table(client: int) -> int:
    # Not drawn: ``ground`` paints the table, since large boxes cost more than all the rest of a picture. A body without
    # a visual shape would be drawn as its collision shape, so this one's is a speck out of every camera's range. The
    # window for people has no painter and shows a real table.
    windowed = p.getConnectionInfo(physicsClientId=client)["connectionMethod"] == p.GUI
    size = (TABLE_HIGH[0] - TABLE_LOW[0], TABLE_HIGH[1] - TABLE_LOW[1])
    centre = ((TABLE_HIGH[0] + TABLE_LOW[0]) / 2, (TABLE_HIGH[1] + TABLE_LOW[1]) / 2, -0.02)
    half = [size[0] / 2, size[1] / 2, 0.02]
    collision = p.createCollisionShape(p.GEOM_BOX, halfExtents=half, physicsClientId=client)
    visual = p.createVisualShape(
        p.GEOM_BOX,
        halfExtents=half if windowed else [1e-4, 1e-4, 1e-4],
        visualFramePosition=(0.0, 0.0, 0.0 if windowed else -50.0),
        rgbaColor=(0.84, 0.80, 0.75, 1.0),
        physicsClientId=client,
    )
    body = int(p.createMultiBody(0.0, collision, visual, centre, physicsClientId=client))
    _dynamics(client, body, -1, lateralFriction=_TABLE_FRICTION, restitution=0.0)
    return body


def _cylinder_visual(client: int, radius: float, height: float, colour: tuple[float, float, float, float]) -> int:
    # PyBullet's own cylinder has normals smoothed over its rims and looks like a pebble.
    corners: list[list[float]] = []
    normals: list[list[float]] = []
    indices: list[int] = []

    def fan(points: list[list[float]], directions: list[list[float]]) -> None:
        first = len(corners)
        corners.extend(points)
        normals.extend(directions)
        for i in range(1, len(points) - 1):
            indices.extend((first, first + i, first + i + 1))

    circle = [(math.cos(2 * math.pi * i / _SIDES), math.sin(2 * math.pi * i / _SIDES)) for i in range(_SIDES)]
    top = [[radius * x, radius * y, height / 2] for x, y in circle]
    fan(top, [[0.0, 0.0, 1.0]] * _SIDES)
    bottom = [[radius * x, radius * y, -height / 2] for x, y in reversed(circle)]
    fan(bottom, [[0.0, 0.0, -1.0]] * _SIDES)
    for (x, y), (u, v) in zip(circle, circle[1:] + circle[:1], strict=True):
        low, high = -height / 2, height / 2
        side = [[radius * a, radius * b, z] for a, b, z in ((x, y, low), (u, v, low), (u, v, high), (x, y, high))]
        fan(side, [[x, y, 0.0], [u, v, 0.0], [u, v, 0.0], [x, y, 0.0]])
    return int(
        p.createVisualShape(
            p.GEOM_MESH, vertices=corners, indices=indices, normals=normals, rgbaColor=colour, physicsClientId=client
        )
    )


def _dynamics(client: int, body: int, link: int, **values: Any) -> None:
    p.changeDynamics(body, link, physicsClientId=client, **values)
