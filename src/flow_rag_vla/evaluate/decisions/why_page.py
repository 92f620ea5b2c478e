# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""An explanation as one HTML page with the pictures that the policy saw and the paths of its chunks."""

from __future__ import annotations

from html import escape

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.control.ladder import Mode
from flow_rag_vla.evaluate.decisions.explanation import ExplainedCase, Explanation
from flow_rag_vla.evaluate.decisions.why_text import headline, sections
from flow_rag_vla.evaluate.report.stories import picture_uri
from flow_rag_vla.evaluate.report.style import document

_STYLE = """
.why { display: grid; grid-template-columns: repeat(auto-fit, minmax(340px, 1fr)); gap: 14px; margin-top: 20px; }
.why ul { margin: 6px 0 0; padding-left: 17px; } .why li { margin-bottom: 4px; overflow-wrap: anywhere; }
.eyes { display: flex; gap: 14px; flex-wrap: wrap; margin-top: 20px; }
.eyes img { width: 320px; max-width: 100%; border-radius: 8px; image-rendering: auto; display: block; }
"""


def why_page(found: Explanation, title: str) -> str:
    """The page; nothing is loaded from anywhere."""
    cards = "".join(
        f"<section class='card'><h3>{escape(section.title)}</h3><ul>"
        + "".join(f"<li>{escape(sentence)}</li>" for sentence in section.sentences)
        + "</ul></section>"
        for section in sections(found)
    )
    eyes = "".join(
        f'<figure><img alt="{escape(camera)} camera" src="{picture_uri(pixels, 320)}">'
        f"<figcaption>{escape(camera)} camera</figcaption></figure>"
        for camera, pixels in found.frames.items()
    )
    return document(
        headline(found),
        f"<h1>{escape(headline(found))}</h1><p class='soft'>{escape(title)}</p>"
        + (f"<div class='eyes'>{eyes}</div>" if eyes else "")
        + f"<div class='why'>{cards}{_paths(found)}{_table(found.cases)}</div>",
        _STYLE,
    )


def _paths(found: Explanation) -> str:
    """The chunk's path from above and from the side, beside the one without the memory."""
    explained = found.chunk
    if explained is None:
        return ""
    here = found.command.chunk_index if found.command.mode is Mode.FOLLOW else None
    lines = [("chunk", "var(--accent)", _path(explained.chunk.actions))]
    if explained.without is not None:
        lines.append(("without the memory", "var(--warn)", _path(explained.without.actions)))
    correction = explained.correction
    if correction is not None and correction.actions is not None:
        lines.append(("stored correction", "var(--memory)", _path(correction.actions)))
    plots = "".join(_plot(lines, axes, names, here) for axes, names in (((0, 1), "x, y"), ((0, 2), "x, z")))
    legend = "".join(f'<span><i style="background:{colour}"></i>{escape(name)}</span>' for name, colour, _ in lines)
    return (
        f"<section class='card'><h3>Path of the tool over the chunk, mm</h3><div class='legend'>{legend}</div>"
        f"{plots}</section>"
    )


def _path(actions: NDArray[np.float32]) -> NDArray[np.float64]:
    steps = actions[:, :3].astype(np.float64)
    return np.asarray(np.cumsum(steps, axis=0) * 1e3, dtype=np.float64)


def _plot(
    lines: list[tuple[str, str, NDArray[np.float64]]], axes: tuple[int, int], names: str, here: int | None
) -> str:
    width, height, margin = 330, 190, 26
    points = np.concatenate([np.zeros((1, 3)), *[path for _, _, path in lines]])[:, list(axes)]
    low, high = points.min(axis=0), points.max(axis=0)
    # One scale for both axes: a path that is bent looks bent.
    scale = min((width - 2 * margin) / max(high[0] - low[0], 5.0), (height - 2 * margin) / max(high[1] - low[1], 5.0))

    def place(point: NDArray[np.float64]) -> tuple[float, float]:
        return (
            margin + float(point[axes[0]] - low[0]) * scale,
            height - margin - float(point[axes[1]] - low[1]) * scale,
        )

    parts = [f'<svg viewBox="0 0 {width} {height}" width="100%" role="img" aria-label="path in {names}">']
    for name, colour, path in lines:
        whole = np.concatenate([np.zeros((1, 3)), path])
        text = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(place, whole))
        parts.append(
            f'<polyline points="{text}" fill="none" stroke="{colour}" stroke-width="2"><title>{escape(name)}</title>'
            "</polyline>"
        )
    if here is not None and here < len(lines[0][2]):
        x, y = place(lines[0][2][here])
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="var(--bad)"><title>this tick</title></circle>')
    parts.append(f'<text x="{width - 4}" y="{height - 4}" text-anchor="end">{names}; red: this tick</text></svg>')
    return "".join(parts)


def _table(cases: tuple[ExplainedCase, ...]) -> str:
    if not cases:
        return ""
    rows = "".join(
        f"<tr><td>{case.case_id}{' (used)' if case.used else ''}</td><td class='n'>{case.similarity:.4f}</td>"
        f"<td>{escape(case.failure_type)}</td><td>{escape(case.phase)}</td>"
        f"<td>{escape(case.source) or ('known' if case.has_correction else 'none')}</td>"
        f"<td class='n'>{case.successes}/{case.uses}</td><td class='n'>{case.credit:.2f}</td></tr>"
        for case in cases
    )
    return (
        "<section class='card'><h3>Cases that came up</h3><div class='scroll'><table><thead><tr><th>case</th>"
        "<th class='n'>similarity</th><th>failure</th><th>phase</th><th>correction</th><th class='n'>went well</th>"
        f"<th class='n'>credit</th></tr></thead><tbody>{rows}</tbody></table></div></section>"
    )
