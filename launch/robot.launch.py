# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A real arm: ``ros2 launch flow_rag_vla robot.launch.py profile:=franka``, ``--show-args`` lists all arguments.

The nodes, their parameters and the arguments come from ``flow_rag_vla.bringup.robot_graph``, which the console
command ``flow_rag_vla robot`` reads too.
"""

from flow_rag_vla.bringup.robot_graph import ROBOT_ARGUMENTS, robot_graph
from flow_rag_vla.nodes.launching import launch_description
from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    """Described arguments, then the graph."""
    return launch_description(ROBOT_ARGUMENTS, robot_graph)
