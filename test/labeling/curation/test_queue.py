# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What comes next: the choice on vectors, the queue over a real registry, failures out of a real bag."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.data.bag_writer import BagWriter
from flow_rag_vla.data.definitions import Definitions
from flow_rag_vla.labeling.curation.failures import FailureWindow, FailureWindows, bag_failures
from flow_rag_vla.labeling.curation.pictures import picture_duplicates, without_pictures
from flow_rag_vla.labeling.curation.pool import read_pool
from flow_rag_vla.labeling.curation.probe import NOTHING, fit_probe
from flow_rag_vla.labeling.curation.queue import Rankings, rank_next
from flow_rag_vla.labeling.curation.selection import greedy_choice, typicality, uncertainty
from flow_rag_vla.labeling.datasets.dataset import DatasetItem, LabelDataset
from flow_rag_vla.labeling.pipeline.images import read_image
from flow_rag_vla.labeling.registry.errors import ConflictError, InvalidInputError
from flow_rag_vla.labeling.registry.queries import ObjectFilter
from flow_rag_vla.labeling.registry.values import (
    Embedder,
    ImageDraft,
    ObjectChange,
    ReviewState,
    SourceDraft,
    SourceKind,
)

from .conftest import EMBEDDER, clusters, drafts, made_pool, unit

SECOND = 1_000_000_000


def test_a_merged_class_does_not_look_as_if_somebody_had_changed_what_was_proposed(filled):
    registry, _, ids, _ = filled
    registry.update(ids[0], ObjectChange(category="tray"), who="anna")
    registry.merge_category("bowl", "cup", who="anna")
    pool = read_pool(registry)
    proposed = dict(zip(pool.object_ids, zip(pool.labels, pool.proposed, strict=True), strict=True))
    assert proposed[ids[0]] == ("tray", "cup") and proposed[ids[1]] == ("cup", "cup")


def test_the_choice_takes_one_of_each_heap_before_a_second_and_the_outlier_last():
    vectors, of = clusters([40, 10, 5])
    everything = np.concatenate([vectors, unit(-vectors.mean(axis=0, keepdims=True))])
    common = typicality(everything, 4)
    assert common.min() > 0 and common.max() <= 1 and common.argmin() == len(vectors)
    choice = greedy_choice(everything, common, np.arange(len(everything)), np.zeros(0, np.int64), 4)
    assert len({int(of[row]) for row in choice.positions[:4] if row < len(of)}) == 3
    assert (np.diff(choice.values) <= 1e-9).all(), "what is picked later is never worth more"
    assert greedy_choice(everything, common, np.arange(3), np.zeros(0, np.int64), 9).positions.size == 3
    # What lies in a heap that is known teaches less than what lies in none.
    known = np.flatnonzero(of == 0)
    assert of[greedy_choice(vectors, np.ones(55), np.flatnonzero(of > -1)[40:], known, 1).positions[0]] > 0


def test_a_probe_tells_classes_apart_and_is_unsure_between_them():
    vectors, of = clusters([30, 30, 3], spread=0.1)
    names = [("cup", "bowl", NOTHING)[place] for place in of]
    judged = np.array([0, 1, 2, 3, 4, 5, 30, 60])
    probe = fit_probe(vectors[judged], [names[row] for row in judged])
    assert probe.predict(vectors) == tuple(names), "rare classes too"
    between = unit(vectors[0:1] + vectors[30:31])
    unsure = uncertainty(np.concatenate([vectors, between]), judged, [names[row] for row in judged])
    assert unsure.argmax() == len(vectors) and ((unsure >= 0) & (unsure <= 1)).all()
    assert (uncertainty(vectors, np.zeros(0, np.int64), []) == 1.0).all()
    with pytest.raises(ValueError, match="judge at least one"):
        fit_probe(vectors[:0], [])


