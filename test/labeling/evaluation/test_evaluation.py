# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Confusions, curves, whole evaluations and their page."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.labeling.compact.truth import TruthFrame
from flow_rag_vla.labeling.detections import Detections, Origin, ScoreKind
from flow_rag_vla.labeling.detectors.compact import CompactDetector
from flow_rag_vla.labeling.evaluation.confusion import confusion_of
from flow_rag_vla.labeling.evaluation.curves import curve_of
from flow_rag_vla.labeling.evaluation.evaluate import evaluate_detector, known_words
from flow_rag_vla.labeling.evaluation.pictures import TruePicture, digest_of
from flow_rag_vla.labeling.evaluation.report import FIGURES, write_report
from flow_rag_vla.labeling.pipeline.errors import SettingError, SourceError


def things(*rows: tuple[tuple[float, float, float, float], str, float]) -> Detections:
    return Detections(
        100,
        100,
        np.asarray([box for box, _, _ in rows], np.float32).reshape(-1, 4),
        np.asarray([score for _, _, score in rows], np.float32),
        tuple(label for _, label, _ in rows),
        ScoreKind.SIGMOID,
        Origin("test"),
    )


A, B, C = (0.0, 0.0, 20.0, 20.0), (40.0, 40.0, 60.0, 60.0), (70.0, 0.0, 90.0, 20.0)


def test_each_kind_of_mistake_has_its_cell() -> None:
    truth = things((A, "cup", 1.0), (B, "bowl", 1.0), (C, "cup", 1.0))
    found = things((A, "cup", 0.9), (B, "cup", 0.8), ((20.0, 70.0, 40.0, 90.0), "bowl", 0.7), (C, "cup", 0.2))
    confusion, (mistakes,) = confusion_of([(found, truth)], ("cup", "bowl"), {"cup": 0.5, "bowl": 0.5})
    assert confusion.counts.tolist() == [[1, 0, 1], [1, 0, 0], [0, 1, 0]]
    assert (confusion.right, confusion.taken_for_others, confusion.missed, confusion.imagined) == (1, 1, 1, 1)
    assert (mistakes.imagined, mistakes.mistaken, mistakes.missed, mistakes.count) == ((2,), (1,), (2,), 3)


@given(st.integers(0, 2**32 - 1))
def test_every_thing_and_every_detection_is_counted_once(seed: int) -> None:
    rng = np.random.default_rng(seed)

    def some(count: int) -> Detections:
        corners = rng.uniform(0, 80, (count, 2))
        boxes = np.concatenate([corners, corners + rng.uniform(2, 20, (count, 2))], axis=1)
        labels = rng.choice(["cup", "bowl"], count)
        return things(*((tuple(box), str(label), rng.random()) for box, label in zip(boxes, labels, strict=True)))

    pairs = [(some(rng.integers(0, 6)), some(rng.integers(0, 6))) for _ in range(3)]
    confusion, _ = confusion_of(pairs, ("cup", "bowl"), {"cup": 0.3, "bowl": 0.6})
    sure = sum(
        score >= {"cup": 0.3, "bowl": 0.6}[label]
        for found, _ in pairs
        for label, score in zip(found.labels, found.scores, strict=True)
    )
    assert confusion.counts[:-1].sum() == sum(len(truth) for _, truth in pairs)
    assert confusion.counts[:, :-1].sum() == sure
    for name in ("cup", "bowl"):
        curve = curve_of(name, pairs)
        assert (np.diff(curve.recall) >= 0).all() and (np.diff(curve.scores) < 0).all()
        assert curve.f1 <= 1.0 and (curve.precision <= 1.0).all()


def test_the_best_threshold_is_where_precision_and_recall_are_best() -> None:
    truth = things((A, "cup", 1.0), (B, "cup", 1.0))
    found = things((A, "cup", 0.9), (B, "cup", 0.6), (C, "cup", 0.4))
    curve = curve_of("cup", [(found, truth)])
    assert curve.f1 == 1.0 and curve.threshold == pytest.approx(0.5)
    assert curve.thinned() == pytest.approx(np.asarray([[0.9, 1.0, 0.5], [0.6, 1.0, 1.0], [0.4, 2 / 3, 1.0]]), abs=1e-5)
    # Without a detection that is right no threshold is better than another.
    assert curve_of("cup", [(things((C, "cup", 0.4)), truth)]).f1 == 0.0


def test_words_of_a_closed_vocabulary_are_found_whatever_their_spelling() -> None:
    assert known_words(("Red_Cube", "bin"), ("red cube", "mug")) == {"Red_Cube": "red cube"}
    assert known_words((), ("red cube",)) == {"red cube": "red cube"}


def pictures_of(frames: Sequence[TruthFrame]) -> list[TruePicture]:
    pictures = []
    for place, frame in enumerate(frames):
        truth, _ = frame.things(12)
        pictures.append(TruePicture(f"frame {place}", lambda frame=frame: frame.image, truth))
    return pictures


def test_the_shipped_detector_is_measured_with_masks_and_shown(
    compact_model, held_out: list[TruthFrame], tmp_path: Path
) -> None:
    detector = CompactDetector(compact_model)
    pictures = pictures_of(held_out[:4])
    told: list[tuple[int, int]] = []
    result = evaluate_detector(
        detector, pictures, data="held-out <scenes>", progress=lambda done, total, note="": told.append((done, total))
    )
    assert 0.3 < result.boxes.ap < result.boxes.ap50 <= 1.0
    assert result.masks is not None and 0.3 < result.masks.ap50 <= 1.0 and 0.3 < (result.miou or 0.0) <= 1.0
    assert told[-1] == (4, 4)
    # Something that nobody asked the detector for is missed, and said to be.
    stranger = replace(pictures[0].truth, labels=("teapot", *pictures[0].truth.labels[1:]))
    other = evaluate_detector(detector, [replace(pictures[0], truth=stranger)])
    assert other.unknown == ("teapot",) and other.boxes.by_category["teapot"].ap == 0.0
    page = write_report(result, tmp_path).read_text(encoding="utf-8")
    assert "held-out &lt;scenes&gt;" in page and "<script" not in page and "http" not in page.replace("http-equiv", "")
    figures = json.loads((tmp_path / FIGURES).read_text(encoding="utf-8"))
    assert figures["boxes"]["ap"] == pytest.approx(result.boxes.ap)
    assert np.sum(figures["confusion"]["counts"]) == result.confusion.counts.sum()


def test_what_cannot_be_measured_is_refused(compact_model, held_out: list[TruthFrame]) -> None:
    detector = CompactDetector(compact_model)
    with pytest.raises(SourceError, match="nothing can be measured"):
        evaluate_detector(detector, [])
    with pytest.raises(SettingError, match="threshold is nan"):
        evaluate_detector(detector, pictures_of(held_out[:1]), threshold=float("nan"))
    with pytest.raises(InterruptedError):
        evaluate_detector(detector, pictures_of(held_out[:1]), stop=lambda: True)


def test_a_set_is_known_again_and_a_moved_box_is_not(held_out: list[TruthFrame]) -> None:
    pictures = pictures_of(held_out[:2])
    moved = pictures[0].truth.boxes.copy()
    moved[0, 0] += 0.25
    changed = [replace(pictures[0], truth=replace(pictures[0].truth, boxes=moved)), pictures[1]]
    assert digest_of(pictures) == digest_of(pictures_of(held_out[:2])) != digest_of(changed)
