# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The page yields to the loop, and costs nothing while nobody looks."""

import pytest

from flow_rag_vla.gateway.live.pace import BACK_OFF_S, HIGHEST, PATIENCE_S, Audience, Pace


def test_late_ticks_halve_the_rates_and_quiet_gives_them_back():
    pace = Pace(image_hz=4.0, data_hz=8.0)
    pace.report(3, now_s=0.0)
    assert pace.rates(0.0).level == 0, "what was late before it looked says nothing about now"
    pace.report(4, now_s=1.0)
    rates = pace.rates(1.0)
    assert (rates.image_hz, rates.data_hz, rates.level) == (2.0, 4.0, 1)
    pace.report(9, now_s=2.0)
    assert pace.rates(2.0).level == 2
    assert pace.rates(2.0 + BACK_OFF_S - 0.01).level == 2
    assert pace.rates(2.0 + BACK_OFF_S).level == 1
    assert pace.rates(2.0 + 2 * BACK_OFF_S).level == 0
    assert pace.rates(1e6).image_hz == 4.0


def test_other_rates_are_lowered_as_far_as_those_before():
    pace = Pace(image_hz=4.0, data_hz=8.0)
    pace.report(0, now_s=0.0)
    pace.report(1, now_s=1.0)
    pace.configure(image_hz=10.0, data_hz=20.0)
    rates = pace.rates(1.0)
    assert (rates.image_hz, rates.data_hz, rates.level) == (5.0, 10.0, 1)


def test_it_never_stops_entirely_and_a_restarted_loop_counts_anew():
    pace = Pace(image_hz=4.0, data_hz=8.0)
    for late in range(20):
        pace.report(late, now_s=1.0)
    assert pace.rates(1.0).level == HIGHEST
    assert pace.rates(1.0).data_hz == 1.0
    quiet = Pace(image_hz=4.0, data_hz=8.0)
    quiet.report(100, now_s=0.0)
    quiet.report(0, now_s=1.0)
    quiet.report(0, now_s=2.0)
    assert quiet.rates(2.0).level == 0


def test_a_page_counts_for_as_long_as_it_asks():
    audience = Audience()
    assert not audience.looking(0.0)
    viewer = audience.enter()
    assert viewer is not None
    assert not audience.looking(0.0), "a page that has asked for nothing looks at nothing"
    audience.looked(viewer, images=False, now_s=10.0)
    assert audience.looking(10.0 + PATIENCE_S - 0.1)
    assert not audience.looking_at_images(10.0)
    assert not audience.looking(10.0 + PATIENCE_S), "a hidden page asks for nothing"
    audience.looked(viewer, images=True, now_s=20.0)
    audience.looked(viewer, images=False, now_s=21.0)
    assert audience.looking_at_images(22.0)


def test_a_page_that_reloads_finds_what_it_left_and_one_that_is_closed_is_forgotten():
    audience = Audience()
    viewer = audience.enter()
    audience.looked(viewer, images=True, now_s=5.0)
    audience.leave(viewer)
    assert audience.size == 0
    assert audience.looking_at_images(5.0 + PATIENCE_S - 0.1)
    assert not audience.looking(5.0 + PATIENCE_S)


def test_there_is_room_for_so_many_pages_and_no_more():
    audience = Audience(capacity=2)
    first, second = audience.enter(), audience.enter()
    assert first != second
    assert audience.enter() is None
    audience.leave(first)
    assert audience.enter() not in (None, second)


@pytest.mark.parametrize("count", [1, 7])
def test_the_number_of_open_pages_is_known(count):
    audience = Audience()
    for _ in range(count):
        audience.enter()
    assert audience.size == count
