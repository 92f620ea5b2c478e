# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""An arm's cameras as a process of their own: good images are passed on, bad ones named, and the bridge has neither."""

from __future__ import annotations

import itertools
import math
import signal
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from diagnostic_msgs.msg import DiagnosticArray
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from flow_rag_vla.bringup import topics
from flow_rag_vla.bringup.discovery import beyond_loopback
from flow_rag_vla.data.message_values import image_pixels
from flow_rag_vla.nodes import qos
from flow_rag_vla.nodes.conversions import image_message
from flow_rag_vla.nodes.stamps import to_ns
from flow_rag_vla_interfaces.msg import RobotState

PATIENCE_S = 60.0
PACKED, PACKED_INFO, RAW = "mock/front/image_raw/compressed", "mock/front/camera_info", "mock/wrist/image_raw"
"""What the mock's cameras publish."""

GRAPH_TOPICS = {
    "front": (Image, topics.FRONT_IMAGE),
    "wrist": (Image, topics.WRIST_IMAGE),
    "front info": (CameraInfo, topics.FRONT_INFO),
    "wrist info": (CameraInfo, topics.WRIST_INFO),
}


def shared(pid: int) -> list[str]:
    """What of a process has to do with memory that its middleware shares: threads, and files that are mapped."""
    threads = [path.read_text().strip() for path in Path(f"/proc/{pid}/task").glob("*/comm")]
    maps = [line.split()[-1] for line in Path(f"/proc/{pid}/maps").read_text().splitlines()]
    return [name for name in (*threads, *maps) if ".shm" in name or ("/dev/shm/" in name and "fast" in name)]


def bad_input(now) -> list[tuple[type, str, object, str]]:
    """(type, topic, message, what is said of it) of things that drivers publish when something is wrong with them."""
    picture = np.zeros((224, 224, 3), np.uint8)
    jpeg = bytes(cv2.imencode(".jpg", picture)[1])
    large = jpeg.index(b"\xff\xc0") + 5

    def raw(words: str, stamp_ns: int = to_ns(now), **fields: object) -> tuple[type, str, Image, str]:
        message = image_message(picture, stamp_ns, "intruder")
        for name, value in fields.items():
            setattr(message, name, value)
        return Image, RAW, message, words

    def packed(words: str, data: bytes) -> tuple[type, str, CompressedImage, str]:
        message = CompressedImage(format="jpeg", data=data)
        message.header.stamp, message.header.frame_id = now, "intruder"
        return CompressedImage, PACKED, message, words

    def info(words: str, **fields: object) -> tuple[type, str, CameraInfo, str]:
        message = CameraInfo(**fields)
        message.header.frame_id = "intruder"
        return CameraInfo, PACKED_INFO, message, words

    return [
        raw("'32FC1' is not one of", encoding="32FC1"),
        raw("truncated", height=300),
        raw("0 x 224 pixels: empty", width=0),
        raw("without a stamp", stamp_ns=0),
        raw("set the clocks of camera and computer", stamp_ns=to_ns(now) - 3600 * 10**9),
        packed("damaged or cut off", jpeg[:-60]),
        packed("no JPEG and no PNG", b"\x00" * 99),
        packed("65000 x 65000 pixels", jpeg[:large] + (65000).to_bytes(2, "big") * 2 + jpeg[large + 4 :]),
        info("not finite", width=224, height=224, k=[math.nan] * 9),
        info("640 x 480 pixels, but the images have 224 x 224", width=640, height=480),
    ]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is read")
