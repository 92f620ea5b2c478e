# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Masks for boxes: from the segmenter, or from what a detector that outlines by itself sees in that place."""

from __future__ import annotations

import time
from dataclasses import replace

import numpy as np

from flow_rag_vla.gateway.errors import GatewayError
from flow_rag_vla.labeling.detections import Detections
from flow_rag_vla.labeling.pipeline import Image, LabelingPipeline
from flow_rag_vla.labeling.pipeline.boxes import overlaps

SAME_PLACE = 0.3
"""Least intersection over union of a box with the one that the detector drew, for its mask to be taken."""
LEAST_SCORE = 0.2


def masks_in_boxes(pipeline: LabelingPipeline, image: Image, asked: Detections) -> tuple[Detections, float]:
    """The boxes with their masks, cut to them, all False where nothing is seen; and the seconds that it took.

    Raises:
        GatewayError: 503 ``no_segmenter``: neither can outline anything.
        LabelingError: what the models refuse.
    """
    begin = time.perf_counter()
    if pipeline.segmenter is not None:
        masks = pipeline.segmenter.segment([image], [asked])[0]
        return replace(asked, masks=masks), time.perf_counter() - begin
    found = pipeline.detector.detect([image], (), LEAST_SCORE)[0]
    if found.masks is None:
        raise GatewayError(503, "no_segmenter", "there is no segmenter here", "start it with one, such as sam2")
    masks = np.zeros((len(asked), asked.height, asked.width), np.bool_)
    if len(found):
        shared = overlaps(asked.boxes, found.boxes)
        for row, best in enumerate(shared.argmax(axis=1)):
            if shared[row, best] >= SAME_PLACE:
                left, top = (int(np.floor(value)) for value in asked.boxes[row, :2])
                right, bottom = (int(np.ceil(value)) for value in asked.boxes[row, 2:])
                masks[row, top:bottom, left:right] = found.masks[best, top:bottom, left:right]
    return replace(asked, masks=masks), time.perf_counter() - begin
