# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Label Studio: ``tasks.json`` with the pictures in ``images/``, and the labelling interface for them.

What a person validated is an annotation, the rest is a prediction: what Label Studio shows to be corrected. Numbers are
percent of the picture's size.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import quoteattr

from flow_rag_vla.labeling.datasets import parsing
from flow_rag_vla.labeling.datasets.coco_json import segmentation_json, segmentation_of
from flow_rag_vla.labeling.datasets.dataset import Annotation, Box, DatasetItem, LabelDataset, Ring, Split
from flow_rag_vla.labeling.datasets.details import (
    annotation_details,
    annotation_fields,
    edges_or,
    item_details,
    item_fields,
)
from flow_rag_vla.labeling.datasets.errors import DatasetError
from flow_rag_vla.labeling.datasets.formats.base import (
    IMAGES,
    Format,
    Imported,
    check_size,
    copy_images,
    found_below,
    plain_names,
)
from flow_rag_vla.labeling.datasets.outlines import bounds, joined, rings_of
from flow_rag_vla.learn.progress import Progress

TASKS, INTERFACE = "tasks.json", "label_config.xml"
_LOCAL = "/data/local-files/"
_NEAR = 1e-4
"""Pixels within which an outline is the one that was written: percents are rounded."""


def write(dataset: LabelDataset, folder: Path, progress: Progress) -> None:
    """Fill a folder."""
    copy_images(dataset, folder, lambda item: f"{IMAGES}/{item.file}", progress)
    tasks = [_task(item, number) for number, item in enumerate(dataset.items, 1)]
    (folder / TASKS).write_text(json.dumps(tasks, ensure_ascii=False, allow_nan=False), encoding="utf-8")
    labels = "".join(f"    <Label value={quoteattr(name)}/>\n" for name in dataset.categories)
    (folder / INTERFACE).write_text(
        '<View>\n  <Image name="image" value="$image"/>\n'
        f'  <RectangleLabels name="box" toName="image">\n{labels}  </RectangleLabels>\n'
        f'  <PolygonLabels name="outline" toName="image">\n{labels}  </PolygonLabels>\n</View>\n',
        encoding="utf-8",
    )


def _task(item: DatasetItem, number: int) -> dict[str, Any]:
    said = [one for one in item.annotations if one.validated]
    guessed = [one for one in item.annotations if not one.validated]
    # Served by Label Studio itself where its local files begin in this folder.
    data = {"image": f"{_LOCAL}?d={IMAGES}/{item.file}", "width": item.width, "height": item.height}
    task: dict[str, Any] = {"id": number, "data": {**data, "details": item_details(item)}}
    if said:
        task["annotations"] = [{"result": [_result(one, item) for one in said]}]
    if guessed:
        score = sum(one.confidence for one in guessed) / len(guessed)
        results = [_result(one, item) for one in guessed]
        task["predictions"] = [{"model_version": "labels", "score": score, "result": results}]
    return task


def _result(annotation: Annotation, item: DatasetItem) -> dict[str, Any]:
    rings = rings_of(annotation, item)
    if rings:
        ring = joined(rings)
        points = [[100 * x / item.width, 100 * y / item.height] for x, y in zip(ring[0::2], ring[1::2], strict=True)]
        kind, name = "polygonlabels", "outline"
        value: dict[str, Any] = {"points": points, "closed": True}
    else:
        left, top, right, bottom = annotation.box
        kind, name = "rectanglelabels", "box"
        value = {
            "x": 100 * left / item.width,
            "y": 100 * top / item.height,
            "width": 100 * (right - left) / item.width,
            "height": 100 * (bottom - top) / item.height,
            "rotation": 0,
        }
    details = annotation_details(annotation)
    if rings:
        details["segmentation"] = segmentation_json(annotation, item)
    return {
        "id": annotation.annotation_id,
        "type": kind,
        "from_name": name,
        "to_name": "image",
        "original_width": item.width,
        "original_height": item.height,
        "image_rotation": 0,
        "score": annotation.confidence,
        "value": {**value, kind: [annotation.category]},
        "meta": {"details": details},
    }


def read(path: Path, name: str) -> Imported:
    """A folder with ``tasks.json``, or a file that Label Studio exported as JSON.

    Raises:
        DatasetError: as ``Format`` says.
    """
    file = found_below(path, TASKS)
    tasks = [parsing.mapping(row, str(file)) for row in parsing.sequence(parsing.read_json(file), str(file))]
    if not tasks:
        raise DatasetError(f"{file} holds no tasks", "dataset_empty")
    given = [_image_name(row, f"{file}, task {place}") for place, row in enumerate(tasks, 1)]
    plain = plain_names(given)
    items, files = [], {}
    for place, (row, image) in enumerate(zip(tasks, given, strict=True), 1):
        item, found = _item(row, image, plain[image], file, place)
        items.append(item)
        files[item.image_id] = found
    named = _interface_labels(file.parent / INTERFACE)
    used = sorted({one.category for item in items for one in item.annotations} - set(named))
    return Imported(LabelDataset(name, (*named, *used), tuple(items)), files)


def _image_name(row: Mapping[str, Any], place: str) -> str:
    data = parsing.mapping(row.get("data"), f"{place}, data")
    address = parsing.text(data.get("image"), f"{place}, image", 2_000)
    parts = urlsplit(address)
    if parts.path == _LOCAL:
        return parse_qs(parts.query).get("d", [""])[0]
    if parts.scheme or parts.netloc:
        raise DatasetError(f"{place}: the picture is at {address[:80]!r}: download it beside the file", "image_missing")
    # What was uploaded is named by its path on the server; its file is taken from images/.
    uploaded = parts.path.startswith("/data/upload/")
    return f"{IMAGES}/{unquote(parts.path).rpartition('/')[2]}" if uploaded else unquote(address)


