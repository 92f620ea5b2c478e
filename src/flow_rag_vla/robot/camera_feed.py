# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What one camera of an arm sends: whether the next image fits to the ones before, and how long nothing came."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from flow_rag_vla.robot.pictures import PictureError

_CLOCK_SET_NS = 1_000_000_000
"""A stamp so far before the last one is of a clock that was set back, not of an image that came late."""


@dataclass(frozen=True, slots=True)
class Calibration:
    """What a camera says of itself.

    width, height: of the full picture, pixels; 0: not said
    reduced: whether images are a part of it, or have fewer pixels
    numbers: every coefficient
    """

    width: int
    height: int
    reduced: bool
    numbers: Sequence[float]


class CameraFeed:
    """One camera's images, one after the other. Times are nanoseconds; those named ``now`` may be of two clocks."""

    def __init__(self, role: str, max_age_s: float) -> None:
        self.role = role
        self.max_age_s = max_age_s
        self.passed = self.refused = self.infos = 0
        self.age_s = 0.0
        self.size: tuple[int, int] | None = None
        self._stamp_ns = -1
        self._came_ns: int | None = None

    def check_stamp(self, stamp_ns: int, now_ns: int) -> None:
        """Whether an image of that stamp may be passed on.

        Args:
            stamp_ns: when it was taken, as its driver says.
            now_ns: on the clock that stamps are of.

        Raises:
            PictureError: if it is not stamped, too old, of the future, or not newer than the one before.
        """
        if stamp_ns <= 0:
            raise PictureError("an image without a stamp; have the driver stamp each with the time of its capture")
        age = (now_ns - stamp_ns) / 1e9
        if abs(age) > self.max_age_s:
            raise PictureError(
                f"an image stamped {age:.3f} s ago, limit {self.max_age_s:g} s; set the clocks of camera and computer "
                "alike (chrony), or look why the driver is late"
            )
        if 0 <= self._stamp_ns - stamp_ns < _CLOCK_SET_NS:
            raise PictureError(
                "an image that is not newer than the one before; look whether two drivers publish the same topic"
            )
        self.age_s = age

    def took(self, stamp_ns: int, size: tuple[int, int], now_ns: int) -> None:
        """An image was passed on.

        Args:
            stamp_ns: its stamp.
            size: its width and height, pixels.
            now_ns: on a steady clock.
        """
        self._stamp_ns, self.size, self._came_ns = stamp_ns, size, now_ns
        self.passed += 1

    def check_calibration(self, calibration: Calibration) -> None:
        """Whether it fits to the images; one of a camera that is not calibrated is all zeros, and fits.

        Raises:
            PictureError: if a number is not finite, or it is of another size than the images.
        """
        if not np.isfinite(np.asarray(calibration.numbers, dtype=np.float64)).all():
            raise PictureError("a camera info with a number that is not finite; calibrate the camera again")
        said = calibration.width, calibration.height
        if self.size is not None and 0 not in said and not calibration.reduced and said != self.size:
            raise PictureError(
                f"a camera info for {said[0]} x {said[1]} pixels, but the images have {self.size[0]} x {self.size[1]}; "
                "calibrate the camera at the size that its driver publishes"
            )

    def silence_s(self, now_ns: int) -> float | None:
        """Seconds since the last image that was passed on, on the steady clock; None: there was none."""
        return None if self._came_ns is None else (now_ns - self._came_ns) / 1e9


def lost_on_the_way(size: tuple[int, int] | None, room: int | None) -> str:
    """Why images as raw as that arrive seldom or never, with the remedy; empty if they arrive.

    A raw image comes in pieces that a socket must keep until they are taken; where one piece is lost the image is.

    Args:
        size: width and height, pixels, 3 bytes each; None: not known.
        room: bytes that a socket can keep; None: enough, or not known.
    """
    if size is None or room is None or 3 * size[0] * size[1] <= room:
        return ""
    return (
        f"images of {size[0]} x {size[1]} pixels ({3 * size[0] * size[1]} bytes raw) are lost where a socket keeps "
        f"{room}: {REMEDY}"
    )


REMEDY = "sysctl -w net.core.rmem_max=4194304, then start again"
"""For raw images that do not fit what a socket can keep."""


def why_no_image(
    role: str, topic: str, compressed: bool, published: Sequence[str], refused: int = 0, room: int | None = None
) -> str:
    """Why no image was passed on, in a phrase.

    Args:
        role: of the camera.
        topic: where its images are expected.
        compressed: whether the profile says that they are.
        published: types of those who publish there, such as ``sensor_msgs/msg/Image``.
        refused: how many came and were not passed on.
        room: bytes that a socket can keep; None: enough, or not known.
    """
    if refused:
        return f"every image of the {role} camera is refused, see last_refusal"
    if not published:
        return f"nobody publishes {topic}, the images of the {role} camera"
    packed, plain = "sensor_msgs/msg/CompressedImage", "sensor_msgs/msg/Image"
    if (packed if compressed else plain) in published:
        seen = f"no image of the {role} camera on {topic}"
        if compressed or room is None:
            return seen
        return f"{seen}; if they are raw and larger than {room} bytes: {REMEDY}"
    if (other := plain if compressed else packed) in published:
        said = str(not compressed).lower()
        return f"{topic} carries {other}: write compressed: {said} for the {role} camera in the profile"
    return f"{topic} carries {', '.join(sorted(set(published)))}, no images of the {role} camera"
