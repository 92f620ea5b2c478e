# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Versions of datasets in a folder: ``name/v1``, ``name/v2``, ... A version is added whole and never changes."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from flow_rag_vla.labeling.curation.dataset_doubles import near_duplicates
from flow_rag_vla.labeling.curation.pictures import LEFT_OUT
from flow_rag_vla.labeling.datasets.dataset import DatasetItem, LabelDataset, Split, check_name
from flow_rag_vla.labeling.datasets.errors import DatasetError, disk_checked
from flow_rag_vla.labeling.datasets.folders import (
    IMAGES,
    MANIFEST,
    file_digest,
    fill,
    read_dataset,
    versions_in,
    write_dataset,
)
from flow_rag_vla.labeling.datasets.new_folder import new_folder
from flow_rag_vla.labeling.datasets.pictures import place_pictures
from flow_rag_vla.labeling.datasets.selection import Selection, filter_json, select, wanted
from flow_rag_vla.labeling.datasets.splits import SplitRatios, with_splits
from flow_rag_vla.labeling.datasets.summaries import DatasetSummary, summary_of
from flow_rag_vla.labeling.registry.memberships import Member
from flow_rag_vla.labeling.registry.queries import ObjectFilter
from flow_rag_vla.labeling.registry.registry import Registry
from flow_rag_vla.labeling.registry.values import SourceKind
from flow_rag_vla.learn.progress import Progress, silent

FOLDER = "datasets"
"""Of the versions, in the registry's folder."""
_LOCK = ".lock"


@dataclass(frozen=True, slots=True)
class DatasetOrder:
    """What a version is to be made of.

    where: which objects; rejected ones only if it names that state; seed: of the splits, see ``with_splits``
    keep: pictures that the version before has stay in their splits; link: links to the pictures instead of copies
    without_duplicates: of pictures that show the same, one is taken
    apart: pictures of a folder may be in different splits; those of a video, bag, episode or track never are
    """

    name: str
    where: ObjectFilter = field(default_factory=ObjectFilter)
    ratios: SplitRatios = field(default_factory=SplitRatios)
    seed: int = 0
    keep: bool = True
    link: bool = False
    without_duplicates: bool = False
    apart: bool = False


