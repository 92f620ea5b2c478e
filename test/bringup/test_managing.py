# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The order in which managed nodes are brought up and down, without ROS."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.bringup.managing import ACTIVE, FIRST_PAUSE_S, INACTIVE, TRIES, UNCONFIGURED, Managing

NODES = ("encoder", "memory", "policy")
_AFTER = {"configure": INACTIVE, "activate": ACTIVE, "deactivate": INACTIVE, "cleanup": UNCONFIGURED}


def managing(**states: str) -> Managing:
    made = Managing(NODES)
    for name in NODES:
        made.seen(name, states.get(name, UNCONFIGURED))
    return made


def done(made: Managing, name: str, transition: str) -> None:
    made.answered(name, True, 0.0)
    made.seen(name, _AFTER[transition])


def settle(made: Managing) -> list[tuple[str, str]]:
    order = []
    while asked := made.next(0.0):
        for name, transition in asked:
            order.append((name, transition))
            done(made, name, transition)
    return order


def test_all_are_configured_at_once_and_activated_in_order():
    made = managing()
    assert made.next(0.0) == [(name, "configure") for name in NODES]
    done(made, "policy", "configure")
    assert made.next(0.0) == [], "the nodes before it are not loaded yet"
    done(made, "encoder", "configure")
    assert made.next(0.0) == [("encoder", "activate")]
    done(made, "memory", "configure")
    assert made.next(0.0) == []
    done(made, "encoder", "activate")
    assert made.next(0.0) == [("memory", "activate")]
    done(made, "memory", "activate")
    assert made.next(0.0) == [("policy", "activate")] and not made.ready
    done(made, "policy", "activate")
    assert made.ready and made.next(0.0) == []


def test_they_rest_in_the_opposite_order_and_work_again():
    made = managing(encoder=ACTIVE, memory=ACTIVE, policy=ACTIVE)
    made.ask(UNCONFIGURED)
    order = settle(made)
    rest = [name for name, transition in order if transition == "deactivate"]
    assert rest == ["policy", "memory", "encoder"]
    assert made.ready
    made.ask(ACTIVE)
    settle(made)
    assert made.ready


def test_a_node_that_was_started_again_is_brought_up_alone():
    made = managing(encoder=ACTIVE, memory=ACTIVE, policy=ACTIVE)
    made.gone("memory")
    assert not made.ready and made.next(0.0) == []
    made.seen("memory", UNCONFIGURED)
    assert settle(made) == [("memory", "configure"), ("memory", "activate")]
    assert made.ready


def test_what_a_person_took_out_stays_out_until_it_is_asked_for_or_started_again():
    made = managing(encoder=ACTIVE, memory=ACTIVE, policy=ACTIVE)
    made.moved("memory", "deactivate")
    made.seen("memory", INACTIVE)
    assert made.next(0.0) == [] and "left to a person" in made.states["memory"]
    made.ask(ACTIVE)
    assert made.next(0.0) == [("memory", "activate")]
    made.moved("memory", "activate")
    done(made, "memory", "activate")
    assert made.ready


@pytest.mark.parametrize("late", [False, True])
def test_what_was_asked_for_here_is_no_persons_word_also_when_it_is_heard_late(late):
    made = managing(encoder=ACTIVE, memory=ACTIVE, policy=ACTIVE)
    made.ask(UNCONFIGURED)
    assert made.next(0.0) == [("policy", "deactivate")]
    if not late:
        made.moved("policy", "deactivate")
    done(made, "policy", "deactivate")
    if late:
        made.moved("policy", "deactivate")
    assert "person" not in made.states["policy"]
    made.moved("policy", "deactivate")
    assert "person" in made.states["policy"], "the second time it was not asked for"


def test_a_node_that_cannot_be_loaded_is_asked_again_ever_more_rarely_and_holds_nobody_up():
    made = managing()
    now, asked = 0.0, []
    for _ in range(1000):
        for name, transition in made.next(now):
            if name == "encoder":
                asked.append(now)
                made.answered(name, False, now)
                made.seen(name, UNCONFIGURED)
            else:
                done(made, name, transition)
        now += 0.1
    assert made.states["memory"] == made.states["policy"] == ACTIVE
    assert made.given_up == ("encoder",) and len(asked) == TRIES
    pauses = [later - before for before, later in pairwise(asked)]
    assert pauses == pytest.approx([FIRST_PAUSE_S * 2**count for count in range(TRIES - 1)], abs=0.11)
    made.gone("encoder")
    made.seen("encoder", UNCONFIGURED)
    assert made.next(now) == [("encoder", "configure")]


@given(st.lists(st.tuples(st.sampled_from(NODES), st.sampled_from(["gone", "back", "refuses", "rests"])), max_size=20))
def test_whatever_happened_the_nodes_that_are_there_become_active_once_they_are_asked_for(happenings):
    made = managing()
    settle(made)
    now = 0.0
    for name, what in happenings:
        now += 1000.0
        made.gone(name)
        if what != "gone":
            made.seen(name, UNCONFIGURED if what != "rests" else INACTIVE)
            for other, _ in made.next(now):
                made.answered(other, what != "refuses", now)
                made.seen(other, UNCONFIGURED)
    # Refusals may have been too many.
    made.ask(ACTIVE)
    for _ in range(20):
        now += 1000.0
        for name, transition in made.next(now):
            done(made, name, transition)
    assert all(state in (ACTIVE, "not there") for state in made.states.values())
