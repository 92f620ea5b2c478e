# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Which images of a camera are passed on, by their stamps and by what comes with them."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.robot.camera_feed import Calibration, CameraFeed, lost_on_the_way, why_no_image
from flow_rag_vla.robot.pictures import PictureError

S = 1_000_000_000
NOW = 1_700_000_000 * S


def passes(feed: CameraFeed, stamp_ns: int, now_ns: int = NOW) -> bool:
    """Whether an image of that stamp is passed on; if so, it is."""
    try:
        feed.check_stamp(stamp_ns, now_ns)
    except PictureError:
        return False
    feed.took(stamp_ns, (224, 224), now_ns)
    return True


@pytest.mark.parametrize(
    ("stamp_ns", "said"),
    [
        (0, "without a stamp"),
        (NOW - int(0.6 * S), "stamped 0.600 s ago, limit 0.5 s"),
        (NOW + int(0.6 * S), "stamped -0.600 s ago"),
        (NOW - int(0.1 * S), "not newer than the one before"),
        (NOW - int(0.2 * S), "not newer than the one before"),
    ],
)
def test_an_image_of_a_wrong_time_is_refused_by_name_and_the_next_good_one_is_not(stamp_ns, said):
    feed = CameraFeed("front", 0.5)
    assert passes(feed, NOW - int(0.1 * S))
    with pytest.raises(PictureError, match=said):
        feed.check_stamp(stamp_ns, NOW)
    assert passes(feed, NOW) and feed.passed == 2


def test_after_a_clock_that_was_set_back_images_go_on():
    feed = CameraFeed("front", 0.5)
    assert passes(feed, NOW)
    assert passes(feed, NOW - 3600 * S, NOW - 3600 * S)


@given(st.lists(st.tuples(st.integers(-3 * S, 3 * S), st.integers(-3 * S, 3 * S)), max_size=30))
def test_what_is_passed_on_is_fresh_and_in_order_unless_a_clock_was_set(times):
    feed, last = CameraFeed("wrist", 0.5), None
    for offset, lead in times:
        now = NOW + offset
        if passes(feed, now + lead, now):
            assert abs(lead) <= S // 2
            assert last is None or now + lead > last or last - now - lead >= S
            last = now + lead


def calibration(width=224, height=224, *, reduced=False, number=1.0) -> Calibration:
    """A camera info of a pinhole, or one with a number of one's own in it."""
    return Calibration(width, height, reduced, [number, 0.0, 112.0, 0.0, 1.0])


def test_a_calibration_of_another_size_or_of_no_numbers_is_refused():
    feed = CameraFeed("front", 0.5)
    feed.check_calibration(calibration(640, 480))
    assert passes(feed, NOW)
    feed.check_calibration(calibration())
    feed.check_calibration(calibration(0, 0, number=0.0))
    feed.check_calibration(calibration(448, 448, reduced=True))
    with pytest.raises(PictureError, match="640 x 480 pixels, but the images have 224 x 224"):
        feed.check_calibration(calibration(640, 480))
    for number in (math.nan, math.inf):
        with pytest.raises(PictureError, match="not finite"):
            feed.check_calibration(calibration(number=number))


def test_a_camera_is_silent_from_its_last_image_on():
    feed = CameraFeed("front", 0.5)
    assert feed.silence_s(NOW) is None
    assert passes(feed, NOW) and not passes(feed, NOW - S)
    assert feed.silence_s(NOW + 3 * S) == 3.0


PLAIN, PACKED = "sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage"


@pytest.mark.parametrize(
    ("compressed", "published", "said"),
    [
        (False, [], "nobody publishes /front"),
        (False, [PLAIN], "no image of the wrist camera on /front"),
        (True, [PLAIN, PACKED], "no image of the wrist camera on /front"),
        (False, [PACKED], "write compressed: true for the wrist camera"),
        (True, [PLAIN], "write compressed: false for the wrist camera"),
        (True, ["std_msgs/msg/String"], "/front carries std_msgs/msg/String, no images"),
    ],
)
def test_that_no_image_comes_is_said_with_what_to_change(compressed, published, said):
    assert said in why_no_image("wrist", "/front", compressed, published)
    assert "is refused" in why_no_image("wrist", "/front", compressed, published, refused=3)


def test_raw_images_that_no_socket_can_keep_are_named_with_the_remedy():
    assert "rmem_max" in why_no_image("wrist", "/front", False, [PLAIN], room=425_984)
    assert "rmem_max" not in why_no_image("wrist", "/front", False, [PLAIN])
    assert "rmem_max" not in why_no_image("wrist", "/front", True, [PACKED], room=425_984)
    said = lost_on_the_way((640, 480), 425_984)
    assert "640 x 480" in said and "921600" in said and "425984" in said and "sysctl -w net.core.rmem_max=" in said
    assert not lost_on_the_way((224, 224), 425_984)
    assert not lost_on_the_way((640, 480), None) and not lost_on_the_way(None, 425_984)
