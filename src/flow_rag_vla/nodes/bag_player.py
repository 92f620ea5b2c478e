# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Plays a bag into the graph: every topic with the quality of service it had, and the bag's time on /clock.

One thread plays: it sleeps until a message is due, publishes its bytes as they were recorded, and moves /clock on
before them. The executor's thread answers the services; what both look at is the playback's, which guards it.
"""

from __future__ import annotations

import importlib
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from typing import Any

from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.publisher import Publisher
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    LivelinessPolicy,
    QoSCompatibility,
    QoSProfile,
    ReliabilityPolicy,
    qos_check_compatible,
)
from rclpy.topic_endpoint_info import TopicEndpointInfo
from rosbags.interfaces import Qos, QosDurability, QosLiveliness, QosReliability, QosTime
from rosgraph_msgs.msg import Clock
from std_srvs.srv import Trigger

from flow_rag_vla.bringup import topics
from flow_rag_vla.bringup.endpoints import ARM_TOPICS, TOPICS
from flow_rag_vla.bringup.parameters.bag_player import BagPlayerParameters
from flow_rag_vla.data.bag import Bag, BagError
from flow_rag_vla.data.definitions import UnknownTypeError
from flow_rag_vla.data.mcap_scan import McapChannel
from flow_rag_vla.data.playback import Playback
from flow_rag_vla.data.playlist import Playlist, playlist
from flow_rag_vla.data.transcode import TranscodeError, Transcoding, transcoding
from flow_rag_vla.evaluate.decisions.reading import bag_of
from flow_rag_vla.nodes import qos
from flow_rag_vla.nodes.complaints import remember
from flow_rag_vla.nodes.diagnostics import OK, WARN, Diagnostics, Health
from flow_rag_vla.nodes.parameters import NodeParameters
from flow_rag_vla.nodes.runtime import StartError, run
from flow_rag_vla.nodes.stamps import to_stamp

RECORDER = "recorder"
RECORDER_PATIENCE_S = 10.0
"""Discovery between two processes takes up to three seconds; what is not found by then is not wanted."""

STILL_WAITING_S = 20.0
"""After which it is said who hears nothing of the bag yet. A graph that was just started has its models to load."""

_UNLIMITED_NS = (2**31 - 1) * 10**9
"""DDS' own infinity is as many seconds; that of ROS is longer."""

LATCHED_SETTLE_S = 0.5
"""After the first subscribers are there: time for the others of a graph that has just been started."""

LINGER_S = 0.5
"""How long the node stays after the last message, which would otherwise die with its publisher on the way."""


