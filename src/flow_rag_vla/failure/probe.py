# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A learned probe: a small perceptron on what the scores say, trained on labelled failures once there are enough.

Like SAFE (arXiv 2506.09937) it is trained on how episodes ended; unlike it, it looks at scores in standard deviations
of success instead of a policy's inner features, so that kinds of failure that it never saw still look like failures.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.phase import Phase
from flow_rag_vla.failure.frame import Frame
from flow_rag_vla.failure.perceptron import Perceptron

Array = NDArray[np.float32]

FEWEST_FAILURES = 50
"""Labelled failures below which no probe is trained."""

CLIP = (-3.0, 8.0)
"""Standard deviations beyond which a score says nothing more to the probe."""

NAME = "probe"
_PHASES = tuple(Phase)


class Probe(Perceptron):
    """The perceptron on the scores."""

    subject: ClassVar[str] = "probe"


class ProbeInput:
    """Gathers the probe's features over one episode."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Begin a new episode."""
        self._peaks: Array | None = None
        self._closings = 0
        self._closing = False

    def features(self, frame: Frame, scores: NDArray[np.float64]) -> Array:
        """(F,) float32 of a frame and its scores (S,), in standard deviations, averaged over the window; NaN: nothing.

        Holds the scores now and their highest so far, the phase and how long it lasts, how often the hand has closed,
        and where hand and fingers are. Not the time: the probe is to tell failures from successes as old as they.
        """
        low, high = CLIP
        known = np.nan_to_num(np.clip(scores, low, high), nan=0.0).astype(np.float32)
        self._peaks = known if self._peaks is None else np.maximum(self._peaks, known)
        closing = frame.opening < 0.5
        self._closings += closing and not self._closing
        self._closing = closing
        phase = np.zeros(len(_PHASES), dtype=np.float32)
        phase[_PHASES.index(frame.phase)] = 1.0
        counts = np.array([math.log1p(frame.phase_elapsed), min(self._closings, 4)], dtype=np.float32)
        return np.concatenate([known, self._peaks, phase, counts, frame.proprioception()])
