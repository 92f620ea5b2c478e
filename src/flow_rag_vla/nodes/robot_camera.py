# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The cameras of a real arm in the simulated ones' place: checked, and under our names, in a process of their own.

The bridge to the arm must be in time and therefore shares no memory with anybody; what sends images must, for programs
that are no nodes of ours. And whatever a camera sends, it can only cost images here.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from rclpy.node import Node
from sensor_msgs.msg import CameraInfo, CompressedImage, Image

from flow_rag_vla.bringup import topics
from flow_rag_vla.bringup.discovery import Transport, short_buffer
from flow_rag_vla.bringup.parameters.robot import RobotCameraParameters
from flow_rag_vla.data.message_values import MessageError, image_pixels
from flow_rag_vla.nodes import qos
from flow_rag_vla.nodes.complaints import Complaints
from flow_rag_vla.nodes.conversions import image_message
from flow_rag_vla.nodes.diagnostics import OK, WARN, Diagnostics, Health
from flow_rag_vla.nodes.listening import Listener
from flow_rag_vla.nodes.parameters import NodeParameters
from flow_rag_vla.nodes.robot_profile import profile_of
from flow_rag_vla.nodes.runtime import StartError, run
from flow_rag_vla.nodes.stamps import to_ns
from flow_rag_vla.robot.camera_feed import Calibration, CameraFeed, lost_on_the_way, why_no_image
from flow_rag_vla.robot.pictures import PictureError, decoded
from flow_rag_vla.robot.profile import Camera

CAMERA_TOPICS = {
    "front": (topics.FRONT_IMAGE, topics.FRONT_INFO),
    "wrist": (topics.WRIST_IMAGE, topics.WRIST_INFO),
}


