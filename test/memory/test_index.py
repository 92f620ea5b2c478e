# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The vector indexes agree with exact search, whatever is added and removed."""

from __future__ import annotations

import faiss
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.memory.case import EncoderStamp, GroupKey
from flow_rag_vla.memory.index import CaseIndex, FaissIndex, NumpyIndex, faiss_factory, gpu_count

REACH = GroupKey("push", "reach", FailureType.DROP)
GRASP = GroupKey("push", "grasp", FailureType.DROP)
STACK = GroupKey("stack", "reach", FailureType.COLLISION)
STAMP = EncoderStamp("compact", "abc", 8)


def unit_rows(seed: int, count: int, dimension: int = 8) -> np.ndarray:
    rows = np.random.default_rng(seed).normal(size=(count, dimension))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@given(
    seed=st.integers(0, 2**32 - 1),
    count=st.integers(0, 60),
    k=st.integers(1, 70),
    removed=st.sets(st.integers(0, 70), max_size=40),
    graph=st.booleans(),
)
def test_faiss_finds_what_exact_search_finds(seed, count, k, removed, graph):
    # A graph index of FAISS cannot forget, as one on a GPU cannot: it takes the way over a new filling. With more
    # neighbours a node than vectors it is exact.
    holder = faiss.IndexHNSWFlat(8, 64, faiss.METRIC_INNER_PRODUCT) if graph else None
    if graph:
        holder.hnsw.efSearch = 256
    rows, ids = unit_rows(seed, count), np.arange(count, dtype=np.int64) * 3
    ours, exact = FaissIndex(8, "cpu", holder), NumpyIndex(8)
    gone = np.array(sorted(removed), dtype=np.int64)
    for index in (ours, exact):
        index.add(ids, rows)
        index.remove(gone)
    assert len(ours) == len(exact) == count - len(removed & set(ids.tolist()))
    np.testing.assert_array_equal(np.sort(ours.ids()), np.sort(exact.ids()))
    some = np.sort(exact.ids())[::2]
    np.testing.assert_array_equal(ours.vectors(some), exact.vectors(some))
    queries = unit_rows(seed + 1, 3)
    found, expected = ours.search(queries, k), exact.search(queries, k)
    np.testing.assert_allclose(found[0], expected[0], atol=1e-5)
    np.testing.assert_array_equal(found[1], expected[1])


@given(seed=st.integers(0, 2**32 - 1), count=st.integers(0, 50), half_from=st.integers(0, 50))
def test_in_half_precision_similarities_are_the_same_within_a_thousandth(seed, count, half_from):
    rows, ids = unit_rows(seed, count), np.arange(count, dtype=np.int64) + 5
    ours, exact = FaissIndex(8, "cpu", half_from=half_from), NumpyIndex(8)
    for index in (ours, exact):
        for start in range(0, count, 7):
            index.add(ids[start : start + 7], rows[start : start + 7])
        index.remove(ids[::3])
    np.testing.assert_array_equal(np.sort(ours.ids()), np.sort(exact.ids()))
    kept = np.sort(exact.ids())
    np.testing.assert_allclose(ours.vectors(kept), exact.vectors(kept), atol=1e-3)
    queries = unit_rows(seed + 1, 3)
    found, expected = ours.search(queries, 9), exact.search(queries, 9)
    np.testing.assert_allclose(found[0], expected[0], atol=1e-3)
    if len(ours):
        true = np.take_along_axis(queries @ exact.vectors(kept).T, np.searchsorted(kept, found[1]), axis=1)
        np.testing.assert_allclose(true, found[0], atol=1e-3)


@given(
    seed=st.integers(0, 2**32 - 1),
    k=st.integers(1, 30),
    task=st.sampled_from(["", "push", "stack", "pour"]),
    phase=st.sampled_from(["", "reach", "grasp"]),
)
def test_a_search_over_groups_is_exact_search_over_their_union(seed, k, task, phase):
    generator = np.random.default_rng(seed)
    index = CaseIndex(STAMP, faiss_factory("cpu"))
    rows = unit_rows(seed, 40)
    owner = generator.integers(0, 3, size=40)
    groups = (REACH, GRASP, STACK)
    for place, group in enumerate(groups):
        if np.any(owner == place):
            index.add(group, np.flatnonzero(owner == place).tolist(), rows[owner == place])
    query = unit_rows(seed + 1, 1)[0]
    allowed = [
        row for row in range(40) if task in ("", groups[owner[row]].task) and phase in ("", groups[owner[row]].phase)
    ]
    expected = sorted((-float(rows[row] @ query), row) for row in allowed)[:k]
    found = index.search(query, k, task, phase)
    assert [case_id for case_id, _ in found] == [row for _, row in expected]
    np.testing.assert_allclose([similarity for _, similarity in found], [-value for value, _ in expected], atol=1e-5)


def test_an_emptied_group_is_gone():
    index = CaseIndex(STAMP, NumpyIndex)
    index.add(REACH, [1, 2], unit_rows(0, 2))
    assert (len(index), index.sizes()) == (2, {REACH: 2})
    index.remove(REACH, [1, 2, 3])
    index.remove(GRASP, [9])
    assert (len(index), index.sizes()) == (0, {})
    assert index.members(REACH).size == 0
    assert index.search(unit_rows(0, 1)[0], 3) == []
    assert index.search_group(REACH, unit_rows(0, 1), 3)[0].shape == (1, 0)


def test_the_nearest_of_other_groups_is_minus_infinity_where_there_is_none():
    index = CaseIndex(STAMP, NumpyIndex)
    rows = unit_rows(0, 2)
    index.add(REACH, [1], rows[:1])
    assert index.nearest(rows, [GRASP]).tolist() == [-np.inf, -np.inf]
    np.testing.assert_allclose(index.nearest(rows, [REACH, GRASP]), rows @ rows[0], atol=1e-6)


@pytest.mark.skipif(gpu_count() > 0, reason="this FAISS has a GPU")
def test_asking_for_a_gpu_that_is_not_there_says_so():
    with pytest.raises(ValueError, match="sees no GPU"):
        FaissIndex(8, "cuda")
