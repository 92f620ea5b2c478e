# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What robots did with which objects, and what can be done with these, as lines of JSON for whoever learns from it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from flow_rag_vla.core.files import replaced_file
from flow_rag_vla.labeling.registry.actions import ActionSequence, Affordance
from flow_rag_vla.labeling.registry.errors import files_checked
from flow_rag_vla.labeling.registry.registry import Registry
from flow_rag_vla.labeling.registry.values import LabelledObject

SEQUENCES = "sequences.jsonl"
AFFORDANCES = "affordances.jsonl"
_AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Exported:
    """How many lines were written."""

    sequences: int
    affordances: int


def export_actions(registry: Registry, folder: str | Path, *, project: str = "") -> Exported:
    """Write ``sequences.jsonl`` and ``affordances.jsonl``, each whole or not at all; files that are there are replaced.

    A line of the first is an action sequence with its steps and its objects: role, class, box, place and time, track,
    and what can be done with them. A line of the second is an affordance with its object.

    Args:
        registry: from where.
        folder: to where; made if it is not there.
        project: only of this one; "": of all.

    Raises:
        UnknownError: there is no such project.
        RegistryError: no space is left, or the folder cannot be written.
    """
    pictures = _Pictures(registry)

    def of_sequences(part: Sequence[ActionSequence]) -> list[dict[str, Any]]:
        return [_sequence(registry, pictures, item) for item in part]

    def of_affordances(part: Sequence[Affordance]) -> list[dict[str, Any]]:
        objects = registry.get_many([item.object_id for item in part])
        pairs = zip(part, objects, strict=True)
        return [{**_affordance(item), "object": _object(pictures, thing)} for item, thing in pairs]

    with files_checked(str(folder)):
        sequences = _written(Path(folder) / SEQUENCES, registry.actions.all_sequences(project), of_sequences)
        affordances = _written(Path(folder) / AFFORDANCES, registry.actions.all_affordances(project), of_affordances)
    return Exported(sequences, affordances)


class _Pictures:
    """Where pictures are, asked once each."""

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._places: dict[str, dict[str, Any]] = {}

    def of(self, item: LabelledObject) -> dict[str, Any]:
        if item.image_id not in self._places:
            image, source = self._registry.image(item.image_id), self._registry.source(item.source_id)
            self._places[item.image_id] = {
                "image_id": image.image_id,
                "image": image.name,
                "source": source.path,
                "source_type": source.kind.value,
                "episode": source.episode,
                "width": image.width,
                "height": image.height,
                "frame": image.frame,
                "stamp_ns": image.stamp_ns,
            }
        return self._places[item.image_id]


def _written(path: Path, items: Iterable[Any], lines: Callable[[Sequence[Any]], list[dict[str, Any]]]) -> int:
    count = 0
    stream = iter(items)
    with replaced_file(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        while part := tuple(islice(stream, _AT_ONCE)):
            file.writelines(json.dumps(line, ensure_ascii=False) + "\n" for line in lines(part))
            count += len(part)
    return count


def _sequence(registry: Registry, pictures: _Pictures, item: ActionSequence) -> dict[str, Any]:
    things = registry.get_many([object_id for object_id, _ in item.objects])
    return {
        "sequence_id": item.sequence_id,
        "source": registry.source(item.source_id).path,
        "episode": item.episode,
        "instruction": item.instruction,
        "succeeded": item.succeeded,
        "start_ns": item.start_ns,
        "period_ns": item.period_ns,
        "actions": item.actions.tolist(),
        "objects": [
            {
                "role": role.value,
                **_object(pictures, thing),
                "affordances": [_affordance(one) for one in registry.actions.affordances(thing.object_id)],
            }
            for (_, role), thing in zip(item.objects, things, strict=True)
        ],
        "who": item.who,
    }


def _affordance(item: Affordance) -> dict[str, Any]:
    return {
        "name": item.name,
        "score": item.score,
        "score_kind": item.score_kind.value,
        "episode": item.episode,
        "parameters": dict(item.parameters),
        "who": item.who,
    }


def _object(pictures: _Pictures, item: LabelledObject) -> dict[str, Any]:
    return {
        "object_id": item.object_id,
        "category": item.category,
        "box": list(item.box),
        "state": item.state.value,
        "deleted": item.deleted,
        "track_id": item.track_id,
        **pictures.of(item),
    }
