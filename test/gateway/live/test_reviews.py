# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Plans that wait for a person."""

from __future__ import annotations

from flow_rag_vla.gateway.live.reviews import Reviews


def test_a_plan_waits_until_it_is_closed_or_its_time_is_up():
    reviews = Reviews()
    reviews.asked("a", {"id": "a"}, 10.0)
    reviews.asked("b", {"id": "b"}, 5.0)
    assert [one["id"] for one in reviews.waiting(1.0)] == ["a", "b"]
    reviews.asked("b", {"id": "b", "again": True}, 6.0)
    assert [one["id"] for one in reviews.waiting(5.5)] == ["a", "b"] and "again" in reviews.waiting(5.5)[1]
    assert [one["id"] for one in reviews.waiting(6.0)] == ["a"]
    reviews.closed("a")
    reviews.closed("never heard of")
    assert reviews.waiting(7.0) == []
    # One that comes late, long after its time, never waits.
    reviews.asked("c", {"id": "c"}, 6.5)
    assert reviews.waiting(7.0) == []
