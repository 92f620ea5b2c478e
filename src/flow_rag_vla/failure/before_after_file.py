# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A before/after classifier as one safetensors file: whole or absent, and refused where it is damaged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.failure.bands import Band
from flow_rag_vla.failure.before_after import REMAKE, BeforeAfter, BeforeAfterNetwork
from flow_rag_vla.failure.calibration import CalibrationError
from flow_rag_vla.failure.perceptron import Layer
from flow_rag_vla.failure.sealed import SealError, read_sealed, save_sealed
from flow_rag_vla.failure.trace import Origin

FORMAT = "before_after 1"
SHIPPED = Path(__file__).parent / "checkpoints" / "before_after.safetensors"


def save_before_after(path: str | Path, classifier: BeforeAfter) -> str:
    """Write a classifier to one safetensors file, whole or absent; its revision."""
    tensors: dict[str, NDArray[Any]] = {"peaks": classifier.peaks}
    for index, layer in enumerate(classifier.network.layers):
        tensors[f"layer.{index}.weight"], tensors[f"layer.{index}.bias"] = layer.weight, layer.bias
    for key, (band,) in classifier.bands.items():
        tensors[f"band.{key}"] = np.stack([band.mean, band.width])
    about = {
        "origin": asdict(classifier.origin),
        "calibration": classifier.calibration,
        "scale": classifier.scale,
        "successes": classifier.successes,
        "failures": classifier.failures,
        "source": classifier.source,
        "layers": len(classifier.network.layers),
    }
    return save_sealed(path, about, tensors, FORMAT)


def load_before_after(path: str | Path | None = None) -> BeforeAfter:
    """Read a classifier; the shipped one if no path is given.

    Raises:
        CalibrationError: for a file that is missing, damaged, of another format or with weights that cannot be, with
            the remedy.
    """
    place = SHIPPED if path is None else Path(path)
    try:
        about, tensors, revision = read_sealed(place, "before/after classifier", FORMAT, REMAKE)
        return _assembled(about, tensors, revision)
    except SealError as error:
        raise CalibrationError(str(error)) from None
    except (KeyError, TypeError, ValueError) as error:
        raise CalibrationError(f"{place} is not usable ({error!r}); make it anew with `{REMAKE}`") from None


def _assembled(about: dict[str, Any], tensors: Mapping[str, NDArray[Any]], revision: str) -> BeforeAfter:
    layers = [
        Layer(tensors[f"layer.{index}.weight"], tensors[f"layer.{index}.bias"]) for index in range(about["layers"])
    ]
    bands = {name.partition(".")[2]: (Band(*values),) for name, values in tensors.items() if name.startswith("band.")}
    for name, values in tensors.items():
        if not np.isfinite(values).all():
            raise ValueError(f"{name} holds a number that is not finite")
    return BeforeAfter(
        BeforeAfterNetwork(layers),
        Origin(**about["origin"]),
        str(about["calibration"]),
        bands,
        float(about["scale"]),
        tensors["peaks"],
        int(about["successes"]),
        int(about["failures"]),
        str(about["source"]),
        revision,
    )
