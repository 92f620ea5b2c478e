# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What a memory knows of every case without reading its arrays, in columns: a million cases are 34 MB, not 300."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.memory.case import GroupKey
from flow_rag_vla.memory.store import CaseSummary

COLUMNS: Mapping[str, type[np.generic]] = {
    "case_id": np.int64,
    "created_ns": np.int64,
    "uses": np.int32,
    "successes": np.int32,
    "group": np.int32,
    "flags": np.uint8,
}
"""Name and type of each column. ``group`` is a place in the list of groups."""

_PRESENT, _CORRECTED, _RETIRED = 1, 2, 4

Columns = dict[str, NDArray[np.generic]]


class CaseTable(MutableMapping[int, CaseSummary]):
    """Summaries by case id, in the order of ids. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._columns: Columns = {name: np.zeros(0, dtype=kind) for name, kind in COLUMNS.items()}
        self._rows = 0
        self._present = 0
        self._groups: list[GroupKey] = []
        self._places: dict[GroupKey, int] = {}

    @staticmethod
    def of_columns(columns: Mapping[str, NDArray[np.generic]], groups: Sequence[GroupKey]) -> CaseTable:
        """The table of which :meth:`columns` and :meth:`groups` were kept.

        Raises:
            ValueError: if columns are missing, of other lengths or types, or not in the order of ids.
        """
        table = CaseTable()
        rows = len(columns["case_id"]) if "case_id" in columns else -1
        for name, kind in COLUMNS.items():
            if name not in columns or columns[name].dtype != kind or columns[name].shape != (rows,):
                raise ValueError(f"column {name} is missing or of another length or type")
        ids = columns["case_id"].astype(np.int64)
        if rows and (bool((np.diff(ids) <= 0).any()) or int(columns["group"].astype(np.int64).max()) >= len(groups)):
            raise ValueError("the ids of the cases are out of order, or a group is unknown")
        table._columns = {name: columns[name].copy() for name in COLUMNS}
        table._rows = rows
        table._present = int(np.count_nonzero(table._flags() & _PRESENT))
        table._groups = list(groups)
        table._places = {group: place for place, group in enumerate(groups)}
        return table

    def columns(self) -> Columns:
        """A copy of every column; rows of cases that are gone are left out."""
        with self._lock:
            here = (self._flags() & _PRESENT) != 0
            return {name: values[: self._rows][here] for name, values in self._columns.items()}

    def groups(self) -> list[GroupKey]:
        """The groups that the column of that name counts in."""
        with self._lock:
            return list(self._groups)

    @property
    def active(self) -> int:
        """Cases that are not retired."""
        with self._lock:
            return int(np.count_nonzero((self._flags() & (_PRESENT | _RETIRED)) == _PRESENT))

    def __len__(self) -> int:
        """Number of cases."""
        return self._present

    def __iter__(self) -> Iterator[int]:
        """Ids in their order."""
        return iter(self.columns()["case_id"].tolist())

    def __contains__(self, case_id: object) -> bool:
        """Whether there is a case."""
        with self._lock:
            return isinstance(case_id, int) and self._row(case_id) is not None

    def __getitem__(self, case_id: int) -> CaseSummary:
        """What is known of a case."""
        with self._lock:
            row = self._row(case_id)
            if row is None:
                raise KeyError(case_id)
            values = {name: int(column[row]) for name, column in self._columns.items()}
            group = self._groups[values["group"]]
        flags = values["flags"]
        return CaseSummary(
            case_id,
            group,
            bool(flags & _CORRECTED),
            values["uses"],
            values["successes"],
            bool(flags & _RETIRED),
            values["created_ns"],
        )

    def of(self, case_ids: Sequence[int]) -> list[CaseSummary]:
        """What is known of those of these cases that are there, in their order: one look at the columns for all."""
        wanted = np.asarray(case_ids, dtype=np.int64)
        with self._lock:
            if not self._rows:
                return []
            rows = np.minimum(np.searchsorted(self._columns["case_id"][: self._rows], wanted), self._rows - 1)
            here = {name: column[rows].tolist() for name, column in self._columns.items()}
            groups = [self._groups[place] for place in here["group"]]
        return [
            CaseSummary(
                case_id, group, bool(flags & _CORRECTED), uses, successes, bool(flags & _RETIRED), created_ns
            )
            for case_id, group, known, uses, successes, flags, created_ns in zip(
                case_ids, groups, here["case_id"], here["uses"], here["successes"], here["flags"], here["created_ns"],
                strict=True,
            )
            if known == case_id and flags & _PRESENT
        ]  # fmt: skip

    def __setitem__(self, case_id: int, summary: CaseSummary) -> None:
        """Take a case in, or replace what is known of it."""
        self.extend([summary])

    def __delitem__(self, case_id: int) -> None:
        """Forget a case."""
        with self._lock:
            row = self._row(case_id)
            if row is None:
                raise KeyError(case_id)
            self._flags()[row] = 0
            self._present -= 1

    def extend(self, batch: Sequence[CaseSummary]) -> None:
        """Take cases in, or replace what is known of them."""
        with self._lock:
            last = int(self._columns["case_id"][self._rows - 1]) if self._rows else -1
            ascending = all(one.case_id < other.case_id for one, other in pairwise(batch))
            if batch and ascending and batch[0].case_id > last:
                self._write(slice(self._grown(len(batch)), self._rows), batch)
                self._present += len(batch)
                return
            for summary in batch:
                self._put(summary)

    def _put(self, summary: CaseSummary) -> None:
        ids = self._columns["case_id"][: self._rows]
        row = int(np.searchsorted(ids, summary.case_id))
        if row == self._rows or ids[row] != summary.case_id:
            self._grown(1)
            for values in self._columns.values():
                values[row + 1 : self._rows] = values[row : self._rows - 1].copy()
            self._flags()[row] = 0
        self._present += int(not self._flags()[row] & _PRESENT)
        self._write(slice(row, row + 1), [summary])

    def _write(self, rows: slice, batch: Sequence[CaseSummary]) -> None:
        columns = self._columns
        columns["case_id"][rows] = [item.case_id for item in batch]
        columns["created_ns"][rows] = [item.created_ns for item in batch]
        columns["uses"][rows] = [item.uses for item in batch]
        columns["successes"][rows] = [item.successes for item in batch]
        columns["group"][rows] = [self._place(item.group) for item in batch]
        columns["flags"][rows] = [
            _PRESENT | (_CORRECTED if item.has_correction else 0) | (_RETIRED if item.retired else 0) for item in batch
        ]

    def _place(self, group: GroupKey) -> int:
        place = self._places.get(group)
        if place is None:
            place = self._places[group] = len(self._groups)
            self._groups.append(group)
        return place

    def _grown(self, count: int) -> int:
        """Make room for rows at the end; give the place of the first."""
        first = self._rows
        self._rows += count
        if self._rows > len(self._flags_all()):
            room = max(2 * first, self._rows, 64)
            for name, values in self._columns.items():
                grown = np.zeros(room, dtype=values.dtype)
                grown[:first] = values[:first]
                self._columns[name] = grown
        return first

    def _flags_all(self) -> NDArray[np.uint8]:
        return np.asarray(self._columns["flags"], dtype=np.uint8)

    def _flags(self) -> NDArray[np.uint8]:
        return self._flags_all()[: self._rows]

    def _row(self, case_id: int) -> int | None:
        ids = self._columns["case_id"][: self._rows]
        row = int(np.searchsorted(ids, case_id))
        if row == self._rows or ids[row] != case_id or not self._columns["flags"][row] & np.uint8(_PRESENT):
            return None
        return row


def group_text(group: GroupKey) -> list[str | int]:
    """A group as plain values."""
    return [group.task, group.phase, int(group.failure_type)]


def group_of(values: Sequence[str | int]) -> GroupKey:
    """The group of :func:`group_text`.

    Raises:
        ValueError: if they are none.
    """
    task, phase, kind = values
    return GroupKey(str(task), str(phase), FailureType(int(kind)))
