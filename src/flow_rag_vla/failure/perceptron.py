# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A small perceptron in numpy: what is trained elsewhere and asked in a running detector."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Layer:
    """weight: (in, out) float32; bias: (out,) float32."""

    weight: Array
    bias: Array


class Perceptron:
    """ReLU between layers, one logit at the end."""

    subject: ClassVar[str] = "perceptron"
    """What it is called in errors."""

    def __init__(self, layers: Sequence[Layer]) -> None:
        """Make one of layers.

        Raises:
            ValueError: if sizes do not fit each other, or a weight is not finite.
        """
        if any(layer.weight.ndim != 2 or layer.bias.shape != layer.weight.shape[1:] for layer in layers):
            raise ValueError(f"a layer of the {self.subject} is no matrix with a bias for each of its columns")
        for before, after in itertools.pairwise(layers):
            if before.weight.shape[1] != after.weight.shape[0]:
                raise ValueError(f"layers of {before.weight.shape} and {after.weight.shape} do not fit each other")
        if not layers or layers[-1].weight.shape[1] != 1:
            raise ValueError(f"the {self.subject} needs layers, the last with one output")
        for layer in layers:
            if not (np.isfinite(layer.weight).all() and np.isfinite(layer.bias).all()):
                raise ValueError(f"the {self.subject} holds a weight that is not finite")
        self.layers = tuple(layers)

    @property
    def inputs(self) -> int:
        """How many numbers it takes."""
        return int(self.layers[0].weight.shape[0])

    def logits(self, features: Array) -> Array:
        """(N,) float32 of features (N, F) float32."""
        values = features
        for index, layer in enumerate(self.layers):
            values = values @ layer.weight + layer.bias
            if index + 1 < len(self.layers):
                values = np.maximum(values, 0.0)
        return np.asarray(values[:, 0], dtype=np.float32)
