# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The launch files, run by launch itself and ended by Ctrl-C. Where launch is not installed (it is not on PyPI),
test_graph.py starts the same processes from the same declarations."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest

pytest.importorskip("launch.actions", reason="launch is not on PyPI; apt ROS has it")
pytest.importorskip("launch_ros", reason="launch_ros is not on PyPI; apt ROS has it")

from launch.launch_description_sources import PythonLaunchDescriptionSource

from flow_rag_vla.bringup import topics
from flow_rag_vla.bringup.graph import ARGUMENTS, NODES
from flow_rag_vla.bringup.replay_graph import REPLAY_ARGUMENTS
from flow_rag_vla.bringup.resources import default_params_file, share_folder
from flow_rag_vla.bringup.robot_graph import ROBOT_ARGUMENTS, robot_graph
from flow_rag_vla.core.middleware_watch import OutsideWatch
from flow_rag_vla.data.bag_writer import BagWriter
from flow_rag_vla.data.definitions import Definitions
from flow_rag_vla.nodes import qos
from flow_rag_vla.nodes.launching import GivingUp, kill_locked_out
from flow_rag_vla_interfaces.msg import ControlCommand
from launch import LaunchContext

FILES = {"sim": ARGUMENTS, "robot": ROBOT_ARGUMENTS, "replay": REPLAY_ARGUMENTS}
ARM = {"profile": "mock", "mock": "true"}
LAUNCH = """
import sys
from launch import LaunchDescription, LaunchService
from launch.actions import IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
given = [item.split(":=", 1) for item in sys.argv[2:]]
service = LaunchService()
service.include_launch_description(LaunchDescription(
    [IncludeLaunchDescription(PythonLaunchDescriptionSource(sys.argv[1]), launch_arguments=given)]
))
sys.exit(service.run())
"""
"""What ``ros2 launch`` does, for machines without ros2cli."""


def file(name):
    return str(share_folder() / "launch" / f"{name}.launch.py")


@pytest.mark.parametrize("name", FILES)
def test_each_launch_file_tells_of_every_argument_what_it_means_and_takes(name):
    described = PythonLaunchDescriptionSource(file(name)).get_launch_description(LaunchContext())
    told = described.get_launch_arguments()
    assert [item.name for item in told] == [item.name for item in FILES[name]]
    for item, declared in zip(told, FILES[name], strict=True):
        # launch itself adds the choices to what it tells.
        assert item.description.startswith(declared.description)
        assert tuple(item.choices or ()) == declared.choices


def arm_nodes():
    return [process.spec.name for process in robot_graph({**ARM, "run_folder": "run"}, default_params_file())]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "arguments", "nodes"), [("sim", {}, [spec.name for spec in NODES]), ("robot", ARM, arm_nodes())]
)
def test_a_graph_comes_up_in_its_namespace_and_ctrl_c_ends_every_node_well(
    name, arguments, nodes, ros_node, spin_until, tmp_path
):
    commands = []
    ros_node.create_subscription(ControlCommand, f"left/{topics.COMMAND}", commands.append, qos.command_profile(0.025))
    wanted = {(node, "/left") for node in nodes}
    given = {"namespace": "left", "run_folder": tmp_path / "run", **arguments}
    command = [sys.executable, "-c", LAUNCH, file(name), *(f"{key}:={value}" for key, value in given.items())]
    log = tmp_path / "launch.log"
    with log.open("wb") as stream:
        launched = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True)
    try:
        spin_until(lambda: wanted <= set(ros_node.get_node_names_and_namespaces()), 90, "every node")
        spin_until(lambda: len(commands) > 40, 60, "a second of commands")
        # As a terminal does: launch and its nodes are told alike. Launch alone would count on that, and wait for 15 s.
        os.killpg(launched.pid, signal.SIGINT)
        spin_until(lambda: launched.poll() is not None, 60, "the end of launch")
    finally:
        if launched.poll() is None:
            # Nodes end with the launch that started them.
            launched.kill()
            launched.wait()
        text = log.read_text(errors="replace")
        print(text[-8000:])
    ticks = [item.tick for item in commands]
    assert ticks == sorted(set(ticks))
    assert launched.returncode == 0 and "Traceback" not in text and "failed to terminate" not in text
    assert sorted(re.findall(r"\[(\w+)-\d+\]: process has finished cleanly", text)) == sorted(nodes)


