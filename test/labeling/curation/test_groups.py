# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Groups of what looks alike: how many, how real, and what stands for each."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow_rag_vla.labeling.curation import groups as module
from flow_rag_vla.labeling.curation.contact_sheet import TILE, WORDS, SheetRow, contact_sheet, surroundings
from flow_rag_vla.labeling.curation.groups import Groupings, Strength, group_objects, group_vectors
from flow_rag_vla.labeling.registry.errors import ConflictError, InvalidInputError, UnknownError
from flow_rag_vla.labeling.registry.queries import ObjectFilter
from flow_rag_vla.labeling.registry.values import Embedder, ObjectChange, ReviewState

from .conftest import clusters, unit


def purity(of, found):
    """Share of objects whose group holds mostly what they are."""
    return sum(np.bincount(of[group.rows]).max() for group in found.groups) / len(of)


@pytest.mark.parametrize("sizes", [(40, 40), (120, 30, 30), (30, 15, 200, 20)])
def test_groups_that_lie_apart_are_found_with_their_number(sizes):
    vectors, of = clusters(sizes, spread=0.3)
    found = group_vectors(vectors)
    assert found.strength is Strength.CLEAR and len(found.groups) == len(sizes)
    assert purity(of, found) == 1.0
    assert [len(group) for group in found.groups] == sorted(sizes, reverse=True)
    assert found.silhouette > max(0.5, found.chance + 0.1)
    assert dict(found.tried)[len(sizes)] == max(dict(found.tried).values())


def test_groups_that_overlap_are_called_weak():
    vectors, of = clusters((150, 150, 150), spread=0.8)
    found = group_vectors(vectors)
    assert found.strength is Strength.WEAK and "run into each other" in found.verdict()
    assert len(found.groups) == 3 and purity(of, found) > 0.95


def clouds():
    rng = np.random.default_rng(3)
    turn = rng.uniform(0.0, 1.2, 400)
    arc = np.stack([np.cos(turn), np.sin(turn), *(0.03 * rng.normal(size=(4, 400)))], axis=1)
    return {
        "one blob": 2.0 * np.eye(8)[0] + 0.3 * rng.normal(size=(400, 8)),
        "every direction": rng.normal(size=(400, 16)),
        "skewed": 2.0 * np.eye(16)[0] + 0.5 * rng.exponential(size=(400, 16)),
        "drawn out": np.eye(8)[0] + rng.normal(size=(400, 8)) * [0.05, 0.8, *[0.05] * 6],
        "a slow turn": arc,
        "copies": np.ones((50, 8)),
    }


@pytest.mark.parametrize("kind", clouds())
def test_no_structure_is_said_and_everything_is_one_group(kind):
    found = group_vectors(unit(clouds()[kind]))
    assert found.strength is Strength.NONE and len(found.groups) == 1
    assert found.verdict().startswith("one group: no partition")


def test_groups_that_were_asked_for_are_made_but_not_called_real():
    vectors = unit(2.0 * np.eye(8)[0] + 0.3 * np.random.default_rng(0).normal(size=(300, 8)))
    found = group_vectors(vectors, 4)
    assert len(found.groups) == 4 and found.strength is Strength.NONE
    assert "hardly better than a cloud without groups" in found.verdict()
    assert len(group_vectors(vectors, 1).groups) == 1


def test_one_odd_object_is_the_most_unusual_of_a_group_and_not_a_group():
    vectors, _ = clusters((60, 60), spread=0.2)
    vectors = np.concatenate([vectors, unit([[1.0] * 16])])
    found = group_vectors(vectors)
    assert len(found.groups) == 2
    assert 120 in {int(group.unusual(1)[0]) for group in found.groups}


