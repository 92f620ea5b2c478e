# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What the memory says to do about a situation, given the credible cases of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from flow_rag_vla.core.action import MAX_TRANSLATION_PER_TICK, CorrectionMode
from flow_rag_vla.core.correction import Correction
from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.memory.case import ACTION_SCALE, Array, FailureCase

CORRECTORS = ("dispatch", "rules_blend", "off")
"""Names of ``make_corrector``; the parameter ``corrector`` and the arguments of every bring-up take them from here."""

WITHOUT_CORRECTION = ("negative", "hold", "none")

FAILED_CHUNKS = 3
"""Failed chunks named at most: sampling away from more costs the policy time and says little more."""

OFFSET_AGREEMENT = 0.9
"""Length of the sum of the cases' offsets over the sum of their lengths; 1 when all point the same way."""

OFFSET_CASES = 3
"""Cases that must agree before their offset counts as systematic; one fewer for MISALIGNMENT, one by nature."""

BLEND_STRENGTH = 0.3
"""The first design's fixed weight."""


@dataclass(frozen=True, slots=True)
class CredibleCase:
    """A case that a search brought up at or above the threshold."""

    case: FailureCase
    similarity: float


class Corrector(Protocol):
    """Turns credible cases into a correction."""

    def correct(self, stamp_ns: int, cases: Sequence[CredibleCase], threshold: float) -> Correction:
        """Say what to do.

        Args:
            stamp_ns: stamp of the embedding that was searched for.
            cases: at or above the threshold, most similar first; may be empty.
            threshold: cosine similarity from which a case is credible.

        Returns:
            A correction with this stamp; ``case_ids`` names the cases used, only those. NONE if nothing is credible.
        """
        ...


def make_corrector(name: str, without_correction: str = "negative", minimum_credit: float = 0.2) -> Corrector:
    """Corrector by its parameter.

    Raises:
        ValueError: for an unknown name.
    """
    if name == "dispatch":
        return DispatchCorrector(without_correction, minimum_credit)
    if name == "rules_blend":
        return RulesBlendCorrector()
    if name == "off":
        return NoCorrector()
    raise ValueError(f"corrector {name!r} is not one of {', '.join(CORRECTORS)}")


class NoCorrector:
    """Never corrects: the memory watches and learns, the policy is on its own."""

    def correct(self, stamp_ns: int, cases: Sequence[CredibleCase], threshold: float) -> Correction:
        """Say NONE."""
        return Correction(stamp_ns)


class DispatchCorrector:
    """Chooses the mechanism by what the cases know.

    - several cases whose corrections differ from their failed chunks in the same direction: a systematic offset, which
      no sampling can mend. RESIDUAL: ``actions`` minus the one failed chunk is the mean offset, to be added.
    - a correction is known: another way was right. GUIDANCE towards the one of most strength.
    - none is known: NEGATIVE with the failed chunks, or HOLD, or nothing, as asked.

    Cases with less credit than the minimum are not used. Strength is (1 + closeness) / 2 times the credit's share,
    where closeness goes from 0 at the threshold to 1 at similarity 1, and the share from 0 to 1 at the credit of an
    unused case (1/2): a case is trusted until it disappoints.
    """

    def __init__(self, without_correction: str = "negative", minimum_credit: float = 0.2) -> None:
        """Set what to do when no correction is known, and the credit below which a case is not used.

        Raises:
            ValueError: for an unknown ``without_correction``.
        """
        if without_correction not in WITHOUT_CORRECTION:
            raise ValueError(f"without_correction {without_correction!r} is not one of {', '.join(WITHOUT_CORRECTION)}")
        self.without_correction = without_correction
        self.minimum_credit = minimum_credit

    def correct(self, stamp_ns: int, cases: Sequence[CredibleCase], threshold: float) -> Correction:
        """Say what to do, see :class:`Corrector`."""
        trusted = [item for item in cases if item.case.credit >= self.minimum_credit]
        known = [item for item in trusted if item.case.correction is not None]
        if known:
            return self._residual(stamp_ns, known, threshold) or self._guidance(stamp_ns, known, threshold)
        if not trusted or self.without_correction == "none":
            return Correction(stamp_ns)
        best = strength(trusted[0], threshold)
        if self.without_correction == "hold":
            return Correction(stamp_ns, CorrectionMode.HOLD, best, case_ids=(trusted[0].case.case_id,))
        used = [item for item in trusted if item.case.horizon == trusted[0].case.horizon][:FAILED_CHUNKS]
        return Correction(
            stamp_ns,
            CorrectionMode.NEGATIVE,
            best,
            None,
            np.stack([item.case.failed_actions for item in used]),
            tuple(item.case.case_id for item in used),
        )

    @staticmethod
    def _guidance(stamp_ns: int, known: Sequence[CredibleCase], threshold: float) -> Correction:
        best = max(known, key=lambda item: (strength(item, threshold), item.similarity))
        return Correction(
            stamp_ns,
            CorrectionMode.GUIDANCE,
            strength(best, threshold),
            best.case.correction,
            best.case.failed_actions[np.newaxis],
            (best.case.case_id,),
        )

    @staticmethod
    def _residual(stamp_ns: int, known: Sequence[CredibleCase], threshold: float) -> Correction | None:
        first = known[0].case
        alike = [
            item
            for item in known
            if item.case.failure_type == first.failure_type and item.case.horizon == first.horizon
        ]
        needed = OFFSET_CASES - (first.failure_type == FailureType.MISALIGNMENT)
        offset = systematic_offset([item.case for item in alike]) if len(alike) >= needed else None
        if offset is None:
            return None
        return Correction(
            stamp_ns,
            CorrectionMode.RESIDUAL,
            float(np.mean([strength(item, threshold) for item in alike])),
            first.failed_actions + offset,
            first.failed_actions[np.newaxis],
            tuple(item.case.case_id for item in alike),
        )


