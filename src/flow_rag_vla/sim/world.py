# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The simulated robot and its table: one 25 ms tick at a time, the same every time."""

from __future__ import annotations

from dataclasses import dataclass
from types import TracebackType

import numpy as np
import pybullet as p
from numpy.typing import NDArray

from flow_rag_vla.core.action import TICK_NS, TICK_S
from flow_rag_vla.core.state import GRIPPER_MAX_WIDTH, CartesianTarget, RobotState
from flow_rag_vla.sim.bodies import (
    ARM_JOINTS,
    FINGER_JOINTS,
    HAND_JOINT,
    MOVING_JOINTS,
    TCP_LINK,
    SceneBodies,
    SceneState,
    load_scene,
    read_state,
    yaw_quaternion,
)
from flow_rag_vla.sim.camera import draw
from flow_rag_vla.sim.ground import CameraModel
from flow_rag_vla.sim.kinematics import JOINT_SPEED, joints_for
from flow_rag_vla.sim.scene import SceneSpec
from flow_rag_vla.sim.tasks import TASK_RULES

SUBSTEPS = 6
SUBSTEP_S = TICK_S / SUBSTEPS
GRAVITY = 9.81

ARM_FORCE = (87.0, 87.0, 87.0, 87.0, 12.0, 12.0, 12.0)
"""N m; the Panda's limits."""
GRIPPER_FORCE = 20.0
"""N a finger. Enough to lift everything plain, little enough that a slippery heavy object can slip."""
FINGER_SPEED = 0.15
"""m/s a finger."""

