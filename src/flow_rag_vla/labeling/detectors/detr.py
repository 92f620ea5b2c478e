# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""RT-DETR v2 and D-FINE as a detector: fast, with a closed vocabulary, most often one of one's own training.

A folder of a training says in ``detector.json`` which labels it knows, the size of what it sees and, for each label,
the score that is best to cut at. Scores are sigmoids, stretched so that this score is 0.5: what asks for at least 0.5,
as labelling does unless told otherwise, gets each label at its own best threshold. A checkpoint without that file
(from the hub) is taken as it is.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.files import write_text
from flow_rag_vla.labeling.detections import Detections, Origin, ScoreKind
from flow_rag_vla.labeling.pipeline.boxes import areas, clipped
from flow_rag_vla.labeling.pipeline.errors import ModelError, PromptError
from flow_rag_vla.labeling.pipeline.images import Image, check_image
from flow_rag_vla.labeling.pretrained import PretrainedSettings, load_model, load_part, weights_revision

NAME = "detr"
DEFAULT_SOURCE = "PekingU/rtdetr_v2_r18vd"
SIDE_FILE = "detector.json"
MODEL_TYPES = ("rt_detr_v2", "d_fine")
"""What config.json may say."""
USUAL_THRESHOLD = 0.5
USUAL_SIDE = 640
MOST_FOUND = 100
"""Detections of a picture at most, the surest: what COCO's scores take."""
_FORMAT = "flow_rag_vla.detector/1"
_LEAST_THRESHOLD = 0.02


@dataclass(frozen=True, slots=True)
class DetectorSide:
    """What a checkpoint says beside its weights.

    labels: in the order of the network's outputs; thresholds: of each, 0 to 1; width, height: of what it sees, pixels
    """

    labels: tuple[str, ...]
    thresholds: tuple[float, ...]
    width: int
    height: int

    def save(self, folder: Path, more: Mapping[str, Any]) -> None:
        """Write it into a folder, and for other programs what transformers reads before pictures go in."""
        values = {
            "format": _FORMAT,
            "labels": list(self.labels),
            "thresholds": [round(value, 6) for value in self.thresholds],
            "width": self.width,
            "height": self.height,
            **more,
        }
        write_text(folder / SIDE_FILE, json.dumps(values, indent=1, allow_nan=False) + "\n")
        processor = {
            "image_processor_type": "RTDetrImageProcessor",
            "do_normalize": False,
            "do_pad": False,
            "do_rescale": True,
            "do_resize": True,
            "resample": 2,
            "rescale_factor": 1 / 255,
            "size": {"height": self.height, "width": self.width},
        }
        write_text(folder / "preprocessor_config.json", json.dumps(processor, indent=1) + "\n")

    @classmethod
    def load(cls, folder: Path) -> DetectorSide:
        """Read it from a folder.

        Raises:
            ModelError: if it is damaged.
        """
        path = folder / SIDE_FILE
        try:
            values = json.loads(path.read_text(encoding="utf-8"))
            if values["format"] != _FORMAT:
                raise ValueError(f"its format is {values['format']!r}")
            side = cls(
                tuple(str(label) for label in values["labels"]),
                tuple(float(value) for value in values["thresholds"]),
                int(values["width"]),
                int(values["height"]),
            )
            if not side.labels or len(side.labels) != len(side.thresholds):
                raise ValueError(f"{len(side.labels)} labels and {len(side.thresholds)} thresholds")
            if not all(0.0 <= value <= 1.0 for value in side.thresholds) or min(side.width, side.height) < 32:
                raise ValueError("a threshold is outside of 0 to 1, or a side is below 32 pixels")
            return side
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ModelError(f"{path} is damaged ({error}): train the detector again", "model_damaged") from error


