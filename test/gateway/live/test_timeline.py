# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Which case answered which failure."""

import pytest

from flow_rag_vla.core.action import CorrectionMode
from flow_rag_vla.core.failure import Evidence
from flow_rag_vla.gateway.live.timeline import GAP_NS, KEPT, FailureSeen, Timeline

S = 1_000_000_000
GUIDANCE, NONE, TIMEOUT, HOLD = (
    CorrectionMode.GUIDANCE,
    CorrectionMode.NONE,
    CorrectionMode.TIMEOUT,
    CorrectionMode.HOLD,
)


def failed(stamp_ns, episode_id=1, kind="drop"):
    return FailureSeen(
        stamp_ns, episode_id, kind, "push", "reach", "rules", "it fell", 0.9, (Evidence("width", 0.1, 0.2, "m"),)
    )


@pytest.fixture
def timeline():
    timeline = Timeline()
    timeline.episode(1)
    return timeline


def test_the_first_use_of_the_memory_after_a_failure_is_its_answer(timeline):
    timeline.used(1 * S, GUIDANCE, 0.5, (3,))
    timeline.failure(failed(2 * S))
    assert timeline.view()[0]["answer"] is None
    timeline.used(3 * S, NONE, 0.0, ())
    timeline.used(3 * S, TIMEOUT, 0.0, (4,))
    assert timeline.view()[0]["answer"] is None, "a search without an effect is no answer"
    timeline.retrieved(4 * S, [0.8, 0.91])
    timeline.used(4 * S, GUIDANCE, 0.7, (9, 5))
    failure = timeline.view()[1]
    assert failure["kind"] == "failure"
    assert failure["answer"]["cases"] == [9, 5]
    assert failure["answer"]["similarity"] == 0.91
    assert failure["answer"]["mode"] == "guidance"
    assert failure["evidence"] == [{"name": "width", "value": 0.1, "threshold": 0.2, "unit": "m"}]


def test_uses_without_a_pause_are_one_answer_in_which_each_observation_counts_once(timeline):
    timeline.used(0, GUIDANCE, 0.2, (1,))
    timeline.used(GAP_NS, GUIDANCE, 0.6, (2, 1))
    timeline.used(GAP_NS, GUIDANCE, 0.6, (2, 1))  # a command of the chunk before it
    timeline.used(0, GUIDANCE, 0.2, (1,))  # and one that still followed the older chunk
    timeline.used(2 * GAP_NS + 1, GUIDANCE, 0.1, (3,))
    timeline.used(2 * GAP_NS + 2, HOLD, 1.0, (3,))
    hold, later, first = timeline.view()
    assert (first["uses"], first["strength"], first["cases"]) == (2, 0.6, [1, 2])
    assert later["cases"] == [3]
    assert hold["mode"] == "hold"


def test_the_same_answer_may_serve_several_failures_but_none_of_another_episode(timeline):
    timeline.failure(failed(1 * S))
    timeline.failure(failed(2 * S))
    timeline.used(3 * S, GUIDANCE, 1.0, (8,))
    assert [entry["answer"]["cases"] for entry in timeline.view() if entry["kind"] == "failure"] == [[8], [8]]
    timeline.failure(failed(4 * S))
    timeline.episode(2)
    timeline.used(5 * S, GUIDANCE, 1.0, (8,))
    assert timeline.view()[1]["answer"] is None


def test_a_failure_that_is_heard_of_before_its_episode_is_answered_too(timeline):
    timeline.failure(failed(1 * S, episode_id=2))
    timeline.episode(2)
    timeline.used(2 * S, GUIDANCE, 1.0, (8,))
    assert timeline.view()[1]["answer"]["cases"] == [8]


def test_what_was_seen_before_a_failure_does_not_answer_it_however_late_it_acts(timeline):
    timeline.used(1 * S, GUIDANCE, 1.0, (8,))
    timeline.failure(failed(1 * S + 1))
    timeline.used(1 * S, GUIDANCE, 1.0, (8,))
    assert timeline.view()[-1]["kind"] == "answer"
    assert next(entry for entry in timeline.view() if entry["kind"] == "failure")["answer"] is None


def test_the_newest_come_first_and_the_oldest_go(timeline):
    for index in range(KEPT + 5):
        timeline.failure(failed(index * S))
    view = timeline.view()
    assert len(view) == KEPT
    assert view[0]["t"] > view[-1]["t"]


def test_the_revision_rises_with_every_change_and_only_then(timeline):
    before = timeline.revision
    timeline.retrieved(1, [])
    timeline.used(1, NONE, 0.0, ())
    assert timeline.revision == before
    timeline.failure(failed(1))
    assert timeline.revision > before
