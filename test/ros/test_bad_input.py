# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Nodes as processes under input that makes no sense: they live, answer afterwards, and pass nothing of it on.

What is sent is drawn from the fields of each message's type, so that a new field or topic is covered without a change.
"""

from __future__ import annotations

import array
import importlib
import math
import re

import numpy as np
import pytest
import rclpy
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters, SetParametersAtomically
from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rclpy.serialization import serialize_message
from std_msgs.msg import Float64MultiArray, String
from std_srvs.srv import SetBool, Trigger

from flow_rag_vla.data.message_values import MessageError
from flow_rag_vla.nodes import qos
from flow_rag_vla.nodes.executor import NodeExecutor
from flow_rag_vla.nodes.wire import robot_state_from_wire
from flow_rag_vla_interfaces import msg

# Every message.

LIMITS = {
    **{f"int{bits}": (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1) for bits in (8, 16, 32, 64)},
    **{f"uint{bits}": (0, 2**bits - 1) for bits in (8, 16, 32, 64)},
}
CODES = {"float": "f", "double": "d", "int8": "b", "uint8": "B", "int16": "h", "uint16": "H", "int32": "i"}
CODES |= {"uint32": "I", "int64": "q", "uint64": "Q"}
FLOATS = (math.nan, math.inf, -math.inf, 0.0, -1.0, 1.0, 0.5, 1e-45, 3e38, -3e38)
DOUBLES = (*FLOATS, 1e308, -1e308)
STRINGS = (
    "",
    "\0",
    "a\0b",
    "put the red cube in the bin",
    "/",
    "../..",
    "%s{0}",
    "9" * 400,
    "\U0001f600",
    "rgb8",
    "nan",
)
STAMPS = ((0, 0), (-(2**31), 0), (2**31 - 1, 2**32 - 1), (-1, 999_999_999), (2_000_000_000, 0))
LENGTHS = (0, 0, 1, 2, 3, 7, 8, 16, 7 * 16 - 1, 7 * 16, 1000)
LARGE, LONG = 2_500_000, 1_000_000
"""Numbers of a large array (10 MB of float32), characters of a long string."""


class Drawn:
    """Draws values that make no sense for the fields of any message type."""

    def __init__(self, seed: int) -> None:
        self._random = np.random.default_rng(seed)

    def one(self, values):
        return values[self._random.integers(len(values))]

    def message(self, kind, depth=0):
        """A message with every field drawn."""
        drawn = kind()
        if kind.__module__.startswith("builtin_interfaces") and kind.__name__ == "Time":
            drawn.sec, drawn.nanosec = self.one(STAMPS)
            return drawn
        for name, what in kind.get_fields_and_field_types().items():
            setattr(drawn, name, self.value(what, depth))
        return drawn

    def spoilt(self, message, depth=0):
        """The same message with one of its fields, or one of a field's fields, drawn anew."""
        fields = list(message.get_fields_and_field_types().items())
        if not fields or type(message).__name__ == "Time":
            return self.message(type(message), depth)
        name, what = self.one(fields)
        inner = getattr(message, name)
        if hasattr(inner, "get_fields_and_field_types"):
            setattr(message, name, self.spoilt(inner, depth + 1))
        elif len(getattr(inner, "typecode", "")) and len(inner) and self._random.random() < 0.5:
            inner[int(self._random.integers(len(inner)))] = self.value(
                {code: kind for kind, code in CODES.items()}[inner.typecode], depth
            )
        else:
            setattr(message, name, self.value(what, depth))
        return message

    def value(self, what, depth):
        sequence = re.fullmatch(r"sequence<(.+?)(?:, (\d+))?>", what)
        if sequence:
            longest = int(sequence[2]) if sequence[2] else LARGE
            length = LARGE if self._random.random() < 0.01 else self.one(LENGTHS)
            return self.many(sequence[1], min(length, longest), depth)
        fixed = re.fullmatch(r"(.+)\[(\d+)\]", what)
        if fixed:
            values = self.many(fixed[1], int(fixed[2]), depth, exactly=True)
            return np.array(values, dtype=values.typecode) if isinstance(values, array.array) else values
        if what in ("float", "double"):
            return float(self.one(FLOATS if what == "float" else DOUBLES))
        if what == "boolean":
            return bool(self.one((True, False)))
        if what == "octet":
            return bytes([self.one((0, 1, 255))])
        if what in LIMITS:
            return int(self.one((*LIMITS[what], 0, 1, 3, 77)))
        if what.startswith(("string", "wstring")):
            return "M" * LONG if self._random.random() < 0.01 else self.one(STRINGS)
        package, name = what.split("/")
        return self.message(kind_of(f"{package}/msg/{name}"), depth + 1)

    def many(self, what, length, depth, *, exactly=False):
        if what in CODES:
            values = array.array(CODES[what], bytes(length * array.array(CODES[what]).itemsize))
            for place in range(min(length, 20)):
                values[place] = self.value(what, depth)
            return values
        # What holds messages or strings is made one by one: few, and fewer the deeper.
        return [self.value(what, depth + 1) for _ in range(length if exactly else min(length, max(0, 8 - 3 * depth)))]


