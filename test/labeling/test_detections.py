# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The value type refuses what makes no sense, and names the row."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.labeling.detections import Detections, Origin, ScoreKind


def _found(**changes: object) -> Detections:
    values: dict[str, object] = {
        "width": 64,
        "height": 48,
        "boxes": np.array([[1, 2, 10, 12], [0, 0, 64, 48]], np.float32),
        "scores": np.array([0.9, 0.5], np.float32),
        "labels": ("red cube", "bin"),
        "score_kind": ScoreKind.SOFTMAX,
        "origin": Origin("test"),
    }
    return Detections(**{**values, **changes})  # type: ignore[arg-type]


def test_a_box_may_fill_the_picture() -> None:
    assert len(_found()) == 2


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"width": 0}, "0 x 48 pixels has no area"),
        ({"boxes": np.zeros((1, 4), np.float32)}, "boxes has the shape (1, 4), expected (2, 4)"),
        ({"boxes": np.array([[1, 2, 10, 12], [5, 5, 5, 9]], np.float32)}, "box 1 is [5.0, 5.0, 5.0, 9.0]"),
        ({"boxes": np.array([[1, 2, 10, 12], [-1, 5, 5, 9]], np.float32)}, "box 1 is [-1.0"),
        ({"boxes": np.array([[1, 2, 10, 49], [0, 5, 5, 9]], np.float32)}, "box 0 is [1.0"),
        ({"boxes": np.array([[1, np.nan, 10, 12], [0, 5, 5, 9]], np.float32)}, "box 0 is [1.0, nan"),
        ({"scores": np.array([0.9, np.nan], np.float32)}, "score 1 is nan"),
        ({"scores": np.array([1.5, 0.1], np.float32)}, "score 0 is 1.5"),
        ({"labels": ("red cube", " ")}, "label 1 is empty"),
        ({"masks": np.zeros((2, 47, 64), np.bool_)}, "masks has the shape (2, 47, 64)"),
        ({"embeddings": np.ones((2, 4), np.float32)}, "embedding 0 has the length 2"),
        ({"embeddings": np.full((2, 4), np.nan, np.float32)}, "embedding 0 has the length nan"),
        ({"embeddings": np.ones((1, 4), np.float32)}, "embeddings has the shape (1, 4)"),
    ],
)
def test_what_makes_no_sense_is_named(changes: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=re.escape(text)):
        _found(**changes)


@given(st.lists(st.floats(allow_nan=True, allow_infinity=True, width=32), min_size=4, max_size=4))
def test_every_box_that_is_taken_has_area_inside(numbers: list[float]) -> None:
    boxes = np.array([numbers], np.float32)
    try:
        found = _found(boxes=boxes, scores=np.array([0.5], np.float32), labels=("bin",))
    except ValueError:
        return
    left, top, right, bottom = found.boxes[0]
    assert 0 <= left < right <= 64
    assert 0 <= top < bottom <= 48