def test_the_medoid_is_the_one_that_is_most_like_all_others_of_its_group():
    vectors, of = clusters((50, 20), spread=0.5)
    found = group_vectors(vectors, 2)
    for group in found.groups:
        own = vectors[group.rows].astype(np.float64)
        means = (own @ own.T).mean(axis=1)
        assert means[0] == pytest.approx(means.max(), abs=1e-6)
        assert list(group.likeness) == sorted(group.likeness, reverse=True)
        assert group.unusual(3).tolist() == group.rows[::-1][:3].tolist()
        assert 0.0 < group.spread < 0.3 and len(set(of[group.rows])) == 1


def test_silhouettes_are_those_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    vectors, _ = clusters((30, 20, 9, 1), spread=0.9)
    found = group_vectors(vectors, 4)
    want = metrics.silhouette_samples(vectors, found.of)
    assert found.silhouette == pytest.approx(want.mean(), abs=1e-5)
    for place, group in enumerate(found.groups):
        assert group.silhouette == pytest.approx(want[found.of == place].mean(), abs=1e-5)


def test_more_objects_than_are_compared_go_to_the_nearest_group():
    vectors, of = clusters((900, 400, 200), spread=0.3)
    found = group_vectors(vectors, sample=300, seed=5)
    assert found.compared == 300 and len(found.groups) == 3
    assert purity(of, found) == 1.0


@given(
    sizes=st.lists(st.integers(1, 25), min_size=1, max_size=6).filter(lambda sizes: sum(sizes) >= 3),
    spread=st.sampled_from([0.0, 0.1, 1.0, 5.0]),
    asked=st.none() | st.integers(1, 9),
    copies=st.integers(1, 3),
    seed=st.integers(0, 50),
)
@settings(max_examples=40, deadline=None)
def test_each_object_is_in_one_group_and_the_same_input_gives_the_same_groups(sizes, spread, asked, copies, seed):
    vectors, _ = clusters(sizes, spread=spread, seed=seed)
    vectors = np.repeat(vectors, copies, axis=0)
    different = len(np.unique(vectors, axis=0))
    if asked is not None and asked > different:
        with pytest.raises(InvalidInputError, match="groups of"):
            group_vectors(vectors, asked)
        return
    found = group_vectors(vectors, asked, seed=seed)
    rows = np.concatenate([group.rows for group in found.groups])
    assert sorted(rows.tolist()) == list(range(len(vectors)))
    for place, group in enumerate(found.groups):
        assert (found.of[group.rows] == place).all()
    assert all(
        np.isfinite([group.silhouette, group.spread, found.silhouette, found.chance]).all() for group in found.groups
    )
    assert -1.0 <= found.silhouette <= 1.0 and len(found.groups) <= (asked or module.MOST_TRIED)
    again = group_vectors(vectors.copy(), asked, seed=seed)
    assert (again.of == found.of).all() and again.silhouette == found.silhouette and again.chance == found.chance


@pytest.mark.parametrize(
    ("vectors", "asked", "said"),
    [
        (np.eye(8)[:2], None, "2 objects with a vector are too few to group; take a filter that at least 3 pass"),
        (np.zeros((0, 0)), None, "0 objects with a vector are too few"),
        (np.eye(8)[:5], 6, "6 groups of 5 objects; ask for 1 to 5"),
        (np.eye(8)[:5], 0, "0 groups of 5 objects"),
        (np.repeat(np.eye(8)[:2], 4, axis=0), 3, "of which only 2 look different; ask for at most 2"),
        (np.where(np.eye(8) == 1, np.nan, 0.0), None, "vector 0 has values that are not finite"),
    ],
)
def test_what_cannot_be_grouped_is_refused_with_the_remedy(vectors, asked, said):
    with pytest.raises(InvalidInputError) as refused:
        group_vectors(np.asarray(vectors, np.float32), asked)
    assert said in str(refused.value)


