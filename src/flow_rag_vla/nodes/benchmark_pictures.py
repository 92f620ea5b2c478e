# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Shows a recorded run's pictures to the nodes that decide, as a camera would, and times the way to the command.

It stands for the cameras, for a robot that follows its commands perfectly, and for a running episode. On its end it
prints one line of JSON: for each picture the milliseconds from its stamp to the chunk made of it, to the first command
that follows that chunk, and to the first command of all; and the stamps, so that a stretch can be cut out.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.subscription import MessageInfo
from sensor_msgs.msg import Image

from flow_rag_vla.bringup import topics
from flow_rag_vla.core.action import TICK_S
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.data.bag import Bag, BagError
from flow_rag_vla.data.message_values import image_pixels, stamp_ns
from flow_rag_vla.nodes import qos
from flow_rag_vla.nodes.conversions import image_message, robot_state_message
from flow_rag_vla.nodes.priority import RaisedPriority
from flow_rag_vla.nodes.runtime import StartError, run
from flow_rag_vla.nodes.stamps import to_ns
from flow_rag_vla_interfaces import msg

CAMERAS = ((topics.FRONT_IMAGE, "front_optical_frame"), (topics.WRIST_IMAGE, "wrist_optical_frame"))
INSTRUCTION = "put the red cube in the bin"
LIMIT = 400
"""Pairs of pictures that are held in memory; after the last the first is shown again."""

TRIGGER_DELAY_S = 0.002
"""From a command to the picture that a triggered camera takes. All but this much of the 25 ms to the next command is
left for the chunk; one taken at once would always be 25 ms old."""

PRIORITY = 10
"""SCHED_FIFO, where it is permitted: between the loop and what decides. A camera exposes without asking a scheduler."""

WARM_UP = 20
"""Chunks before anything is measured: the first ones load code and find out how long they take."""

SAMPLES = ("to_chunk", "to_command", "to_tick")
"""What is timed of each picture."""

_JOINTS = [f"joint_{index}" for index in range(1, 8)]


@dataclass(frozen=True, slots=True)
class Shot:
    """Pictures of all cameras taken at once. at_ns: since the first of the bag."""

    at_ns: int
    images: tuple[Image, ...]


