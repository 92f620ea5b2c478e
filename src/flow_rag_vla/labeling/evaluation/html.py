# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Parts of a self-contained page: the look of the run report, tiles, tables and curves as SVG."""

from __future__ import annotations

import base64
import io
import math
from collections.abc import Mapping, Sequence
from html import escape

from flow_rag_vla.evaluate.report.style import STYLE
from flow_rag_vla.labeling.pipeline.images import Image

Line = Sequence[tuple[float, float]]
"""Points x, y, in order of x."""

_MORE_STYLE = """
.matrix td, .matrix th { text-align: center; padding: 5px 8px; font-size: 12.5px; border: 0; }
.matrix th { color: var(--soft); } .matrix tbody th { text-align: right; }
.matrix td { border-radius: 4px; }
.shots { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: 14px; }
.shots figure { padding: 10px; } .shots figcaption { font-size: 12.5px; margin-top: 6px; overflow-wrap: anywhere; }
.shots svg { width: 100%; display: block; border-radius: 6px; } .shots svg text { fill: #fff; }
.curve { width: 100%; }
"""


def document(title: str, subtitle: str, parts: Sequence[str]) -> str:
    """The whole page."""
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width, initial-scale=1'>"
        f"<title>{escape(title)}</title><style>{STYLE}{_MORE_STYLE}</style></head><body><main>"
        f"<header><h1>{escape(title)}</h1><div class='soft'>{escape(subtitle)}</div></header>"
        f"{''.join(parts)}</main></body></html>\n"
    )


def tiles(entries: Sequence[tuple[str, str, str]]) -> str:
    """Large figures in a row. entries: name, value, a few words more."""
    inner = "".join(
        f"<div class='tile'><div class='name'>{escape(name)}</div><div class='value'>{escape(value)}</div>"
        f"<div class='more'>{escape(more)}</div></div>"
        for name, value, more in entries
    )
    return f"<section class='tiles'>{inner}</section>"


