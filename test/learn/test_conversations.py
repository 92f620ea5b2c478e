# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Episodes and failure cases become conversations: what is taken, what is left out, and what they say."""

from __future__ import annotations

import json

import numpy as np
import pytest

from flow_rag_vla.core.failure import Evidence, FailureType
from flow_rag_vla.data.episode_record import EpisodeRecord
from flow_rag_vla.learn.conversations import cases_of, diagnosis_of, gathered, plan_conversations
from flow_rag_vla.llm.fine_tuning.comparing import schema_of
from flow_rag_vla.llm.schemas import FailureDiagnosis, TaskPlan
from flow_rag_vla.memory.case import FailureCase
from flow_rag_vla.memory.store import FailureStore


def record(instruction="put the red cube in the bin", task="pick_and_place", outcome="success", **more):
    return EpisodeRecord(1, task, "nominal", instruction, 7, outcome, "", 0, 1, 1.0, 20.0, **more)


def case(source="expert", note="", lift=0.001, **more):
    embedding = np.zeros(8, dtype=np.float32)
    embedding[0] = 1.0
    failed = np.zeros((16, 7), dtype=np.float32)
    correction = failed.copy()
    correction[:, 2] = lift
    return FailureCase(
        FailureType.GRASP_FAILURE, "pick_and_place", "grasp", "compact", "r1", embedding, failed,
        correction if source else None, source, evidence=(Evidence("gripper_width", 0.002, 0.01, "m"),), note=note,
        **more,
    )  # fmt: skip


def test_a_command_that_was_done_teaches_its_plan():
    (lesson,) = plan_conversations([record()])
    assert schema_of(lesson) is TaskPlan
    assert json.loads(lesson.answer)["steps"] == [{"task": "pick_and_place", "target": "red_cube", "speed_scale": 1.0}]
    assert lesson.turns[-2].content == "put the red cube in the bin"


@pytest.mark.parametrize(
    "item",
    [
        record(outcome="failure"),
        record(outcome="aborted"),
        record(intervened=True),
        record(instruction=""),
        record(instruction="make me a sandwich"),
        record(instruction="open the drawer"),  # not what was done
    ],
)
def test_what_was_not_done_as_said_teaches_nothing(item):
    assert list(plan_conversations([item])) == []


def test_a_diagnosis_is_read_off_the_case():
    told = diagnosis_of(case(uses=4, successes=3))
    assert (told.failure, told.proposal) == ("grasp failure", "offset")
    assert (told.offset.dx_mm, told.offset.dy_mm, told.offset.dz_mm) == (0, 0, 16)
    assert told.evidence == ["gripper_width 0.002 m beyond 0.01"] and told.certainty == pytest.approx(4 / 6, abs=1e-3)
    assert told.cause == "grasp failure in phase grasp: gripper_width 0.002 m beyond 0.01"
    noted = diagnosis_of(case(note="the cube lay on its edge", lift=0.0))
    assert (noted.cause, noted.proposal, noted.certainty) == ("the cube lay on its edge", "retry", 0.5)
    assert diagnosis_of(case(lift=0.02)).offset.dz_mm == 50, "no further than a diagnosis may go"


def test_only_reviewed_cases_of_a_memory_teach(tmp_path):
    store = FailureStore(tmp_path / "memory.db")
    try:
        for item in (case(), case("human"), case("language_model"), case("rule"), case("")):
            store.add([item])
        first = next(iter(cases_of(store)))
        assert len(list(cases_of(store))) == 5 and first.case_id
        lessons = gathered([record()], store)
    finally:
        store.close()
    assert [schema_of(one) for one in lessons] == [TaskPlan, FailureDiagnosis, FailureDiagnosis]
    asked = lessons[1].turns[-2].content
    assert "gripper_width 0.002 m" in asked and "expert" not in asked, "what is known only afterwards is not told"


def test_without_a_memory_only_episodes_teach():
    assert len(gathered([record(), record()], None)) == 2
