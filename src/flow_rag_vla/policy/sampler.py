# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Draws chunks from a flow, and bends the flow: toward the chunk before, toward a correction, away from failures.

All guidance acts on the predicted end point ``x1_hat = x + (1 - t) v`` and takes the identity for the Jacobian
``d x1_hat / d x``. Real-time chunking as published (Black et al. 2025, arXiv 2506.07339) multiplies by the transposed
Jacobian, at the price of a backward pass a step; with the identity no gradient is needed and any backend can sample.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from flow_rag_vla.core.correction import EARLY
from flow_rag_vla.policy.flow import Method, Velocity, integrate

MAX_PREFIX_GAIN = 5.0
"""Limit of the real-time-chunking gain (beta of arXiv 2506.07339)."""

REPULSION_RADIUS = 0.5
"""Root-mean-square distance, in normalised units, within which a failed chunk pushes."""

REPULSION_GAIN = 2.0
NEGATIVE_CANDIDATES = 3
"""How many times more candidates are drawn when failed chunks are to be avoided."""


@dataclass(frozen=True, slots=True)
class Prefix:
    """Rows of the chunk before that the new one continues. rows: (H, A); weights: (H,) in 0..1."""

    rows: torch.Tensor
    weights: torch.Tensor


@dataclass(frozen=True, slots=True)
class Attraction:
    """A chunk to steer to. rows: (H, A); weights: (H,) in 0..1; strength: 0..1; until: share of the flow it acts in."""

    rows: torch.Tensor
    weights: torch.Tensor
    strength: float
    until: float = EARLY


@dataclass(frozen=True, slots=True)
class Repulsion:
    """Chunks to stay away from. rows: (F, H, A); strength: 0..1."""

    rows: torch.Tensor
    strength: float


@dataclass(frozen=True, slots=True)
class Draw:
    """chosen: (H, A); samples: (N, H, A) all that were drawn; spread: (H,) standard deviation over them."""

    chosen: torch.Tensor
    samples: torch.Tensor
    spread: torch.Tensor


def prefix_weights(horizon: int, delay: int, overlap: int) -> torch.Tensor:
    """(H,) float32: 1 for rows that will run before this chunk arrives, decaying over the overlap, then 0.

    Equation 5 of arXiv 2506.07339: ``c (e^c - 1) / (e - 1)`` with ``c`` falling linearly over the overlap.
    """
    weights = torch.zeros(horizon)
    overlap = max(0, min(overlap, horizon))
    delay = max(0, min(delay, overlap))
    weights[:delay] = 1.0
    for row in range(delay, overlap):
        share = (overlap - row) / (overlap - delay + 1)
        weights[row] = share * math.expm1(share) / math.expm1(1.0)
    return weights


def prefix_gain(time: float, step: float) -> float:
    """Gain of prefix guidance at ``time``, limited so that one step of length ``step`` cannot overshoot."""
    limit = min(MAX_PREFIX_GAIN, 1.0 / step)
    if time <= 0.0:
        return limit
    remaining = 1.0 - time
    if remaining <= 0.0:
        return limit
    return min(limit, (time * time + remaining * remaining) / (time * remaining))


def guided(
    velocity: Velocity,
    *,
    step: float,
    prefix: Prefix | None = None,
    attraction: Attraction | None = None,
    repulsion: Repulsion | None = None,
) -> Velocity:
    """Wrap a velocity with guidance; chunks are (N, H, A) and all of a batch share one time."""

    def bent(point: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
        slope = velocity(point, time)
        now = float(time[0])
        remaining = 1.0 - now
        if repulsion is not None and now < EARLY:
            slope = slope + _push(point + remaining * slope, repulsion)
        if attraction is not None and now < attraction.until:
            share = attraction.strength * attraction.weights[None, :, None]
            slope = (1.0 - share) * slope + share * (attraction.rows[None] - point) / remaining
        if prefix is not None:
            error = prefix.rows[None] - (point + remaining * slope)
            slope = slope + prefix_gain(now, step) * prefix.weights[None, :, None] * error
        return slope

    return bent


def draw(
    velocity: Velocity,
    shape: tuple[int, int],
    generator: torch.Generator,
    *,
    samples: int,
    steps: int,
    method: Method = "euler",
    prefix: Prefix | None = None,
    attraction: Attraction | None = None,
    repulsion: Repulsion | None = None,
    device: torch.device | None = None,
) -> Draw:
    """Draw ``samples`` chunks of ``shape`` (H, A) in one batch and choose one.

    The chosen one is the medoid: the sample nearest to all others, so a mode that is there, never a mean of two.
    With failed chunks to avoid, more candidates are drawn and the one farthest from its nearest failure is chosen.

    Raises:
        ValueError: for a count below 1.
    """
    if samples < 1:
        raise ValueError(f"samples is {samples}, expected at least 1")
    count = samples * NEGATIVE_CANDIDATES if repulsion is not None else samples
    # Noise always comes from the CPU: a seed gives the same chunk on every device.
    noise = torch.randn((count, *shape), generator=generator).to(device or torch.device("cpu"))
    bent = guided(velocity, step=1.0 / max(steps, 1), prefix=prefix, attraction=attraction, repulsion=repulsion)
    drawn = integrate(bent, noise, steps=steps, method=method)
    spread = drawn.std(dim=0, correction=0).mean(dim=-1)
    if repulsion is not None and repulsion.rows.shape[0] > 0:
        index = int(_distances(drawn, repulsion.rows).amin(dim=1).argmax())
    else:
        index = int(_distances(drawn, drawn).sum(dim=1).argmin())
    return Draw(drawn[index], drawn, spread)


def _distances(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """(N, H, A) and (M, H, A) to (N, M) root-mean-square distances."""
    difference = left[:, None] - right[None]
    return difference.pow(2).mean(dim=(2, 3)).sqrt()


def _push(ends: torch.Tensor, repulsion: Repulsion) -> torch.Tensor:
    """(N, H, A): away from each failed chunk, fading with distance as a Gaussian."""
    difference = ends[:, None] - repulsion.rows[None]
    distance = difference.pow(2).mean(dim=(2, 3), keepdim=True).sqrt()
    fade = torch.exp(-0.5 * (distance / REPULSION_RADIUS) ** 2)
    direction = difference / distance.clamp(min=1e-6)
    return repulsion.strength * REPULSION_GAIN * (fade * direction).sum(dim=1)
