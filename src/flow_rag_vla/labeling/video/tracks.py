# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""One thing over many frames: overlap and appearance join detections to tracks, also after it was hidden."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from flow_rag_vla.labeling.detections import Detections
from flow_rag_vla.labeling.pipeline.boxes import overlaps
from flow_rag_vla.labeling.pipeline.errors import SettingError

_FORBIDDEN = 1e6
_SAME_PLACE = 0.3
"""Overlap from which place alone says that it is the same thing."""
_MOMENTUM = 0.9
"""Of a track's appearance: how much of the old stays at each sighting."""


@dataclass(frozen=True, slots=True)
class TrackerSettings:
    """When two sightings are one thing.

    overlap: least intersection over union with where it is expected, 0 to 1
    appearance: least cosine of embeddings for a thing that comes back elsewhere, -1 to 1
    memory_s: seconds for which a thing that is not seen is remembered
    reach: how far a thing may be from where it was last seen, in its own diagonals, a second of absence, at least one
    confirm: sightings after which a track counts; a shorter one is taken for an error

    Raises:
        SettingError: for a value out of its range.
    """

    overlap: float = 0.2
    appearance: float = 0.5
    memory_s: float = 3.0
    reach: float = 4.0
    confirm: int = 2

    def __post_init__(self) -> None:
        if not 0.0 < self.overlap <= 1.0 or not -1.0 <= self.appearance <= 1.0:
            raise SettingError(f"overlap {self.overlap} and appearance {self.appearance}: expected 0 to 1 and -1 to 1")
        if self.memory_s < 0.0 or self.reach <= 0.0 or self.confirm < 1:
            raise SettingError(
                f"memory_s {self.memory_s}, reach {self.reach}, confirm {self.confirm}: expected 0 or more, above 0, "
                "1 or more"
            )


@dataclass(frozen=True, slots=True)
class Sighting:
    """One frame of a track. frame: from 0; row: of the frame's detections; box: (4,) float32, see Boxes."""

    frame: int
    stamp_ns: int
    row: int
    box: NDArray[np.float32]
    score: float


@dataclass(frozen=True, slots=True)
class Track:
    """One thing over time. ``sightings`` are in time order."""

    track_id: int
    label: str
    sightings: tuple[Sighting, ...]

    @property
    def start_frame(self) -> int:
        """First frame that shows it."""
        return self.sightings[0].frame

    @property
    def end_frame(self) -> int:
        """Last frame that shows it."""
        return self.sightings[-1].frame

    @property
    def start_ns(self) -> int:
        """Time of the first frame, nanoseconds."""
        return self.sightings[0].stamp_ns

    @property
    def end_ns(self) -> int:
        """Time of the last frame, nanoseconds."""
        return self.sightings[-1].stamp_ns

    @property
    def mean_confidence(self) -> float:
        """Mean score of its sightings, 0 to 1."""
        return float(np.mean([item.score for item in self.sightings]))


@dataclass(slots=True)
class _Live:
    track_id: int
    label: str
    sightings: list[Sighting] = field(default_factory=list)
    appearance: NDArray[np.float32] | None = None
    recent: deque[tuple[int, NDArray[np.float64]]] = field(default_factory=lambda: deque(maxlen=3))

    def expected(self, stamp_ns: int) -> NDArray[np.float64]:
        """Where its box should be: moved on as it last moved, for a third of a second at most."""
        last_ns, last = self.recent[-1]
        if len(self.recent) < 2:
            return last
        first_ns, first = self.recent[0]
        span = max(last_ns - first_ns, 1)
        ahead = min(stamp_ns - last_ns, 333_000_000)
        shift = ((last[:2] + last[2:]) - (first[:2] + first[2:])) / 2.0 * (ahead / span)
        moved: NDArray[np.float64] = last + np.concatenate([shift, shift])
        return moved


