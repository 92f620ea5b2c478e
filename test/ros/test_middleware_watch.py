# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A process whose middleware has locked itself out ends, and no other one does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from flow_rag_vla.nodes.middleware_watch import EVENT_THREAD, LOCKED_OUT

WATCHED = """
import ctypes, sys, threading, time
from flow_rag_vla.core.processes import name_thread
from flow_rag_vla.nodes import middleware_watch
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
threading.Thread(target=work, args=(globals()[sys.argv[1]],), daemon=True).start()
assert middleware_watch.watch_middleware("a_node", 0.05) is not None
print("up", flush=True)
time.sleep(float(sys.argv[2]))
"""


def watched(what: str, seconds: float) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", WATCHED, what, str(seconds)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


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


def test_the_middleware_of_a_node_has_the_thread_that_is_watched_and_the_node_a_watch(start_node, spin_until):
    node = start_node("controller")
    spin_until(lambda: node.said("controller"), what="the controller")

    def named(name: str) -> bool:
        threads = Path(f"/proc/{node.popen.pid}/task").iterdir()
        return any((thread / "comm").read_text().startswith(name) for thread in threads)

    spin_until(lambda: named(EVENT_THREAD) and named("middleware"), what="both threads")
