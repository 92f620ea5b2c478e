# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Wakes an executor when the system clock was set back while it waited.

Libraries built against a C library older than 2.30, as the wheels of ROS on PyPI are, wait until a moment of the
system clock even for a timer on the steady one. Set the clock back by ten seconds, and every wait under way lasts ten
seconds longer, the control loop's too.
"""

from __future__ import annotations

import threading
import time

from rclpy.executors import Executor

from flow_rag_vla.core.processes import name_thread

GUARD_NAME = "clock guard"
"""By which others find the thread: it wakes whatever the node does, so it shows whether the process runs at all."""

_LOOK_EVERY_S = 0.02
_SET_BACK_NS = 1_000_000
"""Less is no harm. An interruption between the two readings looks like more, and costs one needless wake-up."""


class ClockGuard:
    """A thread that compares the system clock with the steady one; use as a context manager around a spin."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, name=GUARD_NAME, daemon=True)

    def __enter__(self) -> ClockGuard:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        name_thread(GUARD_NAME)
        before = _ahead_ns()
        # Not a wait with a timeout: it must not fall into the hole that it guards.
        while not self._ended.is_set():
            time.sleep(_LOOK_EVERY_S)
            now = _ahead_ns()
            if now < before - _SET_BACK_NS:
                self._executor.wake()
            before = now


def _ahead_ns() -> int:
    """How far the system clock is ahead of the steady one."""
    steady = time.monotonic_ns()
    return time.time_ns() - steady
