# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""One episode as it was run, tick by tick: what bags and data sets have in common."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.control.ladder import Mode
from flow_rag_vla.control.takeover import HUMAN
from flow_rag_vla.core.action import ACTION_DIM, TICK_NS, CorrectionMode
from flow_rag_vla.data.bag import Bag, BagError, BagMessage
from flow_rag_vla.data.bag_writer import BagWriter
from flow_rag_vla.data.definitions import Definitions
from flow_rag_vla.data.demonstrations import STATE_DIM, state_row
from flow_rag_vla.data.message_values import MessageError, image_pixels, robot_state, stamp_ns

NO_FAILURE = -1
RUNNING, SUCCEEDED, FAILED, CANCELED = 2, 3, 4, 5
"""Values equal EpisodeStatus.STATE_*."""

PERSON, HELD = 100, 101
"""Interventions of a tick at which a person was followed, and of one at which nothing was (the loop held, slowed down
or stopped); above every value that Provenance correction may get."""

WRENCH_DIM = 6
WRENCH_TOPIC, WRENCH_TYPE = "wrench", "geometry_msgs/msg/WrenchStamped"
WRENCH_SILENCE_NS = 500_000_000
"""A wrench that is older is no longer felt, as the bridge to an arm has it: zeros stand in its place."""

_OWN = "flow_rag_vla_interfaces/msg"
CAMERA_TOPICS: Mapping[str, str] = {"front": "camera/front/image_raw", "wrist": "camera/wrist/image_raw"}


@dataclass(frozen=True, slots=True)
class RecordedEpisode:
    """One episode of T ticks with F camera frames.

    stamps_ns: (T,) int64, node clock; states: (T, STATE_DIM) float32; actions: (T, 7) float32, as sent after the limits
    failures: (T,) int64, FailureEvent type at the tick at which one began, else -1
    interventions: (T,) int64, PERSON where a person had the robot, HELD where nothing was followed, else how the memory
        shaped the command: Provenance correction, 0 for none
    phases: T names; frame_ticks: (F,) int32, rising; images: camera to (F, H, W, 3) uint8
    success: None if nobody judged it; truths: ground truth messages by frame, empty if none was recorded
    wrenches: (T, 6) float32, N and Nm, x y z of the force and of the torque, as the sensor said it, zeros where it was
        silent; None if no wrench was recorded. wrench_frame: whose axes these are, as the sensor named it
    """

    episode_id: int
    task: str
    instruction: str
    variant: str
    seed: int
    success: bool | None
    stamps_ns: NDArray[np.int64]
    states: NDArray[np.float32]
    actions: NDArray[np.float32]
    failures: NDArray[np.int64]
    interventions: NDArray[np.int64]
    phases: tuple[str, ...]
    frame_ticks: NDArray[np.int32]
    images: Mapping[str, NDArray[np.uint8]]
    truths: tuple[Any, ...] = field(default=(), repr=False)
    wrenches: NDArray[np.float32] | None = None
    wrench_frame: str = ""

    def __post_init__(self) -> None:
        """Check that the parts fit together.

        Raises:
            ValueError: naming the part that does not.
        """
        ticks, frames = len(self.stamps_ns), len(self.frame_ticks)
        expected: dict[str, tuple[Any, Any]] = {
            "states": (self.states.shape, (ticks, STATE_DIM)),
            "actions": (self.actions.shape, (ticks, ACTION_DIM)),
            "failures": (self.failures.shape, (ticks,)),
            "interventions": (self.interventions.shape, (ticks,)),
            "phases": (len(self.phases), ticks),
        }
        if self.wrenches is not None:
            expected["wrenches"] = (self.wrenches.shape, (ticks, WRENCH_DIM))
        for camera, pictures in self.images.items():
            expected[f"images[{camera}]"] = (pictures.shape, (frames, *pictures.shape[1:3], 3))
        for name, (found, wanted) in expected.items():
            if found != wanted:
                raise ValueError(f"episode {self.episode_id}: {name} has shape {found}, expected {wanted}")

    @property
    def ticks(self) -> int:
        """Number of ticks."""
        return len(self.stamps_ns)


def episodes_of_bag(path: str | Path) -> Iterator[RecordedEpisode]:
    """The episodes of a bag that have at least one command, a robot state for each, and a picture at the start.

    A tick's state and wrench are the newest that are not younger than its command; a frame belongs to the first tick
    that is not older than it.

    Raises:
        BagError: if the bag cannot be read or holds no episodes.
    """
    bag = Bag(path)
    for topic in ("command", "robot_state", "episode_status"):
        if bag.find(topic) is None:
            raise BagError(f"{bag.path} holds no topic {topic!r}, without which there are no episodes")
    statuses = sorted(bag.messages(["episode_status"]), key=lambda item: item.log_ns)
    commands = sorted(bag.messages(["command"]), key=lambda item: item.log_ns)
    sensor = _sensor(bag)
    for episode_id, span in _spans(statuses).items():
        episode = _episode(bag, episode_id, span, commands, sensor)
        if episode is not None:
            yield episode


