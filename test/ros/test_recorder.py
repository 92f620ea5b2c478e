# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The recorder on a real graph: every topic, whatever its quality of service, and whatever happens to the process."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from geometry_msgs.msg import WrenchStamped
from rclpy.node import Node
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import Image, JointState
from std_msgs.msg import Bool, Float64MultiArray, String

from flow_rag_vla.bringup import topics
from flow_rag_vla.bringup.profiles import BRIDGE
from flow_rag_vla.core.action import TICK_S
from flow_rag_vla.data.bag import Bag, read_bag
from flow_rag_vla.data.message_values import image_pixels
from flow_rag_vla.nodes import qos
from flow_rag_vla.nodes.conversions import image_message
from flow_rag_vla_interfaces.msg import ControlCommand, EpisodeStatus


class Load:
    """Publishes a little of everything."""

    def __init__(self, node: Node) -> None:
        self.node = node
        self.sent = 0
        self.diagnostics: list[Any] = []
        self.pixels = np.arange(24 * 32 * 3, dtype=np.uint32).astype(np.uint8).reshape(24, 32, 3)
        self._publishers = {
            topics.COMMAND: node.create_publisher(ControlCommand, topics.COMMAND, qos.command_profile(TICK_S)),
            topics.FRONT_IMAGE: node.create_publisher(Image, topics.FRONT_IMAGE, qos.SENSOR),
            topics.EPISODE_STATUS: node.create_publisher(EpisodeStatus, topics.EPISODE_STATUS, qos.STATE),
            topics.CLOCK: node.create_publisher(Clock, topics.CLOCK, 10),
        }
        node.create_subscription(DiagnosticArray, "/diagnostics", self._on_diagnostics, 10)
        # Latched long before anyone records.
        self._publishers[topics.EPISODE_STATUS].publish(EpisodeStatus(episode_id=99))
        node.create_timer(0.02, self.send)

    def send(self) -> None:
        self.sent += 1
        self._publishers[topics.COMMAND].publish(ControlCommand(tick=self.sent))
        self._publishers[topics.CLOCK].publish(Clock())
        self._publishers[topics.FRONT_IMAGE].publish(image_message(self.pixels, 123, "front"))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        for status in message.status:
            if status.name.endswith("recorder"):
                self.diagnostics.append({"level": status.level, "message": status.message}
                                        | {item.key: item.value for item in status.values})  # fmt: skip

    def figure(self, name: str) -> float:
        return float(self.diagnostics[-1][name]) if self.diagnostics else 0.0


@pytest.fixture
def load(ros_node: Node) -> Load:
    return Load(ros_node)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    running: list[subprocess.Popen[str]] = []

    def begin(**parameters: Any) -> subprocess.Popen[str]:
        values = {"bag": tmp_path / "bag", "minimum_free": 0.0, "discovery_period": 0.1, **parameters}
        command = [sys.executable, "-m", "flow_rag_vla.nodes.recorder", "--ros-args"]
        for name, value in values.items():
            command += ["-p", f"{name}:={value}"]
        with (tmp_path / "log").open("w", encoding="utf-8") as log:
            process = subprocess.Popen(command, stderr=log, text=True)
        running.append(process)
        return process

    yield begin
    for process in running:
        if process.poll() is None:
            process.kill()
        process.wait()


Start = Callable[..., "subprocess.Popen[str]"]
Spin = Callable[..., None]


def test_every_topic_is_recorded_with_its_definition(
    load: Load, start: Start, spin_until: Spin, tmp_path: Path
) -> None:
    process = start()
    spin_until(lambda: load.figure("messages") > 60, what="60 recorded messages")
    process.send_signal(signal.SIGINT)
    spin_until(lambda: process.poll() is not None, what="the end of the recorder")
    assert process.returncode == 0
    assert "Traceback" not in (tmp_path / "log").read_text(encoding="utf-8")

    bag = Bag(tmp_path / "bag")
    assert bag.complete
    assert bag.topics["/camera/front/image_raw"].msgtype == "sensor_msgs/msg/Image"
    assert bag.topics["/clock"].count > 10
    assert bag.topics["/diagnostics"].count >= 1
    ticks = [entry.message.tick for entry in bag.messages(["command"])]
    assert ticks == sorted(ticks) and len(ticks) > 10
    # Latched before the recorder came, and still there.
    assert next(iter(bag.messages(["episode_status"]))).message.episode_id == 99
    image = next(iter(bag.messages(["camera/front/image_raw"]))).message
    assert np.array_equal(image_pixels(image), load.pixels)


