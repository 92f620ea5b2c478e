# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The newest of everything, for pages that look when they can.

The node puts in what it hears; each page takes a frame of what is new to it. What a page did not take in time is gone:
nothing is ever queued for one.
"""

from __future__ import annotations

import base64
import math
import threading
from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.action import TICK_NS, ActionChunk, CorrectionMode
from flow_rag_vla.core.correction import Correction
from flow_rag_vla.gateway.live.geometry import StillCamera, path_ahead, planned_path, project
from flow_rag_vla.gateway.live.timeline import FailureSeen, Timeline

HISTORY = 480
"""Commands kept: 12 s, what the page plots."""

ERRORS = 2400
"""Intervals between commands kept for the histogram: a minute."""

EDGES_MS: tuple[float, ...] = (0.0, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 12.5, 25.0)
"""Bins of |interval - 25 ms|; from 12.5 ms on a tick is late. The last bin has no upper edge."""


@dataclass(frozen=True, slots=True)
class CommandSeen:
    """One command as the page needs it. action: 7 numbers; target: x, y, z metres, or None while there is none."""

    stamp_ns: int
    tick: int
    action: tuple[float, ...]
    target: tuple[float, float, float] | None
    mode: str
    reason: str
    clamps: int
    chunk_id: int
    chunk_index: int
    observation_age_ms: float
    correction: CorrectionMode = CorrectionMode.NONE
    strength: float = 0.0
    case_ids: tuple[int, ...] = ()
    observation_ns: int = 0


@dataclass(frozen=True, slots=True)
class Picture:
    """One camera's newest image, encoded."""

    camera: str
    stamp_ns: int
    width: int
    height: int
    jpeg: bytes


@dataclass
class Cursor:
    """What one page has seen. It belongs to that page's task alone."""

    commands: int = 0
    chunk_ns: int = -1
    pictures: dict[str, int] = field(default_factory=dict)
    revisions: dict[str, int] = field(default_factory=dict)


