# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""HOTA: how much is found, and how long it keeps its identity, as one number."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from flow_rag_vla.labeling.detections import Boxes
from flow_rag_vla.labeling.pipeline.boxes import overlaps

TrackFrame = tuple[Boxes, Sequence[str], Boxes, Sequence[str]]
"""Found boxes, their track ids, true boxes, their identities."""

THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(1, 20))
"""Overlaps from which a found box counts as a true one; the scores are means over them (section 5 of the paper)."""
_ROUNDED = 1e-6
"""By which an overlap, a float32, may lie below the threshold that it meets."""


@dataclass(frozen=True, slots=True)
class HotaScore:
    """Scores of a run, each 0 to 1 and the mean over ``THRESHOLDS``.

    hota: the mean of the geometric means of the two that follow
    detection: DetA: of all that is found or true, the share that is both
    association: AssA: over what is both, how much of its track and of its identity agree
    localisation: LocA: overlap of what is both; 1 where nothing is
    """

    hota: float
    detection: float
    association: float
    localisation: float


def score_hota(frames: Sequence[TrackFrame]) -> HotaScore:
    """Higher order tracking accuracy (Luiten et al. 2021, arXiv 2009.07736), without regard to labels.

    In each frame, found boxes are paired with true ones so that overlap times the agreement of their identities over
    the whole run is greatest, as the authors' own TrackEval does it: once, for all thresholds. Several videos are
    scored together where ids of one are in no other.

    Args:
        frames: in the order of time; at least one box in all, else there is nothing to be wrong about and all is 1.

    Raises:
        ValueError: a track or an identity is twice in a frame, or ids and boxes are not as many.
    """
    seen = [_seen(frame, place) for place, frame in enumerate(frames)]
    tracks = _places(name for _, ids, _, _ in frames for name in ids)
    truths = _places(name for _, _, _, names in frames for name in names)
    found_count, true_count = np.zeros(len(tracks)), np.zeros(len(truths))
    agreed = np.zeros((len(tracks), len(truths)))
    numbered = []
    for shared, (_, ids, _, names) in zip(seen, frames, strict=True):
        rows = np.array([tracks[name] for name in ids], np.intp)
        columns = np.array([truths[name] for name in names], np.intp)
        numbered.append((shared, rows, columns))
        found_count[rows] += 1.0
        true_count[columns] += 1.0
        # An overlap that each of the two also has with others says less.
        either = shared.sum(axis=1, keepdims=True) + shared.sum(axis=0, keepdims=True) - shared
        agreed[np.ix_(rows, columns)] += np.divide(shared, either, out=np.zeros_like(shared), where=either > 0.0)
    agreement = agreed / np.maximum(found_count[:, None] + true_count[None] - agreed, 1e-9)
    pairs = [_paired(shared, rows, columns, agreement) for shared, rows, columns in numbered]
    return _score(np.concatenate([np.zeros((0, 3)), *pairs]), found_count, true_count)


def _seen(frame: TrackFrame, place: int) -> NDArray[np.float64]:
    """(N, M): overlaps of found and true boxes of a frame whose ids make sense."""
    boxes, ids, true, names = frame
    for what, said, count in (("a track", ids, len(boxes)), ("an identity", names, len(true))):
        if len(said) != count or len(set(said)) != count:
            raise ValueError(f"frame {place}: {count} boxes and {list(said)[:20]}: give each box {what} of its own")
    return overlaps(boxes, true).astype(np.float64)


def _places(names: Iterable[str]) -> dict[str, int]:
    return {name: place for place, name in enumerate(dict.fromkeys(names))}


def _paired(
    shared: NDArray[np.float64], rows: NDArray[np.intp], columns: NDArray[np.intp], agreement: NDArray[np.float64]
) -> NDArray[np.float64]:
    """(M, 3): track, identity and overlap of what belongs together in a frame."""
    first, second = linear_sum_assignment(agreement[np.ix_(rows, columns)] * shared, maximize=True)
    return np.column_stack([rows[first], columns[second], shared[first, second]])


def _score(pairs: NDArray[np.float64], found_count: NDArray[np.float64], true_count: NDArray[np.float64]) -> HotaScore:
    total = float(found_count.sum() + true_count.sum())
    if not total:
        return HotaScore(1.0, 1.0, 1.0, 1.0)
    rows = []
    for threshold in THRESHOLDS:
        kept = pairs[pairs[:, 2] >= threshold - _ROUNDED]
        right = len(kept)
        if not right:
            rows.append((0.0, 0.0, 0.0, 1.0))
            continue
        which, count = np.unique(kept[:, :2].astype(np.intp), axis=0, return_counts=True)
        either = found_count[which[:, 0]] + true_count[which[:, 1]] - count
        detection, association = right / (total - right), float((count * count / either).sum()) / right
        rows.append(((detection * association) ** 0.5, detection, association, float(kept[:, 2].mean())))
    hota, detection, association, localisation = np.mean(rows, axis=0).tolist()
    return HotaScore(hota, detection, association, localisation)
