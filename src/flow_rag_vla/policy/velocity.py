# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The velocity network: a residual MLP over the flattened chunk, modulated by time and situation.

Feature-wise modulation: Perez et al. 2018, "FiLM" (arXiv 1709.07871).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import nn


@dataclass(frozen=True, slots=True)
class VelocityConfig:
    """Shape of the network: chunk rows and columns, conditioning length, width, residual blocks."""

    horizon: int
    action_dim: int
    condition_dim: int
    width: int = 256
    blocks: int = 3
    time_features: int = 32


class TimeFeatures(nn.Module):
    """(B,) in 0..1 to (B, F) sines and cosines of geometrically spaced frequencies."""

    frequencies: torch.Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        half = features // 2
        self.register_buffer(
            "frequencies", torch.exp(torch.linspace(0.0, math.log(100.0), half)) * math.pi, persistent=False
        )

    def forward(self, time: torch.Tensor) -> torch.Tensor:
        """Features of each time."""
        angles = time[:, None] * self.frequencies[None]
        return torch.cat([angles.sin(), angles.cos()], dim=-1)


class ModulatedBlock(nn.Module):
    """Residual block whose hidden layer is scaled and shifted by the conditioning."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first = nn.Linear(width, width)
        self.second = nn.Linear(width, width)
        self.modulation = nn.Linear(width, 2 * width)
        nn.init.zeros_(self.second.weight)
        nn.init.zeros_(self.second.bias)

    def forward(self, hidden: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """(B, W) and (B, W) to (B, W)."""
        scale, shift = self.modulation(condition).chunk(2, dim=-1)
        inner = self.first(self.norm(hidden)) * (1.0 + scale) + shift
        out: torch.Tensor = hidden + self.second(nn.functional.silu(inner))
        return out


class VelocityNetwork(nn.Module):
    """v(x, t, condition) for chunks x (B, H, A)."""

    def __init__(self, config: VelocityConfig) -> None:
        super().__init__()
        self.config = config
        flat = config.horizon * config.action_dim
        self.time = TimeFeatures(config.time_features)
        self.situation = nn.Sequential(
            nn.Linear(config.condition_dim, config.width),
            nn.SiLU(),
            nn.Linear(config.width, config.width),
            nn.SiLU(),
            nn.Linear(config.width, config.width),
        )
        self.moment = nn.Linear(config.time_features, config.width)
        self.enter = nn.Linear(flat, config.width)
        self.blocks = nn.ModuleList(ModulatedBlock(config.width) for _ in range(config.blocks))
        self.leave = nn.Sequential(nn.LayerNorm(config.width), nn.Linear(config.width, flat))

    def embed(self, condition: torch.Tensor) -> torch.Tensor:
        """(B, C) to (B, W): the part that does not change along the flow."""
        embedded: torch.Tensor = self.situation(condition)
        return embedded

    def velocity(self, chunk: torch.Tensor, time: torch.Tensor, embedded: torch.Tensor) -> torch.Tensor:
        """Velocity (B, H, A) at ``chunk`` (B, H, A), ``time`` (B,), for an embedded condition (B, W)."""
        modulation = nn.functional.silu(embedded + self.moment(self.time(time)))
        hidden = self.enter(chunk.flatten(start_dim=1))
        for block in self.blocks:
            hidden = block(hidden, modulation)
        out: torch.Tensor = self.leave(hidden)
        return out.reshape(chunk.shape)

    def forward(self, chunk: torch.Tensor, time: torch.Tensor, condition: torch.Tensor) -> torch.Tensor:
        """Velocity for a raw condition (B, C)."""
        return self.velocity(chunk, time, self.embed(condition))
