# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A spare process becomes a node that died."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys

import psutil
import pytest
from lifecycle_msgs.srv import GetState
from rcl_interfaces.srv import GetParameters
from typer.testing import CliRunner

from flow_rag_vla.bringup.spare import GROUPS, LIGHT, Spare
from flow_rag_vla.cli import bench_restart
from flow_rag_vla.cli.main import app


@pytest.fixture
def spare(tmp_path):
    made = Spare(tmp_path / "standby.log")
    yield made
    made.close()


def test_a_spare_becomes_the_node_that_is_asked_for_and_ends_as_one(spare, tmp_path, spin_until, call):
    log = tmp_path / "camera_encoder.log"
    log.write_text("before\n")
    arguments = ["--ros-args", "-r", "__ns:=/left", "-p", "max_image_age:=0.25"]
    assert spare.become("flow_rag_vla.nodes.camera_encoder", arguments, log) is None, "there is none yet"
    spare.prepare(os.environ)
    spin_until(lambda: spare.ready, what="the spare")
    node = spare.become("flow_rag_vla.nodes.camera_encoder", arguments, log)
    assert node is not None and spare.ready, "it can become another one at once"
    try:
        assert call(GetState, "/left/camera_encoder/get_state").current_state.label == "active"
        node.send_signal(signal.SIGINT)
        assert node.wait(30) == 0
    finally:
        node.kill()
    text = log.read_text()
    assert text.startswith("before\n") and "configured in" in text and "Traceback" not in text
    assert (tmp_path / "standby.log").read_text() == ""


SUPERVISING = """
import os, sys, time
from pathlib import Path
from flow_rag_vla.bringup.spare import Spare
from flow_rag_vla.core.processes import SUPERVISOR_VARIABLE
spare = Spare(Path(sys.argv[1]), ["controller"])
spare.prepare(dict(os.environ, **{SUPERVISOR_VARIABLE: str(os.getpid())}))
while not spare.ready:
    time.sleep(0.01)
print(spare.become("flow_rag_vla.nodes.controller", ["--ros-args"], Path(sys.argv[2])).pid, flush=True)
time.sleep(600)
"""