class BagPlayer(Node):
    """Owns a bag and the clock."""

    def __init__(self) -> None:
        super().__init__("bag_player")
        self._settings = NodeParameters(self, BagPlayerParameters, self._on_change)
        settings = self._settings.value
        try:
            self._bag = Bag(bag_of(settings.bag))
            self._list: Playlist = playlist(self._bag, settings.topics, settings.mute, settings.remap)
        except (BagError, ValueError, OSError) as error:
            raise StartError(f"parameter bag: {error}") from error
        for problem in self._bag.problems:
            said = f"{problem}; it is played up to its last whole message"
            self.get_logger().warning(remember(self.get_logger().name, said))
        self._clock_publisher = self.create_publisher(Clock, topics.CLOCK, 10)
        self._outputs: dict[str, tuple[Publisher[Any], Transcoding | None]] = {}
        self._silent: dict[str, str] = {}
        for channel in self._bag.channels:
            self._open(channel)
        if not self._outputs:
            raise StartError(f"parameter bag: nothing of {self._bag.path} can be played; {self._why_silent()}")
        if settings.wait_for and (elsewhere := self._elsewhere()):
            name = elsewhere.strip("/")
            remedy = f"give --namespace {name} (namespace:={name} with ros2 launch)" if name else "give no namespace"
            raise StartError(
                f"parameter bag: its graph was in the namespace {elsewhere!r}; who is to follow it is in "
                f"{self.get_namespace()!r} and would hear nothing: {remedy}, or remap its topics"
            )
        self._playback = Playback(
            self._tell_time,
            lambda: self._settings.value.rate,
            lambda: self._settings.value.clock_period,
            paused=settings.paused,
        )
        self._position_ns = self._begin_ns = self._bag.start_ns + int(settings.start * 1e9)
        self._stop_ns = self._begin_ns + int(settings.duration * 1e9) if settings.duration else self._bag.end_ns + 1
        if self._begin_ns > self._bag.end_ns:
            length = (self._bag.end_ns - self._bag.start_ns) * 1e-9
            raise StartError(f"parameter start: {settings.start:g} s is beyond the bag, which lasts {length:.2f} s")
        self._sent = self._rounds = 0
        self._done = False
        for name, callback in (("pause", self._on_pause), ("resume", self._on_resume), ("step", self._on_step)):
            self.create_service(Trigger, f"bag_player/{name}", callback)
        self._diagnostics = Diagnostics(self, "bag player", self._health)
        self._thread = threading.Thread(target=self._play, name="player")
        self._thread.start()
        self.get_logger().info(
            f"playing {len(self._outputs)} topics of {self._bag.path}, "
            f"{(self._stop_ns - self._begin_ns) * 1e-9:.1f} s, {len(self._list.muted)} topics muted"
        )
        if self._list.withheld:
            self.get_logger().warning(
                f"not played, since a robot may obey it: {', '.join(self._list.withheld)}; name it with the parameter "
                "topics or remap (--topic, --remap) to play it"
            )

    def destroy_node(self) -> None:
        """End the thread, then the node."""
        if hasattr(self, "_thread"):
            self._playback.end()
            self._thread.join()
        super().destroy_node()

    def _open(self, channel: McapChannel) -> None:
        name = self._list.names.get(channel.topic)
        if name is None or channel.topic in self._outputs:
            return
        try:
            package, folder, kind = channel.msgtype.split("/")
            message_type = getattr(importlib.import_module(f"{package}.{folder}"), kind)
            convert = transcoding(channel)
        except (ImportError, AttributeError, ValueError, UnknownTypeError, TranscodeError) as error:
            if isinstance(error, ImportError):
                package = channel.msgtype.partition("/")[0]
                error = ImportError(f"the messages of package {package!r} are not installed here ({error})")
            self._silent[channel.topic] = str(error)
            problem = f"{channel.topic} is not played: {channel.msgtype}: {error}"
            self.get_logger().warning(remember(self.get_logger().name, problem))
            return
        if convert is not None:
            self.get_logger().info(f"{channel.topic}: {channel.msgtype} of another version is converted by field names")
        self._outputs[channel.topic] = self.create_publisher(message_type, name, self._profile(channel)), convert

    def _elsewhere(self) -> str:
        """The namespace of the bag's graph if nothing of that is played into this one; empty where that is not so."""
        names = [topic.name for topic in (*TOPICS, *ARM_TOPICS) if not topic.name.startswith("/")]
        here = {self.resolve_topic_name(name) for name in names}
        # By our own types: /lab/joint_states may be anybody's.
        own = {
            channel.topic for channel in self._bag.channels if channel.msgtype.startswith("flow_rag_vla_interfaces/")
        }
        played = {self._outputs[topic][0].topic_name for topic in own & self._outputs.keys()}
        if played & here:
            return ""
        found = {
            heard.removesuffix(f"/{name}") or "/" for heard in played for name in names if heard.endswith(f"/{name}")
        }
        return min(found, key=len, default="")

    def _profile(self, channel: McapChannel) -> QoSProfile:
        """As recorded; a bag that does not say gets what the graph declares for the topic."""
        if channel.qos:
            return offered_profile(channel.qos)
        for topic in (*TOPICS, *ARM_TOPICS):
            if topic.type == channel.msgtype and channel.topic.endswith("/" + topic.name):
                return qos.by_name(topic.qos)
        return offered_profile(())

    def _why_silent(self) -> str:
        if self._silent:
            topic, why = next(iter(self._silent.items()))
            return f"for example {topic}: {why}"
        return (
            f"its topics are {', '.join(self._bag.topics) or 'none'}, muted are {', '.join(self._list.muted) or 'none'}"
        )

    # The player's thread.

    def _play(self) -> None:
        try:
            self._wait_for_listeners()
            while self._round():
                self._rounds += 1
                if not self._settings.value.loop:
                    break
                self._position_ns = self._begin_ns
        except Exception as error:  # the thread must not vanish in silence
            problem = f"playing ended: {type(error).__name__}: {error}"
            self.get_logger().error(remember(self.get_logger().name, problem))
        self._done = True
        if self._settings.value.end and not self._playback.ended:
            time.sleep(LINGER_S)
            self.get_logger().info(f"end of the bag: {self._sent} messages played")
            os.kill(os.getpid(), signal.SIGINT)

    def _round(self) -> bool:
        """Play from begin to end once; whether it got there."""
        self._playback.begin(self._position_ns)
        for channel, stamp_ns, data in self._messages():
            if not self._playback.until(stamp_ns):
                return False
            publisher, convert = self._outputs[channel.topic]
            publisher.publish(data if convert is None else convert(data))
            self._sent += 1
        return self._playback.until(self._stop_ns)

    def _messages(self) -> Iterator[tuple[McapChannel, int, bytes]]:
        wanted = set(self._outputs)
        if self._begin_ns > self._bag.start_ns:
            # What a latecomer would know: the last word on each latched topic from before the start.
            yield from self._latched(wanted)
        yield from self._bag.raw(wanted, self._begin_ns, self._stop_ns)

    def _latched(self, wanted: set[str]) -> Iterator[tuple[McapChannel, int, bytes]]:
        latched = {
            channel.topic
            for channel in self._bag.channels
            if channel.topic in wanted and any(item.durability is QosDurability.TRANSIENT_LOCAL for item in channel.qos)
        }
        last: dict[str, tuple[McapChannel, bytes]] = {}
        for channel, _, data in self._bag.raw(latched, 0, self._begin_ns) if latched else ():
            last[channel.topic] = channel, data
        for channel, data in last.values():
            yield channel, self._begin_ns, data

    def _wait_for_listeners(self) -> None:
        """Hold the first message until the nodes that were asked for subscribe to something that is played.

        And until a recorder among them has what they tell each other: it finds topics by and by, and would miss the
        first of what the bag makes them say. That is not waited for beyond RECORDER_PATIENCE_S, as it may not want it.
        """
        wanted = set(self._settings.value.wait_for) - {RECORDER}
        recorded = RECORDER in self._settings.value.wait_for
        settled_ns = 0
        told = False
        still_ns = time.monotonic_ns() + int(STILL_WAITING_S * 1e9)
        patience_ns = time.monotonic_ns() + int(RECORDER_PATIENCE_S * 1e9)
        while wanted and not self._playback.ended:
            heard: set[str] = set()
            matched = True
            for publisher, _ in self._outputs.values():
                found = self.get_subscriptions_info_by_topic(publisher.topic_name)
                heard |= _nodes(found)
                # To be known in the graph is one thing, to receive another; incompatible ones never will, and are not
                # waited for: somebody's viewer must not keep a bag from being played.
                fitting = [info for info in found if _fits(publisher.qos_profile, info.qos_profile)]
                matched = matched and (publisher.get_subscription_count() > 0 or not fitting)
            now_ns = time.monotonic_ns()
            ready = wanted <= heard and matched
            if not told and not wanted <= heard and now_ns > still_ns:
                told = True
                self.get_logger().warning(
                    f"nothing is played yet: not heard by {', '.join(sorted(wanted - heard))} is any of the bag's "
                    f"topics, {', '.join(sorted(self._outputs))}; look whether it runs, or rename them (remap)"
                )
            if ready and recorded and now_ns < patience_ns:
                ready = self._is_recorded(wanted)
            if not ready:
                settled_ns = 0
            elif not settled_ns:
                settled_ns = now_ns
            elif (now_ns - settled_ns) * 1e-9 > LATCHED_SETTLE_S:
                return
            time.sleep(0.05)

    def _is_recorded(self, nodes: set[str]) -> bool:
        """Whether a recorder hears whatever these nodes tell each other."""
        for topic, _ in self.get_topic_names_and_types():
            readers = _nodes(self.get_subscriptions_info_by_topic(topic))
            told = nodes & readers and nodes & _nodes(self.get_publishers_info_by_topic(topic))
            if told and RECORDER not in readers:
                return False
        return True

    def _tell_time(self, position_ns: int) -> None:
        self._position_ns = position_ns
        self._clock_publisher.publish(Clock(clock=to_stamp(position_ns + self._list.clock_offset_ns)))

    # The executor's thread.

    def _on_pause(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._playback.pause()
        response.success, response.message = True, f"paused at {self._seconds():.3f} s"
        return response

    def _on_resume(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        self._playback.resume()
        response.success, response.message = not self._done, "the bag has ended" if self._done else "playing"
        return response

    def _on_step(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        step_ns = int(self._settings.value.step * 1e9)
        self._playback.step(step_ns)
        response.success = not self._done
        response.message = "the bag has ended" if self._done else f"one step of {step_ns * 1e-9:g} s"
        return response

    def _on_change(self, _settings: BagPlayerParameters) -> None:
        if hasattr(self, "_playback"):
            self._playback.changed()

    def _seconds(self) -> float:
        return (self._position_ns - self._bag.start_ns) * 1e-9

    def _health(self) -> Health:
        figures: dict[str, object] = {
            "bag": str(self._bag.path),
            "position": round(self._seconds(), 3),
            "rate": self._settings.value.rate,
            "paused": self._playback.paused,
            "messages": self._sent,
            "rounds": self._rounds,
            "muted": ", ".join(self._list.muted),
        }
        if self._bag.problems or self._silent:
            why = [*self._bag.problems, *(f"{topic}: {text}" for topic, text in self._silent.items())]
            return WARN, why[0], figures
        return OK, "ended" if self._done else "paused" if self._playback.paused else "playing", figures


def offered_profile(recorded: Sequence[Qos]) -> QoSProfile:
    """The quality of service to publish with: the weakest that any recorded publisher offered.

    Whoever asked for a deadline or a liveliness and was heard then would hear nothing of a publisher that offers less.
    How long a message lives is left out, for nobody hears more by it: what is in a bag had been heard in time.
    """
    reliable = all(item.reliability is not QosReliability.BEST_EFFORT for item in recorded)
    latched = bool(recorded) and all(item.durability is QosDurability.TRANSIENT_LOCAL for item in recorded)
    depth = max((item.depth for item in recorded), default=0)
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        # Recorders often do not know the depth. A latched topic says its last word to latecomers, no more.
        depth=depth or (1 if latched else 10),
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if latched else DurabilityPolicy.VOLATILE,
        deadline=_longest([item.deadline for item in recorded]),
        liveliness=(
            LivelinessPolicy.MANUAL_BY_TOPIC
            if recorded and all(item.liveliness is QosLiveliness.MANUAL_BY_TOPIC for item in recorded)
            else LivelinessPolicy.AUTOMATIC
        ),
        liveliness_lease_duration=_longest([item.liveliness_lease_duration for item in recorded]),
    )


def _longest(times: Sequence[QosTime]) -> Duration:
    """The longest of some times. Zero stands for none, as in ROS, and so do the largest numbers of seconds in use."""
    lengths = [item.sec * 10**9 + item.nsec for item in times]
    unlimited = not lengths or any(length <= 0 for length in lengths) or max(lengths) >= _UNLIMITED_NS
    return Duration() if unlimited else Duration(nanoseconds=max(lengths))


def _fits(offered: QoSProfile, asked: QoSProfile) -> bool:
    """Whether a subscription can receive what is offered."""
    return qos_check_compatible(offered, asked)[0] != QoSCompatibility.ERROR


def _nodes(found: list[TopicEndpointInfo]) -> set[str]:
    """The nodes of endpoints, by their names and by their names with the namespace."""
    names = {info.node_name for info in found}
    return names | {f"{info.node_namespace.rstrip('/')}/{info.node_name}" for info in found}


def main(args: Sequence[str] | None = None) -> int:
    """Run the bag player node."""
    return run(BagPlayer, None if args is None else list(args))


if __name__ == "__main__":
    raise SystemExit(main())