class Tracker:
    """Joins the detections of frames that come in time order. Not safe for use by two threads at once.

    First, things are matched to where their tracks are expected, by overlap and appearance together (Hungarian method);
    then what is left is matched by appearance alone to things of its label that were lost a short while ago. What
    matches nothing begins a track. Only things of one label are matched, unless they cover one another.
    """

    def __init__(self, settings: TrackerSettings | None = None) -> None:
        self.settings = settings or TrackerSettings()
        self._live: list[_Live] = []
        self._done: list[_Live] = []
        self._frame = -1
        self._stamp_ns: int | None = None
        self._next = 1

    def update(self, found: Detections, stamp_ns: int) -> tuple[int, ...]:
        """Track ids, from 1, of the rows of a frame's detections.

        Raises:
            SettingError: for a frame that is older than the last one.
        """
        if self._stamp_ns is not None and stamp_ns < self._stamp_ns:
            raise SettingError(
                f"frame at {stamp_ns} ns comes after one at {self._stamp_ns} ns; give them in time order"
            )
        self._stamp_ns = stamp_ns
        self._frame += 1
        horizon = stamp_ns - int(self.settings.memory_s * 1e9)
        self._done += [track for track in self._live if track.recent[-1][0] < horizon]
        self._live = [track for track in self._live if track.recent[-1][0] >= horizon]
        ids = [0] * len(found)
        if len(found):
            open_rows, open_tracks = list(range(len(found))), list(range(len(self._live)))
            for cost in (self._place_cost(found, stamp_ns), self._return_cost(found, stamp_ns)):
                for row, place in _assigned(cost, open_rows, open_tracks):
                    ids[row] = self._see(self._live[place], found, row, stamp_ns)
                    open_rows.remove(row)
                    open_tracks.remove(place)
            for row in open_rows:
                track = _Live(self._next, found.labels[row])
                self._next += 1
                self._live.append(track)
                ids[row] = self._see(track, found, row, stamp_ns)
        return tuple(ids)

    def tracks(self) -> tuple[Track, ...]:
        """All confirmed tracks so far, by the time at which they begin."""
        chosen = [track for track in (*self._done, *self._live) if len(track.sightings) >= self.settings.confirm]
        chosen.sort(key=lambda track: (track.sightings[0].stamp_ns, track.track_id))
        return tuple(Track(track.track_id, track.label, tuple(track.sightings)) for track in chosen)

    def _see(self, track: _Live, found: Detections, row: int, stamp_ns: int) -> int:
        track.sightings.append(Sighting(self._frame, stamp_ns, row, found.boxes[row].copy(), float(found.scores[row])))
        track.recent.append((stamp_ns, found.boxes[row].astype(np.float64)))
        if found.embeddings is not None:
            new = found.embeddings[row]
            mixed = new if track.appearance is None else _MOMENTUM * track.appearance + (1.0 - _MOMENTUM) * new
            track.appearance = mixed / max(float(np.linalg.norm(mixed)), 1e-9)
        return track.track_id

    def _place_cost(self, found: Detections, stamp_ns: int) -> NDArray[np.float64]:
        """(N, tracks): low where boxes overlap; appearance decides between neighbours."""
        if not self._live:
            return np.zeros((len(found), 0))
        expected = np.stack([track.expected(stamp_ns) for track in self._live]).astype(np.float32)
        last = np.stack([track.recent[-1][1] for track in self._live]).astype(np.float32)
        shared = np.maximum(overlaps(found.boxes, expected), overlaps(found.boxes, last)).astype(np.float64)
        cost = 1.0 - shared + 0.3 * (1.0 - self._likeness(found))
        allowed = (shared >= self.settings.overlap) & (self._same_label(found) | (shared >= 2.0 * _SAME_PLACE))
        return np.where(allowed, cost, _FORBIDDEN)

    def _return_cost(self, found: Detections, stamp_ns: int) -> NDArray[np.float64]:
        """(N, tracks): low where a thing looks like one that was lost, near enough to where that was."""
        if not self._live:
            return np.zeros((len(found), 0))
        last = np.stack([track.recent[-1][1] for track in self._live])
        absent = np.asarray([(stamp_ns - track.recent[-1][0]) / 1e9 for track in self._live])
        centres = (found.boxes[:, :2] + found.boxes[:, 2:]).astype(np.float64) / 2.0
        lost = (last[:, :2] + last[:, 2:]) / 2.0
        diagonal = np.hypot(last[:, 2] - last[:, 0], last[:, 3] - last[:, 1])
        distance = np.linalg.norm(centres[:, None] - lost[None], axis=2) / np.maximum(diagonal, 1.0)
        likeness = self._likeness(found)
        near = distance <= self.settings.reach * np.maximum(absent, 1.0)
        allowed = self._same_label(found) & near & (likeness >= self.settings.appearance)
        return np.where(allowed, (1.0 - likeness) + 0.1 * distance, _FORBIDDEN)

    def _likeness(self, found: Detections) -> NDArray[np.float64]:
        """(N, tracks) cosines; 1 where there is no embedding to say otherwise."""
        likeness = np.ones((len(found), len(self._live)))
        if found.embeddings is not None:
            for place, track in enumerate(self._live):
                if track.appearance is not None and track.appearance.shape == found.embeddings.shape[1:]:
                    likeness[:, place] = found.embeddings @ track.appearance
        return likeness

    def _same_label(self, found: Detections) -> NDArray[np.bool_]:
        labels = np.asarray(found.labels, dtype=object)[:, None]
        return np.asarray(labels == np.asarray([track.label for track in self._live], dtype=object)[None], np.bool_)


def _assigned(cost: NDArray[np.float64], rows: Sequence[int], columns: Sequence[int]) -> list[tuple[int, int]]:
    if not rows or not columns:
        return []
    part = cost[np.ix_(rows, columns)]
    pairs = zip(*linear_sum_assignment(part), strict=True)
    return [(rows[a], columns[b]) for a, b in pairs if part[a, b] < _FORBIDDEN]
