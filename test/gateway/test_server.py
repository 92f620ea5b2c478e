# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

import json
import socket
import threading
import urllib.request

import pytest
from fastapi import APIRouter, WebSocket
from websockets.sync.client import connect

from flow_rag_vla.gateway.access import Access
from flow_rag_vla.gateway.app import Section, make_app
from flow_rag_vla.gateway.server import Server, ServerError

router = APIRouter()


@router.websocket("/open")
async def stay_open(stream: WebSocket) -> None:
    await stream.accept()
    await stream.send_text("open")
    await stream.receive_text()


@pytest.fixture
def app():
    return make_app(Access([]), [Section("things", router)])


def test_it_answers_after_start_on_a_free_port_and_no_more_after_stop(app):
    server = Server(app, port=0)
    server.start()
    address = server.url
    with urllib.request.urlopen(f"{address}health") as response:
        assert json.load(response)["status"] == "alive"
    assert address.startswith("http://127.0.0.1:")
    server.stop()
    server.stop()
    with pytest.raises(OSError):
        urllib.request.urlopen(f"{address}health", timeout=5)
    assert "gateway" not in {thread.name for thread in threading.enumerate()}


def test_a_browser_that_keeps_its_stream_open_does_not_keep_it_from_ending(app):
    with Server(app, port=0) as server, connect(f"ws://127.0.0.1:{server.port}/api/things/open") as stream:
        assert stream.recv() == "open"
        server.stop()
        assert "gateway" not in {thread.name for thread in threading.enumerate()}


def test_a_port_that_is_taken_is_said(app):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServerError, match=f"127.0.0.1:{port}.*choose another"):
            Server(app, port=port).start()


def test_it_is_heard_on_this_machine_only_unless_told_otherwise(app):
    with Server(app, port=0) as server:
        assert server.url == f"http://127.0.0.1:{server.port}/"
    with Server(app, host="0.0.0.0", port=0) as server:
        assert server.url == f"http://127.0.0.1:{server.port}/"
