# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Datasets out to the formats of others, and in from them."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from flow_rag_vla.core.files import replaced_file
from flow_rag_vla.labeling.datasets.card import card_text, classes_svg
from flow_rag_vla.labeling.datasets.dataset import LabelDataset, Split, check_name
from flow_rag_vla.labeling.datasets.errors import DatasetError, disk_checked
from flow_rag_vla.labeling.datasets.folders import CARD, CLASSES
from flow_rag_vla.labeling.datasets.formats.base import Format, Imported
from flow_rag_vla.labeling.datasets.formats.coco import COCO, COCO_POLYGONS
from flow_rag_vla.labeling.datasets.formats.cvat import CVAT
from flow_rag_vla.labeling.datasets.formats.label_studio import LABEL_STUDIO
from flow_rag_vla.labeling.datasets.formats.lerobot import LEROBOT
from flow_rag_vla.labeling.datasets.formats.yolo import YOLO, YOLO_SEG
from flow_rag_vla.labeling.datasets.new_folder import new_folder
from flow_rag_vla.learn.progress import Progress, silent

FORMATS: Mapping[str, Format] = {
    one.name: one for one in (YOLO, YOLO_SEG, COCO, COCO_POLYGONS, LABEL_STUDIO, CVAT, LEROBOT)
}
IMPORTED = "imported from"
"""In the provenance: path and format."""


def format_named(name: str) -> Format:
    """A format by its name.

    Raises:
        DatasetError: ``unknown_format``; it lists what is known.
    """
    if name not in FORMATS:
        raise DatasetError(f"there is no format {name[:40]!r}; known: {', '.join(FORMATS)}", "unknown_format")
    return FORMATS[name]


def export_dataset(dataset: LabelDataset, kind: str, folder: str | Path, *, progress: Progress = silent) -> Path:
    """Write a dataset in a format, with its pictures and its card, as a new folder: whole or not at all.

    Args:
        dataset: as read from its folder.
        kind: one of FORMATS.
        folder: to be made; must not exist.
        progress: called after each picture; an error that it raises ends the work and leaves nothing.

    Raises:
        DatasetError: ``unknown_format``, ``dataset_exists``, ``image_missing``, ``disk_full``, ``storage_failed``.
    """
    chosen = format_named(kind)
    target = Path(folder).expanduser()
    with new_folder(target) as unfinished:
        chosen.write(dataset, unfinished, progress)
        (unfinished / CARD).write_text(card_text(dataset), encoding="utf-8")
        (unfinished / CLASSES).write_text(classes_svg(dataset), encoding="utf-8")
    return target


def import_dataset(path: str | Path, kind: str, name: str) -> Imported:
    """Read what somebody wrote in a format; store it with ``DatasetStore.add`` or ``write_dataset``, then close it.

    Args:
        path: folder or file.
        kind: one of FORMATS.
        name: of the dataset that it becomes.

    Raises:
        DatasetError: ``unknown_format``, ``dataset_missing``, ``dataset_corrupt``, ``dataset_empty``, ``unsafe_path``,
            ``image_missing``, ``image_mismatch``, ``image_corrupt``, ``unknown_category``, ``box_outside_image``,
            ``box_without_area``, ``mask_invalid``, ``extra_missing``.
    """
    chosen = format_named(kind)
    check_name(name)
    if not Path(path).expanduser().exists():
        raise DatasetError(f"there is no file or folder {path}", "dataset_missing")
    found = chosen.read(Path(path).expanduser(), name)
    try:
        if not found.dataset.items:
            raise DatasetError(f"{path} holds no pictures: is the copy complete?", "dataset_empty")
        said = {IMPORTED: f"{Path(path).name} ({chosen.about})"}
        ordered = tuple(item for split in Split for item in found.dataset.of_split(split))
        return replace(found, dataset=replace(found.dataset, items=ordered, provenance=said))
    except BaseException:
        found.close()
        raise


def zip_folder(folder: Path, target: Path) -> Path:
    """A folder as one ZIP file, whole or absent; pictures are stored as they are.

    Raises:
        DatasetError: ``disk_full`` or ``storage_failed``.
    """
    with (
        disk_checked(target),
        replaced_file(target) as temporary,
        zipfile.ZipFile(temporary, "w", strict_timestamps=False) as archive,
    ):
        for path in sorted(folder.rglob("*")):
            if path.is_file():
                kind = zipfile.ZIP_DEFLATED if path.suffix in (".json", ".txt", ".xml") else zipfile.ZIP_STORED
                archive.write(path, path.relative_to(folder).as_posix(), compress_type=kind)
    return target
