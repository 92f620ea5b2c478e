# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""COCO's JSON, in which a dataset lies on disk and in which it is exported, with further fields for what COCO lacks.

Others pass over the further fields; read back, nothing is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flow_rag_vla.labeling.datasets import parsing
from flow_rag_vla.labeling.datasets.dataset import Annotation, Box, DatasetItem, Ring, Split
from flow_rag_vla.labeling.datasets.details import (
    annotation_details,
    annotation_fields,
    edges_or,
    item_details,
    item_fields,
)
from flow_rag_vla.labeling.datasets.errors import DatasetError
from flow_rag_vla.labeling.datasets.outlines import rings_of, rle_of
from flow_rag_vla.labeling.run_lengths import counts_text, text_counts

KEEP, RLE, POLYGONS = "keep", "rle", "polygons"
"""How masks are written: as they are, all as run lengths, or all as outlines."""


def split_json(items: Iterable[DatasetItem], categories: Sequence[str], masks: str = KEEP) -> dict[str, Any]:
    """The pictures and annotations of a split. Numbers begin with 1: COCO's own evaluation takes 0 for nothing."""
    numbers = {name: place for place, name in enumerate(categories, 1)}
    licences: dict[str, int] = {}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for item in items:
        number = len(images) + 1
        licence = licences.setdefault(item.licence, len(licences) + 1)
        about = {"id": number, "file_name": item.file, "width": item.width, "height": item.height, "license": licence}
        images.append({**about, **item_details(item)})
        for annotation in item.annotations:
            ids = {"id": len(annotations) + 1, "image_id": number, "category_id": numbers[annotation.category]}
            annotations.append({**ids, **_annotation_json(annotation, item, masks)})
    return {
        "licenses": [{"id": place, "name": name, "url": ""} for name, place in licences.items()],
        "images": images,
        "annotations": annotations,
        "categories": [{"id": place, "name": name, "supercategory": ""} for name, place in numbers.items()],
    }


def segmentation_json(annotation: Annotation, item: DatasetItem, masks: str = KEEP) -> Any:
    """A mask as COCO writes it: a list of outlines, or run lengths as compressed text; an empty list for none."""
    if masks == RLE or (masks == KEEP and annotation.rle):
        rle = rle_of(annotation, item)
        return {"size": [item.height, item.width], "counts": counts_text(rle)} if rle else []
    return [list(ring) for ring in rings_of(annotation, item)]


def _annotation_json(annotation: Annotation, item: DatasetItem, masks: str) -> dict[str, Any]:
    left, top, right, bottom = annotation.box
    rle = rle_of(annotation, item)
    return {
        "bbox": [left, top, right - left, bottom - top],
        "area": float(sum(rle[1::2])) if rle else annotation.area,
        "iscrowd": 0,
        "segmentation": segmentation_json(annotation, item, masks),
        **annotation_details(annotation),
    }


def categories_of(document: Mapping[str, Any], place: str) -> dict[int, str]:
    """COCO's categories by number, in the order of their numbers."""
    found: dict[int, str] = {}
    for row in parsing.sequence(document.get("categories", []), f"{place}, categories"):
        row = parsing.mapping(row, f"{place}, categories")
        number = parsing.whole(row.get("id"), f"{place}, a category's id")
        if number in found:
            raise parsing.corrupt(place, f"category {number} is there twice")
        found[number] = parsing.text(row.get("name"), f"{place}, category {number}", 200)
    return dict(sorted(found.items()))


Rows = list[tuple[str, DatasetItem]]
"""Pictures with the file_name that the document gives them."""


