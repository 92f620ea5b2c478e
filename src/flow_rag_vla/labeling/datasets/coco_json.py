"""COCO's JSON, in which a dataset lies on disk and in which it is exported, with further fields for what COCO lacks.

Others pass over the further fields; read back, nothing is lost.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from flow_rag_vla.labeling.datasets import parsing
from flow_rag_vla.labeling.datasets.dataset import Annotation, Box, DatasetItem, Ring, Split
from flow_rag_vla.labeling.datasets.errors import DatasetError
from flow_rag_vla.labeling.datasets.outlines import rings_of, rle_of
from flow_rag_vla.labeling.detections import Origin, ScoreKind
from flow_rag_vla.labeling.run_lengths import counts_text, text_counts

KEEP, RLE, POLYGONS = "keep", "rle", "polygons"
"""How masks are written: as they are, all as run lengths, or all as outlines."""
_ITEM_TEXTS = ("sha256", "source_id", "source", "episode")


def categories_json(categories: Sequence[str]) -> list[dict[str, Any]]:
    """COCO's categories, numbered from 1."""
    return [{"id": place, "name": name, "supercategory": ""} for place, name in enumerate(categories, 1)]


def split_json(items: Iterable[DatasetItem], categories: Sequence[str], masks: str = KEEP) -> dict[str, Any]:
    """The pictures and annotations of a split. Numbers begin with 1: COCO's own evaluation takes 0 for nothing."""
    numbers = {name: place for place, name in enumerate(categories, 1)}
    licences: dict[str, int] = {}
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for item in items:
        number = len(images) + 1
        licence = licences.setdefault(item.licence, len(licences) + 1)
        images.append(_image_json(item, number, licence))
        for annotation in item.annotations:
            about = _annotation_json(annotation, item, masks)
            ids = {"id": len(annotations) + 1, "image_id": number, "category_id": numbers[annotation.category]}
            annotations.append({**ids, **about})
    return {
        "licenses": [{"id": place, "name": name, "url": ""} for name, place in licences.items()],
        "images": images,
        "annotations": annotations,
        "categories": categories_json(categories),
    }


def _image_json(item: DatasetItem, number: int, licence: int) -> dict[str, Any]:
    return {
        "id": number,
        "file_name": item.file,
        "width": item.width,
        "height": item.height,
        "license": licence,
        "uid": item.image_id,
        "split": item.split.value,
        "sha256": item.sha256,
        "source_id": item.source_id,
        "source": item.source,
        "episode": item.episode,
        "frame": item.frame,
        "stamp_ns": item.stamp_ns,
    }


def _annotation_json(annotation: Annotation, item: DatasetItem, masks: str) -> dict[str, Any]:
    left, top, right, bottom = annotation.box
    segmentation: Any = []
    rle = rle_of(annotation, item) if masks == RLE else annotation.rle
    rings = rings_of(annotation, item) if masks == POLYGONS else annotation.polygons
    if rings and masks != RLE:
        segmentation = [list(ring) for ring in rings]
    elif rle and masks != POLYGONS:
        segmentation = {"size": [item.height, item.width], "counts": counts_text(rle)}
    return {
        # The width that gives the right edge back when it is added.
        "bbox": [left, top, right - left, bottom - top],
        "area": annotation.area,
        "iscrowd": 0,
        "segmentation": segmentation,
        "uid": annotation.annotation_id,
        "edges": [left, top, right, bottom],
        "score": annotation.confidence,
        "score_kind": annotation.score_kind.value,
        "validated": annotation.validated,
        "validated_by": annotation.validated_by,
        "track": annotation.track,
        "origin": {
            "model": annotation.origin.model,
            "revision": annotation.origin.revision,
            "prompt": annotation.origin.prompt,
            "threshold": annotation.origin.threshold,
        },
        "version": annotation.version,
    }


def categories_of(document: Mapping[str, Any], place: str) -> dict[int, str]:
    """COCO's categories by number, in the order of their numbers."""
    found: dict[int, str] = {}
    for row in parsing.sequence(document.get("categories", []), f"{place}, categories"):
        row = parsing.mapping(row, f"{place}, categories")
        number = parsing.whole(row.get("id"), f"{place}, a category's id")
        found[number] = parsing.text(row.get("name"), f"{place}, category {number}", 200)
    return dict(sorted(found.items()))


