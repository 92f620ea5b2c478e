"""Sends an action's goal from another thread than the executor's."""

from __future__ import annotations

from typing import Any, TypeVar

from rclpy.action import ActionClient
from rclpy.action.client import ClientGoalHandle
from rclpy.executors import Executor
from rclpy.task import Future

GoalT = TypeVar("GoalT")
Handle = ClientGoalHandle[Any, Any, Any]


def send_goal(executor: Executor, client: ActionClient[GoalT, Any, Any], goal: GoalT) -> Future[Handle]:
    """The handle of a goal that the executor's own thread sends, once the server has answered.

    ``ActionClient.send_goal_async`` sends the goal first and enters the future that it returns after that, without a
    lock (rclpy 9 and 10). An answer that another thread takes in between is lost: the future never ends, or entering it
    raises ``ValueError: list.remove(x): x not in list``. The thread that takes answers cannot be in between.

    Args:
        executor: of the client's node.
        client: may belong to any thread.
        goal: is sent at the executor's next turn.
    """
    answer: Future[Handle] = Future()

    def hand_over(sent: Future[Handle]) -> None:
        error = sent.exception()
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(sent.result())  # type: ignore[arg-type]

    def send() -> None:
        try:
            sent = client.send_goal_async(goal)
        except Exception as error:
            answer.set_exception(error)
            return
        sent.add_done_callback(hand_over)

    executor.create_task(send)
    return answer
