# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Questions whose answers get lost are asked again, and a server is met before what is asked once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import rclpy
from rcl_interfaces.srv import GetParameters
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.executors import Executor
from rclpy.node import Node
from rclpy.task import Future
from std_srvs.srv import Trigger

from flow_rag_vla.nodes import asking
from flow_rag_vla.nodes.asking import Asking, Meeting


@dataclass
class _Lossy:
    """A service of which the first answers never leave."""

    lost: int = 0
    asked: int = 0
    kept: list[Future[Any]] = field(default_factory=list)

    async def answer(self, _request: Any, response: Any) -> Any:
        self.asked += 1
        if self.asked <= self.lost:
            # A callback that does not return answers nothing.
            self.kept.append(Future())
            await self.kept[-1]
        return response


@pytest.fixture
def lossy(ros_node: Node) -> _Lossy:
    service = _Lossy()
    ros_node.create_service(Trigger, "lossy", service.answer, callback_group=ReentrantCallbackGroup())
    return service


@pytest.mark.parametrize("lost", [0, 1, 3])
def test_a_question_is_asked_until_it_is_answered_and_not_again(
    ros_node: Node, spin_until: Callable[..., None], lossy: _Lossy, lost: int
) -> None:
    lossy.lost = lost
    answers: list[Trigger.Response] = []
    client = ros_node.create_client(Trigger, "lossy")
    question = Asking(client, answers.append, again_s=0.1)

    def turned() -> bool:
        if not answers:
            question.turn(Trigger.Request())
        return bool(answers)

    spin_until(turned, what="the answer")
    assert len(answers) == 1 and lossy.asked >= lost + 1


def test_a_question_without_a_server_waits_and_fails_nothing(ros_node: Node) -> None:
    question = Asking(ros_node.create_client(Trigger, "nobody"), lambda answer: None)
    question.turn(Trigger.Request())
    question.forget()


def test_an_answer_to_what_was_forgotten_is_dropped(
    ros_node: Node, spin_until: Callable[..., None], lossy: _Lossy
) -> None:
    answers: list[Trigger.Response] = []
    client = ros_node.create_client(Trigger, "lossy")
    spin_until(client.service_is_ready, what="the service")
    question = Asking(client, answers.append)
    question.turn(Trigger.Request())
    question.forget()
    spin_until(lambda: lossy.asked == 1, what="the question at the server")
    last = client.call_async(Trigger.Request())
    spin_until(last.done, what="the next answer")
    assert not answers


@pytest.fixture
def server(ros_executor: Executor, ros_node: Node) -> Iterator[Node]:
    """A node without parameter services of its own, so that a test can lose their answers."""
    yield rclpy.create_node("server", context=ros_node.context, start_parameter_services=False)


def test_a_server_that_answers_late_is_met_by_asking_again(
    ros_node: Node, ros_executor: Executor, server: Node, spin_until: Callable[..., None]
) -> None:
    service = _Lossy(lost=2)
    server.create_service(
        GetParameters, "server/get_parameters", service.answer, callback_group=ReentrantCallbackGroup()
    )
    ros_executor.add_node(server)
    meeting = Meeting(ros_node, "server")
    spin_until(meeting._client.service_is_ready, what="the service")
    told: list[bool] = []
    meeting.begin(lambda: told.append(True))
    spin_until(meeting.is_over, what="the meeting")
    # A machine that is busy may ask once more.
    assert told == [True] and service.asked >= 3
    assert meeting.is_over(), "what is over stays so until it begins anew"
    meeting.begin(lambda: None)
    assert not meeting.is_over()


def test_a_server_that_cannot_be_asked_is_not_waited_for_long(
    ros_node: Node, spin_until: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(asking, "_MEETING_S", 0.2)
    told: list[bool] = []
    meeting = Meeting(ros_node, "nobody")
    began = time.monotonic()
    meeting.begin(lambda: told.append(True))
    assert not meeting.is_over()
    spin_until(meeting.is_over, what="the end of the meeting")
    assert time.monotonic() - began >= 0.2 and not told
