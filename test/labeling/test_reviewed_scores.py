# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Scores to shares of correct ones, from what people accepted, corrected and rejected."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from flow_rag_vla.labeling.detections import Detections, Origin, ScoreKind
from flow_rag_vla.labeling.detectors.calibration import CalibratedDetector, ScoreCalibration, fit_calibration
from flow_rag_vla.labeling.pipeline.errors import SettingError
from flow_rag_vla.labeling.registry.registry import Registry
from flow_rag_vla.labeling.registry.values import (
    ImageDraft,
    ObjectChange,
    ObjectDraft,
    ReviewState,
    SourceDraft,
    SourceKind,
)
from flow_rag_vla.labeling.reviewed_scores import reviewed_scores

BOX = (4.0, 4.0, 20.0, 16.0)
FOUND = Origin("florence2+sam2", "r1+s1", "cup", 0.3)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[Registry]:
    with Registry(tmp_path / "labels") as opened:
        yield opened


def propose(registry: Registry, scores: list[float], **fields: object) -> list[str]:
    source = registry.add_source(SourceDraft(SourceKind.IMAGE, "/a.png"))
    (image,) = registry.add_images(source.source_id, [ImageDraft("a.png", 64, 48)])
    said = {"origin": FOUND, "score_kind": ScoreKind.TOKEN_PROBABILITY, **fields}
    drafts = [ObjectDraft(image.image_id, "cup", BOX, score, **said) for score in scores]  # type: ignore[arg-type]
    return list(registry.register(drafts, who="pipeline").object_ids)


def judge(registry: Registry, object_id: str, **fields: object) -> None:
    registry.update(object_id, ObjectChange(**fields), who="anna")  # type: ignore[arg-type]


def test_right_is_what_was_kept_under_its_name_and_in_its_place(registry: Registry) -> None:
    ids = propose(registry, [0.31, 0.4, 0.5, 0.6, 0.7, 0.8])
    judge(registry, ids[0], state=ReviewState.REJECTED)
    judge(registry, ids[1], category="mug", state=ReviewState.RELABELLED)
    judge(registry, ids[2], box=(40.0, 30.0, 60.0, 44.0))
    judge(registry, ids[2], state=ReviewState.ACCEPTED)
    judge(registry, ids[3], box=(4.0, 4.0, 20.0, 17.0), state=ReviewState.ACCEPTED)
    judge(registry, ids[4], state=ReviewState.ACCEPTED)
    found = reviewed_scores(registry)
    assert (found.detector, found.revision, found.kind) == ("florence2", "r1", ScoreKind.TOKEN_PROBABILITY)
    judged = dict(zip(found.scores.round(2).tolist(), found.correct.tolist(), strict=True))
    assert {round(score, 2): right for score, right in judged.items()} == {
        0.31: False,
        0.4: False,
        0.5: False,
        0.6: True,
        0.7: True,
    }
    assert found.threshold == pytest.approx(0.3)
    # Under another name for the class it is as right as before.
    registry.rename_category("cup", "beaker")
    registry.merge_category("beaker", "mug", who="anna")
    assert reviewed_scores(registry).correct.sum() == found.correct.sum() + 1
    with pytest.raises(SettingError, match="at least 20"):
        found.calibration()


def test_scores_of_several_detectors_are_not_thrown_together(registry: Registry) -> None:
    with pytest.raises(SettingError, match="nobody has judged"):
        reviewed_scores(registry)
    ids = propose(registry, [0.5]) + propose(registry, [0.6], origin=Origin("detr", "r2", "", 0.5))
    ids += propose(registry, [0.7], origin=Origin("anna"), score_kind=ScoreKind.HUMAN)
    for object_id in ids:
        judge(registry, object_id, state=ReviewState.ACCEPTED)
    with pytest.raises(SettingError, match=r"florence2 r1.*detr r2"):
        reviewed_scores(registry)
    assert reviewed_scores(registry, detector="detr").scores.tolist() == pytest.approx([0.6])
    with pytest.raises(SettingError, match="nobody has judged"):
        reviewed_scores(registry, detector="florence2", revision="r9")


class Scored:
    """A detector that finds one thing for each score that it was told."""

    name, revision, score_kind, vocabulary = "florence2", "r1", ScoreKind.TOKEN_PROBABILITY, ()

    def __init__(self, scores: list[float]) -> None:
        self._scores = np.array(scores, np.float32)

    def detect(self, images: object, prompts: object, threshold: float) -> list[Detections]:
        count = len(self._scores)
        boxes = np.tile(np.array(BOX, np.float32), (count, 1))
        return [Detections(64, 48, boxes, self._scores, ("cup",) * count, self.score_kind, FOUND)]


def test_what_nobody_was_shown_is_not_taken_for_as_good_as_what_they_saw(registry: Registry, tmp_path: Path) -> None:
    scores = np.linspace(0.35, 0.95, 40).round(3).tolist()
    for place, object_id in enumerate(propose(registry, scores)):
        right = scores[place] > 0.65 or place % 2 == 0
        judge(registry, object_id, state=ReviewState.ACCEPTED if right else ReviewState.REJECTED)
    reviewed_scores(registry).calibration().save(tmp_path / "c.json")
    fitted = ScoreCalibration.load(tmp_path / "c.json")
    given = fitted(np.array([0.05, 0.29, 0.45, 0.9], np.float32))
    assert given[:2].tolist() == [0.0, 0.0]
    assert given[2:].tolist() == pytest.approx([0.5, 1.0], abs=0.12)
    kept = CalibratedDetector(Scored([0.9, 0.45, 0.2, 0.05]), fitted).detect([], (), 0.4)[0]
    assert len(kept) == 2
    # Where everything was looked at, the least sure count as much as the least sure that were judged.
    whole = fit_calibration(scores, [True] * 40, ScoreKind.TOKEN_PROBABILITY, "r1")
    assert whole(np.array([0.05], np.float32)).tolist() == [1.0]