class DatasetStore:
    """The datasets below a folder. Several processes may read and write it."""

    def __init__(self, root: str | Path) -> None:
        """Refer to a folder; it is made when the first version is added."""
        self.root = Path(root).expanduser()

    @classmethod
    def of(cls, registry: Registry) -> DatasetStore:
        """The datasets that lie beside a registry."""
        return cls(registry.folder / FOLDER)

    def versions(
        self, name: str = "", *, project: str = "", limit: int = 0, after: tuple[str, int] = ("", 0)
    ) -> tuple[DatasetSummary, ...]:
        """Every version, by name, oldest first.

        Args:
            name: only of this dataset; "" for all.
            project: only of what was made from objects of this one; "" for all, also what was imported.
            limit: at most so many; 0 for all. Manifests beyond them are not read.
            after: name of the folder and version of the last one of the page before.

        Raises:
            DatasetError: a name that is none, or a manifest that cannot be read.
        """
        names = [check_name(name)] if name else sorted(path.name for path in self._folders())
        found: list[DatasetSummary] = []
        for one in names:
            if one < after[0]:
                continue
            for version, folder in versions_in(self.root / one).items():
                if (one, version) <= after or not (folder / MANIFEST).is_file():
                    continue
                summary = summary_of(folder)
                if not project or summary.provenance.get("project") == project:
                    found.append(summary)
                if limit and len(found) == limit:
                    return tuple(found)
        return tuple(found)

    def newest(self, name: str, count: int) -> tuple[tuple[DatasetSummary, ...], int]:
        """The newest versions of a dataset, oldest first, and how many versions there are.

        Raises:
            DatasetError: see ``versions``.
        """
        there = [path for path in versions_in(self.root / check_name(name)).values() if (path / MANIFEST).is_file()]
        return tuple(summary_of(path) for path in there[-count:]), len(there)

    def _folders(self) -> Iterator[Path]:
        if self.root.is_dir():
            yield from (path for path in self.root.iterdir() if path.is_dir() and not path.name.startswith("."))

    def folder(self, name: str, version: int = 0) -> Path:
        """Where a version lies; 0: the newest.

        Raises:
            DatasetError: ``dataset_missing``.
        """
        there = versions_in(self.root / check_name(name))
        wanted = version or max(there, default=0)
        if wanted not in there:
            # A build that failed leaves the folder of its name, with a lock and nothing else.
            names = sorted(path.name for path in self._folders() if versions_in(path))
            known = ", ".join(f"v{number}" for number in there) or ", ".join(names[:20])
            what = f"{name}@v{version}" if version else name
            raise DatasetError(
                f"there is no dataset {what} in {self.root}; known: {known or 'none'}", "dataset_missing"
            )
        return there[wanted]

    def get(self, name: str, version: int = 0) -> LabelDataset:
        """A version; 0: the newest.

        Raises:
            DatasetError: ``dataset_missing``, or what ``read_dataset`` says.
        """
        return read_dataset(self.folder(name, version))

    def summary(self, name: str, version: int = 0) -> DatasetSummary:
        """What a version's manifest says; 0: the newest.

        Raises:
            DatasetError: see ``get``.
        """
        return summary_of(self.folder(name, version))

    def add(
        self,
        dataset: LabelDataset,
        *,
        files: Mapping[str, Path] | None = None,
        link: bool = False,
        progress: Progress = silent,
    ) -> LabelDataset:
        """Store a dataset, such as one that was imported, as the next version of its name; see ``write_dataset``.

        Raises:
            DatasetError: see ``write_dataset``; ``dataset_busy`` while another version of it is being made.
        """
        with self._turn(dataset.name):
            version = self._next(dataset.name)
            stored = replace(dataset, version=version, created_ns=time.time_ns())
            place = self._place(dataset.name, version)
            return write_dataset(stored, place, files=files, link=link, progress=progress)

    def build(self, registry: Registry, order: DatasetOrder, *, who: str, progress: Progress = silent) -> LabelDataset:
        """Make the next version of a dataset from a registry, and note there what is in it.

        Args:
            registry: open.
            order: what it is to be made of.
            who: who asks.
            progress: called as pictures are read and written; an error that it raises ends the work.

        Raises:
            DatasetError: ``dataset_empty``, ``split_impossible``, ``dataset_busy``, a picture that is gone or changed,
                ``vectors_missing`` (to tell duplicates by), no space left, ``canceled``. Nothing of the version is
                left then.
            RegistryError: a filter that makes no sense, a lost mask, a busy database, ``embedder_mismatch`` (to tell
                duplicates by). Nothing is left either.
        """
        check_name(order.name)
        with self._turn(order.name):
            chosen = select(registry, order.where, lambda count: progress(0, 0, f"{count} objects"))
            version = max(self._next(order.name), _next_recorded(registry, chosen.project, order.name))
            self._check_project(order.name, chosen.project)
            before = self.get(order.name) if order.keep and versions_in(self.root / order.name) else None
            place = self._place(order.name, version)
            with new_folder(place) as unfinished:
                (unfinished / IMAGES).mkdir()
                items = _with_pictures(chosen, unfinished / IMAGES, order.link, progress)
                provenance = _provenance(registry, order, chosen, who, before)
                if order.without_duplicates:
                    there = len(items)
                    items = _without_duplicates(registry, order.where, items, unfinished / IMAGES, progress)
                    provenance[LEFT_OUT] = there - len(items)
                keep = {item.image_id: item.split for item in before.items} if before is not None else {}
                folders = (one.source_id for one in chosen.sources.values() if one.kind is SourceKind.FOLDER)
                items = with_splits(items, order.ratios, order.seed, keep, set(folders) if order.apart else ())
                dataset = LabelDataset(
                    name=order.name,
                    categories=chosen.categories,
                    items=tuple(item for split in Split for item in items if item.split is split),
                    version=version,
                    created_ns=time.time_ns(),
                    provenance=provenance,
                    images=place / IMAGES,
                )
                fill(dataset, unfinished)
                progress(len(items), len(items), "done")
            try:
                _record(registry, dataset, chosen.project, who, place)
            except BaseException:
                shutil.rmtree(place, ignore_errors=True)
                raise
        return dataset

    def _place(self, name: str, version: int) -> Path:
        return self.root / name / f"v{version}"

    def _next(self, name: str) -> int:
        return max(versions_in(self.root / name), default=0) + 1

    def _check_project(self, name: str, project: str) -> None:
        for summary in self.versions(name)[-1:]:
            other = summary.provenance.get("project", project)
            if other != project:
                raise DatasetError(
                    f"dataset {name} is of project {other!r}, not {project!r}: choose another name", "dataset_exists"
                )

    @contextmanager
    def _turn(self, name: str) -> Iterator[None]:
        """One at a time makes versions of a dataset; the lock ends with its process."""
        folder = self.root / check_name(name)
        with disk_checked(folder):
            folder.mkdir(parents=True, exist_ok=True)
            lock = os.open(folder / _LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise DatasetError(
                    f"a version of dataset {name} is being made: wait for it, or cancel it", "dataset_busy"
                ) from error
            yield
        finally:
            os.close(lock)


def _with_pictures(chosen: Selection, folder: Path, link: bool, progress: Progress) -> tuple[DatasetItem, ...]:
    total = len(chosen.items)
    count = 0

    def done(name: str) -> None:
        nonlocal count
        count += 1
        progress(count, total, name)

    files: dict[str, str] = {}
    by_source: dict[str, list[str]] = {}
    for item in chosen.items:
        by_source.setdefault(item.source_id, []).append(item.image_id)
    for source_id, ids in by_source.items():
        images = [chosen.images[image_id] for image_id in ids]
        files |= place_pictures(chosen.sources[source_id], images, folder, done, link=link)
    return tuple(
        replace(item, file=files[item.image_id], sha256=file_digest(folder / files[item.image_id]))
        for item in chosen.items
    )


def _without_duplicates(
    registry: Registry, where: ObjectFilter, items: tuple[DatasetItem, ...], folder: Path, progress: Progress
) -> tuple[DatasetItem, ...]:
    """One of each group of pictures that show the same; the files of the others are removed."""

    def told(done: int, total: int, note: str = "") -> None:
        progress(done, total, "comparing pictures")

    left_out = near_duplicates(registry, wanted(where), items, folder, progress=told)
    with disk_checked(folder):
        for item in items:
            if item.image_id in left_out:
                (folder / item.file).unlink()
    return tuple(item for item in items if item.image_id not in left_out)


def _provenance(
    registry: Registry, order: DatasetOrder, chosen: Selection, who: str, before: LabelDataset | None
) -> dict[str, Any]:
    return {
        "made by": who,
        "registry": registry.registry_id,
        "project": chosen.project,
        "filter": filter_json(order.where),
        "split": {split.value: round(share, 6) for split, share in order.ratios.shares.items()},
        "seed": order.seed,
        "splits kept from": before.label if before is not None else "",
        **({"pictures of a folder": "in different splits"} if order.apart else {}),
    }


def _next_recorded(registry: Registry, project: str, name: str) -> int:
    return max((one.version for one in registry.datasets.list_versions(project, name)), default=0) + 1


def _record(registry: Registry, dataset: LabelDataset, project: str, who: str, place: Path) -> None:
    members = [
        Member(annotation.annotation_id, item.split.value) for item in dataset.items for annotation in item.annotations
    ]
    description = {**dataset.provenance, "folder": str(place), "manifest": file_digest(place / MANIFEST)}
    registry.datasets.add(
        dataset.name, members, who=who, project=project, description=description, version=dataset.version
    )
