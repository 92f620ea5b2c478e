# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A dataset's folder as pictures with their truth."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from flow_rag_vla.labeling.datasets.dataset import Annotation, DatasetItem, LabelDataset, Split
from flow_rag_vla.labeling.datasets.errors import DatasetError
from flow_rag_vla.labeling.datasets.folders import write_dataset
from flow_rag_vla.labeling.datasets.store import DatasetStore
from flow_rag_vla.labeling.evaluation.dataset import open_part, pictures_of, stored_dataset
from flow_rag_vla.labeling.pipeline.errors import ImageError, SourceError
from flow_rag_vla.labeling.run_lengths import mask_counts


@pytest.fixture
def dataset(tmp_path: Path) -> LabelDataset:
    """Two pictures for training, one of them empty, and one for validation; masks everywhere."""
    media = tmp_path / "media"
    media.mkdir()
    mask = np.zeros((40, 60), np.bool_)
    mask[10:20, 5:25] = True
    cup = Annotation("a", "cup", (5.0, 10.0, 25.0, 20.0), tuple(mask_counts(mask)))
    bowl = Annotation("b", "bowl", (30.0, 2.0, 60.0, 12.0), polygons=((30.0, 2.0, 60.0, 2.0, 60.0, 12.0, 30.0, 12.0),))
    rows = (("one", Split.TRAIN, (cup, bowl)), ("two", Split.TRAIN, ()), ("three", Split.VAL, (replace(cup, annotation_id="c"),)))  # noqa: E501  # fmt: skip
    for place, (name, _, _) in enumerate(rows):
        Pillow.fromarray(np.full((40, 60, 3), 40 * place, np.uint8)).save(media / f"{name}.png")
    items = tuple(DatasetItem(name, f"{name}.png", 60, 40, split, annotations=found) for name, split, found in rows)
    made = LabelDataset("cups", ("cup", "bowl", "spoon"), items, 1, images=media)
    return write_dataset(made, tmp_path / "store" / "cups" / "v1")


def test_a_part_has_its_pictures_boxes_and_masks(dataset: LabelDataset, tmp_path: Path) -> None:
    place = stored_dataset("cups", DatasetStore(tmp_path / "store"))
    name, categories, pictures = open_part(place, "train")
    assert (name, categories) == ("cups@v1", ("cup", "bowl", "spoon"))
    first, second = pictures
    assert first.truth.labels == ("cup", "bowl") and first.truth.boxes[1].tolist() == [30.0, 2.0, 60.0, 12.0]
    assert first.load().shape == (40, 60, 3) and len(second.truth) == 0
    masks = first.masks
    assert masks is not None and masks.sum(axis=(1, 2)).tolist() == [200, 300]
    assert stored_dataset("cups@v1", DatasetStore(tmp_path / "store")) == place
    assert [picture.name for picture in open_part(place, "val")[2]] == ["three"]


def test_what_is_not_there_is_named(dataset: LabelDataset, tmp_path: Path) -> None:
    place = str(tmp_path / "store" / "cups" / "v1")
    with pytest.raises(SourceError, match="has no pictures for test"):
        open_part(place, "test")
    store = DatasetStore(tmp_path / "store")
    for text in ("cups@v2", "mugs", "../store/cups", "cups@latest", ""):
        with pytest.raises(DatasetError):
            stored_dataset(text, store)
    (picture,) = pictures_of(dataset, Split.VAL)
    Pillow.fromarray(np.zeros((41, 60, 3), np.uint8)).save(dataset.images / "three.png")
    with pytest.raises(ImageError, match="its labels are of 60 x 40"):
        picture.load()
