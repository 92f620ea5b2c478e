# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Where a person's hand closed says where the target was, and how far the policy had misread it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.core.action import TICK_NS
from flow_rag_vla.core.correction import FARTHEST_SHIFT
from flow_rag_vla.memory.case import EncoderStamp
from flow_rag_vla.memory.hindsight import SETTLED_NS, Grasp, explained, grasp_of
from flow_rag_vla.memory.lesson import Situation
from flow_rag_vla.memory.takeover import Takeover

STAMP = EncoderStamp("situation", "abc", 16)
START = 400 * TICK_NS
PLACE = np.array([0.5, 0.1, 0.02], dtype=np.float32)


def takeover(*openings: tuple[float, int]) -> Takeover:
    """(opening, ticks) one after the other, from START on."""
    hand = np.concatenate([np.full(ticks, opening) for opening, ticks in openings])
    actions = np.zeros((len(hand), 7), dtype=np.float32)
    actions[:, 6] = hand
    ticks = np.arange(400, 400 + len(hand), dtype=np.int64)
    return Takeover("ada", ticks, ticks * TICK_NS, actions)


def phases(*said: tuple[str, int]) -> list[tuple[int, str]]:
    """(phase, ticks after START)."""
    return [(START + after * TICK_NS, phase) for phase, after in said]


def along(stamp_ns: int) -> np.ndarray:
    """A tool that moves by a millimetre a tick."""
    return np.array([0.001 * (stamp_ns - START) / TICK_NS, 0.0, 0.0], dtype=np.float32)


def still(stamp_ns: int) -> np.ndarray:
    """A tool that stays where it is."""
    return np.zeros(3, dtype=np.float32)


def looked(make, tick: int, read: np.ndarray | None, phase: str = "reach") -> Situation:
    reading: Callable[[], np.ndarray] | None = None if read is None else (lambda: read)
    return Situation(tick * TICK_NS, phase, make.unit(tick), STAMP, make.motion(0.001), read=reading)


def test_the_place_is_that_of_the_hand_just_after_it_was_told_to_close() -> None:
    done = takeover((1.0, 40), (0.0, 60))
    grasp = grasp_of(done, phases(("reach", 0), ("grasp", 41), ("transport", 60)), along)
    assert grasp is not None and grasp.closed_ns == START + 40 * TICK_NS
    assert grasp.place[0] == pytest.approx(0.001 * (40 + SETTLED_NS / TICK_NS))


def test_a_hand_that_closed_on_nothing_says_nothing_and_the_next_attempt_does() -> None:
    done = takeover((1.0, 20), (0.0, 20), (1.0, 20), (0.0, 40))
    said = phases(("reach", 0), ("grasp", 21), ("reach", 41), ("grasp", 61), ("transport", 80))
    grasp = grasp_of(done, said, along)
    assert grasp is not None and grasp.closed_ns == START + 60 * TICK_NS


@pytest.mark.parametrize(
    ("done", "said"),
    [
        (takeover((0.0, 80)), phases(("grasp", 0), ("transport", 20))),
        (
            takeover((1.0, 80)),
            phases(
                ("reach", 0),
            ),
        ),
        (takeover((1.0, 20), (0.0, 60)), phases(("reach", 0), ("transport", 40))),
        (takeover((1.0, 20), (0.0, 20), (1.0, 40)), phases(("reach", 0), ("grasp", 21), ("reach", 41))),
    ],
    ids=["closed from the first", "never closed", "pushed with a closed hand", "carried nothing"],
)
def test_what_is_no_grasp_says_no_place(done: Takeover, said: list[tuple[int, str]]) -> None:
    assert grasp_of(done, said, along) is None


def test_a_hand_whose_place_is_not_known_says_none() -> None:
    said = phases(("reach", 0), ("grasp", 41), ("transport", 60))
    assert grasp_of(takeover((1.0, 40), (0.0, 60)), said, lambda stamp_ns: None) is None


def test_what_was_read_on_the_way_to_the_grasp_was_misread_by_what_it_lacks(make) -> None:
    off = np.array([0.015, -0.01, 0.0], dtype=np.float32)
    told = explained(
        [looked(make, tick, PLACE - off) for tick in (400, 410)], Grasp(420 * TICK_NS, PLACE), START, still
    )
    assert [item.stamp_ns for item in told] == [400 * TICK_NS, 410 * TICK_NS]
    for item in told:
        np.testing.assert_allclose(item.misreading, off, atol=1e-6)