def test_unreviewed_objects_are_ranked_and_what_was_judged_changes_the_order(filled):
    registry, source, ids, _ = filled
    ranking = rank_next(registry, budget=4)
    objects = registry.get_many([item.object_id for item in ranking.items])
    assert {item.category for item in objects[:3]} == {"cup", "bowl", "tray"}
    assert (ranking.waiting, ranking.judged, ranking.near_failures) == (15, 0, 0)
    for name in ids[0::3][:3]:  # three cups
        registry.update(name, ObjectChange(state=ReviewState.ACCEPTED), who="anna")
    registry.update(ids[1], ObjectChange(state=ReviewState.REJECTED), who="anna")
    after = rank_next(registry, budget=100)
    assert (after.waiting, after.judged, len(after.items)) == (11, 4, 11)
    assert registry.get(after.items[0].object_id).category == "tray"
    only = rank_next(registry, ObjectFilter(categories=("cup",), source_ids=(source.source_id,)))
    assert {registry.get(item.object_id).category for item in only.items} == {"cup"} and only.judged == 4
    with pytest.raises(ValueError, match="budget is 0"):
        rank_next(registry, budget=0)
    with pytest.raises(InvalidInputError, match="no category 'mug'"):
        rank_next(registry, ObjectFilter(categories=("mug",)))


def test_what_has_no_vector_comes_last_and_vectors_of_two_embedders_are_refused(filled):
    registry, source, _, _ = filled
    image = registry.images(source.source_id)[0].image_id
    (bare,) = registry.register(drafts(image, [("cup", None, 0.2)]), who="made").object_ids
    ranking = rank_next(registry)
    assert (ranking.items[-1].object_id, ranking.waiting) == (bare, 16)
    other = Embedder("other", "2", 16)
    registry.set_embeddings({bare: unit(np.ones(16))}, other, who="made")
    with pytest.raises(ConflictError, match="other@2"):
        rank_next(registry)
    registry.update(bare, ObjectChange(state=ReviewState.ACCEPTED), who="anna")
    with pytest.raises(ConflictError, match="what was reviewed has vectors of other@2"):
        rank_next(registry)


def test_a_ranking_is_kept_until_something_changes(filled):
    registry, _, ids, _ = filled
    rankings = Rankings(registry)
    first = rankings.newest(ObjectFilter())
    assert rankings.newest(ObjectFilter()) is first
    registry.update(ids[0], ObjectChange(state=ReviewState.ACCEPTED), who="anna")
    second = rankings.newest(ObjectFilter())
    assert second is not first and ids[0] not in {item.object_id for item in second.items}
    assert rankings.kept(ObjectFilter(), first.generation) is first
    assert rankings.kept(ObjectFilter(categories=("cup",)), first.generation) is None


