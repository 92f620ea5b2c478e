# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A training as a page: losses, tries, rate, settings. It is made from the training's own files, at any time."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

from flow_rag_vla.core.files import write_text
from flow_rag_vla.labeling.evaluation import html
from flow_rag_vla.labeling.pipeline.errors import SourceError
from flow_rag_vla.labeling.training import checkpoint
from flow_rag_vla.labeling.training.model_folder import MODEL
from flow_rag_vla.labeling.training.orders import TRAINING_PAGE

FIGURES = "training_report.json"


def write_report(folder: str | Path) -> Path:
    """Write the page of the training in a folder, and its figures as JSON beside it; the page's path.

    Raises:
        SourceError: if no training is there, or its record is damaged.
    """
    place = Path(folder)
    standing = checkpoint.read(place)
    if standing is None:
        raise SourceError(f"{place} holds no training: name the folder of one", "source_missing")
    figures = {
        "step": standing.step,
        "best_val_ap": max(0.0, standing.best),
        "finished": standing.finished,
        "run": dict(standing.run),
        "rows": [dict(row) for row in standing.rows],
    }
    write_text(place / FIGURES, json.dumps(figures, indent=1, allow_nan=False) + "\n")
    write_text(place / TRAINING_PAGE, page(place.resolve().name, standing, (place / MODEL).is_dir()))
    return place / TRAINING_PAGE


def page(name: str, standing: checkpoint.Standing, has_model: bool) -> str:
    """The page."""
    rows = standing.rows
    tries = [row for row in rows if "val_ap" in row]
    losses = [row for row in rows if "loss" in row]
    best = max(tries, key=lambda row: row["val_ap"], default=None)
    state = "finished" if standing.finished else "not finished; the same command goes on with it"
    entries = [
        ("Best mAP", f"{best['val_ap']:.3f}" if best else "none yet", "validation pictures, overlaps 0.50 to 0.95"),
        ("mAP@50", f"{best['val_ap50']:.3f}" if best else "none yet", f"epoch {best['epoch']:g}" if best else ""),
        ("Steps", str(standing.step), state),
        ("Loss", _loss(losses, -1), f"{_loss(losses, 0)} at first"),
    ]  # fmt: skip
    curves = [
        html.line_chart(
            "Tries on the validation pictures",
            {"mAP": _line(tries, "val_ap"), "mAP@50": _line(tries, "val_ap50"), "mAP@75": _line(tries, "val_ap75")},
            x="epoch", y="mAP", top=1.0,
        ),
        html.line_chart("Loss", {"all": _line(losses, "loss")}, x="epoch", y="sum of all parts"),
        html.line_chart(
            "Parts of the loss (last decoder layer)",
            {
                "class": _line(losses, "loss_vfl"),
                "distance of boxes": _line(losses, "loss_bbox"),
                "overlap of boxes": _line(losses, "loss_giou"),
            },
            x="epoch", y="loss",
        ),
        html.line_chart("Learning rate", {"rate": _line(losses, "rate")}, x="epoch", y="rate"),
    ]  # fmt: skip
    settings = standing.run.get("settings")
    known = settings if isinstance(settings, Mapping) else {}
    about = [[escape(str(key)), escape(str(value))] for key, value in known.items()]
    words = "<p class='soft' style='margin-top:14px'>The detector is in <code>model/</code>, with its card.</p>"
    links = words if has_model else ""
    parts = [html.tiles(entries), links, f"<h2>Curves</h2><div class='two'>{''.join(curves)}</div>"]
    parts.append("<h2>Settings</h2>" + html.table(["Setting", "Value"], about))
    return html.document(f"Training {name}", f"{len(tries)} tries; data {standing.run.get('data')}", parts)


def _loss(rows: Sequence[Mapping[str, float]], place: int) -> str:
    return f"{rows[place]['loss']:.2f}" if rows else "unknown"


def _line(rows: Sequence[Mapping[str, float]], name: str) -> list[tuple[float, float]]:
    return [(row["epoch"], row[name]) for row in rows if name in row]
