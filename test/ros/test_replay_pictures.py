# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What shows a recorded run's pictures to the live nodes, against scripted ones."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np
import pytest
from sensor_msgs.msg import Image

from flow_rag_vla.bringup import topics
from flow_rag_vla.core.action import TICK_S, ActionChunk, Provenance
from flow_rag_vla.data.bag import Bag
from flow_rag_vla.data.bag_writer import BagWriter
from flow_rag_vla.nodes import benchmark_pictures, qos
from flow_rag_vla.nodes.conversions import chunk_message
from flow_rag_vla.nodes.stamps import to_ns
from flow_rag_vla_interfaces.msg import ActionChunk as ActionChunkMessage
from flow_rag_vla_interfaces.msg import ControlCommand, EpisodeStatus, RobotState

CAMERAS = (topics.FRONT_IMAGE, topics.WRIST_IMAGE)


def bag_with_pictures(folder: Path, moments: tuple[int, ...]) -> Path:
    with BagWriter(folder / "bag") as writer:
        message = writer.definitions.message
        for topic in CAMERAS:
            writer.add_topic(f"/{topic}", "sensor_msgs/msg/Image")
        for moment in moments:
            time = message("builtin_interfaces/msg/Time", sec=moment // 10**9, nanosec=moment % 10**9)
            for topic in CAMERAS:
                image = message(
                    "sensor_msgs/msg/Image", header=message("std_msgs/msg/Header", stamp=time), height=16, width=16,
                    encoding="rgb8", step=48, data=np.full(768, moment % 200, dtype=np.uint8),
                )  # fmt: skip
                writer.write_message(f"/{topic}", moment + 1_000_000, image)
    return folder / "bag"


@pytest.mark.parametrize("triggered", [True, False])
def test_each_picture_is_timed_to_its_chunk_and_to_the_command_that_follows_it(
    start_node, ros_node, spin_until, tmp_path, triggered
):
    bag = bag_with_pictures(tmp_path, (1_000_000_000, 1_025_000_000, 1_060_000_000))
    pictures: list[Image] = []
    commands = ros_node.create_publisher(ControlCommand, topics.COMMAND, qos.command_profile(TICK_S))
    chunks = ros_node.create_publisher(ActionChunkMessage, topics.ACTION_CHUNK, qos.PLAN)
    episodes: list[EpisodeStatus] = []
    ros_node.create_subscription(EpisodeStatus, topics.EPISODE_STATUS, episodes.append, qos.STATE)
    states: list[RobotState] = []
    ros_node.create_subscription(RobotState, topics.ROBOT_STATE, states.append, qos.SENSOR)
    newest: list[int] = []

    def on_picture(image: Image) -> None:
        # Encoder and policy that take no time.
        pictures.append(image)
        stamp = to_ns(image.header.stamp)
        newest[:] = [stamp]
        actions = np.zeros((16, 7), dtype=np.float32)
        chunk = ActionChunk(
            len(pictures), stamp, actions, "pick_and_place", provenance=Provenance(stamp, "scripted", "0" * 12, 1)
        )
        chunks.publish(chunk_message(chunk, topics.BASE_FRAME))

    def tick() -> None:
        command = ControlCommand(mode=ControlCommand.MODE_FOLLOW if newest else ControlCommand.MODE_HOLD)
        command.header.stamp = ros_node.get_clock().now().to_msg()
        if newest:
            command.chunk_id = len(pictures)
            command.provenance.observation_stamp.sec = newest[0] // 10**9
            command.provenance.observation_stamp.nanosec = newest[0] % 10**9
            command.target.position.x, command.target.orientation.w = 0.625, 1.0
        commands.publish(command)

    ros_node.create_subscription(Image, topics.WRIST_IMAGE, on_picture, qos.SENSOR)
    ros_node.create_timer(TICK_S, tick)
    feed = start_node("benchmark_pictures", bag=str(bag), size=32, triggered=triggered)
    spin_until(lambda: feed.said('"following"'), 60, "the pictures")
    spin_until(lambda: len(pictures) > 60, 60, "more of them")
    assert feed.stop(signal.SIGINT) == 0, feed.text

    printed = json.loads(feed.text.strip().splitlines()[-1])
    assert len(printed["to_command"]) >= 30 and len(printed["to_tick"]) >= 30
    assert min(printed["to_chunk"]) > 0.0 and np.median(printed["to_chunk"]) < np.median(printed["to_command"])
    assert {(image.height, image.width) for image in pictures} == {(32, 32)}
    stamps = [to_ns(image.header.stamp) for image in pictures]
    assert stamps == sorted(set(stamps)), "each is a picture of its own moment"
    assert episodes[-1].state == EpisodeStatus.STATE_RUNNING
    assert states[-1].end_effector.position.x == 0.625, "the robot is where the last command wanted it"


def test_of_a_long_bag_the_first_pairs_are_taken(tmp_path, monkeypatch):
    monkeypatch.setattr(benchmark_pictures, "LIMIT", 3)
    bag = bag_with_pictures(tmp_path, tuple(1_000_000_000 + 100_000_000 * number for number in range(6)))
    found = benchmark_pictures.shots(Bag(bag), 32)
    assert [shot.at_ns for shot in found] == [0, 100_000_000, 200_000_000]
    assert all([image.width for image in shot.images] == [32, 32] for shot in found)


def test_a_bag_without_pictures_is_refused_by_name(start_node, tmp_path):
    feed = start_node("benchmark_pictures", bag=str(bag_with_pictures(tmp_path, (1_000_000_000,))))
    assert feed.wait() == 2
    assert "holds 1 pairs of pictures of camera/front/image_raw and camera/wrist/image_raw" in feed.text
