# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The simulated robot: commands in, robot state and ground truth out, 40 times a second."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from geometry_msgs.msg import WrenchStamped
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rosgraph_msgs.msg import Clock as ClockMessage
from sensor_msgs.msg import JointState

from flow_rag_vla.bringup import topics
from flow_rag_vla.bringup.parameters.simulator import SimulatorParameters
from flow_rag_vla.core.action import TICK_NS, TICK_S
from flow_rag_vla.core.goal import UnknownTaskError, parse_instruction
from flow_rag_vla.core.state import GRIPPER_MAX_WIDTH, CartesianTarget, RobotState
from flow_rag_vla.nodes import qos
from flow_rag_vla.nodes.complaints import Complaints, remember
from flow_rag_vla.nodes.conversions import pose_message, robot_state_message
from flow_rag_vla.nodes.diagnostics import OK, WARN, Diagnostics, Health
from flow_rag_vla.nodes.parameters import NodeParameters
from flow_rag_vla.nodes.permission import permitted
from flow_rag_vla.nodes.runtime import run
from flow_rag_vla.nodes.stamps import to_ns, to_stamp
from flow_rag_vla.sim.bodies import JOINT_NAMES
from flow_rag_vla.sim.phase import period_ns
from flow_rag_vla.sim.scene import SceneSpec, sample_scene
from flow_rag_vla.sim.tasks import TASK_RULES
from flow_rag_vla.sim.world import World
from flow_rag_vla_interfaces.msg import ControlCommand, ObjectPose, SceneState
from flow_rag_vla_interfaces.msg import RobotState as RobotStateMessage
from flow_rag_vla_interfaces.srv import ResetSimulation, StepSimulation

ARM_NAMES, FINGER_NAMES = JOINT_NAMES[:7], JOINT_NAMES[7:]

BELATED_NS = 2 * TICK_NS
"""How long after a reset commands may still be made of a state from before it: until one of the new scene is heard."""


