# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The loop: it goes on from exactly where it stopped.

Everything random is drawn anew from the seed and the place (the order of an epoch, the augmentation of a picture in it,
the noise of a step), so a training that was interrupted gives the same weights as one that was not, on one machine
with the same threads.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from flow_rag_vla.labeling.detectors.detr import USUAL_THRESHOLD, DetectorSide, DetrDetector
from flow_rag_vla.labeling.evaluation.evaluate import Evaluation, evaluate_detector
from flow_rag_vla.labeling.evaluation.pictures import TruePicture, digest_of
from flow_rag_vla.labeling.pipeline.errors import SettingError, SourceError
from flow_rag_vla.labeling.pretrained import PretrainedSettings
from flow_rag_vla.labeling.training import checkpoint
from flow_rag_vla.labeling.training.batches import Example, augmented, batch_of
from flow_rag_vla.labeling.training.checkpoint import Standing
from flow_rag_vla.labeling.training.model_folder import MODEL, card_text, recovered, save_model, thresholds_of
from flow_rag_vla.labeling.training.networks import make_network
from flow_rag_vla.labeling.training.settings import DetectorTraining
from flow_rag_vla.labeling.training.tracking import Tracker
from flow_rag_vla.learn.progress import Progress, silent

TOLD_EVERY = 10
"""Steps between rows of the loss, its mean over them."""
LAST_RATE = 0.02
"""Of the peak rate, at the end."""
_LOSSES = ("loss_vfl", "loss_bbox", "loss_giou")


@dataclass(frozen=True, slots=True)
class TrainingData:
    """What is learned from, and what is tried on.

    name: for people; categories: in the order of the network's outputs
    """

    name: str
    categories: tuple[str, ...]
    train: Sequence[TruePicture]
    val: Sequence[TruePicture]

    def __post_init__(self) -> None:
        for part, pictures in (("train", self.train), ("val", self.val)):
            things = sum(label in self.categories for picture in pictures for label in picture.truth.labels)
            if not things:
                raise SourceError(
                    f"part {part!r} of {self.name} has {len(pictures)} pictures with {things} things of the "
                    f"{len(self.categories)} categories: nothing can be learned or tried, add labelled pictures",
                    "source_empty",
                )

    @property
    def digest(self) -> str:
        """Whether two are the same."""
        return f"{digest_of(self.train)}/{digest_of(self.val)}"


@dataclass(frozen=True, slots=True)
class Trained:
    """What a training gave.

    folder: of the training; model: of the detector, None before the first try
    steps, total: done and at most; best: mAP of the model on the validation pictures
    finished: nothing is left to do; early: it ended because tries brought nothing better
    """

    folder: Path
    model: Path | None
    steps: int
    total: int
    best: float
    finished: bool
    early: bool
    rows: tuple[Mapping[str, float], ...]


def train_detector(
    data: TrainingData,
    folder: Path,
    settings: DetectorTraining,
    *,
    tell: Sequence[Tracker] = (),
    command: str = "flow_rag_vla detector train",
    progress: Progress = silent,
    stop: Callable[[], bool] = lambda: False,
) -> Trained:
    """Train, going on where ``folder`` stands.

    Args:
        data: what to learn.
        folder: of the training: checkpoints, and the detector in ``model``.
        settings: how; the same again to go on.
        tell: who is told of losses and tries.
        command: how it was asked for, for the model card.
        progress: told of the steps.
        stop: looked at after each step; True saves a checkpoint and returns.

    Raises:
        SourceError: for data without things, or a folder with another training.
        SettingError: for a device that is not there, or a loss that is no number.
        ModelError: for a model that cannot be gone on from, or a library that is missing.
        ImageError: for a picture that cannot be read.
    """
    loop = _Loop(data, folder, settings, tell, command, progress, stop)
    return loop.run()


