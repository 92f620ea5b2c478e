# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""From which similarity on a case is credible: a conformal threshold at a stated false-retrieval rate.

A situation in which nothing failed should bring up no case. Its score is the largest cosine similarity to a case of
its own task and phase, which is what a search there would find. With n exchangeable scores, the threshold is the
ceil((n + 1)(1 - rate))-th smallest: a new such situation scores above it with a chance of at most ``rate`` (split
conformal prediction; Vovk et al. 2005, Angelopoulos and Bates 2021, section 1). The ``n + 1`` is the finite-sample
correction: with n < 1 / rate - 1 no threshold can keep the promise, and the default one stays.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.memory.case import Array, EncoderStamp
from flow_rag_vla.memory.index import CaseIndex

SITUATIONS_KEPT = 512
"""Situations remembered for calibration: enough for a rate of 1 %, and a few milliseconds to score."""

_PREFIX = "calibration."


@dataclass(frozen=True, slots=True)
class Calibration:
    """A threshold, and what it promises.

    threshold: cosine similarity from which on a case is credible
    rate: chance, at most, that a situation without a failure passes it
    scores: number of situations that it rests on
    """

    threshold: float
    rate: float
    scores: int
    stamp: EncoderStamp

    @property
    def calibration_id(self) -> str:
        """12 hex digits of what it says."""
        return hashlib.sha256(repr(sorted(self.to_settings().items())).encode()).hexdigest()[:12]

    def to_settings(self) -> dict[str, str]:
        """Plain text to keep with the store."""
        return {
            _PREFIX + "threshold": repr(self.threshold),
            _PREFIX + "rate": repr(self.rate),
            _PREFIX + "scores": str(self.scores),
            _PREFIX + "encoder": self.stamp.encoder,
            _PREFIX + "revision": self.stamp.revision,
            _PREFIX + "dimension": str(self.stamp.dimension),
        }

    @staticmethod
    def from_settings(values: Mapping[str, str]) -> Calibration | None:
        """What :meth:`to_settings` kept, or None if it is missing or makes no sense."""
        try:
            stamp = EncoderStamp(
                values[_PREFIX + "encoder"], values[_PREFIX + "revision"], int(values[_PREFIX + "dimension"])
            )
            found = Calibration(
                float(values[_PREFIX + "threshold"]),
                float(values[_PREFIX + "rate"]),
                int(values[_PREFIX + "scores"]),
                stamp,
            )
        except (KeyError, ValueError):
            return None
        return found if math.isfinite(found.threshold) else None


def conformal_threshold(scores: Sequence[float] | NDArray[np.floating], rate: float) -> float | None:
    """Smallest threshold that a new exchangeable score reaches with a chance of at most ``rate``.

    Returns:
        A value just above the conformal quantile ("credible" means at or above it), or None with too few scores.

    Raises:
        ValueError: for a rate outside (0, 1).
    """
    if not 0.0 < rate < 1.0:
        raise ValueError(f"false-retrieval rate is {rate}, expected between 0 and 1")
    ordered = np.sort(np.asarray(scores, dtype=np.float64))
    # The small term keeps (n + 1)(1 - rate) from rounding up past a whole number.
    rank = math.ceil((len(ordered) + 1) * (1.0 - rate) - 1e-9)
    if rank > len(ordered) or len(ordered) == 0:
        return None
    return float(np.nextafter(np.float32(ordered[max(rank, 1) - 1]), np.float32(2.0)))


def situation_scores(index: CaseIndex, situations: Sequence[tuple[str, str, Array]]) -> NDArray[np.float32]:
    """Largest similarity of each situation (task, phase, (D,)) to a case of its own task and phase.

    Situations with no such case are left out: no search there could find anything, and counting them would lower the
    threshold of those where it can.
    """
    scores: list[NDArray[np.float32]] = []
    for task, phase in sorted({(task, phase) for task, phase, _ in situations}):
        vectors = np.stack([vector for other, at, vector in situations if (other, at) == (task, phase)])
        best = index.nearest(vectors, [group for group in index.sizes() if (group.task, group.phase) == (task, phase)])
        scores.append(best[np.isfinite(best)])
    return np.concatenate(scores) if scores else np.zeros(0, dtype=np.float32)


def foreign_scores(index: CaseIndex, limit: int = SITUATIONS_KEPT) -> NDArray[np.float32]:
    """Largest similarity of cases to cases of another task or phase, which should not match either.

    A stand-in while too few episodes without a failure were seen: it is not what a search looks at, but it is on the
    encoder's own scale.
    """
    scores: list[NDArray[np.float32]] = []
    sizes = index.sizes()
    share = max(1, limit // max(1, len(sizes)))
    for group in sizes:
        members = np.sort(index.members(group))
        chosen = members[np.linspace(0, len(members) - 1, min(share, len(members))).astype(int)]
        foreign = [other for other in sizes if (other.task, other.phase) != (group.task, group.phase)]
        best = index.nearest(index.vectors(group, chosen), foreign)
        scores.append(best[np.isfinite(best)])
    return np.concatenate(scores) if scores else np.zeros(0, dtype=np.float32)


def calibrate(
    index: CaseIndex, situations: Sequence[tuple[str, str, Array]], rate: float, default: float
) -> Calibration | None:
    """Threshold for the cases of an index, or None while there is not enough to tell.

    Situations without a failure count first. If they are too few for the rate, cases of other tasks and phases join;
    since those are easier to tell apart, they may only raise the ``default`` threshold, never lower it.
    """
    scores = situation_scores(index, situations)
    threshold = conformal_threshold(scores, rate)
    if threshold is None:
        scores = np.concatenate([scores, foreign_scores(index)])
        threshold = conformal_threshold(scores, rate)
        if threshold is None:
            return None
        threshold = max(threshold, default)
    return Calibration(threshold, rate, len(scores), index.stamp)
