# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Where a training stands, on disk: weights, their mean, the optimizer's moments and the step; no pickle.

A checkpoint is written beside the last one, synced, and then pointed to: whenever the process ends, one is whole.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from flow_rag_vla.core.files import write_text
from flow_rag_vla.labeling.pipeline.errors import SourceError

POINTER = "training.json"
MOMENTS = ("exp_avg", "exp_avg_sq")
_STEPS = "step"
_FORMAT = "flow_rag_vla.detector_training/1"


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a training stands.

    step: steps done; rows: what was told of it so far, see ``tracking``
    tried: step of the last try; best: highest mAP of one, -1 before the first; bad_tries: tries since that
    run: what must be equal to go on
    finished: nothing is left to do
    """

    step: int
    rows: tuple[Mapping[str, float], ...]
    tried: int
    best: float
    bad_tries: int
    run: Mapping[str, Any]
    finished: bool = False


def save(
    folder: Path,
    network: torch.nn.Module,
    mean: Mapping[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
    standing: Standing,
) -> None:
    """Write a checkpoint and remove the one before."""
    name = f"step-{standing.step:07d}"
    target = folder / name
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    weights = dict(network.named_parameters())
    tensors: dict[str, torch.Tensor] = {f"weight/{key}": value for key, value in weights.items()}
    # What a network makes from its configuration (places of anchors) is not saved; running means of norms are.
    tensors |= {f"buffer/{key}": value for key, value in saved_buffers(network).items()}
    tensors |= {f"mean/{key}": value for key, value in mean.items()}
    for key, weight in weights.items():
        state = optimizer.state.get(weight, {})
        # Each counts its own steps: the words for noisy things are not used by a batch without things.
        tensors |= {f"{moment}/{key}": state[moment] for moment in (*MOMENTS, _STEPS) if moment in state}
    path = target / "state.safetensors"
    save_file({key: value.detach().cpu().contiguous().clone() for key, value in tensors.items()}, path)
    with path.open("rb") as stream:
        os.fsync(stream.fileno())
    content = {
        "format": _FORMAT,
        "checkpoint": name,
        "step": standing.step,
        "tried": standing.tried,
        "best": standing.best,
        "bad_tries": standing.bad_tries,
        "finished": standing.finished,
        "run": dict(standing.run),
        "rows": [dict(row) for row in standing.rows],
    }
    write_text(folder / POINTER, json.dumps(content, indent=1, allow_nan=False) + "\n")
    for old in folder.glob("step-*"):
        if old.name != name:
            shutil.rmtree(old, ignore_errors=True)


def read(folder: Path) -> Standing | None:
    """Where the training in a folder stands; None if none was begun.

    Raises:
        SourceError: for a file that is none.
    """
    path = folder / POINTER
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        if content["format"] != _FORMAT:
            raise ValueError(f"its format is {content['format']!r}")
        return Standing(
            int(content["step"]),
            tuple({str(key): float(value) for key, value in row.items()} for row in content["rows"]),
            int(content["tried"]),
            float(content["best"]),
            int(content["bad_tries"]),
            dict(content["run"]),
            bool(content["finished"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SourceError(
            f"{path} is no record of a training ({error}): remove the folder to begin anew", "source_corrupt"
        ) from error


def restore(
    folder: Path,
    network: torch.nn.Module,
    mean: Mapping[str, torch.Tensor],
    optimizer: torch.optim.Optimizer,
    standing: Standing,
) -> None:
    """Put a checkpoint into a network, its mean and its optimizer.

    Raises:
        SourceError: when it cannot be read or does not fit.
    """
    path = folder / f"step-{standing.step:07d}" / "state.safetensors"
    try:
        tensors = load_file(path)
    except (OSError, ValueError, SafetensorError) as error:
        raise SourceError(
            f"{path} cannot be read ({error}): remove the folder to begin anew", "source_corrupt"
        ) from error

    def put(key: str, into: torch.Tensor) -> None:
        if key not in tensors or tensors[key].shape != into.shape:
            raise SourceError(
                f"{path} has no {key} of {tuple(into.shape)}: it is of another network, remove the folder",
                "source_corrupt",
            )
        into.copy_(tensors[key].to(into.device))

    with torch.no_grad():
        for key, weight in network.named_parameters():
            put(f"weight/{key}", weight)
            moments = {moment: tensors[name] for moment in MOMENTS if (name := f"{moment}/{key}") in tensors}
            if moments:
                moved = {moment: value.to(weight.device) for moment, value in moments.items()}
                optimizer.state[weight] = {_STEPS: tensors[f"{_STEPS}/{key}"], **moved}
        for key, buffer in saved_buffers(network).items():
            put(f"buffer/{key}", buffer)
        for key, value in mean.items():
            put(f"mean/{key}", value)


def saved_buffers(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Buffers that belong to what was learned."""
    kept = network.state_dict(keep_vars=True)
    return {key: value for key, value in network.named_buffers() if key in kept}
