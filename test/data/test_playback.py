# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""How bag time passes: at a rate, in steps, not at all."""

from __future__ import annotations

import threading
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.data.playback import Playback

MS = 1_000_000


class Told:
    """The times that were told, and a way to wait for one of them."""

    def __init__(self) -> None:
        self.times: list[int] = []
        self._changed = threading.Condition()

    def __call__(self, position_ns: int) -> None:
        with self._changed:
            self.times.append(position_ns)
            self._changed.notify_all()

    def wait_for(self, position_ns: int) -> bool:
        with self._changed:
            return self._changed.wait_for(lambda: self.times[-1] >= position_ns, 60.0)


@given(
    begin=st.integers(0, 50), stretches=st.lists(st.integers(0, 40), max_size=5), period=st.integers(1, 25)
)  # milliseconds
def test_time_is_told_in_order_in_small_steps_up_to_each_moment(begin, stretches, period):
    told = Told()
    playback = Playback(told, lambda: 1e6, lambda: period * 1e-3, paused=False)
    playback.begin(begin * MS)
    moment = begin * MS
    for stretch in stretches:
        moment += stretch * MS
        assert playback.until(moment)
        assert told.times[-1] == moment
    assert told.times[0] == begin * MS
    assert all(0 < after - before <= period * MS for before, after in pairwise(told.times))


def test_a_pause_lets_only_the_steps_pass_and_resuming_the_rest():
    told, reached = Told(), []
    playback = Playback(told, lambda: 1e6, lambda: 0.01, paused=True)
    playback.begin(0)
    player = threading.Thread(target=lambda: reached.append(playback.until(100 * MS)))
    player.start()
    playback.step(20 * MS)
    playback.step(10 * MS)
    assert told.wait_for(30 * MS)
    playback.pause()
    assert told.times == [0, 10 * MS, 20 * MS, 30 * MS] and playback.paused and not reached
    playback.resume()
    player.join(60.0)
    assert reached == [True] and told.times[-1] == 100 * MS


def test_a_pause_forgets_the_steps_before_it():
    told = Told()
    playback = Playback(told, lambda: 1e6, lambda: 0.01, paused=True)
    playback.step(50 * MS)
    playback.pause()
    playback.begin(0)
    player = threading.Thread(target=playback.until, args=(100 * MS,))
    player.start()
    playback.step(10 * MS)
    assert told.wait_for(10 * MS)
    playback.end()
    player.join(60.0)
    assert told.times == [0, 10 * MS]


def test_ending_ends_the_wait_for_a_moment_that_is_far_away():
    reached = []
    playback = Playback(Told(), lambda: 1.0, lambda: 3600.0, paused=False)
    playback.begin(0)
    player = threading.Thread(target=lambda: reached.append(playback.until(3600 * 1000 * MS)))
    player.start()
    playback.end()
    player.join(60.0)
    assert reached == [False] and playback.ended


def test_another_rate_acts_at_once():
    rates, told, reached = [1e-6], Told(), []
    playback = Playback(told, lambda: rates[0], lambda: 1.0, paused=False)
    playback.begin(0)
    player = threading.Thread(target=lambda: reached.append(playback.until(1000 * MS)))
    player.start()
    rates[0] = 1e6
    playback.changed()
    player.join(60.0)
    assert reached == [True] and told.times == [0, 1000 * MS]
