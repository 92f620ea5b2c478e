# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The index of a database: from the files that are kept beside it, or from every case; and how it catches up."""

from __future__ import annotations

import fcntl
import logging
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np

from flow_rag_vla.memory.backends.base import IndexUnavailableError
from flow_rag_vla.memory.backends.choice import FactoryBackend, IndexBackend, LayeredBackend
from flow_rag_vla.memory.backends.flat import FaissIndex
from flow_rag_vla.memory.backends.layered import LayeredIndex, Snapshot
from flow_rag_vla.memory.backends.originals import SCALE
from flow_rag_vla.memory.case import Array, EncoderStamp, GroupKey
from flow_rag_vla.memory.index import CaseIndex
from flow_rag_vla.memory.kept import Kept, KeptGroup, KeptIndex, KeptIndexError
from flow_rag_vla.memory.store import CaseSummary, Change, FailureStore
from flow_rag_vla.memory.table import CaseTable

SPACES = ("active", "retired")
"""Cases that searches see, and those taken out on purpose."""

LOG_KEPT = 100_000
"""Changes after which the log of a database without a kept index is cut."""

SAVED_AFTER = 20_000
"""Changes after which the index is kept anew, so that a restart has at most about as many to catch up on."""


_Segments = frozenset[tuple[str, GroupKey, str, int]]


@dataclass(slots=True)
class Loaded:
    """The state of a memory.

    index, retired: None while there is no case
    change: up to which the log of the database is in here
    source: where it came from, in words
    """

    index: CaseIndex | None
    retired: CaseIndex | None
    table: CaseTable
    change: Change
    source: str

    def space(self, retired: bool) -> CaseIndex | None:
        """The index of active or retired cases."""
        return self.retired if retired else self.index


