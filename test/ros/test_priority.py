# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The loop's priority, in processes of their own: what its threads get, what children do not, and how it is lost."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

BEGIN = """
import ctypes, json, os, subprocess, sys, threading, time
from flow_rag_vla.nodes.priority import RaisedPriority

def of(thread):
    policy = os.sched_getscheduler(thread) & ~os.SCHED_RESET_ON_FORK
    return [policy, os.sched_getparam(thread).sched_priority, os.getpriority(os.PRIO_PROCESS, thread)]

def beside():
    waiting = threading.Event()
    thread = threading.Thread(target=waiting.wait, daemon=True)
    thread.start()
    while thread.native_id is None:
        time.sleep(0.001)
    return thread.native_id

own, before = threading.get_native_id(), beside()
"""

THREADS = """
priority = RaisedPriority(-10, 20)
new = beside()
told = {"outcome": priority.outcome, "own": of(own), "before": of(before), "new": of(new)}
priority.renew()
told["renewed"] = of(new)
asked = "import os, json; print(json.dumps([os.sched_getscheduler(0), os.getpriority(os.PRIO_PROCESS, 0)]))"
told["child"] = json.loads(subprocess.run([sys.executable, "-c", asked], capture_output=True, check=True).stdout)
print(json.dumps(told))
"""

DECIDING = """
from flow_rag_vla.core.processes import name_thread
named, waiting = threading.Event(), threading.Event()

def middleware():
    name_thread("dds.test")
    named.set()
    waiting.wait()

thread = threading.Thread(target=middleware, daemon=True)
thread.start()
named.wait()
priority = RaisedPriority(0, 5, workers=False)
told = [of(own), of(thread.native_id), of(before)]
priority.give_back()
priority.renew()
print(json.dumps([told, [of(own), of(thread.native_id), of(before)]]))
"""

SPINNING = """
priority = RaisedPriority(0, 20, 0.1)
first = of(own)
ended = time.monotonic() + 60
while of(own)[0] and time.monotonic() < ended:
    pass
print(json.dumps([first, of(own), of(before), priority.renew(), priority.renew()]))
"""

FORBIDDEN = """
# What root may do, and what the limits of a user would still allow.
ctypes.CDLL(None).prctl(24, 23, 0, 0, 0)
import resource
for limit in (resource.RLIMIT_RTPRIO, resource.RLIMIT_NICE):
    resource.setrlimit(limit, (0, 0))
os.execv(sys.executable, [sys.executable, "-c", sys.argv[1]])
"""

FIFO, OTHER = 1, 0


def result(code, *arguments):
    done = subprocess.run(
        [sys.executable, "-c", BEGIN + code, *arguments], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def permitted():
    """Skips where the system gives no real-time priority."""
    asked = "import os; os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(20))"
    if subprocess.run([sys.executable, "-c", asked], stderr=subprocess.DEVNULL, check=False).returncode:
        pytest.skip("no SCHED_FIFO here")


def test_the_loop_comes_first_the_other_threads_next_and_children_get_nothing_of_it(permitted):
    told = result(THREADS)
    assert told["outcome"] == "SCHED_FIFO 20, niceness -10"
    assert told["own"] == [FIFO, 20, -10] and told["before"] == [FIFO, 19, -10]
    assert told["new"] == [OTHER, 0, 0], "not inherited"
    assert told["renewed"] == [FIFO, 19, -10]
    assert told["child"] == [OTHER, 0]


def test_what_works_in_the_background_is_left_as_it_is_and_the_priority_can_be_given_back(permitted):
    raised, given_back = result(DECIDING)
    assert [thread[:2] for thread in raised] == [[FIFO, 5], [FIFO, 4], [OTHER, 0]]
    assert [thread[:2] for thread in given_back] == [[OTHER, 0]] * 3


def test_a_thread_that_computes_on_and_on_loses_it_for_all_and_that_is_said_once(permitted):
    first, own, before, said, again = result(SPINNING)
    assert first[:2] == [FIFO, 20] and own[:2] == before[:2] == [OTHER, 0]
    assert "0.1 s" in said and again == ""


def test_where_it_is_not_permitted_the_remedy_is_named_and_everything_goes_on():
    told = result(FORBIDDEN, BEGIN + THREADS)
    assert "SCHED_FIFO 20 not permitted" in told["outcome"] and "ulimit -r" in told["outcome"]
    assert "niceness -10 not permitted" in told["outcome"] and "ulimit -e" in told["outcome"]
    assert told["own"] == told["before"] == told["renewed"] == [OTHER, 0, os.getpriority(os.PRIO_PROCESS, 0)]
