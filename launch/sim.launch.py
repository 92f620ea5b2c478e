# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The whole graph in simulation: ``ros2 launch flow_rag_vla sim.launch.py --show-args``.

The nodes, their parameters and the arguments come from ``flow_rag_vla.bringup.graph``, which the console command
``flow_rag_vla sim`` reads too.
"""

from flow_rag_vla.bringup.graph import ARGUMENTS, sim_graph
from flow_rag_vla.nodes.launching import launch_description
from launch import LaunchDescription


def generate_launch_description() -> LaunchDescription:
    """Described arguments, then the graph."""
    return launch_description(ARGUMENTS, sim_graph)