class Loader:
    """Loads the state of one database, keeps it in files, and lets it catch up with other programs' changes."""

    def __init__(self, store: FailureStore, backend: IndexBackend) -> None:
        self.store = store
        self.backend = backend
        self.problem = ""
        self.behind = False
        self._kept = KeptIndex(store.path) if isinstance(backend, LayeredBackend) else None
        self._saving = threading.Lock()
        self._saved: Change | None = None
        self._saved_segments: _Segments = frozenset()

    def load(self) -> Loaded:
        """The state of the database.

        Raises:
            StoreError: if it cannot be read.
        """
        builder = self.backend.builder if isinstance(self.backend, LayeredBackend) else None
        with nullcontext() if builder is None else builder.held():
            loaded, reason = self._from_files()
            if loaded is not None and self.catch_up(loaded):
                self._saved = loaded.change
                return loaded
            if loaded is not None:
                reason = "it is not of this database's past"
            return self._from_database(reason)

    def catch_up(self, loaded: Loaded) -> bool:
        """Take in what changed in the database since; False if its log does not go back that far.

        Raises:
            StoreError: if it cannot be read.
        """
        if self.behind or (loaded.index is not None and loaded.index.stamp != self.store.stamp):
            return False
        # First where the log ends, then what is in it: what comes between is taken in twice, never missed.
        until = self.store.last_change()
        ids = self.store.changed_since(loaded.change)
        if ids is None or (loaded.index is None and self.store.stamp is not None):
            return False
        present: set[int] = set()
        for batch, vectors in self.store.summaries_of(ids):
            present.update(item.case_id for item in batch)
            self._take(loaded, batch, vectors)
        for case_id in ids:
            before = loaded.table.get(case_id)
            if before is not None and case_id not in present:
                _drop(loaded, before)
                del loaded.table[case_id]
        loaded.change = until
        return True

    def fell_behind(self, error: IndexUnavailableError) -> None:
        """Remember that an index lacks what the database has: it is filled anew at the next chance."""
        self.behind, self.problem = True, str(error)

    def arrivals(self, stamp: EncoderStamp) -> CaseIndex:
        """A place for cases that are compared with each other before they are stored."""
        local = isinstance(self.backend, FactoryBackend)
        return CaseIndex(stamp, self.backend if local else (lambda dimension: FaissIndex(dimension, "cpu")), "arriving")

    def moment(self, loaded: Loaded) -> Kept | None:
        """The state as it is to be kept; None if that spares a restart nothing, or is kept already.

        Called with changes kept out, right after :meth:`catch_up`: the parts must be of the change that they name.
        """
        stamp = self.store.stamp
        if self._kept is None or stamp is None or loaded.index is None or not self.is_due(loaded):
            return None
        groups = [
            KeptGroup(index.space, group, found.snapshot())
            for index in (loaded.index, loaded.retired)
            if index is not None
            for group, found in index.groups().items()
            if isinstance(found, LayeredIndex)
        ]
        table = CaseTable.of_columns(loaded.table.columns(), loaded.table.groups())
        return Kept(stamp, loaded.change, table, tuple(groups))

    def save(self, moment: Kept) -> bool:
        """Write files; say whether that worked.

        A failure is told in ``problem``, and costs nothing but the next restart's time.
        """
        kept = self._kept
        assert kept is not None
        with self._saving:
            try:
                with _alone(kept):
                    kept.save(moment)
            except OSError as error:
                self.problem = f"the index could not be kept in {kept.folder} ({error}); a restart will make it again"
                logging.getLogger(__name__).warning(self.problem)
                return False
            self.problem, self._saved = "", moment.change
            self._saved_segments = _segments_of((item.space, item.group, item.snapshot) for item in moment.groups)
        # Another program that is a little behind need not read everything again.
        self.store.forget_changes(Change(moment.change.change_id - SAVED_AFTER, ""))
        return True

    def is_due(self, loaded: Loaded) -> bool:
        """Whether files, or newer ones, would spare a restart much.

        Groups that are small enough for an exact scan are loaded in a moment; files would only be in the way.
        """
        segments = _segments_of(
            (index.space, group, found.snapshot())
            for index in (loaded.index, loaded.retired)
            if index is not None
            for group, found in index.groups().items()
            if isinstance(found, LayeredIndex) and found.has_segment
        )
        if not segments:
            return False
        behind = self._saved is None or loaded.change.change_id - self._saved.change_id >= SAVED_AFTER
        return behind or segments != self._saved_segments

    def _from_files(self) -> tuple[Loaded | None, str]:
        stamp, kept, backend = self.store.stamp, self._kept, self.backend
        if kept is None or stamp is None or not kept.folder.is_dir():
            return None, ""
        try:
            found = kept.load(stamp)
        except KeptIndexError as error:
            return None, str(error)
        assert isinstance(backend, LayeredBackend)
        spaces = {space: CaseIndex(stamp, backend, space) for space in SPACES}
        for item in found.groups:
            if item.space in spaces:
                index = LayeredIndex.restored(item.snapshot, backend.builder, backend.layers)
                spaces[item.space].adopt(item.group, index)
        self._saved_segments = _segments_of((item.space, item.group, item.snapshot) for item in found.groups)
        loaded = Loaded(spaces["active"], spaces["retired"], found.table, found.change, "kept files")
        if sum(len(index) for index in spaces.values()) != len(found.table):
            return None, "it does not hold as many vectors as cases"
        return loaded, ""

    def _from_database(self, reason: str) -> Loaded:
        if reason and self._kept is not None:
            logging.getLogger(__name__).warning(
                "the index kept in %s is not used: %s; it is made again from the database", self._kept.folder, reason
            )
        change, stamp = self.store.last_change(), self.store.stamp
        active, retired = (None, None) if stamp is None else (CaseIndex(stamp, self.backend, space) for space in SPACES)
        loaded = Loaded(active, retired, CaseTable(), change, "database" + (f" ({reason})" if reason else ""))
        if stamp is not None:
            for space in SPACES:
                self.backend.clear(stamp, space)
        for batch, vectors in self.store.summaries():
            for item, rows in _by_group(batch):
                index = loaded.space(item[1])
                if index is not None:
                    index.add(item[0], [batch[row].case_id for row in rows], vectors[rows])
            loaded.table.extend(batch)
        if self.behind:
            self.behind, self.problem = False, ""
        if change.change_id > LOG_KEPT and not KeptIndex(self.store.path).folder.is_dir():
            self.store.forget_changes(Change(change.change_id - LOG_KEPT, ""))
        return loaded

    def _take(self, loaded: Loaded, batch: list[CaseSummary], vectors: Array) -> None:
        for (group, out), rows in _by_group(batch):
            index = loaded.space(out)
            assert index is not None
            fresh = []
            for row in rows:
                before = loaded.table.get(batch[row].case_id)
                same = before is not None and (before.group, before.retired) == (group, out)
                # Mostly it was credited or annotated, and what is searched is as it was.
                if same and _holds(index, group, batch[row].case_id, vectors[row]):
                    continue
                if before is not None:
                    _drop(loaded, before)
                fresh.append(row)
            if fresh:
                index.add(group, [batch[row].case_id for row in fresh], vectors[fresh])
        loaded.table.extend(batch)


def _holds(index: CaseIndex, group: GroupKey, case_id: int, vector: Array) -> bool:
    held = index.vectors(group, np.array([case_id], dtype=np.int64))[0]
    return bool(np.abs(held - vector).max() <= 1.0 / SCALE)


def _drop(loaded: Loaded, summary: CaseSummary) -> None:
    index = loaded.space(summary.retired)
    if index is not None:
        index.remove(summary.group, [summary.case_id])


def _segments_of(groups: Iterable[tuple[str, GroupKey, Snapshot]]) -> _Segments:
    """Which rows are in segments."""
    return frozenset(
        (space, group, snapshot.epoch, snapshot.segment.count)
        for space, group, snapshot in groups
        if snapshot.segment is not None
    )


def _by_group(batch: list[CaseSummary]) -> Iterator[tuple[tuple[GroupKey, bool], list[int]]]:
    rows: dict[tuple[GroupKey, bool], list[int]] = {}
    for row, item in enumerate(batch):
        rows.setdefault((item.group, item.retired), []).append(row)
    yield from rows.items()


@contextmanager
def _alone(kept: KeptIndex) -> Iterator[None]:
    """Keep other programs' saves of the same files out.

    Raises:
        OSError: if another one is at it.
    """
    with kept.folder.with_suffix(".lock").open("wb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield
