# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""One line about a node's health on /diagnostics, every second."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.node import Node

from flow_rag_vla.core.process_figures import ProcessFigures
from flow_rag_vla.nodes.complaints import newest

Health = tuple[bytes, str, Mapping[str, object]]
"""Level (OK, WARN or ERROR), one sentence, and figures."""

STATE_FIGURE = "lifecycle"
"""Which of a managed node's figures is its state, by the label that the standard gives it."""

LAST_PROBLEM = "last_problem"
"""Which figure of every node is the newest that it refused or could not do; empty as long as there was none."""

ACTIVE = "active"
"""The state in which a managed node works."""

OK: bytes = DiagnosticStatus.OK
WARN: bytes = DiagnosticStatus.WARN
ERROR: bytes = DiagnosticStatus.ERROR

FIRST_S, EARLY_S, EARLY_REPORTS = 0.1, 0.25, 8
"""When the first reports come: whoever waits for a node, for the graph to be up, should not wait a second for it. And
more than one, since the first leaves before anybody there knows of the node."""

COUNTED: Mapping[str, str] = {
    "bag_player": "messages",
    "camera_encoder": "encoded",
    "controller": "ticks",
    "dashboard": "pictures",
    "deliberation": "deliberated",
    "episode_manager": "episodes_finished",
    "failure_detector": "states",
    "failure_memory": "answers",
    "flow_policy": "chunks",
    "labeling": "published",
    "lifecycle_manager": "looks",
    "llm": "answered",
    "mock_robot": "commands",
    "recorder": "messages",
    "remote_policy": "chunks",
    "robot": "sent",
    "robot_camera": "passed",
    "simulator": "ticks",
    "simulator_camera": "frames",
}
"""Which of its figures is a node's work: ``rate_hz`` is how much of it a second, unless the node says so itself."""


class Diagnostics:
    """Publishes what ``health`` says about a node, and what its process costs, once a second on a steady clock.

    With ``own_timer=False`` it is published only when ``publish`` is called, and costs the executor nothing.
    """

    def __init__(self, node: Node, hardware_id: str, health: Callable[[], Health], *, own_timer: bool = True) -> None:
        self._node = node
        self.hardware_id = hardware_id
        """What the node runs on: may change when that does."""
        self._health = health
        self._process = ProcessFigures()
        events = None if own_timer else PublisherEventCallbacks(use_default_callbacks=False)
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10, event_callbacks=events)
        if not own_timer:
            return
        self._early = EARLY_REPORTS
        self._timer = node.create_timer(FIRST_S, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _report(self) -> None:
        if self._early:
            self._early -= 1
            self._timer.timer_period_ns = int(1e9 * (EARLY_S if self._early else 1.0))
        self.publish()

    def publish(self) -> None:
        """Publish now."""
        level, sentence, figures = self._health()
        done = figures.get(COUNTED.get(self._node.get_name(), ""))
        cost = self._process.read(done if isinstance(done, int) else None)
        # Whatever a node says of itself goes before.
        figures = {**cost, LAST_PROBLEM: newest(self._node.get_logger().name), **figures}
        status = DiagnosticStatus(
            level=level,
            name=self._node.get_fully_qualified_name().lstrip("/"),
            message=sentence,
            hardware_id=self.hardware_id,
            values=[KeyValue(key=key, value=str(value)) for key, value in figures.items()],
        )
        message = DiagnosticArray(status=[status])
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)
