# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Connections that keep a server waiting, over real sockets: each is ended, and others are answered meanwhile."""

from __future__ import annotations

import socket
import threading
import urllib.request
from contextlib import contextmanager

import pytest
from fastapi import APIRouter, Request, Response, WebSocket
from websockets.sync.client import connect

from flow_rag_vla.gateway.access import Access, Role, Viewer, new_token
from flow_rag_vla.gateway.app import Section, make_app
from flow_rag_vla.gateway.patience import Patience, _place
from flow_rag_vla.gateway.server import Server

WAIT_S = 60.0
ANSWER = 32 << 20
"""Bytes: more than all buffers on the way hold."""

router = APIRouter()


@router.post("/swallow")
async def swallow(request: Request, _person: Viewer) -> int:
    return len(await request.body())


@router.get("/much")
async def much(_person: Viewer) -> Response:
    return Response(b"x" * ANSWER)


@router.websocket("/open")
async def stay_open(stream: WebSocket) -> None:
    await stream.accept()
    await stream.send_text("open")
    await stream.receive_text()


@pytest.fixture
def serve():
    """``serve(Patience(...))`` is a running server; its ``secret`` is a viewer's."""
    token, secret = new_token("ada", Role.VIEWER)

    @contextmanager
    def served(patience):
        with Server(make_app(Access([token]), [Section("things", router)], patience), port=0) as server:
            server.secret = secret
            yield server

    return served


@contextmanager
def connected(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT_S) as client:
        yield client


def until_end(client):
    """All that comes until the server closes; the test fails if it does not."""
    data = b""
    try:
        while more := client.recv(1 << 16):
            data += more
    except ConnectionResetError:
        pass
    return data


def until(client, words):
    """What comes up to and with some words; the test fails if they do not come."""
    data = b""
    while words not in data:
        more = client.recv(1 << 16)
        assert more, data
        data += more
    return data


def head(server, path="/api/things/swallow", length=10, token=True):
    lines = [f"POST {path} HTTP/1.1", "Host: x", "Content-Type: application/octet-stream", f"Content-Length: {length}"]
    if token:
        lines.append(f"Authorization: Bearer {server.secret}")
    return "\r\n".join([*lines, "", ""]).encode()


def request(server, path):
    return f"GET {path} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.secret}\r\n\r\n".encode()


def alive(server):
    with urllib.request.urlopen(f"{server.url}health", timeout=WAIT_S) as answer:
        return answer.status == 200


def emptied(server):
    """Wait until no connection is left."""
    for _ in range(int(100 * WAIT_S)):
        if not server.connections:
            return
        threading.Event().wait(0.01)
    raise AssertionError(f"{server.connections} connections stay open")


def drip(client, piece, pause_s, stopped):
    """Send a piece now and then until the connection or the test ends."""
    try:
        while not stopped.wait(pause_s):
            client.sendall(piece)
    except OSError:
        pass


@contextmanager
def dripping(client, piece, pause_s=0.02):
    stopped = threading.Event()
    thread = threading.Thread(target=drip, args=(client, piece, pause_s, stopped))
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


@pytest.mark.parametrize("said", [b"", b"GET /health HTTP/1.1\r\nHost: x\r\n"], ids=["nothing", "half a head"])
def test_a_connection_that_stops_before_its_head_is_whole_is_closed(serve, said):
    with serve(Patience(head_s=0.3)) as server, connected(server) as client:
        client.sendall(said)
        assert alive(server)
        assert until_end(client) == b""


def test_a_head_that_comes_drop_by_drop_is_not_waited_for_longer(serve):
    with serve(Patience(head_s=0.3)) as server, connected(server) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n")
        with dripping(client, b"X: y\r\n"):
            assert until_end(client) == b""


def test_a_second_head_on_a_kept_connection_is_timed_as_the_first_was(serve):
    with serve(Patience(head_s=0.3)) as server, connected(server) as client:
        client.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
        assert until(client, b"alive").startswith(b"HTTP/1.1 200")
        with dripping(client, b"G"):
            assert b"HTTP/1.1 200" not in until_end(client)


def test_a_body_that_stops_is_a_408_and_the_connection_ends(serve):
    with serve(Patience(body_s=0.3)) as server, connected(server) as client:
        client.sendall(head(server) + b"abc")
        assert alive(server)
        answer = until_end(client)
        assert answer.startswith(b"HTTP/1.1 408") and b'"code":"too_slow"' in answer and b"after 3 bytes" in answer


def test_a_body_that_drips_is_a_408_and_one_that_flows_may_take_its_time(serve):
    with serve(Patience(body_s=0.3, body_rate=1e9)) as server, connected(server) as client:
        client.sendall(head(server, length=1_000_000))
        with dripping(client, b"x"):
            assert until_end(client).startswith(b"HTTP/1.1 408")
    with serve(Patience(body_s=0.3, body_rate=10.0)) as server, connected(server) as client:
        client.sendall(head(server, length=10_000).replace(b"Host: x", b"Host: x\r\nConnection: close") + b"x" * 9_990)
        with dripping(client, b"x", 0.1):
            answer = until_end(client)
        assert answer.startswith(b"HTTP/1.1 200") and answer.endswith(b"10000")


