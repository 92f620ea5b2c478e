# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What each process of a graph holds over time, and by how much it grew once it was warm; the page of both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.evaluate.report.style import document

Array = NDArray[np.float64]
Content = Mapping[str, Any]

MEASURES = {
    "rss_mb": ("resident memory", "MB"),
    "threads": ("threads", ""),
    "descriptors": ("open descriptors", ""),
    "cpu": ("processor", "% of a core"),
}
"""Field of a sample: its name and unit."""

WARM_UP = 0.25
"""Share of the run that does not count: caches fill, pools grow to their size."""

LEAST_WARM_UP_S = 90.0
"""What does not count at least: the failure memory keeps the last minute of everything (its parameter history), and
until that is full it grows by nothing but time."""

LEAST_MEASURED_S = 90.0
"""Time behind the warm-up below which no growth is told: two samples of a few seconds say nothing about hours."""

_ENDS = 0.2
"""Share of what is left that its beginning and its end are each taken from."""

_WINDOW_S = 10.0
"""Time over which memory is taken together to tell what came at once from what came case by case."""

_AT_ONCE_MB = 4.0
"""What comes within a window and is more than cases make: at five a second it would be 80 kB each. The first compressed
index of a group leaves the working buffers of the libraries behind, once."""

WIDTH, HEIGHT = 300, 90


def warm_up(seconds: float) -> float:
    """Seconds of a run that do not count."""
    return max(WARM_UP * seconds, LEAST_WARM_UP_S)


def growth(at_s: Sequence[float], values: Sequence[float], seconds: float) -> float | None:
    """Growth in percent from the median of the first fifth to that of the last fifth, the warm-up left out.

    Medians, so that one sample taken at a bad moment says nothing. None where too little is left behind the warm-up:
    less than ``LEAST_MEASURED_S``, or fewer than five samples.

    Args:
        at_s: (N,) seconds since the start, of each value.
        values: (N,).
        seconds: of the whole run.
    """
    kept = np.asarray(values, dtype=np.float64)[np.asarray(at_s, dtype=np.float64) >= warm_up(seconds)]
    count = max(1, int(_ENDS * len(kept)))
    if seconds < warm_up(seconds) + LEAST_MEASURED_S or len(kept) < 5:
        return None
    before, after = float(np.median(kept[:count])), float(np.median(kept[-count:]))
    return 100.0 * (after - before) / max(abs(before), 1e-9)


@dataclass(frozen=True, slots=True)
class CaseGrowth:
    """What the failure memory grew by behind the warm-up.

    cases: learned meanwhile; a_case_kb: growth for each, what came at once left out, kB of 10^3; once_mb: what came at
    once, MB of 10^6
    """

    cases: int
    a_case_kb: float
    once_mb: float


