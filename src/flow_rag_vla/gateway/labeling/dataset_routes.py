# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Datasets: defined, built, exported, downloaded, compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.responses import FileResponse, PlainTextResponse
from pydantic import ValidationError

from flow_rag_vla.core.files import write_text
from flow_rag_vla.gateway.access import Reviewer, Viewer
from flow_rag_vla.gateway.errors import bad_request, not_found
from flow_rag_vla.gateway.labeling import dataset_schemas as schemas
from flow_rag_vla.gateway.labeling.dataset_builds import Build, Builds
from flow_rag_vla.gateway.labeling.dataset_schemas import DatasetName, Version
from flow_rag_vla.gateway.labeling.labels import Labels
from flow_rag_vla.gateway.labeling.paging import USUAL_PAGE, Cursor, Limit, Project, invalid_cursor
from flow_rag_vla.gateway.labeling.places import Places, without_folders
from flow_rag_vla.gateway.labeling.refusals import RESPONSES, LabelRoute
from flow_rag_vla.labeling.datasets.dataset import LabelDataset
from flow_rag_vla.labeling.datasets.diff import Changed
from flow_rag_vla.labeling.datasets.diff import diff as compared
from flow_rag_vla.labeling.datasets.errors import DatasetError, disk_checked
from flow_rag_vla.labeling.datasets.exchange import FORMATS, export_dataset, format_named, zip_folder
from flow_rag_vla.labeling.datasets.folders import CARD
from flow_rag_vla.labeling.datasets.splits import SplitRatios
from flow_rag_vla.labeling.datasets.store import DatasetOrder, DatasetStore
from flow_rag_vla.labeling.datasets.summaries import DatasetSummary
from flow_rag_vla.labeling.registry.queries import ObjectFilter

DEFINITION = "definition.json"
"""In a dataset's folder: what its versions are made of, as it was sent."""
EXPORTS = "exports"
MOST_IDS = 1_000
_ZIP: dict[int | str, dict[str, Any]] = {
    200: {"content": {"application/zip": {}}, "description": "The export as one file."}
}
_CARD: dict[int | str, dict[str, Any]] = {200: {"content": {"text/markdown": {}}, "description": "The card."}}


