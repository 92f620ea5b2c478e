# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Makes chunks, corrections and commands of a recording again, tick by tick, with the recorded stamps as the clock.

Nothing here looks at a clock, so the same bag and the same settings give the same bytes. What a live graph decides by
its timing (which observation became a chunk, whether the memory answered in time, how many rows were committed, what
had arrived when a tick began) is taken from the recording; what it decides by content is decided anew. The robot does
not answer to a replay: its states are those of the recording, whatever the commands made here would have done.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from flow_rag_vla.control.ladder import Mode
from flow_rag_vla.control.loop import Command, ControlLoop, LoopSettings
from flow_rag_vla.control.pace import carried
from flow_rag_vla.core.action import ActionChunk, CorrectionMode
from flow_rag_vla.core.correction import Correction
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.data.bag import BagMessage
from flow_rag_vla.evaluate.decisions.fingerprint import chunk_bytes, command_bytes, correction_bytes
from flow_rag_vla.evaluate.decisions.inputs import chunk_inputs
from flow_rag_vla.evaluate.decisions.memory import Answer, CorrectionSource, RecordedMemory
from flow_rag_vla.evaluate.decisions.recording import (
    BY_SERVICE,
    CHUNK,
    CORRECTION,
    EMERGENCY_STOP,
    EMERGENCY_STOP_RESET,
    EPISODE,
    STATE,
    TAKEOVER,
    DecisionRecording,
    Planned,
    Seen,
    Status,
    Take,
    Tick,
    timed_out,
)
from flow_rag_vla.policy.flow import Method
from flow_rag_vla.policy.follower import noise_seed
from flow_rag_vla.policy.policy import FlowPolicy


@dataclass(frozen=True, slots=True)
class PolicySettings:
    """The flow policy's parameters, as far as they decide."""

    solver: Method = "euler"
    steps: int = 6
    samples: int = 4
    seed: int | None = None
    """Base of the noise seeds; None: each chunk's seed is the one that was recorded with it."""
    guidance: float = 1.0

    def apply(self, policy: FlowPolicy) -> None:
        """Set a policy up so."""
        policy.configure(solver=self.solver, steps=self.steps, samples=self.samples, guidance=self.guidance)


@dataclass(frozen=True, slots=True)
class MadeChunk:
    """One chunk made again. problem: why it is the recorded one instead; empty if it was made here."""

    chunk: ActionChunk
    correction: Correction
    problem: str = ""


@dataclass(frozen=True, slots=True)
class MadeTick:
    """One tick made again.

    chunk_stamp_ns: of the chunk that the loop held when it decided; None without one
    asked: (7,) float32, the chunk's row after the arbiter and before the limits; None where none was followed
    refusals: one sentence for each message of this tick that the loop did not take
    """

    command: Command
    chunk_stamp_ns: int | None
    asked: NDArray[np.float32] | None = None
    refusals: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Decisions:
    """What a replay decided. chunks, answers: by the stamp of their observation."""

    name: str
    answers: Mapping[int, Answer]
    chunks: Mapping[int, MadeChunk]
    ticks: tuple[MadeTick, ...]
    notes: tuple[str, ...] = ()

    def digest(self) -> dict[str, str]:
        """SHA-256 of all corrections, all chunks and all commands: equal exactly if every bit of them is."""
        return {
            "corrections": _digest(correction_bytes(self.answers[key].correction) for key in sorted(self.answers)),
            "chunks": _digest(chunk_bytes(self.chunks[key].chunk) for key in sorted(self.chunks)),
            "commands": _digest(command_bytes(tick.command) for tick in self.ticks),
        }


