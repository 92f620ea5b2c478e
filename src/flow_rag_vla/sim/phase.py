# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Keeps the ticks of a simulated robot between the commands that it follows.

Simulator and control loop each count 25 ms on a timer of their own. Should both happen to come due together, the
scheduler decides which of the two is first: one tick finds no new command, the next finds two, and the arm stands and
then jumps, which the wrist feels as a blow. A robot's servo drive answers this with a phase-locked loop to its fieldbus
(the distributed clocks of EtherCAT, IEC 61158-4-12); so does this.
"""

from __future__ import annotations

from flow_rag_vla.core.action import TICK_NS

WANTED_AGE_NS = TICK_NS // 2
"""How old a command should be when it is followed: as far from the one before as from the one after it."""
LOOP_GAIN = 0.05
"""Share of the error that one tick takes back: a single command that comes late hardly moves the ticks."""
MOST_SLEW_NS = 500_000
"""Nanoseconds by which a tick may be longer or shorter than 25 ms; half a period is made up within 0.7 s."""


def period_ns(age_ns: int) -> int:
    """Length of the tick that follows one whose command was ``age_ns`` nanoseconds old.

    A command older than a tick says that one is missing, not where they lie: the ticks go on as they are.
    """
    if not 0 <= age_ns < TICK_NS:
        return TICK_NS
    correction = LOOP_GAIN * (WANTED_AGE_NS - age_ns)
    return TICK_NS + int(max(-MOST_SLEW_NS, min(MOST_SLEW_NS, correction)))
