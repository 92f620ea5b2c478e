# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A person at the controls: who has the robot, what they ask for, and whether they are still heard.

From the first active request on the robot belongs to its person, until that person says that it is released. A stream
that falls silent is no release: the loop then holds for a named reason, and a new active request goes on. After an
emergency stop was reset the person must first let go of the controls: what they were still deflected to when somebody
reset it must not move the robot.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.action import ACTION_DIM, GRIPPER, MOTION, TICK_S, Provenance

AT_REST = 1e-3
"""Metres and radians per second below which the controls count as let go of: sticks seldom rest at zero exactly."""

HUMAN = "human"
"""The policy that the provenance of a person's commands names; its revision is the person's name."""


@dataclass(frozen=True, slots=True)
class TakeoverRequest:
    """What a person asks for.

    stamp_ns: node clock; 0: not stamped, it counts from its arrival
    velocity: (6,) float64, metres and radians per second, base frame; gripper: 0 to 1, below 0: as it is
    """

    stamp_ns: int
    person: str
    active: bool
    velocity: NDArray[np.float64]
    gripper: float = -1.0


class TakeoverRefusal(str, Enum):
    """Why a request was not taken."""

    INVALID = "invalid"
    FUTURE = "from the future"
    TOO_OLD = "too old"
    OLDER = "older than the one before"
    OTHER_PERSON = "another person has the robot"


class Takeover:
    """Keeps the newest request of the person who has the robot."""

    def __init__(self, max_age_ns: int, future_tolerance_ns: int) -> None:
        self.max_age_ns, self.future_tolerance_ns = max_age_ns, future_tolerance_ns
        self.taken = 0
        """How often a person took the robot."""
        self.refused: Counter[TakeoverRefusal] = Counter()
        self.person = ""
        self.provenance = Provenance()
        self._held = False
        self._to_let_go = False
        self._request: TakeoverRequest | None = None
        self._arrival_ns = self._age_on_arrival_ns = 0
        self._newest_ns: int | None = None

    @property
    def held(self) -> bool:
        """Whether a person has the robot, heard or not."""
        return self._held

    @property
    def to_let_go(self) -> bool:
        """Whether the person must let go of the controls before anything is followed."""
        return self._to_let_go

    def wait_for_rest(self) -> None:
        """Follow nothing that a person asks for until they have let go of the controls once."""
        self._to_let_go = self._held

    @property
    def arrival_steady_ns(self) -> int | None:
        """When the newest active request came; None if there is none."""
        return None if self._request is None else self._arrival_ns

    def age_ns(self, steady_ns: int) -> int:
        """Age of the newest active request, its growth measured on the steady clock."""
        return self._age_on_arrival_ns + steady_ns - self._arrival_ns

    def heard(self, steady_ns: int) -> bool:
        """Whether the newest active request is young enough to be followed."""
        return self._request is not None and self.age_ns(steady_ns) <= self.max_age_ns

    def clock_jumped(self) -> None:
        """Forget the request: its stamp means nothing any more. Whose the robot is stays."""
        self._request = self._newest_ns = None

    def offer(self, request: TakeoverRequest, now_ns: int, steady_ns: int) -> tuple[TakeoverRefusal, str] | None:
        """Take a request (None), or say why not."""
        refused = self._refusal(request, now_ns)
        if refused is not None:
            self.refused[refused[0]] += 1
            return refused
        if request.stamp_ns:
            self._newest_ns = request.stamp_ns
        if not request.active:
            self._held, self._to_let_go, self._request = False, False, None
            return None
        if np.linalg.norm(request.velocity) < AT_REST:
            self._to_let_go = False
        if not self._held:
            self._held, self.person = True, request.person
            self.taken += 1
        self._request, self._arrival_ns = request, steady_ns
        self._age_on_arrival_ns = max(0, now_ns - request.stamp_ns) if request.stamp_ns else 0
        self.provenance = Provenance(request.stamp_ns or now_ns, HUMAN, request.person)
        return None

    def action(self, opening: float) -> NDArray[np.float64]:
        """Action (7,) of one tick, zero without a request; ``opening`` is the gripper's where the person leaves it."""
        action = np.zeros(ACTION_DIM)
        action[GRIPPER] = opening
        request = self._request
        if request is not None and not self._to_let_go:
            action[MOTION] = request.velocity * TICK_S
            if request.gripper >= 0.0:
                action[GRIPPER] = request.gripper
        return action

    def _refusal(self, request: TakeoverRequest, now_ns: int) -> tuple[TakeoverRefusal, str] | None:
        name = f"takeover by {request.person!r}"
        if request.velocity.shape != (6,) or not np.isfinite([*request.velocity, request.gripper]).all():
            text = f"{name}: velocity {request.velocity.tolist()}, gripper {request.gripper}; expected finite numbers"
            return TakeoverRefusal.INVALID, text
        if not request.person:
            return TakeoverRefusal.INVALID, "takeover by nobody; name the person, so that the record says who it was"
        if self._held and request.person != self.person:
            return TakeoverRefusal.OTHER_PERSON, f"{name}: {self.person!r} has the robot and must release it first"
        if not request.stamp_ns:
            return None
        age_ns = now_ns - request.stamp_ns
        if age_ns < -self.future_tolerance_ns:
            text = f"{name} is stamped {-age_ns / 1e9:.3f} s in the future; synchronise the clocks"
            return TakeoverRefusal.FUTURE, text
        if self._newest_ns is not None and request.stamp_ns < self._newest_ns:
            return TakeoverRefusal.OLDER, f"{name} came after a newer one"
        if request.active and age_ns > self.max_age_ns:
            text = f"{name} is {age_ns / 1e6:.0f} ms old, allowed are {self.max_age_ns / 1e6:.0f} ms"
            return TakeoverRefusal.TOO_OLD, text
        return None
