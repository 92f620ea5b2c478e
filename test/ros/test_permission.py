# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Nodes whose graph others can reach: they stop for anybody and change nothing for anybody, until they are told."""

from __future__ import annotations

import pytest
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.action import ActionClient
from std_srvs.srv import Trigger

from flow_rag_vla.bringup import topics
from flow_rag_vla.bringup.resources import robots_folder
from flow_rag_vla.bringup.security.audit import beyond
from flow_rag_vla.bringup.security.grants import grants
from flow_rag_vla.nodes.endpoints_seen import endpoints_of
from flow_rag_vla.robot.profile import find_profile, load_profile
from flow_rag_vla_interfaces import srv
from flow_rag_vla_interfaces.action import ExecuteTask


@pytest.fixture
def reachable(monkeypatch, ros_node):
    """Nodes started from here on cannot tell how far discovery reaches; Fast DDS itself takes no notice of this."""
    monkeypatch.setenv("CYCLONEDDS_URI", "file:///network.xml")
    monkeypatch.delenv("ROS_SECURITY_ENABLE", raising=False)


def limit(call, value: float):
    parameter = Parameter(
        name="max_translation", value=ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=value)
    )
    return call(SetParameters, "controller/set_parameters", parameters=[parameter]).results[0]


def test_a_graph_that_others_reach_stops_for_anybody_and_changes_only_where_it_was_opened(
    reachable, start_node, call, ros_node, spin_until, tmp_path
):
    start_node("controller", niceness=0, emergency_stop_file="off")
    start_node("episode_manager", results_dir=str(tmp_path), open_to_network=True, reset="none")
    assert call(Trigger, topics.EMERGENCY_STOP_SERVICE).success
    released = call(Trigger, topics.EMERGENCY_STOP_RESET_SERVICE)
    assert not released.success
    assert "CYCLONEDDS_URI" in released.message and "open_to_network" in released.message
    changed = limit(call, 0.01)
    assert not changed.successful and "open_to_network" in changed.reason

    start_node("failure_memory", database=str(tmp_path / "memory.db"), key="embedding")
    assert call(srv.GetMemoryStatistics, topics.MEMORY_STATISTICS_SERVICE).statistics.cases == 0
    retired = call(srv.RetireFailureCase, topics.RETIRE_CASE, case_id=1, retired=True)
    assert not retired.ok and "open_to_network" in retired.message
    deactivate = Transition(id=Transition.TRANSITION_DEACTIVATE)
    assert not call(ChangeState, "failure_memory/change_state", transition=deactivate).success
    assert call(GetState, "failure_memory/get_state").current_state.label == "active"

    client = ActionClient(ros_node, ExecuteTask, topics.EXECUTE_TASK)
    spin_until(client.server_is_ready, what="the action")
    sent = client.send_goal_async(ExecuteTask.Goal(task="pick_and_place", timeout=60.0))
    spin_until(sent.done, what="the answer to the goal")
    # It was opened by its parameter; what the goal then lacks is another matter.
    assert sent.result().accepted
    client.destroy()


def test_a_graph_on_this_host_is_changed_by_its_callers_and_does_what_its_grants_name(
    start_node, call, ros_node, spin_until
):
    started = {name: start_node(name) for name in ("mock_robot", "robot", "robot_camera")}
    started["controller"] = start_node("controller", niceness=0, emergency_stop_file="off")
    assert call(Trigger, topics.EMERGENCY_STOP_SERVICE).success
    assert call(Trigger, topics.EMERGENCY_STOP_RESET_SERVICE).success
    assert limit(call, 0.01).successful
    for name in ("mock_robot", "robot", "robot_camera"):
        call(SetParameters, f"{name}/set_parameters", parameters=[])
    observed = endpoints_of(ros_node, started)
    assert observed.keys() == started.keys() and all(made.publishes for made in observed.values())
    assert not beyond(grants(load_profile(find_profile("mock", robots_folder()))), observed)
