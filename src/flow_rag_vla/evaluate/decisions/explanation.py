# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Why one command is what it is: observation, chunk, cases, guidance, arbiter and limits, from what is on record."""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.control.integrator import Clamp
from flow_rag_vla.control.ladder import Mode
from flow_rag_vla.control.loop import Command, LoopSettings
from flow_rag_vla.control.pace import carried
from flow_rag_vla.core.action import ActionChunk, CorrectionMode
from flow_rag_vla.core.correction import Correction
from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.data.bag import Bag, BagError
from flow_rag_vla.data.message_values import image_pixels, stamp_ns
from flow_rag_vla.evaluate.decisions.fingerprint import chunk_bytes, command_bytes
from flow_rag_vla.evaluate.decisions.inputs import chunk_before, chunk_inputs
from flow_rag_vla.evaluate.decisions.memory import RecordedMemory, copy_database, is_shaping
from flow_rag_vla.evaluate.decisions.recording import DecisionRecording, Planned, Seen, Status, Tick, timed_out
from flow_rag_vla.evaluate.decisions.replay import MadeTick, PolicySettings, Replay
from flow_rag_vla.memory.case import FailureCase
from flow_rag_vla.memory.store import FailureStore, StoreError
from flow_rag_vla.policy.policy import FlowPolicy

CAMERAS = ("front", "wrist")
LOOK_BACK_NS = 1_500_000_000
"""How far back a hold looks for observations that should have become a chunk."""

LARGEST_DATABASE = 500_000_000
"""Bytes: a larger memory is not copied only to name where a correction came from."""


class TickError(LookupError):
    """No such tick; the text says which there are."""


@dataclass(frozen=True, slots=True)
class ExplainedCase:
    """One case that a search brought up. source: of its correction, empty if it has none or that is not known."""

    case_id: int
    similarity: float
    failure_type: str
    phase: str
    used: bool
    has_correction: bool
    source: str
    uses: int
    successes: int
    credit: float
    note: str = ""


