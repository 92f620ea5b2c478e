# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Reads the decisions of a bag: what was seen, planned and commanded, and which messages each command was made of."""

from __future__ import annotations

import dataclasses
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np

from flow_rag_vla.control.integrator import Clamp
from flow_rag_vla.control.ladder import Mode, Reason
from flow_rag_vla.control.loop import Command
from flow_rag_vla.control.takeover import TakeoverRequest
from flow_rag_vla.core.correction import Correction
from flow_rag_vla.core.state import CartesianTarget, RobotState
from flow_rag_vla.data.bag import SAME_CLOCK_NS, Bag, BagError, BagMessage, bag_files
from flow_rag_vla.data.message_values import (
    MessageError,
    action_chunk,
    correction,
    provenance,
    robot_state,
    stamp_ns,
    takeover_request,
)
from flow_rag_vla.evaluate.decisions.recording import (
    CHUNK,
    CORRECTION,
    EMERGENCY_STOP,
    EMERGENCY_STOP_RESET,
    EPISODE,
    HELD_UP_NS,
    STATE,
    TAKEOVER,
    ByStamp,
    DecisionRecording,
    Planned,
    Seen,
    Status,
    Take,
    Tick,
    Told,
)

_ORDER = (EMERGENCY_STOP, EPISODE, STATE, TAKEOVER, CHUNK, CORRECTION)
"""In which the loop looks into its queues."""

_TOPICS = (
    "command", "tick_inputs", "robot_state", "embedding", "action_chunk", "correction", "episode_status",
    "failure_event", "emergency_stop", "failure_score", "takeover",
)  # fmt: skip
_PARAMETERS = "/parameter_events"


def read_recording(path: str | Path, namespace: str = "") -> DecisionRecording:
    """Read the decisions of a bag, or of a run folder that holds one.

    Args:
        path: bag folder, .mcap file, or run folder.
        namespace: of the graph to look at, when the bag holds several; empty: the one nearest to the root.

    Raises:
        BagError: if there is no bag, or it holds no commands.
    """
    bag = Bag(bag_of(path))
    names = _names(bag, namespace)
    if "command" not in names:
        raise BagError(
            f"{bag.path} holds no topic 'command'{f' in namespace {namespace}' if namespace else ''}; its topics: "
            + (", ".join(bag.topics) or "none")
        )
    kinds = {name: kind for kind, name in names.items()}
    found: dict[str, list[BagMessage]] = defaultdict(list)
    for entry in bag.messages([*names.values(), *([_PARAMETERS] if bag.find(_PARAMETERS) else [])]):
        found[kinds.get(entry.topic, entry.topic)].append(entry)
    for entries in found.values():
        entries.sort(key=lambda item: item.log_ns)
    states = tuple(_states(found["robot_state"]))
    embeddings = tuple(_seen(entry) for entry in found["embedding"])
    corrections = tuple(_told(entry) for entry in found["correction"])
    chunks = tuple(_planned(entry) for entry in found["action_chunk"])
    statuses = tuple(
        _not_held_up([_status(entry) for entry in found["episode_status"]], [*embeddings, *corrections, *chunks])
    )
    stops = tuple((entry.log_ns, bool(entry.message.data)) for entry in found["emergency_stop"])
    commands = [(entry.log_ns, command_of(entry.message)) for entry in found["command"]]
    exact = bool(found["tick_inputs"])
    takeovers = tuple((entry.log_ns, takeover_request(entry.message)) for entry in found["takeover"])
    pool = _Pool(statuses, states, chunks, corrections, stops, takeovers)
    ticks = tuple(_ticks(commands, found["tick_inputs"], pool))
    parameters, changes = _parameters(found[_PARAMETERS])
    return DecisionRecording(
        bag.path,
        (*bag.problems, *pool.problems()),
        exact,
        parameters,
        changes,
        statuses,
        states,
        embeddings,
        corrections,
        chunks,
        tuple(found["failure_event"]),
        ticks,
        ByStamp(
            {item.stamp_ns: item for item in embeddings},
            {item.stamp_ns: item for item in corrections},
            {item.stamp_ns: item for item in chunks},
            {state.stamp_ns: state for _, state in states},
            [item.log_ns for item in statuses],
            [log_ns for log_ns, _ in states],
        ),
    )


def bag_of(path: str | Path) -> Path:
    """The bag of a run folder, or the path itself when it is a bag."""
    root = Path(path)
    if root.is_dir() and not bag_files(root) and (root / "bag").exists():
        return root / "bag"
    return root


