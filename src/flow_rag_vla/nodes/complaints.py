# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Refusals in the log: each kind once a second, none hidden behind another."""

from __future__ import annotations

import re
import time

from rclpy.impl.rcutils_logger import RcutilsLogger

_EVERY_NS = 1_000_000_000
_KINDS_KEPT = 64
_LONGEST = 1000
"""A message may hold a string of any length, and a refusal names it: in the log, and each second on /diagnostics."""
_NUMBER = re.compile(r"[-+]?\d[\d.e+-]*")
_newest: dict[str, str] = {}


def remember(node: str, problem: str) -> str:
    """Keep a problem as a node's newest, which its diagnostics tell; the problem, cut to what a report may hold."""
    if len(problem) > _LONGEST:
        problem = f"{problem[:_LONGEST]}... ({len(problem)} characters)"
    _newest[node] = problem
    return problem


def newest(node: str) -> str:
    """A node's newest problem, by the name of its logger; empty if it had none."""
    return _newest.get(node, "")


class Complaints:
    """Says what was refused. rclpy's own throttle is of a place in the code, where all refusals meet.

    Two sentences that differ in their numbers only are of one kind.
    """

    def __init__(self, logger: RcutilsLogger) -> None:
        self._logger = logger
        self._kinds: dict[str, tuple[int, int]] = {}
        self.count = 0
        self.last = ""

    def __call__(self, problem: str) -> None:
        """Count one refusal, and log it unless its kind was logged within the last second."""
        self.count += 1
        self.last = problem = remember(self._logger.name, problem)
        kind, now = _NUMBER.sub("#", problem), time.monotonic_ns()
        due, left_out = self._kinds.get(kind, (0, 0))
        if now < due:
            self._kinds[kind] = due, left_out + 1
            return
        if len(self._kinds) >= _KINDS_KEPT:
            self._kinds.clear()
        self._kinds[kind] = now + _EVERY_NS, 0
        self._logger.error(f"{problem} ({left_out} more like this)" if left_out else problem)


class DeferredComplaints:
    """What a loop refused, logged when the loop has time: once a second for each key, with the number left out since.

    A key names a kind of refusal; how many there are is the caller's to bound.
    """

    def __init__(self, logger: RcutilsLogger) -> None:
        self._logger = logger
        self._waiting: list[tuple[str, str]] = []
        self._told: dict[str, tuple[int, int]] = {}

    def __call__(self, key: str, text: str) -> None:
        """Keep one refusal for the log."""
        # A refusal names what came, which may be a string of any length.
        self._waiting.append((key, text[:_LONGEST]))

    def log(self) -> None:
        """Log what was refused since the last call."""
        if not self._waiting:
            return
        now = time.monotonic_ns()
        for key, text in self._waiting:
            remember(self._logger.name, text)
            due, left_out = self._told.get(key, (0, 0))
            if now < due:
                self._told[key] = due, left_out + 1
                continue
            self._told[key] = now + _EVERY_NS, 0
            self._logger.warning(f"{text} ({left_out} more like this)" if left_out else text)
        self._waiting.clear()
