# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What the fingers say: whether the hand is open, closing, closed on nothing, or holding something."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass

from flow_rag_vla.core.action import CLOSED_BELOW


@dataclass(frozen=True, slots=True)
class GripLimits:
    """How widths and efforts are read. Measured in the simulator; see ``failure/README.md``."""

    empty_width: float = 0.012
    """Metres. Fingers nearer than this hold nothing that the robot is meant to grasp."""
    hold_effort: float = 2.0
    """Newtons. Fingers that press less than this hold nothing, however far apart they are."""
    settle_time: float = 0.15
    """Seconds after a closing command before the fingers may count as settled."""
    settle_window: float = 0.075
    """Seconds over which settled fingers keep still."""
    settle_change: float = 0.0015
    """Metres. Settled fingers close by no more than this within the window, nor open unless they press."""
    effort_window: float = 0.1
    """Seconds of weak effort after which a hold counts as lost."""
    firm_change: float = 0.004
    """Metres by which the fingers may close on something soft or turning before the hold is in doubt."""


@dataclass(frozen=True, slots=True)
class Grip:
    """The hand at one instant.

    closing: whether the hand is told to close; command_ns: since when it is told the present thing
    settled: fingers still, under a closing command; holding: settled on something, and still pressing
    lost: the hold ended without an opening command; kept until the hand is told to open
    hold_ns, hold_width: when the present or lost hold began (0: none), and the width then, metres
    firm_ns: when that hold was last beyond doubt: pressing, at about its width
    """

    closing: bool
    command_ns: int
    settled: bool
    holding: bool
    lost: bool
    hold_ns: int
    hold_width: float
    firm_ns: int
    width: float
    effort: float

    @property
    def held_s(self) -> float:
        """Seconds for which the present or lost hold was firm."""
        return (self.firm_ns - self.hold_ns) * 1e-9


class GripTracker:
    """Follows the hand from sample to sample."""

    def __init__(self, limits: GripLimits | None = None) -> None:
        self.limits = limits or GripLimits()
        self._widths: deque[tuple[int, float]] = deque()
        self.reset()

    def reset(self) -> None:
        """Forget everything: the next sample is the first."""
        self._widths.clear()
        self._closing: bool | None = None
        self._command_ns = 0
        self._settled = self._holding = self._lost = False
        self._hold_ns = 0
        self._hold_width = 0.0
        self._weak_ns = self._firm_ns = 0

    def update(self, stamp_ns: int, width: float, effort: float, opening: float) -> Grip:
        """Take one sample in.

        Args:
            stamp_ns: time of the sample, not before the last one.
            width: metres between the fingertips.
            effort: newtons, positive squeezes.
            opening: commanded opening, 0 (closed) to 1 (open). NaN (no command yet): the last one holds.
        """
        self._follow_command(stamp_ns, opening)
        self._remember(stamp_ns, width)
        if self._closing:
            self._follow_hold(stamp_ns, width, effort)
        return Grip(
            bool(self._closing),
            self._command_ns,
            self._settled,
            self._holding,
            self._lost,
            self._hold_ns,
            self._hold_width,
            self._firm_ns,
            width,
            effort,
        )

    def _follow_command(self, stamp_ns: int, opening: float) -> None:
        closing = bool(self._closing) if math.isnan(opening) else opening < CLOSED_BELOW
        if closing == self._closing:
            return
        self._closing = closing
        self._command_ns = stamp_ns
        self._settled = self._holding = self._lost = False
        self._hold_ns, self._hold_width, self._weak_ns, self._firm_ns = 0, 0.0, 0, 0

    def _remember(self, stamp_ns: int, width: float) -> None:
        self._widths.append((stamp_ns, width))
        oldest = stamp_ns - int(self.limits.settle_window * 1e9)
        # One sample beyond the window stays, so that the window is covered whole.
        while len(self._widths) > 2 and self._widths[1][0] <= oldest:
            self._widths.popleft()

    def _follow_hold(self, stamp_ns: int, width: float, effort: float) -> None:
        limits = self.limits
        weak = effort < limits.hold_effort
        if not self._settled and (stamp_ns - self._command_ns) * 1e-9 >= limits.settle_time:
            widths = [value for _, value in self._widths]
            # What is held may turn between the fingers and spread them; only closing fingers are still under way.
            moved = max(widths) - (min(widths) if weak else width)
            self._settled = moved <= limits.settle_change
        if self._holding:
            self._weak_ns = (self._weak_ns or stamp_ns) if weak else 0
            faded = self._weak_ns and (stamp_ns - self._weak_ns) * 1e-9 >= limits.effort_window
            if width < limits.empty_width or faded:
                self._holding, self._lost = False, True
            elif not weak and width > self._hold_width - limits.firm_change:
                self._firm_ns = stamp_ns
        elif self._settled and not self._lost and width >= limits.empty_width and not weak:
            self._holding = True
            self._hold_ns, self._hold_width, self._weak_ns, self._firm_ns = stamp_ns, width, 0, stamp_ns
