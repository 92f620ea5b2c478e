# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The robot's states of the last second, and which of them an observation is matched to."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from rclpy.node import Node

from flow_rag_vla.bringup import topics
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.data import message_values
from flow_rag_vla.data.message_values import MessageError
from flow_rag_vla.nodes import qos
from flow_rag_vla.nodes.polling import PolledSubscription
from flow_rag_vla_interfaces import msg


class RecentStates:
    """Read when an observation is there.

    A node that was not scheduled for a while then has every state up to it, and 40 messages a second wake nobody.
    """

    def __init__(self, complain: Callable[[str], object]) -> None:
        """Empty; ``complain`` is told of states that make no sense."""
        self._complain = complain
        self._states: deque[RobotState] = deque(maxlen=qos.LAST_SECOND.depth)

    def subscribe(self, node: Node) -> None:
        """Receive states until the node rests; nothing can be taken before."""
        self._feed = PolledSubscription(node, msg.RobotState, topics.ROBOT_STATE, qos.LAST_SECOND)

    def take(self) -> bool:
        """Read what has come; whether the clock went back, and with it all states before were forgotten."""
        went_back = False
        for message, _ in self._feed.take():
            try:
                state = message_values.robot_state(message)
            except MessageError as error:
                self._complain(str(error))
                continue
            if self._states and state.stamp_ns < self._states[-1].stamp_ns:
                self._states.clear()
                went_back = True
            self._states.append(state)
        return went_back

    def nearest(self, stamp_ns: int, tolerance_s: float, observed: str) -> RobotState:
        """The state nearest in time to what was ``observed`` at a stamp.

        Raises:
            MessageError: if there is none, or none within the tolerance (seconds).
        """
        state = min(self._states, key=lambda item: abs(item.stamp_ns - stamp_ns), default=None)
        if state is None:
            raise MessageError("no robot state has arrived; start the robot driver or the simulator")
        distance = abs(state.stamp_ns - stamp_ns) * 1e-9
        if distance > tolerance_s:
            raise MessageError(
                f"the nearest robot state is {distance:.3f} s from the {observed}, limit {tolerance_s} s; "
                "check the clocks of camera and robot"
            )
        return state

    def clear(self) -> None:
        """Forget them."""
        self._states.clear()
