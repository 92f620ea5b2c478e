# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The picture of the graph as SVG, from the declarations that the nodes themselves use.

`graph_layout` says where things stand; text, arrows and what each node hears come from `graph` and `endpoints`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from xml.sax.saxutils import escape

from flow_rag_vla.bringup.endpoints import TOPICS
from flow_rag_vla.bringup.graph import EVERY_NODE, ON_REQUEST, node_spec
from flow_rag_vla.bringup.graph_layout import (
    ARROWS,
    BESIDE,
    HEIGHT,
    KINDS,
    PERSON,
    PLACES,
    WIDTH,
    Arrow,
    Box,
    Label,
    check,
    heard_otherwise,
)

LETTER = 0.56
"""Width of a letter over the size of its type: a little more than the mean of the usual faces without serifs."""

TEXT_SIZE, SMALL_SIZE, TITLE_SIZE = 12.0, 11.0, 14.0
LINE = 15.0
"""From base line to base line, pixels."""


@dataclass(frozen=True, slots=True)
class Theme:
    """Colours as CSS takes them."""

    page: str
    text: str
    muted: str
    box: str
    border: str
    arrows: Mapping[str, str]
    """Colour of each kind of arrow."""


# The colours of GitHub's own pages in its two themes: text on them keeps the contrast that WCAG 2.1 AA asks for.
THEMES: Mapping[str, Theme] = {
    "light": Theme(
        "#ffffff", "#1f2328", "#59636e", "#f6f8fa", "#d1d9e0",
        dict(zip(KINDS, ("#59636e", "#0969da", "#8250df", "#cf222e", "#1a7f37", "#9a6700"), strict=True)),
    ),
    "dark": Theme(
        "#0d1117", "#f0f6fc", "#9198a1", "#151b23", "#3d444d",
        dict(zip(KINDS, ("#9198a1", "#4493f8", "#ab7df8", "#f85149", "#3fb950", "#d29922"), strict=True)),
    ),
}  # fmt: skip


def graph_svg(theme: str = "light") -> str:
    """The graph in simulation as an SVG document.

    Args:
        theme: one of `THEMES`.

    Raises:
        ValueError: for another theme.
        LayoutError: if the declared graph has something for which there is no place.
    """
    if theme not in THEMES:
        raise ValueError(f"theme {theme!r} is none of: {', '.join(THEMES)}")
    check(TOPICS, EVERY_NODE)
    colours = THEMES[theme]
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        "role=\"img\" font-family=\"-apple-system, 'Segoe UI', 'Noto Sans', Helvetica, Arial, sans-serif\">",
        "<title>Nodes of Flow-RAG-VLA and the topics between them</title>",
        f"<desc>{escape(_description())}</desc>",
        f'<rect width="{WIDTH}" height="{HEIGHT}" rx="8" fill="{colours.page}"/>',
        *_heading(colours),
        *(line for arrow in ARROWS for line in _arrow(arrow, colours)),
        *(line for name, box in PLACES.items() for line in _node(name, box, colours)),
        *(line for name, box in BESIDE.items() for line in _node(name, box, colours)),
        *_captions(colours),
        "</svg>",
    ]
    return "\n".join(lines) + "\n"


def wrapped(text: str, characters: int) -> list[str]:
    """The text in lines of at most so many characters, broken at spaces and after slashes where it can be."""
    lines = [""]
    for piece in re.findall(r"[^\s/]*(?:/|\s+|$)", text):
        if lines[-1] and len((lines[-1] + piece).rstrip()) > characters:
            lines.append("")
        lines[-1] += piece
    return [line.strip() for line in lines if line.strip()]


def topics_name(topics: Sequence[str]) -> str:
    """One name for several topics: with a star where they differ in one part, else with commas."""
    parts = list(zip_longest(*(name.split("/") for name in topics)))
    if len(topics) > 1 and len(parts) > 1 and sum(len(set(part)) > 1 for part in parts) == 1:
        return "/".join(part[0] if len(set(part)) == 1 else "*" for part in parts)
    return ", ".join(topics)


def _description() -> str:
    return " ".join(
        f"{topic.name}: {' and '.join(topic.publishers) or PERSON} to {', '.join(topic.subscribers)}."
        for topic in TOPICS
        if topic.subscribers
    )


def _text(at: tuple[float, float], text: str, colour: str, size: float, style: str = "") -> str:
    x, y = at
    return f'<text x="{x:g}" y="{y:g}" font-size="{size:g}" fill="{colour}"{style}>{escape(text)}</text>'


