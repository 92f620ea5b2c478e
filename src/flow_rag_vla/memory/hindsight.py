"""Where the target was, as a hand knows it that has closed on it; and so by how much the policy had misread it.

On a robot nobody knows where things are, and a policy that misreads a place does not know it either. But a person who
takes over and grasps says it: the target was where the hand closed. What the policy read of the target on the way
there, beside where it was, is a misreading that nobody had to measure.

Before the takeover the same holds only as long as the target lay where it was grasped, and failed attempts push it. So
of the situations before, those count in which the policy read the target where it read it during the person's approach:
a place that is misread today is misread in the same way tomorrow, so an equal reading is an equal place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from flow_rag_vla.core.correction import FARTHEST_SHIFT
from flow_rag_vla.core.phase import Phase
from flow_rag_vla.memory.case import Array
from flow_rag_vla.memory.lesson import Situation
from flow_rag_vla.memory.takeover import Takeover

SETTLED_NS = 150_000_000
"""From the command to close until the hand stands where it grasps; by then it has not been lifted yet."""

SAME_PLACE = 0.010
"""Metres along the table by which two readings of a target that lies still differ. In practice with pick_and_place
behind its held-out strip the grasp then tells the place of half of the situations before to 2 mm, of 90 % to 14."""

CLOSED_BELOW = 0.5
"""A commanded opening (0 to 1) below this means: close."""


@dataclass(frozen=True, slots=True)
class Grasp:
    """The hand closed on something and carried it. closed_ns: when it was told to; place: (3,) metres, base axes."""

    closed_ns: int
    place: Array


def grasp_of(
    takeover: Takeover, phases: Sequence[tuple[int, str]], tool: Callable[[int], Array | None]
) -> Grasp | None:
    """The first grasp of a takeover: the hand closes, holds, and carries what it holds; None if there is none.

    A hand that was closed when the person took over held something already, or nothing, and says no place.

    Args:
        takeover: what was commanded.
        phases: stamps and phases of the episode, oldest first.
        tool: where the tool was at a stamp, (3,) metres in the base frame; None where that is not known.
    """
    closing = takeover.actions[:, 6] < CLOSED_BELOW
    for row in np.flatnonzero(closing[1:] & ~closing[:-1]) + 1:
        closed_ns = int(takeover.stamps_ns[row])
        opened = np.flatnonzero(~closing[row:])
        until_ns = int(takeover.stamps_ns[row + opened[0]]) if len(opened) else takeover.end_ns
        during = [phase for stamp_ns, phase in phases if closed_ns <= stamp_ns <= until_ns]
        # Pushing is low with a closed hand, and called transport as well; nothing is grasped there before.
        if Phase.GRASP.value not in during or Phase.TRANSPORT.value not in during:
            continue
        place = tool(closed_ns + SETTLED_NS)
        if place is not None:
            return Grasp(closed_ns, np.asarray(place, dtype=np.float32))
    return None


def explained(situations: Iterable[Situation], grasp: Grasp, taken_over_ns: int) -> list[Situation]:
    """The situations of which the grasp says by how much the target was misread in them, each with its misreading.

    Args:
        situations: of the episode, oldest first.
        grasp: of the person.
        taken_over_ns: when they took the robot over.
    """
    free = [
        (item, np.asarray(item.read(), dtype=np.float32))
        for item in situations
        if item.read is not None and item.stamp_ns <= grasp.closed_ns and item.phase != Phase.TRANSPORT.value
    ]
    approach = [read for item, read in free if item.stamp_ns >= taken_over_ns]
    if not approach:
        return []
    there = np.median(np.stack(approach), axis=0)
    found = []
    for item, read in free:
        if item.stamp_ns < taken_over_ns and float(np.linalg.norm((read - there)[:2])) > SAME_PLACE:
            continue
        misreading = grasp.place - read
        if float(np.linalg.norm(misreading)) <= FARTHEST_SHIFT:
            found.append(replace(item, misreading=misreading))
    return found
