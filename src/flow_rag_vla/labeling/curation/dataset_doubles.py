# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Near duplicates among the pictures of a dataset that is being made: one of each group stays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from flow_rag_vla.labeling.curation.pictures import picture_duplicates
from flow_rag_vla.labeling.curation.pool import read_pool
from flow_rag_vla.labeling.datasets.dataset import DatasetItem
from flow_rag_vla.labeling.datasets.errors import DatasetError
from flow_rag_vla.labeling.pipeline.errors import LabelingError
from flow_rag_vla.labeling.pipeline.images import Image, read_image
from flow_rag_vla.labeling.registry.queries import ObjectFilter
from flow_rag_vla.labeling.registry.reading import ReadingRegistry
from flow_rag_vla.learn.progress import Progress, silent


def near_duplicates(
    registry: ReadingRegistry,
    where: ObjectFilter,
    items: Sequence[DatasetItem],
    images: Path,
    *,
    progress: Progress = silent,
) -> frozenset[str]:
    """Ids of the pictures that another one of ``items`` stands for; see ``picture_duplicates``.

    Only pictures of which every object has a vector are compared: what cannot be compared is not taken for a double.

    Args:
        registry: where the objects of the pictures are.
        where: the filter that chose them.
        items: pictures with their files.
        images: the folder of these files.
        progress: told of the pictures.

    Raises:
        DatasetError: ``vectors_missing``: no picture can be compared.
        ConflictError: ``embedder_mismatch``: the objects have vectors of several embedders.
    """
    pool = read_pool(registry, where)
    known = set(pool.object_ids)
    compared = {item.image_id: item for item in items if all(one.annotation_id in known for one in item.annotations)}
    if not compared:
        raise DatasetError(
            f"none of the {len(items)} pictures has a vector for each of its objects, so near duplicates cannot be "
            "told: embed the objects (flow_rag_vla label --registry does), or keep the duplicates",
            "vectors_missing",
        )
    chosen = {one.annotation_id for item in compared.values() for one in item.annotations}
    rows = np.flatnonzero([object_id in chosen for object_id in pool.object_ids]).astype(np.int64)

    def pixels(image_id: str) -> Image | None:
        try:
            item = compared[image_id]
            return read_image(images / item.file)
        except LabelingError:
            return None

    return frozenset(picture_duplicates(pool.at(rows), pixels, progress=progress).duplicates)
