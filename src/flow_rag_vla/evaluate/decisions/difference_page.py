# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The comparison of two variants as a page, as JSON, and in a few lines of text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from flow_rag_vla.evaluate.decisions.comparison import Cause, Comparison, Stretch
from flow_rag_vla.evaluate.report.style import document

SHOWN = 20
"""Stretches in the text; the page and the JSON have all of them."""


def summary_lines(comparison: Comparison, sentences: Sequence[str] = ()) -> list[str]:
    """The comparison in words, one sentence a line."""
    one, other = comparison.names
    lines = [*sentences]
    if comparison.equal:
        return [*lines, f"{one} and {other}: every chunk, correction and command is the same, bit for bit."]
    share = len(comparison.differences) / max(1, comparison.ticks)
    lines.append(
        f"{one} and {other} part at {len(comparison.differences)} of {comparison.ticks} ticks ({share:.1%}), "
        f"{len(comparison.chunks)} chunks and {len(comparison.corrections)} corrections differ."
    )
    for stretch in comparison.stretches[:SHOWN]:
        lines.append(f"  {_where(stretch)}: {_how(stretch)}")
        lines += [f"      {cause.sentence}" for cause in stretch.causes[:3]]
    left_out = len(comparison.stretches) - SHOWN
    if left_out > 0:
        lines.append(f"  and {left_out} more stretches; see the page")
    if comparison.cases:
        found = ", ".join(f"{case} ({ticks} ticks)" for case, ticks in list(comparison.cases.items())[:8])
        lines.append(f"cases with a part in it: {found}")
    return lines


def as_json(comparison: Comparison, about: Mapping[str, Any]) -> dict[str, Any]:
    """Everything in the comparison, in plain values."""
    return {
        "format": 1,
        **about,
        "variants": list(comparison.names),
        "ticks": comparison.ticks,
        "equal": comparison.equal,
        "digests": [dict(item) for item in comparison.digests],
        "chunks_differ": [str(stamp) for stamp in comparison.chunks],
        "corrections_differ": [str(stamp) for stamp in comparison.corrections],
        "cases": {str(case): ticks for case, ticks in comparison.cases.items()},
        "stretches": [
            {
                "first_tick": item.first.tick,
                "last_tick": item.last.tick,
                "ticks": item.ticks,
                "largest_translation_m": item.translation_m,
                "largest_target_distance_m": item.target_m,
                "largest_gripper": item.gripper,
                "causes": [_cause(cause) for cause in item.causes],
            }
            for item in comparison.stretches
        ],
        "differences": [
            {
                "tick": item.tick,
                "stamp_ns": str(item.stamp_ns),
                "translation_m": item.translation_m,
                "rotation_rad": item.rotation_rad,
                "gripper": item.gripper,
                "target_distance_m": item.target_m,
                "modes": list(item.modes),
            }
            for item in comparison.differences
        ],
    }


def difference_page(comparison: Comparison, about: Mapping[str, str], notes: Sequence[str]) -> str:
    """One HTML page, nothing loaded from anywhere."""
    one, other = (escape(name) for name in comparison.names)
    rows = "".join(_row(stretch) for stretch in comparison.stretches)
    facts = "".join(f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in about.items())
    missing = "".join(f"<li>{escape(note)}</li>" for note in notes)
    table = (
        '<div class="scroll"><table><thead><tr><th>ticks</th><th class="n">time</th><th class="n">step differs</th>'
        '<th class="n">target differs</th><th class="n">gripper</th><th>modes</th><th>why</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
        if rows
        else '<p class="good">Every command is the same, bit for bit.</p>'
    )
    return document(
        " and ".join(comparison.names),
        f'<h1>One recording, two variants: {one} and {other}</h1><p class="soft">The recorded states do not answer to '
        "what a variant commands: differences show what each would have asked for in the situation that was.</p>"
        f'<div class="tiles">{_tiles(comparison)}</div>'
        + (f'<div class="card missing"><ul>{missing}</ul></div>' if missing else "")
        + f"<h2>Distance of the two targets</h2><div class='card'>{_chart(comparison)}</div>"
        f"<h2>Where they part</h2><div class='card'>{table}</div><footer><dl>{facts}</dl></footer>",
    )


