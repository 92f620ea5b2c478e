# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Failures explained from their evidence: by a model that cites only what it was given, or by an honest template."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.core.failure import Evidence, FailureType
from flow_rag_vla.deliberation.admission import (
    NotAdmittedError,
    PersonCheck,
    admit_by_person,
    proposed_correction,
    ways_of,
)
from flow_rag_vla.deliberation.diagnosis import TEMPLATE, FailureSeen, Unable, by_template, diagnose
from flow_rag_vla.deliberation.stages import SimilarFailure
from flow_rag_vla.llm.errors import ProviderDownError
from flow_rag_vla.llm.prompts import turns
from flow_rag_vla.llm.providers.rules import RulesProvider
from flow_rag_vla.llm.request import Picture, RawAnswer
from flow_rag_vla.llm.schemas import FailureDiagnosis
from flow_rag_vla.llm.service import LanguageModel
from flow_rag_vla.llm.text_store import Passage
from flow_rag_vla.memory.guard import GuardError
from flow_rag_vla.memory.memory import FailureMemory

EVIDENCE = (Evidence("gripper_width", 0.001, 0.012, "m"), Evidence("effort", 3.5, 2.0, "N"))
SEEN = FailureSeen(FailureType.GRASP_FAILURE, "push", "grasp", EVIDENCE, 0.8, wrench=(3.0, 0.0, 4.0, 0.0, 0.0, 0.0))
CASES = (
    SimilarFailure(4, "push", "grasp", "grasp_failure", "expert", 3, 2),
    SimilarFailure(9, "push", "grasp", "drop", "", 0, 0),
)


class Scripted:
    """A provider that answers what it was told to, once it was asked."""

    name, model, deterministic = "scripted", "1", False

    def __init__(self, *answers):
        self.answers, self.requests = list(answers), []

    async def answer(self, request, emit=None):
        self.requests.append(request)
        given = self.answers[min(len(self.requests), len(self.answers)) - 1]
        if isinstance(given, Exception):
            raise given
        return RawAnswer(given)

    async def close(self):
        """Nothing to give back."""


def answer(**changes) -> str:
    return json.dumps({**by_template(SEEN, CASES).model_dump(), "cause": "the cube is too low", **changes})


def test_the_template_says_what_was_measured_and_that_it_is_one():
    found = asyncio.run(diagnose(LanguageModel(RulesProvider()), SEEN, CASES))
    assert found.source == TEMPLATE and "fills no diagnoses" in found.note
    diagnosis = found.diagnosis
    assert diagnosis.cause == "the hand closed and held nothing in the phase grasp"
    assert diagnosis.evidence[0] == "gripper width 0.001 m is below its threshold 0.012 m"
    assert diagnosis.evidence[2].startswith("force at the tool 5 N")
    assert (diagnosis.similar_cases, diagnosis.proposal, diagnosis.certainty) == ([4], "regrasp", 0.8)
    assert diagnosis.offset.model_dump() == {"dx_mm": 0, "dy_mm": 0, "dz_mm": 0}


def test_without_a_value_a_person_is_asked_and_where_the_memory_knows_more_it_is_tried_again():
    bare = by_template(FailureSeen(FailureType.DROP, "push", "transport", confidence=0.5))
    assert bare.proposal == "ask_a_person" and "0.50" in bare.evidence[0]
    known = tuple(SimilarFailure(n, "push", "grasp", "grasp_failure", "expert", 1, 1) for n in (1, 2))
    assert by_template(SEEN, known).proposal == "retry"


def test_a_models_diagnosis_is_taken_with_evidence_and_cases_quoted_to_it():
    provider = Scripted(answer())
    found = asyncio.run(diagnose(LanguageModel(provider), SEEN, CASES))
    assert found.source == "scripted 1" and found.diagnosis.cause == "the cube is too low"
    data = [message for message in provider.requests[0].messages if message.role == "data"]
    assert [message.source for message in data] == ["evidence", "case 4", "case 9"]
    assert "gripper_width 0.001 m" in data[0].text


def test_pictures_of_the_failure_are_shown_with_the_evidence():
    provider = Scripted(answer())
    picture = Picture("wrist camera at the onset", b"\x89PNG\r\n\x1a\n")
    asyncio.run(diagnose(LanguageModel(provider), replace(SEEN, pictures=(picture,)), CASES))
    assert [message.pictures for message in provider.requests[0].messages if message.source == "evidence"] == [
        (picture,)
    ]
    # Who reads text alone is told what there is to see, and that it does not.
    assert (
        "(picture 1, which is not shown to you: wrist camera at the onset)"
        in turns(provider.requests[0].messages)[0][1]
    )


def test_what_manuals_say_is_quoted_after_evidence_and_cases():
    provider = Scripted(answer())
    found = Passage(7, "manual", "gripper.md", 2, "The fingers slip on wet parts.")
    asyncio.run(diagnose(LanguageModel(provider), replace(SEEN, manuals=(found,)), CASES))
    data = [message for message in provider.requests[0].messages if message.role == "data"]
    assert [message.source for message in data] == ["evidence", "case 4", "case 9", "R1 gripper.md#2"]
    assert data[-1].text == "The fingers slip on wet parts."


