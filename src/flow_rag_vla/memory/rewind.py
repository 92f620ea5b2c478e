# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Rewind and hold: after a failure back to a safe checkpoint of the same episode, then another try, a bounded number.

A *checkpoint* is a moment of the running episode, some time before the failure's onset, at which the hand was open and
higher than where it failed; the arm is led back to its pose with guidance through the whole flow, so every row passes
the policy, the controller's arbiter and its clamps like any other. The hand opens first, then rises, then goes across:
the way on which nothing is hit that was not there before. Arrived, the policy tries again, and the chunk that failed
is a negative example for a while, unless the memory knows what would have been right.

When the last try has failed, too, the robot is held and a person is asked: the controller rests with the reason
MEMORY_HOLD until somebody takes over, or the episode ends.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from enum import Enum

import numpy as np

from flow_rag_vla.core.action import ACTION_DIM, MAX_ROTATION_PER_TICK, MAX_TRANSLATION_PER_TICK, CorrectionMode
from flow_rag_vla.core.correction import Correction
from flow_rag_vla.memory.case import Array
from flow_rag_vla.memory.episode import EpisodeMemory, Failure

ARRIVED = 0.015
"""Metres from the checkpoint at which it counts as reached."""

ABOVE = 0.02
"""Metres that a checkpoint is higher than the place of the failure, at least, if any moment of the episode was."""

PATIENCE_NS = 4_000_000_000
"""Nanoseconds that the way back may take; then the policy tries from wherever the arm is."""

SEEN_NS = 200_000_000
"""How far from a moment the robot state may be that tells where the arm was."""

OPENING_ROWS = 6
"""Rows of a chunk in which the hand opens before the arm moves."""

_OPEN = 0.5


