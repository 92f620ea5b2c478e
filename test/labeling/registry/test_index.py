# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What every index promises, how searches are planned, and what a cache may never do: be wrong."""

from __future__ import annotations

import shutil
import threading

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.labeling.registry.errors import DiskFullError, InvalidInputError
from flow_rag_vla.labeling.registry.index import searcher
from flow_rag_vla.labeling.registry.index.choice import make_index
from flow_rag_vla.labeling.registry.index.matrix import VectorMatrix, most_similar
from flow_rag_vla.labeling.registry.queries import ObjectFilter, Way
from flow_rag_vla.labeling.registry.registry import Registry
from flow_rag_vla.labeling.registry.values import Embedder, ObjectChange, ReviewState

DIMENSION = 24
COUNT = 1_500
KINDS = ("exact", "faiss", "chroma")


@pytest.fixture(scope="module")
def vectors() -> np.ndarray:
    """Vectors in clusters, as real ones are: (1500, 24)."""
    rng = np.random.default_rng(0)
    centres = rng.normal(size=(60, DIMENSION))
    found = centres[rng.integers(60, size=COUNT)] + 0.6 * rng.normal(size=(COUNT, DIMENSION))
    return (found / np.linalg.norm(found, axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(params=KINDS)
def kind(request) -> str:
    """Each kind of index."""
    if request.param == "chroma":
        pytest.importorskip("chromadb", reason="chromadb is not installed: pip install 'flow_rag_vla[chroma]'")
    return request.param


@pytest.fixture
def index(kind, vectors, tmp_path):
    """An index over two thirds of the vectors at once and the rest added, with its matrix."""
    matrix = VectorMatrix(DIMENSION)
    matrix.append(vectors[:1_000])
    made = make_index(kind, matrix, tmp_path)
    for start in range(1_000, COUNT, 200):
        part = vectors[start : start + 200]
        made.add(matrix.append(part), np.ascontiguousarray(part))
    yield made, matrix
    made.close()


@pytest.mark.parametrize("share", [1.0, 0.3, 0.05, 0.01, 0.002])
def test_candidates_hold_the_true_nearest_however_rare_the_filter(index, vectors, share):
    made, matrix = index
    rng = np.random.default_rng(int(share * 1e4))
    allowed = rng.random(COUNT) < share
    allowed[:3] = True
    matching = int(allowed.sum())
    recalls = []
    for query in vectors[rng.integers(COUNT, size=10)]:
        true = most_similar(matrix.similarities(query)[allowed], np.flatnonzero(allowed), 10)[1]
        found = made.candidates(query, min(100, matching), allowed, matching)
        assert allowed[found].all()
        assert len(set(found.tolist())) == len(found)
        if len(found) < min(100, matching):
            # Allowed by the contract: the planner then compares everything.
            continue
        recalls.append(np.isin(true, found).mean())
    assert not recalls or np.mean(recalls) >= 0.95
    if made.kind != "chroma HNSW":
        assert len(recalls) == 10


def test_an_index_that_is_none_is_refused(tmp_path):
    with pytest.raises(InvalidInputError, match="choose one of"):
        make_index("none", VectorMatrix(4), tmp_path)
    with pytest.raises(InvalidInputError, match="choose one of"):
        Registry(tmp_path / "r", index="none")


@given(st.lists(st.integers(1, 40), min_size=1, max_size=6), st.integers(0, 30))
def test_a_matrix_gives_back_what_was_put_in_wherever_it_lies(sizes, mapped):
    rng = np.random.default_rng(sum(sizes))
    base = rng.normal(size=(mapped, 5)).astype(np.float32)
    matrix = VectorMatrix(5, base)
    everything = [base]
    for size in sizes:
        part = rng.normal(size=(size, 5)).astype(np.float32)
        positions = matrix.append(part)
        assert np.array_equal(matrix.gather(positions), part)
        everything.append(part)
    whole = np.concatenate(everything)
    picked = rng.permutation(len(whole))
    assert np.array_equal(matrix.gather(picked), whole[picked])
    assert np.array_equal(np.concatenate([part for _, part in matrix.chunks(7)]), whole)
    assert np.allclose(matrix.similarities(whole[0]), whole @ whole[0], atol=1e-4)


CLUSTERS = Embedder("clusters", "", DIMENSION)
CLASSES = np.random.default_rng(1).choice(4, COUNT, p=[0.7, 0.25, 0.04, 0.01])


@pytest.fixture(scope="module")
def template(tmp_path_factory, empty, make, vectors):
    """A folder with a registry of 1500 objects in classes of very different sizes, and their ids."""
    folder = tmp_path_factory.mktemp("filled")
    shutil.copy(empty, folder)
    with Registry(folder) as registry:
        image = make.image(registry)
        scores = np.random.default_rng(2).random(COUNT).tolist()
        drafts = [
            make.draft(image, f"c{CLASSES[n]}", embedding=vectors[n], embedder=CLUSTERS, score=scores[n])
            for n in range(COUNT)
        ]
        return folder, registry.register(drafts, who="a").object_ids


@pytest.fixture
def filled(template, tmp_path, monkeypatch):
    """``filled("faiss")``: a copy of the template, open, with its index built, in which 100 objects are many."""
    monkeypatch.setattr(searcher, "EXACT_LIMIT", 100)
    shutil.copytree(template[0], tmp_path / "filled")
    opened = []

    def fill(kind: str = "faiss") -> Registry:
        opened.append(Registry(tmp_path / "filled", index=kind))
        opened[-1].build_index()
        return opened[-1]

    yield fill
    for registry in opened:
        registry.close()


@pytest.fixture
def ids(template) -> tuple[str, ...]:
    return template[1]


def nearest(vectors, query, allowed, k=10):
    return most_similar((vectors @ query)[allowed], np.flatnonzero(allowed), k)[1]


def test_searches_are_right_for_every_class_and_say_how_they_were_answered(filled, ids, vectors, kind):
    registry = filled(kind)
    for number in (None, 0, 1, 2, 3):
        where = ObjectFilter() if number is None else ObjectFilter(categories=(f"c{number}",))
        allowed = np.ones(COUNT, bool) if number is None else number == CLASSES
        recalls = []
        for query in vectors[::200]:
            answer = registry.search(query, CLUSTERS, k=10, where=where)
            true = {ids[position] for position in nearest(vectors, query, allowed)}
            recalls.append(len(true & {hit.object.object_id for hit in answer.hits}) / 10)
            assert len(answer.hits) == 10
            assert answer.answered.matching == allowed.sum()
            similarities = [hit.similarity for hit in answer.hits]
            assert similarities == sorted(similarities, reverse=True)
        assert np.mean(recalls) >= 0.95, where
        if allowed.sum() <= 100:
            assert answer.answered.way is Way.EXACT_FILTERED
        elif kind == "faiss":
            assert answer.answered.way is Way.APPROXIMATE
            assert answer.answered.compared < answer.answered.matching


def test_every_filter_counts_the_same_in_a_search_and_in_a_listing(filled, ids, vectors):
    registry = filled()
    registry.update(ids[5], ObjectChange(state=ReviewState.ACCEPTED, category="c3", attributes={"n": 1}), who="b")
    registry.update(ids[6], ObjectChange(state=ReviewState.REJECTED, box=(1.0, 1.0, 40.0, 40.0)), who="b")
    registry.delete(ids[7], who="b")
    source = registry.sources()[0].source_id
    for where in (
        ObjectFilter(project="default"),
        ObjectFilter(categories=("c3", "c2")),
        ObjectFilter(source_ids=(source,)),
        ObjectFilter(source_ids=("0" * 32,)),
        ObjectFilter(states=(ReviewState.ACCEPTED, ReviewState.REJECTED)),
        ObjectFilter(validated=True),
        ObjectFilter(min_score=0.5, max_score=0.9),
        ObjectFilter(min_area=1521.0),
        ObjectFilter(max_area=1520.0, validated=True),
        ObjectFilter(attributes={"n": 1}),
        ObjectFilter(categories=("c3",), attributes={"n": 1}),
        ObjectFilter(models=("detector",), min_score=0.5),
    ):
        assert registry.search(vectors[0], CLUSTERS, where=where).answered.matching == registry.count(where), where


def test_a_search_sees_what_another_process_changed(filled, ids, vectors, kind):
    registry = filled(kind)
    folder = registry.folder
    assert registry.search(vectors[9], CLUSTERS).hits[0].object.object_id == ids[9]
    with Registry(folder) as other:
        other.delete(ids[9], who="b")
        other.set_embeddings({ids[8]: vectors[9]}, CLUSTERS, who="b")
    answer = registry.search(vectors[9], CLUSTERS)
    assert answer.hits[0].object.object_id == ids[8]
    assert answer.hits[0].similarity == pytest.approx(1, abs=1e-5)
    assert ids[9] not in {hit.object.object_id for hit in answer.hits}
    with Registry(folder) as other:
        other.undo(who="b", object_id=ids[9])
    answer = registry.search(vectors[9], CLUSTERS, k=2)
    assert {hit.object.object_id for hit in answer.hits} == {ids[8], ids[9]}
    # Its old vector no longer answers for it.
    found = registry.search(vectors[8], CLUSTERS, k=3).hits
    assert ids[8] not in {hit.object.object_id for hit in found if hit.similarity > 0.999}


def test_a_saved_index_is_taken_up_where_it_was_left(filled, ids, vectors, kind):
    registry = filled(kind)
    folder = registry.folder
    saved = list((folder / "index").glob("generation-*"))
    assert len(saved) == 1
    registry.delete(ids[0], who="b")
    with Registry(folder, index=kind) as other:
        answer = other.search(vectors[0], CLUSTERS)
        assert ids[0] not in {hit.object.object_id for hit in answer.hits}
        assert answer.answered.generation == COUNT + 1
        if kind == "faiss":
            assert answer.answered.way is Way.APPROXIMATE
        other.build_index()
    assert len(list((folder / "index").glob("generation-*"))) == 1
    assert not saved[0].exists()


@pytest.mark.parametrize("damage", ["vectors.f32", "columns.npz", "index.faiss", "manifest.json"])
def test_a_damaged_cache_is_ignored(filled, ids, vectors, damage):
    folder = filled().folder
    (saved,) = (folder / "index").glob("generation-*")
    (saved / damage).write_bytes((saved / damage).read_bytes()[:-9])
    with Registry(folder) as other:
        assert other.search(vectors[3], CLUSTERS).hits[0].object.object_id == ids[3]


def test_without_an_index_everything_is_compared_while_one_is_built(folder, make, vectors, monkeypatch):
    monkeypatch.setattr(searcher, "EXACT_LIMIT", 100)
    release = threading.Event()
    real = searcher.make_index

    def slow(*arguments):
        assert release.wait(60)
        return real(*arguments)

    monkeypatch.setattr(searcher, "make_index", slow)
    with Registry(folder) as registry:
        image = make.image(registry)
        drafts = [make.draft(image, embedding=vector, embedder=CLUSTERS) for vector in vectors[:600]]
        registry.register(drafts[:500], who="a")
        answer = registry.search(vectors[0], CLUSTERS)
        assert answer.answered.way is Way.EXACT_ALL
        assert "being built" in answer.answered.reason
        # What is registered meanwhile is in the index that comes.
        late = registry.register(drafts[500:], who="a").object_ids
        assert registry.search(vectors[550], CLUSTERS).hits[0].object.object_id == late[50]
        release.set()
        builder = registry.searching.searcher(1, DIMENSION)._builder
        assert builder is not None
        builder.join(60)
        answer = registry.search(vectors[550], CLUSTERS)
        assert answer.answered.way is Way.APPROXIMATE
        assert answer.hits[0].object.object_id == late[50]


def test_an_index_that_cannot_be_built_costs_speed_and_no_answer(folder, make, vectors, monkeypatch, caplog):
    monkeypatch.setattr(searcher, "EXACT_LIMIT", 10)

    def broken(*_):
        raise RuntimeError("no memory")

    monkeypatch.setattr(searcher, "make_index", broken)
    with Registry(folder) as registry:
        image = make.image(registry)
        registry.register([make.draft(image, embedding=make.unit(n)) for n in range(20)], who="a")
        for _ in range(2):
            answer = registry.search(make.unit(4), make.embedder)
            assert answer.hits[0].similarity == pytest.approx(1, abs=1e-5)
            registry.searching.searcher(1, 8)._builder.join(60)
        assert "could not be built" in caplog.text


def test_an_index_that_does_not_fit_on_the_disk_leaves_nothing_and_serves_all_the_same(
    registry, image, make, folder, monkeypatch
):
    registry.register([make.draft(image, embedding=make.unit(n)) for n in range(60)], who="a")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(VectorMatrix, "write", full)
    with pytest.raises(DiskFullError):
        registry.build_index()
    assert list((folder / "index").iterdir()) == []
    assert registry.search(make.unit(4), make.embedder).hits[0].similarity == pytest.approx(1, abs=1e-5)
