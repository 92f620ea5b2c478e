# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""CVAT for images 1.1, as CVAT exports a project: ``annotations.xml``, and the pictures in ``images/`` by subset.

CVAT finds a picture by its name as it was uploaded: plain, without folders. Where no name fits it counts the pictures
of a task in the order of their names, which is what their numbers are here. ``labels.json`` is for the constructor of
a task's labels.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as Tree

import numpy as np

from flow_rag_vla.labeling.datasets import parsing
from flow_rag_vla.labeling.datasets.dataset import Annotation, Box, DatasetItem, LabelDataset, Ring, Split
from flow_rag_vla.labeling.datasets.details import annotation_details, annotation_fields, edges_or
from flow_rag_vla.labeling.datasets.errors import DatasetError
from flow_rag_vla.labeling.datasets.formats.base import (
    IMAGES,
    Format,
    Imported,
    by_id,
    check_size,
    copy_images,
    found_below,
    plain_names,
)
from flow_rag_vla.labeling.datasets.outlines import bounds, mask_of
from flow_rag_vla.labeling.datasets.xml_reading import read_xml
from flow_rag_vla.labeling.pipeline.boxes import box_of
from flow_rag_vla.labeling.run_lengths import mask_counts
from flow_rag_vla.learn.progress import Progress

FILE, LABELS = "annotations.xml", "labels.json"
_DETAILS = "details"
_NEAR = 0.01
"""Pixels within which a shape is the one that was written: CVAT keeps two decimals."""
_SPLITS = {"train": Split.TRAIN, "val": Split.VAL, "validation": Split.VAL, "valid": Split.VAL, "test": Split.TEST}


def write(dataset: LabelDataset, folder: Path, progress: Progress) -> None:
    """Fill a folder."""
    copy_images(dataset, folder, lambda item: f"{IMAGES}/{item.split.value}/{by_id(item)}", progress)
    root = Tree.Element("annotations")
    Tree.SubElement(root, "version").text = "1.1"
    numbers = _project(Tree.SubElement(root, "meta"), dataset)
    for item in dataset.items:
        task_id, number = numbers[by_id(item)]
        about = {"id": str(number), "name": by_id(item), "subset": item.split.value, "task_id": str(task_id)}
        image = Tree.SubElement(root, "image", {**about, "width": str(item.width), "height": str(item.height)})
        for one in item.annotations:
            _shape(image, one, item)
    Tree.indent(root, " ")
    Tree.ElementTree(root).write(folder / FILE, encoding="utf-8", xml_declaration=True)
    (folder / LABELS).write_text(json.dumps(_task_labels(dataset), ensure_ascii=False, indent=1), encoding="utf-8")


def _project(meta: Tree.Element, dataset: LabelDataset) -> dict[str, tuple[int, int]]:
    """Describe labels and subsets; the task of each picture and its number there, by name."""
    project = Tree.SubElement(meta, "project")
    Tree.SubElement(project, "name").text = dataset.label
    labels = Tree.SubElement(project, "labels")
    for name in dataset.categories:
        label = Tree.SubElement(labels, "label")
        Tree.SubElement(label, "name").text = name
        attribute = Tree.SubElement(Tree.SubElement(label, "attributes"), "attribute")
        for key, value in (("name", _DETAILS), ("mutable", "False"), ("input_type", "text"), ("values", "")):
            Tree.SubElement(attribute, key).text = value
    used = [split for split in Split if dataset.of_split(split)]
    Tree.SubElement(project, "subsets").text = "\n".join(split.value for split in used)
    tasks = Tree.SubElement(project, "tasks")
    numbers: dict[str, tuple[int, int]] = {}
    for task_id, split in enumerate(used, 1):
        names = sorted(by_id(item) for item in dataset.of_split(split))
        numbers |= {name: (task_id, number) for number, name in enumerate(names)}
        task = Tree.SubElement(tasks, "task")
        said = {"id": task_id, "name": f"{dataset.label} {split.value}", "size": len(names), "mode": "annotation"}
        for key, text in {**said, "subset": split.value}.items():
            Tree.SubElement(task, key).text = str(text)
    return numbers


def _task_labels(dataset: LabelDataset) -> list[dict[str, Any]]:
    """The labels as a task's raw constructor takes them. Without the attribute, CVAT drops what it holds."""
    attribute = {"name": _DETAILS, "mutable": False, "input_type": "text", "default_value": "", "values": [""]}
    return [{"name": name, "type": "any", "attributes": [attribute]} for name in dataset.categories]


