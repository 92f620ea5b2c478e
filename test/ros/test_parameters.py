# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What `ros2 param describe` tells of every parameter of every node, and what setting it beyond that answers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from rclpy.node import Node
from rclpy.parameter import Parameter

from flow_rag_vla.bringup.graph import EVERY_NODE
from flow_rag_vla.bringup.replay_graph import PLAYER
from flow_rag_vla.bringup.robot_graph import ROBOT_NODES
from flow_rag_vla.core.parameters import ParameterInfo, parameter_table
from flow_rag_vla.nodes.parameters import NodeParameters

SPECS = (*EVERY_NODE, PLAYER, *ROBOT_NODES)


@pytest.fixture(params=SPECS, ids=[spec.name for spec in SPECS])
def declared(request, ros_node) -> Iterator[tuple[Node, tuple[ParameterInfo, ...]]]:
    """A node that has the parameters of one of the graph's, and their declarations."""
    node = Node(request.param.name, context=ros_node.context)
    NodeParameters(node, request.param.parameters)
    yield node, parameter_table(request.param.parameters)
    node.destroy_node()


def test_each_parameter_is_described_with_its_range_and_with_when_it_is_read(declared):
    node, table = declared
    for info, told in zip(table, node.describe_parameters([info.name for info in table]), strict=True):
        assert info.description in told.description and info.unit in told.description, info.name
        bounds = [bound for bound in (info.minimum, info.maximum) if bound is not None]
        ranges = [*told.floating_point_range, *told.integer_range]
        if ranges:
            assert (ranges[0].from_value, ranges[0].to_value) == (info.minimum, info.maximum)
        else:
            # A range of ROS has two ends and is of a single number: what is not one is said in words.
            assert all(f"{bound:g}" in told.additional_constraints for bound in bounds), info.name
        assert all(str(choice) in told.additional_constraints for choice in info.choices)
        assert ("read" in told.additional_constraints) == (not info.live), info.name


def test_what_is_out_of_range_is_refused_with_a_reason_and_stays_as_it_was(declared):
    node, table = declared
    for info in table:
        for bound, step in ((info.maximum, 1.0), (info.minimum, -1.0)):
            if bound is None or info.is_list:
                continue
            before = node.get_parameter(info.name).value
            (result,) = node.set_parameters([Parameter(info.name, value=info.type(bound + step))])
            assert not result.successful and result.reason, info.name
            assert node.get_parameter(info.name).value == before
