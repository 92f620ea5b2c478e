# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""One state over all nodes."""

import pytest

from flow_rag_vla.gateway.live.health import ERROR, OK, SILENCE_S, STALE, WARN, Readiness

READINESS = Readiness(("controller", "flow_policy"))


def node(level=OK, heard=0.0, message="well"):
    return {"level": level, "heard": heard, "message": message}


def nodes(**changes):
    return {"controller": node(), "flow_policy": node(), "recorder": node()} | changes


def test_with_every_expected_node_up_the_graph_is_ready():
    overall = READINESS.overall(nodes(), 1.0)
    assert (overall.level, overall.sentence) == (OK, "3 nodes are well")
    assert READINESS.missing(nodes(), 1.0) == []


@pytest.mark.parametrize(
    ("heard", "says"),
    [
        ({"controller": node()}, "flow_policy has not reported on /diagnostics"),
        (nodes(flow_policy=node(heard=-9.0)), "flow_policy has not reported for 10 s"),
        (nodes(flow_policy=node(ERROR, message="no checkpoint")), "flow_policy: no checkpoint"),
    ],
)
def test_an_expected_node_that_is_missing_silent_or_in_error_keeps_it_from_being_ready(heard, says):
    assert READINESS.missing(heard, 1.0) == [says]
    overall = READINESS.overall(heard, 1.0)
    assert (overall.level, overall.sentence) == (ERROR, says)
    assert READINESS.up(heard, 1.0) | {"recorder": True} == {"controller": True, "flow_policy": False, "recorder": True}


def test_a_warning_and_the_silence_of_another_node_are_warnings():
    overall = READINESS.overall(nodes(recorder=node(WARN, message="slow disk")), 1.0)
    assert (overall.level, overall.sentence) == (WARN, "recorder: slow disk")
    overall = READINESS.overall(nodes(recorder=node(heard=-SILENCE_S)), 1.0)
    assert (overall.level, overall.sentence, overall.nodes["recorder"]) == (WARN, "recorder: silent", STALE)
