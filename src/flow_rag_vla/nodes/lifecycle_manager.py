# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Brings the managed nodes up in the order of the data flow, keeps them there, and says when all of them work.

Nodes that bring themselves up are only watched. What the manager adds: a graph started with ``autostart:=false``, nodes
that could not load and now can, nodes that fell back after an error, all of them to rest or to work with one call, and
one topic that says whether the graph is ready. What a person took out with ``ros2 lifecycle set`` it leaves alone.

Nothing needs it: when it dies, nodes go on, and those that are started again still bring themselves up.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from lifecycle_msgs.msg import Transition, TransitionEvent
from lifecycle_msgs.srv import ChangeState, GetState
from rclpy.client import Client
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from flow_rag_vla.bringup import topics
from flow_rag_vla.bringup.managing import ACTIVE, INACTIVE, UNCONFIGURED, Managing
from flow_rag_vla.bringup.parameters.lifecycle_manager import LifecycleManagerParameters
from flow_rag_vla.nodes import qos
from flow_rag_vla.nodes.complaints import remember
from flow_rag_vla.nodes.diagnostics import ERROR, OK, WARN, Diagnostics, Health
from flow_rag_vla.nodes.parameters import NodeParameters
from flow_rag_vla.nodes.permission import permitted
from flow_rag_vla.nodes.runtime import run

LOOK_S = 0.1
ASK_EVERY_S = 1.0
"""How often a node is asked for its state beside what its events tell."""

LOADING_S = 600.0
"""The longest transition: a large model from a slow disk."""

_IDS = {
    "configure": Transition.TRANSITION_CONFIGURE,
    "activate": Transition.TRANSITION_ACTIVATE,
    "deactivate": Transition.TRANSITION_DEACTIVATE,
    "cleanup": Transition.TRANSITION_CLEANUP,
}

_BEGUN = {
    "configuring": "configure",
    "activating": "activate",
    "deactivating": "deactivate",
    "cleaningup": "cleanup",
    "shuttingdown": "shutdown",
}
"""Transition that a state on the way belongs to: an event tells the states, and leaves the transition empty."""


@dataclass(slots=True)
class _Ends:
    """What the manager holds of one node. Times on the steady clock, seconds."""

    change: Client[Any, Any]
    look: Client[Any, Any]
    asking: Any = None
    """The state that was asked for; a node that died never answers."""
    asked_s: float = 0.0
    heard_s: float = 0.0
    moving_s: float | None = None
    """Since when a transition of ours is under way."""