def table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A card with a table; all columns but the first are numbers."""
    head = "".join(f"<th{' class=n' if place else ''}>{escape(name)}</th>" for place, name in enumerate(heads))
    body = "".join(
        "<tr>" + "".join(f"<td{' class=n' if place else ''}>{cell}</td>" for place, cell in enumerate(row)) + "</tr>"
        for row in rows
    )
    return f"<div class='card scroll'><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table></div>"


def line_chart(
    name: str,
    lines: Mapping[str, Line],
    *,
    x: str,
    y: str,
    top: float | None = None,
    right: float | None = None,
    marks: Mapping[str, tuple[float, float]] | None = None,
) -> str:
    """A card with one line a name.

    Args:
        name: title of the card.
        lines: by name; empty ones are left out.
        x: what goes to the right.
        y: what goes up.
        top: greatest y, default: what the lines need.
        right: greatest x, likewise.
        marks: by name of a line: a point on it that is worth a dot.
    """
    # A value that is no number ends a line in SVG; the rest of it is worth seeing.
    finite = {key: [point for point in line if all(map(math.isfinite, point))] for key, line in lines.items()}
    shown = {key: line for key, line in finite.items() if line}
    points = [point for line in shown.values() for point in line]
    high_x = right or nice(max([px for px, _ in points], default=1.0))
    high_y = top or nice(max([py for _, py in points], default=1.0))
    width, height, left, bottom, above, inset = 480, 280, 62, 40, 12, 14
    inner_w, inner_h = width - left - inset, height - bottom - above

    def place(px: float, py: float) -> tuple[float, float]:
        return left + inner_w * min(1.0, px / high_x), above + inner_h * (1.0 - min(1.0, py / high_y))

    parts = [f"<svg class='curve' viewBox='0 0 {width} {height}' role='img' aria-label='{escape(name)}'>"]
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        px, py = place(high_x * share, high_y * share)
        parts.append(f"<line class='grid' x1='{left}' x2='{left + inner_w}' y1='{py:.1f}' y2='{py:.1f}'/>")
        parts.append(f"<text x='{left - 7}' y='{py + 4:.1f}' text-anchor='end'>{high_y * share:g}</text>")
        parts.append(f"<text x='{px:.1f}' y='{height - 22}' text-anchor='middle'>{high_x * share:g}</text>")
    parts.append(f"<text x='{left + inner_w}' y='{height - 5}' text-anchor='end'>{escape(x)}</text>")
    parts.append(f"<text x='{left}' y='{height - 5}'>↑ {escape(y)}</text>")
    tints = colours(tuple(shown))
    for key, line in shown.items():
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in (place(*point) for point in line))
        parts.append(
            f"<polyline points='{path}' fill='none' stroke='{tints[key]}' stroke-width='2' stroke-linejoin='round'>"
            f"<title>{escape(key)}</title></polyline>"
        )
        if len(line) == 1 or (marks and key in marks):
            px, py = place(*(marks[key] if marks and key in marks else line[0]))
            parts.append(f"<circle cx='{px:.1f}' cy='{py:.1f}' r='4' fill='{tints[key]}'/>")
    legend = "".join(f"<span><i style='background:{tints[key]}'></i>{escape(key)}</span>" for key in shown)
    return (
        f"<div class='card'><h3 style='margin-bottom:8px'>{escape(name)}</h3><div class='legend'>{legend}</div>"
        f"{''.join(parts)}</svg></div>"
    )


def matrix(names: Sequence[str], counts: Sequence[Sequence[int]], last_row: str, last_column: str) -> str:
    """A card with a confusion matrix: shaded by share of its row, the diagonal in another colour."""
    heads = "".join(f"<th>{escape(name)}</th>" for name in (*names, last_column))
    body = []
    for row, (name, line) in enumerate(zip((*names, last_row), counts, strict=True)):
        total = max(1, sum(line))
        cells = []
        for column, count in enumerate(line):
            right = row == column and row < len(names)
            tint = "var(--good)" if right else "var(--bad)"
            share = round(12 + 58 * count / total) if count else 0
            shade = f" style='background:color-mix(in srgb, {tint} {share}%, transparent)'" if count else ""
            corner = row == column == len(names)
            cells.append(f"<td{shade}>{'' if corner else count or '<span class=soft>·</span>'}</td>")
        body.append(f"<tr><th>{escape(name)}</th>{''.join(cells)}</tr>")
    return (
        f"<div class='card scroll matrix'><table><thead><tr><th></th>{heads}</tr></thead>"
        f"<tbody>{''.join(body)}</tbody></table></div>"
    )


def picture(image: Image, boxes: Sequence[tuple[Sequence[float], str, str, bool]], label: str, most: int = 480) -> str:
    """A picture with boxes over it.

    Args:
        image: (H, W, 3) uint8.
        boxes: left, top, right, bottom in pixels; words; CSS colour; whether it is dashed.
        label: what it shows, for who does not see it.
        most: width of the picture in the page, pixels; a larger one is made smaller.
    """
    from PIL import Image as Pillow

    height, width = image.shape[:2]
    scale = min(1.0, most / width)
    shown = Pillow.fromarray(image).resize((max(1, round(width * scale)), max(1, round(height * scale))))
    data = io.BytesIO()
    shown.save(data, "JPEG", quality=85)
    text = base64.b64encode(data.getvalue()).decode("ascii")
    unit = width / 300
    parts = [
        f"<svg viewBox='0 0 {width} {height}' role='img' aria-label='{escape(label)}'>"
        f"<image href='data:image/jpeg;base64,{text}' width='{width}' height='{height}'/>"
    ]
    for (left, top, right, bottom), words, tint, dashed in boxes:
        dash = f" stroke-dasharray='{4 * unit:.1f} {3 * unit:.1f}'" if dashed else ""
        parts.append(
            f"<rect x='{left:.1f}' y='{top:.1f}' width='{right - left:.1f}' height='{bottom - top:.1f}' fill='none' "
            f"stroke='{tint}' stroke-width='{1.6 * unit:.2f}'{dash}/>"
        )
        # Words that would leave the picture on the right begin further left; a letter is about half as wide as high.
        start = max(0.0, min(left, width - 0.53 * 8.5 * unit * len(words)))
        above = top > 11 * unit
        place = top - 2.5 * unit if above else bottom + 9 * unit
        parts.append(
            f"<text x='{start:.1f}' y='{place:.1f}' style='font-size:{8.5 * unit:.1f}px;paint-order:stroke;"
            f"stroke:#000;stroke-width:{2 * unit:.1f}px'>{escape(words)}</text>"
        )
    return "".join(parts) + "</svg>"


def colours(names: Sequence[str]) -> dict[str, str]:
    """CSS colours of some lines: hues a golden angle apart, so that neighbours differ."""
    return {name: f"hsl({(200 + 137.5 * place) % 360:.0f} 62% 46%)" for place, name in enumerate(names)}


def nice(value: float) -> float:
    """The next of 1, 2, 2.5, 4, 5 times a power of ten."""
    if not value > 0.0:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next((factor * power for factor in (1, 2, 2.5, 4, 5) if value <= factor * power), 10 * power)
