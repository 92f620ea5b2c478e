# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Where training stands, on disk: the adapter, the optimizer's moments and the step. Tensors in safetensors files."""

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
from flow_rag_vla.llm.errors import BadRequestError

POINTER = "training.json"
MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True, slots=True)
class Progress:
    """Where a training stands. ``losses``: mean of each step, nats a token; ``run``: what must be equal to go on."""

    step: int
    losses: tuple[float, ...]
    run: Mapping[str, Any]


def save(folder: Path, model: Any, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
    """Write a checkpoint beside the last one, point to it, then remove the last one: a crash leaves a whole one."""
    name = f"step-{progress.step:06d}"
    target = folder / name
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    trained = {name: weight for name, weight in model.named_parameters() if weight.requires_grad}
    tensors = {name: weight.detach().cpu().contiguous() for name, weight in trained.items()}
    for name_, weight in trained.items():
        state = optimizer.state.get(weight, {})
        for moment in MOMENTS:
            if moment in state:
                tensors[f"{moment}/{name_}"] = state[moment].detach().cpu().contiguous()
    save_file(tensors, target / "state.safetensors")
    with (target / "state.safetensors").open("rb") as stream:
        os.fsync(stream.fileno())
    content = {"checkpoint": name, "step": progress.step, "losses": list(progress.losses), "run": dict(progress.run)}
    write_text(folder / POINTER, json.dumps(content, indent=1, allow_nan=False) + "\n")
    for old in folder.glob("step-*"):
        if old.name != name:
            shutil.rmtree(old, ignore_errors=True)


def read(folder: Path) -> Progress | None:
    """Where the training in a folder stands; None if none was begun.

    Raises:
        BadRequestError: for a file that is none.
    """
    path = folder / POINTER
    if not path.exists():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        return Progress(int(content["step"]), tuple(map(float, content["losses"])), dict(content["run"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadRequestError(f"{path} is no record of a training: {error}; remove the folder to begin anew") from error


def restore(folder: Path, model: Any, optimizer: torch.optim.Optimizer, progress: Progress) -> None:
    """Put a checkpoint's weights and moments into a model with a fresh adapter.

    Raises:
        BadRequestError: when they do not fit.
    """
    path = folder / f"step-{progress.step:06d}" / "state.safetensors"
    try:
        tensors = load_file(path)
    except (OSError, ValueError, SafetensorError) as error:
        raise BadRequestError(f"{path} cannot be read: {error}; remove the folder to begin anew") from error
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if not weight.requires_grad:
                continue
            if name not in tensors or tensors[name].shape != weight.shape:
                raise BadRequestError(f"{path} has no {name} of {tuple(weight.shape)}; it is of another model")
            weight.copy_(tensors[name].to(weight.device))
            found = {moment: tensors.get(f"{moment}/{name}") for moment in MOMENTS}
            if progress.step and all(value is not None for value in found.values()):
                optimizer.state[weight] = {
                    "step": torch.tensor(float(progress.step)),
                    **{moment: value.to(weight.device) for moment, value in found.items() if value is not None},
                }
