# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Recorded episodes as a failure monitor would have seen them: bags in, traces out."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from flow_rag_vla.control.pace import pace_of
from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.core.goal import Goal, UnknownTaskError, parse_instruction
from flow_rag_vla.core.state import GRIPPER_MAX_WIDTH, CartesianTarget
from flow_rag_vla.data.bag import Bag, BagError
from flow_rag_vla.data.message_values import MessageError, action_chunk, robot_state, stamp_ns
from flow_rag_vla.failure.detector import FailureDetector
from flow_rag_vla.failure.frame import Frame
from flow_rag_vla.failure.sample import Command, Episode
from flow_rag_vla.failure.trace import Origin, Trace, TraceInfo

STATUS, STATE, COMMAND, EMBEDDING, CHUNK = (
    "episode_status",
    "robot_state",
    "command",
    "embedding",
    "action_chunk",
)
NEEDED = (STATUS, STATE, COMMAND, EMBEDDING)
"""Topics without which a bag says nothing; without ``action_chunk`` two scores say nothing."""

_RUNNING, _SUCCEEDED, _FAILED = 2, 3, 4
"""EpisodeStatus.STATE_*."""
_FOLLOW, _TAKEOVER = 1, 6
"""ControlCommand.MODE_*."""


class BagTracesError(RuntimeError):
    """Bags that cannot be calibrated from; the text names the bag and the remedy."""


class UnusableBagError(BagTracesError):
    """One bag that cannot be read or lacks a topic; what others hold is good all the same."""


@dataclass(slots=True)
class BagTraces:
    """What some bags hold. skipped: reason to number of episodes that were left out; refused: messages likewise."""

    origin: Origin | None = None
    traces: list[Trace] = field(default_factory=list)
    skipped: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)


def bag_folders(paths: Sequence[str | Path]) -> list[Path]:
    """The bags that paths name: bags themselves, runs (``<run>/bag``), or folders of runs.

    Raises:
        BagTracesError: for a path without any.
    """
    found: list[Path] = []
    for given in paths:
        path = Path(given)
        if path.is_file() and path.suffix == ".mcap":
            found.append(path)
            continue
        bags = sorted({file.parent for file in path.glob("**/*.mcap")}) if path.is_dir() else []
        if not bags:
            raise BagTracesError(f"{path} holds no .mcap file; give a bag, a run (runs/<time>), or a folder of runs")
        found += bags
    return found


def read_bag_traces(path: str | Path, into: BagTraces) -> None:
    """Read the episodes of one bag.

    Raises:
        UnusableBagError: if the bag cannot be read or lacks a topic.
        BagTracesError: if it is of another encoder or policy than those before.
    """
    try:
        bag = Bag(path)
    except BagError as error:
        raise UnusableBagError(str(error)) from None
    missing = [topic for topic in NEEDED if bag.find(topic) is None]
    if missing:
        raise UnusableBagError(f"{path} lacks the topics {', '.join(missing)}; record with the recorder's usual topics")
    names = {bag.find(topic): topic for topic in (*NEEDED, CHUNK)}
    reader = _Reader(str(path), into)
    for entry in bag.messages([*NEEDED, CHUNK]):
        try:
            reader.take(names[entry.topic], entry.message)
        except (MessageError, ValueError) as error:
            reason = str(error).split(":")[0]
            into.refused[reason] = into.refused.get(reason, 0) + 1
    reader.end("the bag ends before it does")


