# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The live line of ``flow_rag_vla sim``: what a newcomer looks at while the graph works."""

from __future__ import annotations

from dataclasses import replace

from flow_rag_vla.cli.sim import Plan, Progress, _counted, _tasks
from flow_rag_vla.nodes.operator import GraphView

VIEW = GraphView("push", "grasp", elapsed=2.5, rate_hz=39.98, late_ticks=3, failures=4, memory_cases=17)
PLAN = Plan(("push",), "", "plain", 6, 0.0, 1)


def test_it_shows_episode_task_phase_rate_late_ticks_failures_memory_and_success():
    text = Progress(PLAN, done=2, succeeded=1).line(VIEW).plain
    for shown in ("episode 3/6", "task push", "phase grasp", "2.5 s", "loop 39.98 Hz", "late 3", "failures 4",
                  "memory 17", "success 1/2"):  # fmt: skip
        assert shown in text, text


def test_before_the_graph_has_said_anything_nothing_is_made_up():
    text = Progress(replace(PLAN, duration_s=60.0)).line(GraphView()).plain
    assert "episode 1  task -  phase idle" in text and "loop    -   " in text and text.endswith("success -")


def test_an_instruction_is_read_as_the_graph_will_read_it():
    assert _tasks(["push"], "서랍을 천천히 열어줘", language_model=False) == ("open_drawer",)
    assert _tasks(["push"], "stack the red cube on the blue box", language_model=True) == ("stack",)
    assert _tasks(["push"], "tidy up the red thing", language_model=True) == ("",)


def test_one_is_counted_as_one():
    assert (_counted(1, "failure"), _counted(2, "failure"), _counted(0, "chunk")) == (
        "1 failure",
        "2 failures",
        "0 chunks",
    )
