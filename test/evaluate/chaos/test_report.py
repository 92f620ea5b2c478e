# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The page and the lines of a chaos run say what its content says."""

from __future__ import annotations

from flow_rag_vla.evaluate.chaos.report import by_kind, by_node, gaps_by_owner, page, summary


def content(**changes):
    rounds = [
        {"number": 1, "kind": "kill", "target": "robot", "fault": "kill robot", "seconds": 2.0, "back_ms": 900.0,
         "following_ms": 1500.0, "reactions": {"5": 2}, "notes": [], "problems": []},
        {"number": 2, "kind": "kill", "target": "robot", "fault": "kill robot", "seconds": 2.0, "back_ms": 1100.0,
         "following_ms": 0.0, "reactions": {}, "notes": ["<odd>"], "problems": []},
        {"number": 3, "kind": "delay", "target": "action_chunk", "fault": "delay action_chunk", "seconds": 2.0,
         "back_ms": None, "following_ms": None, "reactions": {"2": 1}, "notes": [], "problems": ["not followed"]},
    ]  # fmt: skip
    return {
        "rounds": rounds,
        "violations": [{"kind": "not recovered", "text": "not followed", "round": 3}],
        "gaps": [
            {"ms": 900.0, "owner": "controller down", "held": True, "wrong": False, "round": 1},
            {"ms": 60.0, "owner": "loop", "held": False, "wrong": True, "round": 2},
        ],
        "timer_gaps": 4,
        "stop_delays_ms": [12.0],
        "commands": 1234,
        "first_command_s": 3.2,
        "first_follow_s": 6.1,
        "cases": {"acknowledged": 9, "lost": 0, "destroyed": 0},
        "notes": [],
        "about": {"command": "flow_rag_vla chaos", "seed": 7, "started": "now"},
        **changes,
    }


def test_faults_restarts_and_gaps_are_added_up():
    kinds = {row["kind"]: row for row in by_kind(content())}
    assert (kinds["kill"]["rounds"], kinds["kill"]["violations"], kinds["kill"]["kept_following"]) == (2, 0, 1)
    assert kinds["kill"]["reactions"] == {"state too old": 2} and kinds["delay"]["violations"] == 1
    assert by_node(content()) == [{"node": "robot", "times": 2, "median_ms": 1000.0, "longest_ms": 1100.0}]
    owners = {row["owner"]: row for row in gaps_by_owner(content())}
    assert owners["loop"]["wrong"] == 1 and owners["controller down"]["held"] == 1 and owners["machine"]["gaps"] == 0


def test_the_page_shows_violations_and_escapes_what_was_noted():
    text = page(content())
    assert "not followed" in text and "&lt;odd&gt;" in text and "<odd>" not in text
    assert "1,234" in text and "seed 7" in text
    assert "<h2>Violations" not in page(content(violations=[]))


def test_the_lines_for_a_terminal_name_the_figures():
    lines = "\n".join(summary(content()))
    assert "3 rounds, 1234 commands: 1 violations" in lines
    assert "first command after 3.2 s" in lines and "9 acknowledged cases, 0 lost" in lines
    assert "robot: back after 1.00 s (median of 2), 1.10 s at worst" in lines
