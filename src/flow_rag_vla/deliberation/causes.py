# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What failures depend on, from logs to a decomposition, and that as a page."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import numpy as np

from flow_rag_vla.deliberation.history import EpisodeFact
from flow_rag_vla.deliberation.surd import Decomposition, Part, decompose
from flow_rag_vla.deliberation.variables import States, Table, chosen, episode_table, most_telling, states_of
from flow_rag_vla.evaluate.intervals import Proportion, wilson
from flow_rag_vla.evaluate.report.style import STYLE

CAVEAT = (
    "This is what came together in these episodes, not proof of cause: nobody set these variables one at a time, and "
    "what both they and the failures depend on is not seen."
)

_COLOURS = {"redundant": "var(--accent)", "unique": "var(--memory)", "synergistic": "var(--warn)"}


@dataclass(frozen=True, slots=True)
class Cell:
    """Episodes in one joint state of the variables, and how many of them failed."""

    states: tuple[str, ...]
    failures: Proportion


@dataclass(frozen=True, slots=True)
class Causes:
    """A decomposition and what it was made of.

    episodes, failures: of the log; starts: different ones among the episodes that the decomposition is of
    cells: joint states with episodes, those that failed most first
    selected: whether the variables were chosen, on the other half of the starts
    """

    decomposition: Decomposition
    cells: tuple[Cell, ...]
    episodes: int
    failures: int
    starts: int
    selected: bool

    @property
    def measured(self) -> int:
        """Episodes that the decomposition is of."""
        return self.decomposition.episodes

    @property
    def says_something(self) -> bool:
        """Whether the variables together say more than chance does."""
        return self.decomposition.information > self.decomposition.bound


def find_causes(
    facts: Sequence[EpisodeFact],
    variables: Sequence[str] = (),
    *,
    bins: int = 2,
    permutations: int = 200,
    seed: int = 0,
) -> Causes:
    """What the failures of these episodes depend on.

    Args:
        facts: episodes.
        variables: at most four names; none: three are chosen on every other start, and measured on the rest.
        bins: states of a number.
        permutations: shuffles for the bound.
        seed: of the shuffles.

    Raises:
        TooFewError: below enough episodes.
        VariableError: for a variable that the episodes lack.
        ValueError: for numbers that make no sense.
    """
    table = episode_table(facts)
    measured: Table = table
    names = tuple(variables)
    if not names:
        first, measured = table.halves()
        names = most_telling(first, bins, seed=seed)
    states = {name: states_of(values, bins) for name, values in chosen(measured, names).items()}
    labels = {name: one.labels for name, one in states.items()}
    found = decompose(labels, measured.failed, permutations=permutations, seed=seed, starts=measured.starts)
    cells = _cells(states, measured)
    starts = len(set(measured.starts.tolist()))
    return Causes(found, cells, table.episodes, int(table.failed.sum()), starts, not variables)


def ranked(found: Decomposition) -> tuple[Part, ...]:
    """The parts, the largest first; those of nothing are left out."""
    return tuple(sorted((part for part in found.parts if part.bits > 5e-5), key=lambda part: -part.bits))


def summary(causes: Causes) -> str:
    """What was found, in words."""
    found = causes.decomposition
    names = ", ".join(found.sources)
    if not causes.says_something:
        return (
            f"{names} say nothing about the failures that chance does not: {found.information:.4f} bit, chance reaches "
            f"{found.bound:.4f}."
        )
    strong = [part for part in ranked(found) if part.found][:3]
    share = 1.0 - found.leak
    told = "; ".join(f"{part} {part.bits:.4f} bit" for part in strong) or "no single part stands out from chance"
    return f"{names} say {share:.1%} of what there is to know about the failures, chiefly: {told}."