_ARM_GAIN = 0.25
_FINGER_GAIN = 0.3
_LONGEST_MOVE = JOINT_SPEED * TICK_S / (1 - (1 - _ARM_GAIN) ** SUBSTEPS)
"""Radians between a joint and its target at which it turns by its highest speed over one tick."""
_HAND_MASS = 0.93
"""kg beyond the force sensor: hand and fingers; ``urdf/panda.urdf``."""
_HAND_CENTRE = np.array([0.0, 0.0, 0.0482])
"""Centre of that mass in the hand's frame, metres; it moves by less than 1 mm with the fingers."""
_MOUNT_TO_TOOL = np.array([0.0, 0.0, 0.1034])
_SETTLE_SUBSTEPS = 48


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A moment of a World, to return to. Only the World that made it can, until its next reset."""

    state_id: int
    episode: int
    ticks: int
    held: int
    robot: RobotState
    scene: SceneState


class World:
    """One private physics client holding one scene.

    Not thread-safe. The same spec and the same targets give bit-identical states, whatever the World did before.
    """

    def __init__(self, gui: bool = False) -> None:
        """Start the client, without a scene; ``gui`` opens PyBullet's window and needs a screen."""
        self._client = int(p.connect(p.GUI if gui else p.DIRECT))
        if self._client < 0:
            raise RuntimeError("PyBullet could not start its client; with gui=True a screen (DISPLAY) is needed")
        self._spec: SceneSpec | None = None
        self._bodies: SceneBodies | None = None
        self._ticks = self._held = self._episode = 0
        self._robot: RobotState | None = None
        self._scene: SceneState | None = None
        self._snapshots: set[int] = set()

    # -- episode -----------------------------------------------------------------------------------------------------

    def reset(self, spec: SceneSpec) -> RobotState:
        """Build the scene, let it settle, and start counting from zero."""
        client = self._client
        self._bodies = bodies = load_scene(client, spec)
        self._snapshots.clear()
        p.setGravity(0.0, 0.0, -GRAVITY, physicsClientId=client)
        p.setPhysicsEngineParameter(
            fixedTimeStep=SUBSTEP_S,
            numSolverIterations=60,
            deterministicOverlappingPairs=1,
            jointFeedbackMode=p.JOINT_FEEDBACK_IN_JOINT_FRAME,
            physicsClientId=client,
        )
        p.enableJointForceTorqueSensor(bodies.robot, HAND_JOINT, True, physicsClientId=client)
        self._couple_fingers()
        self._spec, self._episode = spec, self._episode + 1
        self._ticks = self._held = 0
        self._command(np.array(spec.start_joints), GRIPPER_MAX_WIDTH)
        self._simulate(_SETTLE_SUBSTEPS)
        return self.robot_state()

    def step(self, target: CartesianTarget) -> RobotState:
        """Move toward ``target`` for one tick of 25 ms.

        A target a little beyond the arm's reach is followed as far as the arm goes; the target's width is what the
        fingers press toward with at most ``GRIPPER_FORCE``.

        Raises:
            ValueError: for a target that is not finite, no rotation, a width outside [0, 0.08] m, or far out of reach.
                The world is then as it was.
        """
        _check(target)
        now = self.robot_state().joint_positions
        joints = joints_for(target.position, target.orientation, hand_near=float(now[6]))
        self._command(np.clip(joints, now - _LONGEST_MOVE, now + _LONGEST_MOVE), float(target.gripper_width))
        self._ticks += 1
        self._simulate(SUBSTEPS)
        rule = TASK_RULES[self.spec.task]
        done = rule.satisfied(self.spec, self.scene_state(), self.robot_state())
        self._held = self._held + 1 if done else 0
        return self.robot_state()

    def success(self) -> bool:
        """Whether the task is done and has stayed so for its hold time."""
        return self._held >= TASK_RULES[self.spec.task].hold_ticks

    def progress(self) -> float:
        """How far the task is, 0 to 1."""
        return float(TASK_RULES[self.spec.task].progress(self.spec, self.scene_state(), self.robot_state()))

    # -- what can be read --------------------------------------------------------------------------------------------

    @property
    def spec(self) -> SceneSpec:
        """The scene of this episode.

        Raises:
            RuntimeError: before the first reset.
        """
        if self._spec is None:
            raise RuntimeError("the world holds no scene yet; call reset(spec) first")
        return self._spec

    @property
    def ticks(self) -> int:
        """Ticks since the reset."""
        return self._ticks

    @property
    def time_s(self) -> float:
        """Simulated seconds since the reset."""
        return self._ticks * TICK_S

    def robot_state(self) -> RobotState:
        """What the robot senses; ``stamp_ns`` counts simulated time from the reset."""
        if self._robot is None:
            raise RuntimeError("the world holds no scene yet; call reset(spec) first")
        return self._robot

    def scene_state(self) -> SceneState:
        """Ground truth: where everything is."""
        if self._scene is None:
            raise RuntimeError("the world holds no scene yet; call reset(spec) first")
        return self._scene

    def render(self, camera: CameraModel) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB: what a camera sees now."""
        return draw(self._client, self._loaded(), camera, self.spec)

    # -- time travel and interference --------------------------------------------------------------------------------

    def save(self) -> Snapshot:
        """Remember this moment. It costs memory until ``forget`` or the next reset."""
        state_id = int(p.saveState(physicsClientId=self._client))
        self._snapshots.add(state_id)
        return Snapshot(state_id, self._episode, self._ticks, self._held, self.robot_state(), self.scene_state())

    def restore(self, snapshot: Snapshot) -> RobotState:
        """Return to a moment of this episode.

        Poses and velocities come back as they were; the forces by which PyBullet warm-starts its contact solver do not.
        So what follows is what would have followed exactly as long as nothing touches, and else nearly so: only
        ``reset`` and the same actions again give the same bits after a contact.

        Raises:
            ValueError: for a snapshot of another episode, or one that was forgotten.
        """
        if snapshot.episode != self._episode or snapshot.state_id not in self._snapshots:
            raise ValueError(
                f"snapshot {snapshot.state_id} of episode {snapshot.episode} is not of this episode ({self._episode}) "
                "or was forgotten; save again after reset"
            )
        p.restoreState(stateId=snapshot.state_id, physicsClientId=self._client)
        self._ticks, self._held = snapshot.ticks, snapshot.held
        self._robot, self._scene = snapshot.robot, snapshot.scene
        return snapshot.robot

    def forget(self, snapshot: Snapshot) -> None:
        """Free a snapshot. A second call does nothing."""
        if snapshot.episode == self._episode and snapshot.state_id in self._snapshots:
            self._snapshots.discard(snapshot.state_id)
            p.removeState(snapshot.state_id, physicsClientId=self._client)

    def set_dynamics(self, name: str, mass: float | None = None, friction: float | None = None) -> None:
        """Change an object, or the drawer (``"drawer"``), in the middle of an episode; ``restore`` does not undo it.

        mass: kg; friction: Coulomb coefficient

        Raises:
            ValueError: for a name that the scene lacks, or a value that is not a positive number.
        """
        values = {"mass": mass, "lateralFriction": friction}
        given = {key: value for key, value in values.items() if value is not None}
        for key, value in given.items():
            if not (np.isfinite(value) and value > 0.0):
                raise ValueError(f"{key} of {name!r} is {value}, expected a positive number")
        bodies = self._loaded()
        if name == "drawer" and bodies.drawer is not None:
            p.changeDynamics(bodies.drawer, 0, physicsClientId=self._client, **given)
        else:
            p.changeDynamics(self._body(name), -1, physicsClientId=self._client, **given)

    def move_object(self, name: str, position: NDArray[np.float64], yaw: float = 0.0) -> None:
        """Put an object elsewhere, at rest: ``position`` (3,) metres, ``yaw`` radians.

        Raises:
            ValueError: for a name that the scene lacks, or a position that is not finite.
        """
        place = np.asarray(position, dtype=float)
        if place.shape != (3,) or not np.isfinite(place).all():
            raise ValueError(f"position of {name!r} is {position}, expected three finite numbers (metres)")
        body = self._body(name)
        p.resetBasePositionAndOrientation(body, place.tolist(), yaw_quaternion(yaw), physicsClientId=self._client)
        p.resetBaseVelocity(body, [0.0, 0.0, 0.0], [0.0, 0.0, 0.0], physicsClientId=self._client)
        self._scene = read_state(self._client, self._loaded())

    def close(self) -> None:
        """Free the client. A second call does nothing."""
        if self._client >= 0:
            p.disconnect(physicsClientId=self._client)
            self._client = -1

    def __enter__(self) -> World:
        """The world itself; leaving the block closes it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the world."""
        self.close()

    # -- inside ------------------------------------------------------------------------------------------------------

    def _loaded(self) -> SceneBodies:
        if self._bodies is None:
            raise RuntimeError("the world holds no scene yet; call reset(spec) first")
        return self._bodies

    def _body(self, name: str) -> int:
        bodies = self._loaded().objects
        if name not in bodies:
            raise ValueError(f"the scene has no object {name!r}; it has {', '.join(bodies) or 'none'}")
        return bodies[name]

    def _couple_fingers(self) -> None:
        # The real hand drives both fingers with one spindle; PyBullet ignores <mimic>.
        robot = self._loaded().robot
        gear = p.createConstraint(
            robot, FINGER_JOINTS[0], robot, FINGER_JOINTS[1], p.JOINT_GEAR, [0, 1, 0], [0, 0, 0], [0, 0, 0],
            physicsClientId=self._client,
        )  # fmt: skip
        p.changeConstraint(gear, gearRatio=-1, erp=0.2, maxForce=100, physicsClientId=self._client)

    def _command(self, joints: NDArray[np.float64], width: float) -> None:
        robot = self._loaded().robot
        p.setJointMotorControlArray(
            robot, ARM_JOINTS, p.POSITION_CONTROL,
            targetPositions=joints.tolist(), forces=ARM_FORCE, positionGains=[_ARM_GAIN] * len(ARM_JOINTS),
            physicsClientId=self._client,
        )  # fmt: skip
        for joint in FINGER_JOINTS:
            p.setJointMotorControl2(
                robot, joint, p.POSITION_CONTROL,
                targetPosition=width / 2, force=GRIPPER_FORCE, positionGain=_FINGER_GAIN, maxVelocity=FINGER_SPEED,
                physicsClientId=self._client,
            )  # fmt: skip

    def _simulate(self, substeps: int) -> None:
        robot, client = self._loaded().robot, self._client
        reaction = np.zeros(6)
        effort = 0.0
        for _ in range(substeps):
            p.stepSimulation(physicsClientId=client)
            hand, left, right = p.getJointStates(robot, (HAND_JOINT, *FINGER_JOINTS), physicsClientId=client)
            reaction += hand[2]
            effort -= (left[3] + right[3]) / 2
        self._sense(reaction / substeps, effort / substeps)

    def _sense(self, reaction: NDArray[np.float64], effort: float) -> None:
        robot, client = self._loaded().robot, self._client
        self._scene = scene = read_state(client, self._loaded())
        states = p.getJointStates(robot, MOVING_JOINTS, physicsClientId=client)
        # computeForwardKinematics: without it PyBullet reports the links where the last substep began.
        tool = p.getLinkState(robot, TCP_LINK, computeForwardKinematics=True, physicsClientId=client)
        position, orientation = np.array(tool[4]), np.array(tool[5])
        fingers = scene.joint_positions[len(ARM_JOINTS) :]
        self._robot = RobotState(
            stamp_ns=self._ticks * TICK_NS,
            position=position,
            orientation=orientation,
            joint_positions=scene.joint_positions[: len(ARM_JOINTS)],
            joint_velocities=np.array([state[1] for state in states[: len(ARM_JOINTS)]]),
            gripper_width=float(fingers.sum()),
            gripper_effort=effort,
            wrench=_external_wrench(reaction, orientation),
        )


def _external_wrench(reaction: NDArray[np.float64], orientation: NDArray[np.float64]) -> NDArray[np.float64]:
    rotation = np.array(p.getMatrixFromQuaternion(orientation.tolist())).reshape(3, 3)
    # The sensor sits where the hand is mounted and reports what holds the hand: against its weight and all that touches
    # it. The hand's own acceleration is not taken out (below 10 N at the limits of motion).
    force = -(rotation @ reaction[:3])
    torque = -(rotation @ reaction[3:])
    weight = np.array([0.0, 0.0, -_HAND_MASS * GRAVITY])
    torque -= np.cross(rotation @ _HAND_CENTRE, weight)
    force -= weight
    return np.concatenate([force, torque - np.cross(rotation @ _MOUNT_TO_TOOL, force)])


def _check(target: CartesianTarget) -> None:
    position, orientation = np.asarray(target.position), np.asarray(target.orientation)
    if position.shape != (3,) or not np.isfinite(position).all():
        raise ValueError(f"target position is {position}, expected three finite numbers (metres)")
    if orientation.shape != (4,) or not np.isfinite(orientation).all():
        raise ValueError(f"target orientation is {orientation}, expected four finite numbers (quaternion x y z w)")
    if abs(float(np.linalg.norm(orientation)) - 1.0) > 1e-3:
        raise ValueError(f"target orientation {orientation} is no unit quaternion; normalise it")
    if not -1e-6 <= target.gripper_width <= GRIPPER_MAX_WIDTH + 1e-6:
        raise ValueError(f"target gripper width is {target.gripper_width} m, expected 0 to {GRIPPER_MAX_WIDTH} m")
