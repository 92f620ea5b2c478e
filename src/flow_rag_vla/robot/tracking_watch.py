# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Notices an arm that does not go where it is told, and when that is a case for a person."""

from __future__ import annotations

from flow_rag_vla.robot.joint_feedback import SETTLED_NS

STUCK_AFTER, STUCK_WITHIN_NS = 3, 10_000_000_000
"""So many times in so many nanoseconds that the arm did not go where it was told are a case for a person. Once is,
where it is told speeds: nothing leads it back, and what it is told would go on while nobody sees that it moves."""


class TrackingWatch:
    """Holds an arm that lags too far, until it has been well inside its limit for a while.

    A threshold alone would let the arm be pushed in small steps. One that is held fast time and again is not pushed any
    more, until a person or a silence has ended it (``freed``). Times are nanoseconds of a steady clock.
    """

    def __init__(self, stuck_after: int) -> None:
        self._stuck_after = stuck_after
        self._lost: tuple[int, str] | None = None
        """When the arm was last seen to lag too far, and the sentence about it; None while it follows."""
        self._losses: tuple[int, ...] = ()
        """When it began to, each time within ``STUCK_WITHIN_NS``."""

    @property
    def _stuck(self) -> bool:
        return len(self._losses) >= self._stuck_after

    def freed(self) -> None:
        """Forget how often it was so: a person, or a silence, has ended it."""
        self._losses = ()

    def forget(self) -> None:
        """How far the arm lags is not known now; that it is a case for a person stays so."""
        if not self._stuck:
            self._lost = None

    def problem(self, share: float, said: str, now_ns: int) -> str | None:
        """Why an arm is held that is so far, as a share of its limit, from what it was told; None if it is not.

        said: the sentence about it, with values
        """
        if share > (1.0 if self._lost is None else 0.5):
            if self._lost is None:
                self._losses = (*(then for then in self._losses if now_ns - then < STUCK_WITHIN_NS), now_ns)
            if self._stuck:
                often = f"; that was so {len(self._losses)} times in {STUCK_WITHIN_NS / 1e9:g} s"
                said += (often if self._stuck_after > 1 else "") + (
                    ": free the arm, then press and reset the emergency stop"
                )
            self._lost = now_ns, said
        elif self._lost is not None and now_ns - self._lost[0] >= SETTLED_NS and not self._stuck:
            self._lost = None
        return None if self._lost is None else self._lost[1]