def kind_of(name):
    package, folder, kind = name.split("/")
    return getattr(importlib.import_module(f"{package}.{folder}"), kind)


OWN = sorted(name for name in msg.__dict__ if hasattr(getattr(msg, name), "get_fields_and_field_types"))


@pytest.mark.parametrize("name", OWN)
def test_every_message_of_ours_can_be_drawn_and_crosses_the_wire(name):
    drawn = Drawn(1)
    for _ in range(20):
        assert serialize_message(drawn.message(getattr(msg, name)))
        assert serialize_message(drawn.spoilt(getattr(msg, name)()))


# Every node.

NODES = {
    "controller": {},
    "failure_detector": {},
    "failure_memory": {"key": "embedding", "corrector": "dispatch"},
    "episode_manager": {"reset": "none"},
    "robot": {},
    "robot_camera": {},
    "mock_robot": {},
}
"""Parameters of the nodes that start without a network's weights; these all go through the same executor."""

FILES = {"failure_memory": {"database": "memory.db"}, "episode_manager": {"results_dir": "episodes"}}
ROUNDS = 10
# Transitions end what is to be looked at, and a file that is exported may be of any name.
SPARED = ("change_state", "export")
# Reliable, latched and with the tightest deadline: fits whatever a node asks for.
FITS = QoSProfile(
    depth=100,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
    deadline=Duration(nanoseconds=90_000_000),
)


def all_finite(message):
    """Whether every number in a message is."""
    for name in message.get_fields_and_field_types():
        value = getattr(message, name)
        values = value if isinstance(value, (list, tuple)) else [value]
        for item in values:
            if hasattr(item, "get_fields_and_field_types"):
                if not all_finite(item):
                    return False
            elif isinstance(item, (float, array.array, np.ndarray)) and not np.isfinite(item).all():
                return False
    return True