def test_objects_of_a_registry_are_grouped_by_filter_without_the_rejected(filled):
    registry, _, ids, _ = filled
    found = group_objects(registry)
    assert len(found.pool) == 15 and len(found.grouping.groups) == 3
    assert {found.commonest_label(group) for group in found.grouping.groups} == {
        ("cup", 1.0),
        ("bowl", 1.0),
        ("tray", 1.0),
    }
    registry.update(ids[0], ObjectChange(state=ReviewState.REJECTED), who="anna")
    cups = ObjectFilter(categories=("cup",))
    assert len(group_objects(registry, cups).pool) == 4
    assert len(group_objects(registry, ObjectFilter(states=tuple(ReviewState))).pool) == 15
    with pytest.raises(InvalidInputError, match="1 objects with a vector are too few"):
        group_objects(registry, ObjectFilter(states=(ReviewState.REJECTED,)))
    with pytest.raises(InvalidInputError, match="0 objects with a vector are too few"):
        group_objects(registry, ObjectFilter(states=(ReviewState.ACCEPTED,)))
    with pytest.raises((InvalidInputError, UnknownError), match="mug"):
        group_objects(registry, ObjectFilter(categories=("mug",)))


def test_vectors_of_two_embedders_are_refused(filled):
    registry, _, ids, _ = filled
    registry.set_embeddings({ids[0]: np.eye(4, dtype=np.float32)[0]}, Embedder("other", "1", 4), who="anna")
    with pytest.raises(ConflictError, match="do not compare"):
        group_objects(registry)


def test_the_best_quality_comes_first_and_what_has_none_last(filled):
    registry, _, ids, _ = filled
    registry.update(ids[3], ObjectChange(quality=0.4), who="anna")
    registry.update(ids[6], ObjectChange(quality=0.9), who="anna")
    found = group_objects(registry, ObjectFilter(categories=("cup",)), 1)
    (group,) = found.grouping.groups
    ordered = [found.pool.object_ids[row] for row in found.by_quality(group)]
    assert ordered[:2] == [ids[6], ids[3]]
    rest = [found.pool.object_ids[row] for row in group.rows if found.pool.object_ids[row] not in ordered[:2]]
    assert ordered[2:] == rest


def test_groups_are_made_again_only_when_the_registry_has_changed(filled):
    registry, _, ids, _ = filled
    kept = Groupings(registry, most=10)
    first = kept.newest(ObjectFilter(), None)
    assert kept.newest(ObjectFilter(), None) is first and len(first.pool) == 10
    assert kept.newest(ObjectFilter(), 2) is not first
    registry.delete(ids[0], who="anna")
    second = kept.newest(ObjectFilter(), None)
    assert second is not first and ids[0] not in second.pool.object_ids
    assert kept.kept(ObjectFilter(), None, first.generation) is first
    for count in range(1, 6):
        kept.newest(ObjectFilter(), count)
    assert kept.kept(ObjectFilter(), None, first.generation) is None


def test_a_sheet_has_a_row_a_group_and_a_grey_tile_for_what_cannot_be_shown():
    red = np.zeros((30, 60, 3), np.uint8)
    red[..., 0] = 255
    inside = surroundings(red, (50.0, 10.0, 58.0, 20.0))
    assert inside.shape == (18, 14, 3)
    sheet = np.asarray(contact_sheet([SheetRow(("one",), [red, None]), SheetRow(("two",), [red[:0]])], 2))
    assert sheet.shape == (2 * TILE + 12, WORDS + 2 * TILE + 12, 3)
    first, second = WORDS + 4 + TILE // 2, WORDS + 8 + TILE + TILE // 2
    top, below = TILE // 2, 8 + TILE + TILE // 2
    assert sheet[top, first].tolist() == [255, 0, 0]
    # A wide thing keeps its shape: paper above and below it.
    assert sheet[8, first].tolist() == [255, 255, 255]
    assert sheet[top, second].tolist() == sheet[below, first].tolist() == [225, 225, 225]
    assert sheet[below, second].tolist() == [255, 255, 255]
