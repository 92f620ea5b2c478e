# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Trainings and evaluations as jobs: each a process of its own below everything else, one at a time.

Whoever starts one can watch it, have it wait while the machine is needed, stop it (a training keeps a checkpoint and
can go on), and find it again later: all of it is in the job's folder.
"""

from __future__ import annotations

import contextlib
import queue
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from flow_rag_vla.labeling.pipeline.errors import LabelingError, SettingError, SourceError
from flow_rag_vla.labeling.training.orders import (
    FAILED,
    ORDER,
    STOPPED,
    Order,
    Status,
    TrainOrder,
    read_order,
    read_status,
    write_order,
    write_status,
)

LOG = "job.log"
NICENESS = 19
PATIENCE_S = 60.0
"""How long a job may take to write its checkpoint before it is killed: a step and a file."""
_LOOK_S = 0.1
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")


class JobBusyError(LabelingError):
    """A job is under way; there is one processor to give."""

    code = "busy"


@dataclass(frozen=True, slots=True)
class Job:
    """One job: its name, its folder, what it was asked for and how it stands; paused: it waits for the machine."""

    name: str
    folder: Path
    order: Order
    status: Status
    paused: bool = False


class Jobs:
    """The jobs below one folder. Any thread may ask."""

    def __init__(self, folder: str | Path, niceness: int = NICENESS) -> None:
        """Take the folder that holds a folder a job; it is made when the first one is."""
        self.folder = Path(folder).expanduser()
        self._niceness = niceness
        self._lock = threading.RLock()
        self._process: subprocess.Popen[bytes] | None = None
        self._name = ""
        self._paused = False

    def start(self, order: Order, name: str = "") -> Job:
        """Start a job, or go on with a training that was stopped.

        Args:
            order: what to do.
            name: letters, digits and ``_.-``; empty: a new one. The name of a training that stopped goes on with it.

        Raises:
            SettingError: for a name that is none.
            JobBusyError: one is under way.
            SourceError: ``job_exists``: the name is of a job that has ended, or was another order.
        """
        name = name or f"{'training' if isinstance(order, TrainOrder) else 'evaluation'}-{secrets.token_hex(4)}"
        self._check(name)
        with self._lock:
            self._let_go()
            if self._under_way():
                raise JobBusyError(f"job {self._name} is under way: wait for its end, or cancel it")
            folder = self.folder / name
            if (folder / ORDER).is_file():
                before, status = read_order(folder), read_status(folder)
                if before != order or not isinstance(order, TrainOrder) or status.state not in (STOPPED, FAILED):
                    raise SourceError(
                        f"there is a job {name} already, {status.state}: take another name; a training that was "
                        "stopped goes on when the same is ordered",
                        "job_exists",
                    )
            folder.mkdir(parents=True, exist_ok=True)
            write_order(folder, order)
            write_status(folder, Status())
            command = [sys.executable, "-m", "flow_rag_vla.labeling.training.process", str(folder), str(self._niceness)]
            self._process = _started(command, folder / LOG)
            self._name, self._paused = name, False
            return self.job(name)

    def job(self, name: str) -> Job:
        """One job as it stands.

        Raises:
            SourceError: ``job_missing``.
        """
        self._check(name)
        folder = self.folder / name
        if not (folder / ORDER).is_file():
            raise SourceError(f"there is no job {name}: see the list of jobs", "job_missing")
        order = read_order(folder)
        with self._lock:
            mine = name == self._name and self._process is not None
            code = self._process.poll() if mine and self._process is not None else None
            status = read_status(folder)
            if not status.ended and code == -signal.SIGTERM:
                # Withdrawn before it could say anything.
                status = replace(status, state=STOPPED)
            elif not status.ended and (not mine or code is not None):
                # It was killed, or the one that started it was.
                how = f"ended with {code}" if mine else "was cut short"
                status = replace(
                    status, state=FAILED, code="job_died", message=f"its process {how}: see {LOG}; order it again"
                )
            return Job(name, folder, order, status, mine and self._paused and not status.ended)

    def jobs(self) -> list[Job]:
        """All of them, the latest first; a folder that is none is passed over."""
        found = []
        for path in sorted(self.folder.glob(f"*/{ORDER}"), key=lambda item: -item.stat().st_mtime):
            with contextlib.suppress(LabelingError):
                found.append(self.job(path.parent.name))
        return found

    def cancel(self, name: str) -> Job:
        """Ask a job to end; a training writes a checkpoint first. It has ended when its status says so.

        Raises:
            SourceError: ``job_missing``.
        """
        job = self.job(name)
        with self._lock:
            if name == self._name and self._under_way():
                assert self._process is not None
                self._signal(signal.SIGTERM)
                # A process that waits hears of it when it goes on.
                self._signal(signal.SIGCONT)
                self._paused = False
        return job

    def pause(self, wanted: bool) -> bool:
        """Have the job under way wait, or go on; whether it waits now."""
        with self._lock:
            if not self._under_way():
                self._paused = False
            elif wanted != self._paused:
                self._signal(signal.SIGSTOP if wanted else signal.SIGCONT)
                self._paused = wanted
            return self._paused

    def wait(self, name: str, timeout_s: float) -> Job:
        """The job when its process has ended, or after so many seconds."""
        process = self._process if name == self._name else None
        if process is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout_s)
        return self.job(name)

    @property
    def under_way(self) -> str:
        """Name of the job that is under way; empty if none is. One that ended is not, though its process still goes."""
        with self._lock:
            going = self._under_way() and not read_status(self.folder / self._name).ended
            return self._name if going else ""

    def close(self, patience_s: float = PATIENCE_S, hurry: Callable[[], bool] = lambda: False) -> None:
        """End what is under way.

        A training writes a checkpoint first, behind the step that it is in, if that takes no longer than ``patience_s``
        and nobody is in a ``hurry``. One that is killed goes on from the checkpoint before.
        """
        with self._lock:
            process = self._process
            if process is None or process.poll() is not None:
                return
            self.cancel(self._name)
        until = time.monotonic() + patience_s
        while process.poll() is None and time.monotonic() < until and not hurry():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_LOOK_S)
        process.kill()
        process.wait()

    def _let_go(self) -> None:
        """Wait for a process whose job has ended: an interpreter takes a moment to go."""
        if self._process is not None and self._under_way() and read_status(self.folder / self._name).ended:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(PATIENCE_S)

    def _under_way(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def _signal(self, number: int) -> None:
        assert self._process is not None
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def _check(self, name: str) -> None:
        if not _NAME.fullmatch(name) or ".." in name:
            raise SettingError(f"name {name[:100]!r} of a job: use up to 100 letters, digits and '_.-'")


def _started(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    """A process whose parent is a thread that lives as long as it does.

    The kernel ends a child that asked for it when the *thread* that started it ends, and those of a web server come and
    go.
    """
    made: queue.SimpleQueue[subprocess.Popen[bytes] | OSError] = queue.SimpleQueue()

    def keep() -> None:
        try:
            with log.open("ab") as stream:
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True
                )
        except OSError as error:
            made.put(error)
            return
        made.put(process)
        process.wait()

    threading.Thread(target=keep, name="job", daemon=True).start()
    started = made.get()
    if isinstance(started, OSError):
        raise started
    return started