@dataclass(frozen=True, slots=True)
class RewindSettings:
    """How often and how far.

    attempts: rewinds of one episode, at most; 0: none, and nobody is asked
    back_ns: how long before a failure's onset a checkpoint lies, at least
    away_ns: how long after it the failed chunk is a negative example
    ask: whether a failure after the last attempt holds the robot and asks a person
    """

    attempts: int = 0
    back_ns: int = 1_000_000_000
    away_ns: int = 1_500_000_000
    ask: bool = True

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        for name in ("attempts", "back_ns", "away_ns"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected 0 or more")


class Stage(str, Enum):
    """What is done about the failure noticed last."""

    NONE = "none"
    BACK = "on the way back to a checkpoint"
    AWAY = "trying again, away from what failed"
    HELD = "held until a person answers"


class Rewind:
    """Follows the failures of an episode. One thread asks it, with each observation."""

    def __init__(self, episode: EpisodeMemory, settings: RewindSettings | None = None) -> None:
        """Follow this episode's memory, which knows robot states, chunks and failures.

        Its robot states are those of ``policy.observation.proprioception``, ``centre`` metres off the base frame, which
        cancels out here.
        """
        self._episode = episode
        self.settings = settings or RewindSettings()
        self._begin()

    def _begin(self) -> None:
        self._of = self._episode.episode_id
        self._noticed = 0
        self.attempts = 0
        """Rewinds of the running episode."""
        self.stage = Stage.NONE
        self.request = ""
        """What a person is asked; empty: nothing."""
        self._since_ns = self._interventions = 0
        self._checkpoint: Array | None = None
        self._failed: Array | None = None

    def correct(self, stamp_ns: int, known: Correction) -> Correction:
        """What to do about an observation.

        Args:
            stamp_ns: of the observation.
            known: what the memory says, which is followed while there is nothing to go back for.
        """
        episode, settings = self._episode, self.settings
        if self._of != episode.episode_id or not episode.running:
            self._begin()
        if not episode.running or settings.attempts == 0:
            return known
        if self.stage is Stage.HELD and episode.interventions > self._interventions:
            # A person has answered: the policy then tries as often as at first.
            self.stage, self.request, self.attempts = Stage.NONE, "", 0
        self._notice(stamp_ns)
        if self.stage is Stage.BACK:
            felt = self._felt(stamp_ns)
            late = stamp_ns - self._since_ns > PATIENCE_NS
            if self._checkpoint is None or felt is None or late or arrived(felt, self._checkpoint):
                self.stage, self._since_ns = Stage.AWAY, stamp_ns
                episode.went_back(stamp_ns)
            else:
                rows = 16 if self._failed is None else len(self._failed)
                actions = way_back(felt, self._checkpoint, rows)
                return Correction(stamp_ns, CorrectionMode.GUIDANCE, 1.0, actions, until=1.0)
        if self.stage is Stage.AWAY:
            if stamp_ns - self._since_ns > settings.away_ns:
                self.stage = Stage.NONE
            elif known.mode is CorrectionMode.NONE and self._failed is not None:
                return Correction(stamp_ns, CorrectionMode.NEGATIVE, 1.0, None, self._failed[np.newaxis])
        if self.stage is Stage.HELD:
            return Correction(stamp_ns, CorrectionMode.HOLD, 1.0)
        return known

    def _notice(self, stamp_ns: int) -> None:
        """Begin to go back, or to wait, if a failure was reported since the last observation."""
        failures = self._episode.failures
        fresh = failures[self._noticed :]
        self._noticed = len(failures)
        # What is reported on the way back is still the failure that led to it.
        if not fresh or self.stage in (Stage.BACK, Stage.HELD):
            return
        failure = fresh[0]
        if self.attempts < self.settings.attempts:
            chunk = self._episode.chunk_at(failure.onset_ns)
            self._failed = None if chunk is None else chunk.actions
            self._checkpoint = self._safe(failure)
            self.attempts += 1
            self.stage, self._since_ns = Stage.BACK, stamp_ns
        elif self.settings.ask:
            self.stage, self._interventions = Stage.HELD, self._episode.interventions
            self.request = (
                f"{failure.failure_type.name.lower()} in {failure.task or self._episode.task} after {self.attempts} "
                "rewinds: take over and release the robot, or end the episode"
            )

    def _safe(self, failure: Failure) -> Array | None:
        """Where to go back to: (P,) of the newest moment that will do, else of the highest; None if none is known."""
        onset = self._felt(failure.onset_ns)
        episode, until_ns = self._episode, failure.onset_ns - self.settings.back_ns
        before = [read() for _, read in episode.proprioception.between(episode.started_ns - 1, until_ns)]
        floor = -math.inf if onset is None else float(onset[2]) + ABOVE
        open_hand = [felt for felt in before if felt.size >= 8 and felt[7] > _OPEN]
        good = [felt for felt in open_hand if felt[2] >= floor]
        if good:
            return good[-1]
        return max(open_hand, key=lambda felt: float(felt[2]), default=None)

    def _felt(self, stamp_ns: int) -> Array | None:
        found = self._episode.proprioception.nearest(stamp_ns, SEEN_NS)
        felt = None if found is None else found[1]()
        return None if felt is None or not felt.size else felt


def arrived(felt: Array, checkpoint: Array) -> bool:
    """Whether the tool is where it was at a checkpoint, both (P,)."""
    return float(np.linalg.norm(felt[:3] - checkpoint[:3])) < ARRIVED


def way_back(felt: Array, checkpoint: Array, rows: int) -> Array:
    """(rows, 7) float32: from a robot state (P,) toward a checkpoint (P,): open the hand, rise, then across."""
    actions = np.zeros((rows, ACTION_DIM), dtype=np.float64)
    actions[:, 6] = 1.0
    place, goal = felt[:3].astype(np.float64), checkpoint[:3].astype(np.float64)
    turn = math.remainder(
        math.atan2(float(checkpoint[4]), float(checkpoint[3])) - math.atan2(float(felt[4]), float(felt[3])), 2 * math.pi
    )
    opened = felt[7] > _OPEN
    for row in range(0 if opened else min(OPENING_ROWS, rows), rows):
        aim = goal.copy()
        if place[2] < goal[2] - 0.03:
            aim[:2] = place[:2]
        way = aim - place
        distance = float(np.linalg.norm(way))
        if distance > 1e-6:
            step = way * (min(0.8 * MAX_TRANSLATION_PER_TICK, 0.2 * distance + 0.001, distance) / distance)
            actions[row, :3] = step
            place = place + step
        twist = min(max(0.2 * turn, -0.8 * MAX_ROTATION_PER_TICK), 0.8 * MAX_ROTATION_PER_TICK)
        actions[row, 5] = twist
        turn -= twist
    return actions.astype(np.float32)
