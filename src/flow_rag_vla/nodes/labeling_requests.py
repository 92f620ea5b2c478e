# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What the labeling node is asked for, as values of the domain. Zeros and empty fields ask for nothing."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from flow_rag_vla.data.message_values import MessageError
from flow_rag_vla.labeling.detections import Detections, ScoreKind
from flow_rag_vla.labeling.pipeline import LabelRequest
from flow_rag_vla.labeling.pipeline.errors import SettingError
from flow_rag_vla.labeling.pipeline.request import parse_synonyms
from flow_rag_vla.labeling.pipeline.tiles import Tiling
from flow_rag_vla.labeling.registry.queries import ObjectFilter, Order, parse_attributes
from flow_rag_vla.labeling.registry.values import Embedder, ObjectChange, ReviewState
from flow_rag_vla.labeling.training.orders import EvaluateOrder
from flow_rag_vla.labeling.training.settings import DetectorTraining, settings_from
from flow_rag_vla.nodes.labeling_messages import SCORE_KINDS, box_of, state_of
from flow_rag_vla.nodes.stamps import to_ns
from flow_rag_vla_interfaces import srv
from flow_rag_vla_interfaces.action import EvaluateDetector, TrainDetector

_FLOAT32 = 1e-6
"""By which a score that a detector gave as float32 may lie above what it was meant to be."""
_TRAINING_FIELDS = ("architecture", "size", "model", "width", "height", "epochs", "batch", "rate")
"""Of a goal, named as the settings of a training are; empty or 0: the usual ones."""
_WHETHER = {
    srv.SearchObjects.Request.EITHER: None,
    srv.SearchObjects.Request.WITH: True,
    srv.SearchObjects.Request.WITHOUT: False,
}


def label_request(asked: Any, usual: float) -> LabelRequest:
    """What ``Detect``, ``AutoLabel`` or ``LabelBag`` ask of the models.

    Args:
        asked: the request or goal.
        usual: threshold where it names none.

    Raises:
        PromptError, SettingError: prompts, synonyms, a threshold or tiles that make no sense.
    """
    width, height = int(asked.tile_width), int(asked.tile_height)
    return LabelRequest(
        tuple(asked.prompts),
        _meant(asked.threshold) if asked.threshold else usual,
        synonyms=parse_synonyms(asked.synonyms),
        tiling=Tiling(width, height) if width or height else None,
    )


def seconds_between(rate: float) -> float:
    """Least seconds between two images of which so many are labelled a second; 0: all are.

    Raises:
        SettingError: it is negative, or no number.
    """
    if not 0.0 <= rate < math.inf:
        raise SettingError(f"rate is {rate}, expected images a second, or 0 for all")
    return 1.0 / rate if rate > 0.0 else 0.0


def search_filter(asked: srv.SearchObjects.Request) -> ObjectFilter:
    """Which objects a search is for.

    Raises:
        MessageError: conditions that exclude each other, or codes that there are not.
        InvalidInputError: attributes of another form.
    """
    if asked.only_unreviewed and (asked.only_validated or len(asked.statuses)):
        raise MessageError("only_unreviewed, only_validated and statuses exclude each other: give one of them")
    return ObjectFilter(
        project=asked.project,
        categories=_together(asked.category, asked.categories),
        source_ids=_together(asked.source_id, asked.source_ids),
        image_ids=tuple(asked.image_ids),
        track_ids=tuple(asked.track_ids),
        episodes=tuple(asked.episodes),
        states=(ReviewState.UNREVIEWED,) if asked.only_unreviewed else states_of(asked.statuses),
        validated=True if asked.only_validated else None,
        validated_by=asked.validated_by,
        models=tuple(asked.models),
        score_kinds=tuple(_score_kind(code) for code in asked.score_kinds),
        min_score=share_bound(asked.minimum_confidence),
        max_score=share_bound(asked.maximum_confidence, above=True),
        captured_from_ns=to_ns(asked.captured_from),
        captured_until_ns=to_ns(asked.captured_until),
        created_from_ns=to_ns(asked.created_from),
        created_until_ns=to_ns(asked.created_until),
        has_mask=_whether("with_mask", asked.with_mask),
        has_embedding=_whether("with_embedding", asked.with_embedding),
        min_area=area_bound(asked.minimum_area),
        max_area=area_bound(asked.maximum_area),
        attributes=parse_attributes(asked.attributes),
    )


