# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""When a message left, on the steady clock, from a stamp of a system clock that is set meanwhile."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

SET_NS = 50_000_000
"""A system clock that went so far beside the steady one was set; less is an interruption between two readings."""

_REIGNS = 4
"""Settings of the clock that are remembered: one that is set and set back, and what may still be under way from
before."""


@dataclass(slots=True)
class _Reign:
    """How far the system clock was ahead, and when that was first and last seen, steady."""

    ahead_ns: int
    first_ns: int
    last_ns: int


class SendingTimes:
    """Takes stamps back to the steady clock, also of messages that were under way while the clock was set.

    What was sent between the last look at one setting and the first at the next may have been stamped with either.
    Where both are possible the later moment is taken: a silence is then never told shorter than it may have been.
    """

    def __init__(self) -> None:
        self._reigns: deque[_Reign] = deque(maxlen=_REIGNS)

    def sent_ns(self, stamp_ns: int | None, now_ns: int, ahead_ns: int, after_ns: int = 0) -> int:
        """When a message left, steady; now, where its stamp says nothing.

        Args:
            stamp_ns: of the sender's system clock.
            now_ns: steady time.
            ahead_ns: how far the system clock is ahead of it now.
            after_ns: steady time after which it must have left, such as that of the one before it.
        """
        self.look(now_ns, ahead_ns)
        if not stamp_ns:
            return now_ns
        found = [
            stamp_ns - reign.ahead_ns
            for place, reign in enumerate(self._reigns)
            if self._possible(place, stamp_ns - reign.ahead_ns, now_ns)
        ]
        return max((sent for sent in found if sent > after_ns), default=now_ns)

    def look(self, now_ns: int, ahead_ns: int) -> None:
        """Note how far the system clock is ahead; the oftener, the less is unknown about when it was set."""
        if self._reigns and abs(ahead_ns - self._reigns[-1].ahead_ns) < SET_NS:
            self._reigns[-1].ahead_ns, self._reigns[-1].last_ns = ahead_ns, now_ns
        else:
            self._reigns.append(_Reign(ahead_ns, now_ns, now_ns))

    def _possible(self, place: int, sent_ns: int, now_ns: int) -> bool:
        """Whether a setting may have held at a moment."""
        begun = self._reigns[place - 1].last_ns if place else 0
        ended = self._reigns[place + 1].first_ns if place + 1 < len(self._reigns) else now_ns
        return begun <= sent_ns <= ended