def command_of(message: Any) -> Command:
    """Command of a ``ControlCommand`` message; a target without an orientation is none."""
    position, orientation = message.target.position, message.target.orientation
    quaternion = np.array([orientation.x, orientation.y, orientation.z, orientation.w])
    target = None
    if float(np.abs(quaternion).sum()) > 0.0:
        place = np.array([position.x, position.y, position.z])
        target = CartesianTarget(place, quaternion, float(message.gripper_width))
    return Command(
        int(message.tick),
        stamp_ns(message.header),
        np.array(message.action, dtype=np.float32),
        target,
        Mode(message.mode),
        Reason(message.reason),
        message.reason_text,
        Clamp(message.clamps),
        int(message.chunk_id),
        int(message.chunk_index),
        float(message.observation_age_ms),
        provenance(message.provenance),
        1.0 - float(getattr(message, "slowdown", 0.0)),
    )


class _Pool:
    """Finds the message that a tick says it took; what comes several times under one key is given out in turn."""

    def __init__(
        self,
        statuses: tuple[Status, ...],
        states: tuple[tuple[int, RobotState], ...],
        chunks: tuple[Planned, ...],
        corrections: tuple[Told, ...],
        stops: tuple[tuple[int, bool], ...],
        takeovers: tuple[tuple[int, TakeoverRequest], ...] = (),
    ) -> None:
        self._found: dict[tuple[int, int, int], list[Any]] = defaultdict(list)
        self._given: dict[tuple[int, int, int], int] = defaultdict(int)
        self._missing: dict[int, int] = defaultdict(int)
        for status in statuses:
            self._found[EPISODE, status.stamp_ns, status.state].append(status)
        for _, state in states:
            self._found[STATE, state.stamp_ns, 0].append(state)
        for chunk in chunks:
            self._found[CHUNK, chunk.stamp_ns, 0].append(chunk)
        for told in corrections:
            self._found[CORRECTION, told.stamp_ns, 0].append(told)
        for _, request in takeovers:
            self._found[TAKEOVER, request.stamp_ns, 0].append(request)
        self.arrivals: list[tuple[int, int, int, Any]] = sorted(
            [
                *((log_ns, EMERGENCY_STOP, int(stop), stop) for log_ns, stop in stops),
                *((item.log_ns, EPISODE, item.stamp_ns, item) for item in statuses),
                *((log_ns, STATE, state.stamp_ns, state) for log_ns, state in states),
                *((item.log_ns, CHUNK, item.stamp_ns, item) for item in chunks),
                *((item.log_ns, CORRECTION, item.stamp_ns, item) for item in corrections),
                *((log_ns, TAKEOVER, request.stamp_ns, request) for log_ns, request in takeovers),
            ],
            key=lambda item: item[0],
        )

    def take(self, kind: int, key: int, detail: int) -> Take:
        """The message of one entry of a tick record."""
        if kind in (EMERGENCY_STOP, EMERGENCY_STOP_RESET):
            return Take(kind, key, detail, bool(key))
        where = (kind, key, detail if kind == EPISODE else 0)
        found = self._found.get(where, [])
        if not found:
            self._missing[kind] += 1
            return Take(kind, key, 0 if kind == EPISODE else detail, None)
        turn = self._given[where]
        self._given[where] += 1
        return Take(kind, key, 0 if kind == EPISODE else detail, found[min(turn, len(found) - 1)])

    def problems(self) -> tuple[str, ...]:
        """One sentence for each kind of message that ticks took and the bag does not hold."""
        words = {
            EPISODE: "episode statuses",
            STATE: "robot states",
            CHUNK: "chunks",
            CORRECTION: "corrections",
            TAKEOVER: "requests of a person",
        }
        return tuple(
            f"{count} {words[kind]} that the controller took are not in the bag: its commands of those ticks cannot "
            "be made again exactly"
            for kind, count in sorted(self._missing.items())
        )


def _ticks(commands: list[tuple[int, Command]], inputs: list[BagMessage], pool: _Pool) -> Iterator[Tick]:
    records = {(int(entry.message.tick), stamp_ns(entry.message.header)): entry.message for entry in inputs}
    found = [records.get((command.tick, command.stamp_ns)) for _, command in commands]
    # Before the first record, and where one was lost, the steady clock is taken to have gone as the node's.
    offset = next(
        (int(record.steady) - command.stamp_ns for (_, command), record in zip(commands, found, strict=True) if record),
        0,
    )
    guess = _Guess(pool)
    for (log_ns, command), record in zip(commands, found, strict=True):
        guessed = guess.until(log_ns, command)
        if record is None:
            yield Tick(log_ns, command, command.stamp_ns + offset, None, guessed)
            continue
        offset = int(record.steady) - command.stamp_ns
        entries = zip(record.kinds, record.keys, record.details, strict=True)
        takes = tuple(pool.take(int(kind), int(key), int(detail)) for kind, key, detail in entries)
        yield Tick(log_ns, command, int(record.steady), int(record.scheduled), takes)


