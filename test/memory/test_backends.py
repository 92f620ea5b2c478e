# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""One contract for every way to search; what the layered index does on top of it."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import faiss
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.memory.backends import segment as segments
from flow_rag_vla.memory.backends.base import VectorIndex
from flow_rag_vla.memory.backends.builder import Builder
from flow_rag_vla.memory.backends.exact import NumpyIndex
from flow_rag_vla.memory.backends.flat import FaissIndex
from flow_rag_vla.memory.backends.layered import LayeredIndex, Layers
from flow_rag_vla.memory.case import EncoderStamp, GroupKey
from flow_rag_vla.memory.index import IndexBackend, make_backend

SMALL = Layers(exact=64, tail=16, lists_from=512)
"""Sizes at which every layer is met by a few hundred vectors."""

DIMENSION = 16
STAMP = EncoderStamp("compact", "abc", DIMENSION)


def rows_of(seed: int, count: int, dimension: int = DIMENSION) -> np.ndarray:
    """Unit vectors (count, dimension) around a few centres, as pictures of a few scenes are."""
    generator = np.random.default_rng(seed)
    centres = generator.normal(size=(8, dimension))
    rows = centres[generator.integers(0, 8, count)] + 0.3 * generator.normal(size=(count, dimension))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(scope="module")
def builder() -> Iterator[Builder]:
    """One for the module; it ends with it."""
    made = Builder()
    yield made
    made.close()


@pytest.fixture(scope="module")
def server(postgres) -> Iterator[IndexBackend]:
    """Connected for the module."""
    made = make_backend(f"{postgres}&namespace=contract" if "?" in postgres else f"{postgres}?namespace=contract")
    yield made
    made.close()


_numbers = itertools.count()


@dataclass(frozen=True)
class Kind:
    """A kind of index, and how exact its similarities are."""

    make: Callable[[pytest.FixtureRequest], VectorIndex]
    precision: float = 1e-5


def graph(_: pytest.FixtureRequest) -> FaissIndex:
    # A graph index of FAISS cannot forget, as one on a GPU cannot: it takes the way over a new filling.
    holder = faiss.IndexHNSWFlat(DIMENSION, 64, faiss.METRIC_INNER_PRODUCT)
    holder.hnsw.efSearch = 512
    return FaissIndex(DIMENSION, "cpu", holder)


def on_server(request: pytest.FixtureRequest) -> VectorIndex:
    # Each in a group of its own: the server keeps what earlier examples left.
    group = GroupKey("push", f"phase {next(_numbers)}", FailureType.DROP)
    return request.getfixturevalue("server").make(STAMP, "active", group)


KINDS = {
    "numpy": Kind(lambda _: NumpyIndex(DIMENSION)),
    "faiss": Kind(lambda _: FaissIndex(DIMENSION, "cpu")),
    "faiss in float16": Kind(lambda _: FaissIndex(DIMENSION, "cpu", half_from=1), 1e-3),
    "faiss graph": Kind(graph),
    "layered": Kind(lambda request: LayeredIndex(DIMENSION, request.getfixturevalue("builder"), SMALL), 2e-4),
    "postgresql": Kind(on_server),
}


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 2**32 - 1),
    batches=st.lists(st.integers(0, 90), max_size=4),
    k=st.integers(1, 70),
    removed=st.sets(st.integers(0, 200), max_size=60),
)
def test_every_index_keeps_what_it_was_given_and_answers_like_exact_search(
    kind, request, builder, seed, batches, k, removed
):
    case = KINDS[kind]
    ours, exact = case.make(request), NumpyIndex(DIMENSION)
    rows, ids = rows_of(seed, sum(batches)), np.arange(sum(batches), dtype=np.int64) * 3
    gone = np.array(sorted(removed), dtype=np.int64)
    start = 0
    for size in batches:
        for index in (ours, exact):
            index.add(ids[start : start + size], rows[start : start + size])
            index.remove(gone[::2])
        start += size
    builder.settle()
    for index in (ours, exact):
        index.remove(gone)
    builder.settle()
    assert len(ours) == len(exact) == ours.state().vectors
    np.testing.assert_array_equal(np.sort(ours.ids()), np.sort(exact.ids()))
    some = np.sort(exact.ids())[::2]
    np.testing.assert_allclose(ours.vectors(some), exact.vectors(some), atol=1e-3)
    queries = rows_of(seed + 1, 3)
    found, expected = ours.search(queries, k), exact.search(queries, k)
    assert found[0].shape == found[1].shape == expected[0].shape
    assert all(len(set(row)) == len(row) for row in found[1].tolist())
    assert np.isin(found[1], exact.ids()).all()
    # What is said of a case that was found is true, whichever was found.
    for query, similarities, found_ids in zip(queries, *found, strict=True):
        np.testing.assert_allclose(exact.vectors(found_ids) @ query, similarities, atol=case.precision)
        assert (np.diff(similarities) <= 0).all()
    if kind != "layered":
        np.testing.assert_allclose(found[0], expected[0], atol=case.precision)


