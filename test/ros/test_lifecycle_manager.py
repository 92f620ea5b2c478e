# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The manager over real nodes: it brings them up, says when they work, and is not needed by them."""

from __future__ import annotations

import signal
import time

import pytest
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState, GetState
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from flow_rag_vla.bringup import topics
from flow_rag_vla.nodes import qos


@pytest.fixture
def ask(ros_node, spin_until):
    """``ask(GetState, "name/get_state")``: as ``call``, again after a while; the first may go to a node that died."""

    def call_again(kind, name, **fields):
        client = ros_node.create_client(kind, name)
        spin_until(client.service_is_ready, what=f"service {name}")
        asked = [(client.call_async(kind.Request(**fields)), time.monotonic())]

        def answered():
            if time.monotonic() - asked[-1][1] > 3.0:
                asked.append((client.call_async(kind.Request(**fields)), time.monotonic()))
            return [future for future, _ in asked if future.done()]

        spin_until(answered, what=f"answer of {name}")
        found = answered()[0].result()
        ros_node.destroy_client(client)
        return found

    return call_again


@pytest.fixture
def ready(ros_node):
    """What the manager said, by turns."""
    heard: list[bool] = []
    ros_node.create_subscription(Bool, topics.READY, lambda message: heard.append(message.data), qos.STATE)
    return heard


def test_a_graph_without_autostart_is_brought_up_kept_up_and_rests_at_one_call(
    start_node, spin_until, ask, ready, tmp_path
):
    def state(name: str) -> str:
        return ask(GetState, f"{name}/get_state").current_state.label

    parameters = {"failure_memory": {"database": str(tmp_path / "memory.db")}, "failure_detector": {}}
    nodes = {name: start_node(name, autostart=False, **values) for name, values in parameters.items()}
    manager = start_node("lifecycle_manager", nodes=list(parameters))
    spin_until(lambda: ready and ready[-1], what="readiness")
    assert state("failure_memory") == state("failure_detector") == "active"
    answer = ask(Trigger, topics.IS_ACTIVE)
    assert answer.success and answer.message == "failure_memory: active; failure_detector: active"

    # One that died and was started again is brought up anew.
    ready.clear()
    nodes["failure_detector"].stop(signal.SIGKILL)
    start_node("failure_detector", autostart=False)
    spin_until(lambda: False in ready, what="the loss")
    spin_until(lambda: ready[-1], what="readiness again")

    # What a person took out stays out.
    deactivate = Transition(id=Transition.TRANSITION_DEACTIVATE)
    assert ask(ChangeState, "failure_detector/change_state", transition=deactivate).success
    spin_until(lambda: "left to a person" in ask(Trigger, topics.IS_ACTIVE).message, what="the person's word")
    assert ask(Trigger, topics.START_UP).success
    spin_until(lambda: ask(Trigger, topics.IS_ACTIVE).success, what="readiness by a call")

    assert ask(Trigger, topics.PAUSE).success
    spin_until(lambda: state("failure_memory") == state("failure_detector") == "inactive", what="rest")
    spin_until(lambda: not ready[-1], what="the loss of readiness")
    assert ask(Trigger, topics.RESET_NODES).success
    spin_until(lambda: state("failure_memory") == state("failure_detector") == "unconfigured", what="freed nodes")
    assert manager.stop() == 0 and "Traceback" not in manager.text


def test_nodes_work_without_the_manager_and_one_that_comes_later_finds_them_ready(start_node, spin_until, ask, ready):
    start_node("failure_detector")
    spin_until(lambda: ask(GetState, "failure_detector/get_state").current_state.label == "active", what="the detector")
    manager = start_node("lifecycle_manager", nodes=["failure_detector"])
    spin_until(lambda: ready and ready[-1], what="readiness")
    assert manager.stop(signal.SIGKILL) == -signal.SIGKILL
    assert ask(GetState, "failure_detector/get_state").current_state.label == "active"
    assert "failure_detector: configure" not in manager.text, "there was nothing to do"
