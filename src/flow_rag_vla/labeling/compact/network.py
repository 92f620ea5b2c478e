# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The shipped network: what each pixel shows, and where the middle of its thing is.

Instances from pixel classes and votes for centres follow Panoptic-DeepLab (Cheng et al. 2020, arXiv 1911.10194),
without its heat map: the votes themselves are counted. The shape is that of a U-Net (Ronneberger et al. 2015, arXiv
1505.04597).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import nn

OFFSET_UNIT = 16.0
"""Pixels of the grid that a vote of 1 means."""


@dataclass(frozen=True, slots=True)
class CompactConfig:
    """Shape of the network.

    categories: labels in the order of the outputs
    channels: feature maps at 1/2, 1/4, 1/8 and 1/16 of the grid
    pixels: of the grid: pictures are scaled to this area, both sides multiples of 16
    fine: feature maps on the grid itself, from a picture of twice its sides, for rims and small things; 0: none
    dimension: length of an embedding
    """

    categories: tuple[str, ...]
    channels: tuple[int, int, int, int] = (16, 24, 48, 64)
    pixels: int = 320 * 240
    fine: int = 0
    dimension: int = 64

    @property
    def detail(self) -> int:
        """Pixels of the working size a pixel of the grid, along each side."""
        return 2 if self.fine else 1


class Block(nn.Module):
    """Convolutions of 3 x 3, each with batch normalisation and ReLU; the first may halve the size."""

    def __init__(self, wide: int, out: int, count: int, stride: int = 1) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for index in range(count):
            step = stride if index == 0 else 1
            layers += [
                nn.Conv2d(wide if index == 0 else out, out, 3, stride=step, padding=1, bias=False),
                nn.BatchNorm2d(out),
                nn.ReLU(inplace=True),
            ]
        self.layers = nn.Sequential(*layers)

    def forward(self, planes: torch.Tensor) -> torch.Tensor:
        """(B, wide, h, w) to (B, out, h / stride, w / stride)."""
        result: torch.Tensor = self.layers(planes)
        return result


class CompactNetwork(nn.Module):
    """(B, 3, d h, d w) float32 in 0..1 to class logits, votes and features; d is ``config.detail``; see ``forward``."""

    def __init__(self, config: CompactConfig) -> None:
        super().__init__()
        self.config = config
        half, quarter, eighth, sixteenth = config.channels
        self.stem = Block(3, half, 1, stride=2)
        self.down1 = Block(half, quarter, 2, stride=2)
        self.down2 = Block(quarter, eighth, 2, stride=2)
        self.down3 = Block(eighth, sixteenth, 3, stride=2)
        self.up2 = Block(sixteenth + eighth, eighth, 1)
        self.up1 = Block(eighth + quarter, quarter, 1)
        self.up0 = Block(quarter + half, half, 1)
        if config.fine:
            self.fine_stem = Block(3, config.fine, 1, stride=2)
            self.fine_up = nn.Sequential(nn.Conv2d(half + config.fine, half, 3, padding=1), nn.ReLU(inplace=True))
        self.classes = nn.Conv2d(half, 1 + len(config.categories), 1)
        self.votes = nn.Conv2d(half, 2, 1)
        self.embedding = nn.Linear(self.feature_width, config.dimension)

    @property
    def feature_width(self) -> int:
        """Length of what a thing's pixels are averaged to before it becomes an embedding: features, colour, spread."""
        half, quarter, eighth, _ = self.config.channels
        return half + quarter + eighth + 6

    def forward(self, planes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, tuple[torch.Tensor, ...]]:
        """Logits, votes, features on the grid (h, w), whose sides are multiples of 16.

        logits: (B, 1 + C, h, w), the first of no category; votes: (B, 2, h / 2, w / 2), how far the middle of a pixel's
        thing lies to the right and below, in units of ``OFFSET_UNIT`` pixels of the grid; features:
        (B, F, h / s, w / s) for s of 2, 4 and 8
        """
        half = self.stem(on_grid(planes, self.config) * 2.0 - 1.0)
        quarter = self.down1(half)
        eighth = self.down2(quarter)
        deep = self.down3(eighth)
        up2 = self.up2(torch.cat([_doubled(deep), eighth], dim=1))
        up1 = self.up1(torch.cat([_doubled(up2), quarter], dim=1))
        up0 = self.up0(torch.cat([_doubled(up1), half], dim=1))
        # Scaled up before the softmax: rims then run between pixels. One output for each of four pixels shows a grid.
        fine = _doubled(up0)
        if self.config.fine:
            fine = self.fine_up(torch.cat([fine, self.fine_stem(planes * 2.0 - 1.0)], dim=1))
        return self.classes(fine), self.votes(up0), (up0, up1, up2)

    @torch.no_grad()
    def refined(self, fine: int) -> CompactNetwork:
        """A network with ``fine`` more feature maps on the grid that finds what this one does, to be trained on.

        Raises:
            ValueError: it has some already.
        """
        if self.config.fine or fine < 1:
            raise ValueError(f"{self.config.fine} fine feature maps cannot become {fine}; begin with a network of none")
        network = CompactNetwork(replace(self.config, fine=fine))
        network.load_state_dict(self.state_dict(), strict=False)
        half = self.config.channels[0]
        joined = network.fine_up[0]
        assert isinstance(joined, nn.Conv2d) and joined.bias is not None
        joined.weight.zero_()
        joined.bias.zero_()
        # What comes from below is positive: it passes unchanged.
        joined.weight[range(half), range(half), 1, 1] = 1.0
        return network


def on_grid(planes: torch.Tensor, config: CompactConfig) -> torch.Tensor:
    """Pictures (..., 3, d h, d w) as the grid (..., 3, h, w) sees them."""
    return nn.functional.avg_pool2d(planes, config.detail) if config.detail > 1 else planes


def _doubled(planes: torch.Tensor) -> torch.Tensor:
    return nn.functional.interpolate(planes, scale_factor=2.0, mode="bilinear", align_corners=False)


def working_size(width: int, height: int, pixels: int, detail: int = 1) -> tuple[int, int]:
    """(width, height) that a picture is scaled to, ``detail`` times a grid of about ``pixels`` and its proportions.

    Both sides of the grid are multiples of 16 and at least 16.
    """
    scale = (pixels / (width * height)) ** 0.5
    columns, rows = max(16, round(width * scale / 16) * 16), max(16, round(height * scale / 16) * 16)
    return columns * detail, rows * detail
