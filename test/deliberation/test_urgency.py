# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""How an operator sounds can slow the robot and ask a person, and nothing else."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.deliberation.urgency import LEXICON, LONGEST, SLOWEST, Urgency, urgency_of

texts = st.text(max_size=200) | st.lists(st.sampled_from(sorted(LEXICON)) | st.text(max_size=8)).map(" ".join)


@given(texts, st.floats(0.001, 1.0))
def test_no_text_ever_makes_the_robot_faster(text, scale):
    tag = urgency_of(text)
    assert 0.0 <= tag.tension <= 1.0 and SLOWEST <= tag.speed_scale <= 1.0
    assert tag.slowed(scale) <= scale


@given(texts, texts)
def test_words_that_are_added_never_take_care_away(before, after):
    one, both = urgency_of(before), urgency_of(f"{before} {after}")
    assert both.tension >= one.tension
    assert both.speed_scale <= one.speed_scale
    assert both.asks or not one.asks


@pytest.mark.parametrize("text", ["put the red cube in the bin", "빨간 큐브를 통에 넣어줘", "", "12 34 ___"])
def test_a_plain_command_changes_nothing(text):
    assert urgency_of(text) == Urgency()


@pytest.mark.parametrize(
    "text", ["HURRY!! this is an emergency", "it is dangerous, help", "비상이야 빨리 멈춰", "큰일 났어! 다칠 것 같아"]
)
def test_alarm_in_either_language_slows_down_and_asks(text):
    tag = urgency_of(text)
    assert tag.asks and tag.speed_scale < 0.75 and tag.words


def test_haste_slows_down_and_a_kind_word_does_not_undo_it():
    assert urgency_of("quickly please").speed_scale == urgency_of("quickly").speed_scale < 1.0
    assert urgency_of("slowly and gently").speed_scale == 1.0


def test_every_word_has_numbers_in_range():
    assert all(-1.0 <= value <= 1.0 for values in LEXICON.values() for value in values)


def test_what_lies_beyond_the_limit_is_not_read():
    assert urgency_of("a " * LONGEST + "emergency") == Urgency()
