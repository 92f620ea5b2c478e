# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""How a detector is trained."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from flow_rag_vla.labeling.pipeline.errors import SettingError

RT_DETR, D_FINE = "rtdetr_v2", "d_fine"
ARCHITECTURES = (RT_DETR, D_FINE)
SIZES = ("tiny", "small", "medium")
DEVICES = ("auto", "cpu", "cuda")
STRIDE = 32
"""Sides of what the network sees are multiples of it."""


@dataclass(frozen=True, slots=True)
class DetectorTraining:
    """Everything that decides what a training gives, and how often it is saved and tried.

    Attributes:
        architecture: rtdetr_v2 (Lv et al. 2024, arXiv 2407.17140) or d_fine (Peng et al. 2024, arXiv 2410.13842), for
            a model that is made anew.
        size: of a model that is made anew: tiny (for tests), small (0.9 million weights, for a processor), medium
            (RT-DETR's own with a ResNet-18, for a GPU).
        model: what to go on from: a folder or hub id with weights of either architecture, or a folder with a
            config.json alone, which is made anew; empty: ``architecture`` and ``size``.
        width, height: of what the network sees, pixels; pictures are stretched to it.
        epochs: times that every picture is seen; batch: pictures a step.
        rate: peak learning rate, reached after ``warm_up`` of all steps, then falling as a half cosine to 2 % of it.
        backbone_rate: times ``rate``, of the backbone of a model that comes with weights.
        weight_decay: of AdamW; not of biases and norms. clip: greatest length of the gradient.
        average: weight of the past in the mean of the weights that is tried and kept; 0: the last weights.
        augment: flip, crop, and change of colours.
        every: epochs between tries on the validation pictures; patience: tries without a better one after which the
            training ends, 0: never.
        save_every: steps between checkpoints; also after each try.
        seed: of weights, order and augmentation; threads: of the processor, 0: torch's own choice.
        device: auto, cpu or cuda.
    """

    architecture: str = RT_DETR
    size: str = "small"
    model: str = ""
    width: int = 320
    height: int = 256
    epochs: int = 40
    batch: int = 8
    rate: float = 5e-4
    backbone_rate: float = 0.1
    warm_up: float = 0.05
    weight_decay: float = 1e-4
    clip: float = 0.1
    average: float = 0.99
    augment: bool = True
    every: int = 2
    patience: int = 8
    save_every: int = 100
    seed: int = 0
    threads: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        for name, known in (("architecture", ARCHITECTURES), ("size", SIZES), ("device", DEVICES)):
            if getattr(self, name) not in known:
                raise SettingError(f"{name} is {getattr(self, name)!r}, expected one of {', '.join(known)}")
        for name in ("epochs", "batch", "every", "save_every"):
            if getattr(self, name) < 1:
                raise SettingError(f"{name} is {getattr(self, name)}, expected at least 1")
        for name in ("patience", "seed", "threads"):
            if getattr(self, name) < 0:
                raise SettingError(f"{name} is {getattr(self, name)}, expected at least 0")
        for name in ("width", "height"):
            value = getattr(self, name)
            if value % STRIDE or not 2 * STRIDE <= value <= 2048:
                raise SettingError(f"{name} is {value}, expected a multiple of {STRIDE} from {2 * STRIDE} to 2048")
        for name in ("warm_up", "average"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise SettingError(f"{name} is {getattr(self, name)}, expected from 0, below 1")
        for name in ("rate", "backbone_rate", "clip"):
            if not 0.0 < getattr(self, name) <= 1000.0:
                raise SettingError(f"{name} is {getattr(self, name)}, expected above 0, at most 1000")
        if not 0.0 <= self.weight_decay < 1.0:
            raise SettingError(f"weight_decay is {self.weight_decay}, expected from 0, below 1")

    def decisive(self) -> dict[str, Any]:
        """What must be the same to go on with a training: all but how often it is saved, and on what it runs."""
        return {name: value for name, value in asdict(self).items() if name not in ("save_every", "threads", "device")}


def settings_from(values: Mapping[str, Any]) -> DetectorTraining:
    """Settings of a JSON object; what it does not name is as usual.

    Raises:
        SettingError: for a name that is none, a value of another type, or one out of its range.
    """
    usual = {field.name: field.default for field in dataclasses.fields(DetectorTraining)}
    checked: dict[str, Any] = {}
    for name, value in values.items():
        if name not in usual:
            raise SettingError(f"{name!r} is no setting of a training; known: {', '.join(usual)}")
        kind = type(usual[name])
        number = kind is float and type(value) is int
        if not number and type(value) is not kind:
            raise SettingError(f"{name} is {json.dumps(value, default=str)}, expected a {kind.__name__}")
        checked[name] = float(value) if number else value
    return DetectorTraining(**checked)
