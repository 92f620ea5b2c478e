# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Managed nodes: the standard's states and services, over a real node and over small ones in this process."""

from __future__ import annotations

import os

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from lifecycle_msgs.msg import State, Transition, TransitionEvent
from lifecycle_msgs.srv import ChangeState, GetAvailableStates, GetAvailableTransitions, GetState
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.lifecycle import TransitionCallbackReturn
from sensor_msgs.msg import Image

from flow_rag_vla.bringup import topics
from flow_rag_vla.nodes import qos
from flow_rag_vla.nodes.conversions import image_message
from flow_rag_vla.nodes.diagnostics import STATE_FIGURE
from flow_rag_vla.nodes.lifecycle import ManagedNode
from flow_rag_vla.nodes.operator import Operator, OperatorError
from flow_rag_vla.nodes.runtime import StartError
from flow_rag_vla.nodes.stamps import to_ns
from flow_rag_vla_interfaces.msg import Embedding


@pytest.fixture
def manage(call):
    """``manage("camera_encoder", Transition.TRANSITION_CONFIGURE)``: whether it was done, and the state after it."""

    def change(node: str, transition: int) -> tuple[bool, str]:
        done = call(ChangeState, f"{node}/change_state", transition=Transition(id=transition)).success
        return done, call(GetState, f"{node}/get_state").current_state.label

    return change


def scheduled(node) -> int:
    """How the node's main thread is: 0 as everybody, 1 SCHED_FIFO."""
    return os.sched_getscheduler(node.popen.pid) & ~os.SCHED_RESET_ON_FORK if hasattr(os, "SCHED_FIFO") else 0


def test_an_encoder_goes_through_every_state_and_is_silent_unless_active(
    start_node, ros_node, spin_until, call, manage
):
    node = start_node("camera_encoder", autostart=False)
    heard, events, health = [], [], []
    ros_node.create_subscription(Embedding, topics.EMBEDDING, heard.append, qos.SENSOR)
    event = ros_node.create_subscription(TransitionEvent, "camera_encoder/transition_event", events.append, 10)
    ros_node.create_subscription(DiagnosticArray, topics.DIAGNOSTICS, lambda m: health.extend(m.status), 10)
    cameras = {
        name: ros_node.create_publisher(Image, topic, qos.SENSOR)
        for name, topic in (("front", topics.FRONT_IMAGE), ("wrist", topics.WRIST_IMAGE))
    }
    picture = np.random.default_rng(0).integers(0, 255, (96, 96, 3), dtype=np.uint8)

    def listeners():
        return [camera.get_subscription_count() for camera in cameras.values()]

    def show():
        stamp = to_ns(ros_node.get_clock().now().to_msg())
        for name, camera in cameras.items():
            camera.publish(image_message(picture, stamp, name))
        return heard

    def set_encoder(name: str) -> str:
        value = ParameterValue(type=ParameterType.PARAMETER_STRING, string_value=name)
        (result,) = call(
            SetParameters, "camera_encoder/set_parameters", parameters=[Parameter(name="encoder", value=value)]
        ).results
        return "" if result.successful else result.reason

    assert call(GetState, "camera_encoder/get_state").current_state.id == State.PRIMARY_STATE_UNCONFIGURED
    states = {state.label for state in call(GetAvailableStates, "camera_encoder/get_available_states").available_states}
    assert {"unconfigured", "inactive", "active", "finalized", "errorprocessing"} <= states
    offered = call(GetAvailableTransitions, "camera_encoder/get_available_transitions").available_transitions
    assert {item.transition.label for item in offered} == {"configure", "shutdown"}
    spin_until(lambda: event.get_publisher_count() == 1, what="the transition events")
    assert manage("camera_encoder", Transition.TRANSITION_ACTIVATE) == (False, "unconfigured")

    # What cannot be loaded leaves it as it was, and says so.
    assert set_encoder("/no/such/folder") == ""
    assert manage("camera_encoder", Transition.TRANSITION_CONFIGURE) == (False, "unconfigured")
    spin_until(lambda: any("/no/such/folder" in item.message for item in health), what="the reason")
    assert set_encoder("compact") == ""
    assert manage("camera_encoder", Transition.TRANSITION_CONFIGURE) == (True, "inactive")
    assert "deactivate" in set_encoder("dinov2"), "a loaded encoder cannot be exchanged under way"
    assert listeners() == [0, 0]

    for _ in range(2):
        assert manage("camera_encoder", Transition.TRANSITION_ACTIVATE) == (True, "active")
        # Where the system permits it; a model that loads would compute too long for it.
        assert scheduled(node) == (1 if node.said("active, SCHED_FIFO 5\n") else 0)
        spin_until(lambda: listeners() == [1, 1], what="the encoder's subscriptions")
        heard.clear()
        spin_until(show, what="an embedding")
        assert manage("camera_encoder", Transition.TRANSITION_DEACTIVATE) == (True, "inactive")
        spin_until(lambda: listeners() == [0, 0], what="the end of the subscriptions")
        assert scheduled(node) == 0
    heard.clear()
    assert manage("camera_encoder", Transition.TRANSITION_CLEANUP) == (True, "unconfigured")
    spin_until(lambda: health and health[-1].message == "unconfigured", what="the diagnostics")
    assert not heard
    goals = [item.goal_state.label for item in events]
    assert goals[:4] == ["configuring", "unconfigured", "configuring", "inactive"]
    assert manage("camera_encoder", Transition.TRANSITION_UNCONFIGURED_SHUTDOWN) == (True, "finalized")
    assert node.stop() == 0 and "Traceback" not in node.text