@dataclass(slots=True)
class _Span:
    running: list[BagMessage]
    end: BagMessage | None = None


def _spans(statuses: list[BagMessage]) -> dict[int, _Span]:
    spans: dict[int, _Span] = {}
    for entry in statuses:
        number = int(entry.message.episode_id)
        if entry.message.state == RUNNING:
            spans.setdefault(number, _Span([])).running.append(entry)
        elif number in spans and spans[number].end is None and entry.message.state > RUNNING:
            spans[number].end = entry
    return spans


def _episode(
    bag: Bag, episode_id: int, span: _Span, commands: list[BagMessage], sensor: _Sensor | None
) -> RecordedEpisode | None:
    first = span.running[0].message
    start_ns = stamp_ns(first.header)
    last = span.end or span.running[-1]
    end_ns = stamp_ns(last.message.header)
    ticks = [entry.message for entry in commands if start_ns <= stamp_ns(entry.message.header) <= end_ns]
    window = (span.running[0].log_ns - 1_000_000_000, last.log_ns + 1_000_000_000)
    states = _states(bag, *window)
    if not ticks or not states[0].size:
        return None
    stamps = np.array([stamp_ns(message.header) for message in ticks], dtype=np.int64)
    places = np.searchsorted(states[0], stamps, side="right") - 1
    keep = places >= 0
    stamps, places = stamps[keep], places[keep]
    ticks = [message for message, kept in zip(ticks, keep.tolist(), strict=True) if kept]
    if not ticks:
        return None
    frames, images = _frames(bag, window, stamps)
    return RecordedEpisode(
        episode_id,
        first.task,
        first.instruction,
        first.variant,
        int(first.seed),
        None if span.end is None else {SUCCEEDED: True, FAILED: False}.get(int(span.end.message.state)),
        stamps,
        states[1][places],
        np.array([message.action for message in ticks], dtype=np.float32).reshape(-1, ACTION_DIM),
        _failures(bag, episode_id, window, stamps),
        np.array([_intervention(message) for message in ticks], dtype=np.int64),
        _phases(span.running, stamps),
        frames,
        images,
        _truths(bag, window, stamps, frames),
        None if sensor is None else _wrenches(bag, sensor, window, stamps),
        "" if sensor is None else sensor.frame,
    )


def _states(bag: Bag, start_ns: int, stop_ns: int) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    found = []
    for entry in bag.messages(["robot_state"], start_ns, stop_ns):
        try:
            state = robot_state(entry.message)
        except MessageError:
            continue
        found.append((state.stamp_ns, state_row(state)))
    found.sort(key=lambda item: item[0])
    if not found:
        return np.zeros(0, dtype=np.int64), np.zeros((0, STATE_DIM), dtype=np.float32)
    return np.array([stamp for stamp, _ in found], dtype=np.int64), np.stack([row for _, row in found])


@dataclass(frozen=True, slots=True)
class _Sensor:
    """A force sensor's topic, and the frame of its axes, as its messages name it."""

    topic: str
    frame: str


def _sensor(bag: Bag) -> _Sensor | None:
    """The force sensor of a bag: our topic by its name, else the one with the shortest name; None without one."""
    there = [topic.name for topic in bag.topics.values() if topic.msgtype == WRENCH_TYPE and topic.count]
    if not there:
        return None
    ours = bag.find(WRENCH_TOPIC)
    topic = ours if ours in there else min(there, key=lambda name: (len(name), name))
    frames = (_frame(entry.message) for entry in bag.messages([topic]))
    return _Sensor(topic, next((frame for frame in frames if frame), ""))


def _frame(message: Any) -> str:
    return str(message.header.frame_id).removeprefix("/")


def _wrenches(bag: Bag, sensor: _Sensor, window: tuple[int, int], stamps: NDArray[np.int64]) -> NDArray[np.float32]:
    """(T, 6) what was felt at each tick."""
    felt = np.zeros((len(stamps), WRENCH_DIM), dtype=np.float32)
    found: list[tuple[int, list[float]]] = []
    for entry in bag.messages([sensor.topic], *window):
        force, torque = entry.message.wrench.force, entry.message.wrench.torque
        row = [force.x, force.y, force.z, torque.x, torque.y, torque.z]
        # What is of other axes is no number of the same column.
        if _frame(entry.message) == sensor.frame and np.isfinite(row).all():
            found.append((stamp_ns(entry.message.header), row))
    if found:
        found.sort(key=lambda item: item[0])
        times = np.array([stamp for stamp, _ in found], dtype=np.int64)
        places = np.searchsorted(times, stamps, side="right") - 1
        heard = (places >= 0) & (stamps - times[places] <= WRENCH_SILENCE_NS)
        felt[heard] = np.array([row for _, row in found], dtype=np.float32)[places[heard]]
    return felt