class Simulator(Node):
    """Owns the PyBullet world; nothing else in the graph touches it."""

    def __init__(self) -> None:
        super().__init__("simulator")
        self._complain = Complaints(self.get_logger())
        self._settings = NodeParameters(self, SimulatorParameters)
        settings = self._settings.value
        self._stepped = settings.mode == "stepped"
        self._sim_time = self._stepped or bool(self.get_parameter("use_sim_time").value)
        self._world = World(gui=settings.gui)
        self._tick = 0
        self._resets = self._reset_ns = 0
        self._target: CartesianTarget
        self._target_steady_ns = 0
        self._late = 0
        self._last_steady_ns = 0

        self._state_publisher = self.create_publisher(RobotStateMessage, topics.ROBOT_STATE, qos.SENSOR)
        self._joint_publisher = self.create_publisher(JointState, topics.JOINT_STATES, qos.SENSOR)
        self._gripper_publisher = self.create_publisher(JointState, topics.GRIPPER_STATE, qos.SENSOR)
        self._wrench_publisher = self.create_publisher(WrenchStamped, topics.WRENCH, qos.SENSOR)
        self._truth_publisher = self.create_publisher(SceneState, topics.GROUND_TRUTH, qos.SENSOR)
        self._clock_publisher = self.create_publisher(ClockMessage, topics.CLOCK, 10)
        self.create_subscription(ControlCommand, topics.COMMAND, self._on_command, qos.command_profile(TICK_S))
        self.create_service(ResetSimulation, topics.RESET_SIMULATION, permitted(self, self._on_reset))
        self.create_service(StepSimulation, topics.STEP_SIMULATION, permitted(self, self._on_step))

        self._scene = sample_scene(settings.task, settings.variant, settings.seed)
        self._show(self._scene)
        if not self._stepped:
            # A steady timer: with use_sim_time this node is the source of the clock it would otherwise wait for.
            self._timer = self.create_timer(TICK_S, self._on_timer, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._diagnostics = Diagnostics(self, "pybullet", self._health)
        self.get_logger().info(f"simulating {self._scene.goal.instruction!r} ({settings.mode})")

    def destroy_node(self) -> None:
        """Close the world, then the node."""
        self._world.close()
        super().destroy_node()

    def _on_command(self, command: ControlCommand) -> None:
        if to_ns(command.header.stamp) < self._reset_ns + (0 if self._stepped else BELATED_NS):
            # Made of where the robot was before it was put elsewhere: followed, it would jerk the arm back there.
            return
        pose = command.target
        position = np.array([pose.position.x, pose.position.y, pose.position.z])
        orientation = np.array([pose.orientation.x, pose.orientation.y, pose.orientation.z, pose.orientation.w])
        numbers = np.concatenate([position, orientation, [command.gripper_width]])
        if not np.isfinite(numbers).all() or abs(float(np.linalg.norm(orientation)) - 1.0) > 1e-2:
            self._complain(
                f"command {command.tick} has target {numbers.round(4).tolist()}, expected finite numbers and a unit "
                "quaternion; the robot keeps its last target"
            )
            return
        width = min(max(float(command.gripper_width), 0.0), GRIPPER_MAX_WIDTH)
        self._target = CartesianTarget(position, orientation, width)
        self._target_steady_ns = time.monotonic_ns()
        self._commanded = True

    def _on_reset(
        self, request: ResetSimulation.Request, response: ResetSimulation.Response
    ) -> ResetSimulation.Response:
        try:
            goal = parse_instruction(request.instruction) if request.instruction else None
            task = request.task or (goal.task if goal else "")
            if goal is not None and task != goal.task:
                raise UnknownTaskError(
                    f"instruction {request.instruction!r} is of task {goal.task!r}, but task is {task!r}; "
                    "leave one of them empty"
                )
            scene = sample_scene(task, request.variant or "plain", int(request.seed), goal)
        except ValueError as error:
            self.get_logger().error(remember(self.get_logger().name, f"reset refused: {error}"))
            response.message = str(error)
            return response
        self._show(scene)
        response.ok = True
        response.instruction = scene.goal.instruction
        response.time_limit = TASK_RULES[scene.task].time_limit_s
        response.objects = [item.name for item in scene.objects]
        return response

    def _on_step(self, request: StepSimulation.Request, response: StepSimulation.Response) -> StepSimulation.Response:
        response.tick = self._tick
        if not self._stepped:
            response.message = "the simulator runs in real time; start it with mode:=stepped to step it"
        elif not 1 <= request.ticks <= 4000:
            response.message = f"ticks is {request.ticks}, expected 1 to 4000 (100 s)"
        else:
            for _ in range(request.ticks):
                self._advance()
            response.ok, response.tick = True, self._tick
        return response

    def _show(self, scene: SceneSpec) -> None:
        self._scene = scene
        state = self._world.reset(scene)
        self._target = CartesianTarget(state.position, state.orientation, state.gripper_width)
        self._commanded = False
        self._reset_ns = self._now_ns()
        self._resets += 1
        self._last_steady_ns = 0
        self._publish(state)

    def _on_timer(self) -> None:
        if self._commanded:
            self._timer.timer_period_ns = period_ns(time.monotonic_ns() - self._target_steady_ns)
        self._advance()

    def _advance(self) -> None:
        now = time.monotonic_ns()
        if self._last_steady_ns and now - self._last_steady_ns > 1.5 * TICK_NS and not self._stepped:
            self._late += 1
        self._last_steady_ns = now
        timeout_ns = self._settings.value.command_timeout * 1e9
        if self._commanded and not self._stepped and now - self._target_steady_ns > timeout_ns:
            # Commands stopped: keep the present pose, and the grip, rather than run on to an old target.
            here = self._world.robot_state()
            self._target = CartesianTarget(here.position, here.orientation, self._target.gripper_width)
            self._commanded = False
            self.get_logger().warning("no command arrives; the robot keeps its pose", throttle_duration_sec=5.0)
        try:
            state = self._world.step(self._target)
        except ValueError as error:
            self._complain(f"command not followed: {error}")
            here = self._world.robot_state()
            self._target = CartesianTarget(here.position, here.orientation, self._target.gripper_width)
            state = self._world.step(self._target)
        self._tick += 1
        self._publish(state)

    def _now_ns(self) -> int:
        return self._tick * TICK_NS if self._sim_time else to_ns(self.get_clock().now().to_msg())

    def _publish(self, state: RobotState) -> None:
        stamp_ns = self._now_ns()
        stamp = to_stamp(stamp_ns)
        self._clock_publisher.publish(ClockMessage(clock=stamp))
        message = robot_state_message(state, ARM_NAMES, topics.BASE_FRAME)
        message.header.stamp = stamp
        self._state_publisher.publish(message)

        joints = JointState(name=list(ARM_NAMES))
        joints.header.stamp = stamp
        joints.position, joints.velocity = message.joint_positions, message.joint_velocities
        self._joint_publisher.publish(joints)
        self._gripper_publisher.publish(_gripper_message(state, stamp_ns))

        wrench = WrenchStamped(wrench=message.wrench)
        wrench.header = message.header
        self._wrench_publisher.publish(wrench)
        self._truth_publisher.publish(self._truth(stamp_ns))

    def _truth(self, stamp_ns: int) -> SceneState:
        scene, truth = self._scene, self._world.scene_state()
        message = SceneState(
            reset_count=self._resets,
            task=scene.task,
            variant=scene.variant,
            seed=scene.seed,
            instruction=scene.goal.instruction,
            joint_names=list(JOINT_NAMES),
            joint_positions=[float(value) for value in truth.joint_positions],
            articulation=[float(value) for value in truth.articulation],
            success=self._world.success(),
            progress=float(self._world.progress()),
        )
        message.header.stamp = to_stamp(stamp_ns)
        message.header.frame_id = topics.BASE_FRAME
        message.objects = [
            ObjectPose(name=name, pose=pose_message(position, orientation))
            for name, (position, orientation) in truth.objects.items()
        ]
        return message

    def _health(self) -> Health:
        figures = {
            "task": self._scene.task,
            "variant": self._scene.variant,
            "seed": self._scene.seed,
            "ticks": self._tick,
            "resets": self._resets,
            "late_ticks": self._late,
            "refused_commands": self._complain.count,
        }
        if self._complain.count:
            return WARN, "some commands were refused", figures
        return OK, "simulating", figures


def _gripper_message(state: RobotState, stamp_ns: int) -> JointState:
    message = JointState(name=list(FINGER_NAMES))
    message.header.stamp = to_stamp(stamp_ns)
    message.position = [state.gripper_width / 2, state.gripper_width / 2]
    message.effort = [float(state.gripper_effort), float(state.gripper_effort)]
    return message


def main(args: Sequence[str] | None = None) -> int:
    """Run the simulator node."""
    return run(Simulator, None if args is None else list(args))


if __name__ == "__main__":
    raise SystemExit(main())
