# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A subscription that watches itself is made anew when its publisher is silent, and only then."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sensor_msgs.msg import Image

from flow_rag_vla.nodes import qos
from flow_rag_vla.nodes.listening import LONGEST_S, PERIODS, Listener, Silence

PATIENCE_S = 60.0


@given(st.lists(st.floats(0.001, 20.0), min_size=3, max_size=60), st.floats(0.2, 5.0))
def test_it_is_never_due_while_messages_come_at_any_pace_that_was_seen(gaps, limit):
    silence, now, longest = Silence(), gaps[0], gaps[0]
    silence.heard(0.0)
    silence.heard(now)
    for gap in gaps[1:]:
        gap = min(gap, max(limit, PERIODS * longest))
        for look in (0.3, 0.6, 0.999):
            assert not silence.due(now + look * gap, limit, published=True)
        now, longest = now + gap, max(gap, 0.98 * longest)
        silence.heard(now)


def test_a_publisher_that_stays_silent_is_tried_less_and_less_and_at_once_again_after_a_message():
    silence, limit = Silence(), 1.0
    tried = [now / 4 for now in range(4 * 600) if silence.due(now / 4, limit, published=True)]
    pauses = [after - before for before, after in itertools.pairwise(tried)]
    assert tried[0] == limit and pauses[:5] == [2.0, 4.0, 8.0, 16.0, 32.0] and set(pauses[5:]) == {LONGEST_S}
    silence.heard(600.0)
    assert not silence.due(600.9, limit, published=True) and silence.due(601.0, limit, published=True)


def test_a_slow_publisher_is_missed_after_some_of_its_own_periods_and_one_that_is_gone_never():
    silence = Silence()
    for now in (0.0, 10.0, 20.0):
        silence.heard(now)
    assert not silence.due(20.0 + 9.9 * PERIODS, 1.0, published=True)
    assert not silence.due(500.0, 1.0, published=False)
    assert not silence.due(501.0, 1.0, published=True), "it came back just now"
    assert silence.due(502.0, 1.0, published=True)


@pytest.mark.timeout(300)
def test_a_reader_that_went_deaf_hears_again_and_one_that_hears_is_left_alone(ros_node, spin_until):
    heard: list[Image] = []
    publisher = ros_node.create_publisher(Image, "pictures", qos.SENSOR)
    listener = Listener(ros_node, Image, "pictures", heard.append, qos.NEWEST, lambda: 1.0)
    spin_until(lambda: listener.made_anew == 1, PATIENCE_S, "a silent publisher to be noticed")
    sending = ros_node.create_timer(0.05, lambda: publisher.publish(Image(height=7)))
    spin_until(lambda: len(heard) > 10, PATIENCE_S, "messages")
    made = listener.made_anew
    spin_until(lambda: len(heard) > 60, PATIENCE_S, "more of them")
    assert listener.made_anew == made

    # Both ends go on knowing each other, and the middleware lets nothing through.
    listener._subscription.set_content_filter("height = %0", ["8"])
    spin_until(lambda: listener.made_anew > made, PATIENCE_S, "the deaf reader to be noticed")
    before = len(heard)
    spin_until(lambda: len(heard) > before + 10, PATIENCE_S, "messages again")
    assert publisher.get_subscription_count() == 1
    ros_node.destroy_timer(sending)
