# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Whether the machine stood still, from how often threads of its processes ran."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.evaluate.chaos.standstill import Heartbeats, Processors, standstill
from flow_rag_vla.evaluate.chaos.stretch import Stretch

MS = 1_000_000
NODES = tuple(f"node{number}" for number in range(10))


def machine(end_ms, frozen=(), only=NODES, reader_too=False, busy=0.3, stolen=(0, 0), restarted=()):
    """Readings every 10 ms of nodes that beat every 20 ms, but not those of ``only`` between ``frozen``."""
    beats, processors = Heartbeats(), Processors(2)
    counts = dict.fromkeys(NODES, 0)
    threads = {name: 100 + number for number, name in enumerate(NODES)}
    used = 0.0
    taken = [0, 0]
    for at in range(0, end_ms, 10):
        inside = bool(frozen) and frozen[0] <= at < frozen[1]
        for name in NODES:
            if at % 20 == 0 and not (inside and name in only):
                counts[name] += 1
        for name, when in restarted:
            if at == when:
                threads[name] += 1000
                counts[name] = 0
        used += (busy if inside else 0.3) * 2 * 10
        if inside:
            taken = [value + 10 * part for value, part in zip(taken, stolen, strict=True)]
        if not (inside and reader_too):
            beats.add(at * MS, {name: (threads[name], counts[name]) for name in NODES})
            processors.add(at * MS, int(used * MS), [int(value * MS) for value in taken])
    return beats, processors


def length_ms(found):
    return sum(one.end_ns - one.start_ns for one in found) / MS


@pytest.mark.parametrize("reader_too", [False, True])
def test_where_no_process_ran_the_machine_stood_still(reader_too):
    beats, processors = machine(2000, (1000, 1300), reader_too=reader_too, busy=0.0)
    found = standstill(beats, processors, Stretch(990 * MS, 1310 * MS))
    assert 270 <= length_ms(found) <= 320
    assert standstill(beats, processors, Stretch(200 * MS, 900 * MS)) == []


def test_where_two_of_ten_went_on_it_still_stood_and_where_three_did_it_did_not():
    gap = Stretch(990 * MS, 1310 * MS)
    assert length_ms(standstill(*machine(2000, (1000, 1300), NODES[:8], busy=0.0), gap)) > 250
    assert standstill(*machine(2000, (1000, 1300), NODES[:7], busy=0.0), gap) == []


def test_where_somebody_had_the_processors_it_did_not_stand_still():
    """A loop that computes on and on keeps others from running: that is no excuse of its own gap."""
    assert standstill(*machine(2000, (1000, 1300), busy=0.9), Stretch(990 * MS, 1310 * MS)) == []


def test_a_node_that_is_down_or_new_is_neither_silent_nor_counted():
    beats, processors = machine(2000, (1000, 1300), NODES[:8], busy=0.0, restarted=[(name, 1150) for name in NODES[:8]])
    found = standstill(beats, processors, Stretch(990 * MS, 1310 * MS))
    assert length_ms(found) > 200, "each was silent before its end and after its start"
    few = Heartbeats()
    for at in range(0, 2000, 10):
        few.add(at * MS, {name: (1, at // 20 if at < 1000 else 50) for name in NODES[:4]})
    assert few.still(Stretch(1000 * MS, 1900 * MS)) == [], "four processes are too few to tell"


def test_what_the_host_took_is_counted_of_one_processor_and_nothing_is_made_up():
    _, processors = machine(2000, (1000, 1300), busy=0.0, stolen=(1.0, 0.1))
    gap = Stretch(1000 * MS, 1300 * MS)
    assert processors.stolen_ns(0, gap) == pytest.approx(300 * MS, abs=11 * MS)
    assert processors.stolen_ns(1, gap) == pytest.approx(30 * MS, abs=2 * MS)
    assert processors.stolen_ns(None, gap) == processors.stolen_ns(7, gap) == 0
    assert Processors(2).busy(gap) == 1.0 and Processors(2).stolen_ns(0, gap) == 0


@given(
    jitter=st.lists(st.integers(0, 19), min_size=10, max_size=10),
    late=st.lists(st.integers(0, 25), min_size=100, max_size=100),
)
def test_beats_that_are_a_little_late_are_never_a_standstill(jitter, late):
    beats = Heartbeats()
    at = 0
    for delay in late:
        at += 10 + delay
        beats.add(at * MS, {name: (7, (at + jitter[number]) // 20) for number, name in enumerate(NODES)})
    assert beats.still(Stretch(0, (at + 1) * MS)) == []
