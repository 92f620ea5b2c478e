# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""When to ask: early enough that the answer is there before the steps to be followed are over, and no earlier."""

from __future__ import annotations

import math
from collections import deque

from flow_rag_vla.core.action import TICK_NS, TICK_S, ActionChunk

KEPT = 50
"""Answers over which the time that one takes is remembered."""

FIRST_GUESS_S = 0.1
"""Until an answer has come."""


class Schedule:
    """How long answers take, and whether it is time for the next.

    Seconds from asking to an answer, on whatever clock the caller measures them with.
    """

    def __init__(self, margin_s: float) -> None:
        """Aim at an answer ``margin_s`` seconds before it is needed."""
        self.margin_s = margin_s
        self._seconds: deque[float] = deque(maxlen=KEPT)

    def answered(self, seconds: float) -> None:
        """Take note of how long an answer took."""
        self._seconds.append(max(seconds, 0.0))

    @property
    def p95_s(self) -> float:
        """What 95 % of the last answers took at most, seconds."""
        if not self._seconds:
            return FIRST_GUESS_S
        ordered = sorted(self._seconds)
        return ordered[math.ceil(0.95 * len(ordered)) - 1]

    def due(self, chunk: ActionChunk | None, follow_s: float, now_ns: int, pace: float = 1.0) -> bool:
        """Whether to ask now.

        Args:
            chunk: the one being followed; None if there is none.
            follow_s: of the chunk's own time, how much of it is followed.
            now_ns: on the clock of the chunk's stamp.
            pace: rows that a tick plays, above 0 and at most 1.
        """
        if chunk is None or now_ns < chunk.stamp_ns:
            return True
        until_s = min(follow_s, chunk.horizon * TICK_S) / pace
        followed_s = (now_ns - chunk.stamp_ns) / TICK_NS * TICK_S
        return followed_s + self.p95_s + self.margin_s >= until_s
