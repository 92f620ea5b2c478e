# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The request for a scene: one at a time, and nothing is left of one that was given up."""

from __future__ import annotations

from contextlib import suppress
from types import SimpleNamespace

import pytest
from rclpy.task import Future

from flow_rag_vla.nodes.episode_reset import SceneReset
from flow_rag_vla_interfaces.srv import ResetSimulation


class Client:
    """Keeps each request until it is answered or taken out, as rclpy's client does."""

    srv_name = "/reset"

    def __init__(self) -> None:
        self.pending: list[Future] = []

    def service_is_ready(self) -> bool:
        return True

    def call_async(self, _request) -> Future:
        self.pending.append(Future())
        return self.pending[-1]

    def remove_pending_request(self, future: Future) -> None:
        with suppress(ValueError):
            self.pending.remove(future)


@pytest.fixture
def asked():
    client, replies = Client(), []
    reset = SceneReset(SimpleNamespace(create_client=lambda *_: client), replies.append)
    reset.ask(ResetSimulation.Request(seed=1), 60.0)
    return SimpleNamespace(client=client, replies=replies, reset=reset)


def test_a_request_that_is_given_up_is_taken_out_of_the_client(asked):
    assert len(asked.client.pending) == 1 and asked.reset.under_way
    asked.reset.forget()
    assert not asked.client.pending and not asked.reset.under_way
    for seed in range(3):
        asked.reset.ask(ResetSimulation.Request(seed=seed), 60.0)
    assert len(asked.client.pending) == 1


def test_the_answer_is_told_and_one_to_a_request_before_is_not(asked):
    first = asked.client.pending[0]
    asked.reset.ask(ResetSimulation.Request(seed=2), 60.0)
    first.set_result(ResetSimulation.Response(ok=True))
    assert not asked.replies and asked.reset.under_way
    asked.client.pending[0].set_result(ResetSimulation.Response(ok=False))
    assert [reply.ok for reply in asked.replies] == [False] and not asked.reset.under_way
