# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Versions of datasets as their manifests and names say, without reading what is in them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flow_rag_vla.labeling.datasets.dataset import Split, check_name
from flow_rag_vla.labeling.datasets.errors import DatasetError
from flow_rag_vla.labeling.datasets.folders import MANIFEST, read_manifest


@dataclass(frozen=True, slots=True)
class DatasetSummary:
    """A version, as its manifest says. images: by split; folder: where it lies."""

    name: str
    version: int
    created_ns: int
    images: Mapping[Split, int]
    annotations: int
    categories: tuple[str, ...]
    provenance: Mapping[str, Any]
    folder: Path

    @property
    def label(self) -> str:
        """``name@vN``."""
        return f"{self.name}@v{self.version}"


def parse_label(text: str) -> tuple[str, int]:
    """Name and version of ``name@vN``; the version is 0 where none is named.

    Raises:
        DatasetError: it is none.
    """
    name, at, version = text.partition("@")
    digits = version.removeprefix("v")
    if at and not (version.startswith("v") and digits.isascii() and digits.isdigit() and 0 < len(digits) < 10):
        raise DatasetError(f"{text[:80]!r} is no dataset: give name or name@vN, such as cups@v2")
    return check_name(name), int(digits) if at else 0


def summary_of(folder: Path) -> DatasetSummary:
    """What the manifest of a version says.

    Raises:
        DatasetError: ``dataset_missing`` or ``dataset_corrupt``.
    """
    manifest = read_manifest(folder)
    try:
        return DatasetSummary(
            name=str(manifest["name"]),
            version=int(manifest["version"]),
            created_ns=int(manifest["created_ns"]),
            images={split: int(manifest["images"][split.value]) for split in Split},
            annotations=int(manifest["annotations"]),
            categories=tuple(map(str, manifest["categories"])),
            provenance=dict(manifest["provenance"]),
            folder=folder,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise DatasetError(f"{folder / MANIFEST} is damaged ({error!r}): copy it again", "dataset_corrupt") from error
