# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Of what arrives, one controller's newest command is followed, and an emergency stop of anyone holds."""

from __future__ import annotations

import pytest

from flow_rag_vla.robot.command_gate import Admission, CommandGate

MS = 1_000_000
TICK = 25 * MS
FOLLOWED, STOPS, PASSED_OVER, REFUSED = Admission


class Clocked:
    """A gate with its two clocks."""

    def __init__(self) -> None:
        self.gate = CommandGate(0.1)
        self.clock, self.steady = 1_700_000_000_000 * MS, 5_000 * MS

    def wait(self, ms):
        self.clock, self.steady = self.clock + int(ms * MS), self.steady + int(ms * MS)

    def admit(self, tick, *, emergency=False, age_ms=0.0):
        return self.gate.admit(tick, self.clock - int(age_ms * MS), emergency, self.clock, self.steady)[0]


@pytest.fixture
def gate():
    return Clocked()


def test_one_controllers_commands_are_followed_once_each_in_their_order(gate):
    assert [gate.admit(tick) for tick in (7, 8, 8, 7, 9)] == [FOLLOWED, FOLLOWED, REFUSED, REFUSED, FOLLOWED]


@pytest.mark.parametrize("age_ms", [101.0, -101.0])
def test_a_command_of_another_time_is_refused_with_its_age(gate, age_ms):
    assert gate.admit(1, age_ms=age_ms) is REFUSED
    assert "limit 0.1 s" in gate.gate.admit(1, gate.clock - 200 * MS, False, gate.clock, gate.steady)[1]


def test_of_two_controllers_one_is_followed_and_never_both_in_turns(gate):
    first, second = 4_000, 90
    said = []
    for _ in range(20):
        said.append((gate.admit(first), gate.admit(second)))
        first, second = first + 1, second + 1
        gate.wait(25)
    assert set(said) == {(FOLLOWED, REFUSED)}
    gate.wait(101)
    assert gate.admit(second) is FOLLOWED, "the first has ended"


def test_a_controller_that_was_started_again_is_followed_once_the_one_before_is_silent(gate):
    gate.admit(4_000)
    gate.wait(50)
    assert gate.admit(1) is REFUSED
    gate.wait(60)
    assert gate.admit(2) is FOLLOWED and gate.admit(3) is FOLLOWED


def test_a_clock_that_is_set_back_refuses_no_command(gate):
    gate.admit(1)
    gate.wait(25)
    gate.clock -= 500 * MS
    assert gate.admit(2) is FOLLOWED


@pytest.mark.parametrize("stopped", ["first", "second"])
def test_an_emergency_stop_of_one_controller_holds_although_another_goes_on(gate, stopped):
    counts = {"first": 4_000, "second": 90}
    said = []
    for turn in range(40):
        for name in counts:
            counts[name] += 1
            said.append(gate.admit(counts[name], emergency=turn >= 10 and name == stopped))
        gate.wait(25)
    assert FOLLOWED in said[:20] and FOLLOWED not in said[22:] and STOPS in said


def test_after_an_emergency_stop_commands_are_followed_again_once_no_controller_says_it(gate):
    for tick in range(5):
        gate.admit(tick, emergency=True)
        gate.wait(25)
    said = []
    for tick in range(5, 12):
        said.append(gate.admit(tick))
        gate.wait(25)
    assert said == [PASSED_OVER] * 4 + [FOLLOWED] * 3


def test_a_stop_that_somebody_asked_for_is_not_taken_back_by_others(gate):
    gate.gate.stop(True, b"button")
    gate.gate.stop(False, b"joystick")
    assert gate.admit(1) is PASSED_OVER
    gate.gate.stop(False, b"button")
    assert gate.admit(2) is FOLLOWED


def test_a_stop_that_the_bridge_heard_holds_until_the_controller_says_it_or_it_is_taken_back(gate):
    gate.gate.stop(True)
    assert gate.admit(1) is PASSED_OVER, "made before the controller heard of it"
    gate.gate.stop(False)
    assert gate.admit(2) is FOLLOWED
    gate.gate.stop(True)
    assert gate.admit(3, emergency=True) is STOPS
    gate.wait(110)
    assert gate.admit(4) is FOLLOWED, "released by the controller, which had latched it"