class DetrDetector:
    """A ``Detector`` over a network of transformers."""

    def __init__(self, network: Any, side: DetectorSide, settings: PretrainedSettings, revision: str = "") -> None:
        """Take a network in evaluation mode on ``settings.device``; revision: of its weights, made if empty."""
        self.side, self.settings = side, settings
        self._network = network
        self._revision = revision or weights_revision(network)
        self._rows = {_plain(label): row for row, label in enumerate(side.labels)}

    @classmethod
    def load(cls, settings: PretrainedSettings | None = None) -> DetrDetector:
        """Load a folder or a hub id.

        Raises:
            ModelError: when it is missing, damaged or of another kind.
        """
        settings = settings or PretrainedSettings(DEFAULT_SOURCE)
        config = read_config(settings)
        network = load_model("detector", settings, network_class(config.model_type))
        folder = Path(settings.source).expanduser()
        labels = tuple(str(config.id2label[row]) for row in range(int(config.num_labels)))
        if (folder / SIDE_FILE).is_file():
            side = DetectorSide.load(folder)
            if len(side.labels) != len(labels):
                raise ModelError(
                    f"{folder / SIDE_FILE} names {len(side.labels)} labels, the network has {len(labels)}: the files "
                    "are of two trainings, train the detector again",
                    "model_damaged",
                )
        else:
            side = DetectorSide(labels, (USUAL_THRESHOLD,) * len(labels), *_size_of(settings))
        return cls(network, side, settings)

    @property
    def name(self) -> str:
        """What the backend is called."""
        return NAME

    @property
    def revision(self) -> str:
        """Hash of the weights."""
        return self._revision

    @property
    def score_kind(self) -> ScoreKind:
        """Sigmoids, stretched; see the module."""
        return ScoreKind.SIGMOID

    @property
    def vocabulary(self) -> tuple[str, ...]:
        """The labels that it was taught."""
        return self.side.labels

    def detect(self, images: Sequence[Image], prompts: Sequence[str], threshold: float) -> list[Detections]:
        """See ``Detector.detect``. A prompt is one of the labels; capitals and ``_`` for a blank do not matter.

        Raises:
            PromptError: for a prompt outside the vocabulary; it lists what is known.
        """
        asked = self._asked(prompts)
        checked = [check_image(image, f"image {place}") for place, image in enumerate(images)]
        results: list[Detections] = []
        for begin in range(0, len(checked), self.settings.batch):
            part = checked[begin : begin + self.settings.batch]
            for image, scores, boxes in zip(part, *self._outputs(part), strict=True):
                results.append(self._detections(image, scores, boxes, asked, prompts, threshold))
        return results

    def _asked(self, prompts: Sequence[str]) -> dict[int, str]:
        """Row of the network -> the label that is given."""
        if not prompts:
            return dict(enumerate(self.side.labels))
        asked: dict[int, str] = {}
        for prompt in prompts:
            row = self._rows.get(_plain(prompt))
            if row is None:
                known = ", ".join(self.side.labels)
                raise PromptError(f"this detector was not taught {prompt!r}; it knows: {known}", "prompt_unknown")
            asked.setdefault(row, prompt.strip())
        return asked

    def _outputs(self, images: Sequence[Image]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """(B, Q, C) scores and (B, Q, 4) boxes: middle and size as shares of the picture."""
        import torch

        pixels = np.stack([scaled_pixels(image, self.side.width, self.side.height) for image in images])
        sent = torch.from_numpy(pixels).to(self.settings.device, getattr(torch, self.settings.precision))
        with torch.inference_mode():
            made = self._network(pixel_values=sent)
        return made.logits.float().sigmoid().cpu().numpy(), made.pred_boxes.float().cpu().numpy()

    def _detections(
        self,
        image: Image,
        scores: NDArray[np.float32],
        places: NDArray[np.float32],
        asked: Mapping[int, str],
        prompts: Sequence[str],
        threshold: float,
    ) -> Detections:
        height, width = image.shape[:2]
        middles, sizes = places[:, :2], places[:, 2:]
        corners = np.concatenate([middles - sizes / 2, middles + sizes / 2], axis=1)
        boxes = clipped(corners * np.asarray([width, height, width, height], np.float32), width, height)
        columns = np.asarray(sorted(asked), np.int64)
        own = stretched(scores[:, columns], np.asarray(self.side.thresholds, np.float32)[columns])
        own[areas(boxes) <= 0.0] = -1.0
        order = np.argsort(-own, axis=None, kind="stable")[:MOST_FOUND]
        rows, kinds = np.divmod(order, len(columns))
        values = own[rows, kinds]
        sure = values >= max(threshold, 0.0)
        rows, kinds, values = rows[sure], kinds[sure], values[sure]
        return Detections(
            width,
            height,
            boxes[rows],
            values.astype(np.float32),
            tuple(asked[int(columns[kind])] for kind in kinds),
            ScoreKind.SIGMOID,
            Origin(NAME, self.revision, "; ".join(prompts), threshold),
        )


def scaled_pixels(image: Image, width: int, height: int) -> NDArray[np.float32]:
    """(3, height, width) float32, 0 to 1: what the networks see, as transformers' RTDetrImageProcessorPil makes it."""
    from PIL import Image as Pillow

    resized = Pillow.fromarray(image).resize((width, height), Pillow.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(resized, np.float32).transpose(2, 0, 1) / np.float32(255.0))


def read_config(source: PretrainedSettings) -> Any:
    """The configuration of an RT-DETR v2 or a D-FINE.

    Raises:
        ModelError: if it is missing, damaged or of something else.
    """
    from transformers import AutoConfig

    config: Any = load_part("detector's configuration", source, AutoConfig.from_pretrained)
    if config.model_type not in MODEL_TYPES:
        raise ModelError(
            f"{source.source!r} is a model of the type {config.model_type!r}, expected {' or '.join(MODEL_TYPES)}: "
            "name a detector of one of these",
            "model_damaged",
        )
    return config


def network_class(model_type: str) -> Any:
    """The class of transformers for one of ``MODEL_TYPES``.

    Raises:
        ModelError: if transformers is not installed; it names the extra.
    """
    try:
        from transformers import DFineForObjectDetection, RTDetrV2ForObjectDetection
    except ImportError as error:
        raise ModelError(
            f"detectors need transformers ({error}); install it: pip install 'flow_rag_vla[labeling]'", "extra_missing"
        ) from error
    return {"rt_detr_v2": RTDetrV2ForObjectDetection, "d_fine": DFineForObjectDetection}[model_type]


def stretched(scores: NDArray[np.float32], thresholds: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores (N, C) of 0 to 1 on two straight lines that meet where the score is the label's threshold (C,): at 0.5."""
    cut = np.clip(thresholds, _LEAST_THRESHOLD, 1.0 - _LEAST_THRESHOLD).astype(np.float32)
    low, high = 0.5 * scores / cut, 0.5 + 0.5 * (scores - cut) / (1.0 - cut)
    return np.asarray(np.clip(np.where(scores < cut, low, high), 0.0, 1.0), np.float32)


def _size_of(settings: PretrainedSettings) -> tuple[int, int]:
    """Width and height of what a checkpoint of somebody else sees."""
    from transformers.image_processing_base import ImageProcessingMixin

    try:
        values, _ = load_part("preprocessor", settings, ImageProcessingMixin.get_image_processor_dict)
        size = values["size"]
        return int(size["width"]), int(size["height"])
    except (ModelError, KeyError, TypeError, ValueError):
        return USUAL_SIDE, USUAL_SIDE


def _plain(word: str) -> str:
    return " ".join(word.lower().replace("_", " ").replace("-", " ").split())
