# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A clock that is set for one process only."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time

import pytest

from flow_rag_vla.evaluate.chaos.clock import SettableClock

ASKING = """
import sys, time
for _ in sys.stdin:
    print(time.time(), time.monotonic(), flush=True)
"""

WAITING = """
import ctypes, errno, time
c = ctypes.CDLL(None, use_errno=True)
class Moment(ctypes.Structure):
    _fields_ = [("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long)]
until = divmod(time.time_ns() + 200_000_000, 1_000_000_000)
semaphore, mutex = ctypes.create_string_buffer(64), ctypes.create_string_buffer(64)
c.sem_init(semaphore, 0, 0)
c.pthread_mutex_lock(mutex)
begin = time.monotonic()
assert c.sem_timedwait(semaphore, ctypes.byref(Moment(*until))) == -1 and ctypes.get_errno() == errno.ETIMEDOUT
first = time.monotonic() - begin
assert c.pthread_mutex_timedlock(mutex, ctypes.byref(Moment(*until))) == errno.ETIMEDOUT
print(first, time.monotonic() - begin)
"""


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
@pytest.mark.parametrize("hours", [-1, 0, 1])
def test_a_wait_until_a_moment_lasts_until_that_moment_of_the_clock_that_the_process_sees(tmp_path, hours):
    with SettableClock(tmp_path) as clock:
        clock.set(hours * 3600 * 1_000_000_000)
        said = subprocess.run(
            [sys.executable, "-c", WAITING],
            env={**os.environ, **clock.environment},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
    assert said.returncode == 0, said.stderr
    first, both = map(float, said.stdout.split())
    assert first >= 0.19, "it is over before its time"
    assert both < 30.0


@pytest.mark.skipif(shutil.which("cc") is None, reason="no C compiler")
def test_the_system_clock_of_the_chosen_process_jumps_both_ways_and_the_steady_one_does_not(tmp_path):
    with SettableClock(tmp_path) as clock:
        process = subprocess.Popen(
            [sys.executable, "-c", ASKING],
            env={**os.environ, **clock.environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None and process.stdout is not None
        try:
            for offset in (0, 3600, -3600, 0):
                clock.set(offset * 1_000_000_000)
                before = time.time(), time.monotonic()
                process.stdin.write("\n")
                process.stdin.flush()
                system, steady = map(float, process.stdout.readline().split())
                after = time.time(), time.monotonic()
                assert before[0] + offset <= system + 1e-3 and system <= after[0] + offset + 1e-3
                assert before[1] <= steady <= after[1]
        finally:
            process.kill()
            process.communicate()


def test_without_a_compiler_the_remedy_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(RuntimeError, match="install one"):
        SettableClock(tmp_path)
