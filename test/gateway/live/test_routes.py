# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The live page over HTTP, above a graph that lives in memory."""

import json
import re

import pytest
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from flow_rag_vla.core.action import TICK_NS
from flow_rag_vla.gateway.access import Access, Role, new_token
from flow_rag_vla.gateway.app import make_app
from flow_rag_vla.gateway.live.board import CommandSeen, Picture
from flow_rag_vla.gateway.live.health import Readiness
from flow_rag_vla.gateway.live.routes import PAGE, live_section


@pytest.fixture
def client(graph, board, audience, pace, tokens, tmp_path):
    section = live_section(board, graph, pace, audience, Readiness(("controller",)), tmp_path / "exports")
    return TestClient(make_app(Access([token for token, _ in tokens.values()]), [section]))


@pytest.fixture
def as_role(tokens):
    return lambda role: {"Authorization": f"Bearer {tokens[role][1]}"}


ROUTES = [
    ("GET", "/person", None, Role.VIEWER),
    ("GET", "/vocabulary", None, Role.VIEWER),
    ("GET", "/memory/cases", None, Role.VIEWER),
    ("GET", "/memory/cases/1", None, Role.VIEWER),
    ("POST", "/memory/cases/1/edit", {"note": "n"}, Role.REVIEWER),
    ("POST", "/memory/cases/1/retire", {"retired": True}, Role.REVIEWER),
    ("POST", "/memory/export", {}, Role.REVIEWER),
    ("POST", "/start", {"task": "push"}, Role.OPERATOR),
    ("POST", "/stop", None, Role.OPERATOR),
    ("POST", "/plans/p1/answer", {"approved": True}, Role.OPERATOR),
    ("POST", "/score", {"success": True, "episode": 4}, Role.OPERATOR),
    ("POST", "/release", None, Role.OPERATOR),
    ("POST", "/emergency_stop", None, Role.OPERATOR),
]


@pytest.mark.parametrize(("method", "path", "body", "needed"), ROUTES)
def test_every_route_asks_for_its_role(client, as_role, graph, board, method, path, body, needed):
    board.set_part("episode", {"id": 4, "state": "running"})
    assert client.request(method, f"/api/live{path}", json=body).json()["code"] == "token_missing"
    for role in Role:
        response = client.request(method, f"/api/live{path}", json=body, headers=as_role(role))
        if role < needed:
            assert (response.status_code, response.json()["code"]) == (403, "role_too_low")
            assert graph.asked == []
        else:
            assert response.status_code == 200, response.text
            graph.running = False


def test_the_stop_is_published_before_anybody_is_asked_and_also_when_nobody_answers(client, as_role, graph):
    graph.down = True
    answer = client.post("/api/live/emergency_stop", headers=as_role(Role.OPERATOR)).json()
    assert graph.asked == ["stop published"]
    assert (answer["latched"], answer["confirmed"]) == (True, False)
    assert "not running" in answer["message"]
    graph.down = False
    assert client.post("/api/live/emergency_stop", headers=as_role(Role.OPERATOR)).json()["confirmed"] is True


def test_a_form_of_a_foreign_page_moves_nothing(client, graph):
    """What a browser can send across sites without asking: a form post, with cookies, without our header."""
    response = client.post(
        "/api/live/start",
        content="instruction=push",
        headers={"Content-Type": "text/plain", "Origin": "http://elsewhere", "Cookie": "token=x"},
    )
    assert response.status_code == 401
    assert graph.asked == []
    preflight = client.options(
        "/api/live/start", headers={"Origin": "http://elsewhere", "Access-Control-Request-Method": "POST"}
    )
    assert "access-control-allow-origin" not in preflight.headers


