"""The before/after classifier: did what happened between two observations fail?

A multilayer perceptron on [before, after] as in the project's first design (2D -> 256 -> 128 -> 64 -> 1),
trained by ``flow_rag_vla.learn.train_classifier`` and evaluated here in numpy.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load_file

from flow_rag_vla.core.files import file_revision
from flow_rag_vla.core.goal import GOALS, Goal
from flow_rag_vla.core.state import GRIPPER_MAX_WIDTH

Array = NDArray[np.float32]

FORMAT = 1
SHIPPED = Path(__file__).parent / "checkpoints" / "before_after"
PROPRIOCEPTION_DIM = 5
RETRAIN = "python -m flow_rag_vla.learn.train_classifier"


class ClassifierError(RuntimeError):
    """A checkpoint or an input that the classifier cannot use; the text names it and the remedy."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What was seen and sensed at one instant.

    embedding: (D,) float32, unit length
    position: (3,) tool centre point, metres; gripper_width: metres; opening: commanded, 0 to 1
    """

    stamp_ns: int
    embedding: Array
    position: NDArray[np.float64]
    gripper_width: float
    opening: float


@dataclass(frozen=True, slots=True)
class Score:
    """The classifier's opinion on the stretch that ends at ``stamp_ns``; ``span`` in seconds."""

    stamp_ns: int
    probability: float
    threshold: float
    span: float
    revision: str


