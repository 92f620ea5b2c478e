# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""When a message left is known although it came late and the clock was set while it was under way."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.evaluate.chaos.sending import SendingTimes

MS = 1_000_000
PERIOD = 25 * MS
AHEAD = 1_700_000_000_000 * MS
START = 60_000_000 * MS
JUMPS_MS = (-10_000, -1_000, -300, 300, 1_000, 10_000)


def heard(sent: list[int], delays: list[int], set_at: int, jump: int) -> list[int]:
    """What is made of messages that leave and arrive so, beside a clock that is set once."""

    def ahead(at: int) -> int:
        return AHEAD + (jump if at >= set_at else 0)

    times, said, free = SendingTimes(), list[int](), 0
    times.look(START - PERIOD, AHEAD)
    for left, delay in zip(sent, delays, strict=True):
        # One process hears them, one after the other.
        free = max(free, left + delay)
        said.append(times.sent_ns(left + ahead(left), free, ahead(free), after_ns=said[-1] if said else 0))
    return said


@pytest.mark.parametrize("jump_ms", JUMPS_MS)
def test_a_listener_that_is_held_up_while_the_clock_is_set_hears_no_gap(jump_ms):
    sent = [START + tick * PERIOD for tick in range(12)]
    delays = [MS] * 12
    # Two ticks leave on time and are heard together, 29 ms late, behind a jump.
    delays[5] = 29 * MS
    assert heard(sent, delays, sent[5] + 10 * MS, jump_ms * MS) == sent


@given(
    delays=st.lists(st.integers(0, 200 * MS), min_size=12, max_size=12),
    jump_ms=st.sampled_from(JUMPS_MS),
    set_at=st.integers(0, 12 * PERIOD),
    missing=st.sets(st.integers(1, 10), max_size=6),
)
def test_no_silence_is_told_shorter_than_it_was(delays, jump_ms, set_at, missing):
    sent = [START + tick * PERIOD for tick in range(12) if tick not in missing]
    said = heard(sent, [delays[tick] for tick in range(len(sent))], START + set_at, jump_ms * MS)
    for true, told in zip(sent, said, strict=True):
        assert told >= true
    assert all(later >= earlier for earlier, later in pairwise(said))


def test_a_stamp_that_says_nothing_is_taken_for_now():
    times = SendingTimes()
    assert times.sent_ns(None, START, AHEAD) == START
    assert times.sent_ns(0, START, AHEAD) == START
    assert times.sent_ns(START + AHEAD + MS, START, AHEAD) == START


def test_a_clock_that_is_set_and_set_back_is_followed():
    times = SendingTimes()
    for tick in range(200):
        at = START + tick * PERIOD
        ahead = AHEAD + (300 * MS if tick % 80 >= 40 else 0)
        assert times.sent_ns(at + ahead, at + MS, ahead, after_ns=at - PERIOD) == at