@dataclass(frozen=True, slots=True)
class ExplainedChunk:
    """The chunk behind a command.

    remade: whether it came out again bit for bit; None if it could not be made (``problem`` says why)
    without: what the policy would have sampled without the memory; None if the memory did not act in it
    """

    planned: Planned
    chunk: ActionChunk
    seen: Seen | None
    state: RobotState | None
    correction: Correction | None
    waited: bool
    remade: bool | None
    without: ActionChunk | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Observed:
    """An observation before a tick that held, and what became of it."""

    age_s: float
    what: str


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything about one tick. frames: camera to (H, W, 3) uint8, as the policy saw them.

    made: the tick made again by the control loop; None if that was not possible
    """

    tick: Tick
    index: int
    seconds: float
    status: Status | None
    made: MadeTick | None
    same: bool
    chunk: ExplainedChunk | None
    cases: tuple[ExplainedCase, ...]
    threshold: float
    state: RobotState | None
    before: Command | None
    observations: tuple[Observed, ...]
    frames: Mapping[str, NDArray[np.uint8]]
    failure: Any
    notes: tuple[str, ...]

    @property
    def command(self) -> Command:
        """The command."""
        return self.tick.command


def find_tick(recording: DecisionRecording, wanted: str) -> tuple[int, Any]:
    """Index of a tick in the recording, and the failure event if it was asked for by one.

    Args:
        recording: where to look.
        wanted: a tick's number; ``12.5s`` since the first command on record; ``failure:N``, counted from 1: the
            command at which the N-th failure began; ``episode:N`` its first command.

    Raises:
        TickError: if there is no such tick, saying which there are.
    """
    ticks = recording.ticks
    if not ticks:
        raise TickError(f"{recording.path} holds no commands")
    stamps = [tick.command.stamp_ns for tick in ticks]
    kind, _, rest = wanted.partition(":")
    try:
        if kind == "failure":
            return _at_failure(recording, stamps, int(rest))
        if kind == "episode":
            return _at_episode(recording, stamps, int(rest)), None
        if wanted.endswith("s"):
            seconds = float(wanted[:-1])
            length = (stamps[-1] - stamps[0]) * 1e-9
            if not 0.0 <= seconds <= length + 0.025:
                raise TickError(f"{wanted} is outside the recording, which lasts {length:.2f} s")
            return max(0, bisect_right(stamps, stamps[0] + int(seconds * 1e9)) - 1), None
        number = int(wanted)
    except ValueError:
        raise TickError(
            f"{wanted!r} names no tick; give a number, a time such as 12.5s, failure:N or episode:N"
        ) from None
    for index, tick in enumerate(ticks):
        if tick.command.tick == number:
            return index, None
    raise TickError(
        f"tick {number} is not on record; {recording.path} holds ticks {ticks[0].command.tick} to "
        f"{ticks[-1].command.tick}"
    )


def explain(
    recording: DecisionRecording,
    index: int,
    policy: FlowPolicy | None,
    *,
    policy_settings: PolicySettings | None = None,
    loop_settings: LoopSettings | None = None,
    database: str = "",
    failure: Any = None,
) -> Explanation:
    """Explain one tick.

    Args:
        recording: the run.
        index: of the tick, see :func:`find_tick`.
        policy: to make its chunk again, with and without the memory; None leaves that out.
        policy_settings: sampling.
        loop_settings: of the control loop.
        database: failure memory that knows where corrections came from; empty if there is none.
        failure: the failure event that was asked for.
    """
    tick = recording.ticks[index]
    command = tick.command
    notes = list(recording.problems)
    if not recording.exact:
        notes.append("this bag has no tick records: what had arrived at a tick is guessed from times of reception")
    made = _made(recording, tick, loop_settings)
    same = made is not None and command_bytes(made.command) == command_bytes(command)
    if made is None or not same:
        notes.append("the control loop, run again, gives another command than the recorded one at this tick")
    planned = _planned(recording, command, made)
    chunk = None
    if planned is not None and planned.value is not None:
        chunk = _chunk(recording, planned, planned.value, policy, policy_settings or PolicySettings())
    cases, threshold = _cases(recording, None if planned is None else planned.stamp_ns, command, database, notes)
    frames: Mapping[str, NDArray[np.uint8]] = {}
    observed = chunk.seen if chunk is not None else _last_seen(recording, tick)
    if observed is not None:
        frames = _frames(recording, observed, notes)
    return Explanation(
        tick,
        index,
        (command.stamp_ns - recording.ticks[0].command.stamp_ns) * 1e-9,
        recording.status_at(tick.log_ns),
        made,
        same,
        chunk,
        cases,
        threshold,
        recording.state_near(command.stamp_ns, tick.log_ns),
        recording.ticks[index - 1].command if index else None,
        () if command.mode is Mode.FOLLOW else _observations(recording, tick),
        frames,
        failure,
        tuple(dict.fromkeys(notes)),
    )


def _at_failure(recording: DecisionRecording, stamps: list[int], number: int) -> tuple[int, Any]:
    count = len(recording.failures)
    if not 1 <= number <= count:
        known = f"failures: 1 to {count}" if count else "nothing failed in this run: name episode:1, or a tick"
        raise TickError(f"failure:{number} is not on record; {known}")
    event = recording.failures[number - 1].message
    onset = stamp_ns(event.onset) or stamp_ns(event.header)
    return max(0, bisect_right(stamps, onset) - 1), event


def _at_episode(recording: DecisionRecording, stamps: list[int], number: int) -> int:
    for status in recording.statuses:
        if status.running and status.episode_id == number:
            return min(bisect_right(stamps, status.stamp_ns), len(stamps) - 1)
    known = sorted({status.episode_id for status in recording.statuses if status.running})
    raise TickError(f"episode:{number} is not on record; episodes: {', '.join(map(str, known)) or 'none'}")


def _made(recording: DecisionRecording, tick: Tick, settings: LoopSettings | None) -> MadeTick | None:
    """The tick made again by a loop that begins with the episode's reset, chunks taken as recorded."""
    start = recording.ticks[0].log_ns
    for status in recording.statuses:
        if status.log_ns > tick.log_ns:
            break
        if status.state == 1:  # resetting: from here on the loop's target is the measured tool
            start = status.log_ns
    # A second before the reset, so that the loop's modes have settled.
    decisions = Replay(recording, RecordedMemory(recording), None, loop_settings=settings).run(
        start_ns=max(0, start - 1_000_000_000), stop_ns=tick.log_ns + 1
    )
    return next((item for item in reversed(decisions.ticks) if item.command.tick == tick.command.tick), None)


