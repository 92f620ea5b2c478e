# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Quality of service, by what a topic carries."""

from __future__ import annotations

from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy

from flow_rag_vla.core.action import TICK_S

SENSOR = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=5,
    reliability=ReliabilityPolicy.BEST_EFFORT,
    durability=DurabilityPolicy.VOLATILE,
)
"""Images, embeddings, robot state: the newest matters, an old one does not."""

NEWEST = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=ReliabilityPolicy.BEST_EFFORT,
    durability=DurabilityPolicy.VOLATILE,
)
"""The reading side of a sensor whose older samples are of no use once a newer one is there."""

LAST_SECOND = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=40,
    reliability=ReliabilityPolicy.BEST_EFFORT,
    durability=DurabilityPolicy.VOLATILE,
)
"""The reading side of a sensor of 40 Hz that is looked at more rarely: by what was newest at a stamp."""

PLAN = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=5, reliability=ReliabilityPolicy.RELIABLE)
"""Chunks and corrections."""

EVENT = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=100, reliability=ReliabilityPolicy.RELIABLE)
"""Failures: none may be lost."""

STATE = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=1,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
"""What a latecomer must know at once: episode status, statistics, emergency stop."""


def command_profile(period_s: float) -> QoSProfile:
    """Commands: one at a time, dead after two periods so that a stale one never moves a robot."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=1,
        reliability=ReliabilityPolicy.RELIABLE,
        deadline=Duration(nanoseconds=int(4 * period_s * 1e9)),
        lifespan=Duration(nanoseconds=int(2 * period_s * 1e9)),
    )


def takeover_profile(period_s: float) -> QoSProfile:
    """What a person asks for: the newest counts, and one that was on its way for too long is dropped on it."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=1,
        reliability=ReliabilityPolicy.RELIABLE,
        deadline=Duration(nanoseconds=int(4 * period_s * 1e9)),
        lifespan=Duration(nanoseconds=int(4 * period_s * 1e9)),
    )


def by_name(name: str) -> QoSProfile:
    """The profile that ``bringup.endpoints`` calls by this name; that of a command for one; else reliable, last 10."""
    known = {"SENSOR": SENSOR, "PLAN": PLAN, "EVENT": EVENT, "STATE": STATE, "command": command_profile(TICK_S)}
    return known.get(name, QoSProfile(depth=10))
