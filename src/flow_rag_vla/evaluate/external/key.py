# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Numbers as a unit vector whose cosine is a Gaussian kernel: what the failure memory looks situations up by.

Random Fourier features, Rahimi and Recht 2007, "Random features for large-scale kernel machines":
``z(x) = sqrt(1/M) [cos(w_1 x), sin(w_1 x), ..., cos(w_M x), sin(w_M x)]`` with ``w ~ N(0, I / l^2)``. Its length is 1,
and ``z(x) z(y) = mean_m cos(w_m (x - y))`` tends to ``exp(-|x - y|^2 / (2 l^2))`` with an error of about
``(1 - k^2) / sqrt(2 M)`` at a kernel value k: least where it matters, near 1.
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

FREQUENCIES = 256
"""M; a key has 2 M numbers."""


class KernelKey:
    """Makes keys of situations that were standardised before.

    Args:
        dimension: length of a situation.
        length_scale: l, in standard deviations: how far apart two situations still count as alike.
        seed: of the frequencies; keys of different seeds do not compare.
    """

    def __init__(self, dimension: int, length_scale: float, seed: int = 0) -> None:
        if not length_scale > 0.0:
            raise ValueError(f"length_scale is {length_scale}, expected above 0")
        self.length_scale = length_scale
        self._frequencies = np.random.default_rng(seed).standard_normal((dimension, FREQUENCIES)) / length_scale

    @property
    def dimension(self) -> int:
        """Length of a key."""
        return 2 * FREQUENCIES

    @property
    def revision(self) -> str:
        """Hash of what makes the keys; keys of different revisions do not compare."""
        return hashlib.sha256(self._frequencies.tobytes()).hexdigest()[:12]

    def __call__(self, situation: NDArray[np.floating]) -> NDArray[np.float32]:
        """(D,) to (2 M,) float32 of unit length."""
        angles = situation.astype(np.float64) @ self._frequencies
        key = np.concatenate([np.cos(angles), np.sin(angles)]) / np.sqrt(FREQUENCIES)
        return np.asarray(key, dtype=np.float32)
