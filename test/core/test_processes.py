# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Children end with their parent, however it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import pytest

from flow_rag_vla.core.processes import interrupted

CHILD = "from flow_rag_vla.core.processes import end_with_parent; end_with_parent(); print('up', flush=True); input()"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {CHILD!r}], stdin=subprocess.PIPE)"


def test_a_child_ends_when_its_parent_is_killed():
    # The pipe of the child's output ends when the child does: that is the event waited for.
    reader, writer = os.pipe()
    parent = subprocess.Popen([sys.executable, "-c", PARENT.replace("run(", "Popen(") + "; sys.stdin.read()"],
                              stdin=subprocess.PIPE, stdout=writer)  # fmt: skip
    os.close(writer)
    with os.fdopen(reader) as output:
        assert output.readline() == "up\n"
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        assert output.read() == ""


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells")
def test_a_parent_that_ended_before_it_could_be_watched_is_noticed():
    ended = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert ended.stdout is not None
    with ended.stdout:
        # Its end of the pipe closes with it; it stays a zombie until it is waited for.
        assert ended.stdout.read() == b""
    os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
    asking = "import sys; from flow_rag_vla.core.processes import end_with_parent; " + (
        "print(end_with_parent(15, int(sys.argv[1])))"
    )

    def answer(parent: int) -> str:
        command = [sys.executable, "-c", asking, str(parent)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    assert answer(ended.pid) == "False", "a zombie"
    ended.wait()
    assert answer(ended.pid) == "False"
    assert answer(os.getpid()) == answer(os.getppid()) == "True"


@pytest.mark.skipif(not hasattr(os, "SCHED_IDLE"), reason="only Linux schedules as idle")
@pytest.mark.parametrize(("niceness", "policy"), [(0, "SCHED_OTHER"), (10, "SCHED_OTHER"), (19, "SCHED_IDLE")])
def test_only_the_lowest_priority_is_put_aside_at_once_and_threads_inherit_it(niceness: int, policy: str):
    code = (
        "import os, threading; from flow_rag_vla.core.processes import give_way; before = os.nice(0); "
        f"give_way({niceness}); told = []; "
        "thread = threading.Thread(target=lambda: told.append(os.sched_getscheduler(0))); "
        "thread.start(); thread.join(); print(told[0], min(os.nice(0) - before, 19))"
    )
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert int(said[0]) == getattr(os, policy)
    assert int(said[1]) >= min(niceness, 19 - os.nice(0))


def test_a_child_is_interrupted_and_one_that_does_not_listen_is_killed():
    quick = subprocess.Popen([sys.executable, "-c", "import signal, time; "
                              "signal.signal(signal.SIGINT, signal.default_int_handler); "
                              "print('up', flush=True); time.sleep(600)"],
                             stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)  # fmt: skip
    deaf = subprocess.Popen(
        [sys.executable, "-c", "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); "
         "print('up', flush=True); time.sleep(600)"], stdout=subprocess.PIPE)  # fmt: skip
    for process, patience_s in ((quick, 60.0), (deaf, 0.2)):
        assert process.stdout is not None
        with process.stdout:
            assert process.stdout.readline() == b"up\n"
            interrupted(process, patience_s)
    assert deaf.returncode == -signal.SIGKILL
    assert quick.returncode not in (None, -signal.SIGKILL)
    interrupted(quick)


@pytest.mark.skipif(sys.platform != "linux" or os.geteuid() != 0, reason="only root may raise itself")
def test_what_a_library_raised_is_scheduled_as_before_and_others_threads_are_left_alone():
    code = """
import os, threading
from flow_rag_vla.core.processes import own_scheduling
ended = threading.Event()
def beside():
    thread = threading.Thread(target=ended.wait)
    thread.start()
    return thread.native_id
def raised(thread):
    os.sched_setscheduler(thread, os.SCHED_FIFO, os.sched_param(30))
other = beside()
raised(other)
try:
    with own_scheduling():
        new = beside()
        raised(new)
        raised(0)
        raise LookupError
except LookupError:
    print([os.sched_getscheduler(thread) for thread in (0, new, other)])
ended.set()
"""
    if subprocess.run(["chrt", "-f", "30", "true"], stderr=subprocess.DEVNULL, check=False).returncode:
        pytest.skip("no SCHED_FIFO here")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"{[os.SCHED_OTHER, os.SCHED_OTHER, os.SCHED_FIFO]}\n"