def test_images_are_passed_on_whatever_a_camera_sends_and_whether_or_not_the_bridge_runs_which_shares_no_memory(
    ros_node, start_node, spin_until
):
    def wait(predicate, what):
        spin_until(predicate, PATIENCE_S, what)

    heard: dict[str, list] = {key: [] for key in GRAPH_TOPICS}
    for key, (kind, topic) in GRAPH_TOPICS.items():
        ros_node.create_subscription(kind, topic, heard[key].append, qos.SENSOR)
    states: list[RobotState] = []
    ros_node.create_subscription(RobotState, topics.ROBOT_STATE, states.append, qos.SENSOR)
    reports: list[str] = []
    ros_node.create_subscription(
        DiagnosticArray,
        topics.DIAGNOSTICS,
        lambda array: reports.extend(one.message for one in array.status if one.name == "robot_camera"),
        10,
    )
    mock, bridge = start_node("mock_robot"), start_node("robot")
    camera = start_node("robot_camera", silence=0.5)

    def more(of, count=3):
        before = {key: len(of[key]) for key in of}
        wait(lambda: all(len(of[key]) >= before[key] + count for key in of), "more of everything")

    more(heard)
    wait(lambda: states, "the arm's state")
    pid = bridge.popen.pid
    assert not shared(pid) and not beyond_loopback(pid), "the bridge hears this host alone, and maps nobody's memory"
    assert shared(camera.popen.pid), "the cameras' process does, or this test would find nothing in any"
    assert not [line for line in Path(f"/proc/{pid}/maps").read_text().splitlines() if "cv2" in line]
    for topic in (PACKED, PACKED_INFO, RAW):
        assert {info.node_name for info in ros_node.get_subscriptions_info_by_topic(topic)} == {"robot_camera"}

    publishers = {
        topic: ros_node.create_publisher(kind, topic, qos.SENSOR)
        for kind, topic in ((CompressedImage, PACKED), (CameraInfo, PACKED_INFO), (Image, RAW))
    }
    wait(lambda: all(one.get_subscription_count() == 1 for one in publishers.values()), "the cameras' node")
    turns = itertools.count()

    def intrude():
        # One at a time: the newest takes the place of one that was not read yet.
        wrong = bad_input(ros_node.get_clock().now().to_msg())
        _, topic, message, _ = wrong[next(turns) % len(wrong)]
        publishers[topic].publish(message)

    intruder = ros_node.create_timer(0.02, intrude)
    for _, _, _, words in bad_input(ros_node.get_clock().now().to_msg()):
        wait(lambda words=words: camera.said(words), words)
    more(heard)
    ros_node.destroy_timer(intruder)

    bridge.popen.send_signal(signal.SIGKILL)
    bridge.wait(PATIENCE_S)
    more(heard, 10)
    assert camera.alive and mock.alive and "Traceback" not in camera.text
    for role in ("front", "wrist"):
        images, infos = heard[role], heard[f"{role} info"]
        stamps = [to_ns(message.header.stamp) for message in images]
        assert stamps == sorted(set(stamps))
        assert {message.encoding for message in images} == {"rgb8"}
        assert {message.header.frame_id for message in (*images, *infos)} == {f"{role}_optical_frame"}
        assert all(image_pixels(message).std() > 10 for message in images)
        assert all((message.width, message.height) == (224, 224) for message in (*images, *infos))

    wait(lambda: reports[-1] == "passing images on", "a report that all is well")
    mock.stop(signal.SIGKILL)
    wait(lambda: "the wrist camera is silent" in reports[-1], "a report that a camera is silent")
    assert camera.stop() == 0


@pytest.mark.parametrize(("encoding", "channels"), [("rgb8", 3), ("bgr8", 3), ("rgba8", 4), ("mono8", 1)])
def test_what_leaves_is_rgb8_with_the_stamp_and_the_frame_of_the_driver(encoding, channels):
    from flow_rag_vla.nodes.robot_camera import as_rgb8

    pixels = np.zeros((3, 5, 3), np.uint8)
    pixels[:, :, 0] = 200
    if channels == 1:
        pixels[:] = 200
    message = image_message(pixels, 1_700_000_000_000_000_007, "lens")
    stored = {"bgr8": pixels[:, :, ::-1], "mono8": pixels[:, :, :1]}.get(encoding, pixels)
    if channels == 4:
        stored = np.concatenate([pixels, np.full((3, 5, 1), 255, np.uint8)], axis=2)
    message.encoding, message.step, message.data = encoding, 5 * channels, stored.tobytes()
    passed = as_rgb8(message)
    assert passed.encoding == "rgb8" and np.array_equal(image_pixels(passed), pixels)
    assert passed.header == message.header
