# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""When the memory lets go: what it says is withdrawn for a while where it has led the arm long and brought it nowhere.

An answer that leads to where it is given again is a fixed point: the hand hovers, every observation looks like the one
before, and so does the answer, until the time of the episode is up. The policy alone may well have gone on from there.
So an answer is followed for a stretch of time within one phase of the task; then the memory is silent for a shorter one
in which the policy moves the arm to where the memory, or the policy itself, knows more. A phase that ends in time is
never interrupted, and where nobody says what the phase is nothing is withdrawn: nobody could tell that it lasts.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PatienceSettings:
    """How long is long.

    lead_ns: how long the memory may lead within one phase of the task, without a pause of its own; 0: for ever
    rest_ns: how long it is silent then, unless that phase ends before; 0: not at all

    The defaults were chosen on development seeds, see "Letting go" in docs/proof_history.md.
    """

    lead_ns: int = 2_500_000_000
    rest_ns: int = 1_500_000_000

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        for name in ("lead_ns", "rest_ns"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 0 or more")


class Patience:
    """Follows the answers of an episode. One thread asks it, with each answer."""

    def __init__(self, settings: PatienceSettings | None = None) -> None:
        """Begin with an episode."""
        self.settings = settings or PatienceSettings()
        self.begin()

    def begin(self) -> None:
        """An episode begins."""
        self.withdrawn = 0
        """How often the memory let go in this episode."""
        self._phase = ""
        self._since_ns: int | None = None
        self._silent_until_ns = self._at_ns = 0

    def lets_go(self, stamp_ns: int, phase: str, leads: bool) -> bool:
        """Whether an answer is withdrawn.

        Args:
            stamp_ns: of the observation that it answers. One before the last, of a bag that begins anew or a clock that
                was set back, begins afresh.
            phase: of the task, at that moment; empty: nobody says.
            leads: whether the answer would change what the policy does.
        """
        if phase != self._phase or stamp_ns < self._at_ns:
            self._phase, self._since_ns, self._silent_until_ns = phase, None, 0
        self._at_ns = stamp_ns
        if stamp_ns < self._silent_until_ns:
            return leads
        if not leads or not phase or self.settings.lead_ns == 0:
            self._since_ns = None
            return False
        if self._since_ns is None:
            self._since_ns = stamp_ns
        if self.settings.rest_ns == 0 or stamp_ns - self._since_ns < self.settings.lead_ns:
            return False
        self._since_ns, self._silent_until_ns = None, stamp_ns + self.settings.rest_ns
        self.withdrawn += 1
        return True
