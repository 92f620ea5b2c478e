# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A spare process becomes a node that died."""

from __future__ import annotations

import json
import os
import signal

import psutil
import pytest
from lifecycle_msgs.srv import GetState
from rcl_interfaces.srv import GetParameters
from typer.testing import CliRunner

from flow_rag_vla.bringup.spare import LIGHT, Spare
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
    assert node is not None and not spare.ready
    try:
        assert call(GetState, "/left/camera_encoder/get_state").current_state.label == "active"
        node.send_signal(signal.SIGINT)
        assert node.wait(30) == 0
    finally:
        node.kill()
    text = log.read_text()
    assert text.startswith("before\n") and "configured in" in text and "Traceback" not in text
    assert (tmp_path / "standby.log").read_text() == ""


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
    me = psutil.Process()
    assert not [child for child in me.children() if any("nodes.standby" in part for part in child.cmdline())]


def test_the_benchmark_starts_a_node_both_ways_and_leaves_its_figures(tmp_path, monkeypatch):
    monkeypatch.setattr(bench_restart, "HEAVY", ("camera_encoder",))
    monkeypatch.setattr(bench_restart, "LIGHT", ("episode_manager",))
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