class RobotCamera(Node):
    """Passes on what the cameras of a profile send, as rgb8 and with the stamps of their drivers."""

    def __init__(self) -> None:
        super().__init__("robot_camera")
        self._complain = Complaints(self.get_logger())
        self._settings = NodeParameters(self, RobotCameraParameters)
        self._profile = profile = profile_of(self._settings.value.profile)
        if not profile.cameras:
            raise StartError(f"{profile.file}: names no cameras; add some, or do without this node")
        self._sentence = ""
        self._room = short_buffer()
        self._feeds: list[CameraFeed] = []
        self._cameras: dict[str, Camera] = {}
        self._listeners: dict[str, Listener[Any]] = {}
        for camera in profile.cameras:
            self._pass_on(camera)
        self._diagnostics = Diagnostics(self, profile.name, self._health)
        self.get_logger().info(f"{profile.name}: waiting for images of {', '.join(self._cameras) or 'no camera'}")

    def _pass_on(self, camera: Camera) -> None:
        image_topic, info_topic = CAMERA_TOPICS[camera.role]
        resolve = self.resolve_topic_name
        feed = CameraFeed(camera.role, self._settings.value.max_image_age)
        # Else its driver publishes where the graph listens.
        if camera.compressed or resolve(camera.image) != resolve(image_topic):
            images = self.create_publisher(Image, image_topic, qos.SENSOR)
            kind, read = (CompressedImage, _unpacked) if camera.compressed else (Image, as_rgb8)
            # Reliable or best effort, drivers publish both; a best effort subscription takes either.
            take, limit = self._receiver(feed, read, images.publish), lambda: self._settings.value.listen_again
            self._listeners[camera.role] = Listener(self, kind, camera.image, take, qos.NEWEST, limit)
            self._feeds.append(feed)
            self._cameras[camera.role] = camera
        if camera.info and resolve(camera.info) != resolve(info_topic):
            infos = self.create_publisher(CameraInfo, info_topic, qos.SENSOR)
            self.create_subscription(CameraInfo, camera.info, self._informer(feed, infos.publish), qos.NEWEST)

    def _receiver(
        self, feed: CameraFeed, read: Callable[[Any], Image], publish: Callable[[Image], None]
    ) -> Callable[[Any], None]:
        def receive(message: Any) -> None:
            stamp_ns = to_ns(message.header.stamp)
            feed.max_age_s = self._settings.value.max_image_age
            try:
                feed.check_stamp(stamp_ns, self.get_clock().now().nanoseconds)
                image = read(message)
            except (MessageError, PictureError) as error:
                feed.refused += 1
                self._refuse(feed.role, error)
                return
            publish(image)
            feed.took(stamp_ns, (image.width, image.height), time.monotonic_ns())

        return receive

    def _informer(self, feed: CameraFeed, publish: Callable[[CameraInfo], None]) -> Callable[[CameraInfo], None]:
        def receive(info: CameraInfo) -> None:
            try:
                feed.check_calibration(_calibration(info))
            except PictureError as error:
                self._refuse(feed.role, error)
                return
            publish(info)
            feed.infos += 1

        return receive

    def _refuse(self, role: str, error: Exception) -> None:
        self._complain(f"not passed on from the {role} camera: {error}")

    def _health(self) -> Health:
        now_ns, limit = time.monotonic_ns(), self._settings.value.silence
        figures: dict[str, object] = {
            "profile": self._profile.file,
            "passed": sum(feed.passed for feed in self._feeds),
            "refused": self._complain.count,
            "last_refusal": self._complain.last,
        }
        wrong = []
        for feed in self._feeds:
            role, silence = feed.role, feed.silence_s(now_ns)
            if silence is None:
                camera = self._cameras[role]
                types = [info.topic_type for info in self.get_publishers_info_by_topic(camera.image)]
                wrong.append(why_no_image(role, camera.image, camera.compressed, types, feed.refused, self._room))
            elif silence > limit:
                wrong.append(f"the {role} camera is silent")
            elif lost := lost_on_the_way(feed.size, self._room):
                wrong.append(f"{role}: {lost}")
            figures |= {
                f"{role}_passed": feed.passed,
                f"{role}_refused": feed.refused,
                f"{role}_infos": feed.infos,
                f"{role}_size": "x".join(str(pixels) for pixels in feed.size or ()),
                f"{role}_age_ms": round(1e3 * feed.age_s, 1),
                f"{role}_listened_anew": self._listeners[role].made_anew,
                f"{role}_silent_s": "" if silence is None else round(silence, 2),
            }
        sentence = ", ".join(wrong) or ("passing images on" if self._feeds else "every driver publishes to the graph")
        self._say(sentence, bool(wrong))
        return WARN if wrong else OK, sentence, figures

    def _say(self, sentence: str, wrong: bool) -> None:
        """Log what changed since the last report; that images are not there at the start, everybody expects."""
        before, self._sentence = self._sentence, sentence
        if sentence == before:
            return
        # rclpy ties a severity to a place in the code.
        if not wrong:
            self.get_logger().info(sentence)
        elif before:
            self.get_logger().warning(sentence)


def as_rgb8(message: Image) -> Image:
    """The image itself if it is rgb8, else what it shows as rgb8.

    Raises:
        MessageError: for another encoding than ``image_pixels`` reads, or a size that does not fit the data.
    """
    pixels = image_pixels(message)
    if message.encoding == "rgb8":
        return message
    return image_message(pixels, to_ns(message.header.stamp), message.header.frame_id)


def _unpacked(message: CompressedImage) -> Image:
    return image_message(decoded(message.data), to_ns(message.header.stamp), message.header.frame_id)


def _calibration(info: CameraInfo) -> Calibration:
    part = bool(info.roi.width or info.roi.height)
    reduced = part or max(info.binning_x, info.binning_y) > 1
    return Calibration(int(info.width), int(info.height), reduced, [*info.d, *info.k, *info.r, *info.p])


def main(args: Sequence[str] | None = None) -> int:
    """Run the cameras of a real arm."""
    return run(RobotCamera, None if args is None else list(args), transport=Transport.PICTURES)


if __name__ == "__main__":
    raise SystemExit(main())
