"""Goals that a thread beside the executor's sends are answered, each of them."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest
from rclpy.action import ActionClient, ActionServer, GoalResponse
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node

from flow_rag_vla.nodes.goals import send_goal
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

    def spin(executor: SingleThreadedExecutor) -> None:
        with suppress(ExternalShutdownException):
            executor.spin()

    for executor, node in zip(executors, (ros_node, asking), strict=True):
        executor.add_node(node)
    threads = [threading.Thread(target=spin, args=(executor,), daemon=True) for executor in executors]
    try:
        for thread in threads:
            thread.start()
        assert client.wait_for_server(60.0)
        for _ in range(GOALS):
            answered = threading.Event()
            answer = send_goal(executors[1], client, ExecuteTask.Goal())
            answer.add_done_callback(lambda done, event=answered: event.set())
            assert answered.wait(60.0)
            assert answer.result().accepted is False
    finally:
        for executor in executors:
            executor.shutdown(timeout_sec=10.0)
        for thread in threads:
            thread.join(10.0)
        client.destroy()
        server.destroy()
        asking.destroy_node()


def test_what_cannot_be_sent_is_told_to_whoever_waits(ros_node: Node) -> None:
    client = ActionClient(ros_node, ExecuteTask, "refuse")
    executor = SingleThreadedExecutor(context=ros_node.context)
    executor.add_node(ros_node)
    try:
        answer = send_goal(executor, client, "no goal")
        while not answer.done():
            executor.spin_once(1.0)
        assert isinstance(answer.exception(), TypeError)
    finally:
        executor.shutdown(timeout_sec=10.0)
        client.destroy()
