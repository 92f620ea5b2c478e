# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""How fast a plan is played: the same path at a share of its speed.

A robot that is asked to be careful must not cut corners, so its plan is not clipped: it is stretched in time. At a pace
of 0.5 a tick plays half a row of the chunk, and the rows add up to the motion that was planned. Steps between ticks
then keep within the pace's share of every speed limit, and their changes within its share of the limit on change, if
the chunk keeps within the whole ones (the mean of a step function over a window no longer than one step changes by at
most one of its jumps).
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.action import MOTION, TICK_NS, ActionChunk


def invalid_pace(pace: float) -> str | None:
    """Say what is wrong with a share of the speed, or None. Above 0 and at most 1 is valid."""
    if math.isfinite(pace) and 0.0 < pace <= 1.0:
        return None
    return f"speed scale is {pace:g}, expected above 0 and at most 1"


def pace_of(slowdown: float) -> float:
    """The pace that an episode status' ``slowdown`` leaves; 1 where that makes no sense, and nobody follows it."""
    pace = 1.0 - slowdown
    return pace if invalid_pace(pace) is None else 1.0


CHANGES_KEPT = 32
"""Falls of the pace that are told apart. A person who turns it down in more steps within the age of one chunk has the
oldest of them counted as one."""


class Pace:
    """The pace in force, and how many rows of a chunk it has played since the chunk's observation.

    It only falls, until it is begun anew: of all who ask, the one who asks for the least speed is obeyed. Times are
    nanoseconds of the node's clock.
    """

    def __init__(self) -> None:
        self.value = 1.0
        self._ended: deque[tuple[int, float]] = deque(maxlen=CHANGES_KEPT)
        """Until when which pace was in force, oldest first; the first one is taken for all the time before it too."""

    def begin(self, pace: float) -> None:
        """Begin anew at a pace above 0 and at most 1, taken to have been in force all the time before, too."""
        self.value = pace
        self._ended.clear()

    def lower(self, pace: float, now_ns: int) -> bool:
        """Go on at a lower pace; give whether it was lower. Rows already played stay played."""
        if pace >= self.value:
            return False
        self._ended.append((now_ns, self.value))
        self.value = pace
        return True

    def rows(self, stamp_ns: int, now_ns: int) -> float:
        """Rows played between two moments; whole ones at full pace, as many as ticks have begun. At least 0."""
        if self.value == 1.0:
            return max(0, (now_ns - stamp_ns) // TICK_NS)
        played_ns, begin_ns = 0.0, stamp_ns
        for end_ns, pace in self._ended:
            played_ns += pace * max(0, min(end_ns, now_ns) - begin_ns)
            begin_ns = max(begin_ns, end_ns)
        return (played_ns + self.value * max(0, now_ns - begin_ns)) / TICK_NS


def played(actions: NDArray[np.float32], begin: float, pace: float) -> NDArray[np.floating]:
    """(7,): the motion of one tick that plays rows ``begin`` to ``begin + pace`` of a chunk.

    Args:
        actions: (H, 7), as of ``ActionChunk``.
        begin: from 0, below H.
        pace: rows a tick, above 0 and at most 1. What lies behind the last row is rest.
    """
    row = int(begin)
    whole: NDArray[np.floating] = actions[row]
    if pace == 1.0:
        return whole
    result: NDArray[np.float64] = whole.astype(np.float64)
    share = min(pace, row + 1 - begin)
    result[MOTION] *= share
    if share < pace and row + 1 < actions.shape[0]:
        result[MOTION] += (pace - share) * actions[row + 1, MOTION].astype(np.float64)
    # The hand is told a place, not a motion: it is never played by halves.
    return result


def carried(previous: ActionChunk | None, stamp_ns: int, pace: float) -> ActionChunk | None:
    """The chunk before as the next one goes on from it: rows from those on that are played at an observation's stamp.

    At full pace a policy finds them by the stamps alone, and it is given back as it is.
    """
    if previous is None or pace == 1.0 or stamp_ns < previous.stamp_ns:
        return previous
    passed = round(pace * (stamp_ns - previous.stamp_ns) / TICK_NS)
    return replace(previous, stamp_ns=stamp_ns, actions=previous.actions[passed:])