def _planned(recording: DecisionRecording, command: Command, made: MadeTick | None) -> Planned | None:
    if command.chunk_id:
        found = recording.planned(command.provenance.observation_stamp_ns)
        if found is not None:
            return found
    if made is not None and made.chunk_stamp_ns is not None:
        return recording.planned(made.chunk_stamp_ns)
    return None


def _chunk(
    recording: DecisionRecording,
    planned: Planned,
    chunk: ActionChunk,
    policy: FlowPolicy | None,
    settings: PolicySettings,
) -> ExplainedChunk:
    told = recording.told(planned.stamp_ns)
    waited = not timed_out(chunk)
    if policy is not None:
        settings.apply(policy)
    correction = told.value if told is not None else None
    seen = recording.embedding(planned.stamp_ns)
    state = recording.state_near(planned.stamp_ns, planned.log_ns)
    result = ExplainedChunk(planned, chunk, seen, state, correction, waited, None, None)
    inputs = chunk_inputs(recording, planned, policy)
    if isinstance(inputs, str):
        return dataclasses.replace(result, problem=inputs)
    result = dataclasses.replace(result, state=inputs[1])
    if policy is None:
        return dataclasses.replace(result, problem="no policy was loaded, so the chunk was not made again")
    if policy.revision != chunk.provenance.policy_revision:
        text = (
            f"made by policy {chunk.provenance.policy} {chunk.provenance.policy_revision}, loaded is "
            f"{policy.revision}; name the right checkpoint with --checkpoint"
        )
        return dataclasses.replace(result, problem=text)
    previous = None
    if chunk.committed:
        previous = chunk_before(recording, chunk, planned.log_ns)
        if previous is None:
            text = f"chunk {chunk.chunk_id} goes on from chunk {chunk.chunk_id - 1}, which is not in the bag"
            return dataclasses.replace(result, problem=text)
    used = correction if waited and correction is not None else Correction(planned.stamp_ns, CorrectionMode.TIMEOUT)

    def sample(with_correction: Correction) -> ActionChunk:
        made = policy.act(
            inputs[0].values,
            inputs[1],
            inputs[2],
            seed=chunk.provenance.noise_seed,
            stamp_ns=planned.stamp_ns,
            previous=carried(previous, planned.stamp_ns, recording.pace_at(planned.log_ns)),
            delay_ticks=chunk.committed,
            correction=with_correction,
        )
        return dataclasses.replace(made, chunk_id=chunk.chunk_id)

    result = dataclasses.replace(result, state=inputs[1])
    remade = chunk_bytes(sample(used)) == chunk_bytes(chunk)
    without = sample(Correction(planned.stamp_ns)) if is_shaping(chunk.provenance.correction) else None
    return dataclasses.replace(result, remade=remade, without=without)


def _cases(
    recording: DecisionRecording, stamp: int | None, command: Command, database: str, notes: list[str]
) -> tuple[tuple[ExplainedCase, ...], float]:
    told = None if stamp is None else recording.told(stamp)
    if told is None:
        return (), float("nan")
    used = set(command.provenance.case_ids) if is_shaping(command.provenance.correction) else set()
    ids = [int(case.case_id) for case in told.message.cases]
    whole = _stored(database, ids, notes) if ids else {}
    cases = tuple(
        ExplainedCase(
            int(case.case_id),
            float(case.similarity),
            _type_word(int(case.failure_type)),
            case.phase,
            int(case.case_id) in used,
            bool(case.has_correction),
            whole[int(case.case_id)].correction_source if int(case.case_id) in whole else "",
            int(case.uses),
            int(case.successes),
            float(case.credit),
            whole[int(case.case_id)].note if int(case.case_id) in whole else "",
        )
        for case in told.message.cases
    )
    return cases, float(told.message.threshold)


