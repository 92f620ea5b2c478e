# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Charts of paired trials as inline SVG, in the colours of the report's style sheet."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape

COLOURS = (
    "var(--accent)", "var(--memory)", "var(--slow)", "var(--good)", "var(--warn)", "var(--p1)", "var(--bad)",
    "var(--p4)", "var(--p2)", "var(--p3)",
)  # fmt: skip

Curve = Sequence[tuple[float, float]]
"""Points (x, y), x rising."""


def colours(variants: Sequence[str]) -> dict[str, str]:
    """A colour for each variant; grey for the baseline, which is the first."""
    rest = {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(variants[1:])}
    return {**{name: "var(--soft)" for name in variants[:1]}, **rest}


def success_chart(
    rows: Sequence[tuple[str, float, float, float, str, str]], baseline: float | None, width: int = 1000
) -> str:
    """Rates with intervals below each other. rows: name, rate, low, high, colour, words at the right."""
    left, right, line, top = 160, 350, 34, 6
    height, inner = top + line * len(rows) + 26, width - left - right
    parts = [_open(width, height, "success with 95 % intervals"), _axis(left, inner, top, height)]
    if baseline is not None:
        x = left + inner * baseline
        parts.append(f'<line class="marker" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height - 24}"/>')
    for place, (name, rate, low, high, colour, words) in enumerate(rows):
        y = top + line * place + line / 2
        x, start, end = left + inner * rate, left + inner * low, left + inner * high
        parts.append(
            f'<text class="label" x="{left - 12}" y="{y + 4:.1f}" text-anchor="end">{escape(name)}</text>'
            f'<line x1="{start:.1f}" x2="{max(end, start + 1):.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="{colour}" '
            f'stroke-width="7" stroke-linecap="round" opacity="0.35"/>'
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5.5" fill="{colour}"><title>{rate:.1%} [{low:.1%}, {high:.1%}]'
            f'</title></circle><text class="label" x="{left + inner + 18}" y="{y + 4:.1f}">{escape(words)}</text>'
        )
    return "".join(parts) + "</svg>"


def outcome_flow(rows: Sequence[tuple[str, Mapping[str, int]]], width: int = 1000) -> str:
    """For each variant where the baseline's episodes went. rows: name, counts of both, fixed, broken, neither."""
    left, right, line, top = 170, 20, 40, 4
    height, inner = top + line * len(rows), width - left - right
    kinds = (
        ("both", "var(--good)", 0.45, "done by both"),
        ("fixed", "var(--good)", 1.0, "fixed: failed without memory"),
        ("broken", "var(--bad)", 1.0, "broken: done without memory"),
        ("neither", "var(--idle)", 1.0, "failed by both"),
    )
    parts = [_open(width, height, "outcomes paired with those without memory")]
    for place, (name, counts) in enumerate(rows):
        y, x = top + line * place, float(left)
        total = sum(counts.values()) or 1
        parts.append(f'<text class="label" x="{left - 12}" y="{y + 20}" text-anchor="end">{escape(name)}</text>')
        for key, colour, opacity, words in kinds:
            wide = inner * counts[key] / total
            if not counts[key]:
                continue
            parts.append(
                f'<rect x="{x:.1f}" y="{y + 4}" width="{max(wide - 1.5, 1.5):.1f}" height="24" rx="3" fill="{colour}" '
                f'opacity="{opacity}"><title>{words}: {counts[key]}</title></rect>'
            )
            if wide > 26:
                fill = ' style="fill:var(--card)"' if opacity == 1.0 and key != "neither" else ""
                parts.append(
                    f'<text class="label" x="{x + wide / 2:.1f}" y="{y + 20}" text-anchor="middle"{fill}>'
                    f"{counts[key]}</text>"
                )
            x += wide
    return "".join(parts) + "</svg>"


