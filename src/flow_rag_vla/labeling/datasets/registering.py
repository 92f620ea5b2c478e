# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A dataset into the registry: its sources, pictures and objects, those that were validated as validated."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

from flow_rag_vla.labeling.datasets.dataset import DatasetItem, LabelDataset
from flow_rag_vla.labeling.datasets.outlines import mask_of
from flow_rag_vla.labeling.registry.registry import Registry
from flow_rag_vla.labeling.registry.values import (
    DEFAULT_PROJECT,
    ImageDraft,
    ObjectChange,
    ObjectDraft,
    ReviewState,
    SourceDraft,
    SourceKind,
)
from flow_rag_vla.learn.progress import Progress, silent


@dataclass(frozen=True, slots=True)
class Registered:
    """What a dataset left in a registry; objects that were there already are counted as well."""

    sources: int
    images: int
    objects: int


def register_dataset(
    registry: Registry,
    dataset: LabelDataset,
    *,
    who: str,
    project: str = DEFAULT_PROJECT,
    progress: Progress = silent,
) -> Registered:
    """Register a stored dataset; the same one a second time adds nothing.

    Pictures of one source or episode become a source: the dataset's folder, under that episode. Others are sources of
    their own, as nobody knows what belongs together.

    Args:
        registry: open.
        dataset: in its folder; its pictures stay there.
        who: who asks; validated by the person that the dataset names, or else by ``who``.
        project: to which.
        progress: called after each picture.

    Raises:
        RegistryError: what the registry refuses; pictures before that one are registered.
    """
    folder = str(dataset.images.resolve())
    sources: dict[str, str] = {}
    objects = 0
    for number, item in enumerate(dataset.items, 1):
        group = item.episode or item.source_id or item.source
        key = item.episode or (hashlib.sha256(group.encode()).hexdigest()[:16] if group else item.image_id)
        if key not in sources:
            kind, path = (SourceKind.FOLDER, folder) if group else (SourceKind.IMAGE, f"{folder}/{item.file}")
            draft = SourceDraft(kind, path, project, key if group else "", licence=item.licence[:200])
            sources[key] = registry.add_source(draft).source_id
        objects += _register(registry, dataset, item, sources[key], who)
        progress(number, len(dataset.items), item.file)
    return Registered(len(sources), len(dataset.items), objects)


def _register(registry: Registry, dataset: LabelDataset, item: DatasetItem, source_id: str, who: str) -> int:
    draft = ImageDraft(item.file, item.width, item.height, 0, item.stamp_ns, item.sha256)
    image = registry.add_images(source_id, [draft])[0]
    drafts = [
        ObjectDraft(
            image_id=image.image_id,
            category=one.category,
            box=one.box,
            score=one.confidence,
            score_kind=one.score_kind,
            origin=one.origin if one.origin.model else replace(one.origin, model=who),
            mask=mask_of(one, item),
            track=one.track,
        )
        for one in item.annotations
    ]
    if not drafts:
        return 0
    key = hashlib.sha256(f"{dataset.label} {dataset.created_ns} {image.image_id}".encode()).hexdigest()
    made = registry.register(drafts, who=who, key=key)
    for object_id, one in zip(made.object_ids, item.annotations, strict=True):
        if one.validated and registry.get(object_id).state is ReviewState.UNREVIEWED:
            registry.update(object_id, ObjectChange(state=ReviewState.ACCEPTED), who=one.validated_by or who)
    return len(made.object_ids)
