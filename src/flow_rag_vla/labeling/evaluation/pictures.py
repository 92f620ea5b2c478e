# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures whose truth is known: what detectors learn from, and what they are measured on."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from flow_rag_vla.labeling.detections import Detections, Masks
from flow_rag_vla.labeling.pipeline.images import Image


@dataclass(frozen=True, slots=True)
class TruePicture:
    """One picture and what is in it.

    name: for people and for errors; unique within its set
    load: gives the picture, (H, W, 3) uint8 RGB of the truth's size; raises ImageError where it cannot be read
    truth: boxes and categories; masks may be left out here
    load_masks: gives (N, H, W) bool in the order of ``truth``, or None where there are no masks
    """

    name: str
    load: Callable[[], Image] = field(repr=False)
    truth: Detections
    load_masks: Callable[[], Masks] | None = field(default=None, repr=False)

    @property
    def masks(self) -> Masks | None:
        """(N, H, W) bool, or None."""
        if self.truth.masks is not None:
            return self.truth.masks
        return None if self.load_masks is None else self.load_masks()


def categories_of(pictures: Iterable[TruePicture]) -> tuple[str, ...]:
    """Every category that is in a picture, by name."""
    return tuple(sorted({label for picture in pictures for label in picture.truth.labels}))


def digest_of(pictures: Sequence[TruePicture]) -> str:
    """First 16 hex digits of a hash over names, sizes, boxes and categories: whether two sets say the same."""
    digest = hashlib.sha256()
    for picture in pictures:
        truth = picture.truth
        digest.update(repr((picture.name, truth.width, truth.height, truth.labels)).encode())
        digest.update(np.ascontiguousarray(truth.boxes).tobytes())
    return digest.hexdigest()[:16]