class Board:
    """Thread-safe; every method is short."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._timeline = Timeline()
        self._commands: deque[CommandSeen] = deque(maxlen=HISTORY)
        self._count = 0
        self._errors: deque[float] = deque(maxlen=ERRORS)
        self._chunk: ActionChunk | None = None
        self._inference_ms = 0.0
        self._correction: Correction | None = None
        self._pictures: dict[str, Picture] = {}
        self._camera: tuple[str, StillCamera] | None = None
        self._slow: dict[str, tuple[int, Mapping[str, Any]]] = {}
        self._nodes: dict[str, Mapping[str, Any]] = {}
        self._nodes_revision = 0

    # What the node puts in.

    def add_commands(self, commands: Sequence[CommandSeen]) -> None:
        """Commands, oldest first."""
        with self._lock:
            last = [self._commands[-1]] if self._commands else []
            for before, after in pairwise([*last, *commands]):
                # Of two that are not neighbours one was lost on the way here: their distance says nothing.
                if after.tick == before.tick + 1:
                    self._errors.append(abs(after.stamp_ns - before.stamp_ns - TICK_NS) / 1e6)
            self._commands.extend(commands)
            self._count += len(commands)
            for item in commands:
                seen_ns = item.observation_ns or item.stamp_ns
                self._timeline.used(seen_ns, item.correction, item.strength, item.case_ids)

    def set_chunk(self, chunk: ActionChunk, inference_ms: float) -> None:
        """The newest chunk."""
        made = chunk.provenance
        with self._lock:
            self._chunk, self._inference_ms = chunk, inference_ms
            seen_ns = made.observation_stamp_ns or chunk.stamp_ns
            self._timeline.used(seen_ns, made.correction, made.correction_strength, made.case_ids)

    def set_correction(self, correction: Correction, similarities: Iterable[float]) -> None:
        """The memory's newest answer."""
        with self._lock:
            self._correction = correction
            self._timeline.retrieved(correction.stamp_ns, similarities)

    def set_picture(self, picture: Picture) -> None:
        """A camera's newest image."""
        with self._lock:
            self._pictures[picture.camera] = picture

    def set_camera(self, name: str, camera: StillCamera | None) -> None:
        """The camera onto whose pictures plans are drawn."""
        with self._lock:
            self._camera = None if camera is None else (name, camera)

    def set_part(self, name: str, values: Mapping[str, Any]) -> None:
        """What changes about once a second: ``loop``, ``episode``, ``memory``, ``task``."""
        with self._lock:
            revision = self._slow[name][0] + 1 if name in self._slow else 1
            self._slow[name] = revision, values
            if name == "episode":
                self._timeline.episode(int(values["id"]))

    def set_node(self, name: str, values: Mapping[str, Any]) -> None:
        """What a node says of its health."""
        with self._lock:
            self._nodes[name] = values
            self._nodes_revision += 1

    def add_failure(self, seen: FailureSeen) -> None:
        """A failure was detected."""
        with self._lock:
            self._timeline.failure(seen)

    def forget_motion(self) -> None:
        """Nobody looks any more, so the newest will not be the newest when somebody does."""
        with self._lock:
            self._commands.clear()
            self._errors.clear()
            self._pictures.clear()
            self._chunk = self._correction = None

    # What others take out.

    def part(self, name: str) -> Mapping[str, Any] | None:
        """The newest values of a part."""
        with self._lock:
            return self._slow[name][1] if name in self._slow else None

    def nodes(self) -> dict[str, Mapping[str, Any]]:
        """The newest of every node's health, by name."""
        with self._lock:
            return dict(self._nodes)

    def chart(self) -> tuple[CommandSeen | None, ActionChunk | None, Correction | None]:
        """The newest command, chunk and correction."""
        with self._lock:
            return self._commands[-1] if self._commands else None, self._chunk, self._correction

    def drawn(self, camera: str) -> dict[str, NDArray[np.float64]]:
        """What is drawn over a camera's picture, in shares of its width and height; NaN is not in sight.

        ``target`` (2,) of the newest command; ``path`` (N, 2) of the plan that it follows; ``committed`` (M, 2), the
        part of it that no newer plan may change; ``correction`` (K, 2) of the memory's answer. What is not known is
        left out: all of it where nobody told the camera's pose.
        """
        with self._lock:
            lines = self._overlay(camera)
            if "path" in lines and self._chunk is not None:
                ahead = max(self._chunk.committed - self._commands[-1].chunk_index, 1)
                lines["committed"] = lines["path"][:ahead]
            return lines

    def frame(self, cursor: Cursor, images: bool = True) -> dict[str, Any]:
        """What is new to a page, ready for JSON; the cursor moves on."""
        with self._lock:
            frame: dict[str, Any] = {}
            new = min(self._count - cursor.commands, len(self._commands))
            if new > 0:
                commands = list(self._commands)[-new:]
                frame["commands"] = {
                    "t": [item.stamp_ns / 1e6 for item in commands],
                    "action": [item.action for item in commands],
                    "mode": [item.mode for item in commands],
                    "correction": [int(item.correction) for item in commands],
                }
                frame["state"] = _state(commands[-1])
            cursor.commands = self._count
            chunk = self._chunk
            if chunk is not None and chunk.stamp_ns != cursor.chunk_ns:
                cursor.chunk_ns = chunk.stamp_ns
                frame["chunk"] = self._chunk_view(chunk)
            if images:
                frame["pictures"] = self._picture_views(cursor)
            for name, (revision, values) in self._slow.items():
                if _news(cursor, name, revision):
                    frame[name] = dict(values)
                    if name == "loop":
                        frame["histogram"] = self._histogram()
            if _news(cursor, "timeline", self._timeline.revision):
                frame["timeline"] = self._timeline.view()
            if _news(cursor, "nodes", self._nodes_revision):
                frame["nodes"] = [{"name": name, **values} for name, values in sorted(self._nodes.items())]
        return plain(frame)  # type: ignore[no-any-return]

    def _chunk_view(self, chunk: ActionChunk) -> dict[str, Any]:
        made = chunk.provenance
        return {
            "id": chunk.chunk_id,
            "t": chunk.stamp_ns / 1e6,
            "period": TICK_NS / 1e6,
            "actions": chunk.actions,
            "uncertainty": chunk.uncertainty,
            "committed": chunk.committed,
            "policy": f"{made.policy} {made.policy_revision}".strip(),
            "correction": made.correction.name.lower(),
            "strength": made.correction_strength,
            "cases": made.case_ids,
            "inference_ms": self._inference_ms,
        }

    def _picture_views(self, cursor: Cursor) -> dict[str, Any]:
        views = {}
        for name, picture in self._pictures.items():
            if cursor.pictures.get(name) == picture.stamp_ns:
                continue
            cursor.pictures[name] = picture.stamp_ns
            views[name] = {
                "t": picture.stamp_ns / 1e6,
                "width": picture.width,
                "height": picture.height,
                "jpeg": base64.b64encode(picture.jpeg).decode("ascii"),
                **self._overlay(name),
            }
        return views

    def _overlay(self, name: str) -> dict[str, NDArray[np.float64]]:
        """Paths in shares of the picture, for the camera whose pose is known."""
        if self._camera is None or self._camera[0] != name or not self._commands:
            return {}
        camera, command = self._camera[1], self._commands[-1]
        if command.target is None:
            return {}
        target = np.array(command.target)
        overlay = {"target": project(target[None], camera)[0]}
        if self._chunk is not None and self._chunk.chunk_id == command.chunk_id:
            overlay["path"] = project(planned_path(target, self._chunk, command.chunk_index), camera)
        correction = self._correction
        if correction is not None and correction.actions is not None and _fresh(correction, command):
            overlay["correction"] = project(path_ahead(target, correction.actions), camera)
        return overlay

    def _histogram(self) -> dict[str, Any]:
        counts: NDArray[np.int64] = np.zeros(len(EDGES_MS), dtype=np.int64)
        if self._errors:
            places = np.searchsorted(EDGES_MS, np.array(self._errors), side="right") - 1
            counts = np.bincount(np.clip(places, 0, len(EDGES_MS) - 1), minlength=len(EDGES_MS))
        return {"edges": EDGES_MS, "counts": counts}


def _news(cursor: Cursor, name: str, revision: int) -> bool:
    if cursor.revisions.get(name) == revision:
        return False
    cursor.revisions[name] = revision
    return True


def _fresh(correction: Correction, command: CommandSeen) -> bool:
    return abs(command.stamp_ns - correction.stamp_ns) < 1_000_000_000


def _state(command: CommandSeen) -> dict[str, Any]:
    return {
        "mode": command.mode,
        "reason": command.reason,
        "clamps": command.clamps,
        "chunk": command.chunk_id,
        "row": command.chunk_index,
        "age_ms": command.observation_age_ms,
        "correction": command.correction.name.lower(),
        "strength": command.strength,
        "cases": command.case_ids,
        "target": command.target,
    }


def plain(value: Any) -> Any:
    """A value of JSON's types: arrays become lists, and numbers that are not finite null, which a browser can read."""
    if isinstance(value, float):
        return round(value, 5) if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    return value
