# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Observations of practice, and what becomes of them: cases where the policy does otherwise than what was right there.

Whoever says what would have been right (see ``practice`` and ``search``), what is learned of it is what a robot learns
of a person who takes over: see ``memory.lesson``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.control.integrator import MotionLimits
from flow_rag_vla.core.action import ActionChunk
from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.core.files import replaced_file
from flow_rag_vla.core.goal import Goal
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.memory.case import EncoderStamp
from flow_rag_vla.memory.lesson import Occasion, Situation, distinct, split, successes_of
from flow_rag_vla.memory.memory import FailureMemory
from flow_rag_vla.policy.action_space import FREE_DIM, normalised
from flow_rag_vla.policy.observation import READING_DIM, proprioception
from flow_rag_vla.policy.situation import DIMENSION, NAME, SituationKey
from flow_rag_vla.sim.world import Snapshot

ORIGIN = "simulator"
"""Robot that cases and successes of practice are of."""


@dataclass(frozen=True, slots=True)
class Seen:
    """An observation of an episode, what was done there, and the moment to which the world can be taken back.

    embedding: (D,) float32; moment: None where nobody needs to go back
    """

    embedding: NDArray[np.float32]
    state: RobotState
    phase: str
    chunk: ActionChunk
    moment: Snapshot | None = None


@dataclass(frozen=True, slots=True)
class Labelled:
    """An observation, what the policy alone does there (H, 7), and what was right (H, 7); None if nobody knows.

    misreading: (3,) metres, how far the target was from where the policy read it, if that is why it failed
    succeeded: whether it is of an attempt that succeeded, or an expert says what was right: only then does it count as
        a success where the policy does the same
    """

    seen: Seen
    alone: NDArray[np.float32]
    right: NDArray[np.float32] | None
    succeeded: bool = True
    misreading: NDArray[np.float32] | None = None


@dataclass(slots=True)
class Labels:
    """What was right, row by row: the fields of training samples."""

    embedding: list[NDArray[np.float32]] = field(default_factory=list)
    proprioception: list[NDArray[np.float32]] = field(default_factory=list)
    goal: list[int] = field(default_factory=list)
    chunks: list[NDArray[np.float32]] = field(default_factory=list)

    @classmethod
    def read(cls, path: Path) -> Labels:
        """Those that were written; none if there is no file."""
        if not path.is_file():
            return cls()
        with np.load(path, allow_pickle=False) as kept:
            return cls(
                embedding=list(kept["embedding"]),
                proprioception=list(kept["proprioception"]),
                goal=kept["goal"].tolist(),
                chunks=list(kept["chunks"]),
            )

    def write(self, path: Path) -> None:
        """Keep them as training samples; no file if there are none."""
        count = len(self.goal)
        if count == 0:
            return
        with replaced_file(path) as temporary, temporary.open("wb") as stream:
            np.savez(
                stream,
                embedding=np.stack(self.embedding),
                proprioception=np.stack(self.proprioception),
                goal=np.array(self.goal, dtype=np.int64),
                chunks=np.stack(self.chunks).reshape(count, -1, FREE_DIM),
                reading=np.zeros((count, READING_DIM), dtype=np.float32),
            )


class Keeper:
    """Puts the observations of practice into a memory."""

    def __init__(self, memory: FailureMemory, key: SituationKey, labels: Labels | None = None) -> None:
        """Keep under the keys of this policy, and what was right after the labels that are there."""
        self.memory, self._key = memory, key
        self.stamp = EncoderStamp(NAME, key.revision, DIMENSION)
        """Whose vectors the memory holds."""
        self.labels = labels or Labels()
        self.refused = 0
        """Cases that the memory did not take as they are: stopped by its guard, or known already."""

    def failure(
        self,
        place: int,
        task: str,
        goal: Goal,
        kind: FailureType,
        labelled: Sequence[Labelled],
        *,
        source: str,
        note: str,
        differs: Callable[[NDArray[np.float32], NDArray[np.float32]], bool] | None = None,
    ) -> tuple[int, ...]:
        """Cases where the policy alone does otherwise than what was right, successes where it does the same.

        Args:
            place: of the episode.
            task: of the episode.
            goal: of the episode.
            kind: of the failure.
            labelled: in their order.
            source: who said what was right.
            note: kept with each case.
            differs: see ``memory.lesson.split``.

        Returns:
            Ids of the cases.
        """
        situations = []
        for item in labelled:
            found = self.situation(item.seen, goal)
            situations.append(
                replace(found, planned=item.alone, right=item.right, trusted=item.succeeded, misreading=item.misreading)
            )
            if item.right is None:
                continue
            self.labels.embedding.append(item.seen.embedding)
            self.labels.proprioception.append(found.proprioception)
            self.labels.goal.append(goal.index)
            self.labels.chunks.append(normalised(item.right))
        cases, successes = split(situations, Occasion(task, kind, source, note, ORIGIN, place + 1), differs)
        ids: list[int] = []
        for case in cases:
            result = self.memory.add(case)
            self.refused += not result.accepted
            if result.case_id:
                ids.append(result.case_id)
        self.memory.observe_done(successes)
        return tuple(dict.fromkeys(ids))

    def distinct(self, seen: Sequence[Seen], goal: Goal) -> list[Seen]:
        """Those that say what no earlier one said."""
        situations = [self.situation(item, goal) for item in seen]
        kept = {id(item) for item in distinct(situations)}
        return [item for item, situation in zip(seen, situations, strict=True) if id(situation) in kept]

    def success(self, place: int, task: str, goal: Goal, done: Sequence[tuple[Seen, NDArray[np.float32]]]) -> None:
        """Situations in which nothing needs to be corrected, with what was right there (H, 7)."""
        situations = [replace(self.situation(item, goal), planned=actions) for item, actions in done]
        self.memory.observe_done(successes_of(situations, Occasion(task, origin=ORIGIN, episode_id=place + 1)))

    def situation(self, item: Seen, goal: Goal) -> Situation:
        """An observation as the memory compares it."""
        felt = proprioception(item.state)
        vector = self._key(item.embedding, felt, goal)
        return Situation(item.chunk.stamp_ns, item.phase, vector, self.stamp, item.chunk.actions, proprioception=felt)


def within_limits(actions: NDArray[np.float32]) -> NDArray[np.float32]:
    """(H, 7) float32: the rows as far as the controller goes along with them, their direction kept."""
    limits, limited = MotionLimits(), actions.copy()
    for columns, limit in ((slice(0, 3), limits.translation), (slice(3, 6), limits.rotation)):
        lengths = np.linalg.norm(actions[:, columns], axis=1, keepdims=True)
        limited[:, columns] *= np.minimum(1.0, limit / np.maximum(lengths, 1e-9))
    return limited
