# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Answers of a node that must be in time: sent once whoever asked can hear them.

A client asks as soon as it knows the server. The server may not know the client's end for answers yet, and
rmw_fastrtps then waits for it, up to 100 ms, in the thread that answers. In a node of one thread that is the loop's. So
an answer is kept until the graph shows both ends of each client of that service, and is looked at again meanwhile.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.service import Service
from rclpy.topic_endpoint_info import TopicEndpointInfo

LOOK_S = 0.02
"""Between two looks at the graph while an answer waits; each takes a tenth of a millisecond."""

GIVEN_UP_S = 5.0
"""After this long nobody can hear the answer, and to send it would hold the thread up for nothing."""

MOST_KEPT = 100
"""Answers that wait at once; of more, each is given up at once."""

_PARTICIPANT = 12
"""Bytes of an endpoint's id that name the participant that it belongs to (RTPS 2.3, 9.3.1)."""


@dataclass(slots=True)
class _Answer:
    service: Service[Any, Any]
    send: Callable[[], None]
    until_s: float


class PatientAnswers:
    """Keeps the answers of all services that a node has so far, its parameters' too, while they would wait.

    It belongs to the executor's thread. Answers of one service keep their order.

    Args:
        node: whose services.
        complain: told of an answer that was given up.
        known: whether each client of a service can hear its answer; see ``clients_known``.
    """

    def __init__(
        self,
        node: Node,
        complain: Callable[[str], object],
        known: Callable[[Node, Service[Any, Any]], bool] | None = None,
    ) -> None:
        self._node, self._complain, self._known = node, complain, known or clients_known
        self._waiting: deque[_Answer] = deque()
        self.kept = 0
        """Answers that had to wait."""
        self._timer = node.create_timer(LOOK_S, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME))
        self._timer.cancel()
        for service in node.services:
            self._stand_before(service)

    def _stand_before(self, service: Service[Any, Any]) -> None:
        send = service.send_response

        def send_later(response: Any, header: Any) -> None:
            waits = any(answer.service is service for answer in self._waiting)
            if not waits and self._known(self._node, service):
                send(response, header)
                return
            if len(self._waiting) >= MOST_KEPT:
                self._complain(
                    f"an answer of {service.service_name} was given up: {MOST_KEPT} wait for clients already"
                )
                return
            self.kept += 1
            self._waiting.append(_Answer(service, lambda: send(response, header), time.monotonic() + GIVEN_UP_S))
            self._timer.reset()

        # The executor hands each answer to the service itself, those to parameters too; rclpy has no other place.
        service.send_response = send_later  # type: ignore[method-assign]

    def _look(self) -> None:
        now, known = time.monotonic(), {}
        for _ in range(len(self._waiting)):
            answer = self._waiting.popleft()
            service = answer.service
            if service not in known:
                known[service] = self._known(self._node, service)
            if known[service]:
                answer.send()
            elif now < answer.until_s:
                self._waiting.append(answer)
            else:
                self._complain(
                    f"an answer of {service.service_name} was given up: for {GIVEN_UP_S:g} s a client of it had no end "
                    "that could hear one"
                )
        if not self._waiting:
            self._timer.cancel()


def clients_known(node: Node, service: Service[Any, Any]) -> bool:
    """Whether the graph shows as many ends for answers as for requests of each participant that asks this service.

    rclpy does not tell which client asked. Where the middleware has other names for these ends nothing is found, and
    the answer is yes.
    """
    name = service.service_name
    asking = _participants(node.get_publishers_info_by_topic(f"rq{name}Request", no_mangle=True))
    hearing = _participants(node.get_subscriptions_info_by_topic(f"rr{name}Reply", no_mangle=True))
    return all(hearing[participant] >= number for participant, number in asking.items())


def _participants(ends: Iterable[TopicEndpointInfo]) -> Counter[bytes]:
    return Counter(bytes(end.endpoint_gid[:_PARTICIPANT]) for end in ends)
