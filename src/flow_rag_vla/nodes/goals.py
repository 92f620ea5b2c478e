# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Sends an action's goal so that no answer is lost: from any thread, to a server that is new or is started again.

A request to cancel is not lost either: it is made until it is answered, since a server may be gone just then, and the
one that is started after it goes on with the goal.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Generic, TypeVar
from uuid import uuid4

from action_msgs.msg import GoalStatus
from rclpy.action import ActionClient
from rclpy.action.client import ClientGoalHandle
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.task import Future
from unique_identifier_msgs.msg import UUID

GoalT = TypeVar("GoalT")

RESEND_S = 1.0
"""Seconds without an answer after which a goal is sent again; twice as long after each further time, to 8 s."""

_LONGEST_S = 8.0

LOOK_S = 0.5
"""How often whoever waits for a result looks whether the goal's server is another process."""

_AGAIN_AT = frozenset({0, 1, 3, 7, 15})
"""Looks after a new server at which it is asked: that it knows of this client is a message of its own."""

_THEN_EVERY = 16
"""Looks between which it is asked after those: an answer may get lost at any time."""

CANCEL_S = 0.5
"""How often a request to cancel is made until it is answered; what is to be cancelled may move a robot."""

CANCEL_FOR_S = 600.0
"""For how long: nobody goes on with an episode that was left longer ago than the greatest ``take_up_limit``."""

_Sent = ClientGoalHandle[Any, Any, Any]


class GoalLostError(RuntimeError):
    """The server was started again and does not know the goal; nobody will say what became of it."""


@dataclass(frozen=True)
class Handle:
    """A goal that its server has answered."""

    accepted: bool
    goal: _Sent
    _node: Node
    _client: ActionClient[Any, Any, Any]
    _servers: frozenset[bytes]
    """The servers that were known when it was answered."""

    def get_result_async(self) -> Future[Any]:
        """The result's response, once there is one.

        A server that is started again is asked again, under the goal's id: one that takes its goals up answers when
        they are over. The future's exception is a ``GoalLostError`` for one that does not know the goal. It waits for a
        server that is gone as long as the node lives.
        """
        waiting = _Waiting(self)
        executor = self._node.executor
        if executor is None:
            raise RuntimeError(f"no executor has the node {self._node.get_name()!r} any more; no result can come")
        executor.create_task(waiting.start)
        return waiting.answer

    def cancel_goal_async(self) -> Future[Any]:
        """The response to a request to cancel it.

        The request is made until it is answered: by the server, or by the one that is started after it, which has the
        goal again or does not know it. The future's exception is a ``TimeoutError`` once ``CANCEL_FOR_S`` have passed.
        Whoever cancels the future asks no more.
        """
        return _canceled(self._node, self.goal)


def send_goal(
    node: Node,
    client: ActionClient[GoalT, Any, Any],
    goal: GoalT,
    feedback: Callable[[Any], None] | None = None,
) -> Future[Handle]:
    """The handle of a goal that the executor's own thread sends, once the server has answered.

    Two ways in which ``ActionClient.send_goal_async`` alone loses an answer:

    - It sends the goal first and enters the future that it returns after that, without a lock (rclpy 9 and 10). An
      answer that another thread takes in between is lost: the future never ends, or entering it raises ``ValueError:
      list.remove(x): x not in list``. The thread that takes answers cannot be in between.
    - A client counts a server as ready once it knows it. Whether the server knows the client too is another message,
      and an answer to one that it does not know within 0.1 s is dropped ("failed to send response (timeout)"); the
      goal is carried out nevertheless. So a goal without an answer is sent again under the same id, which a server
      carries out once at most.

    The future waits as long as the node lives; an error in sending is its exception. Who waits no longer cancels it:
    then the goal is not sent again, and cancelled if the server took it. What nobody waits for must not begin late.

    Args:
        node: the client's, in an executor that spins.
        client: may belong to any thread.
        goal: is sent at the executor's next turn.
        feedback: takes the feedback messages of this goal.

    Raises:
        RuntimeError: if no executor has the node.
    """
    executor = node.executor
    if executor is None:
        raise RuntimeError(f"no executor has the node {node.get_name()!r}, so no goal can be sent; add it to one first")
    sending = _Sending(node, client, goal, feedback)

    def withdraw(answer: Future[Handle]) -> None:
        if answer.cancelled():
            executor.create_task(sending.withdraw)

    sending.answer.add_done_callback(withdraw)
    executor.create_task(sending.start)
    return sending.answer


