# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""An evaluation as a page: figures, curves, the confusion matrix, and the pictures that went worst."""

from __future__ import annotations

from html import escape
from pathlib import Path

from flow_rag_vla.core.files import write_text
from flow_rag_vla.labeling.evaluation import html
from flow_rag_vla.labeling.evaluation.evaluate import Evaluation, Looked

PAGE, FIGURES = "evaluation.html", "evaluation.json"
WORST = 12
_NOTHING = "nothing there"
_MISSED = "missed"


def write_report(evaluation: Evaluation, folder: str | Path, worst: int = WORST) -> Path:
    """Write the page and the figures as JSON beside it; the page's path."""
    place = Path(folder)
    evaluation.save(place / FIGURES)
    write_text(place / PAGE, page(evaluation, worst))
    return place / PAGE


def page(evaluation: Evaluation, worst: int = WORST) -> str:
    """The page; the pictures that went worst are read again."""
    count = len(evaluation.looked)
    subtitle = (
        f"{count} pictures of {evaluation.data or 'a set'}; detector revision {evaluation.revision}; "
        f"scores: {evaluation.score_kind}"
    )
    parts = [_tiles(evaluation), _unknown(evaluation), _categories(evaluation), _curves(evaluation)]
    parts += [_confusion(evaluation), _worst(evaluation, worst)]
    return html.document(f"Detector {evaluation.detector}", subtitle, parts)


def _tiles(evaluation: Evaluation) -> str:
    boxes, masks = evaluation.boxes, evaluation.masks
    entries = [
        ("mAP", f"{boxes.ap:.3f}", "boxes, overlaps 0.50 to 0.95"),
        ("mAP@50", f"{boxes.ap50:.3f}", "boxes, overlap 0.50"),
        ("mAP@75", f"{boxes.ap75:.3f}", "boxes, overlap 0.75"),
        ("Recall", f"{boxes.ar100:.3f}", "at most 100 a picture, mean over overlaps"),
    ]
    if masks is not None:
        entries.append(("Masks", f"{masks.ap:.3f}", f"mAP; {masks.ap50:.3f} at overlap 0.50"))
    if evaluation.miou is not None:
        entries.append(("Mask overlap", f"{evaluation.miou:.3f}", "mean; what was missed counts 0"))
    entries.append(("Time", f"{1e3 * evaluation.seconds:.0f} ms", "a picture, on the machine that measured"))
    return html.tiles(entries)


def _unknown(evaluation: Evaluation) -> str:
    if not evaluation.unknown:
        return ""
    names = escape(", ".join(evaluation.unknown))
    return f"<section class='card missing'>The detector has no word for {names}: these count as missed.</section>"


def _categories(evaluation: Evaluation) -> str:
    rows = []
    for name in evaluation.categories:
        score, curve = evaluation.boxes.by_category.get(name), evaluation.curves[name]
        if score is None:
            rows.append([escape(name), "0", *[""] * (7 if evaluation.mask_overlap else 6)])
            continue
        overlap = evaluation.mask_overlap.get(name)
        rows.append(
            [
                escape(name), str(score.things), f"{score.ap:.3f}", f"{score.ap50:.3f}", f"{curve.threshold:.2f}",
                f"{curve.best_precision:.3f}", f"{curve.best_recall:.3f}", f"{curve.f1:.3f}",
                *([] if not evaluation.mask_overlap else ["" if overlap is None else f"{overlap:.3f}"]),
            ]
        )  # fmt: skip
    heads = ["Category", "Things", "AP", "AP@50", "Best threshold", "Precision", "Recall", "F1"]
    heads += ["Mask overlap"] if evaluation.mask_overlap else []
    return "<h2>Categories</h2>" + html.table(heads, rows) + (
        "<p class='note' style='margin-top:8px'>Precision, recall and F1 at an overlap of 0.50 and at the threshold "
        "that is best on these pictures.</p>"
    )  # fmt: skip


def _curves(evaluation: Evaluation) -> str:
    recall_precision = {}
    score_f1 = {}
    marks = {}
    for name, curve in evaluation.curves.items():
        points = curve.thinned()
        recall_precision[name] = [(recall, precision) for _, precision, recall in points]
        score_f1[name] = [
            (score, 2.0 * precision * recall / (precision + recall) if precision + recall else 0.0)
            for score, precision, recall in reversed(points)
        ]
        if curve.f1:
            marks[name] = (curve.best_recall, curve.best_precision)
    first = html.line_chart(
        "Precision over recall", recall_precision, x="recall", y="precision", top=1.0, right=1.0, marks=marks
    )
    second = html.line_chart("F1 over the score", score_f1, x="least score", y="F1", top=1.0, right=1.0)
    return f"<h2>Curves</h2><div class='two'>{first}{second}</div>"


def _confusion(evaluation: Evaluation) -> str:
    found = evaluation.confusion
    words = (
        f"At a score of {evaluation.threshold:g} and an overlap of 0.50: {found.right} right, "
        f"{found.taken_for_others} taken for something else, {found.missed} missed, {found.imagined} where nothing is. "
        "A row is what is there, a column what it was taken for."
    )
    grid = html.matrix(evaluation.categories, found.counts.tolist(), _NOTHING, _MISSED)
    return f"<h2>What is taken for what</h2><p class='soft'>{words}</p>{grid}"


def _worst(evaluation: Evaluation, most: int) -> str:
    shown = evaluation.worst(most)
    if not shown:
        return ""
    shots = "".join(_shot(item) for item in shown)
    return (
        "<h2>Where it went worst</h2><p class='soft'>Red: found where nothing is, or taken for something else. "
        f"Yellow, dashed: missed. Green: right.</p><div class='shots'>{shots}</div>"
    )


def _shot(item: Looked) -> str:
    truth, found, wrong = item.picture.truth, item.found, item.mistakes
    bad = {*wrong.imagined, *wrong.mistaken}
    boxes = [
        (truth.boxes[row].tolist(), truth.labels[row], "#f2c744", True) for row in wrong.missed
    ]  # fmt: skip
    boxes += [
        (
            found.boxes[row].tolist(), f"{found.labels[row]} {found.scores[row]:.2f}",
            "#ff5b4d" if row in bad else "#4fd08a", False,
        )
        for row in wrong.kept.tolist()
    ]  # fmt: skip
    words = ", ".join(
        f"{len(rows)} {name}"
        for rows, name in ((wrong.missed, "missed"), (wrong.imagined, "imagined"), (wrong.mistaken, "mistaken"))
        if rows
    )
    drawn = html.picture(item.picture.load(), boxes, f"{item.picture.name}: {words}")
    return f"<figure class='card'>{drawn}<figcaption>{escape(item.picture.name)}: {words}</figcaption></figure>"
