# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What is planned, drawn into a picture: for viewers that show an image and nothing over it."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

PLAN, COMMITTED, CORRECTION = (110, 162, 245), (69, 185, 138), (169, 139, 240)
"""RGB, those of RViz and Foxglove."""

_HALO = (255, 255, 255)
_FAR = 10.0
"""Shares of the picture beyond which a point is left out: one right beside the camera is anywhere."""


def with_plan(pixels: NDArray[np.uint8], lines: Mapping[str, NDArray[np.float64]]) -> NDArray[np.uint8]:
    """A copy of an (H, W, 3) RGB picture with lines over it.

    Args:
        pixels: stays as it is.
        lines: ``path``, ``committed`` and ``correction``, (N, 2) each, and ``target`` (2,), in shares of width and
            height, as ``Board.drawn`` gives them; what is not there is not drawn, nor is what is NaN.
    """
    from PIL import Image, ImageDraw

    picture = Image.fromarray(np.ascontiguousarray(pixels))
    pen = ImageDraw.Draw(picture)
    height, width = pixels.shape[:2]
    thick = max(1, round(min(height, width) / 120))
    for name, colour, extra in (("correction", CORRECTION, 0), ("path", PLAN, 0), ("committed", COMMITTED, thick)):
        for points in _pieces(lines.get(name), width, height):
            pen.line(points, fill=_HALO, width=thick + extra + 2, joint="curve")
            pen.line(points, fill=colour, width=thick + extra, joint="curve")
    for ((x, y),) in _pieces(lines.get("target"), width, height, least=1):
        radius = 2 * thick + 1
        pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=_HALO, outline=PLAN, width=thick)
    return np.asarray(picture, np.uint8)


def _pieces(
    shares: NDArray[np.float64] | None, width: int, height: int, least: int = 2
) -> list[list[tuple[float, float]]]:
    """The parts of a line that are in sight, in pixels, each of at least so many points."""
    if shares is None:
        return []
    pieces: list[list[tuple[float, float]]] = [[]]
    for u, v in np.atleast_2d(shares).tolist():
        if abs(u) < _FAR and abs(v) < _FAR:
            pieces[-1].append((u * width, v * height))
        elif pieces[-1]:
            pieces.append([])
    return [piece for piece in pieces if len(piece) >= least]
