# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""When the robot failed, as its bags say: frames from around those times are looked at first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.data.bag import Bag, BagError
from flow_rag_vla.data.message_values import stamp_ns
from flow_rag_vla.labeling.registry.reading import ReadingRegistry
from flow_rag_vla.labeling.registry.values import SourceKind

TOPIC = "failure_event"
BEFORE_S, AFTER_S = 2.0, 1.0
"""Seconds around a failure whose frames come first: what led to it, and what it left."""


@dataclass(frozen=True, slots=True)
class FailureWindow:
    """Frames of one source that show a failure.

    start_ns, end_ns: both inclusive, of the clock of the picture's stamps; reason: what failed, in words
    """

    source_id: str
    start_ns: int
    end_ns: int
    reason: str


def bag_failures(
    path: str | Path, source_id: str, *, before_s: float = BEFORE_S, after_s: float = AFTER_S
) -> tuple[FailureWindow, ...]:
    """The failures that a bag recorded on ``failure_event``, in the order of time; none where it has no such topic.

    A window begins ``before_s`` ahead of the failure's onset, and ends ``after_s`` past its detection.

    Raises:
        BagError: the bag cannot be read.
        ValueError: a negative time.
    """
    if not (before_s >= 0.0 and after_s >= 0.0):
        raise ValueError(f"{before_s} s before and {after_s} s after a failure; neither may be negative")
    found = []
    for entry in Bag(path).messages([TOPIC]):
        event = entry.message
        seen = stamp_ns(event.header)
        onset = stamp_ns(event.onset) or seen
        kind = int(event.failure_type)
        known = kind in FailureType._value2member_map_
        name = FailureType(kind).name.lower().replace("_", " ") if known else "failure"
        reason = f"{name} in {event.phase}" if event.phase else name
        start, end = onset - round(before_s * 1e9), max(onset, seen) + round(after_s * 1e9)
        found.append(FailureWindow(source_id, start, end, reason))
    return tuple(sorted(found, key=lambda window: (window.start_ns, window.end_ns, window.reason)))


class FailureWindows:
    """The failures of a registry's bags; each bag is read once, for as long as it does not change."""

    def __init__(self) -> None:
        """Begin with nothing read."""
        self._kept: dict[tuple[str, int], tuple[FailureWindow, ...]] = {}
        self.problems: tuple[str, ...] = ()
        """Bags that could not be read the last time: paths with reasons."""

    def of(self, registry: ReadingRegistry, project: str = "") -> tuple[FailureWindow, ...]:
        """The failures of every bag among the sources of a project, or of all.

        Raises:
            UnknownError: there is no such project.
        """
        found: list[FailureWindow] = []
        problems = []
        after = ""
        while page := registry.sources(project, after=after):
            after = page[-1].source_id
            for source in page:
                if source.kind is not SourceKind.BAG:
                    continue
                try:
                    found += self._read(Path(source.path), source.source_id)
                except (BagError, OSError) as error:
                    problems.append(f"{source.path}: {error}")
        self.problems = tuple(problems)
        return tuple(found)

    def _read(self, path: Path, source_id: str) -> tuple[FailureWindow, ...]:
        key = source_id, path.stat().st_mtime_ns
        if key not in self._kept:
            self._kept[key] = bag_failures(path, source_id)
        return self._kept[key]


def reasons_at(windows: Sequence[FailureWindow], source_ids: Sequence[str], stamps_ns: Sequence[int]) -> list[str]:
    """N reasons: which failure each picture (its source and its stamp) is from the time of, "" for none."""
    by_source: dict[str, list[FailureWindow]] = {}
    for window in windows:
        by_source.setdefault(window.source_id, []).append(window)
    return [
        next((item.reason for item in by_source.get(source, ()) if item.start_ns <= stamp <= item.end_ns), "")
        for source, stamp in zip(source_ids, stamps_ns, strict=True)
    ]
