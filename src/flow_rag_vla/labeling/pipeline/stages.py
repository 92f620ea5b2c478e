# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What a detector, a segmenter and an embedder promise. A backend is any object with these methods.

None of them is safe for use by two threads at once, unless its own docstring says so. Pictures of one call may differ
in size. All of them take and give the shared value type ``Detections``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from flow_rag_vla.labeling.detections import Detections, Masks, ScoreKind, Vectors
from flow_rag_vla.labeling.pipeline.images import Image


@runtime_checkable
class Detector(Protocol):
    """Finds what prompts name."""

    @property
    def name(self) -> str:
        """What the backend was asked for as."""

    @property
    def revision(self) -> str:
        """Hash of the weights."""

    @property
    def score_kind(self) -> ScoreKind:
        """What its scores mean."""

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """Every label that it can give; empty if any text will do (an open vocabulary)."""

    def detect(self, images: Sequence[Image], prompts: Sequence[str], threshold: float) -> list[Detections]:
        """One ``Detections`` a picture, best scores first; masks and embeddings too if they cost nothing extra.

        Args:
            images: each (H, W, 3) uint8 RGB.
            prompts: words for what is looked for; none: everything in the vocabulary.
            threshold: least score that is kept, 0 to 1.

        Raises:
            PromptError: for a prompt that the backend does not know, or none where the vocabulary is open.
            ImageError: for a malformed picture.
        """


@runtime_checkable
class Segmenter(Protocol):
    """Turns boxes into masks."""

    @property
    def name(self) -> str:
        """What the backend was asked for as."""

    @property
    def revision(self) -> str:
        """Hash of the weights."""

    def segment(self, images: Sequence[Image], found: Sequence[Detections]) -> list[Masks]:
        """(N, H, W) bool a picture: a mask for each box; all False where it sees nothing in the box.

        Raises:
            ImageError: for a malformed picture.
        """


@runtime_checkable
class Embedder(Protocol):
    """Turns what is in a box (and in its mask, where there is one) into a vector."""

    @property
    def name(self) -> str:
        """What the backend was asked for as."""

    @property
    def revision(self) -> str:
        """Hash of the weights: vectors of different revisions do not compare."""

    @property
    def dimension(self) -> int:
        """Length D of a vector."""

    def embed(self, images: Sequence[Image], found: Sequence[Detections]) -> list[Vectors]:
        """(N, D) float32 of unit length a picture: a vector for each box.

        Raises:
            ImageError: for a malformed picture.
        """
