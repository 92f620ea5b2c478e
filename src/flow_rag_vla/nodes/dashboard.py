# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The live page's node: it hears the graph, keeps the newest of everything, and serves it to those who look.

It must never cost the loop anything. Nothing wakes it but its own timer: every subscription is polled. What is large or
quick (pictures, commands) is subscribed to only while somebody looks, best effort, so that no publisher ever waits for
it; everything slows down while the loop reports late ticks; and the process steps back behind the others.

Threads. The executor's does all of ROS. The gateway's serves HTTP; it reads the board, which has a lock, and calls
services through ``GraphCalls``. The emergency stop is published from the gateway's thread at once.
"""

from __future__ import annotations

import io
import os
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus, KeyValue
from numpy.typing import NDArray
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image

from flow_rag_vla.bringup import live, topics
from flow_rag_vla.bringup.deliberation import PLAN_REVIEW
from flow_rag_vla.bringup.parameters.dashboard import DashboardParameters
from flow_rag_vla.data import message_values
from flow_rag_vla.data.message_values import MessageError
from flow_rag_vla.gateway.live.board import Board, Picture
from flow_rag_vla.gateway.live.health import Readiness
from flow_rag_vla.gateway.live.pace import Audience, Pace
from flow_rag_vla.gateway.live.reviews import Reviews
from flow_rag_vla.nodes import dashboard_views as views
from flow_rag_vla.nodes import qos
from flow_rag_vla.nodes.complaints import Complaints
from flow_rag_vla.nodes.diagnostics import OK, Diagnostics, Health
from flow_rag_vla.nodes.frames import Frames
from flow_rag_vla.nodes.overlays import Overlays
from flow_rag_vla.nodes.parameters import NodeParameters
from flow_rag_vla.nodes.polling import PolledSubscription
from flow_rag_vla.nodes.runtime import StartError, run
from flow_rag_vla.nodes.stamps import to_ns
from flow_rag_vla_interfaces import msg

if TYPE_CHECKING:
    from flow_rag_vla.gateway.access import Access
    from flow_rag_vla.gateway.server import Server
    from flow_rag_vla.nodes.dashboard_calls import GraphCalls

IDLE_PERIOD_S = 0.5
"""How often the slow topics are read while nobody looks."""

SLOW_PERIOD_S = 1.0

QUICK = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=32, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Commands and plans, between two looks. Best effort: the loop's publisher waits for no acknowledgement of ours."""

REVIEWS = QoSProfile(
    history=HistoryPolicy.KEEP_LAST,
    depth=16,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)
"""As they are published, with room for those that come between two looks."""

REPORTS = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=64, reliability=ReliabilityPolicy.BEST_EFFORT)


