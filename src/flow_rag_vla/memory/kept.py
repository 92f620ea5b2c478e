# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The index in files beside the database, so that a restart reads those and not every case.

    <database>.index/manifest.json      what is kept, of which encoder, up to which change; written last
                     cases-*.npz        the columns of the table
                     group-*.npz        ids, compressed vectors and newest vectors of a group
                     rows-*.i16         the vectors of a group, two bytes a number; only ever appended to

Everything is a cache. Each file is checked in full when it is read (CRC-32), and the manifest names the encoder and
the change in the database's log that it is of: what is damaged, of another encoder, or of another file is refused with
a reason and made again from the database. Files get new names; the manifest is replaced as a whole once they are on
disk, so that a crash at any moment leaves the old state or the new one.
"""

from __future__ import annotations

import json
import os
import secrets
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.files import replaced_file, write_text
from flow_rag_vla.memory.backends import segment as segments
from flow_rag_vla.memory.backends.layered import Snapshot
from flow_rag_vla.memory.backends.originals import CHUNK, Originals
from flow_rag_vla.memory.case import EncoderStamp, GroupKey
from flow_rag_vla.memory.store import Change
from flow_rag_vla.memory.table import CaseTable, group_of, group_text

FORMAT = 1
"""Of the files; another one is refused."""

COPIED_BYTES = 68_000_000
"""Vectors of up to so many bytes are copied from their file: memory comes in large pages, a mapped file in small ones,
and candidates lie all over it. 65,536 vectors of 512 numbers, beyond which lists are searched, are as many."""

MANIFEST = "manifest.json"

_SEGMENT_FIELDS = ("count", "trained_on", "lists", "width", "probes", "candidates", "recall", "measured_at")


class KeptIndexError(ValueError):
    """The files cannot be used; the text says why."""


@dataclass(frozen=True, slots=True)
class KeptGroup:
    """One group's part of an index."""

    space: str
    group: GroupKey
    snapshot: Snapshot


@dataclass(frozen=True, slots=True)
class Kept:
    """An index and the table of its cases as they were at a change."""

    stamp: EncoderStamp
    change: Change
    table: CaseTable
    groups: tuple[KeptGroup, ...]


@dataclass(frozen=True, slots=True)
class _Rows:
    """A file of rows: the first ``rows`` of them, and their checksum."""

    file: str
    rows: int
    crc: int