def split_items(document: Any, place: str, split: Split) -> tuple[DatasetItem, ...]:
    """The pictures of a COCO document with their annotations, ours or another's.

    ``file`` is what the document says, unchecked but for ours: who reads another's finds the picture first.

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
    items = []
    for row in parsing.sequence(document.get("images"), f"{place}, images"):
        row = parsing.mapping(row, f"{place}, images")
        number = parsing.whole(row.get("id"), f"{place}, an image's id")
        items.append(_item(row, f"{place}, image {number}", split, licences, by_image.pop(number, []), names))
    if by_image:
        raise parsing.corrupt(place, f"annotations name image {min(by_image)}, which is not there")
    return tuple(items)


def _licences(document: Mapping[str, Any], place: str) -> dict[int, str]:
    found: dict[int, str] = {}
    for row in parsing.sequence(document.get("licenses", []), f"{place}, licenses"):
        row = parsing.mapping(row, f"{place}, licenses")
        number = parsing.whole(row.get("id"), f"{place}, a licence's id")
        found[number] = parsing.text(row.get("name", ""), f"{place}, licence {number}", 1_000)
    return found


def _item(
    row: Mapping[str, Any],
    place: str,
    split: Split,
    licences: Mapping[int, str],
    annotations: Sequence[Mapping[str, Any]],
    names: Mapping[int, str],
) -> DatasetItem:
    width = parsing.whole(row.get("width"), f"{place}, width", 1, 1 << 16)
    height = parsing.whole(row.get("height"), f"{place}, height", 1, 1 << 16)
    texts = {name: parsing.text(row.get(name, ""), f"{place}, {name}") for name in _ITEM_TEXTS}
    licence = row.get("license")
    found = tuple(
        _annotation(one, f"{place}, annotation {one.get('id')}", width, height, names, split.value)
        for one in annotations
    )
    return DatasetItem(
        image_id=parsing.text(row.get("uid") or f"{split.value}_{row['id']}", f"{place}, uid"),
        file=parsing.text(row.get("file_name"), f"{place}, file_name", 1_000),
        width=width,
        height=height,
        split=_split(row["split"], place) if "split" in row else split,
        frame=parsing.whole(row.get("frame", 0), f"{place}, frame"),
        stamp_ns=parsing.whole(row.get("stamp_ns", 0), f"{place}, stamp_ns"),
        licence=licences.get(licence, "") if isinstance(licence, int) else "",
        annotations=found,
        **texts,
    )


def _split(value: Any, place: str) -> Split:
    try:
        return Split(value)
    except ValueError as error:
        raise parsing.corrupt(place, f"split {value!r} is none of {', '.join(one.value for one in Split)}") from error


def _annotation(
    row: Mapping[str, Any], place: str, width: int, height: int, names: Mapping[int, str], unnamed: str
) -> Annotation:
    number = parsing.whole(row.get("category_id"), f"{place}, category_id")
    if number not in names:
        listed = ", ".join(map(str, list(names)[:50])) or "none"
        raise DatasetError(f"{place}: there is no category {number}; known: {listed}", "unknown_category")
    rle, rings = _masks(row.get("segmentation"), place, width, height)
    kind = parsing.text(row.get("score_kind", ScoreKind.HUMAN.value), f"{place}, score_kind")
    if kind not in {known.value for known in ScoreKind}:
        raise parsing.corrupt(place, f"score_kind {kind!r} is none of {', '.join(known.value for known in ScoreKind)}")
    said = parsing.mapping(row.get("origin", {}), f"{place}, origin")
    origin = Origin(
        parsing.text(said.get("model", ""), f"{place}, model"),
        parsing.text(said.get("revision", ""), f"{place}, revision"),
        parsing.text(said.get("prompt", ""), f"{place}, prompt"),
        parsing.number(said.get("threshold", 0.0), f"{place}, threshold"),
    )
    return Annotation(
        annotation_id=parsing.text(row.get("uid") or f"{unnamed}_{row.get('id')}", f"{place}, uid"),
        category=names[number],
        box=parsing.inside_box(_box(row, place), width, height, place),
        rle=rle,
        polygons=rings,
        confidence=parsing.number(row.get("score", 1.0), f"{place}, score"),
        score_kind=ScoreKind(kind),
        validated=parsing.flag(row.get("validated", False), f"{place}, validated"),
        validated_by=parsing.text(row.get("validated_by", ""), f"{place}, validated_by"),
        track=parsing.text(row.get("track", ""), f"{place}, track"),
        origin=origin,
        version=parsing.whole(row.get("version", 0), f"{place}, version"),
    )


def _box(row: Mapping[str, Any], place: str) -> Box:
    values = _four(row.get("bbox"), f"{place}, bbox")
    left, top = values[0], values[1]
    box = (left, top, left + values[2], top + values[3])
    if "edges" in row:
        # left + (right - left) need not be right, to the last digit; the two must agree all the same.
        edges = _four(row["edges"], f"{place}, edges")
        if all(abs(one - other) < 1e-6 for one, other in zip(edges, box, strict=True)):
            return edges
    return box


def _four(value: Any, place: str) -> Box:
    numbers = [parsing.number(one, place) for one in parsing.sequence(value, place)]
    if len(numbers) != 4:
        raise parsing.corrupt(place, f"{len(numbers)} numbers, expected 4")
    return numbers[0], numbers[1], numbers[2], numbers[3]


def _masks(value: Any, place: str, width: int, height: int) -> tuple[tuple[int, ...], tuple[Ring, ...]]:
    if not value:
        return (), ()
    if isinstance(value, list):
        rings = []
        for ring in value:
            numbers = [parsing.number(one, f"{place}, segmentation") for one in parsing.sequence(ring, place)]
            rings.append(parsing.inside_ring(numbers, width, height, place))
        return (), tuple(rings)
    given = parsing.mapping(value, f"{place}, segmentation")
    if given.get("size") != [height, width]:
        raise DatasetError(
            f"{place}: a mask of the size {given.get('size')}, expected {[height, width]}", "mask_invalid"
        )
    counts = given.get("counts")
    try:
        if isinstance(counts, str):
            runs = text_counts(counts)
        else:
            runs = [parsing.whole(one, f"{place}, counts") for one in parsing.sequence(counts, f"{place}, counts")]
    except ValueError as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"{place}: {error}", "mask_invalid") from error
    return tuple(runs), ()