def dataset_routes(labels: Labels) -> APIRouter:
    """The routes below ``datasets``."""
    router = APIRouter(route_class=LabelRoute, responses=RESPONSES)
    store, places = DatasetStore.of(labels.registry), labels.places
    builds = Builds(labels.registry, store)

    @router.get("/datasets")
    def find(
        _person: Viewer, project: Project = "", limit: Limit = USUAL_PAGE, cursor: Cursor = ""
    ) -> schemas.DatasetPage:
        """A page of the versions of all datasets, by name, oldest first, and what can be built."""
        if project:
            labels.registry.project(project)
        after = _place(cursor)
        found = store.versions(project=project, limit=limit + 1, after=after)
        shown, end = found[:limit], _last(found[:limit]) if len(found) > limit else None
        # A definition stands before the versions of its dataset. Where more than fit in a page have no versions, or
        # none yet, the page ends with them.
        defined = sorted(path.parent.name for path in store.root.glob(f"*/{DEFINITION}"))
        defined = [name for name in defined if after < (name, 0) and (end is None or (name, 0) < end)]
        if project:
            defined = [name for name in defined if _project(store, name) == project]
        if len(defined) > limit:
            defined, beyond = defined[:limit], defined[limit]
            shown = tuple(one for one in shown if _last([one])[0] < beyond)
            end = max([(defined[-1], 0), *(_last([one]) for one in shown)])
        return schemas.DatasetPage(
            items=[_version(one) for one in shown],
            next_cursor="" if end is None else _cursor(end),
            defined=defined,
            formats={one.name: one.about for one in FORMATS.values()},
        )

    @router.post("/datasets", status_code=201)
    def define(sent: schemas.DatasetSent, _person: Reviewer) -> schemas.DatasetGiven:
        """Say what the versions of a dataset are to be made of; nothing is made yet."""
        format_named(sent.format)
        _order(sent)
        file = store.root / sent.name / DEFINITION
        if file.exists() or store.versions(sent.name, limit=1):
            raise DatasetError(
                f"there is a dataset {sent.name} already: choose another name, or PUT datasets/{sent.name}",
                "dataset_exists",
            )
        _define(file, sent)
        return _dataset(store, builds, sent.name)

    @router.get("/datasets/{name}")
    def get(name: DatasetName, _person: Viewer) -> schemas.DatasetGiven:
        """One dataset with its versions and its last build."""
        return _dataset(store, builds, name)

    @router.put("/datasets/{name}")
    def redefine(name: DatasetName, sent: schemas.DatasetSent, _person: Reviewer) -> schemas.DatasetGiven:
        """Say what the next versions are to be made of, also of a dataset that was made elsewhere; others stay."""
        if sent.name != name:
            raise bad_request("contradiction", f"the address says {name}, the body {sent.name}", "send one name")
        format_named(sent.format)
        _order(sent)
        file = store.root / name / DEFINITION
        if not file.exists():
            store.folder(name)
        _define(file, sent)
        return _dataset(store, builds, name)

    @router.post("/datasets/{name}/build", status_code=202)
    def build(name: DatasetName, person: Reviewer) -> schemas.BuildGiven:
        """Begin to make the next version; ``GET datasets/{name}`` tells how far it is."""
        definition = _definition(store, name)
        if definition is None:
            store.folder(name)
            raise DatasetError(
                f"dataset {name} was made elsewhere: say with PUT datasets/{name} what is next", "dataset_exists"
            )
        return _build(builds.start(_order(definition), person.name))

    @router.delete("/datasets/{name}/build", status_code=202)
    def cancel(name: DatasetName, _person: Reviewer) -> schemas.BuildGiven:
        """Withdraw a build that is under way; nothing of the version is left."""
        found = builds.cancel(name)
        if found is None:
            raise not_found("no_build", f"no build of {name} was begun", "see the dataset")
        return _build(found)

    @router.get("/datasets/{name}/diff")
    def diff(
        name: DatasetName,
        old: Annotated[int, Query(ge=1, lt=1 << 31)],
        new: Annotated[int, Query(ge=1, lt=1 << 31)],
        _person: Viewer,
    ) -> schemas.DiffGiven:
        """What changed from one version to another."""
        found = compared(store.get(name, old), store.get(name, new))
        return schemas.DiffGiven(
            old=found.old,
            new=found.new,
            images=_part(found.added_images, found.removed_images, found.changed_images),
            labels=_part(found.added_labels, found.removed_labels, found.changed_labels),
            added_categories=list(found.added_categories),
            removed_categories=list(found.removed_categories),
        )

    @router.get("/datasets/{name}/versions")
    def find_versions(
        name: DatasetName, _person: Viewer, limit: Limit = USUAL_PAGE, cursor: Cursor = ""
    ) -> schemas.VersionPage:
        """A page of the versions of one dataset, oldest first."""
        after = _place(cursor)
        if cursor and after[0] != name:
            raise invalid_cursor(cursor)
        if _definition(store, name) is None:
            store.folder(name)
        found = store.versions(name, limit=limit + 1, after=after)
        items = [_version(one) for one in found[:limit]]
        following = _cursor(_last(found[:limit])) if len(found) > limit else ""
        return schemas.VersionPage(items=items, next_cursor=following)

    @router.get("/datasets/{name}/versions/{version}")
    def get_version(name: DatasetName, version: Version, _person: Viewer) -> schemas.VersionGiven:
        """One version."""
        return _version(store.summary(name, version))

    @router.get(
        "/datasets/{name}/versions/{version}/card", response_class=PlainTextResponse, responses={**RESPONSES, **_CARD}
    )
    def card(name: DatasetName, version: Version, _person: Viewer) -> PlainTextResponse:
        """The card of a version, Markdown."""
        file = store.folder(name, version) / CARD
        with disk_checked(file):
            return PlainTextResponse(without_folders(file.read_text(encoding="utf-8")), media_type="text/markdown")

    @router.post("/datasets/{name}/export", status_code=201)
    def export(name: DatasetName, _person: Reviewer, sent: schemas.ExportSent | None = None) -> schemas.ExportGiven:
        """Prepare a version in a format as one file; without a body the newest, in the dataset's own format."""
        sent = sent or schemas.ExportSent()
        definition = _definition(store, name)
        kind = sent.format or (definition.format if definition is not None else "yolo")
        version = store.summary(name, sent.version).version
        file = _exported(store, name, version, format_named(kind).name)
        if not file.is_file():
            with disk_checked(file):
                file.parent.mkdir(parents=True, exist_ok=True)
                with TemporaryDirectory(prefix=".export-", dir=file.parent) as folder:
                    dataset = _outward(store.get(name, version), places)
                    zip_folder(export_dataset(dataset, kind, Path(folder) / name), file)
        download = f"datasets/{name}/versions/{version}/export/{kind}"
        return schemas.ExportGiven(
            name=name, version=version, format=kind, bytes=file.stat().st_size, download=download
        )

    @router.get(
        "/datasets/{name}/versions/{version}/export/{kind}",
        response_class=FileResponse,
        responses={**RESPONSES, **_ZIP},
    )
    def download(name: DatasetName, version: Version, kind: str, _person: Viewer) -> FileResponse:
        """An export that was prepared, as ZIP."""
        store.folder(name, version)
        file = _exported(store, name, version, format_named(kind).name)
        if not file.is_file():
            raise not_found("no_export", f"{name}@v{version} was not exported as {kind}", "POST datasets/NAME/export")
        return FileResponse(file, media_type="application/zip", filename=f"{name}-v{version}-{kind}.zip")

    return router