def search_order(word: str) -> Order:
    """How the pages of a search are sorted; by confidence, lowest first, where nothing is said.

    Raises:
        MessageError: an unknown word.
    """
    try:
        return Order(word) if word else Order.LOWEST_SCORE
    except ValueError:
        raise MessageError(f"order is {word!r}, expected one of {', '.join(one.value for one in Order)}") from None


def object_change(asked: srv.UpdateObject.Request) -> ObjectChange:
    """What is to be different about an object.

    Raises:
        MessageError: a status that there is not.
        InvalidInputError: attributes of another form.
    """
    return ObjectChange(
        category=asked.category if asked.set_category else None,
        box=box_of(asked.box) if asked.set_box else None,
        state=state_of(asked.status) if asked.set_status else None,
        quality=_meant(asked.quality) if asked.set_quality else None,
        track_id=asked.track_id if asked.set_track else None,
        attributes=parse_attributes(asked.attributes) if asked.set_attributes else None,
    )


def training_settings(goal: TrainDetector.Goal) -> DetectorTraining:
    """How a detector is to be trained.

    Raises:
        SettingError: settings that there are not, out of their range, or given twice.
        InvalidInputError: settings of another form than ``name=value``.
    """
    given = {name: getattr(goal, name) for name in _TRAINING_FIELDS if getattr(goal, name)}
    further = parse_attributes(goal.settings)
    twice = sorted(set(further).intersection((*_TRAINING_FIELDS, "seed")))
    if twice:
        raise SettingError(f"settings name {', '.join(twice)}: these are fields of the goal, give them there")
    return settings_from({**given, "seed": int(goal.seed), **further})


def evaluate_order(goal: EvaluateDetector.Goal, dataset: str) -> EvaluateOrder:
    """How a detector is to be measured on a dataset."""
    usual = EvaluateOrder(dataset)
    return EvaluateOrder(
        dataset,
        goal.part or usual.part,
        goal.detector or usual.detector,
        goal.model,
        float(goal.threshold) or usual.threshold,
        int(goal.max_images),
        goal.device or usual.device,
    )


def embedder_named(name: str, found: Detections) -> Embedder | None:
    """Who made the embeddings of some detections, as ``name@revision``; where nothing is said, who found them."""
    if found.embeddings is None:
        return None
    model, _, revision = name.partition("@") if name else (found.origin.model, "", found.origin.revision)
    return Embedder(model, revision, int(found.embeddings.shape[1]))


def states_of(statuses: Iterable[int]) -> tuple[ReviewState, ...]:
    """The states that some ``STATUS_*`` name.

    Raises:
        MessageError: one of them names none.
    """
    return tuple(state_of(int(status)) for status in statuses)


def _meant(share: float) -> float:
    """A share of a message as it was meant: 0.6 is 0.60000002 there, and another request than that of a command."""
    return round(float(share), 6)


def share_bound(share: float, *, above: bool = False) -> float | None:
    """A limit on scores as it was meant. 0 is none.

    Args:
        share: as it came.
        above: it is the greatest score: those that a detector gave as float32 may be a hair above it.
    """
    if share == 0.0:
        return None
    meant = _meant(share)
    return min(meant + (_FLOAT32 if above else 0.0), 1.0) if meant <= 1.0 else meant  # The registry refuses others.


def area_bound(area: float) -> float | None:
    """A limit on areas; 0 is none."""
    return None if area == 0.0 else float(area)


def _together(one: str, more: Iterable[str]) -> tuple[str, ...]:
    return (*([one] if one else []), *more)


def _score_kind(code: int) -> ScoreKind:
    if code not in SCORE_KINDS:
        raise MessageError(f"a score_kind is {code}, expected one of {sorted(SCORE_KINDS)}")
    return SCORE_KINDS[code]


def _whether(field: str, code: int) -> bool | None:
    if code not in _WHETHER:
        raise MessageError(f"{field} is {code}, expected one of {sorted(_WHETHER)}")
    return _WHETHER[code]