def test_a_killed_recorder_leaves_a_bag_that_reads_up_to_the_last_checkpoint(
    load: Load, start: Start, spin_until: Spin, tmp_path: Path
) -> None:
    process = start(checkpoint_period=0.1)
    spin_until(lambda: load.figure("messages") > 100, what="100 recorded messages")
    process.kill()
    spin_until(lambda: process.poll() is not None)
    bag = Bag(tmp_path / "bag")
    assert not bag.complete
    assert "did not close it" in bag.problems[0]
    # Diagnostics said so many before the kill; a checkpoint is at most 0.1 s behind them.
    assert sum(topic.count for topic in bag.topics.values()) > 80
    assert [entry.message.tick for entry in read_bag(tmp_path / "bag", ["command"])]


def test_a_topic_of_someone_else_is_recorded_on_request_and_an_excluded_one_is_not(
    load: Load, start: Start, spin_until: Spin, tmp_path: Path, ros_node: Node
) -> None:
    publisher = ros_node.create_publisher(String, "notes", 10)
    ros_node.create_timer(0.02, lambda: publisher.publish(String(data="hello")))
    process = start(topics='["notes"]', exclude='["/clock"]')
    spin_until(lambda: load.figure("messages") > 60)
    process.send_signal(signal.SIGTERM)
    spin_until(lambda: process.poll() is not None)
    bag = Bag(tmp_path / "bag")
    assert next(iter(bag.messages(["notes"]))).message.data == "hello"
    assert bag.find("clock") is None


@pytest.mark.parametrize(("profile", "recorded"), [("control", True), ("graph", True), ("perception", False)])
def test_what_an_arm_tells_of_itself_is_recorded_under_the_names_that_its_bridge_has_for_it(
    load: Load, start: Start, spin_until: Spin, tmp_path: Path, ros_node: Node, profile: str, recorded: bool
) -> None:
    bridge = Node(BRIDGE, context=ros_node.context)
    publishers = []
    for topic, kind in (("/lab/states", JointState), ("/lab/force", WrenchStamped), ("/lab/told", Float64MultiArray)):
        bridge.create_subscription(kind, topic, lambda _message: None, qos.SENSOR)
        publishers.append((ros_node.create_publisher(kind, topic, qos.SENSOR), kind))
    ros_node.create_timer(0.02, lambda: [publisher.publish(kind()) for publisher, kind in publishers])
    try:
        process = start(profile=profile)
        spin_until(lambda: load.figure("messages") > 60)
        process.send_signal(signal.SIGINT)
        spin_until(lambda: process.poll() is not None)
    finally:
        bridge.destroy_node()
    bag = Bag(tmp_path / "bag")
    assert [bag.find(topic) is not None for topic in ("/lab/states", "/lab/force")] == [recorded] * 2
    assert bag.find("/lab/told") is None, "what an arm is told would move it when the bag is played"


def test_a_weaker_publisher_that_comes_later_is_recorded_too(
    load: Load, start: Start, spin_until: Spin, tmp_path: Path, ros_node: Node
) -> None:
    process = start()
    first = ros_node.create_publisher(Bool, topics.EMERGENCY_STOP, qos.STATE)
    ros_node.create_timer(0.02, lambda: first.publish(Bool(data=True)))
    spin_until(lambda: first.get_subscription_count() == 1, what="the recorder's subscription")
    weak = ros_node.create_publisher(Bool, topics.EMERGENCY_STOP, qos.SENSOR)
    ros_node.create_timer(0.02, lambda: weak.publish(Bool(data=False)))
    spin_until(lambda: weak.get_subscription_count() == 1, what="a subscription that fits the weaker offer")
    before = load.figure("messages")
    spin_until(lambda: load.figure("messages") > before + 100)
    process.send_signal(signal.SIGINT)
    spin_until(lambda: process.poll() is not None)
    values = {entry.message.data for entry in read_bag(tmp_path / "bag", ["emergency_stop"])}
    assert values == {True, False}


