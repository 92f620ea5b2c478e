# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The plan of faults: the same for a seed, every kind and every node in it."""

from __future__ import annotations

import pytest

from flow_rag_vla.evaluate.chaos.plan import CLOCK, DELAY, KILL, KINDS, LINKS, PAUSE, STOP, Fault, draw_plan

NODES = ("controller", "flow_policy", "failure_memory", "robot")


def test_a_seed_draws_the_same_faults_and_another_one_others():
    assert draw_plan(4, 60, NODES) == draw_plan(4, 60, NODES)
    assert draw_plan(4, 60, NODES) != draw_plan(5, 60, NODES)
    assert draw_plan(4, 60, NODES)[:20] == draw_plan(4, 20, NODES)


def test_every_kind_comes_and_every_node_is_killed_before_one_is_killed_again():
    plan = draw_plan(1, 400, NODES, ("mock_robot",))
    assert {fault.kind for fault in plan[: len(KINDS)]} == set(KINDS)
    killed = [fault.target for fault in plan if fault.kind == KILL]
    assert set(killed[: len(NODES)]) == set(NODES) == set(killed)
    assert {fault.target for fault in plan if fault.kind == PAUSE} == {*NODES, "mock_robot"}
    delays = {(fault.target, fault.amount) for fault in plan if fault.kind == DELAY}
    assert {("action_chunk", 0.3), ("action_chunk", 0.5)} <= delays and {target for target, _ in delays} == set(LINKS)
    jumps = [fault.amount for fault in plan if fault.kind == CLOCK]
    assert min(jumps) < 0 < max(jumps)


def test_kinds_can_be_left_out_and_nothing_left_is_an_error():
    left_out = [kind for kind in KINDS if kind not in (STOP, KILL)]
    assert {fault.kind for fault in draw_plan(0, 50, NODES, without=left_out)} == {STOP, KILL}
    with pytest.raises(ValueError, match="left"):
        draw_plan(0, 5, NODES, without=list(KINDS))
    with pytest.raises(ValueError, match="node"):
        draw_plan(0, 5, ())


@pytest.mark.parametrize(
    ("fault", "text"),
    [
        (Fault(KILL, "robot"), "kill robot"),
        (Fault(DELAY, "action_chunk", 1.0, 0.5), "delay action_chunk 500 ms for 1.0 s"),
        (Fault(CLOCK, "", 1.0, -10.0), "clock jump -10.00 s"),
    ],
)
def test_a_fault_says_what_it_is(fault, text):
    assert fault.text == text