class RulesBlendCorrector:
    """The first design's rule table and fixed blend, as the baseline that the others are measured against.

    ``actions`` is the rule applied to the failed chunk of the most similar case; the strength is always 0.3. Types for
    which that has no rule give NONE: there it blended the failed action itself back in.
    """

    def correct(self, stamp_ns: int, cases: Sequence[CredibleCase], threshold: float) -> Correction:
        """Say what to do, see :class:`Corrector`."""
        for item in cases:
            actions = rule_correction(item.case)
            if actions is not None:
                return Correction(
                    stamp_ns,
                    CorrectionMode.BLEND,
                    BLEND_STRENGTH,
                    actions,
                    item.case.failed_actions[np.newaxis],
                    (item.case.case_id,),
                )
        return Correction(stamp_ns)


def strength(item: CredibleCase, threshold: float) -> float:
    """How firmly a case is followed, 0 to 1; see :class:`DispatchCorrector`."""
    span = 1.0 - threshold
    closeness = (item.similarity - threshold) / span if span > 0.0 else 1.0
    trust = min(item.case.credit / 0.5, 1.0)
    return float(np.clip(0.5 + 0.5 * closeness, 0.0, 1.0)) * trust


def systematic_offset(cases: Sequence[FailureCase]) -> Array | None:
    """Mean offset (H, 7) from failed chunk to correction if the cases agree on it, else None.

    They agree when the length of the sum of the offsets is at least OFFSET_AGREEMENT of the sum of their lengths, in
    units of the largest step. The gripper is left out: half a grasp is none.

    Args:
        cases: of one horizon; those without a correction are left out.
    """
    offsets = np.array(
        [case.correction - case.failed_actions for case in cases if case.correction is not None], dtype=np.float32
    )
    if len(offsets) == 0:
        return None
    offsets[:, :, 6] = 0.0
    scaled = offsets / ACTION_SCALE
    lengths = float(np.sqrt(np.square(scaled).sum(axis=(1, 2))).sum())
    if lengths == 0.0 or float(np.linalg.norm(scaled.sum(axis=0))) < OFFSET_AGREEMENT * lengths:
        return None
    return np.asarray(offsets.mean(axis=0), dtype=np.float32)


def rule_correction(case: FailureCase) -> Array | None:
    """The first design's rule for a failure type, on each row of the failed chunk (H, 7); None if it has none.

    - grasp failure: grip x 1.3, at most 1. With a gripper that is commanded open (1) or closed (0) this changes
      nothing; the seeds mean a force, which the action space does not have.
    - collision: translation x 0.8.
    - drop: 0.05 m higher; one action moves MAX_TRANSLATION_PER_TICK at most, so each row is cut to that.
    """
    actions = case.failed_actions.copy()
    if case.failure_type == FailureType.GRASP_FAILURE:
        actions[:, 6] = np.minimum(actions[:, 6] * 1.3, 1.0)
    elif case.failure_type == FailureType.COLLISION:
        actions[:, :3] *= 0.8
    elif case.failure_type == FailureType.DROP:
        actions[:, 2] += 0.05
        lengths = np.linalg.norm(actions[:, :3], axis=1, keepdims=True)
        actions[:, :3] *= np.minimum(1.0, MAX_TRANSLATION_PER_TICK / lengths)
    else:
        return None
    return actions
