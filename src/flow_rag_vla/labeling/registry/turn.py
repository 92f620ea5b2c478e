# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Whose turn it is to write: who asked first writes first, threads and processes alike.

SQLite gives its lock to whoever asks at the right moment, and who has waited long asks more seldom: one of many writers
can wait for most of a minute while the others write. The kernel keeps those who wait for a lock (``flock``) in a queue,
and takes the lock back from a process that dies. But a lock that was let go is given to whoever asks before the first
of the queue is awake, and who writes over and over asks at that very moment. So there are two locks: whoever is next
holds the door while waiting for the folder, and who comes back finds the door held.

A turn is a courtesy. What protects the data is the database's own lock, so that who gets no turn in time asks the
database all the same: a program that stands still in the queue costs the others a wait, and no more.
"""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

DOOR = "writers.lock"
"""File beside the database: who has its lock is the next to write. It is empty, and made anew where it is missing."""


class WritingTurn:
    """The queue before one database; any thread may ask."""

    def __init__(self, folder: Path | None) -> None:
        """Queue with everybody who writes to a database in this folder; None: with the threads of this object alone."""
        self._folder = folder
        self._threads = threading.Lock()
        self._deciding = threading.Lock()
        self._given_up: list[_Place] = []
        """Places that nobody waits at, first come first; they cannot be left before they are reached."""

    @contextmanager
    def taken(self, seconds: float) -> Iterator[bool]:
        """Hold the turn; False: there was none in so many seconds, or the folder has no locks to give."""
        if self._folder is None:
            held = self._threads.acquire(timeout=seconds)
            try:
                yield held
            finally:
                if held:
                    self._threads.release()
            return
        place = self._reached(self._folder, seconds)
        try:
            yield place is not None
        finally:
            if place is not None:
                place.leave()

    def _reached(self, folder: Path, seconds: float) -> _Place | None:
        """A place whose turn it is; None: not in so many seconds, or never."""
        with self._deciding:
            # Who asks after somebody gave up stands where that one stood: a place costs a thread and two files.
            place = self._given_up.pop(0) if self._given_up else None
            if place is not None:
                place.wanted = True
        if place is None:
            try:
                place = _Place(folder)
            except OSError:
                return None
            try:
                if place.reached_at_once():
                    return place
                threading.Thread(target=self._stand, args=(place,), name="registry turn", daemon=True).start()
            except (OSError, RuntimeError):
                # No lock is to be had here; or no thread: the machine has no more, or the interpreter ends.
                place.leave()
                return None
        try:
            place.reached.wait(seconds)
        except BaseException:
            # Such as Ctrl-C: a place that nobody leaves would keep everybody else waiting.
            if self._still_ours(place):
                place.leave()
            raise
        return place if self._still_ours(place) else None

    def _still_ours(self, place: _Place) -> bool:
        """Whether the turn came; if not, the place is given up."""
        with self._deciding:
            if not place.reached.is_set():
                place.wanted = False
                self._given_up.append(place)
            return place.wanted

    def _stand(self, place: _Place) -> None:
        place.stand()
        with self._deciding:
            if place.wanted:
                place.reached.set()
                return
            self._given_up.remove(place)
        place.leave()


class _Place:
    """A place in the kernel's queue. A thread stands in it: waiting for ``flock`` has no limit of time."""

    def __init__(self, folder: Path) -> None:
        """Open what is locked.

        Raises:
            OSError: it cannot be opened.
        """
        self.wanted = True
        self.reached = threading.Event()
        # The folder: to close a database's file would drop the locks that SQLite has on it.
        self._folder = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._door = os.open(folder / DOOR, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except BaseException:
            os.close(self._folder)
            raise

    def reached_at_once(self) -> bool:
        """Whether nobody stands before this one; the door is kept where only the folder is not free.

        Raises:
            OSError: there are no such locks here.
        """
        try:
            fcntl.flock(self._door, fcntl.LOCK_EX | fcntl.LOCK_NB)
            fcntl.flock(self._folder, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        _unlocked(self._door)
        return True

    def stand(self) -> None:
        """Wait for the turn, for however long."""
        with suppress(OSError):
            fcntl.flock(self._door, fcntl.LOCK_EX)
            fcntl.flock(self._folder, fcntl.LOCK_EX)
        _unlocked(self._door)

    def leave(self) -> None:
        """Let the next one go."""
        for descriptor in (self._door, self._folder):
            _unlocked(descriptor)
            os.close(descriptor)


def _unlocked(descriptor: int) -> None:
    # In so many words: a child that was forked meanwhile has the descriptor too, and closing ours would leave it held.
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_UN)