def test_an_index_grows_through_its_layers_and_says_how_it_searches(builder):
    index, rows = LayeredIndex(DIMENSION, builder, SMALL), rows_of(1, 700)
    kinds = []
    for start in range(0, 700, 20):
        index.add(np.arange(start, start + 20), rows[start : start + 20])
        builder.settle()
        kinds.append(index.state().kind.split(",")[0])
    assert list(dict.fromkeys(kind.lstrip("0123456789") for kind in kinds)) == [
        "exact scan",
        "scan of 4-bit codes",
        " of 128 lists of 4-bit codes",
    ]
    state = index.state()
    assert state.vectors == 700
    assert state.waiting < 64
    assert not state.building
    assert state.problem == ""


def test_the_recall_that_is_published_is_that_of_its_searches(builder):
    rows = rows_of(2, 4000, 64)
    index, exact = LayeredIndex(64, builder, Layers(exact=64, tail=64, lists_from=1024)), NumpyIndex(64)
    for one in (index, exact):
        one.add(np.arange(3600), rows[:3600])
    builder.settle()
    published = index.state().recall
    found, expected = index.search(rows[3600:], 5), exact.search(rows[3600:], 5)
    true = np.mean(found[0] >= expected[0][:, -1:] - 1e-4)
    assert 0.9 < published <= 1.0
    # Binomial errors of the two measurements at this recall are below 0.02.
    assert abs(true - published) < 0.06


def test_vectors_are_turned_only_where_that_leaves_numbers_out_or_evens_them(builder):
    generator = np.random.default_rng(3)
    even = generator.normal(size=(2000, 64)).astype(np.float32)
    uneven = even * np.linspace(0.2, 2.0, 64, dtype=np.float32)
    few = even[:, :4] @ generator.normal(size=(4, 128)).astype(np.float32)
    for rows, turned, width in ((even, False, 64), (uneven, True, 64), (few, True, 64)):
        rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
        index = LayeredIndex(rows.shape[1], builder, Layers(exact=64, tail=64))
        index.add(np.arange(2000), rows)
        builder.settle()
        segment = index.snapshot().segment
        assert isinstance(segment.index, faiss.IndexPreTransform) is turned
        assert segment.width == width
        fields = {"count": segment.count, "trained_on": segment.count, "lists": 0, "width": width}
        again = segments.from_bytes(segments.to_bytes(segment), fields)
        for query in rows[:20]:
            assert set(again.places(query, 32)) == set(segment.places(query, 32))
        # Whatever the way, the recall that is wanted is reached and told.
        assert index.state().recall > 0.98


