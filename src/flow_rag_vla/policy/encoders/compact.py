# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The shipped encoder: one small convolutional network a camera, keypoints by spatial softmax, one embedding.

Spatial softmax (Finn et al. 2016, "Deep spatial autoencoders for visuomotor learning", arXiv 1509.06113) gives
each feature map's centre of mass: sub-pixel positions of coloured things at a fraction of the parameters that a
flattened feature map would take.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from flow_rag_vla.core.network_files import NetworkFiles, NetworkFilesError
from flow_rag_vla.policy.encoders.base import (
    CAMERAS,
    EncoderError,
    check_batches,
    check_images,
    to_planes,
    unit_length,
)

CONFIG_FILE = "encoder.json"
WEIGHTS_FILE = "encoder.safetensors"
SHARPNESS = 10.0
"""Factor on feature maps before the softmax: an untrained map is nearly level, and a level map tells no place."""
_FILES = NetworkFiles(
    "compact encoder", "flow_rag_vla.compact_encoder/1", CONFIG_FILE, WEIGHTS_FILE, "flow_rag_vla train"
)


@dataclass(frozen=True, slots=True)
class CompactConfig:
    """Shape of the network.

    front_size, wrist_size: (height, width) pixels that it was trained on; other sizes are resized to these
    channels: feature maps of the three convolutions; keypoints: spatial-softmax maps a camera
    hidden: width of the layer that joins the cameras; dimension: length of the embedding
    """

    front_size: tuple[int, int] = (128, 128)
    wrist_size: tuple[int, int] = (96, 96)
    channels: tuple[int, int, int] = (16, 32, 32)
    keypoints: int = 32
    hidden: int = 256
    dimension: int = 192

    def size(self, camera: str) -> tuple[int, int]:
        """(height, width) of one camera's pictures."""
        return self.front_size if camera == "front" else self.wrist_size


class KeypointTower(nn.Module):
    """(B, 3, h, w) float32 in 0..1 to (B, 3 K): for each keypoint x, y in -1..1 and how peaked its map is."""

    def __init__(self, channels: tuple[int, int, int], keypoints: int) -> None:
        super().__init__()
        first, second, third = channels
        self.features = nn.Sequential(
            nn.Conv2d(3, first, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(first, second, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(second, third, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(third, keypoints, 1),
        )

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        """Keypoints of each picture."""
        maps = self.features((planes - 0.5) * 2.0)
        height, width = maps.shape[2:]
        flat = SHARPNESS * maps.flatten(start_dim=2)
        rows = torch.linspace(-1.0, 1.0, height, device=maps.device)
        columns = torch.linspace(-1.0, 1.0, width, device=maps.device)
        grid = torch.stack([columns.repeat(height), rows.repeat_interleave(width)], dim=1)
        places = flat.softmax(dim=-1) @ grid
        # How far a map stands out above a level one tells whether the thing it looks for is in view.
        peak = flat.logsumexp(dim=-1) - math.log(height * width)
        return torch.cat([places.flatten(start_dim=1), torch.tanh(peak / 5.0)], dim=-1)


class CompactNetwork(nn.Module):
    """Both towers and the layer that joins them; gives unit-length embeddings."""

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        self.config = config
        self.towers = nn.ModuleDict({camera: KeypointTower(config.channels, config.keypoints) for camera in CAMERAS})
        joined = 3 * config.keypoints * len(CAMERAS)
        self.join = nn.Sequential(
            nn.Linear(joined, config.hidden), nn.SiLU(), nn.Linear(config.hidden, config.dimension)
        )
        # The keypoints reach the embedding on a straight path too: positions stay linear in it.
        self.skip = nn.Linear(joined, config.dimension, bias=False)

    def forward(self, planes: Mapping[str, torch.Tensor]) -> torch.Tensor:
        """Planes (B, 3, h, w) a camera to (B, D) of unit length."""
        keypoints = torch.cat([self.towers[camera](planes[camera]) for camera in CAMERAS], dim=-1)
        return unit_length(self.join(keypoints) + self.skip(keypoints))


class CompactEncoder:
    """The network, ready for pictures. Not safe for use by two threads at once."""

    def __init__(
        self, network: CompactNetwork, *, revision: str, name: str = "compact", device: str | torch.device = "cpu"
    ) -> None:
        self._network = network.to(device).eval().requires_grad_(False)
        self._device = torch.device(device)
        self._revision = revision
        self._name = name

    @property
    def name(self) -> str:
        """What the encoder is called."""
        return self._name

    @property
    def revision(self) -> str:
        """Hash of the weights."""
        return self._revision

    @property
    def dimension(self) -> int:
        """Length of the embedding."""
        return self._network.config.dimension

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
        config = self._network.config
        batches = check_batches(images, CAMERAS)
        planes = {camera: to_planes(batch, config.size(camera), self._device) for camera, batch in batches.items()}
        return np.asarray(self._network(planes).cpu().numpy(), dtype=np.float32)

    @classmethod
    def load(cls, folder: str | Path, device: str | torch.device = "cpu") -> CompactEncoder:
        """Load from a folder written by ``save_compact``.

        Raises:
            EncoderError: when files are missing, damaged or of another kind.
        """

        def filled(weights: Mapping[str, NDArray[Any]]) -> CompactNetwork:
            network = CompactNetwork(config)
            network.load_state_dict({name: torch.from_numpy(value) for name, value in weights.items()})
            return network

        try:
            config = _FILES.read_config(folder, CompactConfig)
            network = _FILES.read_weights(folder, filled)
        except NetworkFilesError as error:
            raise EncoderError(str(error)) from error
        return cls(network, revision=_FILES.revision(folder), device=device)


def save_compact(network: CompactNetwork, folder: str | Path) -> str:
    """Write the network to a folder; give its revision."""
    weights = {name: value.detach().cpu().numpy() for name, value in network.state_dict().items()}
    return _FILES.save(folder, asdict(network.config), weights)
