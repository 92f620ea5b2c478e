# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The player as a real node: what was recorded comes again, on the recorded clock, at the pace that is asked for."""

from __future__ import annotations

import itertools
import signal
from pathlib import Path

import numpy as np
import pytest
from rcl_interfaces.msg import Parameter, ParameterType, ParameterValue
from rcl_interfaces.srv import SetParameters
from rclpy.duration import Duration
from rclpy.qos import DurabilityPolicy, LivelinessPolicy, QoSProfile, ReliabilityPolicy
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import StoragePlugin, Writer
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger

from flow_rag_vla.data.bag_writer import BagWriter
from flow_rag_vla.data.definitions import Definitions
from flow_rag_vla.data.playlist import COMMANDS
from flow_rag_vla.nodes.bag_player import offered_profile
from flow_rag_vla.nodes.robot_messages import ARM_TYPES, GRIPPER_TYPES
from flow_rag_vla_interfaces.msg import Evidence

START = 1_700_000_000_000_000_000
SENSORS = QoSProfile(depth=200, reliability=ReliabilityPolicy.BEST_EFFORT)
STRING, JOINTS = "std_msgs/msg/String", "sensor_msgs/msg/JointState"
STATUS = "flow_rag_vla_interfaces/msg/EpisodeStatus"


def offered(reliable: bool, latched: bool) -> Qos:
    zero = QosTime(0, 0)
    return Qos(
        QosHistory.KEEP_LAST, 5, QosReliability.RELIABLE if reliable else QosReliability.BEST_EFFORT,
        QosDurability.TRANSIENT_LOCAL if latched else QosDurability.VOLATILE, zero, zero, QosLiveliness.AUTOMATIC, zero,
        False,
    )  # fmt: skip


def write(folder: Path, count: int = 40, storage: StoragePlugin = StoragePlugin.MCAP) -> Path:
    """A latched note, joint states at 40 Hz, and a topic of a type that nobody has."""
    definitions = Definitions()
    with Writer(folder, version=9, storage_plugin=storage) as writer:
        text, digest = definitions.definition(STRING)
        notes = writer.add_connection(
            "/notes", STRING, msgdef=text, rihs01=digest, offered_qos_profiles=(offered(True, True),)
        )
        text, digest = definitions.definition(JOINTS)
        joints = writer.add_connection(
            "/joint_states", JOINTS, msgdef=text, rihs01=digest, offered_qos_profiles=(offered(False, False),)
        )
        writer.write(notes, START, definitions.serialize(definitions.message(STRING, data="hello"), STRING))
        for index in range(count):
            message = definitions.message(JOINTS, name=["a"], position=np.array([float(index)]))
            writer.write(joints, START + 1_000 + index * 25_000_000, definitions.serialize(message, JOINTS))
    return folder


@pytest.fixture
def heard(ros_node):
    found: dict[str, list] = {"joints": [], "clock": [], "notes": []}
    ros_node.create_subscription(JointState, "joint_states", lambda m: found["joints"].append(m.position[0]), SENSORS)
    ros_node.create_subscription(Clock, "/clock", lambda m: found["clock"].append(m.clock), 1000)
    latched = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    ros_node.create_subscription(String, "notes", lambda m: found["notes"].append(m.data), latched)
    return found


def listening(ros_node) -> list[str]:
    return [ros_node.get_name()]


@pytest.mark.parametrize("storage", [StoragePlugin.MCAP, StoragePlugin.SQLITE3])
def test_a_bag_is_played_once_with_its_clock_and_its_quality_of_service(
    start_node, ros_node, spin_until, heard, tmp_path, storage
):
    player = start_node(
        "bag_player", bag=str(write(tmp_path / "bag", storage=storage)), wait_for=listening(ros_node), rate=2.0
    )
    spin_until(lambda: not player.alive, 40, "the end of the bag")
    assert player.wait() == 0, player.text
    spin_until(lambda: len(heard["joints"]) == 40, 5, f"40 joint states; there are {heard['joints']}")
    assert heard["joints"] == [float(index) for index in range(40)]
    assert heard["notes"] == ["hello"]
    stamps = [clock.sec * 10**9 + clock.nanosec for clock in heard["clock"]]
    assert stamps == sorted(stamps) and stamps[0] >= START and stamps[-1] >= START + 39 * 25_000_000
    assert "end of the bag: 41 messages played" in player.text and "Traceback" not in player.text


def test_pause_step_resume_and_rate(start_node, ros_node, spin_until, call, heard, tmp_path):
    player = start_node(
        "bag_player", bag=str(write(tmp_path / "bag", 60)), wait_for=listening(ros_node), paused=True, step=0.1
    )
    spin_until(lambda: player.said("playing 2 topics"), 40)
    assert call(Trigger, "bag_player/step").success
    spin_until(lambda: len(heard["joints"]) >= 4, 20, "the messages of one step")
    count = len(heard["joints"])
    assert count in (4, 5)
    assert call(Trigger, "bag_player/pause").success
    assert call(Trigger, "bag_player/step").success
    spin_until(lambda: len(heard["joints"]) >= count + 4, 20, "the messages of another step")
    value = ParameterValue(type=ParameterType.PARAMETER_DOUBLE, double_value=20.0)
    answer = call(SetParameters, "bag_player/set_parameters", parameters=[Parameter(name="rate", value=value)])
    assert answer.results[0].successful
    assert call(Trigger, "bag_player/resume").success
    spin_until(lambda: not player.alive, 30, "the end of the bag")
    assert player.wait() == 0


def test_a_loop_begins_again_and_the_clock_goes_back(start_node, ros_node, spin_until, heard, tmp_path):
    player = start_node(
        "bag_player", bag=str(write(tmp_path / "bag", 8)), wait_for=listening(ros_node), loop=True, rate=4.0
    )

    def goes_back() -> bool:
        stamps = [clock.sec * 10**9 + clock.nanosec for clock in heard["clock"]]
        return any(later < earlier for earlier, later in itertools.pairwise(stamps))

    # Joint states and the clock are two topics: on a busy machine one is heard before the other.
    spin_until(lambda: heard["joints"].count(0.0) >= 3 and goes_back(), 40, "the third round, and the clock's")
    assert player.stop(signal.SIGINT) == 0


def test_a_part_of_a_bag_knows_what_was_latched_before_it(start_node, ros_node, spin_until, heard, tmp_path):
    player = start_node(
        "bag_player", bag=str(write(tmp_path / "bag", 40)), wait_for=listening(ros_node), start=0.5, duration=0.25
    )
    spin_until(lambda: not player.alive, 40, "the end of the part")
    spin_until(lambda: heard["notes"] == ["hello"] and heard["joints"], 5)
    assert heard["joints"] == [float(index) for index in range(20, 30)]


def test_muted_and_renamed_topics(start_node, ros_node, spin_until, heard, tmp_path):
    renamed: list[float] = []
    ros_node.create_subscription(JointState, "left/joints", lambda m: renamed.append(m.position[0]), SENSORS)
    player = start_node(
        "bag_player", bag=str(write(tmp_path / "bag", 20)), wait_for=listening(ros_node), mute=["notes"],
        remap=["joint_states:=/left/joints"],
    )  # fmt: skip
    spin_until(lambda: not player.alive, 40)
    spin_until(lambda: len(renamed) == 20, 5)
    assert not heard["notes"] and not heard["joints"]


def test_a_truncated_bag_is_played_to_its_last_whole_message_and_says_so(
    start_node, ros_node, spin_until, heard, tmp_path
):
    definitions = Definitions()
    writer = BagWriter(tmp_path / "bag", definitions)
    writer.add_topic("/joint_states", JOINTS)
    for index in range(30):
        message = definitions.message(JOINTS, name=["a"], position=np.array([float(index)]))
        writer.write_message("/joint_states", START + index * 25_000_000, message)
        if index == 19:
            writer.checkpoint()
    player = start_node("bag_player", bag=str(tmp_path / "bag"), wait_for=listening(ros_node), rate=4.0)
    spin_until(lambda: not player.alive, 40)
    spin_until(lambda: len(heard["joints"]) == 20, 5)
    assert "breaks off" in player.text and "last whole message" in player.text
    writer.close()


def test_a_type_of_another_version_is_converted_and_one_that_nobody_has_is_left_out(
    start_node, ros_node, spin_until, tmp_path
):
    found: list[Evidence] = []
    ros_node.create_subscription(Evidence, "evidence", found.append, 10)
    own, odd = "flow_rag_vla_interfaces/msg/Evidence", "nowhere/msg/Odd"
    before = Definitions()
    before.register_text(own, "string name\nfloat64 value\nint32 gone\n")
    before.register_text(odd, "string name\n")
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        first = writer.add_connection("/evidence", own, typestore=before.store)
        second = writer.add_connection("/odd", odd, typestore=before.store)
        message = before.message(own, name="force", value=3.5, gone=7)
        writer.write(first, START, before.serialize(message, own))
        writer.write(second, START, before.serialize(before.message(odd, name="x"), odd))
    player = start_node("bag_player", bag=str(tmp_path / "bag"), wait_for=listening(ros_node))
    spin_until(lambda: not player.alive, 40)
    spin_until(lambda: bool(found), 5)
    assert (found[0].name, found[0].value, found[0].unit) == ("force", 3.5, "")
    assert "/odd is not played" in player.text and "converted by field names" in player.text


