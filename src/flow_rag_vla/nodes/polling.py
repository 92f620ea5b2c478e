# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Subscriptions that are read when their reader wants, not when a message arrives.

An executor wakes up, and builds its wait set anew, for every message. A periodic node that looks at its inputs only
once a period saves that, and a flood of messages cannot hold it up: it takes at most ``depth`` of them.
"""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from rclpy.callback_groups import CallbackGroup
from rclpy.event_handler import SubscriptionEventCallbacks
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
        self._node = node
        self._type = message_type
        self._depth = profile.depth
        self._subscription = node.create_subscription(
            message_type,
            topic,
            _ignore,
            profile,
            callback_group=_NeverExecuted(),
            # Their handlers would never run either, and each costs the executor a look at every wake-up.
            event_callbacks=SubscriptionEventCallbacks(use_default_callbacks=False),
        )

    def take(self) -> list[tuple[T, int]]:
        """The waiting messages, oldest first, each with when it came (system clock, nanoseconds)."""
        return [(message, _came(info)) for message, info in self._take(False)]

    def take_with_sender(self) -> list[tuple[T, bytes]]:
        """Like ``take``, but with the publisher's id in the graph; empty where the middleware tells none."""
        return [(message, _sender(info)) for message, info in self._take(False)]

    def publishers(self) -> dict[bytes, str]:
        """Whoever publishes on the topic now, by id: the node's name with its namespace. A look at the graph."""
        infos = self._node.get_publishers_info_by_topic(self._subscription.topic_name)
        return {bytes(info.endpoint_gid): f"{info.node_namespace.rstrip('/')}/{info.node_name}" for info in infos}

    def take_serialized(self) -> list[tuple[bytes, int]]:
        """Like ``take``, but the messages as they came over the wire."""
        return [(message, _came(info)) for message, info in self._take(True)]

    def take_senders(self) -> list[bytes]:
        """Ids in the graph of whoever sent the waiting messages, oldest first; the messages are not built."""
        return [_sender(info) for _, info in self._take(True)]

    def destroy(self) -> None:
        """Stop receiving."""
        self._node.destroy_subscription(self._subscription)

    def _take(self, raw: bool) -> list[tuple[Any, Any]]:
        handle, messages = self._subscription.handle, []
        with handle:
            for _ in range(self._depth):
                taken = handle.take_message(self._type, raw)
                if taken is None:
                    break  # type: ignore[unreachable]  # rclpy's stub leaves out that nothing may be waiting.
                messages.append(taken)
        return messages


def _came(info: Any) -> int:
    return int(info["received_timestamp"] or 0)


def _sender(info: Any) -> bytes:
    # Not every distribution's rclpy tells it.
    gid = info.get("publisher_gid")
    return bytes(gid["data"]) if gid else b""


def _ignore(_message: Any) -> None:
    return None
