# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Words to goals."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.core.goal import GOALS, TASKS, Goal, UnknownTaskError, check_task, parse_instruction, task_names


@pytest.mark.parametrize("goal", GOALS, ids=lambda goal: goal.instruction)
def test_every_goal_is_understood_from_its_own_words(goal):
    assert parse_instruction(goal.instruction) == goal
    assert GOALS[goal.index] == goal


@pytest.mark.parametrize(
    ("words", "goal"),
    [
        ("Please PICK the cylinder and drop it into the bin!", Goal("pick_and_place", "yellow_cylinder")),
        ("pull the drawer", Goal("open_drawer", "drawer")),
        ("slide the yellow one over", Goal("push", "yellow_cylinder")),
        ("move the blue box into the bin", Goal("pick_and_place", "blue_box")),
    ],
)
def test_other_words_for_the_same_goal_are_understood(words, goal):
    assert parse_instruction(words) == goal


@pytest.mark.parametrize("words", ["", "make coffee", "put it there", "put the red cube and the blue box in the bin"])
def test_words_that_name_no_single_goal_are_refused_with_what_is_known(words):
    with pytest.raises(UnknownTaskError, match="put the red cube in the bin"):
        parse_instruction(words)


@given(st.text())
def test_any_text_is_either_a_goal_or_refused(text):
    try:
        goal = parse_instruction(text)
    except UnknownTaskError:
        return
    assert goal in GOALS


def test_an_unknown_task_is_refused_with_the_known_ones():
    with pytest.raises(UnknownTaskError, match="open_drawer"):
        check_task("juggle")
    assert [check_task(name) for name in task_names()] == list(TASKS)
