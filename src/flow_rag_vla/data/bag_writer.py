# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Writes MCAP bags that lose at most what came after the last checkpoint, whatever happens to the process."""

from __future__ import annotations

import os
import sys
from collections import defaultdict
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, cast

from rosbags.interfaces import Connection, Qos
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.rosbag2.enums import CompressionFormat, CompressionMode
from rosbags.rosbag2.storage_mcap import McapWriter, PendingChunk

from flow_rag_vla.data.definitions import Definitions, installed_definitions

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

BAG_VERSION: Literal[9] = 9
"""Layout of metadata.yaml that ROS 2 Kilted writes; Jazzy and Iron read it too."""


class BagWriteError(OSError):
    """The disk took no more. What was written until the last chunk is kept; the text says where and why."""


class BagWriter:
    """One bag folder: ``<name>.mcap`` and, after :meth:`close`, ``metadata.yaml``.

    Messages gather in a chunk of up to 1 MiB in memory. :meth:`checkpoint` puts the chunk into the file, so that a
    killed process loses only what came later; such a file has no index and is read by :mod:`flow_rag_vla.data.bag`
    (and mended by ``mcap recover``). Not safe for use from several threads.
    """

    def __init__(
        self,
        folder: str | Path,
        definitions: Definitions | None = None,
        *,
        compress: bool = True,
        file: Path | None = None,
    ) -> None:
        """Create the bag.

        Args:
            folder: the bag's folder; must not exist.
            definitions: where the text of message types comes from; default: the installed ones.
            compress: zstd-compress each chunk. Rendered images shrink to about a fifth.
            file: where the messages go, if not into ``folder``, on the same disk: one part of a larger bag.

        Raises:
            FileExistsError: if the folder exists.
            OSError: if it cannot be made.
        """
        self.folder = Path(folder)
        self.definitions = definitions or installed_definitions()
        if self.folder.exists():
            raise FileExistsError(f"{self.folder} exists already; choose another folder for the bag")
        self.folder.parent.mkdir(parents=True, exist_ok=True)
        self._writer = Writer(self.folder, version=BAG_VERSION, storage_plugin=StoragePlugin.MCAP)
        if compress:
            self._writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
        self._writer.open()
        self._storage = cast(McapWriter, self._writer.storage)
        if compress:
            # With a checksum in each frame: rosbags writes none of its own, and a flipped bit would pass for data.
            self._storage.compressor = _compressed
        # The file object of rosbags buffers: after a full disk it would retry its buffer on close, at the wrong place.
        self._storage.bio.close()
        if file is not None:
            self._storage.path = Path(self._storage.path).rename(file)
        self._file = _WholeFile(self._storage.path)
        self._storage.bio = cast(Any, self._file)
        self._whole = self._file.tell()
        self._connections: dict[str, Connection] = {}
        self.messages = 0
        self.closed = False

    @property
    def topics(self) -> tuple[str, ...]:
        """Topics in the order they were added."""
        return tuple(self._connections)

    @property
    def size(self) -> int:
        """Bytes in the file."""
        return self._file.tell()

    def add_topic(self, topic: str, msgtype: str, qos: Sequence[Qos] = ()) -> None:
        """Declare a topic.

        Raises:
            UnknownTypeError: if the definition of ``msgtype`` is not found.
            ValueError: if the topic was added before with another type.
        """
        known = self._connections.get(topic)
        if known is not None:
            if known.msgtype != msgtype:
                raise ValueError(f"{topic} is recorded as {known.msgtype}, not {msgtype}")
            return
        text, digest = self.definitions.definition(msgtype)
        self._connections[topic] = self._writer.add_connection(
            topic, msgtype, msgdef=text, rihs01=digest, offered_qos_profiles=tuple(qos)
        )

    def write(self, topic: str, stamp_ns: int, data: bytes | memoryview) -> None:
        """Append the CDR bytes of one message.

        Raises:
            KeyError: if the topic was not added.
            BagWriteError: if the disk is full or gone; the bag is then closed with what is whole.
        """
        self._require_open()
        connection = self._connections[topic]
        try:
            self._writer.write(connection, stamp_ns, data)
        except OSError as error:
            raise self._give_up(error) from error
        self.messages += 1
        if not self._storage.chunk.msgs:
            self._whole = self._file.tell()

    def write_message(self, topic: str, stamp_ns: int, message: Any) -> None:
        """Append one message made by :meth:`Definitions.message`; errors as :meth:`write`."""
        self.write(topic, stamp_ns, self.definitions.serialize(message, self._connections[topic].msgtype))

    def checkpoint(self) -> None:
        """Put what has gathered into the file.

        Raises:
            BagWriteError: as :meth:`write`.
        """
        self._require_open()
        if not self._storage.chunk.msgs:
            return
        try:
            self._storage.close_chunk()
        except OSError as error:
            raise self._give_up(error) from error
        self._whole = self._file.tell()

    def close(self) -> None:
        """Write index, summary and metadata.yaml; a second call does nothing.

        Raises:
            BagWriteError: if there is no room for them; the messages themselves are kept.
        """
        if self.closed:
            return
        self.checkpoint()
        self.closed = True
        try:
            self._file.sync()
            self._writer.close()
        except OSError as error:
            self._abandon()
            raise BagWriteError(
                error.errno, f"no room for the index of {self.folder}: {error.strerror}; its messages are whole"
            ) from error

    def __enter__(self) -> BagWriter:
        """The writer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the bag, also after an error: what was recorded is kept."""
        self.close()

    def _require_open(self) -> None:
        if self.closed:
            raise ValueError(f"{self.folder} is closed")

    def _give_up(self, error: OSError) -> BagWriteError:
        """Cut the half-written chunk off and close; cutting may free the room that the index needs."""
        self.closed = True
        lost = 0
        for channel, entries in self._storage.chunk.msgs.items():
            lost += len(entries)
            self._storage.channel_stats[channel] -= len(entries)
        # The writer has not counted the message that it failed on; the storage has.
        self._writer.counts.update(self._storage.channel_stats)
        self.messages = sum(self._writer.counts.values())
        self._storage.chunk = PendingChunk(2**63 - 1, 0, BytesIO(), defaultdict(list))
        try:
            self._file.cut(self._whole)
            self._writer.close()
            state = "the bag is closed and whole up to there"
        except OSError:
            self._abandon()
            state = "there was no room for its index either: it is read by scanning"
        return BagWriteError(
            error.errno,
            f"{self.folder}: {error.strerror or error} after {self._whole} bytes; {lost} messages lost, {state}",
        )

    def _abandon(self) -> None:
        try:
            self._file.cut(self._whole)
        finally:
            self._writer.abort()


def _compressed(data: bytes) -> bytes:
    return bytes(zstd.compress(data, options={zstd.CompressionParameter.checksum_flag: 1}))


class _WholeFile:
    """An unbuffered file: each write is complete or raises, so that the place of the last whole record is known."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CLOEXEC)
        self._position = os.fstat(self._descriptor).st_size

    def write(self, data: bytes | memoryview) -> int:
        view = memoryview(data).cast("B")
        size = len(view)
        while view:
            view = view[os.write(self._descriptor, view) :]
        self._position += size
        return size

    def tell(self) -> int:
        return self._position

    def cut(self, position: int) -> None:
        os.ftruncate(self._descriptor, position)
        self._position = position

    def sync(self) -> None:
        os.fsync(self._descriptor)

    def close(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1