def run_to_its_end(name, *arguments):
    """Exit code and output of a launch file that ends by itself."""
    command = [sys.executable, "-c", LAUNCH, file(name), *arguments]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=90,
        check=False, start_new_session=True,
    )  # fmt: skip
    return done.returncode, done.stdout


def test_a_bag_is_played_by_its_launch_file_which_ends_with_it(tmp_path):
    definitions = Definitions()
    with BagWriter(tmp_path / "bag", definitions) as writer:
        writer.add_topic("/notes", "std_msgs/msg/String")
        for index in range(5):
            note = definitions.message("std_msgs/msg/String", data=str(index))
            writer.write_message("/notes", 1_700_000_000_000_000_000 + index * 100_000_000, note)
    code, text = run_to_its_end("replay", f"bag:={tmp_path / 'bag'}", "remake:=none")
    assert code == 0 and "end of the bag: 5 messages played" in text and "Traceback" not in text, text


@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("sim", ["mode:=fast"], "mode"),
        ("robot", [], "profile is empty; name one of"),
        ("replay", ["bag:=/nowhere"], "bag '/nowhere' does not exist; name a bag folder"),
    ],
)
def test_a_wrong_argument_of_a_launch_file_is_named_and_nothing_is_started(name, arguments, said):
    code, text = run_to_its_end(name, *arguments)
    assert code == 1 and said in text
    assert "Traceback" not in text and "process started" not in text


def test_a_node_that_cannot_start_ends_the_launch_instead_of_being_started_for_ever(tmp_path):
    definitions = Definitions()
    with BagWriter(tmp_path / "bag", definitions) as writer:
        writer.add_topic("/notes", "std_msgs/msg/String")
        writer.write_message("/notes", 1_700_000_000_000_000_000, definitions.message("std_msgs/msg/String"))
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("failure_detector:\n  ros__parameters:\n    stall_time: -1.0\n")
    code, text = run_to_its_end("replay", f"bag:={tmp_path / 'bag'}", "remake:=failure", f"params_file:={wrong}")
    assert "failure_detector ended 5 times in a row" in text and text.count("stall_time: -1.0 is outside") == 5, text
    assert "Traceback" not in text and code in (0, 1)


def test_only_ends_soon_after_one_another_or_at_the_start_are_counted():
    now = [0.0]
    after = GivingUp("recorder", lambda: now[0])

    def ends(seconds, code=-9):
        now[0] += seconds
        return bool(after(SimpleNamespace(returncode=code), LaunchContext()))

    assert not any(ends(60.0) for _ in range(20)), "one that is killed now and then comes back each time"
    assert [ends(1.0) for _ in range(4)] == [False, False, False, True]
    assert not ends(60.0)
    # On a busy machine a node takes longer than that to find out that it cannot start.
    assert [ends(30.0, code=2) for _ in range(4)] == [False, False, False, True]


def test_a_node_that_is_locked_out_of_its_middleware_is_killed_for_launch_to_start_it_again(locked_out):
    watch = OutsideWatch(look_every_s=0.05)
    with subprocess.Popen([sys.executable, "-c", locked_out]) as stuck:
        nodes = {
            "robot_camera": SimpleNamespace(process_details={"pid": stuck.pid}),
            "controller": SimpleNamespace(process_details={"pid": os.getpid()}),
            "not_yet_started": SimpleNamespace(process_details=None),
        }
        deadline = time.monotonic() + 50.0
        while stuck.poll() is None:
            assert time.monotonic() < deadline
            kill_locked_out(nodes, watch)
            time.sleep(0.01)
    assert stuck.returncode == -signal.SIGKILL
