# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Keeps the disk away from reception: a bounded queue, and one thread that writes it to a bag."""

from __future__ import annotations

import shutil
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rosbags.interfaces import Qos

from flow_rag_vla.data.bag_writer import BagWriteError, BagWriter
from flow_rag_vla.data.definitions import UnknownTypeError
from flow_rag_vla.data.split_writer import SplitBagWriter

IDLE_WAIT_S = 0.1
"""The writer looks into the queue this often; waking it for every message would cost more than writing it."""


@dataclass(frozen=True, slots=True)
class RecordingFigures:
    """What a recording has done so far. Bytes are of message contents, before compression.

    dropped: messages that came while the queue was full, or after the disk gave out
    """

    messages: int
    dropped: int
    queued_bytes: int
    written_bytes: int
    file_bytes: int
    topics: int
    problem: str


class Recording:
    """Owns the bag and the thread. ``add_topic`` and ``put`` may be called from other threads and never block.

    The thread owns the writer from construction to :meth:`close`; the lock guards the queue and the figures only,
    and is never held while the disk is touched.
    """

    def __init__(
        self,
        writer: BagWriter | SplitBagWriter,
        *,
        queue_bytes: int,
        checkpoint_period_s: float = 1.0,
        minimum_free_bytes: int = 0,
        on_problem: Callable[[str], object] | None = None,
        free_bytes: Callable[[Path], int] | None = None,
    ) -> None:
        """Start recording into ``writer``.

        Args:
            writer: an open bag, not used by anyone else from now on.
            queue_bytes: most that waits in memory; beyond it messages are dropped and counted.
            checkpoint_period_s: how often what was received is put into the file.
            minimum_free_bytes: free disk space below which the bag is closed.
            on_problem: told once, from the thread, when recording has to end.
            free_bytes: how free space is measured; default the file system of the bag.
        """
        self._writer = writer
        self._limit = queue_bytes
        self._period = checkpoint_period_s
        self._minimum_free = minimum_free_bytes
        self._on_problem = on_problem
        self._free_bytes = free_bytes or (lambda folder: shutil.disk_usage(folder).free)
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._queue: deque[tuple[str, int, bytes]] = deque()
        self._new_topics: deque[tuple[str, str, tuple[Qos, ...]]] = deque()
        self._queued = self._written = self._messages = self._dropped = 0
        self._topics = 0
        self._refused: set[str] = set()
        self._problem = ""
        self._ending = False
        self._thread = threading.Thread(target=self._run, name="bag writer")
        self._thread.start()

    @property
    def folder(self) -> Path:
        """The bag."""
        return self._writer.folder

    def add_topic(self, topic: str, msgtype: str, qos: tuple[Qos, ...] = ()) -> None:
        """Declare a topic before its first message."""
        with self._lock:
            self._new_topics.append((topic, msgtype, qos))

    def put(self, topic: str, stamp_ns: int, data: bytes) -> bool:
        """Queue one message; whether there was room."""
        with self._lock:
            if self._problem or self._ending or self._queued + len(data) > self._limit:
                self._dropped += 1
                return False
            self._queue.append((topic, stamp_ns, data))
            self._queued += len(data)
            urgent = self._queued > self._limit // 4
        if urgent:
            self._wake.set()
        return True

    def figures(self) -> RecordingFigures:
        """What was done so far."""
        with self._lock:
            return RecordingFigures(
                self._messages, self._dropped, self._queued, self._written, self._writer.size, self._topics,
                self._problem,
            )  # fmt: skip

    def close(self) -> RecordingFigures:
        """Write what is queued, close the bag and end the thread; a second call only gives the figures."""
        with self._lock:
            self._ending = True
        self._wake.set()
        self._thread.join()
        return self.figures()

    def _run(self) -> None:
        waits = max(1, round(self._period / IDLE_WAIT_S))
        turn = 0
        while True:
            self._wake.wait(IDLE_WAIT_S)
            self._wake.clear()
            with self._lock:
                ending = self._ending
            turn += 1
            try:
                self._drain()
                if turn % waits == 0 and self._has_room():
                    self._writer.checkpoint()
                if ending:
                    self._writer.close()
            except BagWriteError as error:
                self._stop(f"recording has ended: {error.strerror}; free some space and start the recorder again")
            if self._problem or ending:
                return

    def _drain(self) -> None:
        while True:
            with self._lock:
                added = tuple(self._new_topics)
                self._new_topics.clear()
                batch = tuple(self._queue)
                self._queue.clear()
            for topic, msgtype, qos in added:
                self._add(topic, msgtype, qos)
            if not batch:
                return
            bytes_taken = messages = 0
            try:
                for topic, stamp_ns, data in batch:
                    if topic not in self._refused:
                        self._writer.write(topic, stamp_ns, data)
                        bytes_taken += len(data)
                        messages += 1
            finally:
                # Once for all of them: what was not taken is dropped, after an error the rest.
                with self._lock:
                    self._queued -= sum(len(data) for _, _, data in batch)
                    self._written += bytes_taken
                    self._messages += messages
                    self._dropped += len(batch) - messages

    def _add(self, topic: str, msgtype: str, qos: tuple[Qos, ...]) -> None:
        try:
            self._writer.add_topic(topic, msgtype, qos)
        except (UnknownTypeError, ValueError) as error:
            self._refused.add(topic)
            self._tell(f"{topic} is not recorded: {error}")
            return
        with self._lock:
            self._topics += 1

    def _has_room(self) -> bool:
        free = self._free_bytes(self._writer.folder)
        if free >= self._minimum_free:
            return True
        self._writer.close()
        self._stop(
            f"recording has ended: {free / 1e6:.0f} MB are free on the disk of {self._writer.folder}, less than "
            f"minimum_free ({self._minimum_free / 1e6:.0f} MB); the bag is closed and whole up to here"
        )
        return False

    def _stop(self, problem: str) -> None:
        with self._lock:
            self._problem = problem
            self._dropped += len(self._queue)
            self._queue.clear()
            self._queued = 0
        self._tell(problem)

    def _tell(self, sentence: str) -> None:
        if self._on_problem is not None:
            self._on_problem(sentence)


def free_folder(folder: str | Path) -> Path:
    """The folder itself, or with the first free number appended if it exists: a bag never overwrites another."""
    wanted = Path(folder)
    candidate, number = wanted, 1
    while candidate.exists():
        number += 1
        candidate = wanted.with_name(f"{wanted.name}_{number}")
    return candidate