def test_a_node_that_came_of_a_spare_ends_with_whoever_started_it_and_not_with_the_spare(tmp_path, spin_until):
    log = tmp_path / "controller.log"
    command = [sys.executable, "-c", SUPERVISING, str(tmp_path / "standby.log"), str(log)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as supervisor:
        try:
            node = psutil.Process(int(supervisor.stdout.readline()))
            assert node.ppid() == supervisor.pid
            (spare,) = [child for child in psutil.Process(supervisor.pid).children() if child != node]
            spin_until(lambda: log.exists() and "[controller]" in log.read_text(), what="the controller")
            spare.kill()
            spin_until(lambda: spare.status() == psutil.STATUS_ZOMBIE, what="the spare's end")
            assert node.is_running() and node.status() != psutil.STATUS_ZOMBIE
        finally:
            supervisor.kill()
    psutil.wait_procs([node], 30.0)
    assert not node.is_running()


ENDINGS = {
    "ending": ("return 3", 3, ""),
    "leaving": ("raise SystemExit('no more')", 1, "no more"),
    "breaking": ("raise ValueError('broken')", 1, "ValueError: broken"),
    "working": ("threading.Thread(target=lambda: (time.sleep(0.3), print('written'))).start()", 0, "written"),
    "closing": ("atexit.register(print, 'closed')", 0, "closed"),
}


def test_what_comes_of_a_spare_ends_as_a_process_of_its_own_would(spare, tmp_path, spin_until):
    for name, (ends, _, _) in ENDINGS.items():
        (tmp_path / f"{name}.py").write_text(f"import atexit, threading, time\ndef main():\n    {ends}\n    return 0\n")
    spare.prepare(dict(os.environ, PYTHONPATH=f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"))
    spin_until(lambda: spare.ready, what="the spare")
    for name, (_, code, said) in ENDINGS.items():
        node = spare.become(name, [], tmp_path / name)
        assert node is not None and node.wait(30) == code, name
        assert (tmp_path / name).read_text().strip().endswith(said), name


def test_two_nodes_that_came_of_one_spare_draw_different_numbers(spare, tmp_path, spin_until):
    (tmp_path / "drawing.py").write_text("import numpy\ndef main():\n    print(numpy.random.random())\n    return 0\n")
    spare.prepare(dict(os.environ, PYTHONPATH=f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"))
    spin_until(lambda: spare.ready, what="the spare")
    drawn = []
    for name in ("first", "second"):
        node = spare.become("drawing", [], tmp_path / name)
        assert node is not None and node.wait(30) == 0
        drawn.append((tmp_path / name).read_text())
    assert drawn[0] != drawn[1]


def test_a_spare_that_forks_runs_no_threads_but_those_of_the_tracing_library(tmp_path, spin_until):
    for nodes in GROUPS:
        spare = Spare(tmp_path / "standby.log", nodes)
        try:
            spare.prepare(os.environ)
            spin_until(lambda spare=spare: spare.ready, what="the spare")
            # lttng-ust has two, for sessions of this user and of all; without it there is one thread.
            assert psutil.Process(spare.pid).num_threads() <= 3
        finally:
            spare.close()


def test_a_node_that_cannot_start_from_a_spare_says_so_under_its_own_name(spare, tmp_path, spin_until):
    spare.prepare(os.environ)
    spin_until(lambda: spare.ready, what="the spare")
    log = tmp_path / "flow_policy.log"
    node = spare.become("flow_rag_vla.nodes.flow_policy", ["--ros-args", "-p", "steps:=0"], log)
    assert node is not None and node.wait(30) == 2
    assert log.read_text().startswith("flow_policy: steps: 0 is outside")


def test_the_spare_of_the_light_nodes_becomes_one_of_them(tmp_path, spin_until, call):
    spare = Spare(tmp_path / "standby.log", LIGHT)
    log = tmp_path / "node.log"
    try:
        spare.prepare(os.environ)
        spin_until(lambda: spare.ready, what="the spare")
        bag = f"bag:={tmp_path / 'bag'}"
        made = spare.become("flow_rag_vla.nodes.recorder", ["--ros-args", "-p", bag], log)
        assert made is not None
        try:
            call(GetParameters, "/recorder/get_parameters")
            made.send_signal(signal.SIGINT)
            assert made.wait(30) == 0
        finally:
            made.kill()
    finally:
        spare.close()
    assert "Traceback" not in log.read_text() and (tmp_path / "standby.log").read_text() == ""


def test_a_spare_that_is_not_ready_is_not_waited_for(spare, tmp_path):
    spare.prepare(os.environ)
    assert spare.become("flow_rag_vla.nodes.flow_policy", [], tmp_path / "log") is None
    assert not spare.ready
    mine = [child for child in psutil.Process().children() if child.status() != psutil.STATUS_ZOMBIE]
    assert not [child for child in mine if any("nodes.standby" in part for part in child.cmdline())]


def test_the_benchmark_starts_a_node_both_ways_and_leaves_its_figures(tmp_path, monkeypatch):
    monkeypatch.setattr(bench_restart, "HEAVY", ("camera_encoder",))
    every, few = bench_restart._commands, (bench_restart.EMPTY, "episode_manager")
    monkeypatch.setattr(bench_restart, "_commands", lambda folder: {name: every(folder)[name] for name in few})
    result = CliRunner().invoke(app, ["bench", "restart", "--quick", "--json", str(tmp_path)])
    assert result.exit_code == 0, result.output
    starts = json.loads((tmp_path / "restart.json").read_text())
    assert [(start["node"], start["spare"]) for start in starts] == [
        ("camera_encoder", False),
        ("camera_encoder", True),
        ("benchmark_timer", False),
        ("episode_manager", False),
        ("episode_manager", True),
    ]
    assert all(start["cpu"] > 0.0 for start in starts) and "camera_encoder: loaded" in result.output
    assert "episode_manager: answers" in result.output
