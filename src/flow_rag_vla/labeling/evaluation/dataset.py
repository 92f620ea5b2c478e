# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures of a dataset, or of the simulator, to learn from and to be measured on."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np

from flow_rag_vla.labeling.compact.categories import CATEGORIES
from flow_rag_vla.labeling.datasets.dataset import DatasetItem, LabelDataset, Split
from flow_rag_vla.labeling.datasets.folders import read_dataset
from flow_rag_vla.labeling.datasets.outlines import mask_of
from flow_rag_vla.labeling.datasets.store import DatasetStore
from flow_rag_vla.labeling.datasets.summaries import parse_label
from flow_rag_vla.labeling.detections import Detections, Masks, Origin, ScoreKind
from flow_rag_vla.labeling.evaluation.pictures import TruePicture
from flow_rag_vla.labeling.pipeline.errors import ImageError, SourceError
from flow_rag_vla.labeling.pipeline.images import Image, read_image
from flow_rag_vla.learn.progress import Progress, silent

SIMULATOR = "simulator"
_SIMULATED = re.compile(rf"{SIMULATOR}:([1-9][0-9]{{0,3}})")
_VAL_SHARE = 5
"""One simulated scene for validation on so many for training."""


def open_part(source: str, part: str, progress: Progress = silent) -> tuple[str, tuple[str, ...], list[TruePicture]]:
    """A name, the categories and the pictures of one part of a dataset.

    Args:
        source: folder of a dataset, or ``simulator:N``: N scenes of the simulator, three pictures each (for "val" a
            fifth of them), drawn now.
        part: train, val or test.
        progress: told of simulated pictures.

    Raises:
        DatasetError: the folder is not there or damaged.
        SourceError: it is neither, or ``part`` is none or empty.
    """
    if part not in {split.value for split in Split}:
        raise SourceError(f"part {part!r} is none of {', '.join(split.value for split in Split)}")
    simulated = _SIMULATED.fullmatch(source)
    if simulated:
        # Only here is the simulator needed.
        from flow_rag_vla.labeling.evaluation.simulated import simulated_pictures

        scenes = int(simulated[1])
        count = max(1, scenes // _VAL_SHARE) if part == Split.VAL.value else scenes
        return source, CATEGORIES, simulated_pictures(part, count, progress=progress)
    if source.startswith(f"{SIMULATOR}:"):
        raise SourceError(f"{source!r} is not of the form {SIMULATOR}:N, such as {SIMULATOR}:60 scenes")
    dataset = read_dataset(Path(source).expanduser())
    pictures = pictures_of(dataset, Split(part))
    if not pictures:
        raise SourceError(
            f"{dataset.label} in {source} has no pictures for {part}: build it with such a share, or take another part",
            "source_empty",
        )
    return dataset.label, dataset.categories, pictures


def stored_dataset(text: str, store: DatasetStore) -> str:
    """Where the dataset lies that somebody names: ``name`` (its newest version) or ``name@vN`` of a store.

    ``simulator:N`` is given back as it is. Nothing outside of the store can be named.

    Raises:
        DatasetError: there is none of that name, or the name is none.
    """
    if text.startswith(f"{SIMULATOR}:"):
        return text
    return str(store.folder(*parse_label(text)))


def pictures_of(dataset: LabelDataset, split: Split) -> list[TruePicture]:
    """The pictures of a split with what is in them; they are read when they are needed."""
    return [_picture(dataset, item) for item in dataset.of_split(split)]


def _picture(dataset: LabelDataset, item: DatasetItem) -> TruePicture:
    annotations = item.annotations
    # A box may stand a thousandth of a pixel over the edge.
    limits = np.asarray([item.width, item.height] * 2, np.float32)
    boxes = np.clip(np.asarray([one.box for one in annotations], np.float32).reshape(-1, 4), 0.0, limits)
    truth = Detections(
        item.width,
        item.height,
        boxes,
        np.ones(len(annotations), np.float32),
        tuple(one.category for one in annotations),
        ScoreKind.GROUND_TRUTH,
        Origin(dataset.label),
    )
    masked = bool(annotations) and all(one.rle or one.polygons for one in annotations)
    load = partial(_image, str(dataset.image_path(item)), item.width, item.height)
    return TruePicture(item.image_id, load, truth, partial(_masks, item) if masked or not annotations else None)


def _image(path: str, width: int, height: int) -> Image:
    image = read_image(path)
    if image.shape[:2] != (height, width):
        raise ImageError(
            f"{path} is {image.shape[1]} x {image.shape[0]} pixels, its labels are of {width} x {height}: bring the "
            "picture back that was labelled",
            "image_shape",
        )
    return image


def _masks(item: DatasetItem) -> Masks:
    masks = [mask_of(one, item) for one in item.annotations]
    kept = [mask for mask in masks if mask is not None]
    return np.stack(kept) if kept else np.zeros((0, item.height, item.width), np.bool_)
