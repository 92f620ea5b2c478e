# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Looks a registry over, and repairs what can be repaired without losing anything that the database holds."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import Any

import sqlalchemy as sa
from PIL import Image as PillowImage

from flow_rag_vla.labeling.registry import changing
from flow_rag_vla.labeling.registry import tables as t
from flow_rag_vla.labeling.registry.errors import RegistryError, StorageError, files_checked
from flow_rag_vla.labeling.registry.index import kept
from flow_rag_vla.labeling.registry.migrating import HEAD, revision
from flow_rag_vla.labeling.registry.opened import OpenedRegistry
from flow_rag_vla.labeling.registry.rows import object_row
from flow_rag_vla.labeling.registry.values import ChangeKind

GRACE_S = 600.0
"""A mask without a row that is younger may belong to a batch that is being written."""
EXAMPLES = 5
WHO = "doctor"
Progress = Callable[[str], None]


class Finding(str, Enum):
    """What can be wrong."""

    DAMAGED_PAGES = "damaged_pages"
    BROKEN_REFERENCES = "broken_references"
    OLD_SCHEMA = "old_schema"
    WRONG_VECTORS = "wrong_vectors"
    MISSING_MASKS = "missing_masks"
    DAMAGED_MASKS = "damaged_masks"
    ORPHAN_MASKS = "orphan_masks"
    FOREIGN_INDEX = "foreign_index"


REMEDIES = {
    Finding.DAMAGED_PAGES: "restore a backup, or rescue what is intact with the sqlite3 command '.recover'",
    Finding.BROKEN_REFERENCES: "restore a backup: someone changed the database without its foreign keys",
    Finding.OLD_SCHEMA: "open the registry once: it is upgraded then",
    Finding.WRONG_VECTORS: "repairing takes the vectors off these objects; embed them again",
    Finding.MISSING_MASKS: "repairing takes the masks off these objects, as a change; segment them again",
    Finding.DAMAGED_MASKS: "repairing takes the masks off these objects, as a change; segment them again",
    Finding.ORPHAN_MASKS: "repairing removes the files: no object and no past state of one refers to them",
    Finding.FOREIGN_INDEX: "repairing removes the folders: the index is built anew from the database",
}
"""What to do about each."""


@dataclass(frozen=True, slots=True)
class Problem:
    """Something that is wrong: how often, and some of the places."""

    finding: Finding
    count: int
    examples: tuple[str, ...]
    repaired: bool = False

    @property
    def remedy(self) -> str:
        """What to do about it."""
        return REMEDIES[self.finding]


def examine(
    registry: OpenedRegistry, *, repair: bool = False, grace_s: float = GRACE_S, progress: Progress = lambda _: None
) -> tuple[Problem, ...]:
    """Look a registry over; nothing is found where it is sound.

    Args:
        registry: an open one.
        repair: put right what can be; see ``REMEDIES``.
        grace_s: leave files without a row alone that are younger.
        progress: told what is being looked at.

    Raises:
        RegistryError: it could not be read, or repaired.
    """
    problems: list[Problem] = []

    def note(finding: Finding, places: Iterable[str], cure: Callable[[], None] | None = None) -> None:
        found = list(places)
        if not found:
            return
        if repair and cure is not None:
            cure()
        problems.append(Problem(finding, len(found), tuple(found[:EXAMPLES]), repaired=repair and cure is not None))

    progress("pages and references")
    note(Finding.DAMAGED_PAGES, _damaged_pages(registry))
    if problems:
        # Whatever else is read from it may be wrong, and a repair would make it worse.
        return tuple(problems)
    with registry.database.read() as connection:
        note(Finding.BROKEN_REFERENCES, _broken_references(connection))
        found = revision(connection)
    note(Finding.OLD_SCHEMA, [] if found == HEAD else [found])
    progress("vectors")
    wrong = _wrong_vectors(registry)
    note(Finding.WRONG_VECTORS, wrong, lambda: _drop_vectors(registry, wrong))
    progress("masks")
    missing, damaged, orphans = _masks(registry, grace_s)
    note(Finding.MISSING_MASKS, missing, lambda: _drop_masks(registry, missing))
    note(Finding.DAMAGED_MASKS, damaged, lambda: _drop_masks(registry, damaged))
    note(Finding.ORPHAN_MASKS, orphans, lambda: _remove_orphans(registry, orphans))
    progress("index")
    foreign = _foreign_generations(registry, grace_s)
    note(Finding.FOREIGN_INDEX, foreign, lambda: _remove_generations(registry, foreign))
    return tuple(problems)


