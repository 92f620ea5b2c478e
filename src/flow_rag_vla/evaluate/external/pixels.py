# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures as observations: keypoints of a small frozen network over rendered frames.

The network has the architecture of the shipped encoder's towers (``policy.encoders.compact``): three convolutions and a
spatial softmax. Its weights are random and fixed by a seed: the shipped weights know the shipped robot's two cameras,
not someone else's. Random features of this kind carry where coloured things are (Saxe et al. 2011, "On random weights
and unsupervised feature learning"), which is enough to run the protocol on pictures and no claim about how well.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from flow_rag_vla.evaluate.external.environment import rendered
from flow_rag_vla.policy.encoders.base import check_image, to_planes
from flow_rag_vla.policy.encoders.compact import KeypointTower

PICTURE_SIZE = (64, 64)
KEYPOINTS = 32
CHANNELS = (16, 32, 32)
WEIGHTS_SEED = 20_240_111
CONTRAST = 20.0
"""Factor on the last layer's random weights: without it every map is nearly level, and its centre is the middle."""


class PixelObserver:
    """Observes keypoints (3 K a camera), and what the robot feels of itself."""

    expensive = True

    def __init__(
        self,
        name: str,
        cameras: Mapping[str, Callable[[Any], NDArray[np.uint8]]] | None = None,
        *,
        felt: int = 0,
    ) -> None:
        """Make the network.

        Args:
            name: of the environment, for messages.
            cameras: name to what renders (H, W, 3) uint8 RGB of the unwrapped environment; None calls ``render``.
            felt: leading numbers of the state that are observed beside the pictures; 0 for pictures alone.
        """
        self._name = name
        self._cameras = cameras
        self._felt = felt
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(WEIGHTS_SEED)
            self._tower = KeypointTower(CHANNELS, KEYPOINTS).eval().requires_grad_(False)
            last = self._tower.features[-1]
            assert isinstance(last, torch.nn.Conv2d)
            last.weight.mul_(CONTRAST)

    @property
    def dimension(self) -> int:
        """Length of an observation."""
        return 3 * KEYPOINTS * (1 if self._cameras is None else len(self._cameras)) + self._felt

    @torch.inference_mode()
    def observe(self, environment: Any, state: Any) -> NDArray[np.floating]:
        """(D,) float32 of the pictures that are rendered now, and of the state."""
        if self._cameras is None:
            pictures = {"render": rendered(environment, self._name)}
        else:
            pictures = {camera: render(environment.unwrapped) for camera, render in self._cameras.items()}
        parts = [
            self._tower(to_planes(check_image(camera, picture)[None], PICTURE_SIZE, torch.device("cpu")))[0].numpy()
            for camera, picture in pictures.items()
        ]
        if self._felt:
            parts.append(np.asarray(state, dtype=np.float32).reshape(-1)[: self._felt])
        return np.concatenate(parts).astype(np.float32)
