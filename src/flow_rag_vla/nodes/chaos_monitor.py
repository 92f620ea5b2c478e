# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The independent watch on the command stream while faults are injected: a process of its own that only listens.

Each thing noticed becomes one line of JSON with the steady time at which it was: violations, gaps, changes of mode and
of the bridge's hold, what the mock arm counts, and every sign of life of a node.
"""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from std_msgs.msg import Bool, String, UInt64

from flow_rag_vla.bringup import topics
from flow_rag_vla.bringup.loop_settings import loop_settings
from flow_rag_vla.bringup.parameters.chaos import ChaosMonitorParameters
from flow_rag_vla.bringup.parameters.controller import ControllerParameters
from flow_rag_vla.bringup.robot_graph import HOLD_TOPIC, VIOLATIONS_TOPIC, WATCHDOG_STOPS_TOPIC, loop_limits
from flow_rag_vla.evaluate.chaos.sending import SendingTimes
from flow_rag_vla.evaluate.chaos.watch import CommandLimits, CommandSample, CommandWatch
from flow_rag_vla.nodes import qos
from flow_rag_vla.nodes.diagnostics import OK, Diagnostics, Health
from flow_rag_vla.nodes.parameters import NodeParameters
from flow_rag_vla.nodes.robot_profile import profile_of
from flow_rag_vla.nodes.runtime import StartError, run
from flow_rag_vla.robot.profile import RobotProfile
from flow_rag_vla_interfaces.msg import ControlCommand, SceneState

if TYPE_CHECKING:
    from rclpy.subscription import MessageInfo

COUNT_EVERY_S = 0.1
"""A round ends with the first count that shows commands again: it waits that long for nothing."""

_ALL = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=400, reliability=ReliabilityPolicy.RELIABLE)
"""A monitor that the machine holds up must still hear every command: ten seconds of them."""


def command_limits(profile: RobotProfile | None) -> CommandLimits:
    """What no command of the loop may pass with this arm; None: with the simulated one."""
    parameters = dataclasses.replace(ControllerParameters(), **({} if profile is None else loop_limits(profile)))
    limits = loop_settings(parameters).limits
    return CommandLimits(
        limits.translation,
        limits.rotation,
        limits.translation_change,
        limits.workspace_low,
        limits.workspace_high,
        limits.gripper_width,
        limits.tracking_distance,
        1e3 * parameters.max_observation_age,
    )


def command_sample(message: ControlCommand, sent_ns: int, received_ns: int) -> CommandSample:
    """A command message as the watch takes it."""
    position, turn = message.target.position, message.target.orientation
    return CommandSample(
        sent_ns,
        received_ns,
        int(message.tick),
        int(message.mode),
        int(message.reason),
        message.reason_text,
        (position.x, position.y, position.z),
        (turn.x, turn.y, turn.z, turn.w),
        float(message.gripper_width),
        int(message.clamps),
        int(message.chunk_id),
        float(message.observation_age_ms),
    )


class ChaosMonitor(Node):
    """Listens, compares with the limits, writes down."""

    def __init__(self) -> None:
        super().__init__("chaos_monitor")
        settings = NodeParameters(self, ChaosMonitorParameters).value
        if not settings.output:
            raise StartError("output is empty; name the file to write to")
        # Open for the whole life: line buffered, so that a reader sees each line once it is whole.
        self._output = Path(settings.output).open("a", buffering=1, encoding="utf-8")  # noqa: SIM115
        profile = profile_of(settings.profile) if settings.profile else None
        self._watch = CommandWatch(command_limits(profile))
        self._scene: tuple[bytes, int] | None = None
        self._before: tuple[int, int] | None = None
        self._times = SendingTimes()
        self._times.look(time.monotonic_ns(), _ahead_ns())
        self._sent_ns = 0
        self._stops_counted = 0
        subscribe = self.create_subscription
        subscribe(ControlCommand, topics.COMMAND, self._on_command, _ALL)
        # Volatile: a stop from before the release is of no concern, and what comes is new.
        subscribe(Bool, topics.EMERGENCY_STOP, self._on_stop, qos.PLAN)
        subscribe(String, HOLD_TOPIC, self._on_hold, qos.STATE)
        subscribe(UInt64, VIOLATIONS_TOPIC, lambda count: self._say("arm violations", count=count.data), qos.STATE)
        subscribe(UInt64, WATCHDOG_STOPS_TOPIC, lambda count: self._say("watchdog", count=count.data), qos.STATE)
        subscribe(DiagnosticArray, topics.DIAGNOSTICS, self._on_diagnostics, 50)
        if profile is None:
            subscribe(SceneState, topics.GROUND_TRUTH, self._on_scene, qos.SENSOR)
        self.create_timer(COUNT_EVERY_S, self._count, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._diagnostics = Diagnostics(self, "chaos monitor", self._health)

    def destroy_node(self) -> None:
        """Write the last figures and close the file."""
        self._count()
        self._output.close()
        super().destroy_node()

    def _say(self, what: str, at_ns: int | None = None, **values: Any) -> None:
        line = {"ns": time.monotonic_ns() if at_ns is None else at_ns, "what": what, **values}
        self._output.write(json.dumps(line) + "\n")

    def _sent(self, info: MessageInfo, now_ns: int, after_ns: int = 0) -> int:
        """When a message left, steady; this process may have been held up, and the clock set meanwhile."""
        return self._times.sent_ns(info.get("source_timestamp"), now_ns, _ahead_ns(), after_ns)

    def _on_command(self, message: ControlCommand, info: MessageInfo) -> None:
        now = time.monotonic_ns()
        sent = self._sent_ns = self._sent(info, now, after_ns=self._sent_ns)
        sample = command_sample(message, sent, now)
        violations, gap = self._watch.take(sample)
        for violation in violations:
            self._say("violation", violation.at_ns, kind=violation.kind, text=violation.text, mode=sample.mode)
        if gap is not None:
            self._say("gap", gap.end_ns, start_ns=gap.start_ns)
        state = sample.mode, sample.reason
        if state != self._before:
            self._before = state
            self._say("mode", sent, mode=sample.mode, reason=sample.reason, text=sample.reason_text)
        if len(self._watch.stop_delays_ms) > self._stops_counted:
            self._stops_counted += 1
            self._say("stopped", sent, delay_ms=self._watch.stop_delays_ms[-1])

    def _on_stop(self, message: Bool, info: MessageInfo) -> None:
        at = self._sent(info, time.monotonic_ns())
        if message.data:
            self._watch.stop_asked(at)
        else:
            # The service that releases is called behind this message.
            self._watch.stop_released()
        self._say("stop" if message.data else "release", at)

    def _on_hold(self, message: String, info: MessageInfo) -> None:
        at = self._sent(info, time.monotonic_ns())
        self._say("hold", at, text=message.data)

    def _on_scene(self, message: SceneState, info: MessageInfo) -> None:
        """A reset, and a simulator that is started anew, put the arm elsewhere."""
        # Not every distribution's rclpy tells who sent it.
        sender: Any = info.get("publisher_gid")
        scene = (bytes(sender["data"]) if sender else b"", int(message.reset_count))
        if scene != self._scene:
            self._scene = scene
            self._say("scene", number=scene[1])

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            self._say("alive", node=status.name.rpartition("/")[2])

    def _count(self) -> None:
        self._times.look(time.monotonic_ns(), _ahead_ns())
        watch = self._watch
        self._say(
            "count",
            commands=watch.commands,
            restarts=watch.restarts,
            lost=watch.lost,
            mode=-1 if self._before is None else self._before[0],
            last_ns=self._sent_ns,
        )

    def _health(self) -> Health:
        return OK, "listening", {"commands": self._watch.commands, "lost": self._watch.lost}


def _ahead_ns() -> int:
    """How far the system clock is ahead of the steady one."""
    steady = time.monotonic_ns()
    return time.time_ns() - steady


def main(args: Sequence[str] | None = None) -> int:
    """Run the monitor."""
    return run(ChaosMonitor, None if args is None else list(args))


if __name__ == "__main__":
    raise SystemExit(main())
