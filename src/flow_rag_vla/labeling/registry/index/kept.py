# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A shelf and its index on disk: one folder a generation, made under another name and renamed, never changed.

A saved generation names the registry, the embedder and the last change that it has seen. What does not fit is ignored
and removed: the database has everything.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import zipfile
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from flow_rag_vla.core.files import write_text
from flow_rag_vla.labeling.registry.errors import files_checked
from flow_rag_vla.labeling.registry.index.base import CandidateIndex
from flow_rag_vla.labeling.registry.index.choice import load_index
from flow_rag_vla.labeling.registry.index.matrix import VectorMatrix
from flow_rag_vla.labeling.registry.index.shelf import COLUMNS, Shelf

FORMAT = 1
PREFIX = "generation-"
UNFINISHED = "unfinished-"


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a saved generation is of."""

    registry_id: str
    embedder_id: int
    dimension: int
    count: int
    generation: int
    index: str
    built_for: int
    format: int = FORMAT


def save(folder: Path, registry_id: str, shelf: Shelf, kind: str, index: CandidateIndex | None) -> Path:
    """Write a generation and remove older ones of the same embedder; give its folder.

    Raises:
        DiskFullError, StorageError: it could not be written; nothing is left of it.
    """
    with files_checked(str(folder)):
        folder.mkdir(parents=True, exist_ok=True)
        temporary = folder / f"{UNFINISHED}{secrets.token_hex(6)}"
        temporary.mkdir()
        try:
            shelf.matrix.write(temporary / "vectors.f32")
            np.savez(temporary / "columns.npz", **shelf.columns())  # type: ignore[arg-type]
            saved = index is not None and index.save(temporary)
            manifest = Manifest(
                registry_id,
                shelf.embedder_id,
                shelf.matrix.dimension,
                len(shelf),
                shelf.generation,
                kind if saved else "",
                index.built_for if index is not None else 0,
            )
            write_text(temporary / "manifest.json", json.dumps(asdict(manifest)))
            target = folder / f"{PREFIX}{shelf.embedder_id}-{shelf.generation}-{secrets.token_hex(4)}"
            os.rename(temporary, target)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        for other, kept in generations(folder):
            older = kept is not None and kept.generation <= shelf.generation
            if other != target and kept is not None and kept.embedder_id == shelf.embedder_id and older:
                # Another process may have it mapped: the file goes when that process lets go.
                shutil.rmtree(other, ignore_errors=True)
    return target


def generations(folder: Path) -> list[tuple[Path, Manifest | None]]:
    """Saved generations, newest first, each with its manifest, None where that is unreadable."""
    found: list[tuple[Path, Manifest | None]] = []
    for path in folder.glob(f"{PREFIX}*"):
        try:
            found.append((path, Manifest(**json.loads((path / "manifest.json").read_text(encoding="utf-8")))))
        except (OSError, ValueError, TypeError):
            found.append((path, None))
    return sorted(found, key=lambda item: -1 if item[1] is None else item[1].generation, reverse=True)


def fits(manifest: Manifest | None, registry_id: str, head: int) -> bool:
    """Whether a generation is of this registry, and not of a future that was lost (a backup that was restored)."""
    if manifest is None or manifest.format != FORMAT:
        return False
    return manifest.registry_id == registry_id and manifest.generation <= head


def load(
    folder: Path, registry_id: str, embedder_id: int, dimension: int, kind: str, head: int
) -> tuple[Shelf, CandidateIndex | None] | None:
    """The newest generation of an embedder that fits, with its index if it is of this kind, or None."""
    for path, manifest in generations(folder):
        if not fits(manifest, registry_id, head) or manifest is None or manifest.embedder_id != embedder_id:
            continue
        if manifest.dimension != dimension:
            continue
        try:
            matrix = VectorMatrix.mapped(path / "vectors.f32", manifest.count, dimension)
            with np.load(path / "columns.npz", allow_pickle=False) as columns:
                held = {name: columns[name] for name in COLUMNS}
            if any(len(values) != manifest.count for values in held.values()):
                continue
            shelf = Shelf.restored(embedder_id, matrix, held, manifest.generation)
            index = load_index(kind, path, manifest.built_for) if manifest.index == kind else None
        except (OSError, ValueError, KeyError, zipfile.BadZipFile):
            continue
        return shelf, index
    return None