def test_an_instruction_becomes_an_order_and_a_second_one_waits(client, as_role, graph):
    body = {"instruction": "push the yellow cylinder to the green zone", "seed": 7}
    assert client.post("/api/live/start", json=body, headers=as_role(Role.OPERATOR)).status_code == 200
    assert (graph.asked[0].instruction, graph.asked[0].seed) == (body["instruction"], 7)
    response = client.post("/api/live/start", json=body, headers=as_role(Role.OPERATOR))
    assert (response.status_code, response.json()["code"]) == (409, "refused")


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({}, 400, "nothing_asked"),
        ({"instruction": " "}, 400, "nothing_asked"),
        ({"task": "juggle"}, 400, "not_understood"),
        ({"instruction": "x" * 501}, 422, "invalid_request"),
        ({"task": "push", "seed": -1}, 422, "invalid_request"),
        ({"task": "push", "seed": 2**31}, 422, "invalid_request"),
        ({"task": "push", "timeout": 1e9}, 422, "invalid_request"),
        ({"task": "push", "speed": 3}, 422, "invalid_request"),
        ({"task": ["push"]}, 422, "invalid_request"),
        ([], 422, "invalid_request"),
    ],
)
def test_an_order_that_makes_no_sense_moves_nothing_and_says_why(client, as_role, graph, body, status, code):
    response = client.post("/api/live/start", json=body, headers=as_role(Role.OPERATOR))
    assert (response.status_code, response.json()["code"]) == (status, code)
    assert response.json()["remedy"]
    assert graph.asked == []


def test_a_persons_word_on_a_plan_carries_the_name_of_the_token_and_is_taken_once(client, as_role, graph):
    operator = as_role(Role.OPERATOR)
    said = client.post("/api/live/plans/p1/answer", json={"approved": True}, headers=operator)
    assert said.json() == {"message": "approved by operator"}
    body = {"approved": False, "reason": "the cup"}
    client.post("/api/live/plans/p2/answer", json=body, headers=operator)
    assert graph.asked == [("p1", True, "operator", ""), ("p2", False, "operator", "the cup")]
    late = client.post("/api/live/plans/p1/answer", json={"approved": False}, headers=operator)
    assert (late.status_code, late.json()["code"]) == (409, "not_waiting")
    # Nothing that only looks like a yes is one, and nobody speaks in another's name.
    for body in ({}, {"approved": "yes"}, {"approved": 1}, {"approved": True, "person": "ada"}):
        response = client.post("/api/live/plans/p1/answer", json=body, headers=operator)
        assert (response.status_code, response.json()["code"]) == (422, "invalid_request")
    assert client.post(f"/api/live/plans/{'p' * 65}/answer", json={"approved": True}, headers=operator).is_client_error
    graph.down = True
    down = client.post("/api/live/plans/p1/answer", json={"approved": True}, headers=operator)
    assert (down.status_code, down.json()["code"]) == (503, "node_down")


def test_only_the_episode_that_runs_is_judged(client, as_role, graph, board):
    def judge(**body):
        return client.post("/api/live/score", json=body, headers=as_role(Role.OPERATOR))

    nothing = judge(success=True, episode=4)
    assert (nothing.status_code, nothing.json()["code"]) == (409, "another_episode")
    assert "none runs" in nothing.json()["message"]
    board.set_part("episode", {"id": 4, "state": "succeeded"})
    assert judge(success=True, episode=4).status_code == 409
    board.set_part("episode", {"id": 5, "state": "running"})
    assert "episode 5 runs" in judge(success=True, episode=4).json()["message"]
    for body in ({"success": True}, {"success": "no", "episode": 5}, {"success": True, "episode": 0}):
        assert judge(**body).status_code == 422
    assert graph.asked == []
    assert judge(success=False, episode=5).json()["message"] == "episode 4: failure" and graph.asked == [False]


