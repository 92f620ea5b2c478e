# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Classes from a few examples: what people judged, by the vectors, tells what the other objects are."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from flow_rag_vla.labeling.curation.pool import Pool, read_pool
from flow_rag_vla.labeling.curation.probe import NOTHING, fit_probe
from flow_rag_vla.labeling.detections import Origin, ScoreKind
from flow_rag_vla.labeling.pipeline.errors import SettingError
from flow_rag_vla.labeling.registry.queries import ObjectFilter
from flow_rag_vla.labeling.registry.registry import Registry
from flow_rag_vla.labeling.registry.values import LabelDraft, ReviewState

MODEL = "few_shot"
"""By this name its labels stand beside those of other models."""
MOST_EXAMPLES = 20_000
_JUDGED = tuple(state for state in ReviewState if state is not ReviewState.UNREVIEWED)
_FOLDS = 5
_LABELS_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an object is by the examples; category: "" for nothing at all; probability: of the softmax, 0 to 1."""

    object_id: str
    is_now: str
    category: str
    probability: float


@dataclass(frozen=True, slots=True)
class FewShot:
    """What the examples say of others.

    verdicts: of each object that was asked about, the surest first; examples: how many of each class, "" for rejected
    told: share of the examples whose class the others tell, each left out in turn in a fold; revision: of the examples
    """

    verdicts: tuple[Verdict, ...]
    examples: dict[str, int]
    told: float
    revision: str


def classify(registry: Registry, where: ObjectFilter | None = None) -> FewShot:
    """What unreviewed objects are, by the judged ones of the filter's project.

    Args:
        registry: an open registry.
        where: which objects are asked about; its ``states`` and ``validated`` are not looked at.

    Raises:
        SettingError: fewer than two classes were judged; rejected objects are one.
        ConflictError: ``embedder_mismatch``: vectors of several embedders.
        InvalidInputError, UnknownError: the filter makes no sense.
    """
    where = replace(where or ObjectFilter(), states=(ReviewState.UNREVIEWED,), validated=None)
    judged = read_pool(registry, ObjectFilter(project=where.project, states=_JUDGED), most=MOST_EXAMPLES)
    asked = read_pool(registry, where)
    classes = _classes(judged)
    if len(set(classes)) < 2:
        raise SettingError(
            f"the {len(classes)} judged objects with a vector are of {len(set(classes))} class(es): accept, relabel or "
            "reject a few of at least two"
        )
    if len(asked) and asked.embedder != judged.embedder:
        # One of them is of a project that the other is not of: read together they would have been refused.
        raise SettingError(f"the judged have vectors of {judged.embedder}, the others of {asked.embedder}: embed anew")
    text = repr(sorted(zip(judged.object_ids, classes, strict=True)))
    verdicts: list[Verdict] = []
    if len(asked):
        probe = fit_probe(judged.vectors, classes)
        shares = probe.probabilities(asked.vectors)
        best = shares.argmax(axis=1)
        verdicts = [
            Verdict(asked.object_ids[row], asked.labels[row], probe.classes[best[row]], float(shares[row, best[row]]))
            for row in np.argsort(-shares.max(axis=1), kind="stable")
        ]
    revision = hashlib.sha256(text.encode()).hexdigest()[:12]
    return FewShot(tuple(verdicts), dict(Counter(classes)), _told(judged, classes), revision)


def propose(registry: Registry, verdicts: Sequence[Verdict], revision: str, *, who: str) -> int:
    """Put verdicts beside what is said of the objects, for people to take; give how many are new.

    The objects stay what they are. "Nothing at all" is no class and cannot be put there.

    Raises:
        RegistryError: it could not be stored.
    """
    said = [one for one in verdicts if one.category != NOTHING]
    added = 0
    for start in range(0, len(said), _LABELS_AT_ONCE):
        part = said[start : start + _LABELS_AT_ONCE]
        objects = registry.get_many([one.object_id for one in part])
        origin = Origin(MODEL, revision)
        added += registry.add_labels(
            [
                LabelDraft(one.object_id, one.category, item.box, one.probability, ScoreKind.SOFTMAX, origin)
                for one, item in zip(part, objects, strict=True)
                if not item.deleted
            ],
            who=who,
        )
    return added


def _classes(judged: Pool) -> list[str]:
    rejected = ReviewState.REJECTED
    pairs = zip(judged.labels, judged.states, strict=True)
    return [NOTHING if state is rejected else label for label, state in pairs]


def _told(judged: Pool, classes: Sequence[str]) -> float:
    """Share of the examples whose class a probe of the other folds tells; a class of one example is never told."""
    folds = np.random.default_rng(0).permutation(len(classes)) % min(_FOLDS, len(classes))
    right = 0
    for fold in range(int(folds.max()) + 1):
        out, rest = np.flatnonzero(folds == fold), np.flatnonzero(folds != fold)
        probe = fit_probe(judged.vectors[rest], [classes[row] for row in rest.tolist()])
        predicted = probe.predict(judged.vectors[out])
        right += sum(name == classes[row] for name, row in zip(predicted, out.tolist(), strict=True))
    return right / len(classes)
