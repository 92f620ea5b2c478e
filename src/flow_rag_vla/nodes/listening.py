# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A subscription that watches itself: made anew when its publisher is there and nothing is heard of it.

The middleware can lose a reader although each end knows the other. Nobody but the reader can notice, and to it that
looks like a camera that is paused. What is wrong at the publisher's end, such as shared memory that it cannot get any
more, a reader cannot mend: then it is at least said.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.qos import QoSProfile

T = TypeVar("T")

LONGEST_S = 60.0
"""Between two attempts: a camera that is paused for hours costs an attempt a minute."""

PERIODS = 5.0
"""A publisher that was heard is missed only after so many of its own periods."""

LOOK_S = 0.25
"""Between two looks. After one that is late, of a process that was stopped, messages may wait that nobody took yet."""


class Silence:
    """When a topic that is published counts as unheard. Times are of one steady clock, seconds.

    After each time the next one must last twice as long, up to ``LONGEST_S``, until something is heard.
    """

    def __init__(self) -> None:
        self._since: float | None = None
        self._heard: float | None = None
        self._period = 0.0
        self._pause = 0.0

    def heard(self, now_s: float) -> None:
        """A message came."""
        if self._heard is not None and not self._pause:
            # The longest counts, and is forgotten slowly: one message that is late is no reason.
            self._period = max(now_s - self._heard, 0.99 * self._period)
        self._heard, self._pause = now_s, 0.0

    def not_looked(self, now_s: float) -> None:
        """Nobody listened for a while up to now, so what was silent then says nothing."""
        self._since = now_s

    def lately(self, now_s: float, limit_s: float) -> bool:
        """Whether something came within the limit."""
        return self._heard is not None and now_s - self._heard < limit_s

    def due(self, now_s: float, limit_s: float, *, published: bool) -> bool:
        """Whether to listen anew: somebody publishes, and nothing came for ``limit_s`` and for a few periods."""
        if not published:
            # Who comes next may have another pace.
            self._since, self._heard, self._period = None, None, 0.0
            return False
        if self._since is None:
            self._since = now_s
        last = self._since if self._heard is None else max(self._since, self._heard)
        if now_s - last < max(limit_s, PERIODS * self._period, self._pause):
            return False
        self._since = now_s
        self._pause = min(2.0 * max(self._pause, limit_s), max(LONGEST_S, limit_s))
        return True


class Listener(Generic[T]):
    """A subscription of one node. It belongs to the executor's thread, its callbacks too.

    In a managed node it is made in ``begin``, and ends by itself as any subscription and timer there.

    Args:
        node: whose subscription.
        kind: of the messages.
        topic: where they are published.
        take: gets each message.
        profile: quality of service.
        limit_s: seconds of silence, of a topic that somebody publishes, after which it is made anew; 0: never. Asked
            for at every look, so it may change.
    """

    def __init__(
        self,
        node: Node,
        kind: type[T],
        topic: str,
        take: Callable[[T], None],
        profile: QoSProfile,
        limit_s: Callable[[], float],
    ) -> None:
        self._node, self._kind, self._topic, self._profile = node, kind, topic, profile
        self._take, self._limit_s = take, limit_s
        self._silence = Silence()
        self._looked = time.monotonic()
        self._type = _type_name(kind)
        self.made_anew = 0
        """How often it was."""
        self._subscription = self._subscribe()
        self._timer = node.create_timer(LOOK_S, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _subscribe(self) -> Any:
        return self._node.create_subscription(self._kind, self._topic, self._on_message, self._profile)

    def _on_message(self, message: T) -> None:
        self._silence.heard(time.monotonic())
        self._take(message)

    def _look(self) -> None:
        limit, now = self._limit_s(), time.monotonic()
        late, self._looked = now - self._looked > 2.0 * LOOK_S, now
        if late:
            self._silence.not_looked(now)
        # The graph is asked only when it matters: that takes a while.
        if not limit or self._silence.lately(now, limit):
            return
        published = any(info.topic_type == self._type for info in self._node.get_publishers_info_by_topic(self._topic))
        if self._silence.due(now, limit, published=published):
            self._node.destroy_subscription(self._subscription)
            self._subscription = self._subscribe()
            self.made_anew += 1
            self._node.get_logger().warning(
                f"{self._topic} is published, and nothing was heard for {limit:g} s or more: subscribed anew "
                f"(number {self.made_anew})"
            )


def _type_name(kind: Any) -> str:
    package, folder = str(kind.__module__).split(".")[:2]
    return f"{package}/{folder}/{kind.__name__}"
