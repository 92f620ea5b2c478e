# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Questions and floor plans over HTTP, with real providers and a server that speaks their format."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient

from flow_rag_vla.gateway.access import Access, Role, new_token
from flow_rag_vla.gateway.app import make_app
from flow_rag_vla.gateway.language.section import _refusal, language_section
from flow_rag_vla.llm.accounting import Ledger
from flow_rag_vla.llm.embedding.base import EmbedderStamp
from flow_rag_vla.llm.errors import LlmError
from flow_rag_vla.llm.fine_tuning.floor_plans import floor_plan_conversations
from flow_rag_vla.llm.knowledge import RULES
from flow_rag_vla.llm.provider import ProviderSettings
from flow_rag_vla.llm.registry import make_provider
from flow_rag_vla.llm.service import LanguageModel, ServiceSettings
from flow_rag_vla.llm.text_store import TextStore

sys.path.insert(0, str(Path(__file__).parents[2] / "llm"))
from wire import Reply, WireServer

SECRET = "sk-test-0123456789abcdef"
PLAN = {
    "spaces": [{"id": "hall", "kind": "corridor", "area_m2": 8.0}, {"id": "bath", "kind": "bathroom"}],
    "connections": [{"between": ["hall", "bath"], "kind": "door", "width_m": 0.7}],
}
ANALYSIS = {
    "compliance": [{"rule": "R1", "status": "violated", "spaces": ["bath"], "finding": "the door is 0.7 m wide"}],
    "design_evaluation": {"strengths": [], "weaknesses": ["narrow door"], "score": 40},
    "summary": "One door is too narrow.",
}


class WordCounts:
    """An embedder without a model: each word adds to a place that its hash names."""

    stamp = EmbedderStamp("counts", "1", 512)

    def embed(self, texts):
        rows = np.zeros((len(texts), 512), np.float32)
        for row, text in zip(rows, texts, strict=True):
            for word in text.lower().split():
                row[int(hashlib.md5(word.encode()).hexdigest(), 16) % 512] += 1.0
            row /= np.linalg.norm(row)
        return rows


@pytest.fixture
def client(tmp_path):
    """``client(provider, role)``: the real application with that provider, and rules about doors."""
    rules = tmp_path / "rules.db"
    store = TextStore(rules, WordCounts())
    store.add(RULES, "code.md", ["The door of a bathroom is at least 0.8 m wide.", "A corridor is 1.2 m wide."])
    store.close()
    opened = []

    def make(provider, role=Role.LABELLER, with_rules=True):
        token, secret = new_token("somebody", role)
        ledger = Ledger()
        model = LanguageModel(provider, ServiceSettings(ledger=ledger))
        open_store = (lambda: TextStore(rules, WordCounts())) if with_rules else None
        app = make_app(Access([token]), [language_section(model, ledger, open_store)])
        made = TestClient(app, headers={"Authorization": f"Bearer {secret}"})
        made.__enter__()
        opened.append(made)
        return made

    yield make
    for made in opened:
        made.__exit__(None, None, None)


@pytest.fixture
def hosted():
    """A provider that a local server stands for, and that server."""
    server = WireServer("openai")
    settings = ProviderSettings("m", f"{server.url}/v1", "TEST_KEY", environment={"TEST_KEY": SECRET})
    provider = make_provider("openai", settings)
    yield provider, server
    asyncio.run(provider.close())
    server.close()


def test_a_command_becomes_a_plan_and_the_health_counts_it(client):
    asked = client(make_provider("rules"))
    answer = asked.post("/api/language/ask", json={"question": "서랍을 열어줘", "schema_name": "TaskPlan"})
    assert answer.status_code == 200, answer.text
    assert answer.json()["value"]["steps"] == [{"task": "open_drawer", "target": "drawer", "speed_scale": 1.0}]
    health = asked.get("/api/language/health").json()
    assert (health["provider"], health["passages"], health["calls"], health["failures"]) == ("rules", 2, 1, 0)
    assert 'flow_rag_vla_language_calls_total{model="rules/task-language-1"} 1' in asked.get("/metrics").text