def _tiles(comparison: Comparison) -> str:
    share = len(comparison.differences) / max(1, comparison.ticks)
    largest = max((item.target_m for item in comparison.differences), default=0.0)
    tiles = (
        ("ticks that differ", f"{share:.1%}", f"{len(comparison.differences)} of {comparison.ticks}"),
        ("chunks that differ", str(len(comparison.chunks)), ""),
        ("corrections that differ", str(len(comparison.corrections)), ""),
        ("largest distance", f"{largest * 1e3:.1f} mm", "between the absolute targets"),
        ("cases with a part in it", str(len(comparison.cases)), ", ".join(map(str, list(comparison.cases)[:6]))),
    )
    return "".join(
        f'<div class="tile"><div class="name">{name}</div><div class="value">{value}</div>'
        f'<div class="more">{escape(more)}</div></div>'
        for name, value, more in tiles
    )


def _chart(comparison: Comparison, width: int = 1000, height: int = 140) -> str:
    """Distance of the targets over the ticks, millimetres."""
    if not comparison.differences:
        return '<p class="soft">None.</p>'
    ticks = comparison.ticks
    first = comparison.differences[0].tick
    start = min(first, comparison.differences[-1].tick - ticks + 1)
    top = max(max(item.target_m for item in comparison.differences) * 1e3, 1e-3)
    bars = []
    for item in comparison.differences:
        x = 44 + (width - 60) * (item.tick - start) / max(1, ticks)
        tall = max(1.0, (height - 30) * item.target_m * 1e3 / top)
        colour = "var(--bad)" if item.modes[0] != item.modes[1] else "var(--accent)"
        bars.append(
            f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{height - 20:.1f}" y2="{height - 20 - tall:.1f}" stroke="{colour}" '
            f'stroke-width="1.5"><title>tick {item.tick}: {item.target_m * 1e3:.2f} mm</title></line>'
        )
    return (
        f'<svg class="wide" viewBox="0 0 {width} {height}" width="100%" role="img" '
        'aria-label="distance of the targets by tick">'
        f'<line class="grid" x1="44" x2="{width - 16}" y1="{height - 20}" y2="{height - 20}"/>'
        f'<text x="38" y="14" text-anchor="end">{top:.1f}</text>'
        f'<text x="38" y="{height - 18}" text-anchor="end">0</text>'
        f'<text x="44" y="{height - 4}">tick {start}</text>'
        f'<text x="{width - 16}" y="{height - 4}" text-anchor="end">millimetres; red: the modes differ too</text>'
        f"{''.join(bars)}</svg>"
    )


def _row(stretch: Stretch) -> str:
    causes = "<br>".join(escape(cause.sentence) for cause in stretch.causes) or "no correction had a part in it"
    modes = " / ".join(name.lower() for name in stretch.first.modes)
    return (
        f"<tr><td>{stretch.first.tick} to {stretch.last.tick}</td>"
        f'<td class="n">{stretch.ticks * 25 / 1000:.2f} s</td><td class="n">{stretch.translation_m * 1e3:.2f} mm</td>'
        f'<td class="n">{stretch.target_m * 1e3:.2f} mm</td><td class="n">{stretch.gripper:.2f}</td>'
        f"<td>{modes}</td><td>{causes}</td></tr>"
    )


def _where(stretch: Stretch) -> str:
    if stretch.first.tick == stretch.last.tick:
        return f"tick {stretch.first.tick}"
    return f"ticks {stretch.first.tick} to {stretch.last.tick} ({stretch.ticks})"


def _how(stretch: Stretch) -> str:
    text = f"steps up to {stretch.translation_m * 1e3:.2f} mm apart, targets up to {stretch.target_m * 1e3:.1f} mm"
    if stretch.gripper > 0.01:
        text += f", gripper up to {stretch.gripper:.2f}"
    if stretch.first.modes[0] != stretch.first.modes[1]:
        text += f", {stretch.first.modes[0].lower()} against {stretch.first.modes[1].lower()}"
    return text


def _cause(cause: Cause) -> dict[str, Any]:
    return {
        "variant": cause.variant,
        "correction": cause.mode.name,
        "strength": cause.strength,
        "cases": list(cause.case_ids),
        "observation_stamp_ns": str(cause.stamp_ns),
        "inherited": cause.inherited,
    }
