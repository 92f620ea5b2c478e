# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The launch file under launch_pytest, as a ROS workspace tests its graphs. Where that is not installed, or pytest is
too new for it (9), test_launch.py has launch alone, and test_graph.py the same processes from the same declaration."""

from __future__ import annotations

import pytest

launch_pytest = pytest.importorskip("launch_pytest", reason="launch is not on PyPI; apt ROS has it")
pytest.importorskip("launch_ros", reason="launch_ros is not on PyPI; apt ROS has it")

from launch.actions import IncludeLaunchDescription  # noqa: E402
from launch.launch_description_sources import PythonLaunchDescriptionSource  # noqa: E402
from launch_pytest.actions import ReadyToTest  # noqa: E402

from flow_rag_vla.bringup import topics  # noqa: E402
from flow_rag_vla.bringup.graph import NODES  # noqa: E402
from flow_rag_vla.bringup.resources import share_folder  # noqa: E402
from flow_rag_vla.nodes import qos  # noqa: E402
from flow_rag_vla_interfaces.msg import ControlCommand  # noqa: E402
from launch import LaunchDescription  # noqa: E402


@launch_pytest.fixture
def graph(tmp_path):
    source = PythonLaunchDescriptionSource(str(share_folder() / "launch" / "sim.launch.py"))
    arguments = {"namespace": "left", "run_folder": str(tmp_path / "run")}
    return LaunchDescription([IncludeLaunchDescription(source, launch_arguments=arguments.items()), ReadyToTest()])


@pytest.mark.launch(fixture=graph)
def test_the_launch_file_brings_up_every_node_in_its_namespace_and_the_loop_runs(ros_node, spin_until):
    commands = []
    ros_node.create_subscription(ControlCommand, f"left/{topics.COMMAND}", commands.append, qos.command_profile(0.025))
    wanted = {(spec.name, "/left") for spec in NODES}
    spin_until(lambda: wanted <= set(ros_node.get_node_names_and_namespaces()), 90, "every node")
    spin_until(lambda: len(commands) > 40, 60, "a second of commands")
    ticks = [command.tick for command in commands]
    assert ticks == sorted(set(ticks))
