# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Episodes of the running graph with and without memory: what is paired, and what is said of it."""

from __future__ import annotations

import json

import pytest

from flow_rag_vla.evaluate.graph_pairs import (
    EPISODES,
    OFF,
    ON,
    SUMMARY,
    TABLE,
    GraphEpisode,
    order,
    paired,
    summary,
    write,
)


def episode(seed: int, memory: str, success: bool, **fields: object) -> GraphEpisode:
    return GraphEpisode(seed, memory, success, 2.0 if success else 10.0, **fields)


def test_off_and_on_take_turns_at_going_first():
    assert [order(number)[0] for number in range(4)] == [OFF, ON, OFF, ON]
    assert {frozenset(order(number)) for number in range(4)} == {frozenset((OFF, ON))}


def test_a_start_that_was_interrupted_is_no_pair():
    found = paired([episode(5, ON, True), episode(3, OFF, False), episode(3, ON, True), episode(4, OFF, True)])
    assert [(off.seed, off.success, on.success) for off, on in found] == [(3, False, True)]


def test_the_summary_counts_pairs_and_says_how_late_the_machine_was(tmp_path):
    chunks = {"none": 10, "guidance": 20, "timeout": 10}
    episodes = [
        episode(
            seed,
            memory,
            memory == ON or seed < 2,
            failures=3,
            chunks=chunks,
            waits=(1.0, 2.0, 9.0),
            late_ticks=4,
            load=1.5,
        )
        for seed in range(6)
        for memory in order(seed)
    ]
    found = write(tmp_path, {"command": "flow_rag_vla pairs"}, [*episodes, episode(9, OFF, True)])
    assert (found["starts"], found["fixed"], found["broken"]) == (6, 4, 0)
    assert found["lift"]["value"] == pytest.approx(4 / 6)
    assert found["lift"]["low"] < found["lift"]["value"] < found["lift"]["high"]
    assert found["sides"][OFF]["success"]["successes"] == 2 and found["sides"][ON]["late_ticks"] == 24
    text = (tmp_path / TABLE).read_text()
    assert "50 % | 2.0, 9.0, 9.0 ms | 25 % | 24 of 480 | 1.5" in text and "4 fixed, 0 broken" in text
    assert json.loads((tmp_path / SUMMARY).read_text())["p"] == pytest.approx(0.125)
    assert len((tmp_path / EPISODES).read_text().splitlines()) == 13


def test_without_a_whole_pair_nothing_is_claimed():
    found = summary([episode(1, OFF, True)])
    assert found["starts"] == 0 and (found["lift"]["low"], found["lift"]["high"]) == (-1.0, 1.0)