def split_items(document: Any, place: str, split: Split, file_of: Mapping[str, str] | None = None) -> Rows:
    """The pictures of a COCO document with their annotations, ours or another's.

    Args:
        document: as read.
        place: for errors.
        split: of pictures that do not say.
        file_of: plain names of files by ``file_name``; None: the ``file_name`` is one already.

    Raises:
        DatasetError: ``dataset_corrupt``, ``unknown_category``, a box that is outside, a mask that is none.
    """
    document = parsing.mapping(document, place)
    names = categories_of(document, place)
    licences = _licences(document, place)
    by_image: dict[int, list[Mapping[str, Any]]] = {}
    for row in parsing.sequence(document.get("annotations", []), f"{place}, annotations"):
        row = parsing.mapping(row, f"{place}, annotations")
        by_image.setdefault(parsing.whole(row.get("image_id"), f"{place}, an annotation's image_id"), []).append(row)
    seen: set[int] = set()
    items: Rows = []
    for row in parsing.sequence(document.get("images"), f"{place}, images"):
        row = parsing.mapping(row, f"{place}, images")
        number = parsing.whole(row.get("id"), f"{place}, an image's id")
        if number in seen:
            raise parsing.corrupt(place, f"image {number} is there twice")
        seen.add(number)
        where = f"{place}, image {number}"
        given = parsing.text(row.get("file_name"), f"{where}, file_name", 1_000)
        width = parsing.whole(row.get("width"), f"{where}, width", 1, 1 << 16)
        height = parsing.whole(row.get("height"), f"{where}, height", 1, 1 << 16)
        fields = item_fields(row, where, f"{split.value}_{number}", split)
        if not fields["licence"] and isinstance(row.get("license"), int):
            fields["licence"] = licences.get(row["license"], "")
        found = tuple(
            _annotation(one, f"{where}, annotation {one.get('id')}", width, height, names, split.value)
            for one in by_image.pop(number, ())
        )
        file = given if file_of is None else file_of[given]
        items.append((given, DatasetItem(file=file, width=width, height=height, annotations=found, **fields)))
    if by_image:
        raise parsing.corrupt(place, f"annotations name image {min(by_image)}, which is not there")
    return items


def _licences(document: Mapping[str, Any], place: str) -> dict[int, str]:
    found: dict[int, str] = {}
    for row in parsing.sequence(document.get("licenses", []), f"{place}, licenses"):
        row = parsing.mapping(row, f"{place}, licenses")
        number = parsing.whole(row.get("id"), f"{place}, a licence's id")
        found[number] = parsing.text(row.get("name", ""), f"{place}, licence {number}", 1_000)
    return found


def _annotation(
    row: Mapping[str, Any], place: str, width: int, height: int, names: Mapping[int, str], unnamed: str
) -> Annotation:
    number = parsing.whole(row.get("category_id"), f"{place}, category_id")
    if number not in names:
        listed = ", ".join(map(str, list(names)[:50])) or "none"
        raise DatasetError(f"{place}: there is no category {number}; known: {listed}", "unknown_category")
    rle, rings = segmentation_of(row.get("segmentation"), place, width, height)
    return Annotation(
        category=names[number],
        box=parsing.inside_box(edges_or(row, _box(row, place), place), width, height, place),
        rle=rle,
        polygons=rings,
        **annotation_fields(row, place, f"{unnamed}_{row.get('id')}"),
    )


def _box(row: Mapping[str, Any], place: str) -> Box:
    where = f"{place}, bbox"
    numbers = [parsing.number(one, where) for one in parsing.sequence(row.get("bbox"), where)]
    if len(numbers) != 4:
        raise parsing.corrupt(where, f"{len(numbers)} numbers, expected 4")
    left, top, width, height = numbers
    return left, top, left + width, top + height


def segmentation_of(value: Any, place: str, width: int, height: int) -> tuple[tuple[int, ...], tuple[Ring, ...]]:
    """Run lengths or outlines of what ``segmentation_json`` writes, or others do; one of them, or neither.

    Raises:
        DatasetError: ``mask_invalid``, ``box_outside_image`` or ``dataset_corrupt``.
    """
    if not value:
        return (), ()
    where = f"{place}, segmentation"
    if isinstance(value, list):
        rings = []
        for ring in value:
            numbers = [parsing.number(one, where) for one in parsing.sequence(ring, where)]
            rings.append(parsing.inside_ring(numbers, width, height, place))
        return (), tuple(rings)
    given = parsing.mapping(value, where)
    if given.get("size") != [height, width]:
        raise DatasetError(
            f"{place}: a mask of the size {str(given.get('size'))[:40]}, expected {[height, width]}", "mask_invalid"
        )
    counts = given.get("counts")
    if not isinstance(counts, str):
        return tuple(parsing.whole(one, where) for one in parsing.sequence(counts, where)), ()
    try:
        return tuple(text_counts(counts)), ()
    except ValueError as error:
        raise DatasetError(f"{place}: {error}", "mask_invalid") from error
