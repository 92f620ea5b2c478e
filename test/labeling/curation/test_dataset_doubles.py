# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Datasets without near duplicates: what is left out, what never is, and what is refused."""

from __future__ import annotations

import dataclasses
import os

import numpy as np
import pytest

from flow_rag_vla.labeling.curation.pictures import LEFT_OUT
from flow_rag_vla.labeling.datasets.errors import CanceledError, DatasetError
from flow_rag_vla.labeling.datasets.folders import read_dataset
from flow_rag_vla.labeling.datasets.splits import SplitRatios
from flow_rag_vla.labeling.datasets.store import DatasetOrder, DatasetStore
from flow_rag_vla.labeling.detections import Origin, ScoreKind
from flow_rag_vla.labeling.registry.errors import ConflictError, ErrorCode
from flow_rag_vla.labeling.registry.values import Embedder, ImageDraft, ObjectChange, ObjectDraft, ReviewState

from .conftest import drafts

ORDER = DatasetOrder("kitchen", ratios=SplitRatios(1.0, 0.0, 0.0), without_duplicates=True)


def build(registry, order=ORDER, **options):
    return DatasetStore.of(registry).build(registry, order, who="anna", **options)


def names(registry, dataset):
    return {registry.image(item.image_id).name for item in dataset.items}


def test_of_pictures_that_show_the_same_one_is_in_the_version_and_the_card_says_so(filled):
    registry, _, _, _ = filled
    made = build(registry)
    assert names(registry, made) == {"1.png", "2.png", "3.png", "4.png"}, "of 0 and 3 the surer is kept"
    assert made.provenance[LEFT_OUT] == 1 and f"{LEFT_OUT}: 1" in (made.images.parent / "card.md").read_text()
    assert read_dataset(made.images.parent, verify=True) == made
    assert sorted(path.name for path in made.images.iterdir()) == sorted(item.file for item in made.items)
    (version,) = registry.datasets.list_versions(name="kitchen")
    assert version.members == 12
    whole = build(registry, dataclasses.replace(ORDER, without_duplicates=False))
    assert len(whole.items) == 5 and LEFT_OUT not in whole.provenance


def test_the_validated_one_stays_and_linked_originals_are_not_touched(filled):
    registry, _, ids, folder = filled
    registry.update(ids[0], ObjectChange(state=ReviewState.ACCEPTED), who="anna")
    made = build(registry, dataclasses.replace(ORDER, link=True))
    assert names(registry, made) == {"0.png", "1.png", "2.png", "4.png"}
    assert all(os.readlink(path).startswith(str(folder)) for path in made.images.iterdir())
    assert len(list(folder.iterdir())) == 5


def test_a_picture_with_a_thing_that_cannot_be_compared_is_no_duplicate(filled):
    registry, source, _, _ = filled
    first = registry.images(source.source_id)[0]
    drawn = ObjectDraft(first.image_id, "cup", (90, 50, 110, 80), 1.0, ScoreKind.HUMAN, Origin("anna"))
    registry.register([drawn], who="anna")
    made = build(registry)
    assert len(made.items) == 5 and made.provenance[LEFT_OUT] == 0


def test_only_what_passes_the_filter_is_compared(filled):
    registry, source, ids, _ = filled
    # The surer twin is out of the filter, so it stands for nothing.
    (surer,) = (image for image in registry.images(source.source_id) if image.name == "3.png")
    for item in registry.get_many(ids):
        if item.image_id == surer.image_id:
            registry.update(item.object_id, ObjectChange(state=ReviewState.REJECTED), who="anna")
    assert names(registry, build(registry)) == {"0.png", "1.png", "2.png", "4.png"}


def test_vectors_that_are_missing_or_do_not_compare_are_refused_and_nothing_is_left(filled):
    registry, source, ids, folder = filled
    registry.set_embeddings({ids[0]: np.eye(4, dtype=np.float32)[0]}, Embedder("other", "1", 4), who="anna")
    with pytest.raises(ConflictError) as caught:
        build(registry)
    assert caught.value.code is ErrorCode.EMBEDDER_MISMATCH
    for object_id in ids:
        registry.delete(object_id, who="anna")
    (image,) = registry.add_images(source.source_id, [ImageDraft("0.png", 128, 96, 9)])
    registry.register(drafts(image.image_id, [("cup", None, 0.9)]), who="made")
    with pytest.raises(DatasetError, match="none of the 1 pictures has a vector") as missing:
        build(registry)
    assert missing.value.code == "vectors_missing"

    def stop(done, total, note=""):
        if note == "comparing pictures":
            raise CanceledError("enough")

    registry.undo(who="anna")
    with pytest.raises(CanceledError):
        build(registry, progress=stop)
    assert not list((registry.folder / "datasets").glob("*/v*")) and registry.datasets.list_versions() == ()
    assert not list((registry.folder / "datasets").glob("*/.unfinished*")) and (folder / "0.png").is_file()