class LifecycleManager(Node):
    """Watches, and asks for transitions; see the module."""

    def __init__(self) -> None:
        super().__init__("lifecycle_manager")
        self._settings = NodeParameters(self, LifecycleManagerParameters)
        names = self._settings.value.nodes
        self._managing = Managing(names)
        self._ready: bool | None = None
        self._looks = 0
        self._publisher = self.create_publisher(Bool, topics.READY, qos.STATE)
        self._ends = {
            name: _Ends(
                self.create_client(ChangeState, f"{name}/change_state"),
                self.create_client(GetState, f"{name}/get_state"),
            )
            for name in names
        }
        for name in names:
            self.create_subscription(TransitionEvent, f"{name}/transition_event", self._hearer(name), qos.EVENT)
        self.create_service(Trigger, topics.IS_ACTIVE, self._on_is_active)
        # Stopping needs no permission.
        self.create_service(Trigger, topics.PAUSE, self._target_setter(INACTIVE))
        for service, target in ((topics.START_UP, ACTIVE), (topics.RESET_NODES, UNCONFIGURED)):
            self.create_service(Trigger, service, permitted(self, self._target_setter(target)))
        self._diagnostics = Diagnostics(self, "lifecycle manager", self._health)
        self._timer = self.create_timer(LOOK_S, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _hearer(self, name: str) -> Callable[[TransitionEvent], None]:
        return lambda event: self._on_event(name, event)

    def _target_setter(self, target: str) -> Callable[[Trigger.Request, Trigger.Response], Trigger.Response]:
        return lambda request, response: self._on_target(target, response)

    def _on_event(self, name: str, event: TransitionEvent) -> None:
        if event.goal_state.label in _BEGUN:
            self._managing.moved(name, _BEGUN[event.goal_state.label])
        self._managing.seen(name, event.goal_state.label)
        self._ends[name].heard_s = time.monotonic()

    def _look(self) -> None:
        now = time.monotonic()
        for name, ends in self._ends.items():
            if not ends.look.service_is_ready() or self._silent(ends, now):
                ends.moving_s = None
                self._managing.gone(name)
            if ends.look.service_is_ready() and ends.moving_s is None and now - ends.asked_s >= ASK_EVERY_S:
                ends.asked_s = now
                if ends.asking is not None:
                    ends.look.remove_pending_request(ends.asking)
                ends.asking = ends.look.call_async(GetState.Request())
                ends.asking.add_done_callback(self._state_taker(name))
        for name, transition in self._managing.next(now):
            ends = self._ends[name]
            ends.moving_s = now
            self.get_logger().info(f"{name}: {transition}")
            request = ChangeState.Request(transition=Transition(id=_IDS[transition]))
            ends.change.call_async(request).add_done_callback(self._answer_taker(name, now))
        if self._managing.ready != self._ready:
            self._ready = self._managing.ready
            self._publisher.publish(Bool(data=self._ready and self._managing.target == ACTIVE))

    def _silent(self, ends: _Ends, now: float) -> bool:
        """Whether a node has stopped answering. One that loads does not answer either, but has told that it began."""
        if ends.moving_s is None:
            return now - ends.heard_s > self._settings.value.patience
        # A request to a node that just died and was started again may be lost.
        began = ends.heard_s >= ends.moving_s
        return now - ends.moving_s > (LOADING_S if began else self._settings.value.patience)

    def _state_taker(self, name: str) -> Callable[[Any], None]:
        def take(answer: Any) -> None:
            ends = self._ends[name]
            ends.heard_s = time.monotonic()
            if ends.moving_s is None and answer.result() is not None:
                self._looks += 1
                self._managing.seen(name, answer.result().current_state.label)

        return take

    def _answer_taker(self, name: str, asked_s: float) -> Callable[[Any], None]:
        def take(answer: Any) -> None:
            ends = self._ends[name]
            if ends.moving_s != asked_s:
                # Given up meanwhile.
                return
            ends.moving_s, ends.heard_s = None, time.monotonic()
            success = answer.result() is not None and bool(answer.result().success)
            if not success:
                problem = f"{name} refused; its own log and /diagnostics say why"
                self.get_logger().warning(remember(self.get_logger().name, problem))
            self._managing.answered(name, success, time.monotonic())

        return take

    def _on_is_active(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        response.success = self._managing.ready and self._managing.target == ACTIVE
        response.message = "; ".join(f"{name}: {state}" for name, state in self._managing.states.items())
        return response

    def _on_target(self, target: str, response: Trigger.Response) -> Trigger.Response:
        self._managing.ask(target)
        response.success, response.message = True, f"asked for; {topics.READY} and {topics.IS_ACTIVE} say when"
        return response

    def _health(self) -> Health:
        managing = self._managing
        figures = {"target": managing.target, "looks": self._looks, **managing.states}
        if managing.given_up:
            return ERROR, f"cannot be brought up: {', '.join(managing.given_up)}", figures
        if not managing.ready:
            behind = [f"{name} is {state}" for name, state in managing.states.items() if state != managing.target]
            return WARN, "; ".join(behind), figures
        return OK, f"all nodes are {managing.target}", figures


def main(args: Sequence[str] | None = None) -> int:
    """Run the lifecycle manager node."""
    return run(LifecycleManager, None if args is None else list(args))


if __name__ == "__main__":
    raise SystemExit(main())
