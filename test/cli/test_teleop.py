# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What the keys of the keyboard teleoperation ask for."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.cli.teleop import HELP, HOLD_S, KEYS, Keyboard


@pytest.mark.parametrize("key", KEYS)
def test_a_key_moves_the_robot_for_a_while_and_takes_it_over(key):
    keyboard = Keyboard(speed=0.1, turn=0.5)
    keyboard.press(key, 10.0)
    place, direction, _ = KEYS[key]
    expected = [0.0] * 6
    expected[place] = direction * (0.1 if place < 3 else 0.5)
    assert keyboard.active and keyboard.velocity(10.0 + 0.9 * HOLD_S) == tuple(expected)
    assert keyboard.velocity(10.0 + HOLD_S) == (0.0,) * 6 and keyboard.active


def test_keys_add_up_the_opposite_one_replaces_and_space_rests():
    keyboard = Keyboard(speed=0.1)
    keyboard.press("w", 0.0)
    keyboard.press("a", 0.1)
    assert keyboard.velocity(0.2)[:2] == (0.1, 0.1)
    keyboard.press("s", 0.2)
    assert keyboard.velocity(0.2)[:2] == (-0.1, 0.1)
    keyboard.press(" ", 0.2)
    assert keyboard.velocity(0.2) == (0.0,) * 6 and keyboard.active


def test_enter_releases_and_forgets_the_gripper():
    keyboard = Keyboard()
    keyboard.press("c", 0.0)
    assert (keyboard.active, keyboard.gripper) == (True, 0.0)
    keyboard.press("o", 0.0)
    assert keyboard.gripper == 1.0
    keyboard.press("\n", 0.1)
    assert not keyboard.active and keyboard.gripper < 0.0


@given(st.text(max_size=40))
def test_no_key_asks_for_more_than_a_limit_or_for_nonsense(text):
    keyboard = Keyboard()
    for number, key in enumerate(text):
        keyboard.press(key, number * 0.01)
        velocity = keyboard.velocity(number * 0.01)
        assert max(map(abs, velocity[:3])) <= 0.4 and max(map(abs, velocity[3:])) <= 2.0
    assert keyboard.gripper in (-1.0, 0.0, 1.0)


def test_the_help_names_every_key():
    assert all(f"  {key}  " in HELP for key in KEYS)
