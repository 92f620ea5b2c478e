# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Objects of the registry that pass a filter, as the pictures and annotations of a dataset."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from flow_rag_vla.labeling.datasets.dataset import Annotation, DatasetItem
from flow_rag_vla.labeling.datasets.errors import DatasetError
from flow_rag_vla.labeling.registry.catalogue import image_of, image_rows
from flow_rag_vla.labeling.registry.queries import ObjectFilter, Order
from flow_rag_vla.labeling.registry.registry import Registry
from flow_rag_vla.labeling.registry.rows import LONGEST_PAGE
from flow_rag_vla.labeling.registry.values import Image, LabelledObject, ReviewState, Source
from flow_rag_vla.labeling.run_lengths import mask_counts

DECIMALS = 4
"""Of a pixel, that boxes keep: what detectors give is float32, and formats write decimals."""


@dataclass(frozen=True, slots=True)
class Selection:
    """What a filter chose. images, sources: of the registry, by id; items: without files and digests yet."""

    items: tuple[DatasetItem, ...]
    categories: tuple[str, ...]
    images: Mapping[str, Image]
    sources: Mapping[str, Source]
    project: str


def wanted(where: ObjectFilter) -> ObjectFilter:
    """The filter without rejected objects, unless it asks for them by their state."""
    if where.states:
        return where
    return replace(where, states=tuple(state for state in ReviewState if state is not ReviewState.REJECTED))


def select(registry: Registry, where: ObjectFilter, step: Callable[[int], None] | None = None) -> Selection:
    """The objects that pass a filter, by picture.

    Args:
        registry: open.
        where: which; rejected ones only where it names that state.
        step: called with the number of objects read so far.

    Raises:
        DatasetError: ``dataset_empty``; also where they are of several projects.
        RegistryError: a filter that makes no sense, or a mask that is lost.
    """
    objects: list[LabelledObject] = []
    cursor = ""
    while True:
        page = registry.list_objects(wanted(where), order=Order.OLDEST, limit=LONGEST_PAGE, cursor=cursor)
        objects += page.objects
        cursor = page.cursor
        if step is not None:
            step(len(objects))
        if not cursor:
            break
    if not objects:
        raise DatasetError(
            f"no object passes the filter ({described(where)}): widen it; 'flow_rag_vla registry stats' tells what "
            "there is",
            "dataset_empty",
        )
    projects = sorted({one.project for one in objects})
    if len(projects) > 1:
        raise DatasetError(f"the objects are of the projects {', '.join(projects)}: name one of them")
    by_image: dict[str, list[LabelledObject]] = {}
    for one in objects:
        by_image.setdefault(one.image_id, []).append(one)
    with registry.database.read() as connection:
        rows = image_rows(connection, list(by_image))
    images = {image_id: image_of(row) for image_id, row in rows.items()}
    sources = {source_id: registry.source(source_id) for source_id in {one.source_id for one in images.values()}}
    ordered = sorted(images.values(), key=lambda one: (one.source_id, one.frame, one.name))
    items = []
    for image in ordered:
        annotations = tuple(_annotation(registry, one) for one in by_image[image.image_id])
        items.append(_item(image, sources[image.source_id], annotations))
        if step is not None:
            step(len(objects))
    categories = tuple(sorted({one.category for one in objects}))
    return Selection(tuple(items), categories, images, sources, projects[0])


def _annotation(registry: Registry, found: LabelledObject) -> Annotation:
    left, top, right, bottom = (round(value, DECIMALS) for value in found.box)
    rle = tuple(mask_counts(registry.masks.read(found.mask_path))) if found.mask_path else ()
    return Annotation(
        annotation_id=found.object_id,
        category=found.category,
        box=(left, top, right, bottom),
        rle=rle,
        confidence=found.score,
        score_kind=found.score_kind,
        validated=found.state.validated,
        validated_by=found.validated_by if found.state.validated else "",
        track=found.track_id,
        origin=found.origin,
        version=found.version,
    )


def _item(image: Image, source: Source, annotations: tuple[Annotation, ...]) -> DatasetItem:
    return DatasetItem(
        image_id=image.image_id,
        file=f"{image.image_id}.png",
        width=image.width,
        height=image.height,
        source_id=source.source_id,
        source=source.path,
        episode=source.episode,
        frame=image.frame,
        stamp_ns=image.stamp_ns,
        licence=source.licence,
        annotations=annotations,
    )


def described(where: ObjectFilter) -> str:
    """A filter in words: the fields that say something."""
    said = filter_json(where)
    return ", ".join(f"{name} {value}" for name, value in said.items()) or "everything"


def filter_json(where: ObjectFilter) -> dict[str, object]:
    """The fields of a filter that say something, as plain JSON."""
    said: dict[str, object] = {}
    for name in ObjectFilter.__dataclass_fields__:
        value = getattr(where, name)
        if value in (None, "", (), 0, {}) and value is not False:
            continue
        said[name] = [getattr(one, "value", one) for one in value] if isinstance(value, tuple) else value
    return {name: dict(value) if isinstance(value, Mapping) else value for name, value in said.items()}
