# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A person's side of a takeover: publishes what they ask for and hears what the robot does.

A plain client: any other teleoperation can publish the same topic.
"""

from __future__ import annotations

import time

from flow_rag_vla.bringup import topics
from flow_rag_vla.core.action import TICK_S
from flow_rag_vla.nodes import qos
from flow_rag_vla.nodes.graph_client import GraphClient
from flow_rag_vla_interfaces.msg import ControlCommand, Takeover

PERIOD_S = 0.05
"""Seconds between requests: five of them fit into the age at which the controller takes the person for lost."""

RELEASE_TIMEOUT_S = 2.0


class Teleoperator(GraphClient):
    """Use as a context manager: leaving it releases the robot. One thread publishes; another one hears the commands."""

    def __init__(self, person: str, namespace: str = "") -> None:
        self.person = person
        super().__init__("teleoperator", namespace)
        self._publisher = self._node.create_publisher(Takeover, topics.TAKEOVER, qos.takeover_profile(PERIOD_S))
        self._node.create_subscription(ControlCommand, topics.COMMAND, self._on_command, qos.command_profile(TICK_S))
        self._command: ControlCommand | None = None
        self._asked = False

    def _leave(self) -> None:
        self.release()

    @property
    def connected(self) -> bool:
        """Whether a controller listens."""
        return self._publisher.get_subscription_count() > 0

    @property
    def has_robot(self) -> bool:
        """Whether the robot follows this person."""
        command = self._command
        return (
            command is not None
            and command.mode == ControlCommand.MODE_TAKEOVER
            and command.provenance.policy_revision == self.person
        )

    @property
    def status(self) -> str:
        """What the robot does, in one line."""
        command = self._command
        if command is None:
            return "no commands heard: is the controller running?"
        position = command.target.position
        where = f"target {position.x:+.3f} {position.y:+.3f} {position.z:+.3f} m, gripper {command.gripper_width:.3f} m"
        clamped = [name[6:].lower() for name in dir(ControlCommand) if name.startswith("CLAMP_")]
        bits = [name for name in clamped if command.clamps & getattr(ControlCommand, f"CLAMP_{name.upper()}")]
        what = command.reason_text or "the policy has the robot"
        return f"{what}; {where}{f'; limited by {chr(44).join(bits)}' if bits else ''}"

    def ask(self, velocity: tuple[float, ...], gripper: float) -> None:
        """Take the robot, or keep it, and move it so: (6,) metres and radians per second, base frame; gripper 0 to 1.

        Call it every ``PERIOD_S``, also for a robot that is to rest. A gripper below 0 stays as it is.
        """
        self._asked = True
        self._publish(True, velocity, gripper)

    def release(self, timeout_s: float = RELEASE_TIMEOUT_S) -> bool:
        """Give the robot back to the policy; whether it was seen to be released within the time."""
        if not self._asked:
            return True
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            # Several times: a release that is lost would leave the robot holding.
            before = self._command
            self._publish(False, (0.0,) * 6, -1.0)
            time.sleep(PERIOD_S)
            command = self._command
            if command is not None and command is not before and not _taken_over(command):
                self._asked = False
                return True
        return False

    def _publish(self, active: bool, velocity: tuple[float, ...], gripper: float) -> None:
        message = Takeover(person=self.person, active=active, gripper=float(gripper))
        message.header.stamp = self._node.get_clock().now().to_msg()
        message.header.frame_id = topics.BASE_FRAME
        linear, angular = message.velocity.linear, message.velocity.angular
        linear.x, linear.y, linear.z, angular.x, angular.y, angular.z = (float(value) for value in velocity)
        self._publisher.publish(message)

    def _on_command(self, command: ControlCommand) -> None:
        self._command = command


def _taken_over(command: ControlCommand) -> bool:
    lost = command.reason == ControlCommand.REASON_TAKEOVER_LOST
    return bool(lost or command.mode == ControlCommand.MODE_TAKEOVER)
