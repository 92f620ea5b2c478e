# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

import asyncio
import json

import pytest
from fastapi import APIRouter, Request, WebSocket
from fastapi.testclient import TestClient
from pydantic import BaseModel
from starlette.websockets import WebSocketDisconnect

from flow_rag_vla.gateway import sockets
from flow_rag_vla.gateway.access import Access, Operator, Reviewer, Role, Token, Viewer, new_token
from flow_rag_vla.gateway.app import Section, make_app
from flow_rag_vla.gateway.errors import GatewayError, bad_request, conflict, not_found, unavailable
from flow_rag_vla.gateway.metrics import counter, gauge, labelled, prometheus_text
from flow_rag_vla.gateway.sockets import admit


class Order(BaseModel):
    count: int


router = APIRouter()


@router.get("/look")
async def look(person: Viewer) -> dict[str, str]:
    return {"name": person.name, "role": person.role.word}


@router.post("/judge")
async def judge(person: Reviewer) -> str:
    return person.name


@router.post("/move")
async def move(order: Order, _person: Operator) -> int:
    return order.count


@router.post("/swallow")
async def swallow(request: Request, _person: Viewer) -> int:
    return len(await request.body())


@router.get("/refuse/{kind}")
async def refuse(kind: str) -> None:
    make = {"bad": bad_request, "missing": not_found, "conflict": conflict, "down": unavailable}[kind]
    raise make("reason", "what was wrong", "what to do")


@router.get("/bug")
async def bug() -> None:
    raise ZeroDivisionError("the inside of it")


@router.websocket("/stream")
async def stream(socket: WebSocket) -> None:
    person = await admit(socket, Role.REVIEWER)
    if person is not None:
        await socket.send_json({"hello": person.name})
        await socket.close()


@pytest.fixture
def tokens():
    made = {role: new_token(role.word, role) for role in Role}
    return Access([token for token, _ in made.values()]), {role: secret for role, (_, secret) in made.items()}


@pytest.fixture
def missing():
    return []


@pytest.fixture
def client(tokens, missing, tmp_path):
    (tmp_path / "index.html").write_text("<h1>page</h1>")
    section = Section(
        "things",
        router,
        page=tmp_path,
        body_limit=1000,
        metrics=lambda: [gauge("flow_rag_vla_things", "Things.", 3.0)],
        missing=lambda: missing,
    )
    app = make_app(tokens[0], [section])
    return TestClient(app, raise_server_exceptions=False)


def header(tokens, role):
    return {"Authorization": f"Bearer {tokens[1][role]}"}


def check_refusal(response, status, code):
    assert response.status_code == status
    body = response.json()
    assert body["code"] == code
    assert set(body) == {"code", "message", "remedy"}
    assert body["message"] and body["remedy"]
    return body


def test_a_route_hears_whose_request_it_is(client, tokens):
    assert client.get("/api/things/look", headers=header(tokens, Role.LABELLER)).json() == {
        "name": "labeller",
        "role": "labeller",
    }


def test_no_token_is_401_a_wrong_one_too_and_a_low_role_403(client, tokens):
    response = client.get("/api/things/look")
    check_refusal(response, 401, "token_missing")
    assert response.headers["www-authenticate"] == "Bearer"
    for value in ("Bearer nonsense", b"Bearer \x7f\xff", "bearer  nonsense"):
        check_refusal(client.get("/api/things/look", headers={"Authorization": value}), 401, "token_unknown")
    for value in ("Basic dXNlcjpwYXNz", "Bearer", "Bearer  ", ""):
        check_refusal(client.get("/api/things/look", headers={"Authorization": value}), 401, "token_missing")
    check_refusal(client.post("/api/things/judge", headers=header(tokens, Role.LABELLER)), 403, "role_too_low")


def test_a_token_in_a_cookie_or_in_the_address_is_none(client, tokens):
    secret = tokens[1][Role.OPERATOR]
    check_refusal(client.get(f"/api/things/look?token={secret}"), 401, "token_missing")
    check_refusal(client.get("/api/things/look", headers={"Cookie": f"token={secret}"}), 401, "token_missing")


def test_an_expired_token_is_401(tokens):
    token, secret = new_token("old", Role.OPERATOR)
    app = make_app(Access([Token("old", Role.OPERATOR, token.digest, expires=1.0)]), [Section("things", router)])
    response = TestClient(app).get("/api/things/look", headers={"Authorization": f"Bearer {secret}"})
    check_refusal(response, 401, "token_expired")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"count": "many"}', b"\xff\xfe", b'{"count": 1e400}', b"null"])
def test_a_malformed_body_is_a_4xx_that_names_the_field(client, tokens, body):
    response = client.post(
        "/api/things/move", content=body, headers=header(tokens, Role.OPERATOR) | {"Content-Type": "application/json"}
    )
    assert 400 <= response.status_code < 500
    assert set(response.json()) == {"code", "message", "remedy"}


def test_what_is_not_there_and_what_takes_another_method_say_so(client, tokens):
    own = header(tokens, Role.VIEWER)
    missing = check_refusal(client.get("/api/things/nothing", headers=own), 404, "not_found")
    assert "/api/things/nothing" in missing["message"]
    other = check_refusal(client.get("/api/things/judge", headers=own), 405, "method_not_allowed")
    assert "GET" in other["message"]
    # A stranger is not even told what there is.
    check_refusal(client.get("/api/things/nothing"), 401, "token_missing")


