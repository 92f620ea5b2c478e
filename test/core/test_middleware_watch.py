# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A process whose middleware has locked itself out ends, and no other one does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest

from flow_rag_vla.core import middleware_watch
from flow_rag_vla.core.middleware_watch import LOCKED_OUT, OutsideWatch

WATCHED = """
import ctypes, sys, threading, time
from pathlib import Path
from flow_rag_vla.core.processes import name_thread
from flow_rag_vla.core import middleware_watch
libc = ctypes.CDLL(None)
mutex, waited = ctypes.create_string_buffer(64), threading.Event()
def lock():
    assert libc.pthread_mutex_lock(mutex) == 0
def release_often():
    while True:
        time.sleep(0.02)
        libc.pthread_mutex_unlock(mutex)
def busy():
    while True:
        pass
def twice():
    lock()
    lock()
def again_and_again():
    threading.Thread(target=release_often, daemon=True).start()
    while True:
        lock()
def patient():
    waited.wait()
def work(what):
    name_thread("dds.ev.0")
    what()
thread = threading.Thread(target=work, args=(globals()[sys.argv[1]],), daemon=True)
thread.start()
assert middleware_watch.watch_middleware("a_node", 0.05) is not None
print("up", flush=True)
if sys.argv[3] == "alone":
    while not middleware_watch._waits_for_mutex(Path(f"/proc/self/task/{thread.native_id}")):
        time.sleep(0.01)
    ctypes.PyDLL(None).sleep(round(float(sys.argv[2])))  # keeps the interpreter's lock
time.sleep(float(sys.argv[2]))
"""


def watched(what: str, seconds: float, interpreter: str = "shared") -> subprocess.Popen[str]:
    command = [sys.executable, "-c", WATCHED, what, str(seconds), interpreter]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_process_ends_whose_timer_thread_waits_for_a_lock_for_good():
    with watched("twice", 60.0) as process:
        _, said = process.communicate(timeout=50.0)
    assert process.returncode == LOCKED_OUT
    assert said.startswith("a_node: the middleware has locked itself out") and said.count("\n") == 1


@pytest.mark.parametrize("what", ["again_and_again", "patient", "busy"])
def test_a_process_goes_on_whose_timer_thread_waits_for_what_comes_or_works(what):
    with watched(what, 3.0) as process:
        _, said = process.communicate(timeout=50.0)
    assert process.returncode == 0 and said == ""


def test_a_process_that_was_stopped_for_a_while_goes_on():
    with watched("again_and_again", 3.0) as process:
        assert process.stdout is not None and process.stdout.readline() == "up\n"
        os.kill(process.pid, signal.SIGSTOP)
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(1.0)
        os.kill(process.pid, signal.SIGCONT)
        _, said = process.communicate(timeout=50.0)
    assert process.returncode == 0 and said == ""


def test_who_supervises_a_process_finds_it_where_the_interpreter_lets_nobody_else_look():
    with watched("twice", 60.0, "alone") as process:
        assert process.stdout is not None and process.stdout.readline() == "up\n"
        outside = OutsideWatch(look_every_s=0.05)
        deadline = time.monotonic() + 50.0
        while not outside.locked_out("a node", process.pid):
            assert time.monotonic() < deadline and process.poll() is None
            time.sleep(0.01)
        process.kill()
        assert process.wait(20.0) == -signal.SIGKILL and process.stderr.read() == ""
        # Another process is another matter, and one that is gone is none.
        assert not outside.locked_out("a node", os.getpid()) and not outside.locked_out("gone", process.pid)


@pytest.mark.parametrize("what", ["again_and_again", "patient", "busy"])
def test_who_supervises_a_process_leaves_it_alone_while_its_timer_thread_gets_on(what):
    with watched(what, 60.0) as process:
        assert process.stdout is not None and process.stdout.readline() == "up\n"
        outside, now = OutsideWatch(clock=lambda: now), 0.0
        for look in range(40):
            now = float(look)
            assert not outside.locked_out("a node", process.pid)
            time.sleep(0.02)
        process.kill()


def test_a_process_is_looked_at_once_a_second_however_often_one_asks(monkeypatch):
    looked = []
    monkeypatch.setattr(middleware_watch.LockWatch, "locked_out", lambda _watch: looked.append(now) or False)
    outside, now = OutsideWatch(clock=lambda: now), 0.0
    for _ in range(7):
        outside.locked_out("a node", os.getpid())
        now += 0.5
    assert looked == [0.0, 1.0, 2.0, 3.0]
