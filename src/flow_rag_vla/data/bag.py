# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The reading side of bags: typed messages, images, and what happened when. No ROS needed.

Bags whose writer was killed have no index; they are read by scanning, and say so.
"""

from __future__ import annotations

import heapq
import re
import shutil
import sys
import tempfile
from collections.abc import Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from flow_rag_vla.core.yaml_text import plain_yaml
from flow_rag_vla.data.definitions import Definitions
from flow_rag_vla.data.mcap_scan import McapChannel, McapError, McapScan, open_mcap
from flow_rag_vla.data.message_values import image_pixels
from flow_rag_vla.data.sqlite_scan import SqliteBagError, SqliteScan, open_sqlite_bag

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


REORDER_NS = 2_000_000_000
"""How far messages may lie out of order."""

SAME_CLOCK_NS = 5_000_000_000
"""Stamps within this of the time of reception are of the system clock; others are of a simulation or of another bag."""

Scan = McapScan | SqliteScan

SUFFIXES = (".mcap", ".db3", ".mcap.zstd", ".db3.zstd")

MOST_RATIO = 200
"""What was compressed as a whole may unpack to so many times its size; recorded topics do not come near it."""
LEAST_LIMIT = 256 << 20
"""What any such file may unpack to, bytes."""
SPARE_DISK = 1 << 30
"""Bytes that unpacking leaves free: a full disk stops those who record."""
_BLOCK = 1 << 20


class BagError(RuntimeError):
    """A bag that cannot be read; the text names the path and the remedy."""


@dataclass(frozen=True, slots=True)
class BagMessage:
    """One message: ``log_ns`` is when the recorder received it, system clock."""

    topic: str
    msgtype: str
    log_ns: int
    message: Any


@dataclass(frozen=True, slots=True)
class BagTopic:
    """A topic of a bag."""

    name: str
    msgtype: str
    count: int


class Bag:
    """A bag opened for reading. Cheap to open: only the index of chunks is held."""

    def __init__(self, path: str | Path) -> None:
        """Open a bag folder or a single file: .mcap or .db3, also of several parts, also compressed as a whole.

        Raises:
            BagError: if there is no bag, nothing in it is readable, or a compressed part unpacks to too much.
        """
        self.path = Path(path)
        if not self.path.exists():
            raise BagError(
                f"there is nothing at {self.path}; give a bag folder, a run folder such as runs/TIME, or a file"
            )
        files = bag_files(self.path)
        if not files or not files[0].exists():
            raise BagError(f"{self.path} holds no .mcap or .db3 file; give the folder that the recorder wrote")
        scans: list[Scan] = []
        problems = []
        message_zstd = _compressed_messages(self.path)
        self._unpacked: list[tempfile.TemporaryDirectory[str]] = []
        for file in files:
            try:
                whole = self._whole(file)
                sqlite = whole.suffix == ".db3"
                scans.append(open_sqlite_bag(whole, message_zstd=message_zstd) if sqlite else open_mcap(whole))
            except (McapError, SqliteBagError, OSError) as error:
                problems.append(f"{file.name}: {error}")
                continue
            if scans[-1].problem:
                problems.append(f"{file.name} {scans[-1].problem}")
        if not scans:
            raise BagError(f"{self.path} is not readable: {'; '.join(problems)}")
        self._scans: tuple[Scan, ...] = tuple(scans)
        self.problems: tuple[str, ...] = tuple(problems)
        self._definitions = Definitions()
        self._unreadable: set[str] = set()
        for scan in scans:
            for channel in scan.channels.values():
                if channel.encoding == "ros2msg" and channel.definition:
                    # Damaged text raises whatever its parser is led to; the installed definition then serves, if any.
                    with suppress(Exception):
                        self._definitions.register_text(channel.msgtype, channel.definition)
        counts: dict[str, int] = {}
        types: dict[str, str] = {}
        for scan in scans:
            types.update({channel.topic: channel.msgtype for channel in scan.channels.values()})
            for topic, count in scan.counts.items():
                counts[topic] = counts.get(topic, 0) + count
        self.topics: dict[str, BagTopic] = {
            topic: BagTopic(topic, types[topic], count) for topic, count in sorted(counts.items())
        }

    @property
    def channels(self) -> tuple[McapChannel, ...]:
        """Every channel of every part: a topic may have several."""
        return tuple(channel for scan in self._scans for channel in scan.channels.values())

    def raw(
        self, topics: Collection[str] | None = None, start_ns: int = 0, stop_ns: int = 2**63 - 1
    ) -> Iterator[tuple[McapChannel, int, bytes]]:
        """Messages as they were recorded (channel, log time, CDR bytes), log time in [start, stop), in time order.

        topics: full names; None for all.
        """
        # A recorder writes topics in batches: around the edge of a chunk messages lie out of order by less than this.
        waiting: list[tuple[int, int, McapChannel, bytes]] = []
        count = 0
        for scan in self._scans:
            for channel, stamp_ns, data in scan.messages(topics, start_ns, stop_ns):
                heapq.heappush(waiting, (stamp_ns, count, channel, data))
                count += 1
                while waiting[0][0] < stamp_ns - REORDER_NS:
                    oldest = heapq.heappop(waiting)
                    yield oldest[2], oldest[0], oldest[3]
        while waiting:
            oldest = heapq.heappop(waiting)
            yield oldest[2], oldest[0], oldest[3]

    def _whole(self, file: Path) -> Path:
        """The file itself, or what a compressed one holds, for as long as this bag is open."""
        if file.suffix != ".zstd":
            return file
        folder = tempfile.TemporaryDirectory(prefix="flow_rag_vla_bag_")
        target = Path(folder.name) / file.stem
        try:
            _unpack(file, target)
        except BaseException:
            folder.cleanup()
            raise
        self._unpacked.append(folder)
        return target

    @property
    def complete(self) -> bool:
        """Whether the recorder closed the bag."""
        return not self.problems

    @property
    def size(self) -> int:
        """Bytes on disk."""
        return sum(scan.path.stat().st_size for scan in self._scans)

    @property
    def start_ns(self) -> int:
        """Log time of the first message; 0 in an empty bag."""
        spans = (chunk for scan in self._scans for chunk in scan.chunks if chunk.start_ns <= chunk.end_ns)
        return min((chunk.start_ns for chunk in spans), default=0)

    @property
    def end_ns(self) -> int:
        """Log time of the last message; 0 in an empty bag."""
        return max((chunk.end_ns for scan in self._scans for chunk in scan.chunks), default=0)

    def find(self, topic: str) -> str | None:
        """Full name of a topic given relatively ("command" finds "/robot_1/command"); None if absent.

        The shortest match is taken, so that the root namespace wins.
        """
        relative = topic.lstrip("/")
        matches = [name for name in self.topics if name == topic or name.lstrip("/") == relative]
        matches += [name for name in self.topics if name.endswith("/" + relative)]
        return min(matches, key=len) if matches else None

    def messages(
        self, topics: Collection[str] | None = None, start_ns: int = 0, stop_ns: int = 2**63 - 1
    ) -> Iterator[BagMessage]:
        """Typed messages of some topics (relative names will do; None: all), log time in [start, stop).

        A message that does not fit its definition is skipped.
        """
        names = None
        if topics is not None:
            names = {found for topic in topics if (found := self.find(topic)) is not None}
            if not names:
                return
        for scan in self._scans:
            for channel, stamp_ns, data in scan.messages(names, start_ns, stop_ns):
                try:
                    message = self._definitions.deserialize(data, channel.msgtype)
                except Exception:  # generated decoders raise whatever the bytes lead them to
                    self._unreadable.add(channel.topic)
                    continue
                yield BagMessage(channel.topic, channel.msgtype, stamp_ns, message)

    @property
    def unreadable(self) -> tuple[str, ...]:
        """Topics of which a message could not be decoded so far."""
        return tuple(sorted(self._unreadable))


def _unpack(file: Path, target: Path) -> None:
    """Unpack a file that was compressed as a whole; one that breaks off as far as it goes, the scan says where.

    Raises:
        BagError: if it holds more than it may, or than the disk has room for.
    """
    limit, written = max(LEAST_LIMIT, MOST_RATIO * file.stat().st_size), 0
    by_hand = f"if you trust it, unpack it where there is room (zstd -d {file.name}) and open that"
    # A frame that breaks off, or bytes that are none.
    with suppress(zstd.ZstdError, EOFError), zstd.open(file, "rb") as packed, target.open("wb") as plain:
        while block := packed.read(_BLOCK):
            written += len(block)
            if written > limit:
                raise BagError(
                    f"{file} holds more than {limit / 1e6:.0f} MB in {file.stat().st_size / 1e6:.1f} MB, which no "
                    f"recorder writes; {by_hand}"
                )
            if shutil.disk_usage(target.parent).free < SPARE_DISK + len(block):
                raise BagError(
                    f"{file} does not fit into {target.parent.parent}: after {written / 1e6:.0f} MB less than "
                    f"{SPARE_DISK / 1e9:.1f} GB would be left; name a larger disk with TMPDIR, or {by_hand}"
                )
            plain.write(block)


def bag_files(path: Path) -> list[Path]:
    """The files of a bag in the order of its parts: as its metadata say, else by number."""
    if not path.is_dir():
        return [path]
    found = {item.name: item for item in path.iterdir() if item.name.endswith(SUFFIXES)}
    order = [name for name in _listed(path) if name in found]
    rest = sorted(set(found) - set(order), key=_natural)
    return [found[name] for name in (*order, *rest)]


def _natural(name: str) -> list[tuple[int, str]]:
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", name)]


def _listed(path: Path) -> list[str]:
    """Names of the parts in metadata.yaml, also as they are when compressed."""
    about = _information(path)
    names = [str(name).rsplit("/", 1)[-1] for name in about.get("relative_file_paths") or []]
    return [variant for name in names for variant in (name, f"{name}.zstd")]


def _compressed_messages(path: Path) -> bool:
    return str(_information(path).get("compression_mode", "")).lower() == "message"


def _information(path: Path) -> dict[str, Any]:
    try:
        loaded = plain_yaml((path / "metadata.yaml").read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError):
        return {}
    about = loaded.get("rosbag2_bagfile_information") if isinstance(loaded, dict) else None
    return about if isinstance(about, dict) else {}


def read_bag(
    path: str | Path, topics: Collection[str] | None = None, start_ns: int = 0, stop_ns: int = 2**63 - 1
) -> Iterator[BagMessage]:
    """Iterate the typed messages of a bag; see :meth:`Bag.messages`.

    Raises:
        BagError: if the bag cannot be opened.
    """
    return Bag(path).messages(topics, start_ns, stop_ns)


def images(
    bag: Bag, topic: str, start_ns: int = 0, stop_ns: int = 2**63 - 1
) -> Iterator[tuple[int, NDArray[np.uint8]]]:
    """Log time and (H, W, 3) uint8 RGB pixels of each whole image of a topic; broken ones are passed over."""
    for entry in bag.messages([topic], start_ns, stop_ns):
        try:
            yield entry.log_ns, image_pixels(entry.message)
        except ValueError:
            continue


def image_near(bag: Bag, topic: str, log_ns: int, within_ns: int = 500_000_000) -> NDArray[np.uint8] | None:
    """The image received closest to a moment, or None when there is none within reach."""
    best: tuple[int, NDArray[np.uint8]] | None = None
    for received, pixels in images(bag, topic, max(0, log_ns - within_ns), log_ns + within_ns + 1):
        distance = abs(received - log_ns)
        if best is None or distance < best[0]:
            best = (distance, pixels)
    return None if best is None else best[1]