def _intervention(message: Any) -> int:
    if int(message.mode) == Mode.TAKEOVER:
        return PERSON
    mode = int(message.provenance.correction)
    if int(message.mode) != Mode.FOLLOW and mode != CorrectionMode.HOLD:
        return HELD
    return 0 if mode == CorrectionMode.TIMEOUT else mode


def _phases(running: list[BagMessage], stamps: NDArray[np.int64]) -> tuple[str, ...]:
    times = np.array([stamp_ns(entry.message.header) for entry in running], dtype=np.int64)
    places = np.clip(np.searchsorted(times, stamps, side="right") - 1, 0, None)
    return tuple(str(running[place].message.phase) for place in places.tolist())


def _failures(bag: Bag, episode_id: int, window: tuple[int, int], stamps: NDArray[np.int64]) -> NDArray[np.int64]:
    found = np.full(len(stamps), NO_FAILURE, dtype=np.int64)
    for entry in bag.messages(["failure_event"], *window):
        event = entry.message
        if int(event.episode_id) not in (0, episode_id):
            continue
        onset = stamp_ns(event.onset) or stamp_ns(event.header)
        if stamps[0] - TICK_NS <= onset <= stamps[-1] + TICK_NS:
            place = int(np.clip(np.searchsorted(stamps, onset, side="right") - 1, 0, len(stamps) - 1))
            found[place] = int(event.failure_type)
    return found


def _frames(
    bag: Bag, window: tuple[int, int], stamps: NDArray[np.int64]
) -> tuple[NDArray[np.int32], dict[str, NDArray[np.uint8]]]:
    """Ticks of the moments at which every camera that is in the bag has a picture, and those pictures."""
    pictures: dict[str, dict[int, NDArray[np.uint8]]] = {}
    for camera, wanted in CAMERA_TOPICS.items():
        topic = bag.find(wanted)
        if topic is None:
            continue
        found = pictures.setdefault(camera, {})
        for entry in bag.messages([topic], *window):
            try:
                found[stamp_ns(entry.message.header)] = image_pixels(entry.message)
            except ValueError:
                continue
    moments = sorted(set.intersection(*(set(found) for found in pictures.values()))) if pictures else []
    chosen: dict[int, int] = {}
    for moment in moments:
        place = int(np.searchsorted(stamps, moment, side="left"))
        # Of two pictures before one tick the newer one is what the tick could know.
        if place < len(stamps) and stamps[place] - moment < 10 * TICK_NS:
            chosen[place] = moment
    ticks = sorted(chosen)
    images = {camera: np.stack([found[chosen[tick]] for tick in ticks]) for camera, found in pictures.items() if ticks}
    return np.array(ticks, dtype=np.int32), images


def _truths(bag: Bag, window: tuple[int, int], stamps: NDArray[np.int64], frames: NDArray[np.int32]) -> tuple[Any, ...]:
    """Ground truth nearest to each frame's tick; empty without one for each."""
    found = [(stamp_ns(entry.message.header), entry.message) for entry in bag.messages(["ground_truth"], *window)]
    if not found:
        return ()
    found.sort(key=lambda item: item[0])
    times = np.array([stamp for stamp, _ in found], dtype=np.int64)
    places = np.clip(np.searchsorted(times, stamps[frames], side="right") - 1, 0, None)
    return tuple(found[place][1] for place in places.tolist())


def write_episodes(folder: str | Path, episodes: list[RecordedEpisode], definitions: Definitions) -> int:
    """Write episodes as a bag of the graph's topics; the number of messages.

    Raises:
        FileExistsError: if the folder exists.
        ValueError: if there are no episodes.
    """
    if not episodes:
        raise ValueError("there are no episodes to write")
    if len({episode.episode_id for episode in episodes}) < len(episodes):
        # Of several runs, each of which counted from 1.
        episodes = [replace(episode, episode_id=number) for number, episode in enumerate(episodes, 1)]
    with BagWriter(folder, definitions) as writer:
        for name, kind in (
            ("robot_state", f"{_OWN}/RobotState"),
            ("command", f"{_OWN}/ControlCommand"),
            ("episode_status", f"{_OWN}/EpisodeStatus"),
            ("failure_event", f"{_OWN}/FailureEvent"),
            *((topic, "sensor_msgs/msg/Image") for topic in CAMERA_TOPICS.values()),
            *([(WRENCH_TOPIC, WRENCH_TYPE)] if any(episode.wrenches is not None for episode in episodes) else ()),
        ):
            writer.add_topic(f"/{name}", kind)
        tick = event = 0
        for episode in episodes:
            tick, event = _write_episode(writer, definitions, episode, tick, event)
        return writer.messages