def case_growth(content: Content) -> CaseGrowth | None:
    """The failure memory's growth for each case; None where too little is left behind the warm-up.

    Medians of windows are compared, so that one odd sample says nothing. A window that holds much more than the one
    before is no growth by cases; it is counted by itself.
    """
    seconds, samples = content["seconds"], content["nodes"].get("failure_memory")
    cases = np.asarray(content.get("cases", ()), dtype=np.float64)
    warm_s = warm_up(seconds)
    if samples is None or not len(cases) or seconds < warm_s + LEAST_MEASURED_S:
        return None
    at_s, held = np.asarray(samples["at_s"]), np.asarray(samples["rss_mb"])
    # Cases are written down once a turn, evenly over the run.
    known = np.interp(at_s, np.linspace(0.0, seconds, len(cases)), cases)
    window = ((at_s - warm_s) // _WINDOW_S).astype(int)
    numbers = [number for number in np.unique(window) if number >= 0]
    middles = np.array([np.median(held[window == number]) for number in numbers])
    learned = np.array([np.median(known[window == number]) for number in numbers])
    steps = np.diff(middles)
    count = int(learned[-1] - learned[0]) if len(learned) > 1 else 0
    if count < 1:
        return None
    at_once = steps > _AT_ONCE_MB
    return CaseGrowth(count, 1e3 * float(steps[~at_once].sum()) / count, float(steps[at_once].sum()))


def rows(content: Content) -> list[dict[str, Any]]:
    """One row a node: the last value and the growth of each measure, in percent; None of what was too short."""
    found = []
    for node, samples in sorted(content["nodes"].items()):
        row: dict[str, Any] = {"node": node, "samples": len(samples["rss_mb"])}
        for measure in MEASURES:
            values = samples[measure]
            row[measure] = values[-1] if values else 0.0
            row[f"{measure}_growth"] = growth(samples["at_s"], values, content["seconds"])
        found.append(row)
    return found


def summary(content: Content) -> list[str]:
    """The run in a few lines, for a terminal."""
    seconds = content["seconds"]
    warm_s = warm_up(seconds)
    told = f"growth behind the warm-up ({warm_s:.0f} s) to the end:"
    if seconds < warm_s + LEAST_MEASURED_S:
        told = f"no growth is told: that takes {warm_s + LEAST_MEASURED_S:.0f} s, of which {warm_s:.0f} s are warm-up"
    lines = [f"{seconds / 60.0:.1f} minutes, {content['restarts']} restarts; {told}"]
    for row in rows(content):
        lines.append(
            f"{row['node']:<17} memory {row['rss_mb']:7.1f} MB {_percent(row['rss_mb_growth'], 2):>8}   threads "
            f"{row['threads']:.0f} {_percent(row['threads_growth'])}   descriptors {row['descriptors']:.0f} "
            f"{_percent(row['descriptors_growth'])}   processor {row['cpu']:.0f} %"
        )
    cases = content.get("cases", [])
    if cases:
        warm = cases[min(int(warm_s / max(seconds, 1e-9) * len(cases)), len(cases) - 1)]
        lines.append(f"the failure memory learned: {warm} cases at the end of the warm-up, {cases[-1]} at the end")
    grown_by = case_growth(content)
    if grown_by is not None:
        lines.append(
            f"the failure memory grew by {grown_by.a_case_kb:.1f} kB a case behind the warm-up, and by "
            f"{grown_by.once_mb:.1f} MB at once"
        )
    latency = content["latency_ms"]
    if latency:
        worst = max(latency, key=lambda item: float(item["p99"]))
        medians = [item["p50"] for item in latency]
        grown = growth([item["at_s"] for item in latency], medians, seconds)
        lines.append(
            f"picture to command: median {np.median(medians):.1f} ms, worst 99th percentile of a window "
            f"{worst['p99']:.1f} ms{'' if grown is None else f', growth of the median {grown:+.1f} %'}"
        )
    return lines


def page(content: Content) -> str:
    """The whole page."""
    about, seconds = content.get("about", {}), content["seconds"]
    cards = []
    for row in rows(content):
        samples = content["nodes"][row["node"]]
        charts = ""
        for measure, (name, unit) in MEASURES.items():
            grown = "" if measure == "cpu" else _grown(row[f"{measure}_growth"])
            drawn = chart(samples["at_s"], samples[measure], seconds, f"{row['node']}: {name}", unit)
            head = f"{escape(name)}: {row[measure]:.4g}{' ' + escape(unit) if unit else ''} at the end{grown}"
            charts += f"<div><div class='note'>{head}</div>{drawn}</div>"
        cards.append(f"<h2>{escape(row['node'])}</h2><div class='card two'>{charts}</div>")
    latency = content["latency_ms"]
    if latency:
        at = [item["at_s"] for item in latency]
        charts = "".join(
            f"<div><div class='note'>picture to command, {name}, ms</div>"
            f"{chart(at, [item[name] for item in latency], seconds, f'picture to command, {name}', 'ms')}</div>"
            for name in ("p50", "p99")
        )
        cards.insert(0, f"<h2>Latency</h2><div class='card two'>{charts}</div>")
    return document(
        "Soak",
        "<header><h1>Soak</h1><div class='soft'>"
        f"{escape(str(about.get('command', '')))} · {escape(str(about.get('started', '')).replace('T', ' '))} · "
        f"{seconds / 60.0:.1f} minutes · {content['restarts']} restarts{_learned(content)}</div></header>"
        f"<p class='note' style='margin-top:14px'>{_told(seconds)}</p>{_table(content)}{''.join(cards)}",
    )


def _table(content: Content) -> str:
    head = "".join(f"<th class='n'>{name}{', ' + unit if unit else ''}</th>" for name, unit in MEASURES.values())
    body = ""
    for row in rows(content):
        cells = ""
        for measure, (_, unit) in MEASURES.items():
            grown = "" if measure == "cpu" else _grown(row[f"{measure}_growth"])
            cells += f"<td class='n'>{row[measure]:.{1 if unit else 0}f}{grown}</td>"
        body += f"<tr><td>{escape(row['node'])}</td>{cells}</tr>"
    return (
        "<h2>At the end</h2><div class='card scroll'><table><thead><tr><th>node</th>"
        f"{head}</tr></thead><tbody>{body}</tbody></table></div>"
    )


def chart(at_s: Sequence[float], values: Sequence[float], seconds: float, label: str, unit: str) -> str:
    """One line over time as SVG, from zero; the warm-up is shaded. label: what it shows, for who does not see it."""
    top = 1.15 * max([*values, 1e-9])
    span = max(seconds, 1e-9)
    points = " ".join(
        f"{WIDTH * at / span:.1f},{HEIGHT * (1.0 - value / top):.1f}" for at, value in zip(at_s, values, strict=True)
    )
    most = f"{max([*values, 0.0]):.4g}{' ' + unit if unit else ''}"
    return (
        f"<svg viewBox='0 0 {WIDTH} {HEIGHT + 12}' width='100%' role='img' "
        f"aria-label='{escape(label)} over time, at most {escape(most)}'>"
        f"<rect width='{WIDTH * min(warm_up(seconds) / span, 1.0):.0f}' height='{HEIGHT}' "
        "fill='var(--line)' opacity='0.5'/>"
        f"<line class='grid' x1='0' x2='{WIDTH}' y1='{HEIGHT}' y2='{HEIGHT}'/>"
        f"<polyline points='{points}' fill='none' stroke='var(--accent)' stroke-width='1.6'/>"
        f"<text style='font-size:9px' x='0' y='{HEIGHT + 10}'>↑ 0 to {escape(most)}</text>"
        f"<text style='font-size:9px' x='{WIDTH}' y='{HEIGHT + 10}' text-anchor='end'>{_length(seconds)}</text>"
        "</svg>"
    )


def _told(seconds: float) -> str:
    warm_s = warm_up(seconds)
    if seconds < warm_s + LEAST_MEASURED_S:
        return f"No growth is told: that takes {warm_s + LEAST_MEASURED_S:.0f} s, of which {warm_s:.0f} s are warm-up."
    return (
        f"Growth: from the median of the first fifth behind the warm-up ({warm_s:.0f} s, shaded) to that of the last "
        "fifth."
    )


def _length(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 600.0 else f"{seconds / 60.0:.0f} min"


def _learned(content: Content) -> str:
    cases = content.get("cases", [])
    return f" · the failure memory went from {cases[0]} to {cases[-1]} cases" if cases else ""


def _percent(value: float | None, digits: int = 1) -> str:
    return "" if value is None else f"{value:+.{digits}f} %"


def _grown(percent: float | None) -> str:
    if percent is None:
        return ""
    colour = "bad" if percent > 1.0 else "good"
    return f" <span class='{colour}'>{percent:+.2f} %</span>"