class Replay:
    """One pass through a recording with one source of corrections."""

    def __init__(
        self,
        recording: DecisionRecording,
        source: CorrectionSource,
        policy: FlowPolicy | None,
        *,
        name: str = "",
        policy_settings: PolicySettings | None = None,
        loop_settings: LoopSettings | None = None,
        changes: Sequence[tuple[int, LoopSettings]] = (),
    ) -> None:
        """Prepare a pass.

        Args:
            recording: what was recorded.
            source: gives the corrections.
            policy: makes the chunks; None takes them as recorded.
            name: of this variant.
            policy_settings: sampling, and the base of the noise seeds.
            loop_settings: of the control loop.
            changes: settings that took over while the bag was recorded, with the log times at which they did.
        """
        self._recording = recording
        self._source = source
        self._policy = policy
        self._name = name
        self._policy_settings = policy_settings or PolicySettings()
        self._loop_settings = loop_settings or LoopSettings()
        self._changes = list(changes)
        self._answers: dict[int, Answer] = {}
        self._chunks: dict[int, MadeChunk] = {}
        self._last: tuple[Planned, ActionChunk] | None = None
        self._heard_memory = bool(recording.corrections)
        self._loop: ControlLoop | None = None
        self._ticks: list[MadeTick] = []
        self._refusals: list[str] = []
        self._problems: dict[str, int] = {}

    def run(
        self, progress: Callable[[int, int], None] | None = None, start_ns: int = 0, stop_ns: int = 2**63 - 1
    ) -> Decisions:
        """Go through the recording, or the part of it whose log times lie in [start, stop).

        ``progress`` hears the number of ticks done and of all.
        """
        if self._policy is not None:
            self._policy_settings.apply(self._policy)
            # As the node: with another number of threads sums are rounded otherwise.
            threads = torch.get_num_threads()
            torch.set_num_threads(1)
        try:
            total = len(self._recording.ticks)
            for event in _events(self._recording, start_ns, stop_ns):
                self._handle(event)
                if progress is not None and isinstance(event, Tick) and len(self._ticks) % 400 == 0:
                    progress(len(self._ticks), total)
        finally:
            if self._policy is not None:
                torch.set_num_threads(threads)
        notes = [f"{sentence} ({count} times)" if count > 1 else sentence for sentence, count in self._problems.items()]
        return Decisions(self._name, self._answers, self._chunks, tuple(self._ticks), tuple(notes))

    def _handle(self, event: object) -> None:
        if isinstance(event, Tick):
            self._tick(event)
        elif isinstance(event, _Answering):
            self._answer(event.seen)
        elif isinstance(event, Planned):
            self._chunk(event)
        elif isinstance(event, Status):
            self._source.on_status(event)
        elif isinstance(event, BagMessage):
            self._source.on_failure(event)
        elif isinstance(event, _Felt):
            self._source.on_state(event.state)

    # Corrections.

    def _answer(self, seen: Seen) -> Answer:
        known = self._answers.get(seen.stamp_ns)
        if known is None:
            told = self._recording.told(seen.stamp_ns)
            state = None if told is None or told.value is None else self._recording.state(told.value.state_stamp_ns)
            known = self._answers[seen.stamp_ns] = self._source.answer(seen, state)
        return known

    def _correction(self, planned: Planned, chunk: ActionChunk) -> Correction | None:
        """What the policy had in hand: None when the memory's answer did not come in time."""
        if timed_out(chunk) and self._heard_memory:
            return None
        seen = self._recording.embedding(planned.stamp_ns)
        return None if seen is None else self._answer(seen).correction

    # Chunks.

    def _chunk(self, planned: Planned) -> MadeChunk | None:
        if planned.value is None:
            return None
        known = self._chunks.get(planned.stamp_ns)
        if known is not None:
            return known
        recorded = planned.value
        made = self._made(planned, recorded)
        if made.problem:
            self._problem(made.problem)
        self._chunks[planned.stamp_ns] = made
        self._last = planned, made.chunk
        self._source.on_chunk(made.chunk)
        return made

    def _made(self, planned: Planned, recorded: ActionChunk) -> MadeChunk:
        correction = self._correction(planned, recorded) or Correction(planned.stamp_ns, CorrectionMode.TIMEOUT)
        if self._policy is None:
            return MadeChunk(recorded, correction, "chunks are taken as recorded: no policy was given")
        inputs = chunk_inputs(self._recording, planned, self._policy)
        if isinstance(inputs, str):
            return MadeChunk(recorded, correction, inputs)
        previous = self._previous(planned, recorded)
        if isinstance(previous, str):
            return MadeChunk(recorded, correction, previous)
        seen, state, goal = inputs
        base = self._policy_settings.seed
        chunk = self._policy.act(
            seen.values,
            state,
            goal,
            seed=recorded.provenance.noise_seed if base is None else noise_seed(base, planned.stamp_ns),
            stamp_ns=planned.stamp_ns,
            previous=carried(previous, planned.stamp_ns, self._recording.pace_at(planned.log_ns)),
            delay_ticks=recorded.committed,
            correction=correction,
        )
        return MadeChunk(dataclasses.replace(chunk, chunk_id=recorded.chunk_id), correction)

    def _previous(self, planned: Planned, recorded: ActionChunk) -> ActionChunk | str | None:
        """The chunk that this one goes on from; a sentence if it is not in the bag."""
        if recorded.committed == 0:
            # A policy that has a chunk to go on from commits to at least one row of it.
            return None
        if self._last is None or self._last[1].chunk_id != recorded.chunk_id - 1:
            return f"chunk {recorded.chunk_id} goes on from chunk {recorded.chunk_id - 1}, which is not in the bag"
        return self._last[1]

    # Commands.

    def _tick(self, tick: Tick) -> None:
        command, loop = tick.command, self._loop
        before = self._ticks[-1].command.tick if self._ticks else None
        while self._changes and self._changes[0][0] <= tick.log_ns:
            self._loop_settings = self._changes.pop(0)[1]
            if loop is not None:
                loop.configure(self._loop_settings)
        if loop is None or (before is not None and command.tick <= before):
            self._loop = ControlLoop(self._loop_settings)
            if command.tick > 1:
                self._begin(self._loop, tick)
                return
            loop = self._loop
        now_ns, steady_ns = command.stamp_ns, tick.steady_ns
        for take in tick.takes:
            self._offer(loop, take, now_ns, steady_ns)
        if tick.scheduled_ns is not None:
            loop.expect(command.tick, tick.scheduled_ns)
        elif before is not None and command.tick != before + 1:
            loop.expect(command.tick, now_ns)
        made = loop.tick(now_ns, steady_ns)
        self._add(loop, made)

    def _begin(self, loop: ControlLoop, tick: Tick) -> None:
        """A recording that begins while the loop runs: its first command is taken as it is, and gone on from."""
        now_ns, steady_ns = tick.command.stamp_ns, tick.steady_ns
        for status in self._recording.episode_so_far(tick.log_ns):
            loop.set_episode(status.episode, now_ns, steady_ns)
        state = self._recording.state_near(now_ns, tick.log_ns)
        if state is not None:
            loop.offer_state(state, now_ns, steady_ns)
        held = self._recording.planned(tick.command.provenance.observation_stamp_ns)
        told = self._recording.told(tick.command.provenance.observation_stamp_ns)
        before = [Take(CHUNK, 0, 0, held)] if held is not None else []
        before += [Take(CORRECTION, 0, 0, told)] if told is not None else []
        for take in (*before, *tick.takes):
            self._offer(loop, take, now_ns, steady_ns)
        self._refusals.clear()
        if tick.scheduled_ns is not None:
            loop.expect(tick.command.tick, tick.scheduled_ns)
        loop.tick(now_ns, steady_ns)
        loop.resume(tick.command)
        self._add(loop, tick.command)

    def _add(self, loop: ControlLoop, command: Command) -> None:
        held, asked = loop.queue.held, None
        if held is not None and command.mode is Mode.FOLLOW and command.chunk_index < held.chunk.horizon:
            asked = held.chunk.actions[command.chunk_index]
        refusals, self._refusals = tuple(self._refusals), []
        self._ticks.append(MadeTick(command, None if held is None else held.chunk.stamp_ns, asked, refusals))
        self._source.on_command(command)

    def _offer(self, loop: ControlLoop, take: Take, now_ns: int, steady_ns: int) -> None:
        kind, value = take.kind, take.value
        if kind == EMERGENCY_STOP:
            if take.key == BY_SERVICE:
                loop.emergency_stop("asked for by a service call", steady_ns - take.waited_ns)
            elif take.key:
                loop.emergency_stop("asked for on topic emergency_stop", steady_ns)
            return
        if kind == EMERGENCY_STOP_RESET:
            loop.reset_emergency_stop(steady_ns - take.waited_ns)
            return
        if value is None:
            return
        arrived_ns, arrived_steady_ns = now_ns - take.waited_ns, steady_ns - take.waited_ns
        if kind == EPISODE:
            loop.set_episode(value.episode, now_ns, steady_ns)
        elif kind == STATE:
            refusal = loop.offer_state(value, arrived_ns, arrived_steady_ns)
            if refusal is not None:
                self._refusals.append(f"robot state refused: {refusal.value}")
        elif kind == TAKEOVER:
            over = loop.offer_takeover(value, arrived_ns, arrived_steady_ns)
            if over is not None:
                self._refusals.append(f"takeover refused: {over[1]}")
        elif kind == CHUNK:
            made = self._chunk(value)
            if made is None:
                loop.refuse_chunk(value.problem)
                self._refusals.append(f"chunk refused: {value.problem}")
            else:
                refused = loop.offer_chunk(made.chunk, arrived_ns, arrived_steady_ns)
                if refused is not None:
                    self._refusals.append(f"chunk refused: {refused.text}")
        elif kind == CORRECTION:
            seen = self._recording.embedding(value.stamp_ns)
            if seen is not None:
                ignored = loop.offer_correction(self._answer(seen).correction, arrived_ns, arrived_steady_ns)
                if ignored is not None:
                    self._refusals.append(f"correction ignored: {ignored[1]}")

    def _problem(self, sentence: str) -> None:
        self._problems[sentence] = self._problems.get(sentence, 0) + 1


