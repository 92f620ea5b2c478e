# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A bag in several files, split by size or time, so that old parts can be moved away while recording goes on."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml
from rosbags.interfaces import Qos

from flow_rag_vla.core.files import write_text
from flow_rag_vla.data.bag_writer import BagWriter
from flow_rag_vla.data.definitions import Definitions

_INFORMATION = "rosbag2_bagfile_information"


class SplitBagWriter:
    """One bag folder with ``<name>_0.mcap``, ``<name>_1.mcap`` and so on; otherwise as :class:`BagWriter`.

    Every part is whole by itself: its own definitions, its own index. ``metadata.yaml`` covers the parts that are
    closed; a killed writer leaves the last one to be read by scanning.
    """

    def __init__(
        self,
        folder: str | Path,
        definitions: Definitions | None = None,
        *,
        compress: bool = True,
        split_bytes: int = 0,
        split_ns: int = 0,
    ) -> None:
        """Create the bag.

        Args:
            folder: the bag's folder; must not exist.
            definitions: where the text of message types comes from; default: the installed ones.
            compress: zstd-compress each chunk.
            split_bytes: size from which on a part is closed; 0: no limit.
            split_ns: time span from which on a part is closed; 0: no limit.

        Raises:
            FileExistsError: if the folder exists.
            OSError: if it cannot be made.
        """
        self.folder = Path(folder)
        if self.folder.exists():
            raise FileExistsError(f"{self.folder} exists already; choose another folder for the bag")
        self.folder.mkdir(parents=True)
        self._definitions = definitions
        self._compress = compress
        self._split_bytes, self._split_ns = split_bytes, split_ns
        self._topics: dict[str, tuple[str, tuple[Qos, ...]]] = {}
        self._closed_parts: list[dict[str, Any]] = []
        self._messages = self._size = 0
        self._first_ns: int | None = None
        self.closed = False
        self._part = self._new_part()

    @property
    def definitions(self) -> Definitions:
        """Where the text of message types comes from."""
        return self._part.definitions

    @property
    def topics(self) -> tuple[str, ...]:
        """Topics in the order they were added."""
        return tuple(self._topics)

    @property
    def messages(self) -> int:
        """Messages written."""
        return self._messages + self._part.messages

    @property
    def size(self) -> int:
        """Bytes in all files."""
        return self._size + (0 if self.closed else self._part.size)

    @property
    def parts(self) -> int:
        """Files begun."""
        return len(self._closed_parts) + (0 if self.closed else 1)

    def add_topic(self, topic: str, msgtype: str, qos: Sequence[Qos] = ()) -> None:
        """Declare a topic; errors as :meth:`BagWriter.add_topic`."""
        self._part.add_topic(topic, msgtype, qos)
        self._topics.setdefault(topic, (msgtype, tuple(qos)))

    def write(self, topic: str, stamp_ns: int, data: bytes | memoryview) -> None:
        """Append the CDR bytes of one message; errors as :meth:`BagWriter.write`."""
        if self._is_full(stamp_ns):
            self._turn_over()
        if self._first_ns is None:
            self._first_ns = stamp_ns
        self._part.write(topic, stamp_ns, data)

    def write_message(self, topic: str, stamp_ns: int, message: Any) -> None:
        """Append one message made by :meth:`Definitions.message`; errors as :meth:`write`."""
        self.write(topic, stamp_ns, self.definitions.serialize(message, self._topics[topic][0]))

    def checkpoint(self) -> None:
        """Put what has gathered into the file; errors as :meth:`BagWriter.checkpoint`."""
        self._part.checkpoint()

    def close(self) -> None:
        """Close the last part and write metadata.yaml; errors as :meth:`BagWriter.close`."""
        if self.closed:
            return
        self._close_part()
        self.closed = True

    def __enter__(self) -> SplitBagWriter:
        """The writer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the bag, also after an error: what was recorded is kept."""
        self.close()

    def _is_full(self, stamp_ns: int) -> bool:
        if not self._part.messages:
            return False
        if self._split_bytes and self._part.size >= self._split_bytes:
            return True
        return bool(self._split_ns and self._first_ns is not None and stamp_ns - self._first_ns >= self._split_ns)

    def _turn_over(self) -> None:
        self._close_part()
        self._messages += self._part.messages
        self._part = self._new_part()
        self._first_ns = None
        for topic, (msgtype, qos) in self._topics.items():
            self._part.add_topic(topic, msgtype, qos)

    def _new_part(self) -> BagWriter:
        name = f"{self.folder.name}_{len(self._closed_parts)}"
        return BagWriter(
            self.folder / f".{name}", self._definitions, compress=self._compress, file=self.folder / f"{name}.mcap"
        )

    def _close_part(self) -> None:
        beside = self._part.folder
        self._part.close()
        self._size += self._part.size
        loaded = yaml.safe_load((beside / "metadata.yaml").read_text(encoding="utf-8"))
        self._closed_parts.append(loaded[_INFORMATION])
        write_text(self.folder / "metadata.yaml", yaml.safe_dump({_INFORMATION: _merged(self._closed_parts)}))
        shutil.rmtree(beside, ignore_errors=True)


def _merged(parts: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """One description of all parts, in the layout of ``ros2 bag``."""
    spans = [
        (part["starting_time"]["nanoseconds_since_epoch"], part["duration"]["nanoseconds"])
        for part in parts
        if part["message_count"]
    ]
    start = min((begin for begin, _ in spans), default=0)
    end = max((begin + length for begin, length in spans), default=start)
    topics: dict[str, dict[str, Any]] = {}
    for part in parts:
        for item in part["topics_with_message_count"]:
            name = item["topic_metadata"]["name"]
            if name in topics:
                topics[name]["message_count"] += item["message_count"]
            else:
                topics[name] = dict(item)
    return {
        **parts[-1],
        "relative_file_paths": [name for part in parts for name in part["relative_file_paths"]],
        "files": [item for part in parts for item in part.get("files", [])],
        "message_count": sum(part["message_count"] for part in parts),
        "starting_time": {"nanoseconds_since_epoch": start},
        "duration": {"nanoseconds": end - start},
        "topics_with_message_count": list(topics.values()),
    }
