# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Faults in the running graph, the short form: the whole graph on the mock arm, watched by a process of its own.

What a busy machine alone can bring about (gaps between commands, and how soon a stop is obeyed) is measured by
``flow_rag_vla chaos``, not asserted here. The bounds themselves are held on made-up commands (``test/evaluate/chaos``).
"""

from __future__ import annotations

import shutil

import pytest

from flow_rag_vla.cli.chaos_run import ChaosRun
from flow_rag_vla.evaluate.chaos.plan import CLOCK, DELAY, DISK_FULL, KILL, PAUSE, STOP, Fault
from flow_rag_vla.evaluate.chaos.report import page, summary

TIMING = {"gap", "emergency stop"}
"""Violations that are about time."""


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_whole_graph_survives_one_fault_of_each_sort_without_an_unsafe_command(tmp_path):
    faults = [
        Fault(STOP, "", 0.4),
        Fault(KILL, "robot"),
        Fault(DELAY, "action_chunk", 0.8, 0.5),
        Fault(KILL, "episode_manager"),
        Fault(PAUSE, "controller", 0.5),
        Fault(DISK_FULL, "failure_memory", 0.3),
        Fault(KILL, "failure_memory"),
    ]
    if shutil.which("cc"):
        # Without the clock guard every timer would stand still for ten minutes when it is set back.
        faults.append(Fault(CLOCK, "", 0.5, 600.0))
    with ChaosRun(tmp_path, seed=0) as run:
        for fault in faults:
            run.inject(fault)
        content = run.finish()
    assert [item for item in content["violations"] if item["kind"] not in TIMING] == []
    rounds = {done["fault"]: done for done in content["rounds"]}
    assert len(rounds) == len(faults) and all(done["following_ms"] is not None for done in rounds.values())
    assert rounds["kill robot"]["back_ms"] is not None and rounds["kill failure_memory"]["back_ms"] is not None
    assert content["taken_up"] == 1, "the episode went on under an episode manager that was started again"
    assert "8" in rounds["emergency stop for 0.4 s"]["reactions"], "the emergency stop was named"
    delayed = rounds["delay action_chunk 500 ms for 0.8 s"]["reactions"]
    assert {"2", "3"} & set(delayed), "a chunk that came too late was not followed, and that was named"
    assert len(content["stop_delays_ms"]) == 1
    paused = [gap for gap in content["gaps"] if gap["owner"] == "controller down"]
    assert paused and all(gap["held"] for gap in paused), "the bridge held while the controller was stopped"
    assert content["cases"]["lost"] == 0 and content["commands"] > 100
    assert "Surviving" in page(content) and summary(content)


@pytest.mark.slow
@pytest.mark.timeout(500)
def test_a_simulator_that_dies_ends_its_episode_by_name_and_the_graph_is_usable_again(tmp_path):
    faults = [Fault(KILL, "simulator"), Fault(PAUSE, "simulator", 0.8), Fault(KILL, "episode_manager")]
    with ChaosRun(tmp_path, seed=0, simulated=True) as run:
        for fault in faults:
            run.inject(fault)
        content = run.finish()
    assert [item for item in content["violations"] if item["kind"] not in TIMING] == []
    killed, paused, manager = content["rounds"]
    # Without a robot to hear of, the loop holds and says so, then follows chunks of the next episode.
    assert "5" in killed["reactions"] and killed["following_ms"] is not None
    assert paused["following_ms"] is not None and manager["following_ms"] is not None
    # One that was just over when its simulator died says how it went.
    told = [note for note in killed["notes"] if note.startswith("episode")]
    assert told and ("simulator was started anew" in told[0] or "silent" in told[0] or ": success" in told[0])
    assert content["outcomes"].get("lost", 0) == 0 and content["episodes"] >= 2
