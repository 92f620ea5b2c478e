# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Goals are answered, each of them: those of a thread beside the executor's, and those whose answer got lost."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any

import pytest
from action_msgs.msg import GoalStatus
from action_msgs.srv import CancelGoal
from rclpy.action import ActionClient, ActionServer, CancelResponse, GoalResponse
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.task import Future

from flow_rag_vla.nodes import goals, operator
from flow_rag_vla.nodes.goals import GoalLostError, send_goal
from flow_rag_vla.nodes.operator import Operator, OperatorError
from flow_rag_vla_interfaces.action import ExecuteTask

GOALS = 150


@pytest.fixture
def hasty() -> Iterator[None]:
    """Threads take turns two thousand times as often, so that what may come in between does."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(2e-6)
    yield
    sys.setswitchinterval(before)


def test_every_goal_of_another_thread_is_answered(ros_node: Node, hasty: None) -> None:
    # A node, and with it a thread, for each side, as in two processes.
    import rclpy

    asking = rclpy.create_node("asking", context=ros_node.context)
    server = ActionServer(
        ros_node, ExecuteTask, "refuse", lambda handle: None, goal_callback=lambda goal: GoalResponse.REJECT
    )
    client = ActionClient(asking, ExecuteTask, "refuse")
    executors = [SingleThreadedExecutor(context=ros_node.context) for _ in range(2)]

    ended: Future[None] = Future()

    def spin(executor: SingleThreadedExecutor) -> None:
        with suppress(ExternalShutdownException):
            executor.spin_until_future_complete(ended)

    for executor, node in zip(executors, (ros_node, asking), strict=True):
        executor.add_node(node)
    threads = [threading.Thread(target=spin, args=(executor,), daemon=True) for executor in executors]
    try:
        for thread in threads:
            thread.start()
        assert client.wait_for_server(60.0)
        for _ in range(GOALS):
            answered = threading.Event()
            answer = send_goal(asking, client, ExecuteTask.Goal())
            answer.add_done_callback(lambda done, event=answered: event.set())
            assert answered.wait(60.0)
            assert answer.result().accepted is False
    finally:
        # Before anything is taken down: an executor that is shut down while another thread waits in it keeps its nodes.
        ended.set_result(None)
        for thread in threads:
            thread.join(60.0)
        for executor in executors:
            executor.shutdown(timeout_sec=10.0)
        client.destroy()
        server.destroy()
        asking.destroy_node()


def test_what_cannot_be_sent_is_told_to_whoever_waits(ros_node: Node) -> None:
    client = ActionClient(ros_node, ExecuteTask, "refuse")
    executor = SingleThreadedExecutor(context=ros_node.context)
    executor.add_node(ros_node)
    try:
        answer = send_goal(ros_node, client, "no goal")
        while not answer.done():
            executor.spin_once(1.0)
        assert isinstance(answer.exception(), TypeError)
    finally:
        executor.shutdown(timeout_sec=10.0)
        client.destroy()


def test_a_node_that_nobody_spins_sends_nothing_and_says_so(ros_context: object) -> None:
    import rclpy

    node = rclpy.create_node("alone")
    client = ActionClient(node, ExecuteTask, "refuse")
    try:
        with pytest.raises(RuntimeError, match="no executor has the node 'alone'"):
            send_goal(node, client, ExecuteTask.Goal())
    finally:
        client.destroy()
        node.destroy_node()


class _Deaf:
    """An action server's own handle, of which the first answers to goals do not arrive."""

    def __init__(self, handle: Any, lost: int) -> None:
        self._handle, self.lost = handle, lost

    def __getattr__(self, name: str) -> Any:
        return getattr(self._handle, name)

    def send_goal_response(self, *message: Any) -> None:
        if self.lost > 0:
            self.lost -= 1
        else:
            self._handle.send_goal_response(*message)

    def __enter__(self) -> Any:
        return self._handle.__enter__()

    def __exit__(self, *error: object) -> Any:
        return self._handle.__exit__(*error)


