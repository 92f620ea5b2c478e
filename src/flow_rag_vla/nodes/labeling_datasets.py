# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Datasets over ROS: what a goal asks for, and the run that does it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flow_rag_vla.labeling.datasets.dataset import LabelDataset
from flow_rag_vla.labeling.datasets.errors import CanceledError as NothingLeftError
from flow_rag_vla.labeling.datasets.errors import DatasetError
from flow_rag_vla.labeling.datasets.exchange import export_dataset, format_named
from flow_rag_vla.labeling.datasets.splits import SplitRatios
from flow_rag_vla.labeling.datasets.store import DatasetOrder, DatasetStore
from flow_rag_vla.labeling.pipeline.pipeline import StageTimes
from flow_rag_vla.labeling.registry.queries import ObjectFilter
from flow_rag_vla.labeling.registry.registry import Registry
from flow_rag_vla.labeling.runs import RunReport
from flow_rag_vla.nodes.labeling_runs import CanceledError, Done, Run
from flow_rag_vla.nodes.stamps import to_ns
from flow_rag_vla_interfaces.action import BuildDataset

_FLOAT32 = 1e-6
"""By which a score that a detector gave as float32 may lie above what it was meant to be."""


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """A goal that makes sense. output: where an export goes, None for no export."""

    order: DatasetOrder
    who: str
    kind: str = ""
    output: Path | None = None


@dataclass(frozen=True, slots=True)
class Built(Done):
    """What a run left, and the version that it made."""

    dataset: LabelDataset


def build_request(goal: BuildDataset.Goal, who: str) -> BuildRequest:
    """What a goal asks for; ``who`` where it names nobody.

    Raises:
        DatasetError: shares that are none, an unknown format, an export without a folder.
    """
    shares = [round(float(share), 6) for share in (goal.train, goal.val, goal.test)]
    total = sum(shares)
    ratios = SplitRatios(*(share / total for share in shares)) if total > 0.0 else SplitRatios()
    if not all(share >= 0.0 for share in shares):  # also not a number
        raise DatasetError(f"train, val, test are {shares}: give three shares of 0 or more")
    if bool(goal.format) != bool(goal.output):
        raise DatasetError("an export needs both a format and an output folder: give both, or neither")
    if goal.format:
        format_named(goal.format)
    where = ObjectFilter(
        project=goal.project,
        categories=tuple(goal.categories),
        source_ids=tuple(goal.source_ids),
        episodes=tuple(goal.episodes),
        validated=True if goal.only_validated else None,
        min_score=_bound(goal.minimum_confidence),
        max_score=_bound(goal.maximum_confidence, _FLOAT32),
        captured_from_ns=to_ns(goal.captured_from),
        captured_until_ns=to_ns(goal.captured_until),
    )
    output = Path(goal.output).expanduser() if goal.output else None
    order = DatasetOrder(goal.name, where, ratios, int(goal.seed), without_duplicates=bool(goal.without_duplicates))
    return BuildRequest(order, goal.person or who, goal.format, output)


def _bound(share: float, slack: float = 0.0) -> float | None:
    """A limit on scores as it was meant: 0.6 is 0.60000002 in a message. 0 is none."""
    if share == 0.0:
        return None
    meant = round(float(share), 6)
    return min(meant + slack, 1.0) if meant <= 1.0 else meant  # What is no share is refused by the registry.


def build_dataset(asked: BuildRequest, registry: Registry, run: Run) -> Built:
    """Make the version, and its export. A run that is withdrawn or fails leaves nothing of what it was making.

    Raises:
        LabelingError, RegistryError: it cannot be made; an export that fails leaves the version.
    """

    def progress(done: int, total: int, note: str = "") -> None:
        try:
            run.progress(done, total, note)
        except CanceledError as error:
            raise NothingLeftError("the run was withdrawn: nothing of what it was making is left") from error

    run.make_way()
    made = DatasetStore.of(registry).build(registry, asked.order, who=asked.who, progress=progress)
    run.objects = made.annotation_count
    if asked.output is not None:
        export_dataset(made, asked.kind, asked.output, progress=progress)
    sources = tuple(sorted({item.source_id for item in made.items}))
    return Built(
        RunReport(len(made.items), made.annotation_count, (), StageTimes()), sources, made.annotation_count, made
    )
