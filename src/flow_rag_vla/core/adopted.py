# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Processes that another process forked for this one, and that are this one's children once their own parent ended."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Protocol

FORGOTTEN = 1
"""Exit code of a child of whose end nothing is known but that it came."""

_PR_SET_CHILD_SUBREAPER = 36
_POLL_S = 0.005


class Child(Protocol):
    """The part of ``subprocess.Popen`` that whoever looks after processes needs."""

    @property
    def pid(self) -> int:
        """Process id."""

    @property
    def returncode(self) -> int | None:
        """Exit code as ``poll`` last saw it: negative after a signal, None while it runs."""

    def poll(self) -> int | None:
        """Look whether it has ended."""

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end; ``subprocess.TimeoutExpired`` after ``timeout`` seconds."""

    def send_signal(self, sig: int) -> None:
        """Send it a signal, unless it has ended."""

    def kill(self) -> None:
        """End it with SIGKILL."""


def adopt_orphans() -> bool:
    """Make this process the parent of every descendant whose own parent ends (``PR_SET_CHILD_SUBREAPER``).

    Returns:
        Whether the system can do that; only Linux can.
    """
    return sys.platform == "linux" and int(ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)) == 0


class Adopted:
    """A child that ``subprocess`` did not start. Any thread may ask for it at any time.

    Args:
        pid: of a process whose parent is this one by now.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._returncode: int | None = None
        # An end is told once: to whoever waits for it first.
        self._lock = threading.Lock()

    @property
    def pid(self) -> int:
        """Process id."""
        return self._pid

    @property
    def returncode(self) -> int | None:
        """Exit code as ``poll`` last saw it: negative after a signal, None while it runs."""
        return self._returncode

    def poll(self) -> int | None:
        """Look whether it has ended.

        Raises:
            ChildProcessError: if it is no child of this process.
        """
        with self._lock:
            if self._returncode is None:
                self._returncode = self._end()
            return self._returncode

    def _end(self) -> int | None:
        try:
            pid, status = os.waitpid(self._pid, os.WNOHANG)
        except ChildProcessError:
            # Where SIGCHLD is ignored the system forgets a child, and how it ended, at once.
            if Path(f"/proc/{self._pid}").exists():
                raise
            return FORGOTTEN
        return os.waitstatus_to_exitcode(status) if pid else None

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end.

        Raises:
            subprocess.TimeoutExpired: after so many seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if deadline is not None and time.monotonic() > deadline:
                raise subprocess.TimeoutExpired(f"process {self._pid}", timeout or 0.0)
            time.sleep(_POLL_S)
        return code

    def send_signal(self, sig: int) -> None:
        """Send it a signal, unless it has ended: its number may be another process' by then."""
        if self.poll() is None:
            os.kill(self._pid, sig)

    def kill(self) -> None:
        """End it with SIGKILL."""
        self.send_signal(signal.SIGKILL)
