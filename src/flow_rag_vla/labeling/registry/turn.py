# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Whose turn it is to write: who asked first writes first, threads and processes alike.

SQLite gives its lock to whoever asks at the right moment, and who has waited long asks more seldom: one of many writers
can wait for most of a minute while the others write. The kernel keeps those who wait for a lock of a folder (``flock``)
in a queue, and takes the lock back from a process that dies.

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


class WritingTurn:
    """The queue before one database; any thread may ask."""

    def __init__(self, folder: Path | None) -> None:
        """Queue with everybody who writes to a database in this folder; None: with the threads of this object alone."""
        self._folder = folder
        self._threads = threading.Lock()

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
        descriptor = _held(self._folder, seconds)
        try:
            yield descriptor is not None
        finally:
            if descriptor is not None:
                _let_go(descriptor)


def _held(folder: Path, seconds: float) -> int | None:
    """A descriptor that holds the lock of a folder; None: not in so many seconds, or never."""
    try:
        # Of the folder: to close a database's file would drop the locks that SQLite has on it.
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        try:
            place = _Place(descriptor)
        except RuntimeError:
            # No thread can be started: the machine has no more, or the interpreter ends.
            os.close(descriptor)
            return None
        return descriptor if place.reached(seconds) else None
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _let_go(descriptor: int) -> None:
    # In so many words: a child that was forked meanwhile has the descriptor too, and closing ours would leave it held.
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


class _Place:
    """A place in the kernel's queue. A thread stands in it: waiting for ``flock`` has no limit of time."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._deciding = threading.Lock()
        self._reached = threading.Event()
        self._given_up = False
        threading.Thread(target=self._stand, name="registry turn", daemon=True).start()

    def reached(self, seconds: float) -> bool:
        """Whether the turn came in so many seconds; if not, the descriptor is the thread's to close."""
        self._reached.wait(seconds)
        with self._deciding:
            self._given_up = not self._reached.is_set()
            return not self._given_up

    def _stand(self) -> None:
        with suppress(OSError):
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        with self._deciding:
            if not self._given_up:
                self._reached.set()
                return
        _let_go(self._descriptor)
