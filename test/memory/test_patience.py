# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""When the memory lets go of an arm that it has led for long."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.memory.patience import Patience, PatienceSettings

PICTURE_NS = 100_000_000


def pattern(patience: Patience, answers: list[tuple[str, bool]], start: int = 0) -> str:
    """Of each (phase, whether the memory leads), ten a second: L led, w withdrawn, . nothing to withdraw."""
    told = ""
    for index, (phase, leads) in enumerate(answers):
        withdrawn = patience.lets_go((start + index) * PICTURE_NS, phase, leads)
        told += "w" if withdrawn else "L" if leads else "."
    return told


def brief() -> Patience:
    return Patience(PatienceSettings(lead_ns=4 * PICTURE_NS, rest_ns=2 * PICTURE_NS))


def test_it_is_silent_for_a_while_after_it_led_for_long_and_then_leads_again():
    patience = brief()
    assert pattern(patience, [("reach", True)] * 14) == "LLLLwwLLLLwwLL"
    assert patience.withdrawn == 2


def test_a_pause_of_its_own_or_another_phase_makes_it_begin_afresh():
    assert pattern(brief(), [("reach", True)] * 3 + [("reach", False)] + [("reach", True)] * 6) == "LLL.LLLLww"
    assert pattern(brief(), [("reach", True)] * 3 + [("grasp", True)] * 6) == "LLLLLLLww"


def test_silence_ends_with_the_phase():
    assert pattern(brief(), [("reach", True)] * 5 + [("grasp", True)] * 5) == "LLLLwLLLLw"


def test_what_is_silent_of_itself_is_not_withdrawn():
    assert pattern(brief(), [("reach", True)] * 5 + [("reach", False), ("reach", True)]) == "LLLLw.L"


def test_an_episode_begins_afresh():
    patience = brief()
    pattern(patience, [("reach", True)] * 5)
    patience.begin()
    assert patience.withdrawn == 0
    assert pattern(patience, [("reach", True)] * 5, start=5) == "LLLLw"


def test_a_clock_that_was_set_back_begins_afresh():
    patience = brief()
    assert pattern(patience, [("reach", True)] * 5, start=100) == "LLLLw"
    assert pattern(patience, [("reach", True)] * 5) == "LLLLw"


@pytest.mark.parametrize(
    ("settings", "phase"),
    [
        (PatienceSettings(lead_ns=0), "reach"),
        (PatienceSettings(lead_ns=1, rest_ns=0), "reach"),
        (PatienceSettings(), ""),
    ],
)
def test_without_a_length_or_a_phase_it_never_lets_go(settings, phase):
    patience = Patience(settings)
    assert pattern(patience, [(phase, True)] * 200) == "L" * 200
    assert patience.withdrawn == 0


@pytest.mark.parametrize("name", ["lead_ns", "rest_ns"])
def test_negative_lengths_are_refused(name):
    with pytest.raises(ValueError, match=f"{name} is -1, expected 0 or more"):
        PatienceSettings(**{name: -1})


@given(
    st.lists(st.tuples(st.sampled_from(["", "reach", "grasp"]), st.booleans()), max_size=80),
    st.integers(0, 8),
    st.integers(0, 8),
)
def test_nothing_is_withdrawn_unless_it_led_so_long_in_one_phase(answers, lead, rest):
    patience = Patience(PatienceSettings(lead_ns=lead * PICTURE_NS, rest_ns=rest * PICTURE_NS))
    told = pattern(patience, answers)
    for index, letter in enumerate(told):
        assert (letter == ".") == (not answers[index][1])
        if letter != "w":
            continue
        phase = answers[index][0]
        # Not longer ago than a silence lasts, a stretch was led in this phase, as long as lead.
        ends = range(max(lead, index - rest + 1), index + 1)
        assert phase and any(
            told[end - lead : end] == "L" * lead and {which for which, _ in answers[end - lead : index]} == {phase}
            for end in ends
        )