def test_cases_are_listed_by_page_and_kind(client, as_role, graph):
    response = client.get(
        "/api/live/memory/cases?failure_type=drop&failure_type=timeout&task=push&offset=1&limit=1&retired=true",
        headers=as_role(Role.VIEWER),
    )
    assert [item["id"] for item in response.json()["cases"]] == [2]
    assert response.json()["cases"][0]["value"] is None, "what is not a number is null"
    query = graph.asked[0]
    assert (query.failure_types, query.task, query.include_retired) == ((3, 5), "push", True)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("failure_type=melted", 400),
        ("offset=-1", 422),
        ("limit=0", 422),
        ("limit=1000000", 422),
        ("retired=maybe", 422),
    ],
)
def test_a_query_that_makes_no_sense_is_a_4xx(client, as_role, query, status):
    assert client.get(f"/api/live/memory/cases?{query}", headers=as_role(Role.VIEWER)).status_code == status


@pytest.mark.parametrize("case_id", ["0", "-1", "99", str(2**63), str(10**30), "x", "1.5", "%00"])
def test_a_case_that_is_not_there_is_a_4xx(client, as_role, case_id):
    response = client.get(f"/api/live/memory/cases/{case_id}", headers=as_role(Role.VIEWER))
    assert response.status_code in (404, 422)
    assert response.json()["remedy"]


def test_an_edit_changes_what_it_names_and_an_empty_one_is_refused(client, as_role, graph):
    own = as_role(Role.REVIEWER)
    body = {"note": "the lid was wet", "failure_type": "collision"}
    assert client.post("/api/live/memory/cases/2/edit", json=body, headers=own).json()["note"] == body["note"]
    assert (graph.asked[0].note, graph.asked[0].failure_type) == (body["note"], 2)
    assert client.post("/api/live/memory/cases/2/edit", json={}, headers=own).json()["code"] == "nothing_changes"
    long = client.post("/api/live/memory/cases/2/edit", json={"note": "x" * 2001}, headers=own)
    assert long.status_code == 422
    wide = client.post("/api/live/memory/cases/2/edit", json={"note": "x" * 20_000}, headers=own)
    assert wide.json()["code"] == "too_large"


def test_who_retires_without_a_reason_is_named_as_the_reason(client, as_role):
    own = as_role(Role.REVIEWER)
    item = client.post("/api/live/memory/cases/2/retire", json={"retired": True}, headers=own).json()
    assert item["retired"] is True
    assert item["retired_reason"] == "retired by reviewer on the live page"
    item = client.post("/api/live/memory/cases/2/retire", json={"retired": False, "reason": "dry"}, headers=own).json()
    assert (item["retired"], item["retired_reason"]) == (False, "dry")


def test_exported_cases_can_be_fetched_and_nothing_else_can(client, as_role, tmp_path):
    own = as_role(Role.REVIEWER)
    answer = client.post("/api/live/memory/export", json={}, headers=own).json()
    assert answer["exported"] == 3
    assert client.get(f"/api/live/memory/exports/{answer['file']}", headers=own).content == b"PK cases"
    (tmp_path / "exports" / "secret.txt").write_text("x")
    for name in ("secret.txt", "..%2fsecret.txt", "cases_20200101_000000_000000.npz", answer["file"] + "%00"):
        assert client.get(f"/api/live/memory/exports/{name}", headers=own).status_code == 404
    assert client.get(f"/api/live/memory/exports/{answer['file']}", headers=as_role(Role.VIEWER)).status_code == 403


def test_a_folder_that_cannot_be_made_is_named(client, as_role, tmp_path):
    (tmp_path / "exports").write_text("a file")
    response = client.post("/api/live/memory/export", json={}, headers=as_role(Role.REVIEWER))
    assert (response.status_code, response.json()["code"]) == (503, "no_export_folder")


def command(tick):
    return CommandSeen(tick * TICK_NS, tick, (0.0,) * 7, None, "follow", "", 0, 0, 0, 1.0)


def open_stream(client, tokens, role=Role.VIEWER):
    socket = client.websocket_connect("/api/live/stream")
    return socket, json.dumps({"token": tokens[role][1]})