def test_a_stranger_is_refused_before_a_byte_of_the_body_has_come(serve):
    with serve(Patience(head_s=0.3)) as server, connected(server) as client:
        client.sendall(head(server, length=500_000, token=False))
        assert until(client, b"token_missing").startswith(b"HTTP/1.1 401")
        # What a stranger goes on to send is not kept, and not listened to without end.
        with dripping(client, b"x"):
            until_end(client)


def test_an_answer_that_nobody_takes_is_given_up(serve):
    with serve(Patience(unread_s=0.3)) as server, connected(server) as client:
        request = f"GET /api/things/much HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {server.secret}\r\n\r\n"
        client.sendall(request.encode())
        begun = client.recv(1)
        emptied(server)
        assert alive(server)
        assert len(begun + until_end(client)) < ANSWER


def test_more_connections_than_are_let_in_are_closed_unheard(serve):
    with serve(Patience(head_s=WAIT_S, connections=2)) as server:
        with connected(server) as first, connected(server) as second:
            for client in (first, second):
                client.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
                assert until(client, b"alive").startswith(b"HTTP/1.1 200")
            with connected(server) as third:
                assert until_end(third) == b""
        emptied(server)
        assert alive(server)


def ask(client):
    client.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
    return until(client, b"alive")


def test_one_address_opens_so_many_connections_and_hears_a_429_on_the_next_and_another_address_is_heard(serve):
    with serve(Patience(head_s=WAIT_S, connections_each=2)) as server:
        with connected(server) as first, connect(f"ws://127.0.0.1:{server.port}/api/things/open") as stream:
            assert stream.recv() == "open"
            ask(first)
            for said in (b"", b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"):
                with connected(server) as third:
                    third.sendall(said)
                    answer = until(third, b"}")
                    assert answer.startswith(b"HTTP/1.1 429") and b'"code": "too_many_connections"' in answer
                    assert b"Connection: close" in answer and b"Retry-After" in answer
            with socket.create_connection(("127.0.0.1", server.port), WAIT_S, ("127.0.0.2", 0)) as elsewhere:
                assert ask(elsewhere).startswith(b"HTTP/1.1 200")
            # A connection that stayed is none the worse.
            assert ask(first).startswith(b"HTTP/1.1 200")
            stream.send("bye")
        emptied(server)
        assert alive(server)


def test_a_refused_connection_that_stays_is_closed(serve):
    with serve(Patience(head_s=WAIT_S, connections_each=1)) as server, connected(server) as first:
        ask(first)
        with connected(server) as second, dripping(second, b"x"):
            answer = until_end(second)
        assert answer.count(b"HTTP/1.1") <= 1
        assert ask(first).startswith(b"HTTP/1.1 200")


def test_networks_of_ipv6_count_as_one_address_and_mapped_addresses_as_what_they_are():
    assert _place(("2001:db8:1:2:3::4", 1)) == _place(("2001:db8:1:2:ffff::9", 2)) != _place(("2001:db8:1:3::4", 1))
    assert _place(("::ffff:10.0.0.1", 1)) == _place(("10.0.0.1", 2)) == "10.0.0.1"
    assert _place(("fe80::1%eth0", 1)) == _place(("fe80::2", 1))
    assert _place(None) is None


def asked_until(server, client, status):
    """Ask for what is not there until the answer has this status; the test fails if it never has."""
    for _ in range(int(WAIT_S / 0.01)):
        client.sendall(request(server, "/api/things/nothing"))
        answer = until(client, b"}")
        if answer.startswith(b"HTTP/1.1 " + status):
            return answer
        threading.Event().wait(0.01)
    raise AssertionError(answer)


def test_more_requests_than_are_answered_at_once_hear_a_503_and_health_is_always_answered(serve):
    with serve(Patience(requests=1)) as server, connected(server) as first, connected(server) as second:
        first.sendall(head(server, length=4) + b"abc")
        # It is under way once the server waits for the rest of its body.
        answer = asked_until(server, second, b"503")
        assert b'"code":"overloaded"' in answer and b"retry-after: 1" in answer.lower()
        assert alive(server)
        # A stranger hears who is let in, and holds no place.
        with connected(server) as stranger:
            stranger.sendall(head(server, token=False))
            assert until(stranger, b"token_missing").startswith(b"HTTP/1.1 401")
        first.sendall(b"d")
        assert until(first, b"\r\n\r\n4").startswith(b"HTTP/1.1 200")
        asked_until(server, second, b"404")
