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