def _heading(theme: Theme) -> list[str]:
    lines = [
        _text((20, 44), "Who hears whom", theme.text, 18, ' font-weight="600"'),
        _text(
            (20, 64), "every box a process, every arrow a topic; also: heard without an arrow", theme.muted, TEXT_SIZE
        ),
    ]
    for place, (kind, meaning) in enumerate(KINDS.items()):
        x, y = 20 + 175 * (place % 2), 96 + 22 * (place // 2)
        lines.append(f'<path d="M{x} {y - 4}h26" stroke="{theme.arrows[kind]}" stroke-width="2"/>')
        lines.append(_text((x + 34, y), meaning, theme.text, TEXT_SIZE))
    return lines


def _captions(theme: Theme) -> list[str]:
    return [
        _text((next(iter(BESIDE.values())).left, 590), "beside them", theme.muted, TEXT_SIZE),
        _text((BESIDE[ON_REQUEST[0].name].left, 590), "on request", theme.muted, TEXT_SIZE),
    ]


def _arrow(arrow: Arrow, theme: Theme) -> list[str]:
    colour = theme.arrows[arrow.kind]
    ways = ["M" + "L".join(f"{x:g} {y:g}" for x, y in way) for way in arrow.ways.values()]
    # A seam of the page's colour below: where two arrows cross, one is seen to pass over the other.
    lines = [f'<path d="{"".join(ways)}" fill="none" stroke="{theme.page}" stroke-width="7"/>']
    lines.append(f'<path d="{"".join(ways)}" fill="none" stroke="{colour}" stroke-width="1.75"/>')
    lines += [_head(way[-2], way[-1], colour) for way in arrow.ways.values()]
    trunk = next(iter(arrow.ways.values()))
    branches = {way[0] for way in arrow.ways.values()} if len(trunk) > 2 else set()
    lines += [f'<circle cx="{x:g}" cy="{y:g}" r="3" fill="{colour}"/>' for x, y in sorted(branches - {trunk[0]})]
    for label in arrow.labels:
        lines += _label(label, topics_name(arrow.topics), colour)
    return lines


def _label(label: Label, name: str, colour: str) -> list[str]:
    x, y = label.at
    rows = wrapped(name, label.characters)
    style = f' text-anchor="{label.anchor}"'
    return [
        _text((x, y - (LINE - 1) * (len(rows) - 1 - place)), row, colour, TEXT_SIZE, style)
        for place, row in enumerate(rows)
    ]


def _head(before: tuple[float, float], at: tuple[float, float], colour: str) -> str:
    (x, y), (dx, dy) = at, (at[0] - before[0], at[1] - before[1])
    length = abs(dx) + abs(dy)
    ux, uy = dx / length, dy / length
    corners = [(x, y), (x - 9 * ux - 4.5 * uy, y - 9 * uy + 4.5 * ux), (x - 9 * ux + 4.5 * uy, y - 9 * uy - 4.5 * ux)]
    return f'<path d="M{"L".join(f"{a:g} {b:g}" for a, b in corners)}Z" fill="{colour}"/>'


def _node(name: str, box: Box, theme: Theme) -> list[str]:
    summary = "a person, a safety device or a program of your own" if name == PERSON else node_spec(name).summary
    heard = () if name == PERSON else heard_otherwise(name, TOPICS)
    loop = name == "controller"
    dashed = ' stroke-dasharray="4 3"' if name == PERSON or any(spec.name == name for spec in ON_REQUEST) else ""
    border = theme.arrows["plan"] if loop else theme.border
    small = name in BESIDE
    size = SMALL_SIZE if small else TEXT_SIZE
    x, y = box.left + (9 if small else 11), box.top + (20 if small else 24)
    lines = [
        f'<rect x="{box.left:g}" y="{box.top:g}" width="{box.width:g}" height="{box.height:g}" rx="6" '
        f'fill="{theme.box}" stroke="{border}" stroke-width="{2 if loop else 1.25}"{dashed}/>',
        _text((x, y), name, theme.text, TITLE_SIZE - small, ' font-weight="600"'),
    ]
    y += 3
    room = box.width - 2 * (x - box.left)
    for row in wrapped(summary, int(room / (LETTER * size))):
        y += LINE
        lines.append(_text((x, y), row, theme.text, size))
    y += 4
    for row in wrapped("also " + ", ".join(heard), int(room / (LETTER * SMALL_SIZE))) if heard else ():
        y += LINE - 1
        lines.append(_text((x, y), row, theme.muted, SMALL_SIZE))
    return lines
