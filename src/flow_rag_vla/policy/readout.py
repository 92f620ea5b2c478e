# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Reads places out of an embedding: a small network, trained once, then frozen.

The wrist camera sees things from the hand, the front camera sees them from the world: the readout is given the
tool's pose too and so can join both into one place relative to the tool.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from flow_rag_vla.policy.observation import POSITION, POSITION_SCALE, PROPRIOCEPTION_DIM, READING_DIM


@dataclass(frozen=True, slots=True)
class ReadoutConfig:
    """Length of the embedding and width of the two hidden layers."""

    embedding_dim: int
    width: int = 256


class Readout(nn.Module):
    """Embedding (B, D) of unit length and proprioception (B, P) to a reading (B, READING_DIM)."""

    proprioception_scale: torch.Tensor

    def __init__(self, config: ReadoutConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.network = nn.Sequential(
            nn.Linear(config.embedding_dim + PROPRIOCEPTION_DIM, width),
            nn.SiLU(),
            nn.Linear(width, width),
            nn.SiLU(),
            nn.Linear(width, READING_DIM),
        )
        scale = torch.ones(PROPRIOCEPTION_DIM)
        scale[POSITION] = POSITION_SCALE
        self.register_buffer("proprioception_scale", scale, persistent=False)

    def forward(self, embedding: torch.Tensor, proprioception: torch.Tensor) -> torch.Tensor:
        """Metres relative to the tool, and cosines and sines."""
        # A unit vector of D numbers has entries of size 1 / sqrt(D).
        scaled = embedding * float(self.config.embedding_dim) ** 0.5
        out: torch.Tensor = self.network(torch.cat([scaled, proprioception * self.proprioception_scale], dim=-1))
        return out
