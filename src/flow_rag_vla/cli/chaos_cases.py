# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Cases that the memory has acknowledged while faults are injected: stored by the suite, and asked for again later."""

from __future__ import annotations

import time

import numpy as np

from flow_rag_vla.cli.chaos_rig import RECOVERY_TIMEOUT_S
from flow_rag_vla.nodes.chaos_client import ChaosClient

_TRIES = 5
"""How often a memory that does not answer is asked for a case."""


class AcknowledgedCases:
    """What the memory said that it has, by the round in which it was stored.

    stored: how many were acknowledged in all
    destroyed: how many a fault took that damages the file itself
    lost: how many were gone without such a fault
    """

    def __init__(self, client: ChaosClient, random: np.random.Generator) -> None:
        self._client, self._random = client, random
        self._round_of: dict[int, int] = {}
        self.stored = self.destroyed = self.lost = 0

    def add(self, round_number: int, timeout_s: float) -> int | None:
        """Store one case unlike any other; its number once it was acknowledged, None if it was not."""
        pattern = self._client.pattern(timeout_s)
        case = None if pattern is None else self._client.add_case(pattern, self._random, timeout_s)
        if case is not None:
            self._round_of[case] = round_number
            self.stored += 1
        return case

    def store(self, round_number: int, count: int) -> int:
        """Store several; how many were acknowledged in time."""
        taken = 0
        deadline = time.monotonic() + RECOVERY_TIMEOUT_S
        while taken < count and time.monotonic() < deadline:
            if self.add(round_number, 5.0) is not None:
                taken += 1
            elif self.none_to_copy:
                break
            else:
                time.sleep(0.1)
        return taken

    @property
    def none_to_copy(self) -> bool:
        """Whether the memory says that it has no case, so that none can be made like another.

        One that says nothing is no empty one.
        """
        return self._client.cases == 0

    def gone(self, round_number: int | None = None) -> list[int]:
        """Those that the memory says it has not; of one round, or of all. One without an answer is not among them."""
        asked = [case for case, when in self._round_of.items() if round_number in (None, when)]
        return [case for case in asked if self._has(case) is False]

    def strike_off(self, cases: list[int], *, destroyed: bool) -> None:
        """These are gone, and counted once: nobody looks for them any more."""
        if destroyed:
            self.destroyed += len(cases)
        else:
            self.lost += len(cases)
        for case in cases:
            del self._round_of[case]

    def missing(self) -> tuple[list[int], list[int]]:
        """Those that are gone at the end, which are struck off, and those for which no answer came."""
        gone: list[int] = []
        unknown: list[int] = []
        cases = list(self._round_of)
        for place, case in enumerate(cases):
            found = self._has(case)
            if found is None:
                unknown = cases[place:]
                break
            if not found:
                gone.append(case)
        self.strike_off(gone, destroyed=False)
        return gone, unknown

    def _has(self, case: int) -> bool | None:
        for _ in range(_TRIES):
            found = self._client.has_case(case, 5.0)
            if found is not None:
                return found
        return None