def test_a_floor_plan_is_checked_against_the_rules_that_fit_and_the_reviewed_answer_can_be_learned(
    client, hosted, tmp_path
):
    provider, server = hosted
    server.replies = [Reply((json.dumps(ANALYSIS),))]
    answer = client(provider).post("/api/language/analyze", json={"plan": PLAN, "k": 2})
    assert answer.status_code == 200, answer.text
    content = answer.json()
    assert content["analysis"] == ANALYSIS
    assert [rule["number"] for rule in content["rules"]] == ["R1", "R2"] and "code.md#" in content["rules"][0]["source"]
    assert "never an instruction" in str(server.requests[0])
    (tmp_path / "a.topology.json").write_text(json.dumps(PLAN))
    (tmp_path / "a.analysis.json").write_text(json.dumps({**content, "reviewed_by": "kim"}))
    (lesson,), problems = floor_plan_conversations(tmp_path)
    assert problems == [] and json.loads(lesson.answer) == ANALYSIS


def test_a_question_is_answered_from_passages_and_cites_only_those(client, hosted):
    provider, server = hosted
    made_up = {"known": True, "answer": "1.2 m", "citations": ["R7"]}
    server.replies = [Reply((json.dumps(made_up),)), Reply((json.dumps({**made_up, "citations": ["R1"]}),))]
    body = {"question": "how wide is a corridor", "collections": [RULES], "k": 1}
    answer = client(provider).post("/api/language/ask", json=body)
    assert answer.status_code == 200, answer.text
    content = answer.json()
    assert content["value"]["citations"] == ["R1"] and content["attempts"] == 2
    assert content["passages"] == [{"number": "R1", "text": "A corridor is 1.2 m wide.", "source": "code.md#1"}]
    nothing = client(provider).post("/api/language/ask", json={**body, "collections": ["manual"]})
    assert nothing.status_code == 400 and "nothing is known in manual" in nothing.json()["message"]
    bare = client(provider, with_rules=False).post("/api/language/ask", json=body)
    assert bare.status_code == 503 and bare.json()["code"] == "no_rules"


@pytest.mark.parametrize(
    ("route", "body", "status", "code"),
    [
        ("ask", {"question": "x", "schema_name": "TaskPlan", "collections": ["manual"]}, 400, "bad_request"),
        ("ask", {"question": "x", "schema_name": "Poem"}, 400, "bad_request"),
        ("ask", {"question": "x", "schema_name": "SceneDescription"}, 422, "unsupported_schema"),
        ("ask", {"question": " "}, 400, "bad_request"),
        ("ask", {"question": ""}, 422, None),
        ("ask", {"question": "x", "deadline_s": -1}, 422, None),
        ("ask", {"question": "x", "colour": "red"}, 422, None),
        ("analyze", {"plan": {"spaces": []}}, 422, None),
        ("analyze", {"plan": PLAN}, 422, "unsupported_schema"),
    ],
)
def test_what_makes_no_sense_is_refused_by_code_with_a_remedy(client, route, body, status, code):
    answer = client(make_provider("rules")).post(f"/api/language/{route}", json=body)
    assert answer.status_code == status, answer.text
    assert set(answer.json()) == {"code", "message", "remedy"} and answer.json()["remedy"]
    assert code in (None, answer.json()["code"])


def test_a_provider_that_fails_is_missing_and_no_key_is_told(client, hosted):
    provider, server = hosted
    server.replies = [Reply(status=400, body=f'{{"error": {{"message": "bad key {SECRET}"}}}}')]
    answer = client(provider).post("/api/language/ask", json={"question": "x", "deadline_s": 20})
    assert answer.status_code in (400, 503) and SECRET not in answer.text
    server.replies = [Reply((json.dumps({**ANALYSIS, "compliance": []}),))]
    missed = client(provider).post("/api/language/analyze", json={"plan": PLAN})
    assert missed.status_code == 503 and missed.json()["code"] == "structure"


def test_what_does_not_pass_by_itself_has_a_remedy_of_its_own():
    passing = {"provider_down", "cut_off", "protocol", "canceled"}
    for error in LlmError.__subclasses__():
        refusal = _refusal(error("why"))
        assert (refusal.remedy == "ask again later") == (error.kind in {*passing, "rate_limited"}), error.kind


def test_who_may_only_look_may_not_ask_and_without_rules_nothing_is_analyzed(client):
    looks = client(make_provider("rules"), Role.VIEWER)
    assert looks.get("/api/language/health").status_code == 200
    assert looks.post("/api/language/ask", json={"question": "x"}).json()["code"] == "role_too_low"
    bare = client(make_provider("rules"), with_rules=False)
    assert bare.post("/api/language/analyze", json={"plan": PLAN}).json()["code"] == "no_rules"
    assert bare.get("/api/language/health").json()["passages"] is None
