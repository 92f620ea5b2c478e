# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A vector of what somebody shows: from the embedder, or from what a detector that embeds by itself sees there."""

from __future__ import annotations

from flow_rag_vla.gateway.errors import GatewayError
from flow_rag_vla.gateway.labeling.box_masks import LEAST_SCORE, SAME_PLACE
from flow_rag_vla.labeling.detections import Detections
from flow_rag_vla.labeling.pipeline import Image, LabelingPipeline
from flow_rag_vla.labeling.pipeline.boxes import areas, overlaps
from flow_rag_vla.labeling.registry.values import Embedder, Vector


def vector_in_box(pipeline: LabelingPipeline, image: Image, asked: Detections, whole: bool) -> tuple[Vector, Embedder]:
    """(D,) float32 of unit length, and who made it: comparable to those of what this pipeline registers.

    Args:
        pipeline: as it labels.
        image: the picture.
        asked: one box in it.
        whole: the box is the whole picture: what is largest in it is meant.

    Raises:
        GatewayError: 422 ``nothing_there``; 503 ``no_embedder``: nothing here makes vectors.
        LabelingError: what the models refuse.
    """
    if pipeline.embedder is not None:
        made = pipeline.embedder
        vector: Vector = made.embed([image], [asked])[0][0]
        return vector, Embedder(made.name, made.revision, len(vector))
    found = pipeline.detector.detect([image], (), LEAST_SCORE)[0]
    if found.embeddings is None:
        raise GatewayError(
            503, "no_embedder", "nothing here makes vectors", "start it with an embedder, such as dinov2"
        )
    rank = areas(found.boxes) if whole else overlaps(asked.boxes, found.boxes)[0]
    if not len(found) or not (whole or rank.max() >= SAME_PLACE):
        raise GatewayError(
            422,
            "nothing_there",
            f"{pipeline.detector.name} sees nothing that it knows in that place",
            "draw the box around the thing; with an embedder such as dinov2 any box will do",
        )
    vector = found.embeddings[int(rank.argmax())]
    return vector, Embedder(pipeline.detector.name, pipeline.detector.revision, len(vector))
