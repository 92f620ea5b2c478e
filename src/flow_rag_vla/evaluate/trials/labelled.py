"""Observations of practice, and what becomes of them: cases where the policy does otherwise than what was right there.

Whoever says what would have been right (see ``practice`` and ``search``): a situation in which the policy does that
already is a stored success, the others are cases; a situation that an earlier one of the episode says again is left
out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.control.integrator import MotionLimits
from flow_rag_vla.core.action import ActionChunk
from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.core.files import replaced_file
from flow_rag_vla.core.goal import Goal
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.memory.case import EncoderStamp, FailureCase
from flow_rag_vla.memory.ledger import SuccessSituation
from flow_rag_vla.memory.memory import FailureMemory
from flow_rag_vla.policy.action_space import FREE_DIM, normalised
from flow_rag_vla.policy.observation import READING_DIM, proprioception
from flow_rag_vla.policy.situation import DIMENSION, NAME, SituationKey
from flow_rag_vla.sim.world import Snapshot

DISAGREEMENT = 0.25
"""Root mean square, in normalised units, between what the policy would do and what was right: a failure from here."""

SAME_SITUATION = 0.956
"""Cosine of keys above which a situation says again what an earlier one of its episode said."""

COMPARED = slice(3, 12)
"""Rows of chunks that are compared: those before are committed, those after are rarely executed."""


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
    """An observation, what the policy alone does there (H, 7), and what was right (H, 7).

    succeeded: whether it is of an attempt that succeeded, or an expert says what was right: only then does it count as
        a success where the policy does the same
    """

    seen: Seen
    alone: NDArray[np.float32]
    right: NDArray[np.float32]
    succeeded: bool = True


@dataclass(slots=True)
class Labels:
    """What was right, row by row: the fields of training samples."""

    embedding: list[NDArray[np.float32]] = field(default_factory=list)
    proprioception: list[NDArray[np.float32]] = field(default_factory=list)
    goal: list[int] = field(default_factory=list)
    chunks: list[NDArray[np.float32]] = field(default_factory=list)

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

    def __init__(self, memory: FailureMemory, key: SituationKey) -> None:
        """Keep under the keys of this policy."""
        self.memory, self._key = memory, key
        self._stamp = EncoderStamp(NAME, key.revision, DIMENSION)
        self.labels = Labels()
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

        Returns:
            Ids of the cases.
        """
        kept: list[NDArray[np.float32]] = []
        ids: list[int] = []
        fine: list[tuple[Seen, NDArray[np.float32]]] = []
        for item in labelled:
            felt = proprioception(item.seen.state)
            self.labels.embedding.append(item.seen.embedding)
            self.labels.proprioception.append(felt)
            self.labels.goal.append(goal.index)
            self.labels.chunks.append(normalised(item.right))
            key = self._key(item.seen.embedding, felt, goal)
            if any(float(key @ other) > SAME_SITUATION for other in kept):
                continue
            kept.append(key)
            if disagreement(item.alone, item.right) < DISAGREEMENT:
                if item.succeeded:
                    fine.append((item.seen, item.right))
                continue
            case = FailureCase(
                failure_type=kind,
                task=task,
                phase=item.seen.phase,
                encoder=self._stamp.encoder,
                encoder_revision=self._stamp.revision,
                embedding=key,
                failed_actions=item.alone,
                correction=item.right,
                correction_source=source,
                proprioception=felt,
                note=note,
                origin="simulator",
            )
            result = self.memory.add(case)
            self.refused += not result.accepted
            if result.case_id:
                ids.append(result.case_id)
        self.success(place, task, goal, fine)
        return tuple(dict.fromkeys(ids))

    def distinct(self, seen: Sequence[Seen], goal: Goal) -> list[Seen]:
        """Those that say what no earlier one said."""
        keys: list[NDArray[np.float32]] = []
        found = []
        for item in seen:
            key = self._key(item.embedding, proprioception(item.state), goal)
            if not any(float(key @ other) > SAME_SITUATION for other in keys):
                keys.append(key)
                found.append(item)
        return found

    def success(self, place: int, task: str, goal: Goal, done: Sequence[tuple[Seen, NDArray[np.float32]]]) -> None:
        """Situations in which nothing needs to be corrected, with what was right there (H, 7)."""
        kept: list[SuccessSituation] = []
        for item, actions in done:
            key = self._key(item.embedding, proprioception(item.state), goal)
            if any(float(key @ other.embedding) > SAME_SITUATION for other in kept):
                continue
            kept.append(SuccessSituation(task, item.phase, self._stamp, key, actions, place + 1, "simulator"))
        self.memory.observe_done(kept)


def disagreement(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Root mean square of the difference of two chunks' motion (H, 7) over the rows compared, normalised units."""
    difference = (normalised(one) - normalised(other))[COMPARED, : FREE_DIM - 1]
    return float(np.sqrt(np.mean(np.square(difference))))


def within_limits(actions: NDArray[np.float32]) -> NDArray[np.float32]:
    """(H, 7) float32: the rows as far as the controller goes along with them, their direction kept."""
    limits, limited = MotionLimits(), actions.copy()
    for columns, limit in ((slice(0, 3), limits.translation), (slice(3, 6), limits.rotation)):
        lengths = np.linalg.norm(actions[:, columns], axis=1, keepdims=True)
        limited[:, columns] *= np.minimum(1.0, limit / np.maximum(lengths, 1e-9))
    return limited
