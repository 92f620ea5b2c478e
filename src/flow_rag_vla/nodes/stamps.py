# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Stamps between ROS messages and integer nanoseconds."""

from __future__ import annotations

from builtin_interfaces.msg import Time


def to_ns(stamp: Time) -> int:
    """Nanoseconds since the epoch of the clock that made the stamp."""
    return int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec)


def to_stamp(ns: int) -> Time:
    """The message form of integer nanoseconds."""
    seconds, nanoseconds = divmod(int(ns), 1_000_000_000)
    return Time(sec=seconds, nanosec=nanoseconds)
