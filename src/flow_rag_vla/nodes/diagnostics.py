"""One line about a node's health on /diagnostics, every second."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.node import Node

Health = tuple[bytes, str, Mapping[str, object]]
"""Level (OK, WARN or ERROR), one sentence, and figures."""

OK: bytes = DiagnosticStatus.OK
WARN: bytes = DiagnosticStatus.WARN
ERROR: bytes = DiagnosticStatus.ERROR


class Diagnostics:
    """Publishes what ``health`` says about a node, once a second on a steady clock.

    With ``own_timer=False`` it is published only when ``publish`` is called, and costs the executor nothing.
    """

    def __init__(self, node: Node, hardware_id: str, health: Callable[[], Health], *, own_timer: bool = True) -> None:
        self._node = node
        self._hardware_id = hardware_id
        self._health = health
        events = None if own_timer else PublisherEventCallbacks(use_default_callbacks=False)
        self._publisher = node.create_publisher(DiagnosticArray, "/diagnostics", 10, event_callbacks=events)
        if not own_timer:
            return
        # The first report comes early: whoever waits for the graph to be up should not wait a second for it.
        self._timer = node.create_timer(0.1, self._report, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _report(self) -> None:
        self._timer.timer_period_ns = 1_000_000_000
        self.publish()

    def publish(self) -> None:
        """Publish now."""
        level, sentence, figures = self._health()
        status = DiagnosticStatus(
            level=level,
            name=self._node.get_fully_qualified_name().lstrip("/"),
            message=sentence,
            hardware_id=self._hardware_id,
            values=[KeyValue(key=key, value=str(value)) for key, value in figures.items()],
        )
        message = DiagnosticArray(status=[status])
        message.header.stamp = self._node.get_clock().now().to_msg()
        self._publisher.publish(message)
