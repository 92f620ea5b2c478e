# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""HOTA on cases that can be counted by hand, on what the authors' own program says, and on what must always hold."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow_rag_vla.labeling.evaluation.hota import THRESHOLDS, HotaScore, TrackFrame, score_hota


def frame(ids: str, names: str, apart: float = 0.0) -> TrackFrame:
    """Boxes of 20 x 20, one below the other, a letter each ("." none); found ones ``apart`` pixels to the right."""

    def boxes(which: str, left: float) -> np.ndarray:
        rows = [(left, 30 * n, left + 20, 30 * n + 20) for n, name in enumerate(which) if name != "."]
        return np.array(rows, np.float32).reshape(-1, 4)

    return boxes(ids, apart), ids.replace(".", ""), boxes(names, 0.0), names.replace(".", "")


def close(score: HotaScore, hota: float, detection: float, association: float, localisation: float = 1.0) -> None:
    found = (score.hota, score.detection, score.association, score.localisation)
    assert np.allclose(found, (hota, detection, association, localisation), atol=1e-6), found


def test_what_is_found_and_followed_without_fault_scores_one() -> None:
    close(score_hota([frame("12", "ab"), frame("12", "ab"), frame("", "")]), 1.0, 1.0, 1.0)
    close(score_hota([]), 1.0, 1.0, 1.0)


def test_an_identity_that_changes_half_way_costs_association_alone() -> None:
    # Each of 10 boxes: 5 of its track and identity agree, 5 more are of the identity alone.
    close(score_hota([frame("1", "a")] * 5 + [frame("2", "a")] * 5), math.sqrt(0.5), 1.0, 0.5)
    # Two identities that are exchanged half way: of each, 5 agree and 5 more are of either.
    swapped = [frame("12", "ab")] * 5 + [frame("21", "ab")] * 5
    close(score_hota(swapped), math.sqrt(1 / 3), 1.0, 1 / 3)


def test_what_is_missed_and_what_is_not_there_cost_both_ways() -> None:
    close(score_hota([frame("1", "a")] * 5 + [frame("", "a")] * 5), 0.5, 0.5, 0.5)
    close(score_hota([frame("1", "a")] * 5 + [frame("1", "")] * 5), 0.5, 0.5, 0.5)
    # A thing that is never found costs detection alone.
    close(score_hota([frame("1.", "ab")] * 4), math.sqrt(0.5), 0.5, 1.0)
    for one in (frame("", "ab"), frame("12", "")):
        close(score_hota([one]), 0.0, 0.0, 0.0)


def test_a_box_counts_up_to_the_threshold_that_it_meets() -> None:
    # 20 x 20 pixels, 5 apart: 15 of 25 overlap, 0.6: the first 12 of 19 thresholds.
    share = 12 / 19
    close(score_hota([frame("12", "ab", apart=5.0)] * 3), share, share, share, (12 * 0.6 + 7) / 19)
    assert THRESHOLDS[0] == 0.05 and THRESHOLDS[11] == 0.6 and len(THRESHOLDS) == 19


def test_of_two_boxes_at_a_place_the_one_of_the_longer_track_is_taken() -> None:
    boxes, _, true, _ = frame("1", "a")
    both: TrackFrame = (np.concatenate([boxes, boxes]), "21", true, "a")
    rows = [frame("1", "a")] * 6
    # 7 of track 1 are right, and one box of track 2 is too many.
    close(score_hota([*rows, both]), math.sqrt(7 / 8), 7 / 8, 1.0)


def run(seed: int, frames: int = 12, things: int = 4) -> list[TrackFrame]:
    """Things that drift, found with noise, misses, false alarms and exchanged numbers."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(0, 60, (things, 2))
    numbers = np.arange(things)
    rows: list[TrackFrame] = []
    for _ in range(frames):
        corners += rng.normal(0, 2, corners.shape)
        there = np.flatnonzero(rng.random(things) < 0.9)
        seen = there[rng.random(len(there)) < 0.8]
        if rng.random() < 0.2:
            numbers = rng.permutation(numbers)
        false = rng.uniform(0, 60, (int(rng.integers(0, 2)), 2))
        low = np.concatenate([corners[seen] + rng.normal(0, 3, (len(seen), 2)), false])
        ids = [*(f"t{number}" for number in numbers[seen]), *(f"f{number}" for number in range(len(false)))]
        true = np.concatenate([corners[there], corners[there] + 25], axis=1)
        rows.append(
            (
                np.concatenate([low, low + 25], axis=1).astype(np.float32).reshape(-1, 4),
                ids,
                true.astype(np.float32).reshape(-1, 4),
                [f"n{number}" for number in there],
            )
        )
    return rows


def renamed(rows: Sequence[TrackFrame], prefix: str) -> list[TrackFrame]:
    return [(boxes, [prefix + one for one in ids], true, [prefix + one for one in names])
            for boxes, ids, true, names in rows]  # fmt: skip


@pytest.mark.parametrize(
    ("seed", "hota", "detection", "association", "localisation"),
    [
        (0, 0.30577, 0.426363, 0.223016, 0.767827),
        (7, 0.329853, 0.461423, 0.242457, 0.76527),
        (42, 0.31673, 0.5006, 0.204159, 0.792333),
    ],
)
def test_it_says_what_the_authors_program_says(
    seed: int, hota: float, detection: float, association: float, localisation: float
) -> None:
    # HOTA, DetA, AssA and LocA of TrackEval 1.3.0 (metrics.HOTA), means over its thresholds, on the same overlaps.
    close(score_hota(run(seed)), hota, detection, association, localisation)


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), things=st.integers(1, 5))
def test_what_must_hold_of_any_run(seed: int, things: int) -> None:
    rows = run(seed, things=things)
    score = score_hota(rows)
    values = np.array([score.hota, score.detection, score.association, score.localisation])
    assert (values >= 0.0).all() and (values <= 1.0 + 1e-9).all()
    # The mean of geometric means is at most the geometric mean of means.
    assert score.hota <= math.sqrt(score.detection * score.association) + 1e-9
    # What is found and what is true change places, names and order are different: the scores are the same.
    turned = score_hota([(true, names, boxes, ids) for boxes, ids, true, names in rows])
    reversed_ = score_hota([(b[::-1], ids[::-1], t, names) for b, ids, t, names in reversed(renamed(rows, "x"))])
    # A second video like the first, with ids of its own, adds nothing.
    twice = score_hota([*renamed(rows, "one "), *renamed(rows, "two ")])
    for other in (turned, reversed_, twice):
        close(other, *values.tolist())


def test_a_box_without_a_number_of_its_own_is_refused() -> None:
    boxes, _, true, _ = frame("12", "ab")
    with pytest.raises(ValueError, match=r"frame 1: 2 boxes and \['1', '1'\]: give each box a track of its own"):
        score_hota([frame("12", "ab"), (boxes, "11", true, "ab")])
    with pytest.raises(ValueError, match="an identity of its own"):
        score_hota([(boxes, "12", true, "abc")])
