# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A version of a dataset as a folder: written whole or not at all, checked when it is read.

::

    cups/v3/
    ├── manifest.json            name, version, categories, counts, provenance, SHA-256 of every file
    ├── annotations/train.json   COCO, with further fields; val.json and test.json where there are such pictures
    ├── images/                  the pictures (or links to them)
    ├── card.md                  what it is, for people
    └── classes.svg              how many there are of each category
"""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from flow_rag_vla.labeling.datasets import parsing
from flow_rag_vla.labeling.datasets.card import card_text, classes_svg
from flow_rag_vla.labeling.datasets.coco_json import split_items, split_json
from flow_rag_vla.labeling.datasets.dataset import DatasetItem, LabelDataset, Split, check_file
from flow_rag_vla.labeling.datasets.errors import DatasetError, disk_checked
from flow_rag_vla.labeling.datasets.new_folder import new_folder
from flow_rag_vla.learn.progress import Progress, silent

FORMAT = 1
MANIFEST, CARD, CLASSES = "manifest.json", "card.md", "classes.svg"
ANNOTATIONS, IMAGES = "annotations", "images"


def write_dataset(
    dataset: LabelDataset,
    folder: str | Path,
    *,
    files: Mapping[str, Path] | None = None,
    link: bool = False,
    progress: Progress = silent,
) -> LabelDataset:
    """Write a dataset with its pictures as a new folder.

    Args:
        dataset: its pictures are read from ``dataset.images``.
        folder: to be made; must not exist.
        files: where pictures are that are not in ``dataset.images``, by image id.
        link: symbolic links to the pictures instead of copies: small, but whoever changes them changes the dataset.
        progress: called after each picture; an error that it raises ends the work and leaves nothing.

    Returns:
        The dataset as it lies there: pictures by split, with their digests.

    Raises:
        DatasetError: ``dataset_exists``, ``image_missing``, ``image_mismatch``, ``disk_full``, ``storage_failed``.
    """
    target = Path(folder).expanduser()
    with new_folder(target) as unfinished:
        (unfinished / IMAGES).mkdir()
        items = []
        ordered = [item for split in Split for item in dataset.of_split(split)]
        for number, item in enumerate(ordered, 1):
            source = (files or {}).get(item.image_id, dataset.image_path(item))
            items.append(_with_image(item, source, unfinished / IMAGES / item.file, link))
            progress(number, len(ordered), item.file)
        stored = replace(dataset, items=tuple(items), images=target / IMAGES)
        fill(stored, unfinished)
    return stored


def _with_image(item: DatasetItem, source: Path, place: Path, link: bool) -> DatasetItem:
    if not source.is_file():
        raise DatasetError(f"image {item.image_id}: there is no {source}: copy it back", "image_missing")
    if link:
        place.symlink_to(source.resolve())
    else:
        shutil.copyfile(source, place)
    digest = file_digest(place)
    if item.sha256 and item.sha256 != digest:
        raise DatasetError(
            f"image {item.image_id}: {source} is not the picture that was labelled (SHA-256 {digest[:12]}..., expected "
            f"{item.sha256[:12]}...): bring the old one back",
            "image_mismatch",
        )
    return replace(item, sha256=digest)


def fill(dataset: LabelDataset, folder: Path) -> None:
    """Write all but the pictures into a folder that is being made."""
    (folder / ANNOTATIONS).mkdir()
    files: dict[str, str] = {}
    for split in Split:
        items = dataset.of_split(split)
        if items:
            name = f"{ANNOTATIONS}/{split.value}.json"
            _write_json(folder / name, split_json(items, dataset.categories))
            files[name] = file_digest(folder / name)
    (folder / CLASSES).write_text(classes_svg(dataset), encoding="utf-8")
    (folder / CARD).write_text(card_text(dataset), encoding="utf-8")
    manifest = {
        "format": FORMAT,
        "name": dataset.name,
        "version": dataset.version,
        "created_ns": dataset.created_ns,
        "categories": list(dataset.categories),
        "images": {split.value: len(dataset.of_split(split)) for split in Split},
        "annotations": dataset.annotation_count,
        "provenance": dict(dataset.provenance),
        "files": files,
    }
    _write_json(folder / MANIFEST, manifest)


def read_dataset(folder: str | Path, *, verify: bool = False) -> LabelDataset:
    """The dataset in a folder.

    Args:
        folder: that holds ``manifest.json``.
        verify: read every picture and compare its SHA-256.

    Raises:
        DatasetError: ``dataset_missing``, ``dataset_corrupt``, ``image_missing``, ``image_mismatch``.
    """
    root = Path(folder).expanduser()
    if not (root / MANIFEST).is_file():
        raise DatasetError(
            f"{root} holds no {MANIFEST}, so there is no dataset: give the folder of a version that "
            "'flow_rag_vla label-dataset build' made, or where a name is taken, its folder of datasets with --store",
            "dataset_missing",
        )
    manifest = read_manifest(root)
    items: list[DatasetItem] = []
    for name, digest in parsing.mapping(manifest.get("files"), f"{root / MANIFEST}, files").items():
        if name not in {f"{ANNOTATIONS}/{split.value}.json" for split in Split}:
            raise parsing.corrupt(root / MANIFEST, f"files names {name[:80]!r}")
        if not (root / name).is_file():
            raise parsing.corrupt(root / name, "it is not there")
        document = parsing.read_json(root / name)
        if file_digest(root / name) != digest:
            raise parsing.corrupt(root / name, "it is not what was written (its SHA-256 differs)")
        items += [item for _, item in split_items(document, str(root / name), Split(Path(name).stem))]
    dataset = LabelDataset(
        name=parsing.text(manifest.get("name"), f"{root / MANIFEST}, name"),
        categories=tuple(
            parsing.text(one, f"{root / MANIFEST}, categories")
            for one in parsing.sequence(manifest.get("categories"), f"{root / MANIFEST}, categories")
        ),
        items=tuple(items),
        version=parsing.whole(manifest.get("version"), f"{root / MANIFEST}, version"),
        created_ns=parsing.whole(manifest.get("created_ns"), f"{root / MANIFEST}, created_ns"),
        provenance=parsing.mapping(manifest.get("provenance"), f"{root / MANIFEST}, provenance"),
        images=root / IMAGES,
    )
    _check_images(dataset, verify)
    return dataset


def read_manifest(root: Path) -> Mapping[str, Any]:
    """What a folder says of itself.

    Raises:
        DatasetError: ``dataset_missing`` or ``dataset_corrupt``; also for a newer format.
    """
    manifest = parsing.mapping(parsing.read_json(root / MANIFEST), str(root / MANIFEST))
    if manifest.get("format") != FORMAT:
        raise parsing.corrupt(root / MANIFEST, f"format is {manifest.get('format')!r}, this program reads {FORMAT}")
    return manifest


def _check_images(dataset: LabelDataset, verify: bool) -> None:
    for item in dataset.items:
        path = dataset.images / check_file(item.file, item.image_id)
        if not path.is_file():
            raise DatasetError(f"image {item.image_id}: there is no {path}: is the copy complete?", "image_missing")
        if verify and item.sha256 and file_digest(path) != item.sha256:
            raise DatasetError(f"image {item.image_id}: {path} was changed: copy it again", "image_mismatch")


def file_digest(path: Path) -> str:
    """SHA-256 of a file, 64 hex digits."""
    digest = hashlib.sha256()
    with disk_checked(path), path.open("rb") as stream:
        while part := stream.read(1 << 20):
            digest.update(part)
    return digest.hexdigest()


def versions_in(folder: Path) -> dict[int, Path]:
    """The versions of a dataset below its folder (``v1``, ``v2``, ...) by number."""
    found = {}
    for path in folder.iterdir() if folder.is_dir() else ():
        number = path.name[1:]
        if path.name.startswith("v") and number.isdigit() and str(int(number)) == number and path.is_dir():
            found[int(number)] = path
    return dict(sorted(found.items()))


def _write_json(path: Path, value: Any) -> None:
    with path.open("w", encoding="utf-8") as stream:
        json.dump(value, stream, ensure_ascii=False, allow_nan=False, indent=1 if path.name == MANIFEST else None)
        stream.write("\n")