def _stored(database: str, ids: list[int], notes: list[str]) -> dict[int, FailureCase]:
    path = Path(database).expanduser()
    if not database or not path.is_file():
        notes.append("the failure memory is not there any more: where a correction came from is not known")
        return {}
    if path.stat().st_size > LARGEST_DATABASE:
        notes.append(f"{path} is large and was not opened: where a correction came from is not known")
        return {}
    folder = Path(tempfile.mkdtemp(prefix="flow_rag_vla_why_"))
    try:
        copy_database(path, folder / "cases.db")
        store = FailureStore(folder / "cases.db")
        try:
            return store.get(ids)
        finally:
            store.close()
    except (StoreError, OSError) as error:
        notes.append(f"where a correction came from is not known: {error}")
        return {}
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _type_word(value: int) -> str:
    try:
        return FailureType(value).name.lower().replace("_", " ")
    except ValueError:
        return f"type {value}"


def _last_seen(recording: DecisionRecording, tick: Tick) -> Seen | None:
    found = None
    for seen in recording.embeddings:
        if seen.log_ns > tick.log_ns:
            break
        found = seen
    return found


def _observations(recording: DecisionRecording, tick: Tick) -> tuple[Observed, ...]:
    """What became of the observations before a tick that did not follow a chunk."""
    found = []
    for seen in recording.embeddings:
        if not tick.log_ns - LOOK_BACK_NS <= seen.log_ns <= tick.log_ns:
            continue
        planned = recording.planned(seen.stamp_ns)
        age = (tick.command.stamp_ns - seen.stamp_ns) * 1e-9
        if planned is None:
            status = recording.status_at(seen.log_ns)
            running = status is not None and status.running
            what = "no chunk was made of it" + ("" if running else ": no episode was running")
        elif planned.value is None:
            what = f"its chunk was malformed: {planned.problem}"
        else:
            late = (planned.log_ns - tick.log_ns) * 1e-9
            when = f"came {late:.3f} s after this tick" if late > 0 else f"came {-late:.3f} s before this tick"
            what = f"chunk {planned.value.chunk_id} {when}"
        found.append(Observed(age, what))
    return tuple(found)


def _frames(recording: DecisionRecording, seen: Seen, notes: list[str]) -> dict[str, NDArray[np.uint8]]:
    """The pictures behind an embedding: the newest of each camera that is not younger than its stamp says."""
    found: dict[str, NDArray[np.uint8]] = {}
    try:
        bag = Bag(recording.path)
    except (BagError, OSError):
        return found
    for camera in CAMERAS:
        topic = bag.find(f"camera/{camera}/image_raw")
        if topic is None:
            continue
        best: int | None = None
        for entry in bag.messages([topic], max(0, seen.log_ns - 1_000_000_000), seen.log_ns + 1):
            distance = abs(stamp_ns(entry.message.header) - seen.stamp_ns)
            if best is not None and distance >= best:
                continue
            try:
                found[camera] = image_pixels(entry.message)
                best = distance
            except ValueError:
                continue
    if not found:
        notes.append("the pictures of this observation are not in the bag")
    return found


def clamp_words(clamps: Clamp) -> list[str]:
    """The limits that a command met, in words."""
    words = {
        Clamp.WORKSPACE: "the target would have left the workspace",
        Clamp.VELOCITY: "the step was longer than a tick allows",
        Clamp.ACCELERATION: "the step changed more from the one before than a tick allows",
        Clamp.GRIPPER: "the opening was outside 0 to 1",
        Clamp.TRACKING: "the target was too far ahead of the measured tool",
        Clamp.ROTATION: "the rotation was larger than a tick allows",
    }
    return [f"{flag.name}: {text}" for flag, text in words.items() if flag in clamps and flag.name]