def _damaged_pages(registry: OpenedRegistry) -> list[str]:
    try:
        with registry.database.read() as connection:
            if connection.dialect.name != "sqlite":
                return []
            rows = connection.exec_driver_sql("PRAGMA integrity_check").scalars().all()
    except StorageError as error:
        return [error.message]
    return [] if rows == ["ok"] else [str(row) for row in rows]


def _broken_references(connection: sa.Connection) -> list[str]:
    # A server checks its foreign keys itself and cannot be told not to.
    if connection.dialect.name != "sqlite":
        return []
    rows = connection.exec_driver_sql("PRAGMA foreign_key_check")
    return [f"{row[0]} row {row[1]} refers to a row of {row[2]} that is not there" for row in rows]


def _wrong_vectors(registry: OpenedRegistry) -> list[str]:
    """Ids of objects whose vector is missing or not of their embedder's dimension."""
    o, e, v = t.objects.c, t.embedders.c, t.vectors.c
    joined = t.objects.join(t.embedders, e.embedder_id == o.embedder_id).outerjoin(t.vectors, v.row_id == o.row_id)
    wrong = sa.or_(v.value.is_(None), sa.func.length(v.value) != 4 * e.dimension)
    with registry.database.read() as connection:
        return list(connection.execute(sa.select(o.object_id).select_from(joined).where(wrong)).scalars())


def _drop_vectors(registry: OpenedRegistry, object_ids: list[str]) -> None:
    with registry.database.write() as connection:
        for object_id in object_ids:
            changing.take_vector(connection, object_row(connection, object_id), WHO)


def _masks(registry: OpenedRegistry, grace_s: float) -> tuple[list[str], list[str], list[str]]:
    """Ids of objects with missing, and with damaged masks; names of files that nothing refers to."""
    latest = time.time() - grace_s
    # The files are listed before the rows: a mask that is written between the two is in neither list.
    files = dict(registry.masks.names())
    o = t.objects.c
    with registry.database.read() as connection:
        rows = connection.execute(sa.select(o.object_id, o.mask_path).where(o.mask_path != "")).all()
        past = _past_masks(connection)
    missing, damaged = [], []
    for object_id, name in rows:
        try:
            path = registry.masks.file(name)
            if not path.is_file():
                missing.append(object_id)
            elif not _sound(path):
                damaged.append(object_id)
        except RegistryError:
            damaged.append(object_id)
    named = {row.mask_path for row in rows} | past
    orphans = [name for name, changed in files.items() if name not in named and changed < latest]
    return missing, damaged, sorted(orphans)


def _sound(path: Any) -> bool:
    try:
        with PillowImage.open(path) as image:
            image.verify()
    except (OSError, SyntaxError):
        return False
    return True


def _past_masks(connection: sa.Connection) -> set[str]:
    """Masks that an undo may bring back."""
    h = t.history.c
    named = sa.cast(h.before, sa.Text).like('%"mask_path"%') | sa.cast(h.after, sa.Text).like('%"mask_path"%')
    found: set[str] = set()
    for before, after in connection.execute(sa.select(h.before, h.after).where(named)):
        found.update(values["mask_path"] for values in (before, after) if values.get("mask_path"))
    return found


def _drop_masks(registry: OpenedRegistry, object_ids: list[str]) -> None:
    with registry.database.write() as connection:
        for object_id in object_ids:
            row = object_row(connection, object_id)
            changing.apply(connection, row, {"mask_path": ""}, ChangeKind.UPDATED, WHO)


def _remove_orphans(registry: OpenedRegistry, names: list[str]) -> None:
    for name in names:
        with files_checked(str(registry.masks.root)):
            (registry.masks.root / name).unlink(missing_ok=True)


def _foreign_generations(registry: OpenedRegistry, grace_s: float) -> list[str]:
    """Saved indexes of another registry, of a lost future, of no embedder, or unfinished."""
    with registry.database.read() as connection:
        head = int(connection.execute(sa.select(sa.func.max(t.history.c.change_id))).scalar() or 0)
        dimensions = {row.embedder_id: row.dimension for row in connection.execute(sa.select(t.embedders))}
    foreign = []
    for path, manifest in kept.generations(registry.index_folder):
        fits = kept.fits(manifest, registry.registry_id, head)
        if not fits or manifest is None or dimensions.get(manifest.embedder_id) != manifest.dimension:
            foreign.append(path.name)
    latest = time.time() - grace_s
    for path in registry.index_folder.glob(f"{kept.UNFINISHED}*"):
        if path.stat().st_mtime < latest:
            foreign.append(path.name)
    return foreign


def _remove_generations(registry: OpenedRegistry, names: list[str]) -> None:
    for name in names:
        shutil.rmtree(registry.index_folder / name, ignore_errors=True)