def _shape(image: Tree.Element, annotation: Annotation, item: DatasetItem) -> None:
    about = {
        "label": annotation.category,
        "source": "manual" if annotation.validated else "auto",
        "occluded": "0",
        "z_order": "0",
    }
    if len(annotation.polygons) == 1:
        ring = annotation.polygons[0]
        points = ";".join(f"{x!r},{y!r}" for x, y in zip(ring[0::2], ring[1::2], strict=True))
        shape = Tree.SubElement(image, "polygon", {**about, "points": points})
    elif annotation.rle or annotation.polygons:
        shape = Tree.SubElement(image, "mask", {**about, **_mask(annotation, item)})
    else:
        left, top, right, bottom = (repr(value) for value in annotation.box)
        shape = Tree.SubElement(image, "box", {**about, "xtl": left, "ytl": top, "xbr": right, "ybr": bottom})
    details = annotation_details(annotation)
    around = _around(annotation, item)
    if around is not None:
        details["around"] = list(around)
    text = json.dumps(details, ensure_ascii=False, allow_nan=False)
    Tree.SubElement(shape, "attribute", {"name": _DETAILS}).text = text


def _around(annotation: Annotation, item: DatasetItem) -> Box | None:
    """The box around what is drawn, where that is no box."""
    if len(annotation.polygons) == 1:
        return bounds(annotation.polygons)
    mask = mask_of(annotation, item)
    return None if mask is None else box_of(mask)


def _mask(annotation: Annotation, item: DatasetItem) -> dict[str, str]:
    """The part of the picture that a mask fills, row by row, as run lengths beginning with those outside."""
    mask = mask_of(annotation, item)
    assert mask is not None
    left, top, right, bottom = (int(value) for value in box_of(mask) or (0, 0, 1, 1))
    runs = mask_counts(mask[top:bottom, left:right].T)
    place = {"left": left, "top": top, "width": right - left, "height": bottom - top}
    return {"rle": ", ".join(map(str, runs)), **{name: str(value) for name, value in place.items()}}


def read(path: Path, name: str) -> Imported:
    """A folder with ``annotations.xml``, or that file.

    Raises:
        DatasetError: as ``Format`` says.
    """
    file = found_below(path, FILE)
    root = read_xml(file)
    if root.tag != "annotations":
        raise parsing.corrupt(file, f"it holds {root.tag[:40]!r}, expected annotations (CVAT for images 1.1)")
    images = root.findall("image")
    if not images:
        raise DatasetError(f"{file} holds no images; of a video, export 'CVAT for images'", "dataset_empty")
    listed = [one.text or "" for one in root.findall("./meta//labels/label/name")]
    categories = tuple(dict.fromkeys(parsing.text(one, f"{file}, labels", 200) for one in listed))
    subsets = [one.get("subset", "") for one in images]
    # One name may be there once a subset.
    given = [f"{subset}/{one.get('name', '')}" for subset, one in zip(subsets, images, strict=True)]
    plain = plain_names(given)
    items, files = [], {}
    taken: set[str] = set()
    for number, (image, subset, key) in enumerate(zip(images, subsets, given, strict=True)):
        place = f"{file}, image {number}"
        found = _picture(file.parent, subset, image.get("name", ""), place)
        width = parsing.whole(parsing.decimal(image.get("width"), place), f"{place}, width", 1, 1 << 16)
        height = parsing.whole(parsing.decimal(image.get("height"), place), f"{place}, height", 1, 1 << 16)
        check_size(found, width, height, place)
        stem = Path(plain[key]).stem
        image_id = stem if stem not in taken else f"image_{number}"
        taken.add(image_id)
        annotations = [
            _annotation(one, f"{place}, {one.tag} {which}", width, height, categories, f"{image_id}_{which}")
            for which, one in enumerate(image)
            if one.tag != "tag"  # What is said of a picture as a whole is no annotation of a thing in it.
        ]
        split = _SPLITS.get(subset.lower(), Split.TRAIN)
        items.append(DatasetItem(image_id, plain[key], width, height, split, annotations=tuple(annotations)))
        files[image_id] = found
    named = categories or tuple(sorted({one.category for item in items for one in item.annotations}))
    return Imported(LabelDataset(name, named, tuple(items)), files)