def test_a_bag_is_never_overwritten(load: Load, start: Start, spin_until: Spin, tmp_path: Path) -> None:
    (tmp_path / "bag").mkdir()
    process = start()
    spin_until(lambda: load.figure("messages") > 20)
    process.send_signal(signal.SIGINT)
    spin_until(lambda: process.poll() is not None)
    assert list((tmp_path / "bag").iterdir()) == []
    assert Bag(tmp_path / "bag_2").complete


def test_a_recorder_that_nobody_publishes_for_says_so_once(start: Start, spin_until: Spin, tmp_path: Path) -> None:
    process, log = start(), tmp_path / "log"
    words = "nobody publishes what is to be recorded yet (namespace '/', ROS_DOMAIN_ID "
    spin_until(lambda: words in log.read_text(encoding="utf-8"), what="the warning")
    process.send_signal(signal.SIGINT)
    spin_until(lambda: process.poll() is not None, what="the end of the recorder")
    assert process.returncode == 0 and log.read_text(encoding="utf-8").count(words) == 1


def test_a_full_disk_is_said_and_the_node_lives(load: Load, start: Start, spin_until: Spin, tmp_path: Path) -> None:
    free_mb = shutil.disk_usage(tmp_path).free / 1e6
    process = start(minimum_free=min(1e6, free_mb + 10_000.0), checkpoint_period=0.5)
    spin_until(lambda: bool(load.diagnostics) and "recording has ended" in load.diagnostics[-1]["message"])
    assert load.diagnostics[-1]["level"] == b"\x02" and load.diagnostics[-1]["last_problem"]
    count = len(load.diagnostics)
    spin_until(lambda: len(load.diagnostics) > count + 1, what="further diagnostics")
    assert load.figure("dropped") > 0
    assert process.poll() is None
    process.send_signal(signal.SIGINT)
    spin_until(lambda: process.poll() is not None)
    assert process.returncode == 0
    assert Bag(tmp_path / "bag").complete


def test_a_folder_that_cannot_be_written_stops_the_start_with_one_line(
    start: Start, spin_until: Spin, tmp_path: Path
) -> None:
    process = start(bag=os.devnull + "/bag")
    spin_until(lambda: process.poll() is not None)
    error = (tmp_path / "log").read_text(encoding="utf-8")
    assert process.returncode == 2
    assert "name a folder" in error and "Traceback" not in error


def test_a_profile_chooses_topics_parts_are_split_and_parameters_are_asked_for(
    load: Load, start: Start, spin_until: Spin, tmp_path: Path, ros_node: Node
) -> None:
    ros_node.declare_parameter("gain", 0.25)
    process = start(profile="control", split_duration=0.5)
    spin_until(lambda: load.figure("messages") > 120)
    process.send_signal(signal.SIGINT)
    spin_until(lambda: process.poll() is not None)
    bag = Bag(tmp_path / "bag")
    assert bag.complete and bag.find("command") and bag.find("camera/front/image_raw") is None
    assert len(list((tmp_path / "bag").glob("*.mcap"))) >= 2
    ticks = [entry.message.tick for entry in bag.messages(["command"])]
    assert ticks == list(range(ticks[0], ticks[0] + len(ticks)))
    events = [entry.message for entry in bag.messages(["/parameter_events"])]
    mine = [item for event in events if event.node.endswith(ros_node.get_name()) for item in event.new_parameters]
    assert any(item.name == "gain" and item.value.double_value == 0.25 for item in mine)