def causes_page(causes: Causes, title: str) -> str:
    """The page; nothing is loaded from anywhere."""
    found = causes.decomposition
    tiles = (
        _tile("episodes", str(causes.measured), _measured(causes)),
        _tile("failures", str(causes.failures), f"of {causes.episodes} in the log"),
        _tile("told", f"{1.0 - found.leak:.1%}", f"{found.information:.4f} of {found.entropy:.4f} bit"),
        _tile("chance", f"{found.bound:.4f} bit", "reached by 5 % of shuffled logs"),
    )
    legend = "".join(f'<span><i style="background:{colour}"></i>{kind}</span>' for kind, colour in _COLOURS.items())
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>What failures depend on</title><style>{STYLE}</style></head><body><main>"
        f"<h1>What failures depend on</h1><p class='soft'>{escape(title)}</p>"
        f"<div class='tiles'>{''.join(tiles)}</div><p style='margin:20px 0'>{escape(summary(causes))}</p>"
        f"<section class='card'><h3>Information about failing</h3><div class='legend'>{legend}"
        f"<span>dashed: what chance reaches</span></div>{_bars(ranked(found))}</section>"
        f"<h2>Failures by state</h2><section class='card scroll'>{_table(found.sources, causes.cells)}</section>"
        f"<p class='note'>{CAVEAT}</p></main></body></html>"
    )


def _cells(states: dict[str, States], table: Table) -> tuple[Cell, ...]:
    cells = []
    for combination in itertools.product(*(range(len(one.names)) for one in states.values())):
        inside = np.ones(table.episodes, dtype=bool)
        for label, one in zip(combination, states.values(), strict=True):
            inside &= one.labels == label
        if inside.any():
            names = tuple(one.names[label] for label, one in zip(combination, states.values(), strict=True))
            cells.append(Cell(names, wilson(int(table.failed[inside].sum()), int(inside.sum()))))
    return tuple(sorted(cells, key=lambda cell: -cell.failures.rate))


def _measured(causes: Causes) -> str:
    return f"of {causes.starts} starts" + ("; the variables were chosen on the others" if causes.selected else "")


def _tile(name: str, value: str, more: str) -> str:
    return (
        f"<div class='tile'><div class='name'>{escape(name)}</div><div class='value'>{escape(value)}</div>"
        f"<div class='more'>{escape(more)}</div></div>"
    )


def _bars(parts: Sequence[Part], width: int = 1000) -> str:
    if not parts:
        return "<p>Nothing at all.</p>"
    left, right, line, top = 330, 130, 26, 4
    height, inner = top + line * len(parts) + 6, width - left - right
    most = max(max(part.bits, part.bound) for part in parts)
    drawn = [
        f'<svg class="wide" viewBox="0 0 {width} {height}" width="100%" role="img" '
        'aria-label="information by part, bits">'
    ]
    for place, part in enumerate(parts):
        y = top + line * place
        wide, bound = inner * part.bits / most, left + inner * part.bound / most
        drawn.append(
            f'<text class="label" x="{left - 12}" y="{y + 17}" text-anchor="end">{escape(" + ".join(part.sources))}'
            f'</text><rect x="{left}" y="{y + 5}" width="{max(wide, 1.0):.1f}" height="16" rx="3" '
            f'fill="{_COLOURS[part.kind]}" opacity="{1.0 if part.found else 0.3}"><title>{escape(str(part))}</title>'
            f'</rect><line class="marker" x1="{bound:.1f}" x2="{bound:.1f}" y1="{y + 1}" y2="{y + 25}"/>'
            f'<text class="label" x="{left + max(wide, inner * part.bound / most) + 10:.1f}" y="{y + 17}">'
            f"{part.bits:.4f} bit</text>"
        )
    return "".join(drawn) + "</svg>"


def _table(names: Sequence[str], cells: Sequence[Cell]) -> str:
    head = (
        "".join(f"<th>{escape(name)}</th>" for name in names) + "<th class='n'>episodes</th><th class='n'>failed</th>"
    )
    rows = "".join(
        "<tr>"
        + "".join(f"<td>{escape(state)}</td>" for state in cell.states)
        + f"<td class='n'>{cell.failures.trials}</td><td class='n'>{100 * cell.failures.rate:.1f} % "
        f"[{100 * cell.failures.low:.1f}, {100 * cell.failures.high:.1f}]</td></tr>"
        for cell in cells
    )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
