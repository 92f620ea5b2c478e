# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Reads the SQLite bags of ``ros2 bag record`` as far as they are whole (rosbag2_storage_sqlite3, schema 1 to 4)."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Collection, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path

from rosbags.interfaces import Qos
from rosbags.rosbag2.metadata import parse_qos

from flow_rag_vla.data.mcap_scan import MOST_CHUNK, McapChannel, McapChunk

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


MOST_MESSAGE = MOST_CHUNK
"""Bytes that a message which was compressed by itself may unpack to; more is left out."""


class SqliteBagError(ValueError):
    """Not a SQLite bag, or one in which nothing can be read."""


@dataclass(frozen=True, slots=True)
class SqliteScan:
    """What is readable in a file; the same interface as :class:`flow_rag_vla.data.mcap_scan.McapScan`.

    message_zstd: each message was compressed by itself
    """

    path: Path
    channels: dict[int, McapChannel]
    chunks: tuple[McapChunk, ...]
    counts: dict[str, int]
    complete: bool
    problem: str = ""
    message_zstd: bool = False

    def messages(
        self, topics: Collection[str] | None = None, start_ns: int = 0, stop_ns: int = 2**63 - 1
    ) -> Iterator[tuple[McapChannel, int, bytes]]:
        """Messages of the given topics (None: all) from start until before stop, in time order."""
        wanted = {key: channel for key, channel in self.channels.items() if topics is None or channel.topic in topics}
        if not wanted:
            return
        marks = ",".join("?" * len(wanted))
        query = (
            f"SELECT topic_id, timestamp, data FROM messages WHERE topic_id IN ({marks}) "
            "AND timestamp >= ? AND timestamp < ? ORDER BY timestamp, id"
        )
        with closing(_connect(self.path)) as connection, suppress(sqlite3.DatabaseError):
            # A damaged page ends the messages: those before it were given.
            for key, stamp_ns, data in connection.execute(query, (*wanted, start_ns, stop_ns)):
                message = _unpacked(data) if self.message_zstd else bytes(data)
                if message is not None:
                    yield wanted[key], stamp_ns, message


def open_sqlite_bag(path: str | Path, *, message_zstd: bool = False) -> SqliteScan:
    """Open a ``.db3`` file.

    Raises:
        SqliteBagError: if it is no SQLite bag, or not even its list of topics can be read.
    """
    source = Path(path)
    try:
        with closing(_connect(source)) as connection:
            columns = {row[1] for row in connection.execute("PRAGMA table_info(topics)")}
            if not {"id", "name", "type"} <= columns:
                raise SqliteBagError(f"{source} has no table of topics: it is no bag")
            qos = "offered_qos_profiles" if "offered_qos_profiles" in columns else "''"
            encoding = "serialization_format" if "serialization_format" in columns else "'cdr'"
            rows = list(connection.execute(f"SELECT id, name, type, {encoding}, {qos} FROM topics"))
            definitions = _definitions(connection)
            counts, span, problem = _counts(connection, source)
    except sqlite3.Error as error:
        raise SqliteBagError(f"{source} is not readable as a SQLite bag: {error}") from error
    channels = {}
    for key, name, msgtype, format_, profiles in rows:
        if format_ == "cdr":
            channels[int(key)] = McapChannel(name, msgtype, *definitions.get(msgtype, ("", "")), _qos(profiles))
    named = {channel.topic: counts.get(key, 0) for key, channel in channels.items()}
    chunks = (McapChunk(0, 0, *span),) if span is not None else ()
    return SqliteScan(source, channels, chunks, named, not problem, problem, message_zstd)


def _unpacked(data: bytes) -> bytes | None:
    """A message that was compressed by itself; None for one that is broken or too long."""
    frame = zstd.ZstdDecompressor()
    try:
        message = frame.decompress(data, max_length=MOST_MESSAGE)
    except zstd.ZstdError:
        return None
    return message if frame.eof and not frame.unused_data else None


def _connect(path: Path) -> sqlite3.Connection:
    # A bag beside which a journal lies was not closed: SQLite brings it in order in memory only if it may not write.
    return sqlite3.connect(f"file:{path}?mode=ro", uri=True)


def _definitions(connection: sqlite3.Connection) -> dict[str, tuple[str, str]]:
    """Text and encoding of each type; older bags have none."""
    with suppress(sqlite3.Error):
        query = "SELECT topic_type, encoded_message_definition, encoding FROM message_definitions"
        return {name: (text, encoding) for name, text, encoding in connection.execute(query)}
    return {}


def _counts(connection: sqlite3.Connection, source: Path) -> tuple[dict[int, int], tuple[int, int] | None, str]:
    """Messages of each topic, first and last time, and what is wrong, by walking as far as the file is whole."""
    counts: dict[int, int] = {}
    first: int | None = None
    last = 0
    problem = ""
    try:
        for key, stamp_ns in connection.execute("SELECT topic_id, timestamp FROM messages ORDER BY id"):
            counts[key] = counts.get(key, 0) + 1
            first = stamp_ns if first is None else min(first, stamp_ns)
            last = max(last, stamp_ns)
    except sqlite3.DatabaseError as error:
        problem = f"is damaged ({error}); it is read up to its last whole message"
    return counts, None if first is None else (first, last), problem


def _qos(text: str) -> tuple[Qos, ...]:
    with suppress(Exception):  # text of whichever distribution; without it the defaults serve
        return tuple(parse_qos(text)) if text else ()
    return ()
