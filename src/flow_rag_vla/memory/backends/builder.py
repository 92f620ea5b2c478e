# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The one thread that makes better indexes while searches go on with what there is."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress

from flow_rag_vla.core.allocator import give_back

NICENESS = 15
"""Of the building thread: the control loop and the searches go first."""


class Stopped(Exception):
    """The builder was closed in the middle of a build."""


class Builder:
    """Runs builds one after the other in a thread that starts with the first one and ends with :meth:`close`."""

    def __init__(self) -> None:
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.Condition()
        self._waiting = 0
        self._held = 0
        self._names: set[str] = set()
        self._thread: threading.Thread | None = None
        self._closing = threading.Event()

    def submit(self, job: Callable[[], None]) -> None:
        """Run a job soon. It must not raise. After :meth:`close` nothing happens."""
        with self._lock:
            if self._closing.is_set():
                return
            self._waiting += 1
            self._jobs.put(job)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="index builder", daemon=True)
                self._thread.start()

    def submit_once(self, name: str, job: Callable[[], None]) -> None:
        """Run a job soon unless one of that name waits already."""
        with self._lock:
            if name in self._names:
                return
            self._names.add(name)

        def named() -> None:
            with self._lock:
                self._names.discard(name)
            job()

        self.submit(named)

    def check(self) -> None:
        """Called between the steps of a job.

        Raises:
            Stopped: if the builder is being closed.
        """
        if self._closing.is_set():
            raise Stopped

    @contextmanager
    def held(self) -> Iterator[None]:
        """Start no job inside: while an index is filled, it would be built again and again."""
        with self._lock:
            self._held += 1
        try:
            yield
        finally:
            with self._lock:
                self._held -= 1
                self._lock.notify_all()

    def settle(self) -> None:
        """Return when no job is left."""
        with self._lock:
            self._lock.wait_for(lambda: self._waiting == 0 or self._closing.is_set())

    def close(self) -> None:
        """End the thread; jobs that wait are dropped, the one that runs ends at its next step."""
        with self._lock:
            self._closing.set()
            self._lock.notify_all()
            thread = self._thread
        self._jobs.put(None)
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def _run(self) -> None:
        # On Linux a thread has a niceness of its own.
        with suppress(AttributeError, OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        while True:
            job = self._jobs.get()
            with self._lock:
                self._lock.wait_for(lambda: self._held == 0 or self._closing.is_set())
            if job is None or self._closing.is_set():
                return
            try:
                job()
                # A build leaves some 10 MB freed, which this thread may not need again for hours.
                give_back()
            finally:
                with self._lock:
                    self._waiting -= 1
                    self._lock.notify_all()
