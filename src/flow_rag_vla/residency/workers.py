# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Threads for transfers: reused when idle, never waited for when one hangs."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable

_IDLE_S = 5.0


class Workers:
    """Runs each call at once on a thread of its own, an idle one if there is one.

    The threads are daemons: a loader that never comes back cannot keep the process.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._ready = threading.Condition()
        self._calls: deque[Callable[[], None]] = deque()
        self._idle = 0
        self._closed = False

    def run(self, call: Callable[[], None]) -> None:
        """Start ``call``, which must not raise."""
        with self._ready:
            self._calls.append(call)
            if self._idle >= len(self._calls):
                self._ready.notify()
                return
        threading.Thread(target=self._serve, name=self._name, daemon=True).start()

    def close(self) -> None:
        """Let idle threads end."""
        with self._ready:
            self._closed = True
            self._ready.notify_all()

    def _serve(self) -> None:
        while True:
            with self._ready:
                self._idle += 1
                try:
                    while not self._calls:
                        if self._closed or not self._ready.wait(_IDLE_S):
                            if self._calls:
                                break
                            return
                finally:
                    self._idle -= 1
                call = self._calls.popleft()
            call()
