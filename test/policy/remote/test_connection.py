# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The connection against a real server that answers, lies, stalls, fails and goes away."""

from __future__ import annotations

import contextlib
import re
import socket
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from serving import serving, wait_for

from flow_rag_vla.policy.remote.connection import API_KEY, Limits, PolicyConnection, checked_url
from flow_rag_vla.policy.remote.errors import ContractError, ObservationError

LIMITS = Limits(connect_s=20.0, answer_s=20.0, first_answer_s=20.0, answer_bytes=2_000_000)
SHORT = Limits(connect_s=0.3, answer_s=0.1, first_answer_s=0.3)


def still(_request):
    return {"actions": np.zeros((10, 7), dtype=np.float32)}


@contextlib.contextmanager
def connected(url, limits=LIMITS, wait=True):
    connection = PolicyConnection(url, limits, lambda: None)
    connection.start()
    try:
        if wait:
            wait_for(lambda: connection.standing.connected, "a connection")
        yield connection
    finally:
        connection.close()


def asked(connection, build=lambda: {"prompt": "go"}, what="it"):
    wait_for(lambda: connection.ask(what, build), "a connection that can be asked")
    (answer,) = wait_for(connection.take, "an answer")
    return answer


def test_a_request_is_answered_and_the_server_is_known_by_its_metadata():
    with serving(still, {"name": "pi0"}) as server, connected(server.url) as connection:
        answer = asked(connection, lambda: {"image": np.ones((2, 2, 3), dtype=np.uint8)}, what=7)
        assert (answer.asked, answer.problem) == (7, "") and answer.values["actions"].shape == (10, 7)
        assert np.array_equal(server.requests[0]["image"], np.ones((2, 2, 3)))
        standing = connection.standing
        assert standing.metadata == {"name": "pi0"} and len(standing.revision) == 12 and standing.answers == 1
    with serving(still, {"name": "pi05"}) as other, connected(other.url) as connection:
        assert connection.standing.revision != standing.revision


def test_one_request_is_under_way_at_a_time_and_nobody_waits_for_it():
    go_on = threading.Event()

    def slow(request):
        go_on.wait(60)
        return still(request)

    with serving(slow) as server, connected(server.url) as connection:
        assert connection.ask(1, dict) and not connection.ask(2, dict)
        wait_for(lambda: server.requests, "the request")
        assert connection.standing.asking and not connection.ask(3, dict) and not connection.take()
        go_on.set()
        (answer,) = wait_for(connection.take)
        assert answer.asked == 1 and len(server.requests) == 1


@pytest.mark.parametrize(
    ("said_by_server", "problem"),
    [
        (b"\xc1garbage", "no message"),
        (
            "Traceback:\n  somewhere\nKeyError: 'observation/state'\n",
            "the server failed: KeyError: 'observation/state'",
        ),
        (b"\xc4" * 3_000_000, "(?i)message too big|exceeds|1009"),
    ],
)
def test_an_answer_that_is_none_is_named_and_the_server_is_asked_anew(said_by_server, problem):
    with serving(lambda _request: said_by_server) as server, connected(server.url) as connection:
        answer = asked(connection)
        assert answer.values is None
        assert re.search(problem, answer.problem)
        server.infer = still
        assert asked(connection).problem == "" and connection.standing.problem == ""
        assert connection.standing.attempts == 2


def test_a_policy_that_raises_is_named_by_its_own_last_words():
    def fail(_request):
        raise ValueError("prompt is too long")

    with serving(fail) as server, connected(server.url) as connection:
        assert asked(connection).problem == "the server failed: ValueError: prompt is too long"


def test_an_answer_that_comes_too_late_is_never_taken_for_that_of_the_next_request():
    late = threading.Event()

    def stall(_request):
        late.wait(60)
        return {"actions": np.full((1, 7), 99.0)}

    with serving(stall) as server, connected(server.url, SHORT) as connection:
        assert asked(connection).problem == "no answer within 0.3 s"
        server.infer = still
        late.set()
        values = wait_for(lambda: [found for found in [asked(connection)] if not found.problem], "an answer")[0].values
        assert values["actions"].shape == (10, 7)


def test_a_server_that_talks_unasked_is_left():
    with serving(still) as server, connected(server.url) as connection:
        server.connections[0].send(b"\x80")
        wait_for(lambda: "nobody asked for" in connection.standing.problem, "the fault")


def test_a_request_that_cannot_be_made_leaves_the_connection_as_it_is():
    def broken():
        raise ObservationError("no wrist image")

    with serving(still) as server, connected(server.url) as connection:
        assert asked(connection, broken).problem == "no wrist image"
        assert asked(connection).problem == "" and connection.standing.attempts == 1
        assert asked(connection, lambda: {"x": object()}).problem.startswith("the message cannot be sent")


@pytest.mark.parametrize(
    ("greeting", "problem"),
    [("hello", "greets with a text: hello"), (b"\x07", "greets with a int"), (b"\xc1", "no message")],
)
def test_a_greeting_that_is_no_metadata_is_named(greeting, problem):
    with serving(still, greeting) as server, connected(server.url, wait=False) as connection:
        wait_for(lambda: problem in connection.standing.problem, problem)
        assert not connection.standing.connected and not connection.ask(1, dict)


def test_a_server_that_goes_away_is_noticed_at_once_and_found_again():
    with serving(still) as server, connected(server.url) as connection:
        port = int(server.url.rsplit(":", 1)[1])
        assert asked(connection).problem == ""
    with connected(f"ws://127.0.0.1:{port}", wait=False) as connection:
        wait_for(lambda: "Connect call failed" in connection.standing.problem, "no server")
        with serving(still, port=port) as server:
            assert asked(connection).problem == ""
            server.hang_up()
            wait_for(lambda: not connection.standing.connected or connection.standing.attempts > 2, "the loss")


def test_something_else_on_the_port_is_named_within_the_deadline():
    with socket.create_server(("127.0.0.1", 0)) as silent, contextlib.ExitStack() as stack:
        url = f"ws://127.0.0.1:{silent.getsockname()[1]}"
        connection = stack.enter_context(connected(url, SHORT, wait=False))
        wait_for(lambda: "no greeting" in connection.standing.problem, "the deadline")


def test_it_ends_while_a_request_is_under_way_and_can_begin_again():
    never = threading.Event()
    with serving(lambda _request: never.wait(60)) as server:
        connection = PolicyConnection(server.url, LIMITS, lambda: None)
        connection.start()
        wait_for(lambda: connection.ask(1, dict))
        wait_for(lambda: server.requests)
        threads = threading.active_count()
        connection.close()
        assert threading.active_count() < threads and not connection.standing.connected
        connection.start()
        never.set()
        server.infer = still
        assert asked(connection).problem == ""
        connection.close()


def test_the_key_of_a_server_goes_into_its_header_and_nowhere_else(monkeypatch):
    monkeypatch.setenv(API_KEY, "s3cret")
    with serving(still, {"name": "pi0"}) as server, connected(server.url) as connection:
        assert server.connections[0].request.headers["Authorization"] == "Api-Key s3cret"
        assert "s3cret" not in repr(connection.standing)


@pytest.mark.parametrize("url", ["", "10.0.0.5:8000", "http://a:8000", "ws://", "ws://a:port", "ws://a:99999"])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(ContractError, match="expected ws://host:port"):
        checked_url(url)
    assert checked_url("wss://policy.lan/pi0") == "wss://policy.lan/pi0"
    with pytest.raises(ContractError, match=API_KEY) as refused:
        checked_url("ws://robot:s3cret@policy.lan:8000")
    assert "s3cret" not in str(refused.value)