@pytest.mark.parametrize(
    ("name", "parameters", "said"),
    [
        ("camera_encoder", {"model_memory": 0.01}, "parameter model_memory"),
        ("flow_policy", {"checkpoint": "/no/such/folder"}, "/no/such/folder"),
    ],
)
def test_a_model_that_cannot_be_loaded_leaves_the_node_unconfigured_with_the_reason(
    start_node, spin_until, call, name, parameters, said
):
    node = start_node(name, **parameters)
    spin_until(lambda: node.said(said), what="the reason")
    assert call(GetState, f"{name}/get_state").current_state.label == "unconfigured"
    assert node.stop() == 0 and "Traceback" not in node.text


class Small(ManagedNode):
    """Fails where it is told to, and keeps a timer while it is active."""

    def __init__(self, name="small"):
        super().__init__(name)
        self.declare_parameter("autostart", True)
        self.fails: dict[str, Exception] = {}
        self.steps: list[str] = []

    def _step(self, name):
        self.steps.append(name)
        if name in self.fails:
            # One of its own: the parameters of a test outlive it, and a traceback would keep this node.
            told = self.fails[name]
            raise type(told)(*told.args)

    def load(self):
        self.create_guard_condition(lambda: None)
        self._step("load")

    def free(self):
        self._step("free")

    def begin(self):
        self.create_timer(10.0, lambda: None)
        self._step("begin")

    def rest(self):
        self._step("rest")

    def health(self):
        return b"\x00", "fine", {}

    def entities(self):
        return len(list(self.timers)), len(list(self.guards))


def test_a_node_that_leaves_out_a_part_of_its_life_cannot_be_made():
    class Half(ManagedNode):
        def load(self):
            """All that it does."""

    with pytest.raises(TypeError, match=r"abstract methods? '?begin'?, '?free'?, '?health'?, '?rest"):
        Half("half")


@pytest.fixture
def small(ros_context):
    node = Small()
    yield node
    node.destroy_node()


def test_a_node_brings_itself_up_and_gives_everything_back_when_it_ends(ros_context):
    node = Small("other")
    before = node.entities()
    node.bring_up()
    assert node.lifecycle_state == "active"
    assert node.entities() == (before[0] + 1, before[1] + 1)
    node.destroy_node()
    assert node.steps == ["load", "begin", "rest", "free"]


@pytest.mark.parametrize(
    ("fails", "state", "steps", "more"),
    [
        ({"load": StartError("no file")}, "unconfigured", ["load", "free"], (0, 0)),
        ({"load": KeyError("defect")}, "unconfigured", ["load", "free"], (0, 0)),
        ({"begin": StartError("no topic")}, "inactive", ["load", "begin", "rest"], (0, 1)),
        ({"begin": KeyError("defect")}, "unconfigured", ["load", "begin", "rest", "free"], (0, 0)),
        ({"begin": KeyError("defect"), "free": OSError("stuck")}, "unconfigured",
         ["load", "begin", "rest", "free"], (0, 0)),
    ],
)  # fmt: skip
def test_what_fails_at_the_start_is_undone_and_can_be_tried_again(small, fails, state, steps, more):
    before = small.entities()
    small.fails = fails
    small.bring_up()
    assert (small.lifecycle_state, small.steps) == (state, steps)
    assert small.entities() == (before[0] + more[0], before[1] + more[1])
    level, sentence, _ = small._report_health()
    assert level == b"\x02" and str(next(iter(fails.values()))) in sentence
    small.fails = {}
    if state == "unconfigured":
        assert small.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert small.trigger_activate() == TransitionCallbackReturn.SUCCESS
    assert small._report_health()[:2] == (b"\x00", "fine")


def test_a_node_that_cannot_free_now_stays_inactive_and_one_that_breaks_is_unconfigured(small):
    small.bring_up()
    assert small.trigger_deactivate() == TransitionCallbackReturn.SUCCESS
    small.fails = {"free": StartError("a job is under way")}
    assert small.trigger_cleanup() == TransitionCallbackReturn.FAILURE
    assert small.lifecycle_state == "inactive"
    small.fails = {"free": RuntimeError("broken")}
    assert small.trigger_cleanup() == TransitionCallbackReturn.ERROR
    assert small.lifecycle_state == "unconfigured"
    small.fails = {}
    small.bring_up()
    assert small.lifecycle_state == "active"


def test_the_start_of_a_graph_ends_with_the_reason_of_a_node_that_cannot_be_brought_up(ros_node):
    health = ros_node.create_publisher(DiagnosticArray, topics.DIAGNOSTICS, 10)
    broken = DiagnosticStatus(level=b"\x02", name="flow_policy", message="unconfigured: no checkpoint")
    broken.values = [KeyValue(key=STATE_FIGURE, value="unconfigured")]
    waiting = DiagnosticStatus(level=b"\x01", name="camera_encoder", message="inactive")
    waiting.values = [KeyValue(key=STATE_FIGURE, value="inactive")]
    with Operator() as operator:
        with pytest.raises(OperatorError, match=r"not up after 0\.5 s: camera_encoder;"):
            operator.wait_until_up(["camera_encoder"], 0.5, lambda: health.publish(DiagnosticArray(status=[waiting])))
        with pytest.raises(OperatorError, match=r"^flow_policy cannot start: no checkpoint$"):
            operator.wait_until_up(
                ["camera_encoder", "flow_policy"], 60.0, lambda: health.publish(DiagnosticArray(status=[broken]))
            )
