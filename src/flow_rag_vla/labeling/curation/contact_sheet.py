# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A picture of many things side by side: a row for each group, its words on the left."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image as Pillow
from PIL import ImageDraw

from flow_rag_vla.labeling.pipeline.images import Image

TILE = 96
"""Pixels a side, of each thing."""
WORDS = 132
"""Pixels of a row's words."""
_GAP = 4
_MARGIN = 0.15
_PAPER, _INK, _EMPTY = (255, 255, 255), (20, 20, 20), (225, 225, 225)


@dataclass(frozen=True, slots=True)
class SheetRow:
    """lines: words, one below the other; things: pixels (H, W, 3) uint8 of each, None where there are none."""

    lines: tuple[str, ...]
    things: Sequence[Image | None]


def surroundings(image: Image, box: Sequence[float]) -> Image:
    """What is in a box (left, top, right, bottom, pixels) with a little around it, cut off at the picture's edge."""
    left, top, right, bottom = box
    margin = _MARGIN * max(right - left, bottom - top) + 2.0
    height, width = image.shape[:2]
    rows = slice(max(0, int(top - margin)), min(height, int(bottom + margin) + 1))
    columns = slice(max(0, int(left - margin)), min(width, int(right + margin) + 1))
    return image[rows, columns]


def contact_sheet(rows: Sequence[SheetRow], columns: int) -> Pillow.Image:
    """Draw them; what has no pixels, or none inside, is a grey tile. columns: things in the widest row."""
    sheet = Pillow.new("RGB", (WORDS + columns * (TILE + _GAP) + _GAP, len(rows) * (TILE + _GAP) + _GAP), _PAPER)
    pen = ImageDraw.Draw(sheet)
    for number, row in enumerate(rows):
        top = _GAP + number * (TILE + _GAP)
        pen.multiline_text((2 * _GAP, top + _GAP), "\n".join(row.lines), fill=_INK, spacing=_GAP)
        for place, thing in enumerate(row.things[:columns]):
            left = WORDS + _GAP + place * (TILE + _GAP)
            if thing is None or 0 in thing.shape:
                pen.rectangle((left, top, left + TILE - 1, top + TILE - 1), fill=_EMPTY)
                continue
            tile = Pillow.fromarray(np.ascontiguousarray(thing))
            scale = TILE / max(tile.size)
            size = (max(1, round(tile.width * scale)), max(1, round(tile.height * scale)))
            # In the middle of its tile, so that shapes of things stay to be compared.
            corner = left + (TILE - size[0]) // 2, top + (TILE - size[1]) // 2
            sheet.paste(tile.resize(size, Pillow.Resampling.BICUBIC), corner)
    return sheet
