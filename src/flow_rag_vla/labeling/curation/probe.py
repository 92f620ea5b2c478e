# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A small classifier on embeddings: what the objects that people have judged say about the others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from flow_rag_vla.labeling.detections import Vectors

NOTHING = ""
"""The class of what people rejected: there is no such thing."""
SHARPNESS = 8.0
"""What unit vectors are multiplied by: their cosines alone are too close to each other for a penalised classifier."""
PENALTY = 1.0
"""Weight of half the squared coefficients, against the sum of the losses."""
ITERATIONS = 200


@dataclass(frozen=True, slots=True)
class Probe:
    """Multinomial logistic regression. classes: C names; weights: (D + 1, C), the last row is the bias."""

    classes: tuple[str, ...]
    weights: NDArray[np.float64]

    def probabilities(self, vectors: Vectors) -> NDArray[np.float64]:
        """(N, C) for vectors (N, D)."""
        return np.asarray(softmax(_with_bias(vectors) @ self.weights, axis=1))

    def predict(self, vectors: Vectors) -> tuple[str, ...]:
        """N names, the most probable of each."""
        return tuple(self.classes[place] for place in self.probabilities(vectors).argmax(axis=1))


def fit_probe(vectors: Vectors, labels: Sequence[str]) -> Probe:
    """Fit to some judged objects; each class counts alike, however many there are of it.

    Penalised maximum likelihood (Bishop 2006, "Pattern Recognition and Machine Learning", section 4.3.4), by L-BFGS.

    Args:
        vectors: (N, D) of unit length.
        labels: N names.

    Raises:
        ValueError: there is no object.
    """
    if not len(labels):
        raise ValueError("a probe of no objects; judge at least one")
    classes = tuple(sorted(set(labels)))
    codes = np.array([classes.index(label) for label in labels])
    counts = np.bincount(codes, minlength=len(classes))
    share = (len(labels) / (len(classes) * counts))[codes]
    inputs = _with_bias(vectors)
    truth = np.zeros((len(labels), len(classes)))
    truth[np.arange(len(labels)), codes] = 1.0
    shape = inputs.shape[1], len(classes)

    def loss(flat: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        weights = flat.reshape(shape)
        logs = log_softmax(inputs @ weights, axis=1)
        value = -float((share[:, None] * truth * logs).sum()) + PENALTY / 2 * float((weights[:-1] ** 2).sum())
        slope = inputs.T @ (share[:, None] * (np.exp(logs) - truth))
        slope[:-1] += PENALTY * weights[:-1]
        return value, slope.ravel()

    found = minimize(loss, np.zeros(shape).ravel(), jac=True, method="L-BFGS-B", options={"maxiter": ITERATIONS})
    return Probe(classes, np.asarray(found.x, np.float64).reshape(shape))


def _with_bias(vectors: Vectors) -> NDArray[np.float64]:
    scaled = SHARPNESS * np.asarray(vectors, np.float64)
    return np.concatenate([scaled, np.ones((len(scaled), 1))], axis=1)
