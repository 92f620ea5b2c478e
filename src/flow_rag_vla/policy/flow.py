# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Conditional flow matching on a straight path, and the integration of the learned velocity.

Lipman et al. 2023, "Flow matching for generative modeling" (arXiv 2210.02747), with the linear (optimal transport)
path: ``x_t = (1 - t) x_0 + t x_1`` from noise ``x_0`` to data ``x_1``, whose velocity is ``x_1 - x_0``.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch

Velocity = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""(x (B, ...), t (B,)) to dx/dt of x's shape."""

Method = Literal["euler", "heun"]
METHODS: tuple[Method, ...] = ("euler", "heun")


def path_point(noise: torch.Tensor, data: torch.Tensor, time: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Point and velocity of the straight path at ``time`` (B,) in 0..1; both of the shape of ``data`` (B, ...)."""
    t = time.reshape(-1, *([1] * (data.ndim - 1)))
    return (1.0 - t) * noise + t * data, data - noise


def flow_matching_loss(
    velocity: Velocity,
    data: torch.Tensor,
    generator: torch.Generator,
    *,
    weights: torch.Tensor | None = None,
) -> torch.Tensor:
    """Mean squared error of the velocity at random points of the path.

    Args:
        velocity: the network with its conditioning bound.
        data: (B, ...) normalised targets.
        generator: source of noise and times.
        weights: broadcastable to ``data``; 0 leaves an element out.
    """
    noise = torch.randn(data.shape, generator=generator, device=data.device)
    time = torch.rand(data.shape[0], generator=generator, device=data.device)
    point, wanted = path_point(noise, data, time)
    error = (velocity(point, time) - wanted) ** 2
    if weights is None:
        return error.mean()
    spread = weights.expand_as(error)
    return (error * spread).sum() / spread.sum().clamp(min=1.0)


def integrate(velocity: Velocity, noise: torch.Tensor, *, steps: int, method: Method = "euler") -> torch.Tensor:
    """Follow the velocity from ``noise`` (B, ...) at t=0 to t=1.

    Euler costs one evaluation a step. Heun (second order) costs two, but for the last step, which is Euler's.

    Raises:
        ValueError: for a step count below 1 or an unknown method.
    """
    if steps < 1:
        raise ValueError(f"steps is {steps}, expected at least 1")
    if method not in METHODS:
        raise ValueError(f"method is {method!r}, expected one of {', '.join(METHODS)}")
    point, dt = noise, 1.0 / steps
    for index in range(steps):
        time = torch.full((noise.shape[0],), index * dt, device=noise.device, dtype=noise.dtype)
        slope = velocity(point, time)
        # Heun's second evaluation at t=1 would sit where the guidance gain and the training data both end.
        if method == "heun" and index + 1 < steps:
            slope = 0.5 * (slope + velocity(point + dt * slope, time + dt))
        point = point + dt * slope
    return point
