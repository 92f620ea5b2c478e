# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Reads an MCAP file record by record, up to wherever it breaks off (format: https://mcap.dev/spec)."""

from __future__ import annotations

import struct
import sys
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from zlib import crc32

from lz4.frame import decompress as lz4_decompress  # type: ignore[import-untyped]
from rosbags.interfaces import Connection, ConnectionExtRosbag2, MessageDefinitionFormat, Qos
from rosbags.rosbag2.metadata import parse_qos
from rosbags.rosbag2.storage_mcap import McapReader

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

MAGIC = b"\x89MCAP0\r\n"
SCHEMA, CHANNEL, MESSAGE, CHUNK, DATA_END, FOOTER = 0x03, 0x04, 0x05, 0x06, 0x0F, 0x02
MESSAGE_HEADER = 22

PLAIN_RUN = 1 << 20
"""Bytes of records outside chunks that are read at once."""

MOST_CHUNK = 1 << 28
"""Bytes of a chunk when it is unpacked; recorders begin another after a few megabytes."""


class McapError(ValueError):
    """Not an MCAP file at all, or one in which nothing is whole."""


@dataclass(frozen=True, slots=True)
class McapChannel:
    """A topic in the file, with the definition of its type and the quality of service that its publishers offered."""

    topic: str
    msgtype: str
    definition: str
    encoding: str
    qos: tuple[Qos, ...] = ()


@dataclass(frozen=True, slots=True)
class McapChunk:
    """Place and time span (ns) of one chunk; plain: a run of records outside any chunk, as fast writers leave them."""

    offset: int
    size: int
    start_ns: int
    end_ns: int
    plain: bool = False


@dataclass(frozen=True, slots=True)
class McapScan:
    """What is whole in a file.

    complete: the file ends as its writer meant; lost: bytes behind the last whole record;
    problem: what is wrong with it, as the rest of a sentence about it, or empty
    """

    path: Path
    channels: dict[int, McapChannel]
    chunks: tuple[McapChunk, ...]
    counts: dict[str, int]
    complete: bool
    lost: int
    problem: str = ""

    def messages(
        self, topics: Collection[str] | None = None, start_ns: int = 0, stop_ns: int = 2**63 - 1
    ) -> Iterator[tuple[McapChannel, int, bytes]]:
        """Messages of the given topics (None: all) from start until before stop, in time order within a chunk."""
        wanted = {key: channel for key, channel in self.channels.items() if topics is None or channel.topic in topics}
        with self.path.open("rb") as stream:
            for chunk in self.chunks:
                if chunk.end_ns < start_ns or chunk.start_ns >= stop_ns:
                    continue
                stream.seek(chunk.offset)
                data = stream.read(chunk.size)
                body = data if chunk.plain else _chunk_records(data)
                if body is None:
                    continue
                found = []
                for opcode, record in _records(body):
                    if opcode == MESSAGE and len(record) >= MESSAGE_HEADER:
                        key, _, stamp_ns, _ = struct.unpack_from("<HIQQ", record)
                        if key in wanted and start_ns <= stamp_ns < stop_ns:
                            found.append((stamp_ns, key, bytes(record[MESSAGE_HEADER:])))
                found.sort(key=lambda item: item[0])
                for stamp_ns, key, data in found:
                    yield wanted[key], stamp_ns, data


def open_mcap(path: str | Path) -> McapScan:
    """Read the index of a file, or scan the file if it has none.

    Raises:
        McapError: if the file does not begin as MCAP.
        OSError: if it cannot be read.
    """
    source = Path(path)
    reader = McapReader(source)
    try:
        reader.open()
    except Exception:  # whatever the bytes lead its parser to, from KeyError to MemoryError
        return _scanned(source)
    try:
        channels = {
            connection.id: McapChannel(
                connection.topic,
                connection.msgtype,
                connection.msgdef.data,
                "ros2msg" if connection.msgdef.format == MessageDefinitionFormat.MSG else "",
                _offered(connection),
            )
            for connection in reader.connections
        }
        chunks = tuple(
            McapChunk(
                chunk.chunk_start_offset + 9, chunk.chunk_length - 9, chunk.message_start_time, chunk.message_end_time
            )
            for chunk in reader.chunks
        )
        size = source.stat().st_size
        if any(not 0 < chunk.offset < chunk.offset + chunk.size <= size for chunk in chunks):
            return _scanned(source)
        if not chunks and reader.connections:
            return scan_mcap(source)
        counts: dict[str, int] = {}
        for connection in reader.connections:
            counts[connection.topic] = counts.get(connection.topic, 0) + connection.msgcount
        return McapScan(source, channels, chunks, counts, True, 0)
    finally:
        reader.close()


def _scanned(source: Path) -> McapScan:
    """The scan of a file whose index is missing or broken."""
    scan = scan_mcap(source)
    if scan.complete:
        return replace(scan, complete=False, problem="has a damaged index and was read by scanning")
    return scan


