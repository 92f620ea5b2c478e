# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Neighbours, uniqueness, mistakenness, grouping: on vectors whose answer is known."""

from __future__ import annotations

import hypothesis
import numpy as np
import pytest
from hypothesis import strategies as st

from flow_rag_vla.labeling.curation.duplicates import group_duplicates, largest_difference, thumbnail
from flow_rag_vla.labeling.curation.neighbours import nearest_neighbours
from flow_rag_vla.labeling.curation.scores import mistakenness, uniqueness
from flow_rag_vla.labeling.registry.values import ReviewState

from .conftest import clusters, made_pool, unit

TRIED = hypothesis.settings(max_examples=25, deadline=None, derandomize=True, database=None)


@TRIED
@hypothesis.given(st.integers(0, 60), st.integers(1, 8), st.integers(0, 1000))
def test_neighbours_are_those_of_a_full_comparison_also_among_copies(count, k, seed):
    rng = np.random.default_rng(seed)
    vectors = unit(rng.normal(size=(count, 6)))
    vectors[count // 2 :] = vectors[: count - count // 2]
    found = nearest_neighbours(vectors, k)
    similarities = vectors @ vectors.T
    np.fill_diagonal(similarities, -np.inf)
    expected = -np.sort(-similarities, axis=1)[:, : min(k, max(count - 1, 0))]
    assert np.allclose(found.similarities, expected, atol=1e-6)
    assert not (found.positions == np.arange(count)[:, None]).any()
    assert all(len(set(row)) == len(row) for row in found.positions.tolist())


def test_lists_find_what_a_full_comparison_finds_and_are_the_same_each_time():
    vectors, _ = clusters([120] * 20, spread=0.5)
    exact = nearest_neighbours(vectors, 5)
    listed, again = (nearest_neighbours(vectors, 5, exact_limit=1_000) for _ in range(2))
    assert (listed.positions == again.positions).all()
    shared = [len(set(a) & set(b)) / 5 for a, b in zip(exact.positions, listed.positions, strict=True)]
    assert np.mean(shared) > 0.97


def test_a_copy_is_not_unique_and_what_is_alone_is():
    vectors, _ = clusters([20])
    lonely = unit(-vectors[:1])
    scores = uniqueness(nearest_neighbours(np.concatenate([vectors, vectors[:1].repeat(3, axis=0), lonely]), 3))
    assert scores[-1] == 1.0 == scores.max()
    assert (scores[[0, 20, 21, 22]] == 0.0).all() and (scores[1:20] > 0.0).all()
    assert uniqueness(nearest_neighbours(vectors[:1], 3)).tolist() == [1.0]


def test_a_label_that_its_look_alikes_do_not_have_is_named_with_theirs():
    vectors, of = clusters([30, 30, 30])
    labels = [("cup", "bowl", "tray")[place] for place in of]
    labels[4], labels[40] = "tray", "cup"
    # Somebody changed 4 against a sure model; 40 is as the model said, which was unsure.
    proposed = [*labels[:4], "cup", *labels[5:]]
    scores = np.full(90, 0.9)
    scores[40] = 0.3
    scores[80] = np.nan
    pool = made_pool(vectors, labels, proposed, scores)
    found = mistakenness(pool, nearest_neighbours(vectors, 15))
    assert np.argsort(-found.score)[:2].tolist() == [4, 40]
    assert (found.suggested[4], found.suggested[40]) == ("cup", "bowl")
    assert found.model[4] == pytest.approx(0.95) and found.model[40] == pytest.approx(0.35)
    assert np.isnan(found.model[80]) and found.score[80] == found.neighbours[80]
    assert ((found.score >= 0) & (found.score <= 1)).all()


@TRIED
@hypothesis.given(st.integers(0, 80), st.floats(0.5, 1.0), st.integers(0, 1000))
def test_what_is_kept_is_unlike_all_else_that_is_kept_and_like_all_it_stands_for(count, threshold, seed):
    rng = np.random.default_rng(seed)
    vectors = unit(rng.normal(size=(count, 3))) if count else np.zeros((0, 3), np.float32)
    order = rng.permutation(count)
    groups = group_duplicates(vectors, order, threshold, lambda item, kept: True)
    kept = np.flatnonzero(groups.kept == np.arange(count))
    assert set(groups.kept.tolist()) == set(kept.tolist())
    among = vectors[kept] @ vectors[kept].T - 2 * np.eye(len(kept))
    assert (among < threshold).all()
    rank = np.argsort(order)
    for item in groups.duplicates.tolist():
        assert vectors[item] @ vectors[groups.kept[item]] >= threshold - 1e-5
        assert rank[groups.kept[item]] < rank[item], "the better one is kept"


def test_a_closer_look_keeps_apart_what_only_seems_alike():
    vectors = unit(np.ones((4, 3)))
    groups = group_duplicates(vectors, range(4), 0.9, lambda item, kept: (item, kept) == (2, 1))
    assert groups.kept.tolist() == [0, 1, 1, 3]
    assert groups.members() == {1: [2]}
    with pytest.raises(ValueError, match="threshold is 2"):
        group_duplicates(vectors, range(4), 2.0, lambda item, kept: True)


def test_thumbnails_hold_still_under_light_and_noise_and_show_one_small_thing_that_is_gone():
    rng = np.random.default_rng(0)
    image = rng.integers(60, 200, (12, 16, 3)).repeat(20, axis=0).repeat(20, axis=1).astype(np.uint8)
    lit = np.clip(1.05 * image + rng.normal(0, 3, image.shape), 0, 255).astype(np.uint8)
    gone = image.copy()
    gone[100:120, 100:120] = 255 - gone[100:120, 100:120] // 2
    assert largest_difference(thumbnail(image), thumbnail(lit)) < 0.1
    assert largest_difference(thumbnail(image), thumbnail(gone)) > 0.2


def test_rows_of_a_pool_are_told_by_state():
    vectors, _ = clusters([3])
    pool = made_pool(vectors, "abc", states=[ReviewState.ACCEPTED, ReviewState.UNREVIEWED, ReviewState.REJECTED])
    assert pool.rows(ReviewState.ACCEPTED, ReviewState.REJECTED).tolist() == [0, 2]
    assert pool.at(np.array([2, 0])).labels == ("c", "a")
