# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Charts as inline SVG. Colours are CSS variables of the page, so that each chart is right in light and dark."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
from numpy.typing import NDArray

PHASE_COLOURS: Mapping[str, str] = {
    "idle": "var(--idle)",
    "reach": "var(--p1)",
    "grasp": "var(--p2)",
    "transport": "var(--p3)",
    "release": "var(--p4)",
}
MODE_COLOURS: Mapping[str, str] = {
    "idle": "var(--idle)",
    "follow": "var(--good)",
    "hold": "var(--warn)",
    "decelerate": "var(--slow)",
    "stop": "var(--bad)",
    "emergency stop": "var(--bad)",
    "takeover": "var(--memory)",
}


@dataclass(frozen=True, slots=True)
class Bar:
    """A coloured stretch of a lane, in seconds."""

    start: float
    end: float
    name: str
    colour: str


@dataclass(frozen=True, slots=True)
class Mark:
    """A moment on a lane, in seconds."""

    at: float
    name: str
    colour: str


def histogram(values: NDArray[np.float64], p50: float, p99: float, unit: str = "ms", width: int = 480) -> str:
    """Histogram of non-negative values with its median and 99th percentile marked; the tail is gathered in one bar."""
    height, left, bottom, top = 230, 44, 34, 24
    limit = _nice(max(float(np.percentile(values, 99.5)), p99 * 1.15, 1e-3))
    bins = 40
    counts, _ = np.histogram(np.minimum(values, limit * (1 - 1e-9)), bins=bins, range=(0.0, limit))
    over = int((values > limit).sum())
    # Roots keep the few late ticks visible beside thousands of good ones.
    heights = np.sqrt(counts) / max(1.0, float(np.sqrt(counts.max())))
    inner_w, inner_h = width - left - 12, height - bottom - top
    step = inner_w / bins
    parts = [_open(width, height, f"histogram of the tick error: median {p50:.3f}, 99th percentile {p99:.3f} {unit}")]
    peak = int(counts.max())
    for share in (0.25, 0.5, 0.75, 1.0):
        y = top + inner_h * (1 - share)
        parts.append(f'<line class="grid" x1="{left}" x2="{left + inner_w}" y1="{y:.1f}" y2="{y:.1f}"/>')
        count = _short(peak * share**2)
        parts.append(f'<text class="tick" x="{left - 6}" y="{y + 4:.1f}" text-anchor="end">{count}</text>')
    for index in range(bins):
        if counts[index]:
            tall = max(1.5, inner_h * float(heights[index]))
            parts.append(
                f'<rect x="{left + index * step + 0.5:.1f}" y="{top + inner_h - tall:.1f}" width="{step - 1:.1f}" '
                f'height="{tall:.1f}" rx="1" fill="var(--accent)"><title>{limit * index / bins:.2f} to '
                f"{limit * (index + 1) / bins:.2f} {unit}: {counts[index]}</title></rect>"
            )
    for share in (0, 0.25, 0.5, 0.75, 1.0):
        x = left + inner_w * share
        parts.append(f'<text class="tick" x="{x:.1f}" y="{height - 14}" text-anchor="middle">{limit * share:g}</text>')
    parts.append(f'<text class="tick" x="{left + inner_w}" y="{height - 1}" text-anchor="end">{unit}</text>')
    for value, name, anchor in ((p50, "p50", "start"), (p99, "p99", "start")):
        x = left + inner_w * min(1.0, value / limit)
        parts.append(f'<line class="marker" x1="{x:.1f}" x2="{x:.1f}" y1="{top - 8}" y2="{top + inner_h}"/>')
        parts.append(f'<text class="label" x="{x + 4:.1f}" y="{top - 2}" text-anchor="{anchor}">{name}</text>')
    if over:
        parts.append(f'<text class="label" x="{left + inner_w}" y="{top + 14}" text-anchor="end">{over} beyond</text>')
    return "".join(parts) + "</svg>"


def latency_chart(rows: Sequence[tuple[str, float, float]], limit_ms: float | None = None, width: int = 480) -> str:
    """One line a stage from p50 (dot) to p99 (bar end). rows: name, p50, p99 in ms; limit_ms: a target to draw."""
    left, line, top = 164, 40, 8
    height = top + line * len(rows) + 26
    right = _nice(max([p99 for _, _, p99 in rows] + [limit_ms or 0.0]) * 1.02)
    inner = width - left - 56
    parts = [_open(width, height, "latency by stage")]
    for share in (0, 0.25, 0.5, 0.75, 1.0):
        x = left + inner * share
        parts.append(f'<line class="grid" x1="{x:.1f}" x2="{x:.1f}" y1="{top}" y2="{height - 24}"/>')
        parts.append(f'<text class="tick" x="{x:.1f}" y="{height - 8}" text-anchor="middle">{right * share:g}</text>')
    parts.append(f'<text class="tick" x="{width}" y="{height - 8}" text-anchor="end">ms</text>')
    for index, (name, p50, p99) in enumerate(rows):
        y = top + line * index + line / 2
        last = index == len(rows) - 1
        start, end = left + inner * p50 / right, left + inner * p99 / right
        colour = "var(--accent)" if not last else "var(--ink)"
        weight = ' style="font-weight:600"' if last else ""
        parts.append(
            f'<text class="label" x="{left - 12}" y="{y + 4:.1f}" text-anchor="end"{weight}>{escape(name)}</text>'
            f'<line x1="{start:.1f}" x2="{end:.1f}" y1="{y:.1f}" y2="{y:.1f}" stroke="{colour}" stroke-width="4" '
            f'stroke-linecap="round" opacity="0.45"/><circle cx="{start:.1f}" cy="{y:.1f}" r="5" fill="{colour}"/>'
            f'<circle cx="{end:.1f}" cy="{y:.1f}" r="3.5" fill="var(--card)" stroke="{colour}" stroke-width="2"/>'
            f'<text class="tick" x="{end + 9:.1f}" y="{y + 4:.1f}">{p99:.0f}</text>'
        )
    if limit_ms is not None:
        x = left + inner * limit_ms / right
        parts.append(f'<line class="marker" x1="{x:.1f}" x2="{x:.1f}" y1="0" y2="{height - 24}"/>')
    return "".join(parts) + "</svg>"


