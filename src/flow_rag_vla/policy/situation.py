# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What situations are compared by: what the policy's action depends on, as the policy takes it in.

Two pictures are alike when they look alike; two situations are alike when the same action is right in both. The second
is what a failure memory must ask. The policy's velocity network sees numbers made of where its readout sees target and
destination, of what the hand feels, and of the goal, each standardised by its deviation in the demonstrations: the same
numbers are compared here. What the readout misreads does no harm, because a place that is misread today is misread in
the same way tomorrow.

The numbers are mapped to a unit vector whose cosine is a Gaussian kernel of their distance, so that a vector index and
its thresholds serve unchanged: random Fourier features (Rahimi and Recht 2007) with orthogonal frequencies (Yu et al.
2016, arXiv 1610.09072). numpy only: the memory's node does not load torch.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from flow_rag_vla.core.goal import GOALS, Goal
from flow_rag_vla.policy.observation import (
    CENTRE,
    ENTITIES,
    ENTITY_DIM,
    HEADING,
    POSITION,
    POSITION_SCALE,
    PROPRIOCEPTION_DIM,
    READING_DIM,
    SITUATION_COLUMNS,
    SITUATION_DIM,
    YAW_SYMMETRY,
)

Array = NDArray[np.float32]

NAME = "situation"
"""What the key is called where an encoder is named."""

DIMENSION = 512
"""Length of a key."""

WIDTH = 2.5
"""Width of the Gaussian kernel, in standard deviations: two situations one width apart have a cosine of 0.61.

As wide as lets a regression over remembered situations say best what was right in a start that it does not know: see
"A wider kernel" in docs/proof_history.md. The first version's was so narrow that situations a tenth of a second apart
had a cosine of 0.4, and that its regression hardly knew more than its nearest case.
"""

VERSION = 2
"""Changes with anything below: keys of two versions are not compared."""

FINE_SCALE = 0.03
"""Metres: near the tool places are compared a second time on this scale. That of ``policy.network``."""

FEATURES = SITUATION_DIM + 6 + PROPRIOCEPTION_DIM + len(GOALS)
"""Numbers that decide an action."""

_READOUT = "readout.network."
_MEAN, _STD = "feature_mean", "feature_std"
_SHIPPED = Path(__file__).parent / "checkpoints" / "policy"


class SituationKeyError(ValueError):
    """A checkpoint that holds no readout, or values that make no key; the text says what to do."""