def scan_mcap(path: str | Path) -> McapScan:
    """Find every whole chunk of a file, however it ends.

    A chunk whose checksum or compression is broken ends the scan: what follows cannot be trusted.

    Raises:
        McapError: if the file does not begin as MCAP.
        OSError: if it cannot be read.
    """
    source = Path(path)
    size = source.stat().st_size
    schemas: dict[int, tuple[str, str, str]] = {}
    channels: dict[int, McapChannel] = {}
    counts: dict[str, int] = {}
    chunks: list[McapChunk] = []
    complete, whole = False, len(MAGIC)
    plain: McapChunk | None = None
    with source.open("rb") as stream:
        if stream.read(len(MAGIC)) != MAGIC:
            raise McapError(f"{source} is not an MCAP file: it does not begin with the magic bytes")
        while True:
            header = stream.read(9)
            if len(header) < 9:
                break
            opcode, length = header[0], struct.unpack_from("<Q", header, 1)[0]
            offset = stream.tell()
            if offset + length > size:
                break
            if opcode == DATA_END:
                # What follows is the index: all that matters is whether the file ends as it should.
                stream.seek(-len(MAGIC), 2)
                complete = stream.read() == MAGIC
                whole = size if complete else offset + length
                break
            if opcode == CHUNK:
                record = stream.read(length)
                body = _chunk_records(record)
                if body is None:
                    break
                start_ns, end_ns = struct.unpack_from("<QQ", record)
                chunks.append(McapChunk(offset, length, start_ns, end_ns))
                for inner, data in _records(body):
                    # A record that makes no sense in a chunk without a checksum costs only itself.
                    with suppress(struct.error, UnicodeDecodeError):
                        _note(inner, data, schemas, channels, counts)
            elif opcode in (SCHEMA, CHANNEL, MESSAGE):
                record = stream.read(length)
                with suppress(struct.error, UnicodeDecodeError):
                    _note(opcode, memoryview(record), schemas, channels, counts)
                if opcode == MESSAGE and len(record) >= MESSAGE_HEADER:
                    plain = _extended(plain, offset - 9, length + 9, int(struct.unpack_from("<Q", record, 6)[0]))
                    if chunks and chunks[-1].plain and chunks[-1].offset == plain.offset:
                        chunks[-1] = plain
                    else:
                        chunks.append(plain)
            else:
                stream.seek(length, 1)
            whole = offset + length
    lost = size - whole
    problem = f"breaks off: its writer did not close it, and {lost} bytes behind the last whole chunk are not readable"
    return McapScan(source, channels, tuple(chunks), counts, complete, lost, "" if complete else problem)


def _extended(run: McapChunk | None, offset: int, size: int, stamp_ns: int) -> McapChunk:
    """A run of plain records with one more behind it, or a new run."""
    if run is None or run.offset + run.size != offset or run.size > PLAIN_RUN:
        return McapChunk(offset, size, stamp_ns, stamp_ns, plain=True)
    return McapChunk(run.offset, run.size + size, min(run.start_ns, stamp_ns), max(run.end_ns, stamp_ns), plain=True)


def _offered(connection: Connection) -> tuple[Qos, ...]:
    extension = connection.ext
    return tuple(extension.offered_qos_profiles) if isinstance(extension, ConnectionExtRosbag2) else ()


def _metadata_qos(record: memoryview, place: int) -> tuple[Qos, ...]:
    """Quality of service in the metadata of a channel record; none if it is not understood."""
    (length,) = struct.unpack_from("<I", record, place)
    place, end = place + 4, place + 4 + length
    while place < end:
        key, place = _string(record, place)
        value, place = _string(record, place)
        if key == "offered_qos_profiles":
            # Whatever another writer put there must not keep its messages from being read.
            with suppress(Exception):
                return tuple(parse_qos(value))
    return ()


def _note(
    opcode: int,
    record: memoryview,
    schemas: dict[int, tuple[str, str, str]],
    channels: dict[int, McapChannel],
    counts: dict[str, int],
) -> None:
    if opcode == SCHEMA:
        (key,) = struct.unpack_from("<H", record)
        name, place = _string(record, 2)
        encoding, place = _string(record, place)
        text, _ = _string(record, place)
        schemas[key] = (name, encoding, text)
    elif opcode == CHANNEL:
        key, schema = struct.unpack_from("<HH", record)
        topic, place = _string(record, 4)
        _, place = _string(record, place)
        name, encoding, text = schemas.get(schema, ("", "", ""))
        channels[key] = McapChannel(topic, name, text, encoding, _metadata_qos(record, place))
        counts.setdefault(topic, 0)
    elif opcode == MESSAGE:
        (key,) = struct.unpack_from("<H", record)
        if key in channels:
            counts[channels[key].topic] += 1


def _chunk_records(record: bytes) -> bytes | None:
    """The records inside a chunk; None if it is broken."""
    try:
        size, crc = struct.unpack_from("<QI", record, 16)
        compression, place = _string(memoryview(record), 28)
        (length,) = struct.unpack_from("<Q", record, place)
        body = record[place + 8 : place + 8 + length]
        if size > MOST_CHUNK:
            return None
        if compression == "zstd":
            body = _unpacked(body, size)
        elif compression == "lz4":
            body = lz4_decompress(body)
        elif compression:
            return None
    except (struct.error, UnicodeDecodeError, RuntimeError, ValueError, zstd.ZstdError):
        return None
    if len(body) != size or (crc and crc32(body) != crc):
        return None
    return body


def _unpacked(body: bytes, size: int) -> bytes:
    """The frames of zstd, no further than the chunk says: a few kilobytes can unpack to gigabytes."""
    parts = []
    while body and size >= 0:
        frame = zstd.ZstdDecompressor()
        # One byte more than is allowed: what has it is not what the chunk says.
        parts.append(frame.decompress(body, max_length=size + 1))
        if not frame.eof:
            raise ValueError("a frame that is cut off, or longer than the chunk says")
        size, body = size - len(parts[-1]), frame.unused_data
    return b"".join(parts)


def _records(body: bytes) -> Iterator[tuple[int, memoryview]]:
    view, place = memoryview(body), 0
    while place + 9 <= len(view):
        (length,) = struct.unpack_from("<Q", view, place + 1)
        if place + 9 + length > len(view):
            return
        yield view[place], view[place + 9 : place + 9 + length]
        place += 9 + length


def _string(record: memoryview, place: int) -> tuple[str, int]:
    (length,) = struct.unpack_from("<I", record, place)
    place += 4
    return bytes(record[place : place + length]).decode(), place + length