def test_a_case_that_was_not_given_counts_as_a_miss_and_then_the_template_speaks():
    provider = Scripted(answer(similar_cases=[77]))
    found = asyncio.run(diagnose(LanguageModel(provider), SEEN, CASES))
    assert len(provider.requests) == 3
    assert found.source == TEMPLATE and "case 77, which was not given" in found.note


@pytest.mark.parametrize("fault", ["no json", "{}", answer(certainty=2.0), ProviderDownError("gone")])
def test_whatever_a_model_does_there_is_a_diagnosis(fault):
    found = asyncio.run(diagnose(LanguageModel(Scripted(fault)), SEEN, CASES, deadline=5.0))
    assert found.source == TEMPLATE and found.note


numbers = st.floats(allow_nan=False)


@given(
    st.builds(
        FailureSeen,
        st.sampled_from(list(FailureType)),
        st.text(max_size=20),
        st.text(max_size=250),
        st.lists(
            st.builds(
                Evidence, st.text(max_size=300), st.floats(allow_nan=False), st.floats(allow_nan=False), st.text()
            ),
            max_size=9,
        ).map(tuple),
        st.floats(),
        st.text(max_size=30),
        st.lists(st.floats(), max_size=6).map(tuple),
    )
)
def test_the_template_fits_its_bounds_whatever_came(seen):
    assert isinstance(by_template(seen, CASES), FailureDiagnosis)


def test_an_offset_moves_the_felt_hand_the_other_way_and_what_cannot_be_checked_is_none():
    def diagnosis(proposal, **offset):
        values = {"dx_mm": 0, "dy_mm": 0, "dz_mm": 0, **offset}
        return FailureDiagnosis.model_validate({**json.loads(answer()), "proposal": proposal, "offset": values})

    first, second = ways_of(diagnosis("offset", dz_mm=-10))
    assert first.shift[-1] == pytest.approx((0.0, 0.0, 0.01)) and first.shift == second.shift
    assert first.noise != second.noise
    assert ways_of(diagnosis("offset")) is None and ways_of(diagnosis("ask_a_person")) is None
    assert ways_of(diagnosis("slower"))[0].speed_scale < 1.0


def test_a_person_admits_with_a_name_that_is_kept(tmp_path, case):
    memory, _ = FailureMemory.open(tmp_path / "memory.db")
    try:
        case_id = memory.add(case()).case_id
        correction = case().failed_actions.copy()
        correction[:, 2] = 0.004
        with pytest.raises(NotAdmittedError, match="say who"):
            admit_by_person(memory, case_id, correction, PersonCheck("  "))
        assert memory.get(case_id).correction is None
        kept = admit_by_person(memory, case_id, correction, PersonCheck("Kim", "seen on the bench"))
        assert kept.correction_source == "language_model" and kept.note == "admitted by Kim: seen on the bench"
        assert admit_by_person(memory, case_id, correction, PersonCheck("Lee")).note == f"{kept.note}; admitted by Lee"
        memory.edit(case_id, correction=correction)
        with pytest.raises(NotAdmittedError, match="by human, which is trusted more"):
            admit_by_person(memory, case_id, correction, PersonCheck("Kim"))
        assert memory.get(case_id).correction_source == "human"
    finally:
        memory.close()


def test_what_a_proposal_stands_for_keeps_the_limits_and_some_say_no_motion(tmp_path, case):
    memory, _ = FailureMemory.open(tmp_path / "memory.db")
    try:
        asked = np.zeros((4, 7), dtype=np.float32)
        asked[:, 0] = 1.0
        case_id = memory.add(case(failed_actions=asked)).case_id
        step = memory.settings.guard.limits.translation
        assert proposed_correction(memory, case_id, "slower")[:, 0] == pytest.approx(0.6 * step)
        moved = proposed_correction(memory, case_id, "offset", (0.0, 8.0, 0.0))
        assert moved[:, 0] == pytest.approx(step) and moved[:, 1] == pytest.approx(0.002)
        # At full speed there is no room beside: the guard says so, nothing is cut in silence.
        with pytest.raises(GuardError, match="a tick; scale it"):
            admit_by_person(memory, case_id, moved, PersonCheck("Kim"))
        for proposal in ("retry", "regrasp", "ask_a_person", "offset"):
            with pytest.raises(NotAdmittedError, match=f"{proposal}.*give the rows"):
                proposed_correction(memory, case_id, proposal)
    finally:
        memory.close()


def test_a_provider_that_fills_no_diagnoses_is_asked_again_only_after_another_is_in_use():
    unable = Unable()
    assert unable.note == ""
    unable.in_use("rules", "")
    assert unable.said("rules", "") and not unable.said("rules", "")
    unable.in_use("rules", "")
    assert "'rules' fills no diagnoses" in unable.note
    unable.in_use("openai", "m")
    assert unable.note == ""
    # And back: it may be another version of it by then.
    unable.in_use("rules", "")
    assert unable.note == "" and unable.said("rules", "")
    unable.in_use("rules", "other")
    assert unable.note == ""