class Dashboard(Node):
    """See the module."""

    def __init__(self) -> None:
        super().__init__(live.DASHBOARD)
        self._settings = NodeParameters(self, DashboardParameters, self._changed)
        settings = self._settings.value
        for name, form in (("front_camera", "x y z x y z"), ("wrist_camera", "x y z roll pitch yaw")):
            if (count := len(getattr(settings, name))) not in (0, 6):
                raise StartError(f"{name} has {count} numbers, expected {form}, or none")
        self._complain = Complaints(self.get_logger())
        self._board = Board()
        self._pace = Pace(settings.image_rate, settings.data_rate)
        self._audience = Audience()
        self._readiness = Readiness(settings.expected)
        self._reviews = Reviews()
        self._overlays = Overlays(self, self._board)
        self._frames = Frames(self, settings, self._complain) if settings.frames else None
        self._calls: GraphCalls | None = None
        self._server: Server | None = None
        self._slow_due_s = self._images_due_s = 0.0
        self._pictures = 0
        self._quick: dict[str, PolledSubscription[Any]] = {}
        self._front: dict[str, PolledSubscription[Any]] = {}
        self._wrist: dict[str, PolledSubscription[Any]] = {}
        self._events: tuple[tuple[PolledSubscription[Any], Callable[[Any], None]], ...] = (
            self._polled(msg.FailureEvent, topics.FAILURE_EVENT, qos.EVENT, self._on_failure),
            self._polled(msg.EpisodeStatus, topics.EPISODE_STATUS, qos.STATE, self._on_episode),
            self._polled(msg.PlanReview, PLAN_REVIEW, REVIEWS, self._on_review),
            self._polled(msg.LoopStatistics, topics.LOOP_STATISTICS, qos.STATE, self._on_loop),
            self._polled(msg.MemoryStatistics, topics.MEMORY_STATISTICS, qos.STATE, self._on_memory),
            # How the memory answered a failure is kept also while nobody looks.
            self._polled(msg.Correction, topics.CORRECTION, QUICK, self._on_correction),
            self._polled(msg.ActionChunk, topics.ACTION_CHUNK, QUICK, self._on_chunk),
            self._polled(DiagnosticArray, topics.DIAGNOSTICS, REPORTS, self._on_diagnostics),
        )
        self._overall = self.create_publisher(DiagnosticStatus, live.OVERALL_TOPIC, qos.STATE)
        self._aggregated = self.create_publisher(DiagnosticArray, live.AGGREGATED_TOPIC, 1)
        self._diagnostics = Diagnostics(self, "live page", self._health)
        self._timer = self.create_timer(IDLE_PERIOD_S, self._turn, clock=Clock(clock_type=ClockType.STEADY_TIME))
        if settings.niceness:
            os.nice(settings.niceness)
        if settings.page:
            self._serve(settings)

    def destroy_node(self) -> None:
        """End the server, then the node."""
        if getattr(self, "_server", None) is not None:
            self._server.stop()  # type: ignore[union-attr]
        if getattr(self, "_calls", None) is not None:
            self._calls.destroy()  # type: ignore[union-attr]
        super().destroy_node()

    def _changed(self, settings: DashboardParameters) -> None:
        self._pace.configure(settings.image_rate, settings.data_rate)

    def _serve(self, settings: DashboardParameters) -> None:
        try:
            from flow_rag_vla.gateway.app import make_app
            from flow_rag_vla.gateway.live.routes import live_section
            from flow_rag_vla.gateway.server import Server, ServerError
            from flow_rag_vla.nodes.dashboard_calls import GraphCalls
        except ModuleNotFoundError as error:
            raise StartError(
                f"the live page needs the module {error.name}; install it with: pip install 'flow_rag_vla[web]', or "
                "set the parameter page to false"
            ) from error
        access, secrets = _access(settings.tokens)
        self._calls = GraphCalls(self, self._board)
        section = live_section(
            self._board,
            self._calls,
            self._pace,
            self._audience,
            self._readiness,
            Path(settings.export_folder).expanduser(),
        )
        app = make_app(access, [section])
        self._server = Server(app, settings.host, settings.port)
        try:
            try:
                self._server.start()
            except ServerError as error:
                if not secrets:
                    # Whoever made the tokens has told people the address.
                    raise
                # Another graph's page, on a machine with two: a page is no reason to end one of them.
                self.get_logger().warning(f"{error}; this page takes a free port")
                self._server = Server(app, settings.host, 0)
                self._server.start()
        except ServerError as error:
            raise StartError(str(error)) from error
        for name, secret in secrets.items():
            # Once, and not through the logger, which would keep it in a file.
            print(f"{name}: {self._server.url}live/#token={secret}", flush=True)
        self.get_logger().info(f"the live page is at {self._server.url}")

    def _polled(
        self, kind: Any, topic: str, profile: QoSProfile, handler: Callable[[Any], None]
    ) -> tuple[PolledSubscription[Any], Callable[[Any], None]]:
        return PolledSubscription(self, kind, topic, profile), handler

    # One turn of the timer.

    def _turn(self) -> None:
        now_s = time.monotonic()
        looking = self._audience.looking(now_s) or self._overlays.wanted
        self._watch(self._quick, looking, {"commands": (msg.ControlCommand, topics.COMMAND, QUICK)})
        images = looking and self._audience.looking_at_images(now_s)
        self._watch(
            self._front,
            images or self._overlays.wants_picture,
            {
                "image": (Image, topics.FRONT_IMAGE, qos.NEWEST),
                "info": (CameraInfo, topics.FRONT_INFO, qos.NEWEST),
            },
        )
        self._watch(self._wrist, images, {"image": (Image, topics.WRIST_IMAGE, qos.NEWEST)})
        for subscription, handler in self._events:
            for message, _ in subscription.take():
                self._safely(handler, message)
        if self._quick:
            taken = [message for message, _ in self._quick["commands"].take()]
            self._board.add_commands([views.command_seen(message) for message in taken])
        rates = self._pace.rates(now_s)
        if self._front and now_s >= self._images_due_s:
            self._images_due_s = now_s + 1.0 / rates.image_hz
            self._take_pictures(images)
        self._overlays.publish_paths()
        if self._frames is not None:
            self._frames.turn(2**rates.level)
        if now_s >= self._slow_due_s:
            self._slow_due_s = now_s + SLOW_PERIOD_S
            self._tell_overall(now_s)
            self._tell_person(now_s)
            self._overlays.publish_workspace()
        period_ns = int(1e9 / rates.data_hz) if looking else int(IDLE_PERIOD_S * 1e9)
        if self._timer.timer_period_ns != period_ns:
            self._timer.timer_period_ns = period_ns

    def _watch(self, held: dict[str, PolledSubscription[Any]], wanted: bool, topics_of: dict[str, Any]) -> None:
        if wanted and not held:
            for name, (kind, topic, profile) in topics_of.items():
                held[name] = PolledSubscription(self, kind, topic, profile)
        elif held and not wanted:
            for subscription in held.values():
                subscription.destroy()
            held.clear()
            if held is self._quick:
                self._board.forget_motion()

    def _safely(self, handler: Callable[[Any], None], message: Any) -> None:
        try:
            handler(message)
        except (MessageError, ValueError) as error:
            self._complain(str(error))

    def _take_pictures(self, looking: bool) -> None:
        """Those of the front camera, for the page and for who listens to the drawn one; the wrist's for the page."""
        for message, _ in self._front["info"].take()[-1:]:
            self._safely(self._on_info, message)
        for message, _ in self._front["image"].take()[-1:]:
            self._safely(partial(self._on_front, looking), message)
        if self._wrist:
            for message, _ in self._wrist["image"].take()[-1:]:
                self._safely(lambda image: self._on_image("wrist", image, message_values.image_pixels(image)), message)

    def _on_front(self, looking: bool, message: Image) -> None:
        pixels = message_values.image_pixels(message)
        self._overlays.publish_picture(pixels, message.header)
        if looking:
            self._on_image("front", message, pixels)

    def _on_image(self, camera: str, message: Image, pixels: NDArray[np.uint8]) -> None:
        from PIL import Image as Pillow

        encoded = io.BytesIO()
        Pillow.fromarray(pixels).save(encoded, "JPEG", quality=self._settings.value.jpeg_quality)
        stamp_ns = to_ns(message.header.stamp)
        height, width = pixels.shape[:2]
        self._board.set_picture(Picture(camera, stamp_ns, int(width), int(height), encoded.getvalue()))
        self._pictures += 1

    def _on_info(self, message: CameraInfo) -> None:
        pose = self._settings.value.front_camera
        if not pose and self.count_publishers(topics.GROUND_TRUTH):
            pose = live.SIMULATED_FRONT_CAMERA
        self._board.set_camera("front", views.still_camera(message, pose) if pose else None)

    def _on_failure(self, message: msg.FailureEvent) -> None:
        self._board.add_failure(views.failure_seen(message))

    def _on_episode(self, message: msg.EpisodeStatus) -> None:
        self._board.set_part("episode", views.episode_view(message))

    def _on_review(self, message: msg.PlanReview) -> None:
        if not message.open:
            self._reviews.closed(message.deliberation_id)
            return
        # A latched one is as old as its stamp says.
        age_s = (self.get_clock().now().nanoseconds - to_ns(message.header.stamp)) / 1e9
        left_s = float(message.time_left) - max(age_s, 0.0)
        view = views.plan_view(message, (time.time() + left_s) * 1e3)
        self._reviews.asked(message.deliberation_id, view, time.monotonic() + left_s)

    def _tell_person(self, now_s: float) -> None:
        episode = self._board.part("episode") or {}
        judged = episode.get("state") == "running" and self._calls is not None and self._calls.scored_by_people
        asked = {"plans": self._reviews.waiting(now_s), "episode": episode["id"] if judged else 0}
        if asked != self._board.part("person"):
            self._board.set_part("person", asked)

    def _on_loop(self, message: msg.LoopStatistics) -> None:
        self._pace.report(int(message.late_ticks + message.skipped_ticks), time.monotonic())
        self._board.set_part("loop", views.loop_view(message))

    def _on_memory(self, message: msg.MemoryStatistics) -> None:
        self._board.set_part("memory", views.memory_view(message))

    def _on_correction(self, message: msg.Correction) -> None:
        similarities = [float(item.similarity) for item in message.cases]
        self._board.set_correction(message_values.correction(message), similarities)

    def _on_chunk(self, message: msg.ActionChunk) -> None:
        self._board.set_chunk(message_values.action_chunk(message), float(message.inference_ms))

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        namespace = self.get_namespace().strip("/")
        for status in message.status:
            folder, _, name = status.name.rpartition("/")
            if folder == namespace:
                self._board.set_node(name, views.node_view(status, time.monotonic()))

    def _tell_overall(self, now_s: float) -> None:
        nodes = self._board.nodes()
        overall = self._readiness.overall(nodes, now_s)
        level = bytes([overall.level])
        self._overall.publish(DiagnosticStatus(level=level, name="graph", message=overall.sentence))
        self._board.set_part("overall", {"level": overall.level, "message": overall.sentence})
        if not self._aggregated.get_subscription_count():
            return
        array = DiagnosticArray(status=[DiagnosticStatus(level=level, name="/graph", message=overall.sentence)])
        array.header.stamp = self.get_clock().now().to_msg()
        for name, node_level in overall.nodes.items():
            values = nodes.get(name, {"message": "has not reported", "hardware": "", "figures": {}})
            array.status.append(
                DiagnosticStatus(
                    level=bytes([node_level]),
                    name=f"/graph/{name}",
                    message=values["message"],
                    hardware_id=values["hardware"],
                    values=[KeyValue(key=key, value=value) for key, value in values["figures"].items()],
                )
            )
        self._aggregated.publish(array)

    def _health(self) -> Health:
        rates = self._pace.rates(time.monotonic())
        figures = {
            "address": self._server.url if self._server is not None else "",
            "viewers": self._audience.size,
            "pictures": self._pictures,
            "pace_level": rates.level,
            "image_rate": rates.image_hz,
            "arm": self._frames.status if self._frames is not None else "",
            "frames": self._frames.sent if self._frames is not None else 0,
            "refused": self._complain.count,
            "last_problem": self._complain.last,
        }
        if rates.level:
            return OK, f"yields to the loop: {rates.image_hz:g} pictures a second", figures
        size = self._audience.size
        return OK, f"{size} {'page is' if size == 1 else 'pages are'} open", figures


def _access(path: str) -> tuple[Access, dict[str, str]]:
    """Tokens of a file, or new ones with their secrets by name."""
    from flow_rag_vla.gateway.access import Access, AccessError, Role, Token, load_access, new_token

    if path:
        try:
            return load_access(Path(path).expanduser()), {}
        except AccessError as error:
            raise StartError(f"parameter tokens: {error}") from error
    tokens: list[Token] = []
    secrets: dict[str, str] = {}
    for role in (Role.VIEWER, Role.OPERATOR):
        token, secret = new_token(role.word, role)
        tokens.append(token)
        secrets[role.word] = secret
    return Access(tokens), secrets


def main(args: Sequence[str] | None = None) -> int:
    """Run the live page's node."""
    return run(Dashboard, None if args is None else list(args))


if __name__ == "__main__":
    raise SystemExit(main())