def _write_episode(
    writer: BagWriter, definitions: Definitions, episode: RecordedEpisode, tick: int, event: int
) -> tuple[int, int]:
    make = definitions.message

    def header(stamp: int, frame: str = "base_link") -> Any:
        time = make("builtin_interfaces/msg/Time", sec=stamp // 10**9, nanosec=stamp % 10**9)
        return make("std_msgs/msg/Header", stamp=time, frame_id=frame)

    def status(stamp: int, state: int, phase: str) -> None:
        elapsed = (stamp - int(episode.stamps_ns[0])) * 1e-9
        writer.write_message(
            "/episode_status",
            stamp,
            make(
                f"{_OWN}/EpisodeStatus", header=header(stamp), episode_id=episode.episode_id, state=state,
                task=episode.task, variant=episode.variant, instruction=episode.instruction, seed=episode.seed,
                phase=phase, elapsed=elapsed,
            ),
        )  # fmt: skip

    frames = {int(place): index for index, place in enumerate(episode.frame_ticks.tolist())}
    before = None
    for place, stamp in enumerate(episode.stamps_ns.tolist()):
        phase = episode.phases[place]
        if phase != before:
            status(stamp, RUNNING, phase)
            before = phase
        if place in frames:
            for camera, pictures in episode.images.items():
                pixels = pictures[frames[place]]
                writer.write_message(
                    f"/{CAMERA_TOPICS.get(camera, f'camera/{camera}/image_raw')}",
                    stamp,
                    make(
                        "sensor_msgs/msg/Image", header=header(stamp), height=pixels.shape[0], width=pixels.shape[1],
                        encoding="rgb8", step=pixels.shape[1] * 3, data=np.ascontiguousarray(pixels).ravel(),
                    ),
                )  # fmt: skip
        _write_state(writer, make, header(stamp), stamp, episode.states[place])
        if episode.wrenches is not None:
            _write_wrench(writer, make, header(stamp, episode.wrench_frame), stamp, episode.wrenches[place])
        tick += 1
        intervention = int(episode.interventions[place])
        mode = {PERSON: Mode.TAKEOVER, HELD: Mode.HOLD, int(CorrectionMode.HOLD): Mode.HOLD}.get(
            intervention, Mode.FOLLOW
        )
        writer.write_message(
            "/command",
            stamp,
            make(
                f"{_OWN}/ControlCommand", header=header(stamp), tick=tick, action=episode.actions[place],
                mode=int(mode),
                provenance=make(
                    f"{_OWN}/Provenance",
                    correction=intervention if intervention < PERSON else 0,
                    policy=HUMAN if intervention == PERSON else "",
                ),
            ),
        )  # fmt: skip
        if episode.failures[place] != NO_FAILURE:
            event += 1
            writer.write_message(
                "/failure_event",
                stamp,
                make(
                    f"{_OWN}/FailureEvent", header=header(stamp), event_id=event, episode_id=episode.episode_id,
                    failure_type=int(episode.failures[place]), task=episode.task, phase=phase,
                    onset=header(stamp).stamp,
                ),
            )  # fmt: skip
    verdict = {True: SUCCEEDED, False: FAILED, None: CANCELED}[episode.success]
    status(int(episode.stamps_ns[-1]), verdict, episode.phases[-1])
    writer.checkpoint()
    return tick, event


def _write_state(writer: BagWriter, make: Any, header: Any, stamp: int, row: NDArray[np.float32]) -> None:
    values = [float(value) for value in row]
    pose = make(
        "geometry_msgs/msg/Pose",
        position=make("geometry_msgs/msg/Point", x=values[0], y=values[1], z=values[2]),
        orientation=make("geometry_msgs/msg/Quaternion", x=values[3], y=values[4], z=values[5], w=values[6]),
    )
    message = make(
        f"{_OWN}/RobotState", header=header, end_effector=pose, gripper_width=values[7], gripper_effort=values[8]
    )
    writer.write_message("/robot_state", stamp, message)


def _write_wrench(writer: BagWriter, make: Any, header: Any, stamp: int, row: NDArray[np.float32]) -> None:
    values = [float(value) for value in row]
    force, torque = (make("geometry_msgs/msg/Vector3", x=x, y=y, z=z) for x, y, z in (values[:3], values[3:]))
    wrench = make("geometry_msgs/msg/Wrench", force=force, torque=torque)
    writer.write_message(f"/{WRENCH_TOPIC}", stamp, make(WRENCH_TYPE, header=header, wrench=wrench))
