# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A bag in place of the robot: ``ros2 launch flow_rag_vla replay.launch.py bag:=runs/...``, ``--show-args`` lists all.

The nodes, their parameters and the arguments come from ``flow_rag_vla.bringup.replay_graph``, which the console
command ``flow_rag_vla replay --graph`` reads too.
"""

from flow_rag_vla.bringup.replay_graph import REPLAY_ARGUMENTS, replay_graph
from flow_rag_vla.nodes.launching import launch_description
from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    """Described arguments, then the graph."""
    return launch_description(REPLAY_ARGUMENTS, replay_graph)