class _Sending(Generic[GoalT]):
    """One goal on its way; everything on the executor's thread."""

    def __init__(
        self, node: Node, client: ActionClient[GoalT, Any, Any], goal: GoalT, feedback: Callable[[Any], None] | None
    ) -> None:
        self.answer: Future[Handle] = Future()
        self._node, self._client, self._goal, self._feedback = node, client, goal, feedback
        self._id = UUID(uuid=list(uuid4().bytes))
        self._tries = 0
        self._probed = False
        self._timer: Any = None

    @property
    def _is_over(self) -> bool:
        # To rclpy a future that was cancelled is not done.
        return self.answer.done() or self.answer.cancelled()

    def start(self) -> None:
        """Send it, and again while it is not answered."""
        first = self._tries == 0
        self._rest()
        if self._is_over:
            return
        try:
            sent = self._client.send_goal_async(self._goal, self._feedback, self._id)
        except Exception as error:
            self.answer.set_exception(error)
            return
        self._again_after(min(RESEND_S * 2**self._tries, _LONGEST_S), self.start)
        self._tries += 1
        sent.add_done_callback(lambda done: self._take(done, first))

    def withdraw(self) -> None:
        """Send it no more, and have the server cancel what it may have taken."""
        self._rest()
        if self._tries:
            # Nothing may be left to ask with: then the node ends, or its client was destroyed.
            with suppress(Exception):
                _canceled(self._node, ClientGoalHandle(self._client, self._id, None))  # type: ignore[arg-type]

    def _take(self, sent: Future[_Sent], first: bool) -> None:
        handle: Any = sent.result()
        if self._is_over:
            if self.answer.cancelled() and handle.accepted:
                # It was taken after the request to cancel it had been answered.
                _canceled(self._node, handle)
            return
        if handle.accepted or first:
            self._settle(self._handle(bool(handle.accepted), handle))
        elif not self._probed:
            # Refused for what it is, or because the server has it already and that answer was lost. Asked for its
            # result, a server says at once that it does not know a goal; one that it has is done, or not yet.
            self._probed = True
            self._again_after(RESEND_S, lambda: self._settle(self._handle(True, handle)))
            handle.get_result_async().add_done_callback(
                lambda done: self._settle(self._handle(done.result().status != GoalStatus.STATUS_UNKNOWN, handle))
            )

    def _handle(self, accepted: bool, sent: _Sent) -> Handle:
        return Handle(accepted, sent, self._node, self._client, _servers(self._node, self._client))

    def _settle(self, handle: Handle) -> None:
        self._rest()
        if not self._is_over:
            self.answer.set_result(handle)

    def _again_after(self, seconds: float, step: Callable[[], None]) -> None:
        self._rest()
        self._timer = self._node.create_timer(seconds, step, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _rest(self) -> None:
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
        self._timer = None


class _Waiting:
    """The result of one goal, waited for; everything but the making on the executor's thread."""

    def __init__(self, handle: Handle) -> None:
        self.answer: Future[Any] = Future()
        self._handle, self._servers = handle, handle._servers
        self._looks = 0
        self._timer: Any = None

    def start(self) -> None:
        """Ask, and look from now on whether somebody else must be asked."""
        self._ask()
        self._timer = self._handle._node.create_timer(LOOK_S, self._look, clock=Clock(clock_type=ClockType.STEADY_TIME))

    def _look(self) -> None:
        handle = self._handle
        if self.answer.cancelled():
            self._rest()
            return
        known = self._servers
        # Those that were killed are told of for a while: only one that is new says anything.
        self._servers = known | _servers(handle._node, handle._client)
        if self._servers != known:
            self._looks = 0
        elif self._servers == handle._servers:
            return
        else:
            self._looks += 1
        if self._looks in _AGAIN_AT or self._looks % _THEN_EVERY == _THEN_EVERY - 1:
            self._ask()

    def _ask(self) -> None:
        try:
            self._handle.goal.get_result_async().add_done_callback(self._take)
        except Exception as error:
            self._rest()
            self.answer.set_exception(error)

    def _take(self, done: Future[Any]) -> None:
        response: Any = done.result()
        if response.status == GoalStatus.STATUS_UNKNOWN:
            name = self._handle._client._action_name
            lost = GoalLostError(f"the server of {name} does not know the goal; it was started again")
            self._end(lambda: self.answer.set_exception(lost))
        else:
            self._end(lambda: self.answer.set_result(response))

    def _end(self, tell: Callable[[], None]) -> None:
        self._rest()
        if not self.answer.done() and not self.answer.cancelled():
            tell()

    def _rest(self) -> None:
        if self._timer is not None:
            self._handle._node.destroy_timer(self._timer)
        self._timer = None


class _Canceling:
    """A request to cancel one goal, made until it is answered; everything but the making on the executor's thread."""

    def __init__(self, node: Node, goal: _Sent) -> None:
        self.answer: Future[Any] = Future()
        self._node, self._goal = node, goal
        self._asked = 0
        self._timer: Any = None

    def start(self) -> None:
        """Ask, and again while nobody answers."""
        self._ask()
        if not self._is_over:
            self._timer = self._node.create_timer(CANCEL_S, self._ask, clock=Clock(clock_type=ClockType.STEADY_TIME))

    @property
    def _is_over(self) -> bool:
        return self.answer.done() or self.answer.cancelled()

    def _ask(self) -> None:
        if self._is_over:
            self._rest()
            return
        if self._asked * CANCEL_S >= CANCEL_FOR_S:
            self._rest()
            self.answer.set_exception(TimeoutError(f"nobody answered a request to cancel for {CANCEL_FOR_S:g} s"))
            return
        self._asked += 1
        try:
            self._goal.cancel_goal_async().add_done_callback(self._take)
        except Exception as error:
            self._rest()
            self.answer.set_exception(error)

    def _take(self, done: Future[Any]) -> None:
        self._rest()
        if not self._is_over:
            self.answer.set_result(done.result())

    def _rest(self) -> None:
        if self._timer is not None:
            self._node.destroy_timer(self._timer)
        self._timer = None


def _canceled(node: Node, goal: _Sent) -> Future[Any]:
    """The response to a request to cancel a goal, made by the executor's own thread until there is one.

    A node that no executor has any more, since it ends, asks once.
    """
    executor = node.executor
    if executor is None:
        return goal.cancel_goal_async()
    canceling = _Canceling(node, goal)
    executor.create_task(canceling.start)
    return canceling.answer


def _servers(node: Node, client: ActionClient[Any, Any, Any]) -> frozenset[bytes]:
    """The ids of the processes that serve an action, by the publishers of its status. A look at the graph."""
    found = node.get_publishers_info_by_topic(f"{client._action_name}/_action/status")
    return frozenset(bytes(info.endpoint_gid) for info in found)
