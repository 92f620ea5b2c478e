# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures to labelled objects: the stages, what is asked of them, and what can go wrong."""

from flow_rag_vla.labeling.pipeline.errors import (
    ImageError,
    LabelingError,
    ModelError,
    PromptError,
    SettingError,
    SourceError,
)
from flow_rag_vla.labeling.pipeline.images import Image, check_image, decode_image, read_image
from flow_rag_vla.labeling.pipeline.pipeline import ImageSource, LabelingPipeline, LabelledImage, Outcome, StageTimes
from flow_rag_vla.labeling.pipeline.request import LabelRequest
from flow_rag_vla.labeling.pipeline.stages import Detector, Embedder, Segmenter
from flow_rag_vla.labeling.pipeline.tiles import Tiling

__all__ = [
    "Detector",
    "Embedder",
    "Image",
    "ImageError",
    "ImageSource",
    "LabelRequest",
    "LabelingError",
    "LabelingPipeline",
    "LabelledImage",
    "ModelError",
    "Outcome",
    "PromptError",
    "Segmenter",
    "SettingError",
    "SourceError",
    "StageTimes",
    "Tiling",
    "check_image",
    "decode_image",
    "read_image",
]
