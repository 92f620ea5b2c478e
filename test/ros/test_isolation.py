# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The fixtures that every ROS test stands on, and two graphs side by side."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
from rclpy.action import ActionClient
from std_msgs.msg import Bool

from flow_rag_vla.bringup import topics
from flow_rag_vla.bringup.graph import sim_graph
from flow_rag_vla.bringup.resources import default_params_file
from flow_rag_vla.bringup.supervisor import Supervisor
from flow_rag_vla.core.action import TICK_S
from flow_rag_vla.nodes import qos
from flow_rag_vla_interfaces.action import ExecuteTask
from flow_rag_vla_interfaces.msg import ControlCommand, EpisodeStatus


def test_a_message_of_our_own_crosses_the_middleware(ros_context, ros_node, spin_until):
    from flow_rag_vla_interfaces.msg import Embedding

    received = []
    ros_node.create_subscription(Embedding, "embedding", received.append, 1)
    publisher = ros_node.create_publisher(Embedding, "embedding", 1)
    spin_until(lambda: publisher.get_subscription_count() == 1, what="discovery")
    message = Embedding()
    message.header.frame_id = "camera_front"
    publisher.publish(message)
    spin_until(lambda: received, what="the message")
    assert received[0].header.frame_id == "camera_front"


def test_a_condition_that_never_holds_fails_with_its_name(spin_until):
    with pytest.raises(pytest.fail.Exception, match="an event that nobody sends"):
        spin_until(lambda: False, timeout=0.01, what="an event that nobody sends")


def test_a_child_process_lives_in_the_same_graph_and_finds_the_messages(ros_domain_id):
    code = (
        "import os, rclpy\n"
        "from flow_rag_vla_interfaces.msg import ControlCommand\n"
        "rclpy.init()\n"
        "node = rclpy.create_node('child')\n"
        "node.create_publisher(ControlCommand, 'command', 1)\n"
        "print(node.context.get_domain_id(), os.environ['ROS_AUTOMATIC_DISCOVERY_RANGE'])\n"
        "rclpy.shutdown()\n"
    )
    child = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert child.returncode == 0, child.stderr
    assert child.stdout.split() == [str(ros_domain_id), "LOCALHOST"]


def test_the_domain_is_one_that_a_person_does_not_use_by_default(ros_domain_id):
    assert 1 <= ros_domain_id <= 101
    assert os.environ["ROS_DOMAIN_ID"] == str(ros_domain_id)


GOALS = {"left": "put the red cube in the bin", "right": "stack the red cube on the blue box"}
NODES = ("simulator", "controller", "episode_manager")
SHARED = {"/clock", "/diagnostics", "/parameter_events", "/rosout"}
"""Topics that ROS has outside of every namespace."""


class Side:
    """One of two graphs, as the test hears it."""

    def __init__(self, name, node, folder):
        processes = sim_graph({"namespace": name, "run_folder": str(folder)}, default_params_file())
        self.name, self.folder, self._node = name, folder, node
        chosen = [process for process in processes if process.spec.name in NODES]
        self.supervisor = Supervisor(chosen, folder / "log")
        self.commands: list[ControlCommand] = []
        self.statuses: list[EpisodeStatus] = []
        profile = qos.command_profile(TICK_S)
        node.create_subscription(ControlCommand, f"/{name}/{topics.COMMAND}", self.commands.append, profile)
        node.create_subscription(EpisodeStatus, f"/{name}/{topics.EPISODE_STATUS}", self.statuses.append, qos.STATE)
        self.stop = node.create_publisher(Bool, f"/{name}/{topics.EMERGENCY_STOP}", qos.STATE)
        self.client = ActionClient(node, ExecuteTask, f"/{name}/{topics.EXECUTE_TASK}")

    def ask(self, **fields):
        sent = self.client.send_goal_async(ExecuteTask.Goal(instruction=GOALS[self.name], **fields))
        result = []
        sent.add_done_callback(
            lambda done: done.result().get_result_async().add_done_callback(lambda end: result.append(end.result()))
        )
        return result

    def used(self):
        """Names of topics and services that this side's nodes use."""
        names = set()
        for node in NODES:
            where = node, f"/{self.name}"
            found = self._node.get_publisher_names_and_types_by_node(*where)
            found += self._node.get_subscriber_names_and_types_by_node(*where)
            found += self._node.get_service_names_and_types_by_node(*where)
            found += self._node.get_client_names_and_types_by_node(*where)
            names |= {name for name, _ in found}
        return names


@pytest.fixture
def sides(ros_node, tmp_path):
    made = [Side(name, ros_node, tmp_path / name) for name in GOALS]
    try:
        for side in made:
            side.supervisor.start()
        yield made
    finally:
        for side in made:
            side.supervisor.stop()
            side.client.destroy()


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_two_graphs_of_one_domain_do_an_episode_each_and_hear_nothing_of_each_other(sides, spin_until):
    left, right = sides
    spin_until(lambda: all(side.client.server_is_ready() for side in sides), 90, "both actions")
    spin_until(lambda: all(side.commands for side in sides), 60, "both loops")
    # The manager's, and the controller's two: for publishers that latch and for those that do not.
    spin_until(lambda: all(side.stop.get_subscription_count() == 3 for side in sides), 60, "who hears a stop")
    results = {side.name: side.ask(seed=seed, timeout=1.0) for seed, side in enumerate(sides, 1)}
    spin_until(lambda: all(results.values()), 90, "both results")

    for side in sides:
        answer = results[side.name][0].result
        # Nobody plans here: what counts is whose episode it was, and that it ran and was scored.
        assert answer.outcome == ExecuteTask.Result.OUTCOME_FAILURE and "not done within 1 s" in answer.reason
        record = json.loads((side.folder / "episodes" / "000001.json").read_text(encoding="utf-8"))
        assert (record["instruction"], record["seed"]) == (GOALS[side.name], 1 + sides.index(side))
        assert {status.instruction for status in side.statuses} <= {"", GOALS[side.name]}
        assert {status.episodes_finished for status in side.statuses} <= {0, 1}
        ticks = [command.tick for command in side.commands]
        assert ticks == sorted(set(ticks)), "commands of one loop"
        own = {name for name in side.used() if name.startswith(f"/{side.name}/")}
        assert f"/{side.name}/{topics.COMMAND}" in own and side.used() <= own | SHARED

    left.stop.publish(Bool(data=True))
    spin_until(lambda: left.commands[-1].mode == ControlCommand.MODE_EMERGENCY_STOP, 60, "the left stop")
    heard = len(right.commands)
    spin_until(lambda: len(right.commands) > heard + 40, 60, "a second of commands on the right")
    assert ControlCommand.MODE_EMERGENCY_STOP not in {command.mode for command in right.commands}
    assert all(side.supervisor.pid(node) is not None for side in sides for node in NODES)
