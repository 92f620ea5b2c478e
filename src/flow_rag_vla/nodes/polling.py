"""Subscriptions that are read when their reader wants, not when a message arrives.

An executor wakes up, and builds its wait set anew, for every message. A periodic node that looks at its inputs only
once a period saves that, and a flood of messages cannot hold it up: it takes at most ``depth`` of them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any, Generic, TypeVar

from rclpy.callback_groups import CallbackGroup
from rclpy.node import Node
from rclpy.qos import QoSProfile

T = TypeVar("T")


class _NeverExecuted(CallbackGroup):
    """Keeps a subscription out of the executor's wait set."""

    def can_execute(self, entity: Any) -> bool:
        return False

    def beginning_execution(self, entity: Any) -> bool:
        return False

    def ending_execution(self, entity: Any) -> None:
        return None


class PolledSubscription(Generic[T]):
    """A subscription whose queue is emptied on demand."""

    def __init__(self, node: Node, message_type: type[T], topic: str, profile: QoSProfile) -> None:
        self._type = message_type
        self._depth = profile.depth
        self._subscription = node.create_subscription(
            message_type, topic, _ignore, profile, callback_group=_NeverExecuted()
        )

    def take(self) -> Iterator[tuple[T, int]]:
        """Give the waiting messages, oldest first, each with how long it has waited in nanoseconds."""
        subscription = self._subscription
        with subscription.handle:
            for _ in range(self._depth):
                taken = subscription.handle.take_message(self._type, False)
                if taken is None:
                    return
                received = taken[1]["received_timestamp"] or 0
                # The middleware stamps with the system clock; one that was set in between says nothing.
                waited = time.time_ns() - received
                yield taken[0], waited if 0 <= waited < 1_000_000_000 else 0


def _ignore(_message: Any) -> None:
    return None