class BenchmarkPictures(Node):
    """A camera, a robot without inertia, and an episode that does not end.

    Parameters: ``bag``; ``size``, side of the pictures in pixels; ``triggered``, whether a picture is taken shortly
    after a command, as by a camera that the loop triggers, or at moments that the loop knows nothing of.
    """

    def __init__(self) -> None:
        super().__init__("benchmark_pictures")
        bag: str = self.declare_parameter("bag", "").value
        self._triggered: bool = self.declare_parameter("triggered", True).value
        try:
            self._shots = shots(Bag(bag), self.declare_parameter("size", 224).value)
        except (BagError, ValueError) as error:
            raise StartError(f"parameter bag: {error}") from error
        self._random = np.random.default_rng(0)
        self._place = self._chunks = self._commands = 0
        self._due_ns = 0
        self._last_chunk = 0
        self._untold: dict[int, None] = {}
        self._waiting: dict[int, None] = {}
        self._samples: dict[str, list[float]] = {name: [] for name in SAMPLES}
        self._stamps: dict[str, list[int]] = {name: [] for name in SAMPLES}
        self._position, self._width = np.array([0.5, 0.0, 0.3]), 0.08
        self._image_publishers = [self.create_publisher(Image, name, qos.SENSOR) for name, _ in CAMERAS]
        self._states = self.create_publisher(msg.RobotState, topics.ROBOT_STATE, qos.SENSOR)
        self._episode = self.create_publisher(msg.EpisodeStatus, topics.EPISODE_STATUS, qos.STATE)
        self.create_subscription(msg.ControlCommand, topics.COMMAND, self._on_command, qos.command_profile(TICK_S))
        self.create_subscription(msg.ActionChunk, topics.ACTION_CHUNK, self._on_chunk, qos.PLAN)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._state_timer = self.create_timer(TICK_S, self._tell_state, clock=steady)
        self._priority = RaisedPriority(0, PRIORITY)
        wait = TRIGGER_DELAY_S if self._triggered else 1.0
        self._timer = self.create_timer(wait, self._show, clock=steady, autostart=not self._triggered)
        status = msg.EpisodeStatus(
            episode_id=1, state=msg.EpisodeStatus.STATE_RUNNING, task="pick_and_place", instruction=INSTRUCTION
        )
        status.header.stamp = self.get_clock().now().to_msg()
        self._episode.publish(status)

    def destroy_node(self) -> None:
        """Print the samples and end."""
        # What was shown last may still be on its way.
        lost = [stamp for stamp in self._waiting if self._now_ns() - stamp > 500_000_000]
        samples = {name: [round(value, 3) for value in values] for name, values in self._samples.items()}
        stamps = {**self._stamps, "lost": lost}
        print(json.dumps({**samples, "lost": len(lost), "commands": self._commands, "stamps": stamps}), flush=True)
        super().destroy_node()

    def _tell_state(self) -> None:
        state = RobotState(
            self._now_ns(), self._position, np.array([1.0, 0.0, 0.0, 0.0]), np.zeros(7), np.zeros(7), self._width
        )
        self._states.publish(robot_state_message(state, _JOINTS, topics.BASE_FRAME))

    def _show(self) -> None:
        shot = self._shots[self._place % len(self._shots)]
        self._place += 1
        following = self._shots[self._place % len(self._shots)]
        wait_ns = max(following.at_ns - shot.at_ns, int(TICK_S * 1e9))
        now = self.get_clock().now()
        stamp = now.to_msg()
        for publisher, image in zip(self._image_publishers, shot.images, strict=True):
            image.header.stamp = stamp
            publisher.publish(image)
        if self._chunks >= WARM_UP:
            self._untold[now.nanoseconds] = self._waiting[now.nanoseconds] = None
        if self._triggered:
            # After the tick nearest to when it was taken.
            self._timer.cancel()
            self._due_ns = now.nanoseconds + wait_ns - int((TRIGGER_DELAY_S + TICK_S / 2) * 1e9)
        else:
            # A camera with a clock of its own: at any moment between two ticks.
            self._timer.timer_period_ns = wait_ns + int(self._random.integers(0, int(TICK_S * 1e9)))
            self._timer.reset()

    def _on_chunk(self, chunk: msg.ActionChunk, about: MessageInfo) -> None:
        self._chunks += 1
        if self._chunks == WARM_UP:
            print(json.dumps({"following": True}), flush=True)
        stamp = to_ns(chunk.header.stamp)
        if stamp in self._waiting:
            self._sample("to_chunk", stamp, about["received_timestamp"])

    def _on_command(self, command: msg.ControlCommand, about: MessageInfo) -> None:
        received_ns = about["received_timestamp"]
        self._commands += 1
        target = command.target
        if target.orientation.x or target.orientation.w:
            self._position = np.array([target.position.x, target.position.y, target.position.z])
            self._width = float(command.gripper_width)
        for stamp in [item for item in self._untold if item < received_ns]:
            self._sample("to_tick", stamp, received_ns)
            del self._untold[stamp]
        follows = command.mode == msg.ControlCommand.MODE_FOLLOW and command.chunk_id != self._last_chunk
        if follows:
            self._last_chunk = command.chunk_id
            stamp = to_ns(command.provenance.observation_stamp)
            if stamp in self._waiting:
                del self._waiting[stamp]
                self._sample("to_command", stamp, received_ns)
        if self._triggered and self._timer.is_canceled() and self._now_ns() >= self._due_ns:
            self._timer.reset()

    def _sample(self, name: str, stamp_ns: int, received_ns: int) -> None:
        self._samples[name].append((received_ns - stamp_ns) * 1e-6)
        self._stamps[name].append(stamp_ns)

    def _now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)


def shots(bag: Bag, size: int) -> list[Shot]:
    """Pictures of a bag that were taken at the same moment by all cameras, (size, size) pixels, in time order.

    Raises:
        ValueError: if there are fewer than two.
    """
    found: dict[int, dict[str, Image]] = {}
    count = 0
    for entry in bag.messages([topic for topic, _ in CAMERAS]):
        stamp = stamp_ns(entry.message.header)
        topic, frame = next(camera for camera in CAMERAS if entry.topic.endswith(camera[0]))
        pixels = cv2.resize(image_pixels(entry.message), (size, size), interpolation=cv2.INTER_LINEAR)
        images = found.setdefault(stamp, {})
        count += topic not in images and len(images) == len(CAMERAS) - 1
        images[topic] = image_message(np.asarray(pixels, dtype=np.uint8), 0, frame)
        if count >= LIMIT:
            break
    whole = sorted(stamp for stamp, images in found.items() if len(images) == len(CAMERAS))
    if len(whole) < 2:
        raise ValueError(f"{bag.path} holds {len(whole)} pairs of pictures of {' and '.join(t for t, _ in CAMERAS)}")
    return [Shot(stamp - whole[0], tuple(found[stamp][topic] for topic, _ in CAMERAS)) for stamp in whole]


def main(args: Sequence[str] | None = None) -> int:
    """Show the pictures until a signal comes."""
    return run(BenchmarkPictures, None if args is None else list(args))


if __name__ == "__main__":
    raise SystemExit(main())
