# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Overlap, suppression and tightening."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.labeling.detections import Detections, Origin, ScoreKind
from flow_rag_vla.labeling.pipeline.boxes import box_of, overlaps, select, tightened, without_doubles


def found_of(boxes: list[list[float]], scores: list[float], masks: np.ndarray | None = None) -> Detections:
    return Detections(
        40, 30, np.array(boxes, np.float32).reshape(-1, 4), np.array(scores, np.float32),
        tuple(f"thing {row}" for row in range(len(boxes))), ScoreKind.SIGMOID, Origin("test"), masks,
    )  # fmt: skip


def _mask(left: int, top: int, right: int, bottom: int) -> np.ndarray:
    mask = np.zeros((30, 40), np.bool_)
    mask[top:bottom, left:right] = True
    return mask


def test_of_two_names_for_one_thing_the_surer_stays() -> None:
    found = found_of([[0, 0, 10, 10], [1, 0, 10, 10], [20, 20, 30, 30]], [0.6, 0.8, 0.7])
    assert without_doubles(found, 0.7).labels == ("thing 1", "thing 2")


def test_two_things_that_fill_one_box_both_stay_where_masks_tell_them_apart() -> None:
    masks = np.stack([_mask(0, 0, 10, 5), _mask(0, 5, 10, 10)])
    found = found_of([[0, 0, 10, 10], [0, 0, 10, 10]], [0.6, 0.8], masks)
    assert len(without_doubles(found, 0.7)) == 2


def test_a_box_is_drawn_in_to_its_mask_and_a_mask_cut_to_its_box() -> None:
    found = found_of([[4.5, 3.2, 20.0, 20.0], [30, 20, 40, 30]], [0.9, 0.8])
    result = tightened(found, np.stack([_mask(6, 5, 35, 12), _mask(0, 0, 5, 5)]))
    # The second thing's mask has nothing within its box: there is nothing to keep.
    assert result.labels == ("thing 0",)
    assert result.boxes.tolist() == [[6, 5, 20, 12]]
    assert result.masks is not None
    assert box_of(result.masks[0]) == (6, 5, 20, 12)


def test_nothing_found_stays_nothing() -> None:
    empty = found_of([], [])
    assert len(without_doubles(empty, 0.5)) == 0
    assert tightened(empty, np.zeros((0, 30, 40), np.bool_)).masks is not None
    assert select(empty, []).boxes.shape == (0, 4)


boxes = st.tuples(st.integers(0, 30), st.integers(0, 20), st.integers(1, 9), st.integers(1, 9)).map(
    lambda item: [item[0], item[1], item[0] + item[2], item[1] + item[3]]
)


@given(st.lists(boxes, min_size=1, max_size=12), st.floats(0.05, 0.95), st.randoms(use_true_random=False))
def test_what_is_left_overlaps_no_more_than_allowed_and_covers_what_went(rows, limit, random) -> None:  # type: ignore[no-untyped-def]
    found = found_of(rows, [random.random() for _ in rows])
    kept = without_doubles(found, limit)
    between = overlaps(kept.boxes, kept.boxes) - np.eye(len(kept))
    assert (between <= limit + 1e-6).all()
    assert (np.diff(kept.scores) <= 0).all()
    gone = [row for row in range(len(found)) if found.labels[row] not in kept.labels]
    for row in gone:
        assert (overlaps(found.boxes[row : row + 1], kept.boxes) > limit).any()
