# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""COCO: ``annotations/instances_train.json`` and its like, pictures in ``images/``."""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

from flow_rag_vla.labeling.datasets import parsing
from flow_rag_vla.labeling.datasets.coco_json import POLYGONS, RLE, Rows, categories_of, split_items, split_json
from flow_rag_vla.labeling.datasets.dataset import LabelDataset, Split
from flow_rag_vla.labeling.datasets.errors import DatasetError
from flow_rag_vla.labeling.datasets.formats.base import (
    IMAGES,
    Format,
    Imported,
    check_size,
    copy_images,
    plain_names,
)
from flow_rag_vla.learn.progress import Progress

ANNOTATIONS = "annotations"
_WORDS = {"train": Split.TRAIN, "valid": Split.VAL, "val": Split.VAL, "test": Split.TEST}


def write(masks: str, dataset: LabelDataset, folder: Path, progress: Progress) -> None:
    """Fill a folder."""
    copy_images(dataset, folder, lambda item: f"{IMAGES}/{item.file}", progress)
    (folder / ANNOTATIONS).mkdir()
    info = {"description": dataset.label, "version": str(dataset.version), "created_ns": dataset.created_ns}
    for split in Split:
        items = dataset.of_split(split)
        if items:
            document = {"info": info, **split_json(items, dataset.categories, masks)}
            path = folder / ANNOTATIONS / f"instances_{split.value}.json"
            path.write_text(json.dumps(document, ensure_ascii=False, allow_nan=False), encoding="utf-8")


def read(path: Path, name: str) -> Imported:
    """A COCO file, or a folder with such files in it or in ``annotations/``; one a split, told by its name.

    Raises:
        DatasetError: as ``Format`` says.
    """
    path = path.expanduser()
    files = _annotation_files(path)
    documents = [(file, parsing.mapping(parsing.read_json(file), str(file))) for file in files]
    rows: list[tuple[Path, Rows]] = []
    categories: dict[int, str] = {}
    given: list[str] = []
    for file, document in documents:
        given += [f"{file}/{one}" for one in _file_names(document, file)]
        for number, category in categories_of(document, str(file)).items():
            if categories.setdefault(number, category) != category:
                raise parsing.corrupt(file, f"category {number} is {category!r}, elsewhere {categories[number]!r}")
    plain = plain_names(given)
    for file, document in documents:
        names = {one: plain[f"{file}/{one}"] for one in _file_names(document, file)}
        rows.append((file, split_items(document, str(file), _split_of(file), names)))
    places = {}
    for file, found in rows:
        for file_name, item in found:
            place = f"{file}, image {item.image_id}"
            places[item.image_id] = _picture(path, file, file_name, place)
            check_size(places[item.image_id], item.width, item.height, place)
    items = tuple(item for _, found in rows for _, item in found)
    ordered = tuple(dict.fromkeys(categories[number] for number in sorted(categories)))
    return Imported(LabelDataset(name, ordered, items), places)


def _file_names(document: Any, file: Path) -> list[str]:
    images = parsing.sequence(document.get("images"), f"{file}, images")
    return [
        parsing.text(parsing.mapping(row, f"{file}, images").get("file_name"), f"{file}, file_name", 1_000)
        for row in images
    ]


def _annotation_files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    for folder in (path / ANNOTATIONS, path):
        files = sorted(folder.glob("*.json"))
        if files:
            return files
    # Roboflow puts a file beside the pictures of each split.
    files = sorted(path.glob("*/*.json"))
    if not files:
        raise DatasetError(f"{path} holds no COCO file: expected {ANNOTATIONS}/*.json", "dataset_missing")
    return files


def _split_of(file: Path) -> Split:
    for text in (file.stem.lower(), file.parent.name.lower()):
        for word, split in _WORDS.items():
            if word in text:
                return split
    return Split.TRAIN


def _picture(path: Path, file: Path, name: str, place: str) -> Path:
    """COCO does not say where pictures lie: in ``images/``, in a folder named as the split, beside the file, ..."""
    root = path if path.is_dir() else file.parent
    stem = file.stem.removeprefix("instances_")
    beside = [root / IMAGES, root, file.parent, root / stem, root / IMAGES / stem]
    if not path.is_dir():
        beside += [file.parent.parent / IMAGES, file.parent.parent / stem, file.parent.parent]
    for folder in beside:
        parts = PurePosixPath(name).parts
        if folder.is_dir() and (folder.joinpath(*parts).is_file() or folder == beside[-1]):
            return parsing.image_file(folder, name, place)
    return parsing.image_file(root, name, place)


COCO = Format("coco", "COCO with masks as run lengths", "outlines are stored as masks", partial(write, RLE), read)
COCO_POLYGONS = Format(
    "coco-polygons",
    "COCO with masks as outlines along their pixels",
    "run lengths are stored as outlines of the same pixels",
    partial(write, POLYGONS),
    read,
)
