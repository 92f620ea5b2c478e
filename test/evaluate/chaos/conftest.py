# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Commands of a robot that does everything right, to be bent by tests."""

from __future__ import annotations

import dataclasses

import pytest

from flow_rag_vla.evaluate.chaos.watch import FOLLOW, PERIOD_NS, CommandLimits, CommandSample, CommandWatch

LIMITS = CommandLimits(0.012, 0.06, 0.006, (0.25, -0.4, 0.005), (0.75, 0.4, 0.6), 0.08, 0.04, 600.0)


@pytest.fixture
def watch():
    """A watch with the limits of the shipped arm."""
    return CommandWatch(LIMITS)


@pytest.fixture
def stream():
    """``stream(10, x=0.001)``: ten commands, a period apart, each 1 mm further along x; other fields by name."""

    def make(count, x=0.0, first=1, start_ns=1_000_000_000, **fields):
        at = [start_ns + PERIOD_NS * number for number in range(count)]
        sample = CommandSample(0, 0, 0, FOLLOW, 0, "", (0.0, 0.0, 0.0), (1.0, 0.0, 0.0, 0.0), 0.04, 0, 5, 80.0)
        return [
            dataclasses.replace(
                sample,
                **{
                    "sent_ns": now,
                    "received_ns": now,
                    "tick": first + number,
                    "position": (0.5 + x * number, 0.0, 0.3),
                    **fields,
                },
            )
            for number, now in enumerate(at)
        ]

    return make
