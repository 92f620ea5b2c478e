# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The whole graph, started as a user starts it."""

from __future__ import annotations

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
from rclpy.qos import QoSCompatibility, qos_check_compatible
from std_msgs.msg import Bool

from flow_rag_vla.bringup import topics
from flow_rag_vla.bringup.endpoints import SERVICES, TOPICS
from flow_rag_vla.bringup.graph import NODES
from flow_rag_vla.bringup.resources import robots_folder
from flow_rag_vla.bringup.security.audit import beyond
from flow_rag_vla.bringup.security.grants import grants
from flow_rag_vla.data.bag import read_bag
from flow_rag_vla.nodes import qos
from flow_rag_vla.nodes.endpoints_seen import endpoints_of
from flow_rag_vla.robot.profile import find_profile, load_profile
from flow_rag_vla_interfaces.msg import ControlCommand, EpisodeStatus

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


class Run:
    """``flow_rag_vla sim`` as a process."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.runs = folder / "runs"
        self.output = folder / "output.txt"
        command = [sys.executable, "-m", "flow_rag_vla.cli.main", "sim", "--runs", str(self.runs), *arguments]
        with self.output.open("wb") as stream:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True
            )

    @property
    def folder(self) -> Path:
        return next(self.runs.iterdir())

    @property
    def text(self) -> str:
        return self.output.read_text(errors="replace")

    def nodes(self) -> list[psutil.Process]:
        """The node processes that it started."""
        try:
            children = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        return [child for child in children if node_name(child) in {spec.name for spec in NODES}]

    def node(self, name: str) -> psutil.Process | None:
        return next((child for child in self.nodes() if node_name(child) == name), None)

    def logs(self) -> str:
        return "\n".join(path.read_text(errors="replace") for path in sorted(self.folder.glob("log/*.log")))


def node_name(process: psutil.Process) -> str:
    """Which node a process is; the spare one, once it is a node, tells by its own name."""
    with suppress(psutil.NoSuchProcess):
        module = next((part for part in process.cmdline() if part.startswith("flow_rag_vla.nodes.")), "")
        return process.name() if module.endswith(".standby") else module.rpartition(".")[2]
    return ""


def alive(process: psutil.Process) -> bool:
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


@pytest.fixture
def sim(tmp_path):
    started = []

    def start(*arguments: str) -> Run:
        started.append(Run(tmp_path, *arguments))
        return started[-1]

    yield start
    for run in started:
        for process in [*run.nodes(), run.process]:
            if process.poll() is None if isinstance(process, subprocess.Popen) else process.is_running():
                process.kill()
        run.process.wait()


@pytest.fixture
def status(ros_node):
    heard: list[EpisodeStatus] = []
    ros_node.create_subscription(EpisodeStatus, topics.EPISODE_STATUS, heard.append, qos.STATE)
    return heard


def running(status) -> bool:
    return bool(status) and status[-1].state == EpisodeStatus.STATE_RUNNING


def differences(ros_node) -> list[str]:
    """What the running graph offers otherwise than ``bringup.endpoints`` declares."""
    found = []
    offered = {name: set(types) for name, types in ros_node.get_topic_names_and_types()}
    for topic in TOPICS:
        name = topic.name if topic.name.startswith("/") else f"/{topic.name}"
        others = {ros_node.get_name(), "operator"}
        writers = [info for info in ros_node.get_publishers_info_by_topic(name) if info.node_name not in others]
        readers = [info for info in ros_node.get_subscriptions_info_by_topic(name) if info.node_name not in others]
        publishers, subscribers = ({info.node_name for info in infos} for infos in (writers, readers))
        for writer, reader in itertools.product(writers, readers):
            fits, why = qos_check_compatible(writer.qos_profile, reader.qos_profile)
            if fits == QoSCompatibility.ERROR:
                found.append(f"{name}: {reader.node_name} asks {writer.node_name} for what it does not offer: {why}")
        declared = {spec.name for spec in NODES} if topic.publishers == ("every node",) else set(topic.publishers)
        if topic.type not in offered.get(name, set()):
            found.append(f"{name} is of {offered.get(name)}")
        if publishers != declared:
            found.append(f"{name} is published by {publishers}")
        # The recorder waits for a publisher, to take the quality of service that it offers.
        if subscribers != {*topic.subscribers, *(["recorder"] if declared else [])}:
            found.append(f"{name} is read by {subscribers}")
    served = {name for name, _ in ros_node.get_service_names_and_types()}
    started = {spec.name for spec in NODES}
    for service in SERVICES:
        if service.server not in started:
            continue
        suffix = "/_action/send_goal" if "/action/" in service.type else ""
        if f"/{service.name}{suffix}" not in served:
            found.append(f"/{service.name} is not served")
    # With SROS2 a node that makes an endpoint which its grant lacks ends with an error.
    arm = load_profile(find_profile("mock", robots_folder()))
    return found + beyond(grants(arm), endpoints_of(ros_node, started))


def test_an_episode_runs_and_leaves_record_bag_report_and_picture(sim, status, ros_node, spin_until):
    run = sim("-n", "1", "--seed", "100000")
    spin_until(lambda: running(status), 120, "an episode")
    assert run.process.wait(180) == 0, run.text
    record = json.loads((run.folder / "episodes" / "000001.json").read_text())
    assert record["task"] == "pick_and_place" and record["seed"] == 100000
    assert record["outcome"] in ("success", "failure")
    page = (run.folder / "report.html").read_text()
    assert "pick and place" in page and "http://" not in page.replace("http://www.w3.org", "")
    assert (run.folder / "episode.gif").read_bytes().startswith(b"GIF89a")
    commands = [item.message for item in read_bag(run.folder / "bag", topics=[f"/{topics.COMMAND}"])]
    assert len(commands) > 40 * record["duration"] * 0.9
    ticks = [command.tick for command in commands]
    assert ticks == list(range(ticks[0], ticks[0] + len(ticks))), "a tick is missing from the bag"
    assert any(command.mode == ControlCommand.MODE_FOLLOW and command.chunk_id for command in commands)
    assert "Traceback" not in run.text + run.logs()


def test_the_graph_is_as_declared_and_ctrl_c_in_an_episode_ends_it_cleanly(sim, status, ros_node, spin_until):
    run = sim("-n", "40", "--no-report")
    spin_until(lambda: running(status), 120, "an episode")
    nodes = run.nodes()
    assert len(nodes) == len(NODES)
    # Discovery is gradual: the graph is compared until it is as declared, and what is left over is told.
    left: list[str] = []

    def as_declared() -> bool:
        left[:] = differences(ros_node)
        return not left

    try:
        spin_until(as_declared, 30)
    except pytest.fail.Exception:
        pytest.fail("the graph is not as declared: " + "; ".join(left))
    run.process.send_signal(signal.SIGINT)
    assert run.process.wait(60) == 130, run.text
    assert not any(map(alive, nodes))
    assert "Traceback" not in run.text + run.logs()
    assert list(read_bag(run.folder / "bag", topics=[f"/{topics.COMMAND}"])), "the bag was not closed"


def test_nodes_of_a_graph_that_is_killed_as_it_starts_end_too(sim, spin_until):
    run = sim("-n", "1", "--no-report")
    # Most of them still import then, and have not asked the kernel to tell them of their parent's end.
    spin_until(lambda: len(run.nodes()) >= 3, 60, "the first nodes")
    run.process.send_signal(signal.SIGSTOP)
    children = psutil.Process(run.process.pid).children(recursive=True)
    run.process.kill()
    run.process.wait()
    assert len(children) >= 3
    spin_until(lambda: not any(map(alive, children)), 60, "the nodes' end")


def test_a_killed_policy_is_started_again_and_the_loop_never_pauses(sim, status, ros_node, spin_until):
    commands: list[tuple[float, ControlCommand]] = []
    ros_node.create_subscription(
        ControlCommand, topics.COMMAND, lambda m: commands.append((time.monotonic(), m)), qos.command_profile(0.025)
    )
    run = sim("-n", "9", "--no-report", "--no-record")
    spin_until(
        lambda: running(status) and commands and commands[-1][1].mode == ControlCommand.MODE_FOLLOW, 120, "motion"
    )
    victim = run.node("flow_policy")
    assert victim is not None
    victim.send_signal(signal.SIGKILL)
    after = len(commands)
    spin_until(lambda: any(m.mode != ControlCommand.MODE_FOLLOW for _, m in commands[after:]), 30, "the ladder")
    held = next(m for _, m in commands[after:] if m.mode != ControlCommand.MODE_FOLLOW)
    assert held.reason_text, "a loop that stops following names why"
    spin_until(lambda: run.node("flow_policy") not in (None, victim), 30, "a new policy")
    again = len(commands)
    spin_until(
        lambda: running(status) and any(m.mode == ControlCommand.MODE_FOLLOW for _, m in commands[again:]), 90, "motion"
    )
    ticks = [m.tick for _, m in commands]
    assert ticks == sorted(set(ticks))
    assert "flow_policy ended with code -9; starting it again" in run.text
    run.process.send_signal(signal.SIGINT)
    assert run.process.wait(60) == 130, run.text


def test_an_emergency_stop_ends_the_episode_and_holds_the_arm(sim, status, ros_node, spin_until):
    commands: list[ControlCommand] = []
    ros_node.create_subscription(ControlCommand, topics.COMMAND, commands.append, qos.command_profile(0.025))
    stop = ros_node.create_publisher(Bool, topics.EMERGENCY_STOP, qos.STATE)
    run = sim("-n", "40", "--no-report", "--no-record")
    spin_until(lambda: running(status), 120, "an episode")
    stop.publish(Bool(data=True))
    spin_until(lambda: commands and commands[-1].mode == ControlCommand.MODE_EMERGENCY_STOP, 40, "the stop")
    assert run.process.wait(60) == 1, run.text
    assert "aborted" in run.text and "emergency" in run.text
    assert "Traceback" not in run.text + run.logs()


def test_a_controller_that_cannot_run_ends_the_graph_with_its_reason(sim, tmp_path):
    parameters = tmp_path / "parameters.yaml"
    parameters.write_text('/**/controller:\n  ros__parameters:\n    max_observation_age: "soon"\n')
    run = sim("-n", "1", "--no-report", "--params-file", str(parameters))
    assert run.process.wait(90) == 1
    assert "controller cannot start" in run.text and "max_observation_age" in run.text
    assert not run.nodes()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--task", "juggle"), "juggle"),
        (("--instruction", "make coffee"), "not understood"),
        (("--params-file", os.devnull + "/none"), "does not exist"),
        (("--corrector", "magic"), "dispatch"),
    ],
)
def test_a_wrong_argument_is_named_before_anything_is_started(sim, arguments, said):
    run = sim(*arguments)
    assert run.process.wait(60) == 2
    assert said in run.text and "Traceback" not in run.text