def failure_bag(folder):
    """A drop at 20 s that was seen at 21 s, and something unheard of at 40 s."""
    definitions = Definitions()
    own = "flow_rag_vla_interfaces/msg"

    def time(stamp):
        return definitions.message("builtin_interfaces/msg/Time", sec=stamp // SECOND, nanosec=stamp % SECOND)

    with BagWriter(folder, definitions) as writer:
        writer.add_topic("/failure_event", f"{own}/FailureEvent")
        for kind, onset, seen, phase in ((FailureType.DROP, 20, 21, "carry"), (99, 0, 40, "")):
            header = definitions.message("std_msgs/msg/Header", stamp=time(seen * SECOND), frame_id="")
            message = definitions.message(
                f"{own}/FailureEvent", header=header, failure_type=int(kind), phase=phase, onset=time(onset * SECOND)
            )
            writer.write_message("/failure_event", seen * SECOND, message)


def test_frames_from_around_a_failure_that_a_bag_recorded_come_first(registry, tmp_path):
    failure_bag(tmp_path / "bag")
    source = registry.add_source(SourceDraft(SourceKind.BAG, str(tmp_path / "bag")))
    gone = registry.add_source(SourceDraft(SourceKind.BAG, str(tmp_path / "gone")))
    vectors, _ = clusters([6, 6])
    stamps = [5, 17, 18, 22, 23, 60]
    ids = []
    for place, stamp in enumerate(stamps):
        image = registry.add_images(source.source_id, [ImageDraft("front", 64, 48, place, stamp * SECOND)])[0]
        ids += registry.register(drafts(image.image_id, [("cup", vectors[place], 0.9)]), who="made").object_ids
    windows = FailureWindows()
    found = windows.of(registry)
    assert found == (
        FailureWindow(source.source_id, 18 * SECOND, 22 * SECOND, "drop in carry"),
        FailureWindow(source.source_id, 38 * SECOND, 41 * SECOND, "failure"),
    )
    assert len(windows.problems) == 1 and "gone" in windows.problems[0] and gone.source_id
    ranking = rank_next(registry, windows=found)
    assert ranking.near_failures == 2
    assert [item.reason for item in ranking.items] == ["drop in carry"] * 2 + [""] * 4
    assert {item.object_id for item in ranking.items[:2]} == set(ids[2:4])
    with pytest.raises(ValueError, match="-1"):
        bag_failures(tmp_path / "bag", source.source_id, before_s=-1.0)


def test_what_people_changed_is_told_from_what_the_model_proposed(filled):
    registry, _, ids, _ = filled
    registry.update(ids[0], ObjectChange(category="bowl"), who="ben")
    registry.update(ids[0], ObjectChange(category="tray", state=ReviewState.RELABELLED), who="anna")
    pool = read_pool(registry)
    assert (pool.labels[0], pool.proposed[0], len(pool), pool.embedder) == ("tray", "cup", 15, EMBEDDER)
    assert pool.proposed[1:] == pool.labels[1:]
    assert np.allclose(pool.vectors[0], registry.embedding(ids[0])[0])
    few = read_pool(registry, most=4)
    assert few.scores.tolist() == sorted(pool.scores.tolist())[:4]


def test_of_two_pictures_that_show_the_same_the_validated_one_is_kept(filled):
    registry, source, ids, folder = filled
    images = registry.images(source.source_id)

    def pixels(image_id):
        return read_image(folder / registry.image(image_id).name)

    found = picture_duplicates(read_pool(registry), pixels)
    assert found.duplicates == (images[0].image_id,), "the surer of the two is kept"
    registry.update(ids[0], ObjectChange(state=ReviewState.ACCEPTED), who="anna")
    found = picture_duplicates(read_pool(registry), pixels)
    assert found.duplicates == (images[3].image_id,)
    # Things in other places, a thing that is missing, a picture that cannot be read: each is kept.
    assert picture_duplicates(read_pool(registry), lambda image_id: None).unread
    assert not picture_duplicates(read_pool(registry), lambda image_id: None).duplicates
    registry.update(ids[9], ObjectChange(box=(60, 60, 90, 90)), who="anna")
    pool = read_pool(registry)
    pool = dataclasses.replace(pool, scores=np.full(len(pool), 0.95))
    assert not picture_duplicates(pool, pixels).duplicates
    unsure = dataclasses.replace(pool, scores=np.where(np.arange(15) == 9, 0.3, 0.95))
    assert not picture_duplicates(unsure, pixels).duplicates, "the validated cup has no partner"


def test_pictures_are_left_out_of_a_dataset_and_its_provenance_says_how_many():
    items = tuple(DatasetItem(f"p{place}", f"{place}.png", 8, 8) for place in range(3))
    dataset = LabelDataset("kitchen", ("cup",), items, provenance={"seed": 1})
    less = without_pictures(dataset, ["p1", "elsewhere"])
    assert [item.image_id for item in less.items] == ["p0", "p2"]
    assert less.provenance == {"seed": 1, "near duplicates left out": 1}


def test_an_empty_pool_has_nothing_to_say(registry):
    assert rank_next(registry).items == ()
    empty = made_pool(np.zeros((0, 16), np.float32), [])
    assert picture_duplicates(empty, None).duplicates == ()
