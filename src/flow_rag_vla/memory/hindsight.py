# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Where the target was, as a hand knows it that has closed on it; and so by how much the policy had misread it.

On a robot nobody knows where things are, and a policy that misreads a place does not know it either. But a person who
takes over and grasps says it: the target was where the hand closed. What the policy read of the target on the way
there, beside where it was, is a misreading that nobody had to measure.

Before the takeover the same holds only as long as the target lay where it was grasped, and failed attempts push it. But
a place that is misread today is misread in the same way tomorrow. So an equal reading is an equal place: of the
situations before, those count in which the policy read the target where it read it during the person's approach. And
where the target lay before the hand first closed, is what was read of it just before, and what such readings, as far
ahead of the tool, lacked in the person's approach.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from flow_rag_vla.core.action import CLOSED_BELOW, GRIPPER
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

LAST_LOOKS = 3
"""Looks before the hand first closed from which the first place is told: there the readings are best."""

MISREAD_WIDTH = 0.03
"""Metres: how alike, in where the target is ahead of the tool, two looks must be to be misread alike. The first place
is then told to 11 mm where the policy read it 20 to 27 beside (medians in the practice above)."""


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
    closing = takeover.actions[:, GRIPPER] < CLOSED_BELOW
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


def explained(
    situations: Iterable[Situation],
    grasp: Grasp,
    taken_over_ns: int,
    tool: Callable[[int], Array | None],
    closed_ns: int | None = None,
) -> list[Situation]:
    """The situations of which the grasp says by how much the target was misread in them, each with its misreading.

    Args:
        situations: of the episode, oldest first.
        grasp: of the person.
        taken_over_ns: when they took the robot over.
        tool: as for :func:`grasp_of`.
        closed_ns: when the hand closed for the first time, before they did; None if it did not, or nobody knows.
    """
    free = [
        look
        for item in situations
        if item.stamp_ns <= grasp.closed_ns and item.phase != Phase.TRANSPORT.value
        if (look := _look(item, tool)) is not None
    ]
    approach = [look for look in free if look.situation.stamp_ns >= taken_over_ns]
    if not approach:
        return []
    there = np.median(np.stack([look.read for look in approach]), axis=0)
    untouched = [
        look for look in free if closed_ns is not None and look.situation.stamp_ns <= closed_ns < taken_over_ns
    ]
    first = _lay_at_first(untouched, approach, grasp.place)
    found = []
    for look in free:
        place = grasp.place
        if look.situation.stamp_ns < taken_over_ns:
            if first is not None and closed_ns is not None and look.situation.stamp_ns <= closed_ns:
                place = first
            elif float(np.linalg.norm((look.read - there)[:2])) > SAME_PLACE:
                continue
        misreading = np.asarray(place - look.read, dtype=np.float32)
        if float(np.linalg.norm(misreading)) <= FARTHEST_SHIFT:
            found.append(replace(look.situation, misreading=misreading))
    return found


@dataclass(frozen=True, slots=True)
class _Look:
    """A situation, where the target was read in it and how far from the tool that is, (3,) metres, base axes."""

    situation: Situation
    read: Array
    ahead: Array


def _look(item: Situation, tool: Callable[[int], Array | None]) -> _Look | None:
    place = tool(item.stamp_ns)
    if item.read is None or place is None:
        return None
    read = np.asarray(item.read(), dtype=np.float32)
    return _Look(item, read, read - np.asarray(place, dtype=np.float32))


def _lay_at_first(untouched: Sequence[_Look], approach: Sequence[_Look], place: Array) -> Array | None:
    """(3,) where the target lay before anything touched it; None if too little was seen of it then."""
    if len(untouched) < LAST_LOOKS:
        return None
    ahead = np.stack([look.ahead for look in approach])
    misread = place - np.stack([look.read for look in approach])
    places = []
    for look in untouched[-LAST_LOOKS:]:
        weights = np.exp(-np.square(ahead - look.ahead).sum(axis=1) / (2.0 * MISREAD_WIDTH**2)) + 1e-9
        places.append(look.read + weights @ misread / weights.sum())
    return np.asarray(np.median(np.stack(places), axis=0), dtype=np.float32)
