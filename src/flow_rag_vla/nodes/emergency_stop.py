# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The controller's side of the emergency stop: who asks for it, who may release it, and what outlives the process.

Anyone may ask, on the topic or by the service. The latch itself is the control loop's; here it is kept in a file as
well, so that a controller which was killed begins with it. Released it is by the service alone, and not while somebody
on the topic still asks.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from rclpy.node import Node
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from flow_rag_vla.bringup import topics
from flow_rag_vla.control.latch import StopLatch, latch_file
from flow_rag_vla.control.loop import ControlLoop
from flow_rag_vla.nodes import qos
from flow_rag_vla.nodes.permission import permitted
from flow_rag_vla.nodes.polling import PolledSubscription
from flow_rag_vla.nodes.tick_inputs import BY_SERVICE, TickInputsRecord
from flow_rag_vla_interfaces import msg

_ASKED_BY_TOPIC = f"asked for on topic {topics.EMERGENCY_STOP}"
_ASKED_BY_SERVICE = "asked for by a service call"


class EmergencyStop:
    """Topic, services and file of one controller's emergency stop. Every method on the executor's thread."""

    def __init__(
        self,
        node: Node,
        loop: ControlLoop,
        taken: TickInputsRecord,
        file: str,
        *,
        complain: Callable[[str, str], None],
        steady_now_ns: Callable[[], int],
    ) -> None:
        """Listen, serve, and latch what the controller before this one had latched.

        Args:
            node: the controller.
            loop: is stopped and released.
            taken: is told what came in.
            file: the parameter ``emergency_stop_file``.
            complain: is told what went wrong, with a key for its kind.
            steady_now_ns: gives the present moment on the loop's steady clock, nanoseconds.
        """
        self._node, self._loop, self._taken = node, loop, taken
        self._complain, self._steady_now_ns = complain, steady_now_ns
        # A stop must arrive from a latched publisher that spoke before this node was there, and from one that does
        # not latch; a latched subscription would refuse the second. And one stop must not drown among those who say
        # at a high rate that they ask for none.
        self._topics = [
            PolledSubscription(node, Bool, topics.EMERGENCY_STOP, profile) for profile in (qos.STATE, qos.EVENT)
        ]
        self._said = False
        """The newest word on the topic, whoever said it."""
        self._sayers: set[bytes] = set()
        """Publishers whose last word on the topic was true; some may be gone."""
        self._unkept = ""
        """Why the stop was asked for, while the file is still to be made."""
        node.create_service(Trigger, topics.EMERGENCY_STOP_SERVICE, self._on_stop)
        node.create_service(Trigger, topics.EMERGENCY_STOP_RESET_SERVICE, permitted(node, self._on_reset))
        self._latch = StopLatch(latch_file(file, os.environ.get("ROS_DOMAIN_ID", ""), node.get_namespace()))
        self._restore()

    def take(self, _now_ns: int, steady_ns: int) -> None:
        """Take what was said on the topic since the last tick."""
        for topic in self._topics:
            for stop, sender in topic.take_with_sender():
                self._taken.note(msg.TickInputs.KIND_EMERGENCY_STOP, int(stop.data))
                self._said = bool(stop.data)
                (self._sayers.add if stop.data else self._sayers.discard)(sender)
                if not stop.data:
                    continue
                # One who says it at a high rate must not have the file made again at every tick.
                if not self._loop.ladder.emergency or self._latch.problem:
                    self._unkept = _ASKED_BY_TOPIC
                self._loop.emergency_stop(_ASKED_BY_TOPIC, steady_ns)

    def keep(self) -> None:
        """Make the file of a stop that came on the topic; called after the tick's command has left."""
        if self._unkept:
            self._keep(self._unkept)

    def _keep(self, reason: str) -> None:
        self._unkept = ""
        self._latch.keep(reason)
        if self._latch.problem:
            self._complain("latch", self._latch.problem)

    def _restore(self) -> None:
        """Begin with the emergency stop that the controller before this one had, if it was not released."""
        reason = self._latch.read()
        if reason is None:
            return
        steady_ns = self._steady_now_ns()
        self._loop.emergency_stop(reason, steady_ns)
        # As it was asked for the first time, so that a replay of what this controller takes in says the same.
        key, detail = (1, 0) if reason == _ASKED_BY_TOPIC else (BY_SERVICE, steady_ns)
        self._taken.note(msg.TickInputs.KIND_EMERGENCY_STOP, key, detail)
        self._node.get_logger().warning(
            f"the emergency stop was latched before this controller started ({reason}); release it with "
            f"{topics.EMERGENCY_STOP_RESET_SERVICE}"
        )

    def _on_stop(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        steady_ns = self._steady_now_ns()
        self._loop.emergency_stop(_ASKED_BY_SERVICE, steady_ns)
        self._taken.note(msg.TickInputs.KIND_EMERGENCY_STOP, BY_SERVICE, steady_ns)
        self._keep(_ASKED_BY_SERVICE)
        response.success, response.message = True, f"latched; release it with {topics.EMERGENCY_STOP_RESET_SERVICE}"
        if self._latch.problem:
            response.message += f" ({self._latch.problem})"
        return response

    def _on_reset(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if refusal := self._still_asked():
            response.success, response.message = False, refusal
            return response
        steady_ns = self._steady_now_ns()
        latched = self._loop.reset_emergency_stop(steady_ns)
        self._taken.note(msg.TickInputs.KIND_EMERGENCY_STOP_RESET, BY_SERVICE, steady_ns)
        self._unkept = ""
        self._latch.remove()
        if self._latch.problem:
            self._complain("latch", self._latch.problem)
        response.success = True
        response.message = (
            "released; an episode that it met is over for the controller: begin another"
            if latched
            else "there was no emergency stop"
        )
        return response

    def _still_asked(self) -> str:
        """Why it may not be released, in a sentence; empty if it may."""
        if self._said:
            return f"topic {topics.EMERGENCY_STOP} still says true; publish false on it first"
        # One that is gone cannot take its word back; that of one that is there is not another's to take back.
        there = self._topics[0].publishers()
        self._sayers &= there.keys()
        if not self._sayers:
            return ""
        names = ", ".join(sorted({there[sayer] for sayer in self._sayers}))
        return f"{names} still says true on topic {topics.EMERGENCY_STOP}; publish false from there, or end it"