def share_chart(
    lines: Sequence[tuple[str, str, Curve]], unit: str, *, stepped: bool, width: int = 480, height: int = 250
) -> str:
    """Shares from 0 to 1 over something. lines: name, colour, points; unit: of x; stepped: y holds until the next."""
    left, bottom, top, right = 42, 38, 10, 14
    inner_w, inner_h = width - left - right, height - bottom - top
    most = max((x for _, _, points in lines for x, _ in points), default=1.0)
    ticks = _ticks(most)
    limit = max(most, ticks[-1], 1e-9)
    parts = [_open(width, height, f"share over {unit}")]
    for share in (0, 0.25, 0.5, 0.75, 1.0):
        y = top + inner_h * (1 - share)
        parts.append(f'<line class="grid" x1="{left}" x2="{left + inner_w}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{share:.0%}</text>')
    for tick in ticks:
        x = left + inner_w * tick / limit
        parts.append(f'<text x="{x:.1f}" y="{height - 21}" text-anchor="middle">{tick:g}</text>')
    parts.append(f'<text x="{left + inner_w}" y="{height - 5}" text-anchor="end">{escape(unit)}</text>')
    for name, colour, points in lines:
        if not points:
            continue
        path, before = [], None
        for x_value, y_value in points:
            x, y = left + inner_w * x_value / limit, top + inner_h * (1 - y_value)
            if before is None:
                path.append(f"M{x:.1f} {y:.1f}")
            else:
                path.append(f"H{x:.1f}V{y:.1f}" if stepped else f"L{x:.1f} {y:.1f}")
            before = y
        parts.append(
            f'<path d="{"".join(path)}" fill="none" stroke="{colour}" stroke-width="2" stroke-linejoin="round">'
            f"<title>{escape(name)}</title></path>"
        )
        # A few points are seen as such; many are a curve.
        for x_value, y_value in points if len(points) <= 8 and not stepped else ():
            x, y = left + inner_w * x_value / limit, top + inner_h * (1 - y_value)
            parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}"/>')
    return "".join(parts) + "</svg>"


def grouped_bars(
    kinds: Sequence[str], rows: Sequence[tuple[str, str, Mapping[str, float]]], unit: str, width: int = 480
) -> str:
    """Amounts by kind, a bar for each row within a kind. rows: name, colour, amount by kind."""
    left, right, bar, gap, top = 118, 46, 9, 12, 4
    block = bar * len(rows) + gap
    height, inner = top + block * len(kinds) + 6, width - left - right
    most = max((amounts.get(kind, 0.0) for _, _, amounts in rows for kind in kinds), default=0.0) or 1.0
    parts = [_open(width, height, f"by kind, {unit}")]
    for place, kind in enumerate(kinds):
        y = top + block * place
        middle = y + bar * len(rows) / 2 + 4
        parts.append(
            f'<text class="label" x="{left - 10}" y="{middle:.1f}" text-anchor="end">'
            f"{escape(kind.replace('_', ' '))}</text>"
        )
        for number, (name, colour, amounts) in enumerate(rows):
            amount = amounts.get(kind, 0.0)
            wide = inner * amount / most
            parts.append(
                f'<rect x="{left}" y="{y + bar * number}" width="{max(wide, 1.0):.1f}" height="{bar - 1.5}" rx="1.5" '
                f'fill="{colour}"><title>{escape(name)}: {amount:.2f} {escape(unit)}</title></rect>'
                f'<text x="{left + wide + 5:.1f}" y="{y + bar * number + 8:.1f}" style="font-size:9px">{amount:.2f}'
                "</text>"
            )
    return "".join(parts) + "</svg>"


def _axis(left: float, inner: float, top: float, height: float) -> str:
    parts = []
    for share in (0, 0.25, 0.5, 0.75, 1.0):
        x = left + inner * share
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{height - 24}"/>')
        parts.append(f'<text x="{x:.1f}" y="{height - 8}" text-anchor="middle">{share:.0%}</text>')
    return "".join(parts)


def _ticks(most: float) -> list[float]:
    """Up to six round numbers from 0 to at most a little beyond ``most``."""
    if most < 1e-6:
        return [0.0, 1.0]
    power = 10.0 ** math.floor(math.log10(most))
    step = next(factor * power for factor in (0.2, 0.25, 0.5, 1.0, 2.0) if most / (factor * power) <= 5.0)
    return [round(step * number, 9) for number in range(math.floor(most / step + 1e-9) + 1)]


def _open(width: int, height: float, label: str) -> str:
    wide = ' class="wide"' if width > 600 else ""
    return f'<svg{wide} viewBox="0 0 {width} {height:g}" width="100%" role="img" aria-label="{escape(label)}">'
