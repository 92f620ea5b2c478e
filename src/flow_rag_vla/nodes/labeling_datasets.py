# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Datasets over ROS: what a goal asks for, and the run that does it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flow_rag_vla.labeling.curation.pictures import LEFT_OUT
from flow_rag_vla.labeling.datasets.dataset import LabelDataset, Split
from flow_rag_vla.labeling.datasets.errors import CanceledError as NothingLeftError
from flow_rag_vla.labeling.datasets.errors import DatasetError
from flow_rag_vla.labeling.datasets.exchange import export_dataset, format_named
from flow_rag_vla.labeling.datasets.splits import SplitRatios
from flow_rag_vla.labeling.datasets.store import DatasetOrder, DatasetStore
from flow_rag_vla.labeling.pipeline.pipeline import StageTimes
from flow_rag_vla.labeling.registry.queries import ObjectFilter, parse_attributes
from flow_rag_vla.labeling.registry.registry import Registry
from flow_rag_vla.labeling.runs import RunReport
from flow_rag_vla.nodes.labeling_requests import area_bound, share_bound, states_of
from flow_rag_vla.nodes.labeling_runs import CanceledError, Done, Run
from flow_rag_vla.nodes.stamps import to_ns
from flow_rag_vla_interfaces.action import BuildDataset


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
        MessageError, InvalidInputError: statuses or attributes that are none.
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
        models=tuple(goal.models),
        states=states_of(goal.statuses),
        min_score=share_bound(goal.minimum_confidence),
        max_score=share_bound(goal.maximum_confidence, above=True),
        min_area=area_bound(goal.minimum_area),
        max_area=area_bound(goal.maximum_area),
        attributes=parse_attributes(goal.attributes),
        captured_from_ns=to_ns(goal.captured_from),
        captured_until_ns=to_ns(goal.captured_until),
    )
    output = Path(goal.output).expanduser() if goal.output else None
    order = DatasetOrder(
        goal.name,
        where,
        ratios,
        int(goal.seed),
        keep=not goal.afresh,
        link=bool(goal.link),
        without_duplicates=bool(goal.without_duplicates),
        apart=bool(goal.apart),
    )
    return BuildRequest(order, goal.person or who, goal.format, output)


def tell_version(made: LabelDataset, result: BuildDataset.Result) -> None:
    """Write a version into the result of a goal."""
    result.version, result.folder = made.version, str(made.images.parent)
    result.categories = list(made.categories)
    for split in Split:
        setattr(result, f"{split.value}_images", len(made.of_split(split)))
    result.left_out = made.provenance.get(LEFT_OUT, 0)


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