@dataclass(frozen=True, slots=True)
class ClassifierConfig:
    """What belongs to the weights.

    encoder, encoder_revision, dimension: the embeddings that it was trained on
    span: seconds between the two observations
    threshold: probability above which an event is raised; false_alarm_rate: share of held-out success episodes
        in which that happens
    """

    encoder: str
    encoder_revision: str
    dimension: int
    span: float
    threshold: float
    false_alarm_rate: float

    def to_json(self) -> dict[str, Any]:
        """What ``from_json`` reads."""
        return {"format": FORMAT, "goals": [goal.instruction for goal in GOALS]} | asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> ClassifierConfig:
        """Read the configuration.

        Raises:
            ClassifierError: for another format, a missing entry or a value out of range.
        """
        if values.get("format") != FORMAT:
            raise ClassifierError(f"format is {values.get('format')!r}, expected {FORMAT}; retrain with `{RETRAIN}`")
        goals = [goal.instruction for goal in GOALS]
        if values.get("goals") != goals:
            known = values.get("goals")
            raise ClassifierError(f"it knows the goals {known}, this version {goals}; retrain with `{RETRAIN}`")
        try:
            config = cls(
                str(values["encoder"]),
                str(values["encoder_revision"]),
                int(values["dimension"]),
                float(values["span"]),
                float(values["threshold"]),
                float(values["false_alarm_rate"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ClassifierError(f"config.json is not usable ({error!r}); retrain with `{RETRAIN}`") from None
        if config.dimension < 1 or not config.span > 0.0 or not 0.0 < config.threshold <= 1.0:
            raise ClassifierError(f"config.json holds a value out of range: {config}; retrain with `{RETRAIN}`")
        return config


def pair_features(before: Observation, after: Observation, goal: Goal | None) -> Array:
    """Input of the classifier: (2 D + 10 + number of goals,) float32.

    Both embeddings scaled to unit variance an entry, proprioception of both, and the goal as one of ``GOALS``
    (all zero if it is not known).
    """
    scale = math.sqrt(before.embedding.shape[0])
    which = np.zeros(len(GOALS), dtype=np.float32)
    if goal is not None:
        which[goal.index] = 1.0
    parts = [before.embedding * scale, after.embedding * scale, _proprioception(before), _proprioception(after), which]
    return np.concatenate(parts).astype(np.float32)


def feature_size(dimension: int) -> int:
    """Length of ``pair_features`` for embeddings of a dimension."""
    return 2 * dimension + 2 * PROPRIOCEPTION_DIM + len(GOALS)


def _proprioception(observation: Observation) -> Array:
    x, y, z = (float(value) for value in observation.position)
    width = observation.gripper_width / GRIPPER_MAX_WIDTH
    # Centred on the workspace and scaled so that each entry spans about one.
    values = ((x - 0.5) * 4.0, y * 4.0, (z - 0.2) * 4.0, width * 2.0 - 1.0, 1.0 if observation.opening >= 0.5 else -1.0)
    return np.array(values, dtype=np.float32)


class FailureClassifier:
    """A trained before/after classifier."""

    def __init__(self, config: ClassifierConfig, layers: list[tuple[Array, Array]], revision: str) -> None:
        """Make one of layers (weight (out, in), bias (out,)), ReLU between them.

        Raises:
            ClassifierError: if sizes do not fit each other or a weight is not finite.
        """
        size = feature_size(config.dimension)
        for index, (weight, bias) in enumerate(layers):
            if weight.ndim != 2 or weight.shape[1] != size or bias.shape != (weight.shape[0],):
                raise ClassifierError(
                    f"layer {index} has weight {weight.shape} and bias {bias.shape} for {size} inputs; "
                    f"the file belongs to other code or another encoder: retrain with `{RETRAIN}`"
                )
            if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
                raise ClassifierError(f"layer {index} holds a weight that is not finite; retrain with `{RETRAIN}`")
            size = weight.shape[0]
        if size != 1:
            raise ClassifierError(f"the last layer has {size} outputs, expected 1; retrain with `{RETRAIN}`")
        self.config = config
        self.revision = revision
        self._layers = [(np.ascontiguousarray(weight.T), bias) for weight, bias in layers]

    @classmethod
    def load(cls, folder: str | Path | None = None) -> FailureClassifier:
        """Read ``weights.safetensors`` and ``config.json``; the shipped ones if no folder is given.

        Raises:
            ClassifierError: if a file is missing or cannot be used, naming it and the remedy.
        """
        place = SHIPPED if folder is None else Path(folder)
        weights_file, config_file = place / "weights.safetensors", place / "config.json"
        for path in (config_file, weights_file):
            if not path.is_file():
                raise ClassifierError(f"{path} is missing; name a folder that holds it, or train one with `{RETRAIN}`")
        try:
            tensors = load_file(weights_file)
        except (SafetensorError, OSError, ValueError) as error:
            raise ClassifierError(f"{weights_file} cannot be read ({error}); retrain with `{RETRAIN}`") from None
        try:
            values = json.loads(config_file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ClassifierError(f"{config_file} cannot be read ({error}); retrain with `{RETRAIN}`") from None
        if not isinstance(values, dict):
            raise ClassifierError(f"{config_file} holds no object; retrain with `{RETRAIN}`")
        count = sum(name.startswith("weight") for name in tensors)
        try:
            layers = [(tensors[f"weight{index}"], tensors[f"bias{index}"]) for index in range(count)]
            return cls(ClassifierConfig.from_json(values), layers, file_revision(config_file, weights_file))
        except KeyError as error:
            raise ClassifierError(f"{weights_file} lacks {error}; retrain with `{RETRAIN}`") from None
        except ClassifierError as error:
            raise ClassifierError(f"{place}: {error}") from None

    def check(self, encoder: str, revision: str, dimension: int) -> None:
        """Refuse embeddings of another encoder.

        Raises:
            ClassifierError: naming both encoders and the remedy.
        """
        config = self.config
        if (encoder, revision, dimension) == (config.encoder, config.encoder_revision, config.dimension):
            return
        raise ClassifierError(
            f"the failure classifier was trained on encoder {config.encoder!r} revision {config.encoder_revision} "
            f"with {config.dimension} numbers, but embeddings come from {encoder!r} revision {revision} with "
            f"{dimension}; use that encoder, or retrain with `{RETRAIN}`"
        )

    def probability(self, before: Observation, after: Observation, goal: Goal | None) -> float:
        """Chance, 0 to 1, that a failure happened between two observations ``config.span`` apart."""
        return float(self.probabilities(pair_features(before, after, goal)[None, :])[0])

    def probabilities(self, features: Array) -> Array:
        """Chances (N,) float32 for rows of ``pair_features`` (N, F) float32."""
        values = features
        for index, (weight, bias) in enumerate(self._layers):
            values = values @ weight + bias
            if index + 1 < len(self._layers):
                values = np.maximum(values, 0.0)
        logits = np.clip(values[:, 0], -60.0, 60.0)
        return np.asarray(1.0 / (1.0 + np.exp(-logits)), dtype=np.float32)