@dataclass
class _World:
    """A server of which answers get lost, and a client."""

    node: Node
    client: ActionClient[Any, Any, Any]
    server: ActionServer[Any, Any, Any]
    asked: list[str] = field(default_factory=list)
    taken: list[Any] = field(default_factory=list)
    withdrawn: list[Any] = field(default_factory=list)
    accept: bool = True

    def lose(self, answers: int) -> None:
        self.server._handle = _Deaf(self.server._handle, answers)

    def ask(self, goal: ExecuteTask.Goal) -> GoalResponse:
        self.asked.append(goal.instruction)
        return GoalResponse.ACCEPT if self.accept else GoalResponse.REJECT

    def cancel(self, handle: Any) -> CancelResponse:
        self.withdrawn.append(handle)
        return CancelResponse.ACCEPT


@pytest.fixture
def world(ros_node: Node, spin_until: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> Iterator[_World]:
    monkeypatch.setattr(goals, "RESEND_S", 0.2)
    made: list[_World] = []

    def execute(handle: Any) -> ExecuteTask.Result:
        handle.publish_feedback(ExecuteTask.Feedback(message="begun"))
        handle.succeed()
        return ExecuteTask.Result(reason="done")

    server = ActionServer(
        ros_node,
        ExecuteTask,
        "lossy",
        execute,
        goal_callback=lambda goal: made[0].ask(goal),
        cancel_callback=lambda handle: made[0].cancel(handle),
        handle_accepted_callback=lambda handle: made[0].taken.append(handle),
    )
    made.append(_World(ros_node, ActionClient(ros_node, ExecuteTask, "lossy"), server))
    spin_until(made[0].client.server_is_ready, what="the action")
    yield made[0]
    made[0].client.destroy()
    made[0].server.destroy()


@pytest.mark.parametrize("lost", [1, 2])
def test_a_goal_whose_acceptance_got_lost_is_carried_out_once_and_its_result_comes(
    world: _World, spin_until: Callable[..., None], lost: int
) -> None:
    world.lose(lost)
    told: list[str] = []
    answer = send_goal(
        world.node, world.client, ExecuteTask.Goal(instruction="go"), lambda said: told.append(said.feedback.message)
    )
    spin_until(answer.done, what="the handle")
    handle = answer.result()
    assert handle.accepted and world.asked == ["go"]
    done = handle.get_result_async()
    world.taken[0].execute()
    spin_until(done.done, what="the result")
    assert done.result().status == GoalStatus.STATUS_SUCCEEDED and done.result().result.reason == "done"
    assert told == ["begun"] and len(world.taken) == 1


def test_a_goal_whose_refusal_got_lost_is_refused(
    world: _World, spin_until: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    # A server that says nothing of a goal for so long has it: a busy machine must not make one of that.
    monkeypatch.setattr(goals, "RESEND_S", 1.0)
    world.accept = False
    world.lose(1)
    answer = send_goal(world.node, world.client, ExecuteTask.Goal(instruction="go"))
    spin_until(answer.done, what="the handle")
    # A machine that is busy may send it a third time.
    assert not answer.result().accepted and len(world.asked) >= 2 and not world.taken


def test_a_goal_that_nobody_waits_for_is_cancelled_and_not_sent_again(
    world: _World, spin_until: Callable[..., None]
) -> None:
    world.lose(1000)
    answer = send_goal(world.node, world.client, ExecuteTask.Goal(instruction="go"))
    spin_until(lambda: world.taken, what="the goal at the server")
    answer.cancel()
    spin_until(lambda: world.withdrawn, what="the cancellation")
    sends: list[object] = []
    world.client.send_goal_async = lambda *goal: sends.append(goal)  # type: ignore[method-assign, assignment]
    later: list[bool] = []
    world.node.create_timer(4 * goals.RESEND_S, lambda: later.append(True))
    spin_until(lambda: later, what="the time of two more sends")
    assert not sends and world.asked == ["go"] and not answer.done()


def test_a_goal_withdrawn_while_it_is_on_its_way_is_cancelled(world: _World, spin_until: Callable[..., None]) -> None:
    sent: list[object] = []
    send = world.client.send_goal_async

    def watched(*goal: Any) -> Any:
        sent.append(goal)
        return send(*goal)

    world.client.send_goal_async = watched  # type: ignore[method-assign]
    answer = send_goal(world.node, world.client, ExecuteTask.Goal(instruction="go"))
    spin_until(lambda: sent, what="the goal on its way")
    answer.cancel()
    spin_until(lambda: world.withdrawn, what="the cancellation")
    assert world.asked == ["go"] and not answer.done()


def test_a_goal_withdrawn_before_it_was_sent_is_never_sent(world: _World, spin_until: Callable[..., None]) -> None:
    answer = send_goal(world.node, world.client, ExecuteTask.Goal(instruction="late"))
    answer.cancel()
    second = send_goal(world.node, world.client, ExecuteTask.Goal(instruction="next"))
    spin_until(second.done, what="the next goal's handle")
    assert world.asked == ["next"] and not world.withdrawn


def test_a_server_that_is_new_is_asked_for_the_result_and_one_that_does_not_know_the_goal_says_so(
    world: _World, spin_until: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(goals, "LOOK_S", 0.05)
    answer = send_goal(world.node, world.client, ExecuteTask.Goal(instruction="go"))
    spin_until(answer.done, what="the handle")
    result = answer.result().get_result_async()
    later: list[bool] = []
    world.node.create_timer(0.3, lambda: later.append(True))
    spin_until(lambda: later, what="the time of some looks")
    assert not result.done(), "the goal has not been carried out"
    world.server.destroy()
    world.server = ActionServer(world.node, ExecuteTask, "lossy", lambda handle: ExecuteTask.Result())
    spin_until(result.done, what="the new server's answer")
    assert isinstance(result.exception(), GoalLostError) and "lossy" in str(result.exception())


def test_a_request_to_cancel_reaches_the_server_that_is_started_after_the_one_that_was_gone(
    world: _World, spin_until: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(goals, "CANCEL_S", 0.05)
    answer = send_goal(world.node, world.client, ExecuteTask.Goal(instruction="go"))
    spin_until(answer.done, what="the handle")
    world.server.destroy()
    requests: list[object] = []
    cancel = world.client._cancel_goal_async

    def watched(goal: Any) -> Any:
        requests.append(goal)
        return cancel(goal)

    world.client._cancel_goal_async = watched  # type: ignore[method-assign]
    asked = answer.result().cancel_goal_async()
    # The first of them reach nobody: a server that comes later never hears of those.
    spin_until(lambda: len(requests) > 2, what="requests that nobody hears")
    assert not asked.done()
    world.server = ActionServer(world.node, ExecuteTask, "lossy", lambda handle: ExecuteTask.Result())
    spin_until(asked.done, what="the answer of the new server")
    assert asked.result().return_code == CancelGoal.Response.ERROR_UNKNOWN_GOAL_ID
    made = len(requests)
    later: list[bool] = []
    world.node.create_timer(0.3, lambda: later.append(True))
    spin_until(lambda: later, what="the time of some more requests")
    assert len(requests) == made


def test_a_request_to_cancel_that_nobody_answers_ends(
    world: _World, spin_until: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(goals, "CANCEL_S", 0.05)
    monkeypatch.setattr(goals, "CANCEL_FOR_S", 0.2)
    answer = send_goal(world.node, world.client, ExecuteTask.Goal(instruction="go"))
    spin_until(answer.done, what="the handle")
    world.server.destroy()
    world.server = ActionServer(world.node, ExecuteTask, "another", lambda handle: ExecuteTask.Result())
    asked = answer.result().cancel_goal_async()
    spin_until(asked.done, what="the end of asking")
    assert isinstance(asked.exception(), TimeoutError)


@pytest.mark.parametrize("lasting", [True, False])
def test_who_interrupts_a_command_in_a_lasting_graph_is_told_that_nobody_took_the_cancel(
    monkeypatch: pytest.MonkeyPatch, lasting: bool
) -> None:
    monkeypatch.setattr(operator, "CANCEL_S", 0.01)
    monkeypatch.setattr(operator, "LASTING_CANCEL_S", 0.01)
    canceled: list[bool] = []
    sent: Future[Any] = Future()
    sent.set_result(
        SimpleNamespace(accepted=True, get_result_async=Future, cancel_goal_async=lambda: canceled.append(True))
    )
    monkeypatch.setattr(operator, "send_goal", lambda *_asked: sent)
    asking: Any = Operator.__new__(Operator)
    asking._node = asking._client = None

    def interrupted() -> None:
        raise KeyboardInterrupt

    # A graph that ends with the command stops the arm by that.
    with pytest.raises(OperatorError if lasting else KeyboardInterrupt) as told:
        asking.execute(ExecuteTask.Goal(), interrupted, lasting=lasting)
    assert canceled == [True] and (not lasting or "press the emergency stop" in str(told.value))
