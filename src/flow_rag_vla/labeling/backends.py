# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Backends by name: what a node, the console command and the web service are told to label with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, TypeVar

from flow_rag_vla.labeling.pipeline.errors import ModelError
from flow_rag_vla.labeling.pipeline.pipeline import LabelingPipeline
from flow_rag_vla.labeling.pipeline.stages import Detector, Embedder, Segmenter
from flow_rag_vla.labeling.pretrained import PretrainedSettings, check_device, check_precision

Maker = TypeVar("Maker")

AUTOMATIC = "auto"
"""With the compact detector: its own masks and embeddings. With one of one's own training: none. Else SAM 2, DINOv2."""
NONE = "none"


@dataclass(frozen=True, slots=True)
class BackendSettings:
    """Which backends, and where their models are.

    detector, segmenter, embedder: names; see ``DETECTORS``, ``SEGMENTERS`` and ``EMBEDDERS``, or "auto" or "none"
    detector_model, segmenter_model, embedder_model: local folder or hub id; empty: the backend's usual one
    device, precision, batch: of the pretrained ones; see ``PretrainedSettings``
    calibration: JSON file that turns the detector's scores to shares of correct ones; empty: none
    """

    detector: str = "compact"
    segmenter: str = AUTOMATIC
    embedder: str = AUTOMATIC
    detector_model: str = ""
    segmenter_model: str = ""
    embedder_model: str = ""
    device: str = "cpu"
    precision: str = "float32"
    batch: int = 4
    calibration: str = ""

    def pretrained(self, model: str, usual: str) -> PretrainedSettings:
        """The settings of one pretrained model."""
        return PretrainedSettings(model or usual, self.device, self.precision, self.batch)


def _compact_detector(settings: BackendSettings) -> Detector:
    from flow_rag_vla.labeling.compact.model import CompactModel
    from flow_rag_vla.labeling.detectors.compact import CompactDetector

    return CompactDetector(CompactModel.load(settings.detector_model or None, settings.device))


def _florence2(settings: BackendSettings) -> Detector:
    from flow_rag_vla.labeling.detectors.florence2 import DEFAULT_SOURCE, Florence2Detector

    return Florence2Detector(settings.pretrained(settings.detector_model, DEFAULT_SOURCE))


def _grounding_dino(settings: BackendSettings) -> Detector:
    from flow_rag_vla.labeling.detectors.grounding_dino import DEFAULT_SOURCE, GroundingDinoDetector

    return GroundingDinoDetector(settings.pretrained(settings.detector_model, DEFAULT_SOURCE))


def _detr(settings: BackendSettings) -> Detector:
    from flow_rag_vla.labeling.detectors.detr import DEFAULT_SOURCE, DetrDetector

    return DetrDetector.load(settings.pretrained(settings.detector_model, DEFAULT_SOURCE))


def _sam2(settings: BackendSettings) -> Segmenter:
    from flow_rag_vla.labeling.segmenters.sam2 import DEFAULT_SOURCE, Sam2Segmenter

    return Sam2Segmenter(settings.pretrained(settings.segmenter_model, DEFAULT_SOURCE))


def _dinov2(settings: BackendSettings) -> Embedder:
    from flow_rag_vla.labeling.embedders.dinov2 import DEFAULT_SOURCE, Dinov2Embedder

    return Dinov2Embedder(settings.pretrained(settings.embedder_model, DEFAULT_SOURCE))


def _compact_embedder(settings: BackendSettings) -> Embedder:
    from flow_rag_vla.labeling.compact.model import CompactModel
    from flow_rag_vla.labeling.embedders.compact import CompactEmbedder

    return CompactEmbedder(CompactModel.load(settings.embedder_model or None, settings.device))


DETECTORS: Mapping[str, Callable[[BackendSettings], Detector]] = {
    "compact": _compact_detector,
    "florence2": _florence2,
    "grounding_dino": _grounding_dino,
    "detr": _detr,
}
SEGMENTERS: Mapping[str, Callable[[BackendSettings], Segmenter]] = {"sam2": _sam2}
EMBEDDERS: Mapping[str, Callable[[BackendSettings], Embedder]] = {
    "compact": _compact_embedder,
    "dinov2": _dinov2,
}


class Keeper(Protocol):
    """Decides when the models of a pipeline are loaded: hands out backends that are there while they work."""

    def detector(self, make: Callable[[], Detector]) -> Detector:
        """What ``make`` makes, kept. Raises LabelingError."""
        ...

    def segmenter(self, make: Callable[[], Segmenter]) -> Segmenter:
        """What ``make`` makes, kept. Raises LabelingError."""
        ...

    def embedder(self, make: Callable[[], Embedder]) -> Embedder:
        """What ``make`` makes, kept. Raises LabelingError."""
        ...


class _KeepAll:
    """Loads at once, and keeps."""

    def detector(self, make: Callable[[], Detector]) -> Detector:
        return make()

    def segmenter(self, make: Callable[[], Segmenter]) -> Segmenter:
        return make()

    def embedder(self, make: Callable[[], Embedder]) -> Embedder:
        return make()


def make_pipeline(settings: BackendSettings | None = None, keeper: Keeper | None = None) -> LabelingPipeline:
    """The pipeline of some backends, ready.

    Args:
        settings: which.
        keeper: who loads them, and may unload them between two uses; None: all are loaded now and stay.

    Raises:
        ModelError: for an unknown name or precision, a device that is not there, and for a model that is missing or
            damaged, or needs a library that is.
    """
    settings, keeper = settings or BackendSettings(), keeper or _KeepAll()
    detector = keeper.detector(lambda: make_detector(settings))
    own = settings.detector in ("compact", "detr")
    segmenter = {AUTOMATIC: NONE if own else "sam2"}.get(settings.segmenter, settings.segmenter)
    embedder = {AUTOMATIC: NONE if own else "dinov2"}.get(settings.embedder, settings.embedder)
    if settings.calibration:
        from flow_rag_vla.labeling.detectors.calibration import CalibratedDetector, ScoreCalibration

        detector = CalibratedDetector(detector, ScoreCalibration.load(settings.calibration))
    makers = (
        None if segmenter == NONE else _chosen(SEGMENTERS, segmenter, "segmenter"),
        None if embedder == NONE else _chosen(EMBEDDERS, embedder, "embedder"),
    )
    segments, embeds = makers
    return LabelingPipeline(
        detector,
        None if segments is None else keeper.segmenter(lambda: segments(settings)),
        None if embeds is None else keeper.embedder(lambda: embeds(settings)),
    )


def make_detector(settings: BackendSettings) -> Detector:
    """The detector alone; errors as ``make_pipeline``."""
    check_precision(settings.precision)
    try:
        check_device(settings.device)
        return _chosen(DETECTORS, settings.detector, "detector")(settings)
    except ImportError as error:
        raise ModelError(
            f"the detector {settings.detector!r} needs a library ({error}); install it: "
            "pip install 'flow_rag_vla[labeling]'",
            "extra_missing",
        ) from error


def _chosen(known: Mapping[str, Maker], name: str, what: str) -> Maker:
    if name not in known:
        raise ModelError(f"unknown {what} {name!r}; known: {', '.join(known)}, {AUTOMATIC}, {NONE}", "model_unknown")
    return known[name]
