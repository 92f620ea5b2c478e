"""At what speed a command is done: the least that anybody asks for, with the reason."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.deliberation.care import Care, care_of
from flow_rag_vla.deliberation.urgency import LEXICON, SLOWEST, urgency_of

words = st.lists(st.sampled_from([*LEXICON, "put", "cube", "!", "NOW"]), max_size=6).map(" ".join)


@given(st.floats(0.0, 1.0, exclude_min=True), words)
def test_nothing_that_is_said_makes_it_faster_than_was_asked(asked, text):
    care = care_of(asked, text)
    assert care.pace == min(asked, urgency_of(text).speed_scale)
    assert care.pace >= min(asked, SLOWEST)
    assert bool(care.reason) is (care.pace < 1.0)


def test_both_reasons_are_told():
    assert care_of(1.0, "put the red cube in the bin") == Care()
    told = care_of(0.6, "hurry, put the red cube in the bin").reason
    assert "asked for 0.6" in told and "hurry" in told


@pytest.mark.parametrize("asked", [math.nan, 0.0, -1.0, 1.5, math.inf])
def test_a_scale_that_makes_no_sense_is_refused_with_what_would(asked):
    with pytest.raises(ValueError, match="above 0 and at most 1; 1 is full speed"):
        care_of(asked, "open the drawer")