def _outward(dataset: LabelDataset, places: Places) -> LabelDataset:
    """The same for somebody elsewhere: its sources are named without the folders of this machine."""
    items = tuple(replace(item, source=places.shown(item.source)) for item in dataset.items)
    return replace(dataset, items=items)


def _exported(store: DatasetStore, name: str, version: int, kind: str) -> Path:
    return store.root / name / EXPORTS / f"v{version}-{kind}.zip"


def _order(sent: schemas.DatasetSent) -> DatasetOrder:
    said, split = sent.filter_config, sent.split_config
    where = ObjectFilter(
        project=said.project,
        categories=tuple(said.categories),
        source_ids=tuple(said.source_ids),
        episodes=tuple(said.episodes),
        models=tuple(said.models),
        states=tuple(said.states),
        validated=said.is_validated,
        min_score=said.min_confidence,
        max_score=said.max_confidence,
        min_area=said.min_area,
        max_area=said.max_area,
        attributes=said.attributes,
        captured_from_ns=said.captured_from_ns,
        captured_until_ns=said.captured_until_ns,
    )
    ratios = SplitRatios(split.train, split.val, split.test)
    return DatasetOrder(
        sent.name,
        where,
        ratios,
        split.seed,
        split.keep,
        without_duplicates=sent.without_duplicates,
        apart=split.apart,
    )


def _define(file: Path, sent: schemas.DatasetSent) -> None:
    with disk_checked(file):
        write_text(file, sent.model_dump_json(indent=1) + "\n")


def _definition(store: DatasetStore, name: str) -> schemas.DatasetSent | None:
    file = store.root / name / DEFINITION
    if not file.is_file():
        return None
    with disk_checked(file):
        data = file.read_bytes()
    try:
        return schemas.DatasetSent.model_validate_json(data)
    except ValidationError as error:
        raise DatasetError(f"{file} is damaged: remove it, and define {name} again", "dataset_corrupt") from error


def _place(cursor: str) -> tuple[str, int]:
    """Name and version that a cursor goes on after; before the first one: "" and 0.

    Raises:
        GatewayError: 422 ``invalid_cursor``.
    """
    if not cursor:
        return "", 0
    name, _, digits = cursor.rpartition("@v")
    if not name or not (digits.isascii() and digits.isdigit() and len(digits) < 10):
        raise invalid_cursor(cursor)
    return name, int(digits)


def _cursor(place: tuple[str, int]) -> str:
    return f"{place[0]}@v{place[1]}"


def _last(shown: Sequence[DatasetSummary]) -> tuple[str, int]:
    """Where the last version of a page lies: a manifest may name another place, once somebody moved its folder."""
    folder = shown[-1].folder
    return folder.parent.name, int(folder.name[1:])


def _project(store: DatasetStore, name: str) -> str:
    """The project that a definition names; where it names none, that of the newest version, "" before there is one."""
    definition = _definition(store, name)
    newest, _ = store.newest(name, 1)
    made = str(newest[-1].provenance.get("project", "")) if newest else ""
    return (definition.filter_config.project if definition is not None else "") or made


def _dataset(store: DatasetStore, builds: Builds, name: str) -> schemas.DatasetGiven:
    definition, last = _definition(store, name), builds.last(name)
    if definition is None:
        store.folder(name)
    newest, count = store.newest(name, USUAL_PAGE)
    return schemas.DatasetGiven(
        name=name,
        definition=definition,
        versions=[_version(one) for one in newest],
        versions_count=count,
        build=None if last is None else _build(last),
    )


def _version(one: DatasetSummary) -> schemas.VersionGiven:
    return schemas.VersionGiven(
        name=one.name,
        version=one.version,
        created_ns=one.created_ns,
        images={split.value: count for split, count in one.images.items()},
        annotations=one.annotations,
        categories=list(one.categories),
        provenance=dict(one.provenance),
    )


def _build(one: Build) -> schemas.BuildGiven:
    return schemas.BuildGiven(
        name=one.name,
        state=one.state.value,
        done=one.done,
        total=one.total,
        version=one.version,
        code=one.code,
        message=without_folders(one.message),
    )


def _part(added: Sequence[str], removed: Sequence[str], changed: Sequence[Changed]) -> schemas.PartDiff:
    return schemas.PartDiff(
        added=list(added[:MOST_IDS]),
        removed=list(removed[:MOST_IDS]),
        changed=[schemas.ChangedGiven(identity=one.identity, fields=list(one.fields)) for one in changed[:MOST_IDS]],
        counts={"added": len(added), "removed": len(removed), "changed": len(changed)},
    )
