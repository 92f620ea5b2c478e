# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The phase that a robot can tell from its own gripper and tool."""

from __future__ import annotations

import itertools
import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.core.goal import task_names
from flow_rag_vla.core.phase import Phase
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.failure.phase import PhaseTracker

DOWN = np.array([1.0, 0.0, 0.0, 0.0])


class Hand:
    """Feeds a tracker at 40 Hz."""

    def __init__(self, task: str = "pick_and_place") -> None:
        self.tracker = PhaseTracker()
        self.task = task
        self.tick = 40
        self.position = np.array([0.5, 0.0, 0.02])
        self.width, self.effort, self.opening = 0.08, 0.0, 1.0
        self.force = 0.0

    def run(self, ticks: int, velocity: tuple[float, float, float] = (0.0, 0.0, 0.0)) -> list[Phase]:
        phases = []
        for _ in range(ticks):
            self.tick += 1
            self.position = self.position + np.array(velocity) * 0.025
            state = RobotState(
                self.tick * 25_000_000,
                self.position.copy(),
                DOWN,
                gripper_width=self.width,
                gripper_effort=self.effort,
                wrench=np.array([self.force, 0.0, 0.0, 0.0, 0.0, 0.0]),
            )
            phases.append(self.tracker.update(state, self.opening, self.task))
        return phases

    def grasp(self) -> list[Phase]:
        self.opening, self.width, self.effort = 0.0, 0.04, 20.0
        return self.run(12)


def order(phases: list[Phase]) -> list[Phase]:
    return [phase for index, phase in enumerate(phases) if index == 0 or phases[index - 1] is not phase]


def test_picking_and_placing_goes_through_every_phase_in_order():
    hand = Hand()
    phases = hand.run(20, (0.0, 0.0, -0.1)) + hand.grasp() + hand.run(40, (0.0, 0.1, 0.1))
    hand.opening, hand.width, hand.effort = 1.0, 0.08, 0.0
    phases += hand.run(20) + hand.run(40, (0.0, 0.0, 0.2))
    assert order(phases) == [Phase.REACH, Phase.GRASP, Phase.TRANSPORT, Phase.RELEASE, Phase.REACH]


def test_a_closed_empty_hand_stays_in_the_grasp_however_far_it_goes():
    hand = Hand()
    hand.opening, hand.width, hand.effort = 0.0, 0.0, 20.0
    assert order(hand.run(60, (0.1, 0.0, 0.1))) == [Phase.GRASP]


def test_reopening_without_having_carried_anything_is_a_new_approach():
    hand = Hand()
    hand.grasp()
    hand.opening = 1.0
    assert order(hand.run(10)) == [Phase.REACH]


def test_reopening_after_a_drop_is_a_new_approach():
    hand = Hand()
    hand.grasp()
    assert order(hand.run(40, (0.0, 0.0, 0.1)))[-1] is Phase.TRANSPORT
    hand.width, hand.effort = 0.0, 1.0
    assert order(hand.run(10)) == [Phase.TRANSPORT]
    hand.opening = 1.0
    assert order(hand.run(10)) == [Phase.REACH]


def test_a_hand_that_lingers_after_the_release_is_approaching_again_in_the_end():
    hand = Hand()
    hand.grasp()
    hand.run(40, (0.0, 0.0, 0.1))
    hand.opening, hand.width, hand.effort = 1.0, 0.08, 0.0
    assert order(hand.run(80)) == [Phase.RELEASE, Phase.REACH]


def test_a_push_is_an_approach_a_stretch_at_table_height_and_a_retreat():
    hand = Hand("push")
    hand.opening = hand.width = 0.0
    hand.position[2] = 0.12
    phases = hand.run(20, (0.0, 0.0, -0.2)) + hand.run(40, (0.1, 0.0, 0.0)) + hand.run(40, (0.0, 0.0, 0.2))
    assert order(phases) == [Phase.REACH, Phase.TRANSPORT, Phase.RELEASE, Phase.REACH]


def test_a_push_that_bobs_a_little_stays_one_push():
    hand = Hand("push")
    hand.run(1)
    phases = []
    for _ in range(4):
        phases += hand.run(8, (0.1, 0.0, 0.2)) + hand.run(8, (0.1, 0.0, -0.2))
    assert order(phases) == [Phase.TRANSPORT]


def test_without_a_task_the_robot_is_idle():
    hand = Hand("")
    assert order(hand.run(10)) == [Phase.IDLE]
    assert PhaseTracker().phase is Phase.IDLE


def test_a_clock_that_goes_back_begins_anew():
    hand = Hand()
    hand.grasp()
    hand.run(40, (0.0, 0.0, 0.1))
    assert hand.tracker.phase is Phase.TRANSPORT
    hand.tick = 10
    hand.run(1)
    assert hand.tracker.phase is Phase.GRASP
    assert hand.tracker.since_ns == 11 * 25_000_000


def test_before_the_first_command_the_hand_counts_as_open():
    hand = Hand()
    hand.opening = math.nan
    assert order(hand.run(5)) == [Phase.REACH]


@given(
    task=st.sampled_from(task_names()),
    steps=st.lists(
        st.tuples(
            st.floats(0.0, 0.08),
            st.floats(-5.0, 60.0),
            st.floats(0.0, 1.0),
            st.floats(-50.0, 50.0),
            st.floats(-0.02, 0.02),
        ),
        min_size=1,
        max_size=80,
    ),
)
def test_any_signals_give_a_phase_of_the_task_and_the_same_signals_the_same_phases(task, steps):
    def follow() -> list[Phase]:
        hand = Hand(task)
        phases = []
        for width, effort, opening, force, speed in steps:
            hand.width, hand.effort, hand.opening, hand.force = width, effort, opening, force
            phases += hand.run(1, (speed * 10, 0.0, speed * 10))
        return phases

    phases = follow()
    assert phases == follow()
    assert Phase.IDLE not in phases
    if task == "push":
        assert Phase.GRASP not in phases
    for before, after in itertools.pairwise(phases):
        assert (before, after) not in {(Phase.REACH, Phase.RELEASE), (Phase.GRASP, Phase.RELEASE)}