@pytest.mark.parametrize(("kind", "status"), [("bad", 400), ("missing", 404), ("conflict", 409), ("down", 503)])
def test_a_refusal_below_a_route_keeps_its_status_code_and_words(client, tokens, kind, status):
    response = client.get(f"/api/things/refuse/{kind}", headers=header(tokens, Role.VIEWER))
    assert check_refusal(response, status, "reason")["remedy"] == "what to do"


def test_a_bug_is_a_500_that_says_nothing_of_the_inside(client, tokens):
    response = client.get("/api/things/bug", headers=header(tokens, Role.VIEWER))
    assert "inside" not in check_refusal(response, 500, "internal")["message"]


def test_nothing_of_a_strangers_body_is_read(tokens):
    app = make_app(tokens[0], [Section("things", router)])
    sent = []

    async def receive():
        raise AssertionError("the body was read")

    async def send(message):
        sent.append(message)

    for path, headers in (
        ("/api/things/move", []),
        ("/api/things/swallow", [(b"authorization", b"Bearer nonsense")]),
        ("/api/things/nothing", [(b"content-length", b"5000000000")]),
    ):
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "POST", "path": path,
            "raw_path": path.encode(), "root_path": "", "scheme": "http", "query_string": b"", "headers": headers,
            "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 2), "state": {},
        }  # fmt: skip
        asyncio.run(app(scope, receive, send))
        assert sent.pop(0)["status"] == 401
        assert b"token_" in b"".join(message.get("body", b"") for message in sent)
        sent.clear()


def test_a_body_beyond_its_limit_is_413_whether_it_says_its_length_or_not(client, tokens):
    own = header(tokens, Role.VIEWER)
    assert client.post("/api/things/swallow", content=b"x" * 1000, headers=own).json() == 1000
    check_refusal(client.post("/api/things/swallow", content=b"x" * 1001, headers=own), 413, "too_large")
    check_refusal(
        client.post("/api/things/swallow", content=(b"x" * 400 for _ in range(3)), headers=own), 413, "too_large"
    )
    # A route that declares a body has it read by the framework.
    long = b'{"count": ' + b"1" * 2000 + b"}"
    own = header(tokens, Role.OPERATOR) | {"Content-Type": "application/json"}
    check_refusal(client.post("/api/things/move", content=iter([long]), headers=own), 413, "too_large")


def test_the_page_is_open_and_may_load_nothing_from_elsewhere(client):
    response = client.get("/")
    assert response.url.path == "/things/"
    assert response.text == "<h1>page</h1>"
    assert "default-src 'self'" in response.headers["content-security-policy"]
    assert "unsafe" not in response.headers["content-security-policy"]
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("path", ["/things/../access.py", "/things/%2e%2e/%2e%2e/etc/passwd", "/things//etc/passwd"])
def test_a_page_gives_no_file_outside_its_folder(client, path):
    assert client.get(path).status_code == 404


def test_ready_names_what_is_missing(client, missing):
    assert client.get("/health").json()["status"] == "alive"
    assert client.get("/ready").status_code == 200
    missing.append("controller has not reported")
    response = client.get("/ready")
    assert response.status_code == 503
    assert response.json() == {"ready": False, "missing": {"things": ["controller has not reported"]}}


def test_metrics_ask_for_a_token_and_hold_those_of_each_section(client, tokens):
    check_refusal(client.get("/metrics"), 401, "token_missing")
    response = client.get("/metrics", headers=header(tokens, Role.VIEWER))
    assert response.headers["content-type"].startswith("text/plain; version=0.0.4")
    lines = response.text.splitlines()
    assert "flow_rag_vla_things 3.0" in lines
    assert 'flow_rag_vla_http_responses_total{status="4xx"} 1.0' in lines


def test_the_text_of_metrics_escapes_what_would_break_its_lines():
    text = prometheus_text(
        [
            labelled("a", "gauge", 'one\ntwo\\"', "l", {'x"\n\\': float("nan"), "y": float("inf")}),
            counter("b_total", "B.", 2),
        ]
    )
    assert text == (
        '# HELP a one\\ntwo\\\\"\n# TYPE a gauge\na{l="x\\"\\n\\\\"} NaN\na{l="y"} +Inf\n'
        "# HELP b_total B.\n# TYPE b_total counter\nb_total 2.0\n"
    )


def test_a_websocket_opens_with_a_token_of_the_role(client, tokens):
    with client.websocket_connect("/api/things/stream") as socket:
        socket.send_json({"token": tokens[1][Role.OPERATOR]})
        assert socket.receive_json() == {"hello": "operator"}


@pytest.mark.parametrize(
    ("first", "close", "code"),
    [
        ("nonsense", 4401, "token_missing"),
        ("[]", 4401, "token_missing"),
        ("[" * 60_000, 4401, "token_missing"),
        ('{"token": 3}', 4401, "token_missing"),
        ('{"token": "x"}', 4401, "token_unknown"),
        (None, 4403, "role_too_low"),
    ],
)
def test_a_websocket_without_a_fitting_token_is_told_why_and_closed(client, tokens, first, close, code):
    with client.websocket_connect("/api/things/stream") as socket:
        socket.send_text(first or json.dumps({"token": tokens[1][Role.VIEWER]}))
        assert socket.receive_json()["error"]["code"] == code
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_json()
        assert closed.value.code == close


def test_a_websocket_that_stays_silent_is_closed(client, monkeypatch):
    monkeypatch.setattr(sockets, "PATIENCE_S", 0.01)
    with client.websocket_connect("/api/things/stream") as socket:
        assert socket.receive_json()["error"]["code"] == "token_missing"


def test_the_remedy_of_a_refusal_is_part_of_its_body():
    assert GatewayError(400, "c", "m", "r").body() == {"code": "c", "message": "m", "remedy": "r"}
