# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""All that a policy checkpoint holds: the frozen readout, the features made of it, the velocity network."""

from __future__ import annotations

import torch
from torch import nn

from flow_rag_vla.core.goal import GOALS
from flow_rag_vla.policy.observation import (
    CENTRE,
    ENTITY_DIM,
    HEIGHT,
    HEIGHT_SCALE,
    POSITION,
    PROPRIOCEPTION_DIM,
    SITUATION_COLUMNS,
    SITUATION_DIM,
)
from flow_rag_vla.policy.readout import Readout, ReadoutConfig
from flow_rag_vla.policy.velocity import VelocityConfig, VelocityNetwork

FINE_SCALE = 0.03
"""Metres: near the tool places are given a second time on this scale, where a grasp is decided."""

FEATURE_STD_FLOOR = 0.03
"""A feature that hardly varies in the demonstrations must not be blown up by its own small deviation."""

_FINE_DIM = 6
CONDITION_DIM = SITUATION_DIM + _FINE_DIM + PROPRIOCEPTION_DIM + len(GOALS)


class PolicyNetwork(nn.Module):
    """Embedding, proprioception and goal to a velocity over chunks."""

    columns: torch.Tensor
    feature_mean: torch.Tensor
    feature_std: torch.Tensor

    def __init__(self, velocity: VelocityConfig, readout: ReadoutConfig) -> None:
        super().__init__()
        if velocity.condition_dim != CONDITION_DIM:
            raise ValueError(f"condition_dim is {velocity.condition_dim}, this version makes {CONDITION_DIM} features")
        self.readout = Readout(readout).requires_grad_(False)
        self.velocity = VelocityNetwork(velocity)
        self.register_buffer("columns", torch.from_numpy(SITUATION_COLUMNS), persistent=False)
        self.register_buffer("feature_mean", torch.zeros(CONDITION_DIM))
        self.register_buffer("feature_std", torch.ones(CONDITION_DIM))

    def situation(self, embedding: torch.Tensor, proprioception: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
        """What the goal needs of the reading. (B, D), (B, P), goal index (B,) int64 to (B, SITUATION_DIM)."""
        return self.needed(self.readout(embedding, proprioception), goal)

    def needed(self, reading: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
        """What the goal needs of a reading. (B, READING_DIM), goal index (B,) int64 to (B, SITUATION_DIM)."""
        columns: torch.Tensor = reading.gather(1, self.columns[goal])
        return columns

    @staticmethod
    def shifted(
        situation: torch.Tensor, proprioception: torch.Tensor, shift: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """The same observation, things and hand believed to be elsewhere.

        Args:
            situation: (B, SITUATION_DIM).
            proprioception: (B, P).
            shift: (3, 3) metres, base axes: of target, of destination and of the hand.

        Returns:
            Situation, whose places are relative to the hand, and proprioception; headings and fingers as they were.
        """
        relative = nn.functional.pad(shift[:2] - shift[2], (0, ENTITY_DIM - shift.shape[1]))
        felt = proprioception.clone()
        felt[:, POSITION] += shift[2]
        felt[:, HEIGHT] = torch.tanh((felt[:, 2] + float(CENTRE[2])) / HEIGHT_SCALE)
        return situation + relative.reshape(1, -1), felt

    def condition(self, situation: torch.Tensor, proprioception: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
        """(B, SITUATION_DIM), (B, P), (B,) int64 to standardised features (B, CONDITION_DIM)."""
        return (self.features(situation, proprioception, goal) - self.feature_mean) / self.feature_std

    def features(self, situation: torch.Tensor, proprioception: torch.Tensor, goal: torch.Tensor) -> torch.Tensor:
        """The features before they are standardised, (B, CONDITION_DIM); arguments as of ``condition``."""
        target = situation[:, :3]
        between = situation[:, ENTITY_DIM : ENTITY_DIM + 3] - target
        fine = torch.cat([torch.tanh(target / FINE_SCALE), between], dim=-1)
        one_hot = nn.functional.one_hot(goal, len(GOALS)).to(situation.dtype)
        return torch.cat([situation, fine, proprioception, one_hot], dim=-1)

    def fit_features(self, situation: torch.Tensor, proprioception: torch.Tensor, goal: torch.Tensor) -> None:
        """Set mean and deviation of the features from training data; the goal's columns stay as they are.

        Arguments as of ``condition``, B of them together.
        """
        features = self.features(situation, proprioception, goal)
        self.feature_mean.copy_(features.mean(dim=0))
        self.feature_std.copy_(features.std(dim=0).clamp(min=FEATURE_STD_FLOOR))
        self.feature_mean[-len(GOALS) :] = 0.0
        self.feature_std[-len(GOALS) :] = 1.0
