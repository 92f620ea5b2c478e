# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Which of the commands that arrive an arm may follow: the newest of one controller, none past an emergency stop."""

from __future__ import annotations

from enum import Enum


class Admission(Enum):
    """What becomes of a command."""

    FOLLOWED = "followed"
    STOPS = "an emergency stop: the arm is held"
    PASSED_OVER = "an emergency stop is in force"
    REFUSED = "refused"


class CommandGate:
    """Lets commands through.

    Of two controllers, as two graphs in one domain have, the one whose tick count is higher is followed until it falls
    silent, never both in turns: each would pull the arm to its own target. An emergency stop of either holds.

    Args:
        timeout_s: how old a command may be, and after how long a silence another controller, or one that was started
            again and counts anew, is followed.
    """

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._asking: set[bytes] = set()
        """Who asks for an emergency stop that no controller has latched yet."""
        self._tick: int | None = None
        self._followed_ns = 0
        self._stopped_ns: int | None = None

    def stop(self, asked: bool, sender: bytes = b"") -> None:
        """Take what somebody says on the topic of the emergency stop.

        A stop counts until a controller has latched it itself, or until the one who asked for it takes it back: others,
        who may say many times a second that they ask for none, do not.

        Args:
            asked: whether the stop is asked for, or taken back.
            sender: id of the one who says it; empty where the middleware tells none.
        """
        (self._asking.add if asked else self._asking.discard)(sender)

    def admit(self, tick: int, stamp_ns: int, emergency: bool, clock_ns: int, steady_ns: int) -> tuple[Admission, str]:
        """What becomes of a command, and why if it is refused.

        Args:
            tick: which of its controller's it is.
            stamp_ns: when it was made.
            emergency: whether it says that the emergency stop is latched.
            clock_ns: now, on the clock that stamps are of.
            steady_ns: now, on a steady clock.
        """
        age = (clock_ns - stamp_ns) / 1e9
        if abs(age) > self._timeout_s:
            text = f"command {tick} refused: stamped {age:.3f} s ago, limit {self._timeout_s:g} s"
            return Admission.REFUSED, text
        if emergency:
            # From here on the controller latches it.
            self._asking.clear()
            self._stopped_ns = steady_ns
        heard = self._tick is not None and self._recent(self._followed_ns, steady_ns)
        if heard and self._tick is not None and tick <= self._tick:
            if emergency:
                return Admission.STOPS, ""
            text = f"command {tick} refused: it came after {self._tick}; look whether a second controller publishes"
            return Admission.REFUSED, text
        self._tick, self._followed_ns = tick, steady_ns
        if emergency:
            return Admission.STOPS, ""
        # One controller's stop must hold although another goes on.
        if self._asking or (self._stopped_ns is not None and self._recent(self._stopped_ns, steady_ns)):
            return Admission.PASSED_OVER, ""
        return Admission.FOLLOWED, ""

    def _recent(self, then_ns: int, now_ns: int) -> bool:
        return now_ns - then_ns <= self._timeout_s * 1e9
