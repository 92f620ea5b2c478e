# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What an episode's record teaches, whoever says what would have been right: cases and successes.

One failed chunk says little about a failure: the way into it was wrong for a while, and the way out of it leads through
places where the policy has never been. So a record is split into *situations*, each with what the policy planned there
and, if somebody knows it, what was right. Where the policy planned otherwise, the situation becomes a failure case with
the right chunk as its correction; where it planned the same, a success that speaks against corrections there. A
situation that an earlier one of the same record says again is left out.

Practice in the simulator and the memory's node learn by this one function; see :func:`split`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from flow_rag_vla.core.action import MAX_ROTATION_PER_TICK, MAX_TRANSLATION_PER_TICK
from flow_rag_vla.core.failure import Evidence, FailureType
from flow_rag_vla.memory.case import SITUATION, Array, EncoderStamp, FailureCase
from flow_rag_vla.memory.ledger import SuccessSituation

DISAGREEMENT = 0.25
"""Root mean square, in largest steps, between what was planned and what was right: another action from here on."""

OTHER_WAY = 0.5
"""Share of the longer of two motions by which they differ, from which on a slow person does something else."""

AT_REST = 0.02
"""Root mean square, in largest steps, of a chunk that stands still: two of them are no different motions."""

COMPARED = slice(3, 12)
"""Rows of chunks that are compared: those before are committed, those after are rarely executed."""

SAME_SITUATION = 0.98
"""Cosine of situation keys above which a situation says again what an earlier one of its record said."""

SAME_EMBEDDING = 0.999
"""The same for an encoder's embeddings: pictures of one scene are all alike, only a scene at rest is the same."""

_MOTION = (0, 1, 2, 5)
_STEP: Array = np.array([MAX_TRANSLATION_PER_TICK] * 3 + [MAX_ROTATION_PER_TICK], dtype=np.float32)
_GRIPPER = 6


@dataclass(frozen=True, slots=True, eq=False)
class Situation:
    """A moment of an episode.

    vector: (D,) float32 of unit length, what situations are compared by; stamp: whose it is
    planned: (H, 7) float32, what the policy would do there; right: (H, 7) what was right, None if nobody knows
    proprioception: (P,) float32, policy units; (0,) if the robot's state was not known
    alone: the policy planned it without the memory's help
    misreading: (3,) float32 metres, how far the target was from where the policy read it; None if nobody knows
    read: gives (3,) float32 metres, base axes, where the policy read the target; None if that is not known
    trusted: an expert, a person or a success says what was right: only then does agreeing with it count as a success
    """

    stamp_ns: int
    phase: str
    vector: Array
    stamp: EncoderStamp
    planned: Array
    right: Array | None = None
    proprioception: Array = field(default_factory=lambda: np.zeros(0, dtype=np.float32))
    alone: bool = True
    trusted: bool = True
    misreading: Array | None = None
    read: Callable[[], Array] | None = None


@dataclass(frozen=True, slots=True)
class Occasion:
    """What the cases and successes of one record have in common. source: who said what was right; "" if nobody did."""

    task: str
    failure_type: FailureType = FailureType.UNKNOWN
    source: str = ""
    note: str = ""
    origin: str = ""
    episode_id: int = 0
    evidence: tuple[Evidence, ...] = ()


def split(
    situations: Iterable[Situation], occasion: Occasion, differs: Callable[[Array, Array], bool] | None = None
) -> tuple[list[FailureCase], list[SuccessSituation]]:
    """Cases where something else was right than what the policy planned, successes where it planned the same.

    Args:
        situations: in their order. One of which nobody knows what was right is a case without a correction.
        occasion: what they have in common.
        differs: (planned, right) to whether they are different actions; None: :func:`other_action`.
    """
    other = differs or other_action
    cases: list[FailureCase] = []
    successes: list[SuccessSituation] = []
    for item in distinct(situations):
        if item.right is not None and not other(item.planned, item.right):
            # What the memory shaped agrees with it because of the memory: no word against corrections.
            if item.trusted and item.alone:
                successes.append(_success(item, item.right, occasion))
            continue
        cases.append(
            FailureCase(
                failure_type=occasion.failure_type,
                task=occasion.task,
                phase=item.phase,
                encoder=item.stamp.encoder,
                encoder_revision=item.stamp.revision,
                embedding=item.vector,
                failed_actions=item.planned,
                correction=item.right,
                correction_source="" if item.right is None else occasion.source,
                proprioception=item.proprioception,
                evidence=occasion.evidence,
                note=occasion.note,
                origin=occasion.origin,
                misreading=item.misreading,
            )
        )
    return cases, successes


def successes_of(situations: Iterable[Situation], occasion: Occasion) -> list[SuccessSituation]:
    """What the policy alone did in an episode that went well, each situation once."""
    return [_success(item, item.planned, occasion) for item in distinct(situations) if item.alone]


def distinct(situations: Iterable[Situation]) -> list[Situation]:
    """Those that say what no earlier one said."""
    kept: list[Situation] = []
    vectors: dict[EncoderStamp, list[Array]] = {}
    for item in situations:
        before = vectors.setdefault(item.stamp, [])
        if not repeats(item.vector, before, item.stamp):
            before.append(item.vector)
            kept.append(item)
    return kept


def repeats(vector: Array, known: Sequence[Array], stamp: EncoderStamp) -> bool:
    """Whether a vector (D,) says what one of the known ones said."""
    limit = SAME_SITUATION if stamp.encoder == SITUATION else SAME_EMBEDDING
    return any(float(vector @ other) > limit for other in known)


def disagreement(one: Array, other: Array) -> float:
    """Root mean square of the difference of two chunks' motion (H, 7) over the rows compared, in largest steps.

    Translation and yaw count: roll and pitch are still in what the policies here do.
    """
    return _length(_motion(one) - _motion(other))


def other_action(planned: Array, right: Array) -> bool:
    """Whether two chunks (H, 7) that move at a policy's pace are different actions."""
    return disagreement(planned, right) >= DISAGREEMENT


def other_than_person(planned: Array, right: Array) -> bool:
    """Whether a person did otherwise than planned, both (H, 7).

    People move slower than policies, so the motions are compared by their own lengths as well; and a person who only
    opens or closes the hand does something.
    """
    if other_action(planned, right):
        return True
    if float(np.abs(planned[:, _GRIPPER] - right[:, _GRIPPER]).mean()) > 0.5:
        return True
    longest = max(_length(_motion(planned)), _length(_motion(right)))
    return longest > AT_REST and disagreement(planned, right) > OTHER_WAY * longest


def _motion(actions: Array) -> Array:
    # A chunk that ends before the rows compared is compared as a whole.
    compared = actions[COMPARED] if len(actions) > COMPARED.start else actions
    rows: Array = compared[:, list(_MOTION)] / _STEP
    return rows


def _length(motion: Array) -> float:
    return float(np.sqrt(np.mean(np.square(motion))))


def _success(item: Situation, actions: Array, occasion: Occasion) -> SuccessSituation:
    return SuccessSituation(
        occasion.task, item.phase, item.stamp, item.vector, actions, occasion.episode_id, occasion.origin
    )