class KeptIndex:
    """The folder beside one database. One thread saves at a time."""

    def __init__(self, database: Path) -> None:
        self.folder = database.with_name(database.name + ".index")
        self._written: dict[str, _Rows] = {}

    def save(self, moment: Kept) -> None:
        """Keep a state.

        Raises:
            OSError: if it cannot be written; what was kept before is still there.
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        written: dict[str, _Rows] = {}
        entries = []
        for item in moment.groups:
            epoch = item.snapshot.epoch
            written[epoch] = self._save_rows(epoch, item.snapshot.originals)
            entries.append(
                {
                    "space": item.space,
                    "group": group_text(item.group),
                    "epoch": epoch,
                    "rows": asdict(written[epoch]),
                    **self._save_group(item.snapshot),
                }
            )
        cases = self._new_name("cases", "npz")
        with replaced_file(self.folder / cases) as temporary, temporary.open("wb") as stream:
            _save_arrays(stream, moment.table.columns())
        manifest = {
            "format": FORMAT,
            "stamp": asdict(moment.stamp),
            "change": asdict(moment.change),
            "cases": cases,
            "case_groups": [group_text(group) for group in moment.table.groups()],
            "groups": entries,
        }
        write_text(self.folder / MANIFEST, json.dumps(manifest))
        self._written = written
        used = {MANIFEST, cases, *(str(entry["data"]) for entry in entries), *(rows.file for rows in written.values())}
        for path in self.folder.iterdir():
            if path.name not in used:
                path.unlink(missing_ok=True)

    def load(self, stamp: EncoderStamp) -> Kept:
        """Read what was kept.

        Raises:
            KeptIndexError: if there is none, or it is damaged, of another encoder, or of another version.
        """
        try:
            manifest: dict[str, Any] = json.loads((self.folder / MANIFEST).read_text(encoding="utf-8"))
            if manifest["format"] != FORMAT:
                raise KeptIndexError(f"its format is {manifest['format']}, this program reads {FORMAT}")
            kept_stamp = EncoderStamp(**manifest["stamp"])
            if kept_stamp != stamp:
                raise KeptIndexError(f"it is of {kept_stamp}, the cases are of {stamp}")
            groups = [group_of(values) for values in manifest["case_groups"]]
            table = CaseTable.of_columns(self._arrays(manifest["cases"]), groups)
            found = tuple(self._load_group(entry, stamp.dimension) for entry in manifest["groups"])
            change = Change(int(manifest["change"]["change_id"]), str(manifest["change"]["mark"]))
        except KeptIndexError:
            raise
        except FileNotFoundError as error:
            raise KeptIndexError(f"there is no {error.filename}") from error
        except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error) as error:
            raise KeptIndexError(f"it is damaged ({type(error).__name__}: {error})") from error
        return Kept(stamp, change, table, found)

    def _save_group(self, snapshot: Snapshot) -> dict[str, Any]:
        name = self._new_name("group", "npz")
        segment = snapshot.segment
        arrays: dict[str, Any] = {
            "row_ids": snapshot.row_ids,
            "alive": snapshot.alive,
            "tail": snapshot.tail,
            "tail_ids": snapshot.tail_ids,
        }
        if segment is not None:
            arrays["segment"] = segments.to_bytes(segment)
        with replaced_file(self.folder / name) as temporary, temporary.open("wb") as stream:
            _save_arrays(stream, arrays)
        fields = None if segment is None else {field: getattr(segment, field) for field in _SEGMENT_FIELDS}
        return {"data": name, "segment": fields}

    def _load_group(self, entry: dict[str, Any], dimension: int) -> KeptGroup:
        rows = _Rows(**entry["rows"])
        originals = self._load_rows(rows, dimension)
        arrays = self._arrays(entry["data"])
        segment = None
        if entry["segment"] is not None:
            segment = segments.from_bytes(arrays["segment"], entry["segment"])
        snapshot = Snapshot(
            str(entry["epoch"]),
            originals,
            arrays["row_ids"],
            arrays["alive"],
            segment,
            arrays["tail"],
            arrays["tail_ids"],
        )
        lengths = len(originals), len(snapshot.row_ids), len(snapshot.alive)
        covered = 0 if segment is None else segment.count
        if len(set(lengths)) != 1 or covered > lengths[0] or snapshot.tail.shape != (len(snapshot.tail_ids), dimension):
            raise KeptIndexError(f"its parts do not fit together ({lengths}, {covered}, {snapshot.tail.shape})")
        self._written[snapshot.epoch] = rows
        return KeptGroup(str(entry["space"]), group_of(entry["group"]), snapshot)

    def _save_rows(self, epoch: str, originals: Originals) -> _Rows:
        before = self._written.get(epoch)
        width = 2 * originals.dimension
        if before is None or _size(self.folder / before.file) != before.rows * width:
            # Not known, or longer: a save was interrupted, or another program appended. It may have the file mapped
            # into its memory, so that must never become shorter.
            before = _Rows(self._new_name("rows", "i16"), 0, 0)
        crc = before.crc
        with (self.folder / before.file).open("ab") as stream:
            for first in range(before.rows, len(originals), CHUNK):
                data = np.ascontiguousarray(originals.slice(first, min(first + CHUNK, len(originals)))).astype("<i2")
                stream.write(data.tobytes())
                crc = zlib.crc32(data.data, crc)
            stream.flush()
            os.fsync(stream.fileno())
        return _Rows(before.file, len(originals), crc)

    def _load_rows(self, rows: _Rows, dimension: int) -> Originals:
        path = self.folder / rows.file
        if rows.rows == 0:
            return Originals(np.empty((0, dimension), dtype=np.int16))
        size = path.stat().st_size
        if size < rows.rows * dimension * 2:
            raise KeptIndexError(f"{path} has {size} bytes, expected {rows.rows * dimension * 2}")
        mapped = np.memmap(path, dtype="<i2", mode="r", shape=(rows.rows, dimension))
        crc = 0
        # Also brings the file into the cache of the system, from where searches read it.
        for first in range(0, rows.rows, CHUNK):
            crc = zlib.crc32(np.ascontiguousarray(mapped[first : first + CHUNK]).data, crc)
        if crc != rows.crc:
            raise KeptIndexError(f"{path} does not match its checksum")
        return Originals((np.array if mapped.nbytes <= COPIED_BYTES else np.asarray)(mapped, dtype=np.int16))

    def _arrays(self, name: str) -> dict[str, Any]:
        # Each array in such a file has a checksum, which is compared as it is read.
        with np.load(self.folder / name, allow_pickle=False) as file:
            return {key: file[key] for key in file.files}

    @staticmethod
    def _new_name(kind: str, suffix: str) -> str:
        return f"{kind}-{secrets.token_hex(6)}.{suffix}"


def _size(path: Path) -> int:
    return path.stat().st_size if path.is_file() else -1


def _save_arrays(stream: BinaryIO, arrays: Mapping[str, NDArray[Any]]) -> None:
    named: dict[str, Any] = dict(arrays)
    np.savez(stream, **named)
