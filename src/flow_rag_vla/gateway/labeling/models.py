# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The one labelling pipeline of a server: made when it is first needed, used by one request at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import TypeVar

from flow_rag_vla.gateway.errors import GatewayError, unavailable
from flow_rag_vla.gateway.labeling.places import without_folders
from flow_rag_vla.labeling.pipeline import Image, LabelingError, LabelingPipeline, LabelledImage, LabelRequest
from flow_rag_vla.labeling.pipeline.tiles import check_tiles

T = TypeVar("T")

MOST_WAITING = 16
"""Requests under way with the models; further ones are refused, not kept waiting."""
RETRY_AFTER_S = 5
"""What those hear: a picture or two later."""


class Models:
    """Runs work with the pipeline; any thread may ask."""

    def __init__(self, make: Callable[[], LabelingPipeline] | None, most_waiting: int = MOST_WAITING) -> None:
        """Take what makes the pipeline; None: this server labels nothing, it only shows."""
        self._make, self._most_waiting = make, most_waiting
        self._pipeline: LabelingPipeline | None = None
        self._turn = threading.Lock()
        self._count = threading.Lock()
        self._waiting = 0

    def run(self, work: Callable[[LabelingPipeline], T], *, patient: bool = False) -> T:
        """The result of ``work``, alone with the pipeline.

        Args:
            work: one batch.
            patient: wait for however many; for a job, behind which no client waits.

        Raises:
            GatewayError: 503 ``busy`` or ``no_models``.
            LabelingError: what the pipeline refuses.
        """
        with self._count:
            if self._waiting >= self._most_waiting and not patient:
                message = f"{self._waiting} requests wait for the models"
                raise unavailable("busy", message, "send it again later", retry_after_s=RETRY_AFTER_S)
            self._waiting += 1
        try:
            with self._turn:
                return work(self._made())
        finally:
            with self._count:
                self._waiting -= 1

    def shared(self) -> SharedPipeline:
        """The pipeline for a job: alone with the models for one batch at a time.

        Raises:
            GatewayError: 503 ``no_models``; LabelingError: it cannot be made.
        """
        return SharedPipeline(self, self.run(lambda pipeline: pipeline, patient=True))

    def problem(self) -> str:
        """Why there is no pipeline; empty: there is one."""
        try:
            with self._turn:
                self._made()
        except (LabelingError, GatewayError) as error:
            return without_folders(str(error))
        return ""

    def _made(self) -> LabelingPipeline:
        if self._make is None:
            raise unavailable("no_models", "this server was started without models", "start it without --no-models")
        if self._pipeline is None:
            self._pipeline = self._make()
        return self._pipeline


class SharedPipeline(LabelingPipeline):
    """The pipeline of a job beside which requests are answered: they wait for one batch at most."""

    def __init__(self, models: Models, pipeline: LabelingPipeline) -> None:
        super().__init__(pipeline.detector, pipeline.segmenter, pipeline.embedder)
        self._models = models

    def label(self, images: Sequence[Image], request: LabelRequest | None = None) -> list[LabelledImage]:
        """As ``LabelingPipeline.label``."""
        return self._models.run(lambda pipeline: pipeline.label(images, request), patient=True)

    def admit(self, image: Image, request: LabelRequest) -> None:
        """As ``LabelingPipeline.admit``: frames of one video may differ in size.

        Raises:
            SettingError: ``too_many_tiles``.
        """
        check_tiles(image.shape[1], image.shape[0], request.tiling)