def test_before_the_takeover_only_the_place_where_it_lay_then_counts(make) -> None:
    read = PLACE - np.float32([0.015, 0.0, 0.0])
    situations = [
        looked(make, 300, read + np.float32([0.03, 0.0, 0.0])),
        looked(make, 350, read + np.float32([0.004, 0.0, 0.0])),
        looked(make, 360, read + np.float32([0.0, 0.0, 0.03])),
        looked(make, 405, read),
    ]
    told = explained(situations, Grasp(420 * TICK_NS, PLACE), START, still)
    # It was pushed after the first; a reading that differs in height alone is of the same place on the table.
    assert [item.stamp_ns // TICK_NS for item in told] == [350, 360, 405]


def test_where_it_lay_before_the_hand_first_closed_is_told_by_what_such_looks_lack(make) -> None:
    off, away = np.float32([0.015, -0.01, 0.0]), np.float32([0.06, 0.04, 0.0])
    # It lay elsewhere until the policy pushed it at tick 330; far ahead it was read another 2 cm beside.
    situations = [looked(make, 300, PLACE - away - off + np.float32([0.02, 0.0, 0.0]))]
    situations += [looked(make, tick, PLACE - away - off) for tick in (310, 320, 328)]
    situations += [looked(make, 340, PLACE - off), looked(make, 360, PLACE - away - off)]
    situations += [looked(make, tick, PLACE - off) for tick in (400, 410)]

    def beside(stamp_ns: int) -> np.ndarray:
        """As near to what is read of it, whenever."""
        return next(item.read() for item in situations if item.stamp_ns == stamp_ns) - np.float32([0.0, 0.0, 0.05])

    told = {
        item.stamp_ns // TICK_NS: item.misreading
        for item in explained(situations, Grasp(420 * TICK_NS, PLACE), START, beside, 330 * TICK_NS)
    }
    assert sorted(told) == [300, 310, 320, 328, 340, 400, 410]
    for tick in (310, 320, 328, 340, 400, 410):
        np.testing.assert_allclose(told[tick], off, atol=1e-5)
    np.testing.assert_allclose(told[300], off - np.float32([0.02, 0.0, 0.0]), atol=1e-5)
    # With two looks only nothing is said of what came before.
    few = explained(situations[2:], Grasp(420 * TICK_NS, PLACE), START, beside, 325 * TICK_NS)
    assert [item.stamp_ns // TICK_NS for item in few] == [340, 400, 410]


def test_without_a_look_on_the_persons_way_nothing_is_known(make) -> None:
    assert explained([looked(make, 390, PLACE)], Grasp(420 * TICK_NS, PLACE), START, still) == []
    assert explained([looked(make, 405, None)], Grasp(420 * TICK_NS, PLACE), START, still) == []


def test_what_is_held_or_seen_later_and_what_is_too_far_off_are_left_out(make) -> None:
    situations = [
        looked(make, 405, PLACE),
        looked(make, 408, PLACE, phase="transport"),
        looked(make, 410, PLACE + np.float32([2 * FARTHEST_SHIFT, 0.0, 0.0])),
        looked(make, 430, PLACE),
    ]
    told = explained(situations, Grasp(420 * TICK_NS, PLACE), START, still)
    assert [item.stamp_ns // TICK_NS for item in told] == [405]


@given(
    st.lists(st.tuples(st.floats(0.0, 1.0), st.integers(1, 30)), min_size=1, max_size=6),
    st.lists(st.tuples(st.sampled_from(["idle", "reach", "grasp", "transport", "release"]), st.integers(0, 150))),
)
def test_whatever_is_done_a_grasp_lies_within_the_takeover(openings, said) -> None:
    done = takeover(*openings)
    grasp = grasp_of(done, phases(*sorted(said, key=lambda item: item[1])), along)
    if grasp is not None:
        row = int(np.searchsorted(done.stamps_ns, grasp.closed_ns))
        assert 0 < row < len(done.ticks)
        assert done.actions[row, 6] < 0.5 <= done.actions[row - 1, 6]


def test_an_answer_keeps_everything_else_of_a_situation(make) -> None:
    item = looked(make, 405, PLACE)
    (told,) = explained([item], Grasp(420 * TICK_NS, PLACE), START, still)
    assert replace(told, misreading=None).vector is item.vector and told.planned is item.planned
