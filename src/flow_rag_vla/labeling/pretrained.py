# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Pretrained models of transformers: from a local folder or a hub id, with errors that say what to do."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from flow_rag_vla.labeling.pipeline.errors import ModelError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")

PRECISIONS = ("float32", "bfloat16", "float16")


def check_precision(name: str) -> None:
    """Raise ModelError for a precision that is none of ``PRECISIONS``."""
    if name not in PRECISIONS:
        raise ModelError(f"unknown precision {name!r}; known: {', '.join(PRECISIONS)}", "model_unknown")


def check_device(name: str) -> None:
    """Raise ModelError for a device that is none, or that torch cannot use here (``device_missing``)."""
    import torch

    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ModelError(f"unknown device {name!r}; give cpu, cuda, cuda:1 or mps", "device_missing") from error
    there = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not there.get(device.type, False):
        remedy = "take cpu, or a torch that is built for it: pytorch.org/get-started"
        raise ModelError(f"torch {torch.__version__} finds no device {name!r} here: {remedy}", "device_missing")


@dataclass(frozen=True, slots=True)
class PretrainedSettings:
    """Where a model is and how it runs.

    source: local folder or hub id; device: "cpu", "cuda", "cuda:1", "mps"
    precision: one of ``PRECISIONS``; batch: pictures (or crops) that go through the model at once

    Raises:
        ModelError: for an empty source, an unknown precision or a batch below one.
    """

    source: str
    device: str = "cpu"
    precision: str = "float32"
    batch: int = 4

    def __post_init__(self) -> None:
        if not self.source.strip():
            raise ModelError("no model is named; give a folder or a hub id such as facebook/dinov2-base")
        check_precision(self.precision)
        if self.batch < 1:
            raise ModelError(f"a batch of {self.batch} pictures: at least 1 is needed", "model_unknown")


def load_part(what: str, settings: PretrainedSettings, loader: Callable[[str], T]) -> T:
    """What a ``from_pretrained`` gives for the source.

    Args:
        what: for the error's text, such as "Florence-2 processor".
        settings: where it is.
        loader: takes a folder or hub id.

    Raises:
        ModelError: when it is missing or damaged, or a library that it needs is.
    """
    source = settings.source
    folder = Path(source).expanduser()
    looks_like_path = source.startswith((".", "/", "~")) or source.count("/") > 1
    if looks_like_path and not (folder / "config.json").is_file():
        state = "has no config.json" if folder.is_dir() else "does not exist"
        raise ModelError(
            f"model folder {source} {state}; save a model there (save_pretrained, or hf download ID --local-dir "
            "FOLDER), or use the backend compact"
        )
    try:
        return loader(str(folder) if folder.is_dir() else source)
    except ImportError as error:
        raise ModelError(f"the {what} of {source!r} needs a library: {_first_line(error)}", "extra_missing") from error
    except Exception as error:  # transformers raises many kinds, all of which mean the same to a user
        raise ModelError(
            f"the {what} of {source!r} does not load ({_first_line(error)}); download it once with network access "
            f"(hf download {source}), give a local folder, or use the backend compact",
            "model_damaged" if folder.is_dir() else "model_missing",
        ) from error


def load_processor(what: str, settings: PretrainedSettings) -> Any:
    """What prepares a model's input, of transformers; code of its own is not run.

    Raises:
        ModelError: as ``load_part``.
    """
    from transformers import AutoProcessor

    kind: Any = AutoProcessor
    return load_part(what, settings, lambda source: kind.from_pretrained(source, trust_remote_code=False))


def load_model(what: str, settings: PretrainedSettings, kind: Any) -> Any:
    """A model of transformers, ready to run: on its device, in its precision, without gradients.

    Raises:
        ModelError: as ``load_part``; for weights that do not fit, and for a device that is not there.
    """
    import torch

    dtype = getattr(torch, settings.precision)

    def loader(source: str) -> Any:
        # Code that comes with weights is not run, and nobody is asked whether it may be.
        model, report = kind.from_pretrained(source, dtype=dtype, output_loading_info=True, trust_remote_code=False)
        # Weights that are not in the file are random: such a model would answer, and wrongly.
        if report["missing_keys"]:
            missing = sorted(report["missing_keys"])
            raise ValueError(f"{len(missing)} weights are not in it, such as {missing[0]}: it is another model's file")
        return model

    model = load_part(what, settings, loader)
    try:
        return model.to(settings.device).eval().requires_grad_(False)
    except (RuntimeError, AssertionError) as error:
        raise ModelError(
            f"device {settings.device!r} is not usable ({_first_line(error)}); use cpu", "model_unknown"
        ) from error


def weights_revision(model: torch.nn.Module) -> str:
    """First 12 hex digits of a hash over names, shapes and samples of all weights.

    Of each weight at most 4096 numbers, evenly spread, are hashed: a billion of them would take a minute.
    """
    import torch

    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        flat = value.detach().flatten()
        step = max(1, flat.numel() // 4096)
        digest.update(f"{key}{tuple(value.shape)}".encode())
        digest.update(flat[::step].cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:12]


def _first_line(error: BaseException) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:200]
