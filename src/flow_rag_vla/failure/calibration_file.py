# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A calibration as one safetensors file: whole or absent, and refused where it is damaged or of another version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.goal import GOALS
from flow_rag_vla.failure.bands import Band
from flow_rag_vla.failure.calibration import REMAKE, Calibration, CalibrationError
from flow_rag_vla.failure.fusion import SCORES
from flow_rag_vla.failure.perceptron import Layer
from flow_rag_vla.failure.probe import NAME as PROBE
from flow_rag_vla.failure.probe import Probe
from flow_rag_vla.failure.scores import Bank, Distillation, FeatureSpace
from flow_rag_vla.failure.sealed import SealError, read_sealed, save_sealed
from flow_rag_vla.failure.trace import Origin

FORMAT = "1"
SHIPPED = Path(__file__).parent / "checkpoints" / "calibration.safetensors"

_NETWORK = ("target_weight", "target_out", "learner_weight", "learner_bias", "learner_out")
"""The arrays of a ``Distillation``, as they are called there and in the file."""


def save_calibration(path: str | Path, calibration: Calibration) -> str:
    """Write a calibration to one safetensors file, whole or absent; its revision."""
    space, networks = calibration.space, calibration.distillation
    tensors: dict[str, NDArray[Any]] = {
        "space.mean": space.mean,
        "space.directions": space.directions,
        "scales": calibration.scales,
        "peaks": calibration.peaks,
    }
    for name in _NETWORK:
        tensors[f"distillation.{name}"] = getattr(networks, name)
    for index, bank in calibration.banks.items():
        # Half precision is far finer than the distance between neighbours.
        tensors[f"bank.{index}.points"] = bank.points.astype(np.float16)
        tensors[f"bank.{index}.remaining"] = bank.remaining
    for task, bands in calibration.bands.items():
        for column, band in enumerate(bands):
            tensors[f"band.{task}.{column}"] = np.stack([band.mean, band.width])
    for index, layer in enumerate(() if calibration.probe is None else calibration.probe.layers):
        tensors[f"probe.{index}.weight"], tensors[f"probe.{index}.bias"] = layer.weight, layer.bias
    about = {
        "origin": asdict(calibration.origin),
        "rate": calibration.rate,
        "proprioception": space.proprioception,
        "episodes": dict(calibration.episodes),
        "failures": calibration.failures,
        "source": calibration.source,
        "goals": [goal.instruction for goal in GOALS],
        "scores": list(SCORES) + ([PROBE] if calibration.probe is not None else []),
        "layers": 0 if calibration.probe is None else len(calibration.probe.layers),
    }
    return save_sealed(path, about, tensors, FORMAT)


def load_calibration(path: str | Path | None = None) -> Calibration:
    """Read a calibration; the shipped one if no path is given.

    Raises:
        CalibrationError: for a file that is missing, damaged, of another format or of other goals, with the remedy.
    """
    place = SHIPPED if path is None else Path(path)
    try:
        about, tensors, revision = read_sealed(place, "calibration", FORMAT, REMAKE)
    except SealError as error:
        raise CalibrationError(str(error)) from None
    try:
        return _assembled(about, tensors, revision)
    except (KeyError, TypeError, ValueError) as error:
        raise CalibrationError(f"{place} is not usable ({error!r}); make it anew with `{REMAKE}`") from None
    except CalibrationError as error:
        raise CalibrationError(f"{place}: {error}") from None


def _assembled(about: dict[str, Any], tensors: Mapping[str, NDArray[Any]], revision: str) -> Calibration:
    goals = [goal.instruction for goal in GOALS]
    if about["goals"] != goals:
        raise CalibrationError(f"it knows the goals {about['goals']}, this version {goals}; make one with `{REMAKE}`")
    columns = about["scores"]
    if [name for name in columns if name != PROBE] != list(SCORES):
        raise CalibrationError(f"it holds the scores {columns}, this version {SCORES}; make one with `{REMAKE}`")
    banks: dict[int, Bank] = {}
    bands: dict[str, dict[int, Band]] = {}
    for name, values in tensors.items():
        kind, _, rest = name.partition(".")
        if kind == "bank" and rest.endswith(".points"):
            index = int(rest.partition(".")[0])
            banks[index] = Bank.of(values.astype(np.float32), tensors[f"bank.{index}.remaining"])
        elif kind == "band":
            bands.setdefault(rest.rpartition(".")[0], {})[int(rest.rpartition(".")[2])] = Band(values[0], values[1])
    layers = [
        Layer(tensors[f"probe.{index}.weight"], tensors[f"probe.{index}.bias"]) for index in range(about["layers"])
    ]
    return Calibration(
        Origin(**about["origin"]),
        float(about["rate"]),
        FeatureSpace(tensors["space.mean"], tensors["space.directions"], float(about["proprioception"])),
        banks,
        Distillation(*(tensors[f"distillation.{name}"] for name in _NETWORK)),
        Probe(layers) if layers else None,
        {task: tuple(found[column] for column in range(len(columns))) for task, found in bands.items()},
        tensors["scales"],
        tensors["peaks"],
        {str(task): int(count) for task, count in about["episodes"].items()},
        int(about["failures"]),
        str(about["source"]),
        revision,
    )