def test_a_page_gets_one_frame_for_each_request_and_none_unasked(client, tokens, board, audience):
    board.set_picture(Picture("front", 1, 4, 4, b"jpeg"))
    board.add_commands([command(1)])
    socket, token = open_stream(client, tokens)
    with socket:
        socket.send_text(token)
        socket.send_json({"next": True, "images": True})
        frame = socket.receive_json()
        assert "front" in frame["pictures"]
        assert len(frame["commands"]["t"]) == 1
        assert frame["pace"]["level"] == 0
        # While it draws, much happens; what it then gets is one frame with what is still there.
        for tick in range(2, 2000):
            board.add_commands([command(tick)])
        socket.send_json({"next": True, "images": False})
        frame = socket.receive_json()
        assert len(frame["commands"]["t"]) < 500
        assert "pictures" not in frame
        assert audience.size == 1
    assert audience.size == 0


@pytest.mark.parametrize("text", ["", "{", "[]", '{"next": 1}', '{"next": true, "images": 3}', "[" * 50_000])
def test_a_stream_that_talks_nonsense_is_closed(client, tokens, audience, text):
    socket, token = open_stream(client, tokens)
    with socket:
        socket.send_text(token)
        socket.send_text(text)
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_json()
        assert closed.value.code == 4400
    assert audience.size == 0


def test_a_stream_ends_with_the_token_that_it_was_opened_with(graph, board, audience, pace, tmp_path):
    token, secret = new_token("brief", Role.VIEWER, 60.0)
    now = [token.expires - 60.0]
    section = live_section(board, graph, pace, audience, Readiness(("controller",)), tmp_path)
    client = TestClient(make_app(Access([token], lambda: now[0]), [section]))
    person = client.get("/api/live/person", headers={"Authorization": f"Bearer {secret}"}).json()
    assert person == {"name": "brief", "role": "viewer", "left_s": 60.0}
    with client.websocket_connect("/api/live/stream") as socket:
        socket.send_json({"token": secret})
        socket.send_json({"next": True})
        assert "error" not in socket.receive_json()
        now[0] += 61.0
        board.add_commands([command(1)])
        socket.send_json({"next": True})
        assert socket.receive_json()["error"]["code"] == "token_expired", "and not what it asked for"
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_json()
        assert closed.value.code == 4401
    assert audience.size == 0


def test_a_page_too_many_is_turned_away(client, tokens, audience):
    assert audience.enter() and audience.enter()
    socket, token = open_stream(client, tokens)
    with socket:
        socket.send_text(token)
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_json()
        assert closed.value.code == 4429


def test_ready_and_metrics_tell_of_the_nodes(client, as_role, board):
    import time

    assert client.get("/ready").json()["missing"]["live"] == ["controller has not reported on /diagnostics"]
    figures = {"memory_mb": "12.5", "model": "flow"}
    board.set_node("controller", {"level": 0, "message": "", "heard": time.monotonic(), "figures": figures})
    board.set_part("loop", {"rate_hz": 39.5, "tick_error_p99_ms": 2.0, "late_ticks": 3})
    assert client.get("/ready").status_code == 200
    lines = client.get("/metrics", headers=as_role(Role.VIEWER)).text.splitlines()
    assert 'flow_rag_vla_node_up{node="controller"} 1.0' in lines
    assert 'flow_rag_vla_node_memory_bytes{node="controller"} 12500000.0' in lines
    assert "flow_rag_vla_loop_rate_hertz 39.5" in lines
    assert "flow_rag_vla_loop_tick_error_p99_seconds 0.002" in lines
    assert "flow_rag_vla_loop_late_ticks_total 3.0" in lines
    pattern = re.compile(r"(# (HELP|TYPE) .*|[a-z_0-9]+(\{[a-z_]+=\"[^\"]*\"\})? [-+.0-9a-zA-Z]+)")
    assert all(pattern.fullmatch(line) for line in lines)


def test_the_page_names_no_other_server(client):
    assert client.get("/").url.path == "/live/"
    for path in PAGE.iterdir():
        text = path.read_text().replace("http://www.w3.org/2000/svg", "")
        assert "http://" not in text and "https://" not in text, path
        assert client.get(f"/live/{path.name}").status_code == 200
