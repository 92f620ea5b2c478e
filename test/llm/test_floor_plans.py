# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Pairs of floor plans and reviewed analyses become conversations; what is wrong with a pair is told by its file."""

from __future__ import annotations

import json

import pytest

from flow_rag_vla.llm.fine_tuning.comparing import request_of, schema_of
from flow_rag_vla.llm.fine_tuning.floor_plans import floor_plan_conversations
from flow_rag_vla.llm.knowledge import ANALYSIS_TOKENS, RULES, FloorPlan, floor_plan_request
from flow_rag_vla.llm.prompts import system_text, turns
from flow_rag_vla.llm.request import MAX_CHARACTERS, deadline_in
from flow_rag_vla.llm.schemas import FloorPlanAnalysis
from flow_rag_vla.llm.structured import schema_instruction
from flow_rag_vla.llm.text_store import Passage

PLAN = {
    "spaces": [{"id": "침실", "kind": "bedroom", "area_m2": 7.5, "windows": 0}, {"id": "h", "kind": "hall"}],
    "connections": [{"between": ["침실", "h"], "kind": "door", "width_m": 0.7}],
}
FINDING = {"rule": "R1", "status": "violated", "spaces": ["침실"], "finding": "7.5 of 9 square metres"}
ANALYSIS = {
    "compliance": [FINDING],
    "design_evaluation": {"strengths": [], "weaknesses": ["no window"], "score": 40},
    "summary": "침실이 너무 작다.",
}
RULE = {"number": "R1", "text": "a bedroom has 9 square metres", "source": "code#2.md#3"}


def reviewed(**changes):
    """As the gateway answers, and somebody signed."""
    account = {"provider": "claude", "passages": []}
    return {"reviewed_by": "kim", "analysis": ANALYSIS, "rules": [RULE], "account": account, **changes}


def analysis_with(**changes):
    return reviewed(analysis={**ANALYSIS, **changes})


@pytest.fixture
def pair(tmp_path):
    """``pair("a", plan=..., analysis=...)`` writes a pair; text as it is, anything else as JSON."""

    def write(name="a", plan=PLAN, analysis=None):
        for end, content in (("topology", plan), ("analysis", reviewed() if analysis is None else analysis)):
            text = content if isinstance(content, str) else json.dumps(content, ensure_ascii=False)
            (tmp_path / f"{name}.{end}.json").write_text(text, encoding="utf-8")
        return tmp_path

    return write


def test_a_reviewed_pair_is_asked_as_a_plan_is_analyzed_and_answered_by_the_analysis(pair):
    (lesson,), problems = floor_plan_conversations(pair())
    assert problems == []
    assert [turn.role for turn in lesson.turns] == ["system", "user", "assistant"]
    assert schema_of(lesson) is FloorPlanAnalysis and json.loads(lesson.answer) == ANALYSIS

    class Found:
        """A store that finds the rule of the pair."""

        def search(self, *_asked):
            return [Passage(7, RULES, "code#2.md", 3, RULE["text"], 0.9)]

    asked, _ = floor_plan_request(FloorPlan.model_validate(PLAN), Found(), deadline_in(5.0))
    assert [(turn.role, turn.content) for turn in lesson.turns[1:-1]] == turns(asked.messages)
    system = f"{system_text(asked.messages)}\n\n{schema_instruction(FloorPlanAnalysis)}"
    assert lesson.turns[0].content == system
    assert 'source="R1 code#2.md#3"' in lesson.turns[1].content and "kim" not in str(lesson.turns)
    assert request_of(lesson, 5.0).sampling.max_tokens == asked.sampling.max_tokens == ANALYSIS_TOKENS


def test_a_question_of_its_own_is_kept(pair):
    (lesson,), _ = floor_plan_conversations(pair(analysis=reviewed(question="창문만 봐줘.")))
    assert lesson.turns[1].content.endswith("창문만 봐줘.")


@pytest.mark.parametrize(
    ("plan", "analysis", "file", "said"),
    [
        ("{", None, "topology", "no FloorPlan"),
        ({**PLAN, "floor": 2}, None, "topology", "floor: Extra inputs"),
        ({"spaces": []}, None, "topology", "spaces"),
        (PLAN, "", "analysis", "empty"),
        (PLAN, ANALYSIS, "analysis", "reviewed_by: Field required"),
        (PLAN, reviewed(reviewed_by=""), "analysis", "reviewed_by"),
        (PLAN, reviewed(rules=[]), "analysis", "rules"),
        (PLAN, reviewed(rules=[{**RULE, "number": "R2"}]), "analysis", "numbered 'R2', expected 'R1'"),
        (PLAN, reviewed(rules=[{**RULE, "source": "code.md"}]), "analysis", "rules.0.source"),
        (PLAN, analysis_with(summary=""), "analysis", "analysis.summary"),
        (PLAN, analysis_with(summary="x" * 601), "analysis", "analysis.summary"),
        (PLAN, analysis_with(compliance=[]), "analysis", "analysis.compliance"),
        (PLAN, analysis_with(compliance=[{**FINDING, "status": "fine"}]), "analysis", "compliance.0.status"),
        (PLAN, analysis_with(compliance=[{**FINDING, "rule": "R2"}]), "analysis", "cites 'R2', which was not retriev"),
        (PLAN, analysis_with(compliance=[{**FINDING, "spaces": ["attic"]}]), "analysis", "'attic', which the plan"),
        (
            PLAN,
            reviewed(rules=[{**RULE, "number": f"R{number}", "text": "x" * 4000} for number in range(1, 30)]),
            "analysis",
            f"at most {MAX_CHARACTERS}",
        ),
    ],
)
def test_a_bad_pair_is_refused_by_its_file_with_the_reason_and_the_others_are_taken(pair, plan, analysis, file, said):
    pair("good")
    folder = pair("bad", plan, analysis)
    lessons, (problem,) = floor_plan_conversations(folder)
    assert len(lessons) == 1
    assert problem.startswith(f"{folder / f'bad.{file}.json'}: ") and said in problem and "\n" not in problem


@pytest.mark.parametrize("gone", ["topology", "analysis"])
def test_a_file_without_the_other_of_its_pair_is_named(pair, gone):
    folder = pair()
    (folder / f"a.{gone}.json").unlink()
    lessons, (problem,) = floor_plan_conversations(folder)
    assert lessons == [] and f"a.{gone}.json" in problem and "is not beside it" in problem


def test_what_is_no_text_and_a_folder_without_pairs_are_named(pair, tmp_path):
    (pair() / "a.analysis.json").write_bytes(b"\xff\xfe{")
    assert "a.analysis.json cannot be read" in floor_plan_conversations(tmp_path)[1][0]
    (tmp_path / "empty").mkdir()
    assert floor_plan_conversations(tmp_path / "empty") == (
        [],
        [f"{tmp_path / 'empty'} holds no NAME.topology.json with its NAME.analysis.json"],
    )
