# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What a dataset is, for people: counts, classes, where it comes from, under which licences."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping
from typing import Any
from xml.sax.saxutils import escape

from flow_rag_vla.labeling.datasets.dataset import LabelDataset, Split

MOST_ROWS = 40
"""Categories or sources that are listed one by one."""
_COLOURS = {Split.TRAIN: "#3b6ea5", Split.VAL: "#e0a030", Split.TEST: "#5a9e6f"}
_ROW, _LABEL, _BARS, _COUNT = 22, 180, 380, 60


def class_counts(dataset: LabelDataset) -> dict[str, dict[Split, int]]:
    """Annotations by category and split, the most frequent category first."""
    counts = {name: dict.fromkeys(Split, 0) for name in dataset.categories}
    for item in dataset.items:
        for annotation in item.annotations:
            counts[annotation.category][item.split] += 1
    return dict(sorted(counts.items(), key=lambda pair: (-sum(pair[1].values()), pair[0])))


def classes_svg(dataset: LabelDataset) -> str:
    """A bar a category, in the colours of the splits."""
    rows = list(class_counts(dataset).items())[:MOST_ROWS]
    most = max((sum(counts.values()) for _, counts in rows), default=0) or 1
    width, height = _LABEL + _BARS + _COUNT, _ROW * (len(rows) + 1) + 12
    label = f"Annotations of {dataset.label} by category"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" aria-label="{escape(label)}" font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="#ffffff"/>',
    ]
    for place, split in enumerate(Split):
        x = float(_LABEL + 70 * place)
        parts.append(f'<rect x="{x:g}" y="6" width="11" height="11" fill="{_COLOURS[split]}"/>')
        parts.append(f'<text x="{x + 16:g}" y="16" fill="#444444">{split.value}</text>')
    for place, (name, counts) in enumerate(rows, 1):
        y = 6 + _ROW * place
        x = float(_LABEL)
        shown = name if len(name) <= 26 else f"{name[:25]}…"
        parts.append(f'<text x="{_LABEL - 8}" y="{y + 13}" text-anchor="end" fill="#222222">{escape(shown)}</text>')
        for split, count in counts.items():
            length = _BARS * count / most
            if count:
                parts.append(
                    f'<rect x="{x:.1f}" y="{y + 2}" width="{length:.1f}" height="{_ROW - 7}" fill="{_COLOURS[split]}"/>'
                )
            x += length
        parts.append(f'<text x="{x + 6:.1f}" y="{y + 13}" fill="#444444">{sum(counts.values())}</text>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def card_text(dataset: LabelDataset) -> str:
    """The card, Markdown."""
    annotations = [one for item in dataset.items for one in item.annotations]
    masks = sum(1 for one in annotations if one.rle or one.polygons)
    validated = sum(1 for one in annotations if one.validated)
    tracks = {(item.source_id, one.track) for item in dataset.items for one in item.annotations if one.track}
    made = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(dataset.created_ns / 1e9)) if dataset.created_ns else "-"
    lines = [
        f"# {dataset.label}",
        "",
        f"{len(dataset.items)} pictures, {len(annotations)} annotations, {len(dataset.categories)} categories. "
        f"Made {made}.",
        "",
        "| | train | val | test | all |",
        "|---|---|---|---|---|",
        _row("pictures", [len(dataset.of_split(split)) for split in Split]),
        _row("annotations", [sum(len(item.annotations) for item in dataset.of_split(split)) for split in Split]),
        _row("sources", [len({_source(item) for item in dataset.of_split(split)}) for split in Split]),
        "",
        f"{_share(masks, len(annotations))} of the annotations have a mask, {_share(validated, len(annotations))} were "
        f"validated by a person; {len(tracks)} tracks.",
        "",
        "## Categories",
        "",
        "![annotations by category](classes.svg)",
        "",
        "| category | train | val | test | all |",
        "|---|---|---|---|---|",
    ]
    counts = class_counts(dataset)
    lines += [_row(name, list(by_split.values())) for name, by_split in list(counts.items())[:MOST_ROWS]]
    if len(counts) > MOST_ROWS:
        lines.append(f"\nand {len(counts) - MOST_ROWS} more in `manifest.json`.")
    lines += ["", "## Provenance", "", *_provenance(dataset.provenance), "", "Labels by:", ""]
    models = Counter((one.origin.model, one.origin.revision, one.score_kind.value) for one in annotations)
    for (model, revision, kind), count in models.most_common(MOST_ROWS):
        name = f"{model}@{revision}" if revision else model or "unknown"
        lines.append(f"- {_cell(name)}: {count} (scores: {kind})")
    lines += ["", "## Sources and licences", "", "| source | episode | pictures | licence |", "|---|---|---|---|"]
    sources = Counter((_source(item), item.episode, item.licence) for item in dataset.items)
    for (source, episode, licence), count in sources.most_common(MOST_ROWS):
        lines.append(f"| {_cell(source)} | {_cell(episode)} | {count} | {_cell(licence) or '**unknown**'} |")
    if len(sources) > MOST_ROWS:
        lines.append(f"\nand {len(sources) - MOST_ROWS} more in `annotations/`.")
    unknown = sum(1 for item in dataset.items if not item.licence)
    if unknown:
        lines += ["", f"The licence of {unknown} pictures is unknown: ask before you pass them on."]
    return "\n".join(lines) + "\n"


def _source(item: Any) -> str:
    return str(item.source or item.source_id or item.file)


def _row(name: str, counts: list[int]) -> str:
    return f"| {_cell(name)} | {' | '.join(map(str, counts))} | {sum(counts)} |"


def _share(part: int, whole: int) -> str:
    return f"{part} ({100 * part / whole:.0f} %)" if whole else "0"


def _cell(text: str) -> str:
    """A text that stays one cell of a table and one paragraph, and is shown as it is."""
    plain = " ".join(text.split())
    for letter in "\\|<>*_`[]":
        plain = plain.replace(letter, f"\\{letter}")
    return plain


def _provenance(said: Mapping[str, Any]) -> list[str]:
    if not said:
        return ["Nothing was noted."]
    return [
        f"- {_cell(name)}: {_cell(_plain(value))}" for name, value in said.items() if value not in (None, "", [], {})
    ]


def _plain(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_plain(one)}" for name, one in value.items() if one not in (None, "", [], {}))
    if isinstance(value, (list, tuple)):
        return ", ".join(_plain(one) for one in value)
    return str(value)
