# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Scores of what people have judged in a registry: what a calibration is fitted on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.labeling.detections import ScoreKind
from flow_rag_vla.labeling.detectors.calibration import ScoreCalibration, fit_calibration
from flow_rag_vla.labeling.pipeline.boxes import overlaps
from flow_rag_vla.labeling.pipeline.errors import SettingError
from flow_rag_vla.labeling.registry.queries import ObjectFilter, Order
from flow_rag_vla.labeling.registry.registry import Registry
from flow_rag_vla.labeling.registry.values import LabelledObject, ObjectLabel, ReviewState

SAME_PLACE = 0.5
"""Overlap with the box that a person left, above which the detector's own box was right: what mAP@50 asks."""
_JUDGED = tuple(state for state in ReviewState if state is not ReviewState.UNREVIEWED)
_PAGE = 1_000
_SETTLED = (ScoreKind.HUMAN, ScoreKind.CALIBRATED)
"""Kinds that say a share of correct ones already, or nothing."""


@dataclass(frozen=True, slots=True)
class ReviewedScores:
    """N detections of one detector that people have judged.

    detector, revision, kind: whose scores, and of what kind; scores: (N,) float32; correct: (N,) bool
    threshold: the greatest that they were found with: nobody was shown all that is less sure
    """

    detector: str
    revision: str
    kind: ScoreKind
    scores: NDArray[np.float32]
    correct: NDArray[np.bool_]
    threshold: float

    def calibration(self) -> ScoreCalibration:
        """Scores to shares of correct ones; below ``threshold`` nothing counts as right.

        Raises:
            SettingError: too few were judged.
        """
        return fit_calibration(self.scores, self.correct, self.kind, self.revision, threshold=self.threshold)


def reviewed_scores(registry: Registry, *, detector: str = "", revision: str = "", project: str = "") -> ReviewedScores:
    """What people made of a detector's proposals: right is what they kept, under its name and in its place.

    Args:
        registry: where.
        detector: its name, such as ``florence2``; "": the only one that was judged.
        revision: of its weights; "": the only one.
        project: only of this one; "": of all.

    Raises:
        SettingError: nothing of it was judged, or the judged are of several detectors or revisions; it names them.
        UnknownError: there is no such project.
    """
    found: dict[tuple[str, str, ScoreKind], list[tuple[ObjectLabel, bool]]] = {}
    words = {
        (one.name, word): category.name
        for one in registry.projects()
        for category in registry.categories(one.name)
        for word in (category.name, *category.synonyms)
    }
    for item in _judged(registry, project):
        said = registry.first_label(item.object_id)
        # The names and revisions of all backends are joined with "+", the detector's first.
        name, version = said.origin.model.partition("+")[0], said.origin.revision.partition("+")[0]
        if said.score_kind not in _SETTLED and detector in ("", name) and revision in ("", version):
            found.setdefault((name, version, said.score_kind), []).append(
                # A category may have been renamed since then.
                (said, _right(item, said, words.get((item.project, said.category), said.category)))
            )
    if not found:
        asked = " ".join(word for word in (detector, revision) if word) or "a detector"
        raise SettingError(f"nobody has judged what {asked} proposed: accept and reject some of it first")
    if len(found) > 1:
        listed = "; ".join(
            f"{name} {version} ({kind.value}, {len(judged)})" for (name, version, kind), judged in found.items()
        )
        raise SettingError(f"what was judged is of several detectors or revisions: {listed}: name one of them")
    ((name, version, kind), judged), *_ = found.items()
    return ReviewedScores(
        name,
        version,
        kind,
        np.array([said.score for said, _ in judged], np.float32),
        np.array([right for _, right in judged], np.bool_),
        max(said.origin.threshold for said, _ in judged),
    )


def _judged(registry: Registry, project: str) -> Iterator[LabelledObject]:
    cursor, where = "", ObjectFilter(project=project, states=_JUDGED)
    while True:
        page = registry.list_objects(where, order=Order.OLDEST, limit=_PAGE, cursor=cursor)
        yield from page.objects
        cursor = page.cursor
        if not cursor:
            return


def _right(item: LabelledObject, said: ObjectLabel, category: str) -> bool:
    if item.state is ReviewState.REJECTED or item.category != category:
        return False
    boxes = np.asarray([said.box, item.box], np.float32)
    return bool(overlaps(boxes[:1], boxes[1:])[0, 0] > SAME_PLACE)