def recorded_decisions(recording: DecisionRecording) -> Decisions:
    """What was decided live, in the form of a replay's decisions."""
    source = RecordedMemory(recording)
    answers = {item.stamp_ns: source.answer(item) for item in recording.embeddings}
    chunks = {
        item.stamp_ns: MadeChunk(
            item.value, answers[item.stamp_ns].correction if item.stamp_ns in answers else Correction(item.stamp_ns)
        )
        for item in recording.chunks
        if item.value is not None
    }
    by_id = {made.chunk.chunk_id: stamp for stamp, made in chunks.items()}
    ticks = tuple(MadeTick(tick.command, by_id.get(tick.command.chunk_id)) for tick in recording.ticks)
    return Decisions("live", answers, chunks, ticks)


@dataclass(frozen=True, slots=True)
class _Answering:
    """The moment at which the memory answered an embedding."""

    seen: Seen


@dataclass(frozen=True, slots=True)
class _Felt:
    """A robot state as the memory hears it."""

    state: RobotState


def _events(recording: DecisionRecording, start_ns: int, stop_ns: int) -> list[object]:
    """Everything that happens, in the order of the recording; at the same moment causes come before effects."""
    events: list[tuple[int, int, int, object]] = []

    def add(log_ns: int, rank: int, event: object) -> None:
        if start_ns <= log_ns < stop_ns:
            events.append((log_ns, rank, len(events), event))

    for status in recording.statuses:
        add(status.log_ns, 0, status)
    for log_ns, state in recording.states:
        add(log_ns, 1, _Felt(state))
    for failure in recording.failures:
        add(failure.log_ns, 2, failure)
    for seen in recording.embeddings:
        told = recording.told(seen.stamp_ns)
        add(seen.log_ns if told is None else told.log_ns, 3, _Answering(seen))
    for planned in recording.chunks:
        add(planned.log_ns, 4, planned)
    for tick in recording.ticks:
        add(tick.log_ns, 5, tick)
    events.sort(key=lambda item: item[:3])
    return [event for _, _, _, event in events]


def _digest(parts: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part)
    return digest.hexdigest()