class _Reader:
    """Feeds one bag's messages to a detector, as the node would."""

    def __init__(self, path: str, into: BagTraces) -> None:
        self._path, self._into = path, into
        self._detector = FailureDetector()
        self._encoder: tuple[str, str] | None = None
        self._policy: tuple[str, str] | None = None
        self._forget()

    def _forget(self) -> None:
        self._frames: list[Frame] = []
        self._status: Any = None
        self._timeout_at: float | None = None
        self._taken_over = False
        self._goal: Goal | None = None

    def take(self, topic: str, message: Any) -> None:
        """Take one message in."""
        if topic == STATUS:
            self._episode(message)
        elif self._detector.episode is None:
            return
        elif topic == STATE:
            for report in self._detector.update(robot_state(message)):
                if report.failure_type is FailureType.TIMEOUT and self._timeout_at is None:
                    episode = self._detector.episode
                    self._timeout_at = episode.pace * (report.stamp_ns - episode.start_ns) * 1e-9
        elif topic == COMMAND:
            self._command(message)
        elif topic == EMBEDDING:
            self._encoder = self._one(self._encoder, (message.encoder, message.revision), "encoder")
            values = np.array(message.values, dtype=np.float32)
            if not abs(float(np.linalg.norm(values)) - 1.0) < 1e-2:
                raise MessageError(f"embedding of {message.encoder!r} is not of unit length")
            self._keep(self._detector.offer_embedding(stamp_ns(message.header), values))
        else:
            chunk = action_chunk(message)
            source = chunk.provenance
            self._policy = self._one(self._policy, (source.policy, source.policy_revision), "policy")
            self._keep(self._detector.offer_chunk(chunk))
        if self._encoder is not None:
            policy = self._policy or ("", "")
            origin = Origin(*self._encoder, *policy)
            if self._into.origin is None or self._into.origin.policy_revision == "":
                self._into.origin = origin

    def _one(self, known: tuple[str, str] | None, found: tuple[str, str], what: str) -> tuple[str, str]:
        origin = self._into.origin
        if known is None and origin is not None:
            known = (
                (origin.encoder, origin.encoder_revision)
                if what == "encoder"
                else (origin.policy, origin.policy_revision)
            )
        if known is not None and known[1] and known != found:
            raise BagTracesError(
                f"{self._path} holds {what} {found[0]} {found[1]}, but also, or bags before it, {known[0]} {known[1]}; "
                "calibrate for one at a time"
            )
        return found

    def _keep(self, frame: Frame | None) -> None:
        if frame is not None:
            self._frames.append(frame)

    def _episode(self, status: Any) -> None:
        running = status.state == _RUNNING
        watched = self._detector.episode
        if watched is not None and (not running or watched.episode_id != status.episode_id):
            done = {_SUCCEEDED: True, _FAILED: False}.get(int(status.state)) if not running else None
            self.end("it was canceled or cut short", done, status)
        if not running or self._detector.episode is not None:
            return
        elapsed = float(status.elapsed)
        begun = stamp_ns(status.header) - (int(elapsed * 1e9) if math.isfinite(elapsed) else 0)
        try:
            self._goal = parse_instruction(status.instruction)
        except UnknownTaskError:
            self._goal = None
        timeout = float(status.timeout)
        timeout = timeout if math.isfinite(timeout) and timeout > 0.0 else 0.0
        pace = pace_of(float(getattr(status, "slowdown", 0.0)))  # bags of before there were slow episodes lack it
        self._status = status
        self._detector.start(Episode(int(status.episode_id), status.task, begun, timeout, self._goal, pace))

    def _command(self, message: Any) -> None:
        self._taken_over = self._taken_over or message.mode == _TAKEOVER
        position, quaternion = message.target.position, message.target.orientation
        place = np.array([position.x, position.y, position.z])
        turn = np.array([quaternion.x, quaternion.y, quaternion.z, quaternion.w])
        width = float(message.gripper_width)
        if not (np.isfinite(place).all() and abs(float(np.linalg.norm(turn)) - 1.0) < 1e-2):
            raise MessageError("command: its target is not finite or no rotation")
        if not 0.0 <= width <= 2.0 * GRIPPER_MAX_WIDTH:
            raise MessageError("command: its gripper width is out of range")
        seen = stamp_ns(message.provenance.observation_stamp)
        target = CartesianTarget(place, turn, width)
        self._detector.offer_command(Command(stamp_ns(message.header), target, seen, message.mode == _FOLLOW))

    def end(self, reason: str, success: bool | None = None, status: Any = None) -> None:
        """The episode is over; ``success`` None: it is left out, for ``reason``."""
        episode, into = self._detector.episode, self._into
        if episode is None:
            return
        if success is not None and self._taken_over:
            success, reason = None, "a person took over"
        if success is not None and not self._frames:
            success, reason = None, "no embedding came while it ran"
        if success is None:
            into.skipped[reason] = into.skipped.get(reason, 0) + 1
        else:
            # Times are compared with those of episodes at full speed, as frames count them.
            elapsed = float(status.elapsed) * episode.pace if status is not None else math.nan
            duration = elapsed if elapsed > 0.0 else self._frames[-1].elapsed
            into.traces.append(
                Trace(
                    TraceInfo(
                        task=episode.task,
                        target="" if self._goal is None else self._goal.target,
                        seed=int(self._status.seed),
                        variant=self._status.variant,
                        success=success,
                        duration=duration,
                        timeout_at=duration if self._timeout_at is None else self._timeout_at,
                    ),
                    tuple(frame for frame in self._frames if frame.elapsed <= duration),
                )
            )
        self._detector.stop()
        self._forget()
