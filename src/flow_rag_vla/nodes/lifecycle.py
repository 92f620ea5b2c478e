# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What the heavy nodes have in common: they are managed nodes, and bring themselves up unless they are told to wait.

The interface is the standard one, by ``rclpy.lifecycle``: services ``~/change_state``, ``~/get_state``,
``~/get_available_states``, ``~/get_available_transitions``, ``~/get_transition_graph``, topic ``~/transition_event``.

With the parameter ``autostart`` (the default) a node configures and activates itself before it answers any service. So
a node that was started again is back without anybody's help, and a manager that died is not missed. What cannot be
loaded leaves the node unconfigured, alive, and saying why on ``/diagnostics``.
"""

from __future__ import annotations

import time
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

from lifecycle_msgs.msg import State
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from flow_rag_vla.core.parameters import ParameterError
from flow_rag_vla.nodes.diagnostics import ACTIVE, ERROR, STATE_FIGURE, WARN, Diagnostics, Health
from flow_rag_vla.nodes.permission import PARAMETER, refusal_of
from flow_rag_vla.nodes.priority import RaisedPriority
from flow_rag_vla.nodes.runtime import StartError, run

REALTIME_PRIORITY, THREADS = "realtime_priority", "threads"
"""Parameters of nodes that the loop waits for, and of those that compute in several threads."""

RUNNING = ("activating", ACTIVE)
"""States in which what ``begin`` makes is there, or is being made."""

_Entities = tuple[set[Any], set[Any], set[Any], set[Any]]


class ManagedNode(LifecycleNode, ABC):
    """A node that loads when it is configured and works while it is active.

    A subclass declares its parameters (``autostart`` among them) and makes its publishers in ``__init__``, with
    ``create_lifecycle_publisher``: they are silent while the node is not active. It implements ``load``, ``free``,
    ``begin`` and ``rest``. Subscriptions, services, timers and guard conditions that were made since ``begin`` end with
    ``rest``, those since ``load`` with ``free``: only what is not one of them is the subclass' to give back.
    """

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._kept: list[_Entities] = []
        """What there was before ``load`` and before ``begin``: as long as the node is deep in its life."""
        self._reason = ""
        self._by_itself = False
        self._priority: RaisedPriority | None = None
        self._report = Diagnostics(self, name, self._report_health)

    # A subclass' part.

    @abstractmethod
    def load(self) -> None:
        """Make what is large or may be missing.

        Raises:
            StartError, ParameterError: what is missing and how to get it; the node stays unconfigured.
        """

    @abstractmethod
    def free(self) -> None:
        """Give back what ``load`` made; called after a ``load`` that raised, too.

        Raises:
            StartError: why it cannot be given back now; the node stays inactive.
        """

    @abstractmethod
    def begin(self) -> None:
        """Listen.

        Raises:
            StartError: why not; the node stays inactive.
        """

    @abstractmethod
    def rest(self) -> None:
        """Forget what was under way; called after a ``begin`` that raised, too."""

    @abstractmethod
    def health(self) -> Health:
        """How it is doing, while it is active."""

    # The state.

    @property
    def lifecycle_state(self) -> str:
        """The present state, by the standard's label."""
        return str(self._state_machine.current_state[1])

    def may_reload(self) -> bool:
        """Whether parameters that ``load`` reads may change: nothing is loaded."""
        return not self._kept

    def bring_up(self) -> None:
        """Configure and activate, if the parameter ``autostart`` says so."""
        if not self.get_parameter("autostart").value:
            self.get_logger().info("autostart is off: waiting to be configured")
            return
        self._by_itself = True
        if self.trigger_configure() == TransitionCallbackReturn.SUCCESS:
            self.trigger_activate()
        self._by_itself = False

    def destroy_node(self) -> None:
        """Give everything back, then end."""
        self._give_back()
        super().destroy_node()

    # Transitions, called by rclpy.

    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Load."""
        if self._attempt("configure", self._check_permission) != TransitionCallbackReturn.SUCCESS:
            return TransitionCallbackReturn.FAILURE
        started = time.monotonic()
        self._kept = [_entities(self)]
        result = self._attempt("configure", self.load)
        if result == TransitionCallbackReturn.SUCCESS:
            self.get_logger().info(f"configured in {time.monotonic() - started:.2f} s")
            return super().on_configure(state)
        self._attempt("free", self.free, told=False)
        self._withdraw(0)
        return result

    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Publish and listen from now on."""
        if self._attempt("activate", self._check_permission) != TransitionCallbackReturn.SUCCESS:
            return TransitionCallbackReturn.FAILURE
        self._kept.append(_entities(self))
        super().on_activate(state)
        result = self._attempt("activate", self.begin)
        if result != TransitionCallbackReturn.SUCCESS:
            super().on_deactivate(state)
            self._attempt("rest", self.rest, told=False)
            self._withdraw(1)
        else:
            self._raise_priority()
        return result

    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Be silent and deaf, loaded."""
        self._withdraw(1)
        super().on_deactivate(state)
        return self._attempt("deactivate", self.rest)

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free what was loaded."""
        if self._attempt("clean up", self._check_permission) != TransitionCallbackReturn.SUCCESS:
            return TransitionCallbackReturn.FAILURE
        result = self._attempt("clean up", self.free)
        if result == TransitionCallbackReturn.SUCCESS:
            self._withdraw(0)
            return super().on_cleanup(state)
        return result

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything for good; the process ends with a signal, as any node's."""
        super().on_deactivate(state)
        self._give_back()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Free everything; the node is unconfigured again and can be configured anew."""
        super().on_deactivate(state)
        self._give_back()
        self.get_logger().error(f"back to unconfigured after an error: {self._reason}")
        return super().on_error(state)

    def _check_permission(self) -> None:
        """Who may call may also have it work or free; to deactivate it and to shut it down, which stop it, may all."""
        reason = "" if self._by_itself or not self.has_parameter(PARAMETER) else refusal_of(self)
        if reason:
            raise StartError(reason)

    def _attempt(self, what: str, work: Callable[[], None], *, told: bool = True) -> TransitionCallbackReturn:
        try:
            work()
        except (StartError, ParameterError) as error:
            reason, result = str(error), TransitionCallbackReturn.FAILURE
        except Exception as error:
            # rclpy would drop it without a word.
            self.get_logger().error(f"{what}: {traceback.format_exc()}")
            reason, result = f"{type(error).__name__}: {error}", TransitionCallbackReturn.ERROR
        else:
            self._reason = "" if told else self._reason
            return TransitionCallbackReturn.SUCCESS
        if told:
            self._reason = reason
            self.get_logger().error(f"cannot {what}: {reason}")
        return result

    def _give_back(self) -> None:
        if len(self._kept) > 1:
            self._withdraw(1)
            self._attempt("rest", self.rest, told=False)
        if self._kept:
            self._attempt("free", self.free, told=False)
            self._withdraw(0)

    def _raise_priority(self) -> None:
        """Only while the node is active: what loads computes for long, and would lose it."""
        realtime = self.get_parameter(REALTIME_PRIORITY).value if self.has_parameter(REALTIME_PRIORITY) else 0
        # One that waits for helpers of normal priority, and spins meanwhile, would keep a processor from them.
        if realtime and not (self.has_parameter(THREADS) and self.get_parameter(THREADS).value > 1):
            self._priority = RaisedPriority(0, realtime, workers=False)
            self.get_logger().info(f"active, {self._priority.outcome}")

    def _withdraw(self, depth: int) -> None:
        """Destroy what was made since ``load`` (0) or ``begin`` (1)."""
        if self._priority is not None:
            self._priority.give_back()
            self._priority = None
        if len(self._kept) <= depth:
            return
        kept = self._kept[depth]
        del self._kept[depth:]
        subscriptions, services, timers, guards = _entities(self)
        for subscription in subscriptions - kept[0]:
            self.destroy_subscription(subscription)
        for service in services - kept[1]:
            self.destroy_service(service)
        for timer in timers - kept[2]:
            self.destroy_timer(timer)
        for guard in guards - kept[3]:
            self.destroy_guard_condition(guard)

    def _report_health(self) -> Health:
        if self._priority is not None and (taken_back := self._priority.renew()):
            self.get_logger().warning(taken_back)
        state = self.lifecycle_state
        if self._state_machine.current_state[0] != State.PRIMARY_STATE_ACTIVE:
            level, sentence = (ERROR, f"{state}: {self._reason}") if self._reason else (WARN, state)
            return level, sentence, {STATE_FIGURE: state}
        level, sentence, figures = self.health()
        return level, sentence, {STATE_FIGURE: state, **figures}


def run_managed(make_node: Callable[[], ManagedNode], args: Sequence[str] | None = None) -> int:
    """As :func:`flow_rag_vla.nodes.runtime.run`, for a managed node, which brings itself up first."""

    def make() -> ManagedNode:
        node = make_node()
        node.bring_up()
        return node

    return run(make, None if args is None else list(args))


def _entities(node: ManagedNode) -> _Entities:
    return set(node.subscriptions), set(node.services), set(node.timers), set(node.guards)