class SituationKey:
    """Makes keys with the readout of one policy checkpoint. Thread-safe."""

    def __init__(self, layers: list[tuple[Array, Array]], mean: Array, std: Array, encoder_revision: str) -> None:
        """Take what a checkpoint says of its readout and of its features.

        Args:
            layers: of the readout, weight (out, in) and bias (out,) float32 of each.
            mean: (F,) float32, of each feature in the demonstrations.
            std: (F,) float32, its deviation.
            encoder_revision: whose embeddings are read.

        Raises:
            SituationKeyError: if these are no readout, or other features than this version makes.
        """
        widths = [layer[0].shape for layer in layers]
        if not layers or widths[-1][0] != READING_DIM or widths[0][1] <= PROPRIOCEPTION_DIM:
            raise SituationKeyError(
                f"layers of shapes {widths} are no readout to {READING_DIM} numbers; use a policy of this version"
            )
        if mean.shape != (FEATURES,) or std.shape != (FEATURES,) or not (std > 0.0).all():
            raise SituationKeyError(
                f"{_MEAN} {mean.shape} and {_STD} {std.shape}, expected ({FEATURES},) and deviations above 0; use a "
                "policy of this version"
            )
        self._layers = layers
        self._mean, self._std = mean, std
        self.encoder_revision = encoder_revision
        """Revision of the encoder whose embeddings it takes."""
        self.embedding_dimension = int(widths[0][1]) - PROPRIOCEPTION_DIM
        """Length of the embeddings that it takes."""
        self._felt_scale = np.ones(PROPRIOCEPTION_DIM, dtype=np.float32)
        self._felt_scale[POSITION] = POSITION_SCALE
        self._frequencies = orthogonal_frequencies(FEATURES, DIMENSION // 2, np.random.default_rng(VERSION)) / WIDTH
        digest = hashlib.sha256(f"{NAME}/{VERSION}/{encoder_revision}".encode())
        for weight, bias in layers:
            digest.update(weight.tobytes() + bias.tobytes())
        digest.update(mean.tobytes() + std.tobytes())
        self.revision = digest.hexdigest()[:12]
        """Names encoder, readout, features and version: keys of one revision can be compared. A fine-tuned policy keeps
        it."""

    @classmethod
    def load(cls, folder: str | Path = "") -> SituationKey:
        """The key of a policy checkpoint; empty: the one that ships.

        Raises:
            SituationKeyError: if the folder holds no readable checkpoint.
        """
        path = Path(folder).expanduser() if str(folder) else _SHIPPED
        try:
            weights = load_file(path / "policy.safetensors")
            mean, std = (np.ascontiguousarray(weights[name], dtype=np.float32) for name in (_MEAN, _STD))
            encoder = str(json.loads((path / "policy.json").read_text(encoding="utf-8"))["encoder"]["revision"])
        except (OSError, SafetensorError, ValueError, KeyError, TypeError) as error:
            raise SituationKeyError(
                f"no policy checkpoint can be read in {path} ({type(error).__name__}: {error}); give its folder, or "
                "train one: flow_rag_vla train"
            ) from error
        places = sorted({int(name[len(_READOUT) :].split(".")[0]) for name in weights if name.startswith(_READOUT)})
        layers = [
            (
                np.ascontiguousarray(weights[f"{_READOUT}{place}.weight"], dtype=np.float32),
                np.ascontiguousarray(weights[f"{_READOUT}{place}.bias"], dtype=np.float32),
            )
            for place in places
        ]
        return cls(layers, mean, std, encoder)

    def __call__(self, embedding: NDArray[np.floating], proprioception: NDArray[np.floating], goal: Goal) -> Array:
        """(DIMENSION,) float32 of unit length.

        Args:
            embedding: (D,) float32 of unit length, of the checkpoint's encoder.
            proprioception: (P,) float32, see ``observation.proprioception``.
            goal: what is to be done.

        Raises:
            SituationKeyError: for another length, or a value that is not finite.
        """
        seen = np.asarray(embedding, dtype=np.float32)
        felt = np.asarray(proprioception, dtype=np.float32)
        if seen.shape != (self.embedding_dimension,) or felt.shape != (PROPRIOCEPTION_DIM,):
            raise SituationKeyError(
                f"embedding {seen.shape} and proprioception {felt.shape}, expected ({self.embedding_dimension},) and "
                f"({PROPRIOCEPTION_DIM},); use the encoder and the robot state that the policy takes"
            )
        if not (np.isfinite(seen).all() and np.isfinite(felt).all()):
            raise SituationKeyError("embedding or proprioception is not finite; check the encoder and the robot driver")
        angles = self._frequencies @ self.features(self._read(seen, felt), felt, goal.index)
        return np.concatenate([np.cos(angles), np.sin(angles)]) * np.float32((DIMENSION // 2) ** -0.5)

    def target_place(self, embedding: NDArray[np.floating], proprioception: NDArray[np.floating], goal: Goal) -> Array:
        """(3,) float32 metres, base axes: where the policy reads the target of the goal. Arguments as in a call."""
        felt = np.asarray(proprioception, dtype=np.float32)
        reading = self._read(np.asarray(embedding, dtype=np.float32), felt)
        place: Array = (felt[POSITION] + CENTRE + reading[SITUATION_COLUMNS[goal.index]][:3]).astype(np.float32)
        return place

    def as_if(
        self,
        embedding: NDArray[np.floating],
        proprioception: NDArray[np.floating],
        goal: Goal,
        hands: NDArray[np.floating],
    ) -> Array:
        """(N, DIMENSION) float32 of unit length: the keys of what is seen now, had the hand been elsewhere.

        So places can be compared with those of a case from before its hand is where the case's was.

        Args:
            embedding: as in a call.
            proprioception: as in a call.
            goal: as in a call.
            hands: (N, P) float32, what the hand would feel there.

        Raises:
            SituationKeyError: as in a call.
        """
        self(embedding, proprioception, goal)
        felt = np.asarray(proprioception, dtype=np.float32)
        reading = self._read(np.asarray(embedding, dtype=np.float32), felt)
        features = [self.features(reading_from(reading, felt, hand), hand, goal.index) for hand in hands]
        angles = np.array(features, dtype=np.float32).reshape(len(features), self._frequencies.shape[1])
        angles = angles @ self._frequencies.T
        return np.concatenate([np.cos(angles), np.sin(angles)], axis=1) * np.float32((DIMENSION // 2) ** -0.5)

    def _read(self, embedding: Array, proprioception: Array) -> Array:
        hidden = np.concatenate(
            [embedding * np.float32(self.embedding_dimension**0.5), proprioception * self._felt_scale]
        )
        for weight, bias in self._layers[:-1]:
            hidden = weight @ hidden + bias
            hidden = hidden / (1.0 + np.exp(-np.clip(hidden, -60.0, 60.0)))
        weight, bias = self._layers[-1]
        reading: Array = weight @ hidden + bias
        return reading

    def features(self, reading: Array, proprioception: Array, goal: int) -> Array:
        """(F,) float32, standardised: what the velocity network is conditioned on, see ``PolicyNetwork.features``.

        Target and destination: place and heading; the target's place again on a fine scale, for a grasp is decided near
        the tool; what lies between both; proprioception; the goal.
        """
        situation = reading[SITUATION_COLUMNS[goal]]
        target = situation[:3]
        between = situation[ENTITY_DIM : ENTITY_DIM + 3] - target
        wanted = np.zeros(len(GOALS), dtype=np.float32)
        wanted[goal] = 1.0
        found = np.concatenate([situation, np.tanh(target / FINE_SCALE), between, proprioception, wanted])
        standard: Array = ((found - self._mean) / self._std).astype(np.float32)
        return standard


def reading_from(reading: Array, proprioception: Array, hand: Array) -> Array:
    """(READING_DIM,) float32: what a reading would be of the same things with the hand elsewhere.

    Args:
        reading: (READING_DIM,) float32.
        proprioception: (P,) float32, what the hand felt at the reading.
        hand: (P,) float32, what it would feel there.
    """
    moved = np.array(reading, dtype=np.float32).reshape(len(ENTITIES), ENTITY_DIM)
    moved[:, :3] += proprioception[POSITION] - hand[POSITION]
    turned = np.angle(complex(*hand[HEADING])) - np.angle(complex(*proprioception[HEADING]))
    symmetries = np.array([YAW_SYMMETRY[name] for name in ENTITIES])
    headings = (moved[:, 3] + 1j * moved[:, 4]) * np.exp(-1j * symmetries * turned)
    moved[:, 3], moved[:, 4] = headings.real, headings.imag
    return moved.reshape(-1)


def orthogonal_frequencies(dimension: int, count: int, rng: np.random.Generator) -> Array:
    """(count, dimension) float32: frequencies of a Gaussian kernel of width 1, orthogonal within each block.

    Rows of a random rotation, each as long as a Gaussian vector would be: the kernel's estimate has a lower variance
    than with independent rows (Yu et al. 2016).
    """
    blocks = []
    for _ in range(-(-count // dimension)):
        rotation, _ = np.linalg.qr(rng.normal(size=(dimension, dimension)))
        lengths = np.linalg.norm(rng.normal(size=(dimension, dimension)), axis=1)
        blocks.append(rotation * lengths[:, None])
    return np.concatenate(blocks)[:count].astype(np.float32)
