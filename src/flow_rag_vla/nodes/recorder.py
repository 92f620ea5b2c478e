# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Records the graph into one MCAP bag, bytes as they come, without decoding any of them.

Messages are fetched in batches by a thread of their own instead of waking the executor one by one: with two dozen
topics the executor's own work for each message would cost several times what recording it does, and for each batch as
much as fetching it. Stamps in the bag are the times at which the middleware received a message (system clock), so
batching does not show in them.
"""

from __future__ import annotations

import importlib
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node, NodeNameNonExistentError
from rclpy.qos import DurabilityPolicy, HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.topic_endpoint_info import TopicEndpointInfo
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime

from flow_rag_vla.bringup.parameters.recorder import RecorderParameters
from flow_rag_vla.bringup.profiles import BRIDGE, HEARING_THE_ARM, PARAMETER_EVENTS, PROFILES, SENSED_TYPES
from flow_rag_vla.data.bag_writer import BagWriter
from flow_rag_vla.data.recording import Recording, free_folder
from flow_rag_vla.data.split_writer import SplitBagWriter
from flow_rag_vla.nodes.complaints import remember
from flow_rag_vla.nodes.diagnostics import ERROR, OK, WARN, Diagnostics, Health
from flow_rag_vla.nodes.parameter_snapshot import ParameterSnapshot
from flow_rag_vla.nodes.parameters import NodeParameters
from flow_rag_vla.nodes.polling import PolledSubscription
from flow_rag_vla.nodes.runtime import StartError, run

FETCH_PERIOD_S = 0.05
DEPTH = 200
"""Messages of a topic that the middleware keeps between two fetches: 50 ms of a 4 kHz topic."""

ALONE_S = 5.0
"""Seconds after which a recorder that nobody publishes for says so."""

LOOKED_AT_EVERY = 10
"""Discoveries after which a topic's publishers are asked for what they offer, though they are as many as before: to ask
takes half a millisecond of two dozen topics' each time, and somebody else's publisher may have taken one's place."""


@dataclass(frozen=True, slots=True)
class _Source:
    """A topic being recorded, and the reception that fits all of its publishers."""

    subscription: PolledSubscription[Any]
    msgtype: str
    reliable: bool
    latched: bool