def test_a_poor_segment_publishes_a_poor_recall(builder, monkeypatch):
    # Vectors without any structure, and next to no candidates: nothing can find the nearest.
    monkeypatch.setattr(segments, "CANDIDATES", (5, 5))
    monkeypatch.setattr(segments, "PROBES", (1,))
    rows = np.random.default_rng(0).normal(size=(3000, 64)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    index = LayeredIndex(64, builder, Layers(exact=64, tail=64, lists_from=1024))
    index.add(np.arange(3000), rows)
    builder.settle()
    assert index.state().recall < 0.5


def test_searches_and_changes_go_on_while_a_segment_is_made(monkeypatch):
    builder = Builder()
    started, go_on = threading.Event(), threading.Event()
    train = segments.trained

    def slow(*arguments):
        started.set()
        assert go_on.wait(60)
        return train(*arguments)

    monkeypatch.setattr(segments, "trained", slow)
    rows = rows_of(3, 400)
    index = LayeredIndex(DIMENSION, builder, SMALL)
    index.add(np.arange(200), rows[:200])
    assert started.wait(60)
    # The build is held open from here on.
    for number in range(200, 300):
        index.add(np.array([number]), rows[number : number + 1])
        assert index.search(rows[number : number + 1], 1)[1].tolist() == [[number]]
    index.remove(np.arange(0, 300, 2))
    assert index.state().building
    assert index.state().kind == "exact scan"
    expected = np.argmax(rows[1:300:2] @ rows[301]) * 2 + 1
    assert index.search(rows[301:302], 1)[1].tolist() == [[expected]]
    go_on.set()
    builder.settle()
    assert index.state().kind.startswith("scan of 4-bit codes")
    assert sorted(index.ids().tolist()) == list(range(1, 300, 2))
    assert index.search(rows[301:302], 1)[1].tolist() == [[expected]]
    builder.close()


def test_searches_beside_adding_removing_and_building_see_whole_cases_only():
    builder = Builder()
    rows = rows_of(4, 1200)
    index = LayeredIndex(DIMENSION, builder, SMALL)
    index.add(np.arange(100), rows[:100])
    stop, errors = threading.Event(), []

    def search() -> None:
        try:
            while not stop.is_set():
                similarities, ids = index.search(rows[7:8], 5)
                assert ids.shape == (1, 5)
                assert ids[0, 0] == 7
                np.testing.assert_allclose(rows[ids[0]] @ rows[7], similarities[0], atol=2e-4)
        except AssertionError as error:
            errors.append(error)

    threads = [threading.Thread(target=search) for _ in range(2)]
    for thread in threads:
        thread.start()
    for start in range(100, 1200, 10):
        index.add(np.arange(start, start + 10), rows[start : start + 10])
        index.remove(np.arange(start, start + 4))
    builder.settle()
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(index) == 1200 - 110 * 4
    builder.close()


def test_a_build_that_fails_is_told_and_searches_stay_exact(builder, monkeypatch):
    def broken(*_):
        raise MemoryError("no room")

    monkeypatch.setattr(segments, "trained", broken)
    rows = rows_of(5, 100)
    index = LayeredIndex(DIMENSION, builder, SMALL)
    index.add(np.arange(100), rows)
    builder.settle()
    assert "no room" in index.state().problem
    assert index.search(rows[:1], 1)[1].tolist() == [[0]]
    monkeypatch.undo()
    index.add(np.arange(100, 200), rows_of(6, 100))
    builder.settle()
    assert index.state().problem == ""
    assert index.state().kind.startswith("scan")


def test_a_group_that_lost_most_of_its_cases_is_exact_again(builder):
    rows = rows_of(7, 300)
    index = LayeredIndex(DIMENSION, builder, SMALL)
    index.add(np.arange(300), rows)
    builder.settle()
    index.remove(np.arange(40, 300))
    builder.settle()
    assert index.state().kind == "exact scan"
    assert sorted(index.search(rows[:1], 40)[1][0].tolist()) == list(range(40))


def test_closing_the_builder_ends_a_build_between_two_steps(monkeypatch):
    builder = Builder()
    started = threading.Event()
    reduce = segments._reduction

    def slow(*arguments):
        started.set()
        assert builder._closing.wait(60)
        return reduce(*arguments)

    monkeypatch.setattr(segments, "_reduction", slow)
    index = LayeredIndex(DIMENSION, builder, SMALL)
    index.add(np.arange(200), rows_of(8, 200))
    assert started.wait(60)
    builder.close()
    assert index.state().kind == "exact scan"
    index.add(np.arange(200, 300), rows_of(9, 100))
    assert len(index) == 300


def test_an_index_that_does_not_exist_is_refused_by_name():
    with pytest.raises(ValueError, match="index is 'annoy', expected faiss, numpy or postgresql://"):
        make_backend("annoy")
