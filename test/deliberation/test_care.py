# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""At what speed a command is done: the least that anybody asks for, with the reason."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.deliberation.care import Care, as_careful_as_said, care_of, paces
from flow_rag_vla.deliberation.urgency import LEXICON, SLOWEST, urgency_of
from flow_rag_vla.llm.schemas import PlanStep, TaskPlan
from flow_rag_vla.llm.task_language.manner import ENGLISH, KOREAN, asked_speed

words = st.lists(st.sampled_from([*LEXICON, "put", "cube", "!", "NOW", *ENGLISH, *KOREAN]), max_size=6).map(" ".join)


@given(st.floats(0.0, 1.0, exclude_min=True), words)
def test_nothing_that_is_said_makes_it_faster_than_was_asked(asked, text):
    care = care_of(asked, text)
    assert care.pace == min(asked, urgency_of(text).speed_scale, asked_speed(text))
    assert care.pace >= min(asked, SLOWEST)
    assert bool(care.reason) is (care.pace < 1.0)


def test_both_reasons_are_told():
    assert care_of(1.0, "put the red cube in the bin") == Care()
    told = care_of(0.6, "hurry, put the red cube in the bin").reason
    assert "asked for 0.6" in told and "hurry" in told


def test_the_smallest_holds_and_nothing_counts_twice():
    # "조심" also sounds tense, and allows 0.86 for that; the word itself asks for 0.7.
    care = care_of(1.0, "조심해서 서랍을 열어줘")
    assert care.pace == 0.7 and "its words ask for 0.7" in care.reason and "조심" in care.reason
    assert care.lowered(0.9, "the plan") == care
    lower = care.lowered(0.3, "the plan")
    assert lower.pace == 0.3 and lower.reason == f"{care.reason}; the plan asks for 0.3"


speeds = st.floats(0.01, 1.0)


@given(speeds, speeds, speeds, st.sampled_from(["", "slowly ", "gently ", "천천히 "]))
def test_no_step_is_faster_than_its_plan_its_words_or_what_is_allowed(first, second, allowed, word):
    steps = [
        PlanStep(task="open_drawer", target="drawer", speed_scale=first),
        PlanStep(task="pick_and_place", target="red_cube", speed_scale=second),
    ]
    plan = TaskPlan(steps=steps, refusal="none", reason="")
    told = as_careful_as_said(plan, f"{word}open the drawer and put the red cube in the bin")
    # The first clause alone is to be done so; where the words are not understood, all of it is.
    said = asked_speed(word)
    understood = not word.startswith("천")
    wanted = (min(first, said), second if understood else min(second, said))
    assert tuple(step.speed_scale for step in told.steps) == wanted
    assert paces(told, allowed) == tuple(min(allowed, one) for one in wanted)
    assert told.goals == plan.goals


@pytest.mark.parametrize("asked", [math.nan, 0.0, -1.0, 1.5, math.inf])
def test_a_scale_that_makes_no_sense_is_refused_with_what_would(asked):
    with pytest.raises(ValueError, match="above 0 and at most 1; 1 is full speed"):
        care_of(asked, "open the drawer")