@pytest.mark.parametrize(
    ("parameters", "said"),
    [
        ({"bag": "/nowhere"}, "there is nothing at /nowhere; give a bag folder"),
        ({"mute": ["nothing"]}, "cannot mute 'nothing'"),
        ({"remap": ["joint_states"]}, "not of the form old:=new"),
        ({"start": 99.0}, "is beyond the bag"),
    ],
)
def test_what_cannot_be_played_is_said_in_one_line(start_node, tmp_path, parameters, said):
    values = {"bag": str(write(tmp_path / "bag", 4)), **parameters}
    player = start_node("bag_player", **values)
    assert player.wait() == 2
    assert said in player.text and "Traceback" not in player.text


def test_a_bag_of_another_namespace_is_not_waited_for_without_end_but_named(start_node, ros_node, spin_until, tmp_path):
    definitions = Definitions()
    with BagWriter(tmp_path / "bag", definitions) as writer:
        for topic, kind in (("/lab/left/episode_status", STATUS), ("/joint_states", JOINTS)):
            writer.add_topic(topic, kind)
            writer.write_message(topic, START, definitions.message(kind))
    player = start_node("bag_player", bag=str(tmp_path / "bag"), wait_for=listening(ros_node))
    assert player.wait() == 2
    assert "in the namespace '/lab/left'" in player.text and "--namespace lab/left" in player.text
    # Renamed it is a bag of this one, and without anybody who is to follow it any bag is played.
    told = {"remap": ["/lab/left/episode_status:=/episode_status"], "wait_for": listening(ros_node), "paused": True}
    for values in (told, {"paused": True}):
        player = start_node("bag_player", bag=str(tmp_path / "bag"), **values)
        spin_until(lambda player=player: player.said("playing 2 topics"), 40)


def test_whoever_asks_for_a_deadline_hears_the_bag_as_it_heard_the_recorded_publisher(
    start_node, ros_node, spin_until, tmp_path
):
    definitions, heard = Definitions(), []
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        text, digest = definitions.definition(STRING)
        steady = offered(True, False)._replace(deadline=QosTime(0, 100_000_000), lifespan=QosTime(0, 50_000_000))
        notes = writer.add_connection("/notes", STRING, msgdef=text, rihs01=digest, offered_qos_profiles=(steady,))
        for index in range(5):
            message = definitions.message(STRING, data=str(index))
            writer.write(notes, START + index * 50_000_000, definitions.serialize(message, STRING))
    asked = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE, deadline=Duration(nanoseconds=100_000_000))
    ros_node.create_subscription(String, "notes", lambda message: heard.append(message.data), asked)
    player = start_node("bag_player", bag=str(tmp_path / "bag"), wait_for=listening(ros_node))
    spin_until(lambda: not player.alive, 40, "the end of the bag")
    spin_until(lambda: len(heard) == 5, 5, f"five notes; there are {heard}")


def test_of_several_recorded_publishers_the_weakest_offer_is_made():
    short, long = QosTime(0, 100_000_000), QosTime(2, 0)
    manual = {"liveliness": QosLiveliness.MANUAL_BY_TOPIC}
    first = offered(True, False)._replace(deadline=short, liveliness_lease_duration=short, **manual)
    second = offered(True, False)._replace(deadline=long, liveliness_lease_duration=long, **manual)
    both = offered_profile([first, second])
    assert both.deadline == both.liveliness_lease_duration == Duration(seconds=2)
    assert both.liveliness is LivelinessPolicy.MANUAL_BY_TOPIC
    for weaker in (QosTime(0, 0), QosTime(2**31 - 1, 2**32 - 1), QosTime(9_223_372_036, 854_775_807)):
        weakest = offered_profile([first, offered(True, False)._replace(deadline=weaker)])
        assert weakest.deadline == weakest.liveliness_lease_duration == QoSProfile(depth=1).deadline
        assert weakest.liveliness is LivelinessPolicy.AUTOMATIC


def test_a_reader_that_can_receive_nothing_keeps_no_bag_from_being_played(start_node, ros_node, spin_until, tmp_path):
    notes: list[str] = []
    latched = QoSProfile(depth=1, reliability=ReliabilityPolicy.RELIABLE, durability=DurabilityPolicy.TRANSIENT_LOCAL)
    ros_node.create_subscription(String, "notes", lambda message: notes.append(message.data), latched)
    # Joint states were offered best effort: a viewer that insists on every one of them never hears them.
    ros_node.create_subscription(JointState, "joint_states", lambda _message: None, 10)
    player = start_node("bag_player", bag=str(write(tmp_path / "bag", 8)), wait_for=listening(ros_node), rate=4.0)
    spin_until(lambda: not player.alive, 40, "the end of the bag")
    assert player.wait() == 0 and "incompatible QoS" in player.text
    spin_until(lambda: notes == ["hello"], 5)


def test_whatever_a_bridge_tells_an_arm_is_of_a_type_that_is_not_played_by_itself():
    for kind in (*ARM_TYPES.values(), *GRIPPER_TYPES.values()):
        assert f"{kind.__module__.partition('.')[0]}/msg/{kind.__name__}" in COMMANDS