def _picture(root: Path, subset: str, name: str, place: str) -> Path:
    """CVAT names pictures as they were uploaded; they lie in ``images/``, there by subset, or beside the file."""
    for folder in (f"{IMAGES}/{subset}", IMAGES):
        try:
            return parsing.image_file(root, f"{folder}/{name}", place)
        except DatasetError as error:
            if error.code != "image_missing":
                raise
    return parsing.image_file(root, name, place)


def _annotation(
    shape: Tree.Element, place: str, width: int, height: int, categories: Sequence[str], unnamed: str
) -> Annotation:
    category = parsing.text(shape.get("label", ""), f"{place}, label", 200)
    if categories and category not in categories:
        raise DatasetError(
            f"{place}: there is no label {category[:80]!r}; known: {', '.join(categories[:50])}", "unknown_category"
        )
    details = _details(shape, place)
    rle: tuple[int, ...] = ()
    rings: tuple[Ring, ...] = ()
    if shape.tag == "box":
        if parsing.decimal(shape.get("rotation", "0"), place):
            raise DatasetError(f"{place}: a turned box is not read: draw an outline", "box_outside_image")
        numbers = [parsing.decimal(shape.get(one), f"{place}, {one}") for one in ("xtl", "ytl", "xbr", "ybr")]
        drawn: Box = (numbers[0], numbers[1], numbers[2], numbers[3])
    elif shape.tag == "polygon":
        words = shape.get("points", "").replace(";", ",").split(",")
        values = [parsing.decimal(word, f"{place}, points") for word in words]
        rings = (parsing.inside_ring(values, width, height, place),)
        drawn = bounds(rings)
    elif shape.tag == "mask":
        rle, drawn = _read_mask(shape, place, width, height)
    else:
        raise DatasetError(
            f"{place}: {shape.tag[:40]!r} is not read: export boxes, polygons or masks", "unknown_format"
        )
    written = "around" in details and edges_or({"edges": details["around"]}, drawn, place, _NEAR) is not drawn
    # Where the outline is the one that was written, its box, which may be looser, is in the further fields.
    box = edges_or(details, drawn, place, float("inf") if written else _NEAR)
    box = parsing.inside_box(box, width, height, place)
    fields = annotation_fields(details, place, unnamed)
    return Annotation(category=category, box=box, rle=rle, polygons=rings, **fields)


def _details(shape: Tree.Element, place: str) -> dict[str, Any]:
    for one in shape.findall("attribute"):
        if one.get("name") == _DETAILS and (one.text or "").strip():
            try:
                found = json.loads(one.text or "")
            except (ValueError, RecursionError) as error:
                raise parsing.corrupt(f"{place}, attribute {_DETAILS}", f"it is no JSON ({error})") from error
            return dict(parsing.mapping(found, f"{place}, attribute {_DETAILS}"))
    # Who labels in CVAT is a person; what "auto" made is not validated.
    return {"validated": shape.get("source", "manual") == "manual"}


def _read_mask(shape: Tree.Element, place: str, width: int, height: int) -> tuple[tuple[int, ...], Box]:
    left, top, across, down = (
        parsing.whole(parsing.decimal(shape.get(one), f"{place}, {one}"), f"{place}, {one}", 0, 1 << 16)
        for one in ("left", "top", "width", "height")
    )
    if left + across > width or top + down > height or not across * down:
        raise DatasetError(f"{place}: a mask of {across} x {down} at {left}, {top} is not inside", "mask_invalid")
    words = shape.get("rle", "").split(",")
    runs = np.asarray(
        [parsing.whole(parsing.decimal(word, f"{place}, rle"), f"{place}, rle", 0, width * height) for word in words]
    )
    if int(runs.sum()) != across * down:
        raise DatasetError(f"{place}: run lengths of {int(runs.sum())}, expected {across} x {down}", "mask_invalid")
    mask = np.zeros((height, width), np.bool_)
    mask[top : top + down, left : left + across] = np.repeat(np.arange(runs.size) % 2 == 1, runs).reshape(down, across)
    if not mask.any():
        raise DatasetError(f"{place}: an empty mask: delete it", "mask_invalid")
    return tuple(mask_counts(mask)), (float(left), float(top), float(left + across), float(top + down))


CVAT = Format(
    "cvat",
    "CVAT for images 1.1",
    "outlines of several rings are stored as masks; sources, episodes, times and licences of pictures",
    write,
    read,
)