def broken_forms(data, random):
    """The bytes of a message as a sender of another version, or of another kind, would send them."""
    yield from (data[:5], data[: len(data) // 2], b"\x00\x00" + data[2:], data[:4] + b"\xff" * (len(data) - 4))
    for _ in range(4):
        spoilt = bytearray(data)
        spoilt[int(random.integers(4, len(spoilt)))] = int(random.integers(256))
        yield bytes(spoilt)


@pytest.mark.slow
@pytest.mark.parametrize("name", NODES)
def test_a_node_outlives_whatever_is_sent_to_it(
    name, start_node, ros_node, spin_until, known_by, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    files = {key: str(tmp_path / value) for key, value in FILES.get(name, {}).items()}
    node = start_node(name, **NODES[name], **files)
    known_by(name)
    # That a node answers does not say that its name and what belongs to it have arrived, too.
    spin_until(lambda: name in ros_node.get_node_names(), what=f"the name of {name}")
    drawn, random = Drawn(7), np.random.default_rng(7)

    def entities(ask):
        found = [(topic, kinds[0]) for topic, kinds in ask(name, "/") if "/_action/" not in topic]
        return [item for item in found if item[0] not in ("/rosout", "/parameter_events", "/clock")]

    moving = [item for item in entities(ros_node.get_publisher_names_and_types_by_node) if item[1].endswith(MOVING)]
    heard = []

    def hear(message, info):
        heard.append((bytes(info["publisher_gid"]["data"]), message))

    for topic, kind in moving:
        ros_node.create_subscription(kind_of(kind), topic, hear, qos.LAST_SECOND)
    publishers = [
        (kind_of(kind), ros_node.create_publisher(kind_of(kind), topic, FITS))
        for topic, kind in entities(ros_node.get_subscriber_names_and_types_by_node)
    ]
    spin_until(lambda: all(item.get_subscription_count() for _, item in publishers), what="the subscriptions")
    known_by(name)
    for round_ in range(ROUNDS):
        for kind, publisher in publishers:
            publisher.publish(drawn.message(kind) if round_ % 3 == 0 else drawn.spoilt(plausible(kind, ros_node)))
            if round_ % 5 == 0:
                for form in broken_forms(bytes(serialize_message(plausible(kind, ros_node))), random):
                    publisher.publish(form)
        # So that queues which hold the newest only are read in between.
        known_by(name)
    for service, kind in entities(ros_node.get_service_names_and_types_by_node):
        if service.endswith(SPARED):
            continue
        client = ros_node.create_client(kind_of(kind), service)
        spin_until(client.service_is_ready, what=service)
        for number in range(4):
            request = client.srv_type.Request
            future = client.call_async(drawn.message(request) if number % 2 else drawn.spoilt(request()))
            spin_until(future.done, what=f"an answer of {service}")
            assert future.result() is not None
        ros_node.destroy_client(client)
    known_by(name)
    assert node.alive
    # A bridge listens on the topic on which it commands its arm, so what is sent to it is heard there, too.
    ours = {
        bytes(item.endpoint_gid)
        for topic, _ in moving
        for item in ros_node.get_publishers_info_by_topic(topic)
        if item.node_name == ros_node.get_name()
    }
    assert all(all_finite(message) for sender, message in heard if sender not in ours)
    assert "Traceback" not in node.text
    assert "internal error" not in node.text
    assert node.stop() == 0


MOVING = ("ControlCommand", "JointTrajectory", "Float64MultiArray", "PoseStamped", "TwistStamped")
"""Types of what moves an arm."""

PANDA = [f"panda_joint{number}" for number in range(1, 8)]


def plausible(kind, node):
    """A message that could be meant, as far as its type says: now, of the right sizes, of unit length."""
    message = kind()
    if hasattr(message, "header"):
        message.header.stamp = node.get_clock().now().to_msg()
    name = kind.__name__
    if name == "RobotState":
        message.end_effector.position.x, message.end_effector.position.z = 0.5, 0.3
        message.joint_names, message.joint_positions = PANDA, [0.0] * 7
    elif name == "ActionChunk":
        message.horizon, message.action_dim, message.tick_period, message.actions = 16, 7, 0.025, [0.001] * 112
    elif name == "EpisodeStatus":
        message.episode_id, message.state, message.timeout = 1, message.STATE_RUNNING, 30.0
        message.task = message.instruction = "put the red cube in the bin"
    elif name == "Embedding":
        message.encoder, message.values = "compact", [1.0, *[0.0] * 31]
    elif name == "ControlCommand":
        message.mode, message.target.position.x, message.gripper_width = message.MODE_FOLLOW, 0.5, 0.05
    elif name == "JointState":
        message.name, message.position = [*PANDA, "panda_finger_joint1"], [0.0, -0.4, 0.0, -2.0, 0.0, 1.6, 0.8, 0.04]
    elif name == "Image":
        message.height, message.width, message.encoding, message.step, message.data = 4, 4, "rgb8", 12, bytes(48)
    elif name == "Takeover":
        message.person, message.active = "ada", True
    elif name == "Correction":
        message.horizon, message.actions = 16, [0.001] * 112
    return message


# What was found with it.


@pytest.mark.parametrize("kind", [SetParameters, SetParametersAtomically])
def test_a_parameter_of_a_type_that_is_none_is_refused_and_the_node_stays(kind, start_node, call, known_by):
    node = start_node("robot_camera")
    name = f"robot_camera/{'set_parameters' if kind is SetParameters else 'set_parameters_atomically'}"
    parameters = [Parameter(name="silence", value=ParameterValue(type=77))]
    answer = call(kind, name, parameters=parameters)
    result = answer.results[0] if kind is SetParameters else answer.result
    assert not result.successful and "'silence'" in result.reason and "77" in result.reason
    good = Parameter(name="silence", value=ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=3.0))
    answer = call(kind, name, parameters=[good])
    assert (answer.results[0] if kind is SetParameters else answer.result).successful
    assert node.stop() == 0 and "Traceback" not in node.text


def test_a_robot_state_that_cannot_be_read_is_named_and_nothing_else_is_raised():
    data = bytes(serialize_message(msg.RobotState()))
    for form in (b"\x00\x00" + data[2:20], b"\x00\x07" + data[2:9], data[:5], data[:8] + b"\xff" * 40):
        with pytest.raises(MessageError):
            robot_state_from_wire(form)
    far = msg.RobotState()
    far.end_effector.orientation.w = 1.0
    robot_state_from_wire(bytes(serialize_message(far)))
    far.end_effector.position.y = -1e200
    with pytest.raises(MessageError, match="expected metres from the base"):
        robot_state_from_wire(bytes(serialize_message(far)))


def test_a_gripper_command_without_a_position_is_refused_and_the_mock_stays(start_node, ros_node, spin_until):
    mock = start_node("mock_robot")
    publisher = ros_node.create_publisher(Float64MultiArray, "mock/gripper", 1)
    spin_until(publisher.get_subscription_count, what="the mock")

    def refused():
        publisher.publish(Float64MultiArray())
        return mock.said("gripper command with 0 positions refused")

    spin_until(refused, what="the refusal")
    assert mock.stop() == 0 and "Traceback" not in mock.text


# The executor, which is for what nobody foresaw.


class Fed:
    """A node on the nodes' executor in this process, with a service, a topic and a timer that raise when told to."""

    def __init__(self, node, other):
        self.taken, self.turns, self.raising = [], 0, 0
        node.create_service(SetBool, "fed/set", self._on_request)
        node.create_service(Trigger, "fed/wait", self._on_wait)
        node.create_subscription(String, "fed/words", self._on_words, 10)
        node.create_timer(0.001, self._on_timer)
        self.set = other.create_client(SetBool, "fed/set")
        self.wait = other.create_client(Trigger, "fed/wait")
        self.words = other.create_publisher(String, "fed/words", 10)

    def _on_request(self, request, response):
        response.success, response.message = True, "filled in too early"
        if not request.data:
            raise ZeroDivisionError("nobody foresaw it")
        return response

    async def _on_wait(self, _request, _response):
        raise LookupError("nobody foresaw that either")

    def _on_words(self, message):
        self.taken.append(message.data)
        raise UnicodeError(message.data)

    def _on_timer(self):
        self.turns += 1
        if self.raising:
            self.raising -= 1
            raise ArithmeticError("a timer's own")


@pytest.fixture
def fed(ros_context, ros_node, spin_until):
    """The node, and what runs its callbacks and the test's until something holds."""
    executor = NodeExecutor()
    node = rclpy.create_node("fed", context=ros_context)
    executor.add_node(node)
    made = Fed(node, ros_node)

    def turn(predicate, what):
        spin_until(lambda: executor.spin_once(timeout_sec=0.01) or predicate(), what=what)

    turn(lambda: made.set.service_is_ready() and made.wait.service_is_ready(), "the services")
    turn(made.words.get_subscription_count, "the subscription")
    yield made, turn
    executor.remove_node(node)
    node.destroy_node()
    executor.shutdown()


def test_a_request_whose_handler_raises_is_answered_with_the_reason_and_the_next_is_served(fed):
    node, turn = fed
    for client, request, answered in (
        (node.set, SetBool.Request(data=False), "ZeroDivisionError: nobody foresaw it"),
        (node.wait, Trigger.Request(), "LookupError: nobody foresaw that either"),
        (node.set, SetBool.Request(data=False), "ZeroDivisionError: nobody foresaw it"),
    ):
        future = client.call_async(request)
        turn(future.done, "the answer")
        assert not future.result().success and future.result().message.endswith(answered)
    future = node.set.call_async(SetBool.Request(data=True))
    turn(future.done, "the good answer")
    assert future.result().success


def test_a_message_whose_callback_raises_is_dropped_and_the_next_is_taken(fed):
    node, turn = fed
    for word in ("one", "two"):
        node.words.publish(String(data=word))
        turn(lambda word=word: word in node.taken, "the message")
    before = node.turns
    turn(lambda: node.turns > before, "a turn of the timer")


def test_a_timer_that_raises_now_and_then_goes_on_and_one_that_always_does_ends_the_node(fed):
    node, turn = fed
    for _ in range(3):
        node.raising, before = 20, node.turns
        turn(lambda before=before: node.turns > before + 25, "turns after those that raised")
    node.raising = 1_000_000
    with pytest.raises(ArithmeticError, match="a timer's own"):
        turn(lambda: False, "the end")
