# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Any Hugging Face vision backbone as an encoder: both cameras pooled, joined, scaled to unit length."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from flow_rag_vla.policy.encoders.base import (
    CAMERAS,
    EncoderError,
    check_batches,
    check_images,
    to_planes,
    unit_length,
)

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
DEFAULT_SIZE = 224


@dataclass(frozen=True, slots=True)
class Preprocessing:
    """What a backbone expects: (height, width) pixels and the mean and deviation of a channel in 0..1."""

    size: tuple[int, int] = (DEFAULT_SIZE, DEFAULT_SIZE)
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD


class HuggingFaceEncoder:
    """A frozen backbone. Not safe for use by two threads at once."""

    def __init__(
        self,
        model: Any,
        preprocessing: Preprocessing,
        *,
        name: str,
        revision: str,
        device: str | torch.device = "cpu",
    ) -> None:
        self._device = torch.device(device)
        self._model = model.to(self._device).eval().requires_grad_(False)
        self._preprocessing = preprocessing
        self._name = name
        self._revision = revision
        blank = np.zeros((1, 16, 16, 3), dtype=np.uint8)
        self._dimension = int(self.encode_batch({camera: blank for camera in CAMERAS}).shape[1])

    @property
    def name(self) -> str:
        """What the encoder was asked for as."""
        return self._name

    @property
    def revision(self) -> str:
        """Hash of the weights."""
        return self._revision

    @property
    def dimension(self) -> int:
        """Length of the embedding."""
        return self._dimension

    @property
    def cameras(self) -> tuple[str, ...]:
        """The cameras that ``encode`` needs."""
        return CAMERAS

    def encode(self, images: Mapping[str, NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Embed one picture a camera; see ``Encoder.encode``."""
        checked = check_images(images, CAMERAS)
        vectors = self.encode_batch({camera: image[None] for camera, image in checked.items()})
        return vectors.reshape(-1)

    @torch.inference_mode()
    def encode_batch(self, images: Mapping[str, NDArray[np.uint8]]) -> NDArray[np.float32]:
        """Embed (B, H, W, 3) uint8 pictures a camera to (B, D) float32 of unit length."""
        batches = check_batches(images, CAMERAS)
        pixels = torch.cat([self._pixels(batches[camera]) for camera in CAMERAS])
        pooled = _pooled(self._model(pixel_values=pixels))
        # Each camera is scaled first, so that neither drowns the other.
        front, wrist = unit_length(pooled.float()).chunk(len(CAMERAS))
        return np.asarray(unit_length(torch.cat([front, wrist], dim=-1)).cpu().numpy(), dtype=np.float32)

    def _pixels(self, batch: NDArray[np.uint8]) -> torch.Tensor:
        planes = to_planes(batch, self._preprocessing.size, self._device)
        mean = torch.tensor(self._preprocessing.mean, device=self._device).reshape(1, 3, 1, 1)
        std = torch.tensor(self._preprocessing.std, device=self._device).reshape(1, 3, 1, 1)
        return (planes - mean) / std

    @classmethod
    def load(
        cls, folder_or_id: str, device: str | torch.device = "cpu", *, name: str | None = None
    ) -> HuggingFaceEncoder:
        """Load a backbone from a folder or, if it is none, from the hub (or its local cache).

        Raises:
            EncoderError: when it is missing, damaged or gives no feature map; the message says what to do.
        """
        from transformers import AutoModel

        folder = Path(folder_or_id).expanduser()
        looks_like_path = folder_or_id.startswith((".", "/", "~")) or folder_or_id.count("/") > 1
        if looks_like_path and not (folder / "config.json").is_file():
            state = "has no config.json" if folder.is_dir() else "does not exist"
            raise EncoderError(
                f"encoder folder {folder_or_id} {state}; save a Hugging Face vision model there "
                "(model.save_pretrained), or use encoder: compact"
            )
        source = str(folder) if folder.is_dir() else folder_or_id
        try:
            # Code that comes with weights is not run, and nobody is asked whether it may be.
            model = AutoModel.from_pretrained(source, trust_remote_code=False)
        except Exception as error:  # transformers raises many kinds, all of which mean the same to a user
            raise EncoderError(
                f"vision backbone {folder_or_id!r} does not load ({_first_line(error)}); download it once with "
                f"network access (hf download {folder_or_id}), give a local folder, or use encoder: compact"
            ) from error
        try:
            return cls(
                model,
                read_preprocessing(source, model.config),
                name=name or folder_or_id,
                revision=_weights_revision(model),
                device=device,
            )
        except (TypeError, ValueError, AttributeError, RuntimeError) as error:
            raise EncoderError(
                f"{folder_or_id!r} is no vision backbone that turns pixels into features ({_first_line(error)}); "
                "use one such as facebook/dinov2-small"
            ) from error


def _pooled(output: Any) -> torch.Tensor:
    """(B, D) features: the pooled output where the model has one, else the mean over places."""
    pooled = getattr(output, "pooler_output", None)
    if pooled is not None:
        return torch.flatten(pooled, start_dim=1)
    hidden = output.last_hidden_state
    if hidden.ndim == 4:
        return torch.as_tensor(hidden.mean(dim=(2, 3)))
    return torch.as_tensor(hidden.mean(dim=1))


def read_preprocessing(source: str, config: Any) -> Preprocessing:
    """Size and channel statistics from ``preprocessor_config.json``, else from the model's config, else ImageNet's."""
    values: dict[str, Any] = {}
    local = Path(source) / "preprocessor_config.json"
    path: Path | str | None = local if local.is_file() else None
    if path is None and not Path(source).is_dir():
        from transformers.utils.hub import cached_file

        path = cached_file(source, "preprocessor_config.json", _raise_exceptions_for_missing_entries=False)
    if path is not None:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    size = values.get("crop_size") or values.get("size") or getattr(config, "image_size", None) or DEFAULT_SIZE
    mean, std = values.get("image_mean", IMAGENET_MEAN), values.get("image_std", IMAGENET_STD)
    return Preprocessing(
        _size(size),
        (float(mean[0]), float(mean[1]), float(mean[2])),
        (float(std[0]), float(std[1]), float(std[2])),
    )


def _size(value: Any) -> tuple[int, int]:
    if isinstance(value, dict):
        if "height" in value:
            return int(value["height"]), int(value["width"])
        value = value.get("shortest_edge", DEFAULT_SIZE)
    if isinstance(value, (list, tuple)):
        return int(value[0]), int(value[-1])
    return int(value), int(value)


def _weights_revision(model: Any) -> str:
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