class _Guess:
    """What a tick without a record took: what the recorder had received when the command was made, the loop had too."""

    def __init__(self, pool: _Pool) -> None:
        self._arrivals = pool.arrivals
        self._place = 0

    def until(self, log_ns: int, command: Command) -> tuple[Take, ...]:
        """The messages since the tick before."""
        same_clock = abs(log_ns - command.stamp_ns) < SAME_CLOCK_NS
        until = command.stamp_ns if same_clock else log_ns - 1
        takes = []
        while self._place < len(self._arrivals) and self._arrivals[self._place][0] <= until:
            arrived_ns, kind, key, value = self._arrivals[self._place]
            waited = command.stamp_ns - arrived_ns if same_clock and kind != EPISODE else 0
            takes.append(Take(kind, key, waited if 0 < waited < 1_000_000_000 else 0, value))
            self._place += 1
        takes.sort(key=lambda item: _ORDER.index(item.kind))
        return tuple(takes)


def _names(bag: Bag, namespace: str) -> dict[str, str]:
    """Full name of each topic that is there, all of one namespace."""
    if namespace:
        prefix = f"/{namespace.strip('/')}/"
    else:
        command = bag.find("command") or "/command"
        prefix = command[: -len("command")]
    return {topic: prefix + topic for topic in _TOPICS if prefix + topic in bag.topics}


def _parameters(
    events: list[BagMessage],
) -> tuple[dict[str, dict[str, Any]], tuple[tuple[int, str, Mapping[str, Any]], ...]]:
    first: dict[str, dict[str, Any]] = {}
    changes = []
    for entry in events:
        message = entry.message
        name = message.node.rsplit("/", 1)[-1]
        values = {item.name: _parameter_value(item.value) for item in (*message.new_parameters,)}
        known = first.setdefault(name, {})
        known.update({key: value for key, value in values.items() if key not in known})
        changed = {item.name: _parameter_value(item.value) for item in message.changed_parameters}
        if changed:
            changes.append((entry.log_ns, name, changed))
    return first, tuple(changes)


def _parameter_value(value: Any) -> Any:
    fields = (
        None, "bool_value", "integer_value", "double_value", "string_value", "byte_array_value", "bool_array_value",
        "integer_array_value", "double_array_value", "string_array_value",
    )  # fmt: skip
    name = fields[value.type] if 0 <= value.type < len(fields) else None
    if name is None:
        return None
    found = getattr(value, name)
    return found if isinstance(found, (bool, int, float, str)) else [_plain(item) for item in found]


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def _status(entry: BagMessage) -> Status:
    message = entry.message
    return Status(
        entry.log_ns,
        stamp_ns(message.header),
        int(message.state),
        int(message.episode_id),
        message.task,
        message.variant,
        message.instruction,
        int(message.seed),
        message.phase,
        float(message.elapsed),
        float(message.timeout),
        message.outcome,
        1.0 - float(getattr(message, "slowdown", 0.0)),
    )


def _not_held_up(statuses: Sequence[Status], decided: Sequence[Seen | Told | Planned]) -> Iterator[Status]:
    """Statuses in the order in which they came, those that came to the recorder late as early as they were known.

    One that was sent before a picture was taken was known where that picture was decided about. A recorder on a loaded
    machine may have received what was decided first.
    """
    ordered = sorted(decided, key=lambda item: item.stamp_ns)
    stamps = [item.stamp_ns for item in ordered]
    # When the first of all that were taken from there on was received.
    first = [*reversed(list(accumulate((item.log_ns for item in reversed(ordered)), min)))]
    for status in statuses:
        place = bisect_left(stamps, status.stamp_ns)
        late = place < len(first) and first[place] < status.log_ns <= first[place] + HELD_UP_NS
        yield dataclasses.replace(status, log_ns=first[place]) if late else status


def _states(entries: list[BagMessage]) -> Iterator[tuple[int, RobotState]]:
    for entry in entries:
        try:
            yield entry.log_ns, robot_state(entry.message)
        except MessageError:
            continue  # Every node refuses it too.


def _seen(entry: BagMessage) -> Seen:
    message = entry.message
    values = np.array(message.values, dtype=np.float32)
    return Seen(entry.log_ns, stamp_ns(message.header), values, message.encoder, message.revision)


def _told(entry: BagMessage) -> Told:
    try:
        value: Correction | None = correction(entry.message)
    except MessageError:
        value = None
    return Told(entry.log_ns, stamp_ns(entry.message.header), entry.message, value)


def _planned(entry: BagMessage) -> Planned:
    message = entry.message
    stamp = stamp_ns(message.header)
    try:
        value = action_chunk(message)
    except MessageError as error:
        return Planned(entry.log_ns, stamp, None, str(error))
    return Planned(entry.log_ns, stamp, value, "", float(message.inference_ms), float(message.correction_wait_ms))
