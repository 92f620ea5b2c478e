# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What the pixels of a thing have in common: the part of an embedding that comes before its linear layer."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn


def pooled_features(planes: torch.Tensor, features: Sequence[torch.Tensor], masks: torch.Tensor) -> torch.Tensor:
    """Means over each mask of the feature maps and of the colour, and the colour's deviation.

    Args:
        planes: (3, h, w) float32 in 0..1.
        features: maps (F, h / s, w / s) of one picture.
        masks: (N, h, w) bool or float32 0..1; an empty one counts as the whole picture.

    Returns:
        (N, sum of F + 6) float32.
    """
    shares = masks.float()
    shares = torch.where(shares.sum(dim=(1, 2), keepdim=True) > 0, shares, torch.ones_like(shares))
    parts = []
    for maps in features:
        # Averaging the mask down keeps a share of thin things that picking single pixels would lose.
        small = nn.functional.adaptive_avg_pool2d(shares[None], (maps.shape[1], maps.shape[2]))[0].flatten(1)
        parts.append(small @ maps.flatten(1).T / small.sum(dim=1, keepdim=True).clamp(min=1e-6))
    flat = shares.flatten(1)
    weight = flat.sum(dim=1, keepdim=True).clamp(min=1e-6)
    colour = flat @ planes.flatten(1).T / weight
    square = flat @ planes.flatten(1).pow(2).T / weight
    parts += [colour, (square - colour.pow(2)).clamp(min=0.0).sqrt()]
    return torch.cat(parts, dim=1)
