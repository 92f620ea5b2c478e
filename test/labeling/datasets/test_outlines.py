# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Masks, run lengths and outlines are the same thing, to the pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from pycocotools import mask as coco_mask

from flow_rag_vla.labeling.datasets.outlines import bounds, filled, joined, outline
from flow_rag_vla.labeling.pipeline.boxes import box_of
from flow_rag_vla.labeling.run_lengths import counts_mask, counts_text, mask_counts, text_counts

MASKS = arrays(np.bool_, array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=14))


@settings(max_examples=150, deadline=None)
@given(MASKS)
def test_a_mask_is_found_again_from_run_lengths_text_outline_and_joined_outline(mask):
    height, width = mask.shape
    counts = mask_counts(mask)
    assert (counts_mask(counts, width, height) == mask).all()
    text = counts_text(counts)
    assert text_counts(text) == counts
    assert text == coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
    rings = outline(mask)
    assert (filled(rings, width, height) == mask).all()
    for ring in rings:
        points = np.reshape(ring, (-1, 2))
        steps = np.roll(points, -1, axis=0) - points
        assert (np.count_nonzero(steps, axis=1) == 1).all(), "every step goes along one edge"
        assert (np.count_nonzero(steps * np.roll(steps, 1, axis=0), axis=1) == 0).all(), "corners only"
    if rings:
        assert (filled([joined(rings)], width, height) == mask).all()
        assert bounds(rings) == box_of(mask)


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=30))
def test_any_run_lengths_survive_the_compressed_text(counts):
    assert text_counts(counts_text(counts)) == counts


@given(st.text(max_size=40))
def test_a_text_that_is_none_is_refused_and_nothing_else_happens(text):
    try:
        found = text_counts(text)
    except ValueError:
        return
    assert all(isinstance(count, int) for count in found)


def test_run_lengths_that_do_not_fill_the_picture_are_refused():
    for counts in ([3], [5, 2], [-1, 7], []):
        with pytest.raises(ValueError):
            counts_mask(counts, 3, 2)


def test_a_tilted_outline_covers_the_pixels_whose_centres_it_surrounds():
    mask = filled(((0.0, 0.0, 4.0, 0.0, 0.0, 4.0),), 4, 4)
    centres = np.add.outer(np.arange(4) + 0.5, np.arange(4) + 0.5)
    assert (mask == (centres < 4.0)).all()