class Recorder(Node):
    """Subscribes to whatever the graph publishes and hands the bytes to a :class:`Recording`."""

    def __init__(self) -> None:
        super().__init__("recorder")
        self._settings = NodeParameters(self, RecorderParameters)
        settings = self._settings.value
        asked = (*PROFILES[settings.profile], *settings.topics)
        self._everything = "*" in asked
        named = [topic for topic in asked if topic != "*"]
        excluded = {self.resolve_topic_name(topic) for topic in settings.exclude}
        self._wanted = {self.resolve_topic_name(topic) for topic in named} - excluded
        self._excluded = excluded
        self._hears_arm = settings.profile in HEARING_THE_ARM
        self._sources: dict[str, _Source] = {}
        # Held while messages are fetched, and while a source changes.
        self._fetching = threading.Lock()
        self._publisher_counts: dict[str, int] = {}
        self._discoveries = 0
        self._alone = True
        self._began_s = time.monotonic()
        self._unsupported: set[str] = set()
        folder = free_folder(Path(settings.bag).expanduser())
        try:
            writer = _writer(folder, settings)
        except OSError as error:
            raise StartError(f"bag {str(folder)!r} cannot be made ({error}); name a folder to write to") from error
        self._recording = Recording(
            writer,
            queue_bytes=int(settings.queue * 1e6),
            checkpoint_period_s=settings.checkpoint_period,
            minimum_free_bytes=int(settings.minimum_free * 1e6),
            on_problem=self._on_problem,
        )
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._snapshot = ParameterSnapshot(self, self._put_parameters)
        self.create_timer(settings.discovery_period, self._discover, clock=steady)
        self._diagnostics = Diagnostics(self, "mcap bag", self._health)
        self._discover()
        self._ended = False
        self._fetcher = threading.Thread(target=self._fetch_on, name="fetcher", daemon=True)
        self._fetcher.start()
        self.get_logger().info(f"recording into {folder}")

    def destroy_node(self) -> None:
        """Fetch what is there, close the bag, destroy the node."""
        self._ended = True
        self._fetcher.join()
        self._fetch()
        figures = self._recording.close()
        self.get_logger().info(
            f"{self._recording.folder}: {figures.messages} messages of {figures.topics} topics, "
            f"{figures.file_bytes / 1e6:.1f} MB, {figures.dropped} dropped"
        )
        super().destroy_node()

    def _on_problem(self, sentence: str) -> None:
        self.get_logger().error(remember(self.get_logger().name, sentence))

    def _discover(self) -> None:
        thorough = self._discoveries % LOOKED_AT_EVERY == 0
        self._discoveries += 1
        if self._hears_arm:
            # Once of the arm, for good: a bridge that died tells nothing, and the arm goes on.
            self._wanted |= self._arm_topics() - self._excluded
        for topic, types in self.get_topic_names_and_types():
            if topic in self._excluded or topic in self._unsupported:
                continue
            # A hidden topic (a part that begins with an underscore) belongs to an action or to the middleware.
            hidden = any(part.startswith("_") for part in topic.split("/"))
            if topic in self._wanted or (self._everything and not hidden):
                count = self.count_publishers(topic)
                if count == self._publisher_counts.get(topic, 0) and not thorough:
                    continue
                self._publisher_counts[topic] = count
                publishers = self.get_publishers_info_by_topic(topic)
                if publishers:
                    with self._fetching:
                        self._listen(topic, types[0], publishers)
                    # Every node has these two.
                    others = any(info.node_name != self.get_name() for info in publishers)
                    self._alone = self._alone and not (others and topic not in (PARAMETER_EVENTS, "/rosout"))
        if PARAMETER_EVENTS in self._sources:
            self._snapshot.look()
        if self._alone and time.monotonic() - self._began_s >= ALONE_S:
            self._alone = False
            self.get_logger().warning(
                f"nobody publishes what is to be recorded yet (namespace {self.get_namespace()!r}, ROS_DOMAIN_ID "
                f"{os.environ.get('ROS_DOMAIN_ID') or 0}); it is recorded as soon as somebody does"
            )

    def _arm_topics(self) -> set[str]:
        """Joint states and wrench of the arm in this namespace, under the names that its profile has for them."""
        try:
            heard = self.get_subscriber_names_and_types_by_node(BRIDGE, self.get_namespace())
        except NodeNameNonExistentError:
            return set()
        return {topic for topic, types in heard if not SENSED_TYPES.isdisjoint(types)}

    def _put_parameters(self, data: bytes, received_ns: int) -> None:
        self._recording.put(PARAMETER_EVENTS, received_ns, data)

    def _listen(self, topic: str, msgtype: str, publishers: list[TopicEndpointInfo]) -> None:
        reliable = all(info.qos_profile.reliability == ReliabilityPolicy.RELIABLE for info in publishers)
        latched = all(info.qos_profile.durability == DurabilityPolicy.TRANSIENT_LOCAL for info in publishers)
        source = self._sources.get(topic)
        if source is not None:
            if (source.reliable, source.latched) == (reliable, latched):
                return
            # A publisher with a weaker offer has come (or the only one has gone): ask for what all of them give.
            self._take(topic, source)
            source.subscription.destroy()
        else:
            try:
                self._recording.add_topic(topic, msgtype, tuple(_offered(info.qos_profile) for info in publishers))
                _message_class(msgtype)
            except (ImportError, AttributeError) as error:
                self._unsupported.add(topic)
                self._on_problem(f"{topic} is not recorded: no Python module of {msgtype} ({error})")
                return
        profile = QoSProfile(
            history=HistoryPolicy.KEEP_LAST,
            depth=DEPTH,
            reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
            durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
        )
        subscription: PolledSubscription[Any] = PolledSubscription(self, _message_class(msgtype), topic, profile)
        self._sources[topic] = _Source(subscription, msgtype, reliable, latched)

    def _fetch_on(self) -> None:
        # Not a wait with a timeout: one on the system clock would last longer when that is set back.
        while not self._ended:
            time.sleep(FETCH_PERIOD_S)
            self._fetch()

    def _fetch(self) -> None:
        with self._fetching:
            for topic, source in self._sources.items():
                self._take(topic, source)

    def _take(self, topic: str, source: _Source) -> None:
        for data, received_ns in source.subscription.take_serialized():
            self._recording.put(topic, received_ns or time.time_ns(), data)

    def _health(self) -> Health:
        figures = self._recording.figures()
        values: dict[str, object] = {
            "bag": str(self._recording.folder),
            "topics": figures.topics,
            "messages": figures.messages,
            "dropped": figures.dropped,
            "queue_mb": round(figures.queued_bytes / 1e6, 2),
            "received_mb": round(figures.written_bytes / 1e6, 2),
            "file_mb": round(figures.file_bytes / 1e6, 2),
        }
        if figures.problem:
            return ERROR, figures.problem, values
        if figures.dropped:
            return WARN, "messages were dropped: the disk is slower than the graph", values
        return OK, "recording", values


def _writer(folder: Path, settings: RecorderParameters) -> BagWriter | SplitBagWriter:
    if not settings.split_size and not settings.split_duration:
        return BagWriter(folder, compress=settings.compress)
    return SplitBagWriter(
        folder,
        compress=settings.compress,
        split_bytes=int(settings.split_size * 1e6),
        split_ns=int(settings.split_duration * 1e9),
    )


def _message_class(msgtype: str) -> Any:
    package, folder, name = msgtype.split("/")
    return getattr(importlib.import_module(f"{package}.{folder}"), name)


def _offered(profile: QoSProfile) -> Qos:
    def seconds(duration: Any) -> QosTime:
        return QosTime(*divmod(int(duration.nanoseconds), 1_000_000_000))

    return Qos(
        QosHistory(int(profile.history)),
        int(profile.depth),
        QosReliability(int(profile.reliability)),
        QosDurability(int(profile.durability)),
        seconds(profile.deadline),
        seconds(profile.lifespan),
        QosLiveliness(int(profile.liveliness)),
        seconds(profile.liveliness_lease_duration),
        False,
    )


def main(args: Sequence[str] | None = None) -> int:
    """Run the recorder node."""
    return run(Recorder, None if args is None else list(args))


if __name__ == "__main__":
    raise SystemExit(main())