def interval_bar(low: float, high: float, share: float, width: int = 150) -> str:
    """A proportion with its interval on a track from 0 to 1."""
    inner = width - 12
    x, x1, x2 = 6 + inner * share, 6 + inner * low, 6 + inner * high
    return (
        _open(width, 18, f"{share:.0%}, interval {low:.0%} to {high:.0%}", fixed=True)
        + f'<line x1="6" x2="{6 + inner}" y1="9" y2="9" stroke="var(--line)" stroke-width="2" stroke-linecap="round"/>'
        f'<line x1="{x1:.1f}" x2="{x2:.1f}" y1="9" y2="9" stroke="var(--accent)" stroke-width="6" '
        f'stroke-linecap="round" opacity="0.4"/><circle cx="{x:.1f}" cy="9" r="5" fill="var(--accent)"/></svg>'
    )


def timeline(
    duration: float, lanes: Sequence[Sequence[Bar]], marks: Sequence[Mark] = (), width: int = 360, scale: float = 0.0
) -> str:
    """Lanes of coloured stretches over time, with moments marked above. scale: seconds of the full width."""
    span = max(scale, duration, 1e-6)
    lane_height, gap, top = 8, 3, 12 if marks else 3
    height = top + len(lanes) * (lane_height + gap) + 1
    parts = [_open(width, height, f"course of {duration:.1f} s", fixed=True)]
    for index, lane in enumerate(lanes):
        y = top + index * (lane_height + gap)
        for bar in lane:
            x = width * max(0.0, bar.start) / span
            wide = max(0.8, width * (min(bar.end, span) - max(0.0, bar.start)) / span)
            parts.append(
                f'<rect x="{x:.1f}" y="{y}" width="{wide:.1f}" height="{lane_height}" rx="1.5" fill="{bar.colour}">'
                f"<title>{escape(bar.name)} {bar.start:.1f} to {bar.end:.1f} s</title></rect>"
            )
    for mark in marks:
        x = min(width - 4.0, max(4.0, width * mark.at / span))
        parts.append(
            f'<path d="M{x - 4:.1f} 1h8l-4 7z" fill="{mark.colour}"><title>{escape(mark.name)} at {mark.at:.1f} s'
            "</title></path>"
        )
    return "".join(parts) + "</svg>"


def evidence_bar(value: float, threshold: float, width: int = 190) -> str:
    """A measured value against the threshold that it crossed."""
    if not (math.isfinite(value) and math.isfinite(threshold)):
        return ""
    low, high = min(0.0, value, threshold), max(0.0, value, threshold)
    span = (high - low) * 1.12 or 1.0
    inner = width - 10

    def place(number: float) -> float:
        return 5 + inner * (number - low) / span

    zero, end, limit = place(0.0), place(value), place(threshold)
    return (
        _open(width, 16, f"{value:g} against {threshold:g}", fixed=True)
        + f'<line x1="5" x2="{5 + inner}" y1="8" y2="8" stroke="var(--line)" stroke-width="2"/>'
        f'<rect x="{min(zero, end):.1f}" y="5" width="{max(2.0, abs(end - zero)):.1f}" height="6" rx="2" '
        f'fill="var(--bad)" opacity="0.75"/>'
        f'<line x1="{limit:.1f}" x2="{limit:.1f}" y1="1" y2="15" stroke="var(--ink)" stroke-width="1.5"/></svg>'
    )


def legend(colours: Mapping[str, str]) -> str:
    """Names beside their colours."""
    items = "".join(
        f'<span><i style="background:{colour}"></i>{escape(name)}</span>' for name, colour in colours.items()
    )
    return f'<div class="legend">{items}</div>'


def _open(width: int, height: float, label: str, fixed: bool = False) -> str:
    size = f'width="{width}" height="{height:g}"' if fixed else 'width="100%"'
    return f'<svg viewBox="0 0 {width} {height:g}" {size} role="img" aria-label="{escape(label)}">'


def _nice(value: float) -> float:
    """The next of 1, 2, 2.5, 4, 5 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(value))
    return next((factor * power for factor in (1, 2, 2.5, 4, 5) if value <= factor * power), 10 * power)


def _short(value: float) -> str:
    return f"{value / 1000:.1f}k" if value >= 1000 else f"{value:.0f}"