def _item(row: Mapping[str, Any], image: str, plain: str, file: Path, number: int) -> tuple[DatasetItem, Path]:
    place = f"{file}, task {number}"
    found = parsing.image_file(file.parent, image, place)
    data = parsing.mapping(row.get("data"), place)
    results: list[tuple[bool, Mapping[str, Any]]] = []
    for key, validated in (("annotations", True), ("predictions", False)):
        for one in parsing.sequence(row.get(key) or [], f"{place}, {key}"):
            if key == "predictions" and isinstance(one, int):
                continue  # Its plain JSON export gives their numbers alone.
            one = parsing.mapping(one, f"{place}, {key}")
            if one.get("was_cancelled"):
                continue
            for result in parsing.sequence(one.get("result") or [], f"{place}, {key}"):
                results.append((validated, parsing.mapping(result, f"{place}, result")))
    if "width" in data and "height" in data:
        width = parsing.whole(data["width"], f"{place}, width", 1, 1 << 16)
        height = parsing.whole(data["height"], f"{place}, height", 1, 1 << 16)
    elif results:
        width = parsing.whole(results[0][1].get("original_width"), f"{place}, original_width", 1, 1 << 16)
        height = parsing.whole(results[0][1].get("original_height"), f"{place}, original_height", 1, 1 << 16)
    else:
        from flow_rag_vla.labeling.datasets.formats.base import image_size

        width, height = image_size(found, place)
    check_size(found, width, height, place)
    annotations = [
        _annotation(one, f"{place}, result {which}", width, height, validated, f"task_{number}_{which}")
        for which, (validated, one) in enumerate(results, 1)
    ]
    details = parsing.mapping(data.get("details") or {}, f"{place}, details")
    fields = item_fields(details, place, f"task_{number}", Split.TRAIN)
    return DatasetItem(file=plain, width=width, height=height, annotations=tuple(annotations), **fields), found


def _annotation(
    row: Mapping[str, Any], place: str, width: int, height: int, validated: bool, unnamed: str
) -> Annotation:
    kind = row.get("type")
    value = parsing.mapping(row.get("value"), f"{place}, value")
    if kind not in ("rectanglelabels", "polygonlabels"):
        raise DatasetError(f"{place}: {str(kind)[:40]!r} is not read: export rectangles or polygons", "unknown_format")
    labels = parsing.sequence(value.get(kind), f"{place}, {kind}")
    if len(labels) != 1:
        raise DatasetError(f"{place}: {len(labels)} labels, expected one", "unknown_category")
    meta = row.get("meta")
    details = meta.get("details", {}) if isinstance(meta, Mapping) else {}
    details = parsing.mapping(details, f"{place}, details")
    rle: tuple[int, ...] = ()
    rings: tuple[Ring, ...] = ()
    if kind == "polygonlabels":
        points = parsing.sequence(value.get("points"), f"{place}, points")
        flat = [parsing.number(one, place) for point in points for one in parsing.sequence(point, place)]
        sizes = (width, height)
        flat = [round(one * sizes[at % 2] / 100, parsing.DECIMALS) for at, one in enumerate(flat)]
        drawn = parsing.inside_ring(flat, width, height, place)
        rle, rings = segmentation_of(details.get("segmentation"), place, width, height)
        written = Annotation("x", "x", (0.0, 0.0, 1.0, 1.0), rle, rings)
        if not _same_ring(drawn, written, width, height):
            rle, rings, details = (), (drawn,), {**details, "edges": None}
            details.pop("edges")
        around = bounds([drawn])
        box = parsing.inside_box(edges_or(details, around, place, float("inf")), width, height, place)
    else:
        box = parsing.inside_box(
            edges_or(details, _rectangle(value, place, width, height), place, _NEAR), width, height, place
        )
    fields = annotation_fields(details, place, unnamed)
    # The uid of further fields is there twice where a person copied a region: Label Studio's own id is not.
    fields["annotation_id"] = parsing.text(row.get("id") or unnamed, f"{place}, id")
    fields["validated"] = validated
    category = parsing.text(labels[0], f"{place}, {kind}", 200)
    return Annotation(category=category, box=box, rle=rle, polygons=rings, **fields)


def _same_ring(drawn: Ring, written: Annotation, width: int, height: int) -> bool:
    if not written.rle and not written.polygons:
        return False
    rings = rings_of(written, DatasetItem("x", "x", width, height))
    ring = joined(rings)
    return len(ring) == len(drawn) and all(abs(one - other) < _NEAR for one, other in zip(ring, drawn, strict=True))


def _rectangle(value: Mapping[str, Any], place: str, width: int, height: int) -> Box:
    if parsing.number(value.get("rotation") or 0, f"{place}, rotation"):
        raise DatasetError(f"{place}: a turned rectangle is not read: draw an outline", "box_outside_image")
    x, y, across, down = (parsing.number(value.get(one), f"{place}, {one}") for one in ("x", "y", "width", "height"))
    corners = (x * width / 100, y * height / 100, (x + across) * width / 100, (y + down) * height / 100)
    left, top, right, bottom = (round(one, parsing.DECIMALS) for one in corners)
    return left, top, right, bottom


def _interface_labels(path: Path) -> tuple[str, ...]:
    """The labels of the interface in their order, where it lies beside the tasks."""
    if not path.is_file():
        return ()
    from flow_rag_vla.labeling.datasets.xml_reading import read_xml

    values = [one.get("value", "") for one in read_xml(path).iter("Label")]
    return tuple(dict.fromkeys(parsing.text(one, str(path), 200) for one in values if one))


LABEL_STUDIO = Format(
    "label-studio", "Label Studio tasks: validated labels as annotations, the others as predictions", "", write, read
)