def steps_of(pictures: int, settings: DetectorTraining) -> int:
    """Steps of an epoch; its last one may be a part."""
    return -(-pictures // settings.batch)


def rate_at(step: int, total: int, settings: DetectorTraining) -> float:
    """Learning rate of a step from 0: a linear warm-up, then a half cosine to ``LAST_RATE`` of the peak."""
    warm_up = int(settings.warm_up * total)
    if step < warm_up:
        return settings.rate * (step + 1) / (warm_up + 1)
    falling = 0.5 * (1.0 + math.cos(math.pi * (step - warm_up) / max(1, total - warm_up)))
    return settings.rate * (LAST_RATE + (1.0 - LAST_RATE) * falling)


def device_of(settings: DetectorTraining) -> str:
    """Where it is computed.

    Raises:
        SettingError: for cuda without a GPU.
    """
    if settings.device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise SettingError("device is 'cuda' and there is no GPU that torch can use: take cpu or auto")
    return settings.device


class _Loop:
    """A training under way."""

    def __init__(
        self, data: TrainingData, folder: Path, settings: DetectorTraining, tell: Sequence[Tracker], command: str,
        progress: Progress, stop: Callable[[], bool],
    ) -> None:  # fmt: skip
        self._data, self._folder, self._settings = data, folder, settings
        self._tell, self._command, self._progress, self._stop = tell, command, progress, stop
        self._device = device_of(settings)
        if settings.threads:
            torch.set_num_threads(settings.threads)
        run = {"data": data.digest, "categories": list(data.categories), "settings": settings.decisive()}
        standing = checkpoint.read(folder)
        if standing is not None and dict(standing.run) != run:
            changed = ", ".join(_changed(standing.run, run))
            raise SourceError(
                f"{folder} holds a training with another {changed}: go on with the same, or train in another folder",
                "source_corrupt",
            )
        self._resumed = standing is not None
        recovered(folder)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(settings.seed)
            network, self._pretrained = make_network(settings, data.categories)
        self._network: Any = network.to(self._device)
        self._averaged: Any = self._network if not settings.average else copy.deepcopy(self._network)
        self._averaged.requires_grad_(False) if settings.average else None
        self._mean = _floats(self._averaged) if settings.average else {}
        self._optimizer = torch.optim.AdamW(_groups(self._network, settings, self._pretrained), lr=settings.rate)
        self._peaks = [float(group["lr"]) for group in self._optimizer.param_groups]
        self._epoch_steps = steps_of(len(data.train), settings)
        self._total = settings.epochs * self._epoch_steps
        self._standing = standing or Standing(0, (), 0, -1.0, 0, run)
        if standing is not None:
            checkpoint.restore(folder, self._network, self._mean, self._optimizer, standing)
        self._numbers = {name: row for row, name in enumerate(data.categories)}
        self._losses: list[dict[str, float]] = []

    def run(self) -> Trained:
        """Until it is done, or somebody stops it."""
        self._folder.mkdir(parents=True, exist_ok=True)
        about = asdict(self._settings) | {"data": self._data.name, "categories": ", ".join(self._data.categories)}
        for tracker in self._tell:
            tracker.begin(about, self._standing.rows)
        while not self._standing.finished:
            step = self._standing.step
            if self._is_try(step) and self._standing.tried < step:
                try:
                    self._try()
                except InterruptedError:
                    self._save()
                    break
            elif step >= self._total or self._tired:
                self._standing = replace(self._standing, finished=True)
                self._save()
            elif self._stop():
                self._save()
                break
            else:
                self._step(step)
                if self._standing.step % self._settings.save_every == 0:
                    self._save()
        state = self._standing
        model = self._folder / MODEL
        return Trained(
            self._folder, model if model.is_dir() else None, state.step, self._total, max(0.0, state.best),
            state.finished, state.finished and state.step < self._total, state.rows,
        )  # fmt: skip

    @property
    def _tired(self) -> bool:
        return 0 < self._settings.patience <= self._standing.bad_tries

    def _is_try(self, step: int) -> bool:
        epoch, rest = divmod(step, self._epoch_steps)
        return step > 0 and rest == 0 and (epoch % self._settings.every == 0 or step == self._total)

    def _step(self, step: int) -> None:
        settings = self._settings
        rate = rate_at(step, self._total, settings)
        for group, peak in zip(self._optimizer.param_groups, self._peaks, strict=True):
            group["lr"] = rate * peak / settings.rate
        pixels, targets = batch_of(self._examples(step), settings.width, settings.height, self._device)
        torch.manual_seed(settings.seed * 1_000_003 + step + 1)
        self._network.train()
        self._optimizer.zero_grad(set_to_none=True)
        made = self._network(pixel_values=pixels, labels=targets)
        loss = float(made.loss.detach())
        if not math.isfinite(loss):
            raise SettingError(f"the loss is {loss} at step {step + 1}: lower the rate ({settings.rate:g})")
        made.loss.backward()
        torch.nn.utils.clip_grad_norm_(self._network.parameters(), settings.clip)
        self._optimizer.step()
        self._average(step)
        parts = {name: float(made.loss_dict[name].detach()) for name in _LOSSES if name in made.loss_dict}
        self._losses.append({"loss": loss, **parts})
        self._standing = replace(self._standing, step=step + 1)
        if (step + 1) % TOLD_EVERY == 0 or step + 1 == self._total:
            means = {name: float(np.mean([row[name] for row in self._losses])) for name in self._losses[0]}
            self._losses.clear()
            self._say({"step": step + 1, "epoch": self._epoch, **means, "rate": rate})
        best = f", best mAP {self._standing.best:.3f}" if self._standing.best >= 0.0 else ""
        self._progress(step + 1, self._total, f"loss {loss:.3f}{best}")

    def _try(self) -> None:
        """Measure the mean weights on the validation pictures; keep them if they are the best so far."""
        settings, labels = self._settings, self._data.categories
        self._averaged.eval()
        usual = DetectorSide(labels, (USUAL_THRESHOLD,) * len(labels), settings.width, settings.height)
        running = PretrainedSettings(MODEL, self._device, batch=settings.batch)
        detector = DetrDetector(self._averaged, usual, running)
        scores = evaluate_detector(
            detector, self._data.val, data=f"{self._data.name}, val", categories=labels, batch=settings.batch,
            stop=self._stop,
        )  # fmt: skip
        boxes = scores.boxes
        better = boxes.ap > self._standing.best
        if better:
            side = replace(usual, thresholds=thresholds_of(scores, labels))
            save_model(self._folder, self._averaged, side, self._about(scores), self._card(scores, side))
        self._say(
            {
                "step": self._standing.step, "epoch": self._epoch, "val_ap": boxes.ap, "val_ap50": boxes.ap50,
                "val_ap75": boxes.ap75,
            }
        )  # fmt: skip
        self._standing = replace(
            self._standing,
            tried=self._standing.step,
            best=max(boxes.ap, self._standing.best),
            bad_tries=0 if better else self._standing.bad_tries + 1,
        )
        self._save()

    def _examples(self, step: int) -> list[Example]:
        """The pictures of a step: a fresh order each epoch, each disturbed by its own random numbers."""
        settings = self._settings
        epoch, part = divmod(step, self._epoch_steps)
        order = np.random.default_rng([settings.seed, 1, epoch]).permutation(len(self._data.train))
        examples = []
        for place in order[part * settings.batch : (part + 1) * settings.batch]:
            example = self._example(self._data.train[int(place)])
            if settings.augment:
                example = augmented(example, np.random.default_rng([settings.seed, 2, epoch, int(place)]))
            examples.append(example)
        return examples

    def _example(self, picture: TruePicture) -> Example:
        rows = [row for row, label in enumerate(picture.truth.labels) if label in self._numbers]
        labels = [self._numbers[picture.truth.labels[row]] for row in rows]
        return Example(picture.load(), picture.truth.boxes[rows], np.asarray(labels, np.int64))

    @torch.no_grad()
    def _average(self, step: int) -> None:
        if not self._mean:
            return
        # The first weights are of chance: the mean forgets them sooner.
        past = min(self._settings.average, (1.0 + step) / (10.0 + step))
        present = _floats(self._network)
        for name, value in self._mean.items():
            value.lerp_(present[name], 1.0 - past)

    @property
    def _epoch(self) -> float:
        return round(self._standing.step / self._epoch_steps, 3)

    def _say(self, row: dict[str, float]) -> None:
        self._standing = replace(self._standing, rows=(*self._standing.rows, row))
        for tracker in self._tell:
            tracker.row(row)

    def _save(self) -> None:
        checkpoint.save(self._folder, self._network, self._mean, self._optimizer, self._standing)

    def _about(self, scores: Evaluation) -> dict[str, Any]:
        return {
            "made_by": {
                "data": self._data.name, "digest": self._data.digest, "settings": asdict(self._settings),
                "step": self._standing.step, "val_ap": scores.boxes.ap, "val_ap50": scores.boxes.ap50,
            }
        }  # fmt: skip

    def _card(self, scores: Evaluation, side: DetectorSide) -> str:
        settings = self._settings
        fresh = f"nothing ({settings.architecture}, {settings.size})" if not settings.model else settings.model
        return card_text(
            scores,
            side,
            {
                "architecture": type(self._network).__name__.removesuffix("ForObjectDetection"),
                "parameters": sum(weight.numel() for weight in self._network.parameters()),
                "folder": self._folder / MODEL, "command": self._command, "train": len(self._data.train),
                "val": len(self._data.val), "data": self._data.name, "digest": self._data.digest, "start": fresh,
                "seed": settings.seed, "step": self._standing.step, "epoch": self._epoch, "epochs": settings.epochs,
            },
        )  # fmt: skip


def _floats(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Weights and learned buffers that a mean can be taken of, by name; they share the network's memory."""
    named = {name: weight.detach() for name, weight in network.named_parameters()}
    named |= checkpoint.saved_buffers(network)
    return {name: value for name, value in named.items() if value.is_floating_point()}


def _groups(network: torch.nn.Module, settings: DetectorTraining, pretrained: bool) -> list[dict[str, Any]]:
    """Weights by how fast they learn and whether they decay."""
    groups: dict[tuple[bool, bool], list[torch.nn.Parameter]] = {}
    for name, weight in network.named_parameters():
        if weight.requires_grad:
            groups.setdefault((pretrained and "backbone" in name, weight.ndim > 1), []).append(weight)
    return [
        {
            "params": weights,
            "lr": settings.rate * (settings.backbone_rate if slow else 1.0),
            "weight_decay": settings.weight_decay if decays else 0.0,
        }
        for (slow, decays), weights in sorted(groups.items(), key=lambda item: item[0])
    ]


def _changed(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs, in words."""
    names = [name for name in ("data", "categories") if before.get(name) != now[name]]
    old = before.get("settings")
    settings = old if isinstance(old, dict) else {}
    return names + [name for name, value in now["settings"].items() if settings.get(name) != value]
