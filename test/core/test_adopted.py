# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Children that another process forked."""

from __future__ import annotations

import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from flow_rag_vla.core.adopted import FORGOTTEN, Adopted

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands orphans to another parent")

ADOPTING = """
import os, sys, time
from flow_rag_vla.core.adopted import Adopted, adopt_orphans
assert adopt_orphans()
here, there = os.pipe()
if not os.fork():
    parent = os.getpid()
    if not os.fork():
        while os.getppid() == parent:
            time.sleep(0.001)
        os.write(there, str(os.getpid()).encode())
        {code}
        os._exit(7)
    os._exit(0)
child = Adopted(int(os.read(here, 20)))
assert child.returncode is None
{then}
"""


def adopting(code: str, then: str) -> str:
    text = ADOPTING.format(code=code, then=then)
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=60, check=True).stdout


def test_the_exit_code_of_an_adopted_child_is_told_and_stays():
    assert adopting("", "print(child.wait(), child.poll(), child.returncode)") == "7 7 7\n"


def test_an_adopted_child_is_waited_for_and_ended_like_any_other():
    then = """
import signal, subprocess
assert child.poll() is None
try:
    child.wait(0.05)
except subprocess.TimeoutExpired as error:
    print(error)
child.send_signal(signal.SIGTERM)
print(child.wait(30))
child.kill()
"""
    said = adopting("time.sleep(60)", then)
    assert "timed out after 0.05 seconds" in said and said.endswith("\n-15\n")


def test_a_child_that_the_system_has_forgotten_is_over():
    then = "import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN); child.kill(); print(child.wait(30))"
    assert adopting("time.sleep(60)", then) == f"{FORGOTTEN}\n"


def test_threads_that_ask_at_once_hear_the_same_end():
    process = subprocess.Popen(
        [sys.executable, "-c", "import sys; sys.stdin.read(); sys.exit(3)"], stdin=subprocess.PIPE
    )
    child, together = Adopted(process.pid), threading.Barrier(8)

    def ask(_number: int) -> int:
        together.wait()
        return child.wait(30)

    with ThreadPoolExecutor(8) as threads:
        asked = threads.map(ask, range(8))
        assert process.stdin is not None
        process.stdin.close()
        assert list(asked) == [3] * 8
    process.returncode = 3


def test_a_process_that_is_no_child_is_an_error_and_no_end():
    with pytest.raises(ChildProcessError):
        Adopted(1).poll()
