# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What is sent and answered below /api/labeling/datasets."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path
from pydantic import Field

from flow_rag_vla.gateway.labeling.schemas import Area, Attributes, Given, Identity, Nanoseconds, Sent, Share, Word
from flow_rag_vla.labeling.registry.values import ReviewState

NAME = r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,99}$"
DatasetName = Annotated[str, Path(pattern=NAME, description="name of a dataset")]
Version = Annotated[int, Path(ge=1, lt=1 << 31, description="number of a version")]
Words = Annotated[list[Word], Field(max_length=50)]
Ids = Annotated[list[Identity], Field(max_length=200)]


class FilterSent(Sent):
    """Which objects. What is left out holds for all; rejected objects are left out unless ``states`` names them."""

    project: Annotated[str, Field(max_length=200)] = ""
    categories: Words = Field(default_factory=list)
    source_ids: Ids = Field(default_factory=list)
    episodes: Words = Field(default_factory=list)
    models: Words = Field(default_factory=list)
    states: Annotated[list[ReviewState], Field(max_length=4)] = Field(default_factory=list)
    is_validated: bool | None = None
    min_confidence: Share | None = None
    max_confidence: Share | None = None
    min_area: Area | None = None
    max_area: Area | None = None
    attributes: Attributes = Field(default_factory=dict, description="each name must have this value")
    captured_from_ns: Nanoseconds = 0
    captured_until_ns: Nanoseconds = 0


class SplitSent(Sent):
    """Shares of the pictures, with the sum 1. Pictures of one source, episode or track stay together."""

    train: Share = 0.8
    val: Share = 0.1
    test: Share = 0.1
    seed: Annotated[int, Field(ge=0, lt=1 << 31)] = 0
    keep: bool = Field(default=True, description="pictures of the version before stay in their splits")
    apart: bool = Field(
        default=False, description="pictures of a folder may be in different splits: each shows a scene of its own"
    )


class DatasetSent(Sent):
    """What the versions of a dataset are to be made of. format: what an export is in that names none."""

    name: Annotated[str, Field(pattern=NAME)]
    format: Annotated[str, Field(max_length=40)] = "yolo"
    filter_config: FilterSent = FilterSent()
    split_config: SplitSent = SplitSent()
    without_duplicates: bool = Field(
        default=False, description="of pictures that show the same, one is taken; objects need vectors"
    )


class ExportSent(Sent):
    """An export. version 0: the newest; format empty: the dataset's own."""

    version: Annotated[int, Field(ge=0, lt=1 << 31)] = 0
    format: Annotated[str, Field(max_length=40)] = ""


class ExportGiven(Given):
    """An export that can be downloaded."""

    name: str
    version: int
    format: str
    bytes: int
    download: str = Field(description="path below /api/labeling")


class BuildGiven(Given):
    """A build. state: running, finished, failed or canceled; code and message: why it failed."""

    name: str
    state: str
    done: int
    total: int
    version: int = Field(description="of what it made; 0: not finished")
    code: str
    message: str


class VersionGiven(Given):
    """A version; it never changes. images: by split."""

    name: str
    version: int
    created_ns: int
    images: dict[str, int]
    annotations: int
    categories: list[str]
    provenance: dict[str, Any]


class DatasetGiven(Given):
    """A dataset: what its versions are made of, its newest versions, and its last build since the server started."""

    name: str
    definition: DatasetSent | None = Field(description="null: it was made or imported elsewhere")
    versions: list[VersionGiven] = Field(description="at most 50, oldest first; datasets/{name}/versions has all")
    versions_count: int = Field(description="of all")
    build: BuildGiven | None


class VersionPage(Given):
    """Some versions of a dataset, oldest first."""

    items: list[VersionGiven]
    next_cursor: str = Field(description="empty: this was the last page")


class DatasetPage(VersionPage):
    """Some versions, by the name of their dataset, oldest first; and the formats that are known."""

    defined: list[str] = Field(
        description="names of datasets that can be built, by name too: those from the page before to the end of this"
    )
    formats: dict[str, str]


class ChangedGiven(Given):
    """Something that is in both versions, and which of its fields are different."""

    identity: str
    fields: list[str]


class PartDiff(Given):
    """Ids, at most 1,000 of each; counts: of all."""

    added: list[str]
    removed: list[str]
    changed: list[ChangedGiven]
    counts: dict[str, int]


class DiffGiven(Given):
    """What changed from one version to another."""

    old: str
    new: str
    images: PartDiff
    labels: PartDiff
    added_categories: list[str]
    removed_categories: list[str]
