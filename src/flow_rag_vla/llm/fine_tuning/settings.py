# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""How an adapter is trained."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class TrainingSettings:
    """LoRA (Hu et al. 2021) and its training; the defaults are meant for a model of some 2 billion weights in 8 GB.

    Attributes:
        rank, alpha, dropout: of the adapter; its change is scaled by ``alpha / rank``.
        epochs: times that every conversation is seen.
        batch: conversations at once; accumulate: batches a step.
        rate: peak learning rate, reached after ``warm_up`` of all steps, then falling to 0 as a half cosine.
        longest: tokens of a conversation; what is longer is left out and counted.
        quantized: QLoRA: the base model with 4 bits a weight. Needs CUDA and bitsandbytes.
        gradient_checkpointing: what a layer computed is not kept for the way back but computed again: less memory, more
            time, the same weights. ``quantized`` always does.
        save_every: steps between checkpoints.
        device: auto, cpu or cuda.
    """

    rank: int = 16
    alpha: int = 32
    dropout: float = 0.05
    epochs: int = 3
    batch: int = 4
    accumulate: int = 4
    rate: float = 2e-4
    warm_up: float = 0.03
    longest: int = 2048
    quantized: bool = False
    save_every: int = 50
    seed: int = 0
    device: str = "auto"
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        for name in ("rank", "alpha", "epochs", "batch", "accumulate", "longest", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, expected at least 1")
        for name in ("dropout", "warm_up"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}, expected from 0, below 1")
        if not 0.0 < self.rate < 1.0:
            raise ValueError(f"rate is {self.rate}, expected above 0, below 1")
        if self.device not in ("auto", "cpu", "cuda"):
            raise ValueError(f"device is {self.device!r}, expected auto, cpu or cuda")
