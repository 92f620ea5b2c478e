# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Where the corrections of a replay come from: as recorded, none, or a failure memory that lives through the bag again.

The memory follows the recorded episodes, failures and observations as its node does live. One thing differs: here a
case is stored the moment its failure event comes, live a thread does it some milliseconds later.
"""

from __future__ import annotations

import dataclasses
import shutil
import sqlite3
import tempfile
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Protocol

from flow_rag_vla.control.ladder import Mode
from flow_rag_vla.control.loop import Command
from flow_rag_vla.core.action import ActionChunk, CorrectionMode
from flow_rag_vla.core.correction import Correction, told_until
from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.data.bag import BagMessage
from flow_rag_vla.data.message_values import evidence, stamp_ns
from flow_rag_vla.evaluate.decisions.recording import DecisionRecording, Seen, Status
from flow_rag_vla.memory.answering import Answering, AnsweringSettings, Keying, NoKeyError, Whereabouts
from flow_rag_vla.memory.case import CaseError, FailureCase
from flow_rag_vla.memory.episode import EpisodeMemory, Failure
from flow_rag_vla.memory.index import faiss_factory
from flow_rag_vla.memory.learning import Learner, LearningSettings
from flow_rag_vla.memory.memory import FailureMemory
from flow_rag_vla.memory.results import MemorySettings
from flow_rag_vla.memory.store import StoreError
from flow_rag_vla.policy.observation import proprioception

ORIGIN = "replay"
SUCCEEDED, FAILED = 3, 4
"""Values equal EpisodeStatus.STATE_*."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A correction, and the cases that a search brought up for it (id to similarity), most similar first."""

    correction: Correction
    similarities: tuple[tuple[int, float], ...] = ()
    threshold: float = 0.0


class CorrectionSource(Protocol):
    """Gives the answer to each embedding; hears in the order of the recording what a memory hears."""

    def answer(self, seen: Seen, state: RobotState | None = None) -> Answer:
        """The answer to an embedding. state: by which the live memory went, where that is on record."""
        ...

    def on_status(self, status: Status) -> None:
        """An episode status came."""
        ...

    def on_state(self, state: RobotState) -> None:
        """A robot state came."""
        ...

    def on_failure(self, entry: BagMessage) -> None:
        """A failure event came."""
        ...

    def on_chunk(self, chunk: ActionChunk) -> None:
        """The policy made a chunk."""
        ...

    def on_command(self, command: Command) -> None:
        """The controller gave a command."""
        ...


class NoMemory:
    """Has nothing to say."""

    def answer(self, seen: Seen, state: RobotState | None = None) -> Answer:
        """Say NONE."""
        return Answer(Correction(seen.stamp_ns))

    def on_status(self, status: Status) -> None:
        """Pass over."""

    def on_state(self, state: RobotState) -> None:
        """Pass over."""

    def on_failure(self, entry: BagMessage) -> None:
        """Pass over."""

    def on_chunk(self, chunk: ActionChunk) -> None:
        """Pass over."""

    def on_command(self, command: Command) -> None:
        """Pass over."""


class RecordedMemory(NoMemory):
    """Says what the memory said when the bag was recorded."""

    def __init__(self, recording: DecisionRecording) -> None:
        self._recording = recording

    def answer(self, seen: Seen, state: RobotState | None = None) -> Answer:
        """The recorded answer; NONE where none is on record."""
        told = self._recording.told(seen.stamp_ns)
        if told is None or told.value is None:
            return Answer(Correction(seen.stamp_ns))
        cases = tuple((int(case.case_id), float(case.similarity)) for case in told.message.cases)
        return Answer(told.value, cases, float(told.message.threshold))


@dataclass(frozen=True, slots=True)
class MemoryReplaySettings:
    """The failure memory's parameters, as far as they decide. Times in nanoseconds."""

    answering: AnsweringSettings = field(default_factory=AnsweringSettings)
    keying: Keying | None = None
    history_ns: int = 60_000_000_000
    learning: LearningSettings = field(default_factory=lambda: LearningSettings(ORIGIN))
    memory: MemorySettings = field(default_factory=MemorySettings)


class LivingMemory(NoMemory):
    """A failure memory that starts from a copy of a database, or empty, and learns as the bag goes on.

    Use as a context manager: the copy is thrown away at the end, the database itself is never written.
    """

    def __init__(self, settings: MemoryReplaySettings, database: str | Path | None = None) -> None:
        """Open a copy.

        Args:
            settings: of the memory and its corrector.
            database: SQLite file to start from; None: no case.

        Raises:
            StoreError: if the database cannot be read.
        """
        self._settings = settings
        self._folder = Path(tempfile.mkdtemp(prefix="flow_rag_vla_replay_"))
        self.notes: list[str] = []
        """What could not be done as live: one sentence each."""
        try:
            path = self._folder / "failure_memory.db"
            if database is not None:
                copy_database(Path(database).expanduser(), path)
            self._memory, _ = FailureMemory.open(path, settings.memory, faiss_factory("cpu"))
        except BaseException:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise
        self._episode = EpisodeMemory(settings.history_ns)
        self._answering = Answering(self._memory, self._episode, settings.answering, settings.keying)
        self._learner = Learner(self._memory, self._episode, settings.learning, self._told)
        self._status: Status | None = None

    def __enter__(self) -> LivingMemory:
        """The memory itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Throw the copy away."""
        self.close()

    def close(self) -> None:
        """Throw the copy away; a second call does nothing."""
        if self._folder.exists():
            self._memory.close()
            shutil.rmtree(self._folder, ignore_errors=True)

    def answer(self, seen: Seen, state: RobotState | None = None) -> Answer:
        """Search and correct, as the node does on an embedding."""
        status = self._status
        where = None if status is None else Whereabouts(status.task, status.phase, status.instruction)
        try:
            felt = None if state is None else (state.stamp_ns, proprioception(state))
            found = self._answering.answer(seen.stamp_ns, seen.values, seen.encoder, seen.revision, where, felt)
        except NoKeyError:
            return Answer(Correction(seen.stamp_ns), threshold=self._answering.threshold)
        except (CaseError, StoreError, ValueError) as error:
            self._note(f"embedding of {seen.encoder!r}: {error}")
            return Answer(Correction(seen.stamp_ns), threshold=self._answering.threshold)
        similarities = tuple((item.case_id, item.similarity) for item in found.found)
        return Answer(_as_sent(found.correction), similarities, found.threshold)

    def on_status(self, status: Status) -> None:
        """Begin, follow and end episodes."""
        found = self._learner.follow(
            status.episode_id,
            status.task,
            status.phase,
            running=status.running,
            success={SUCCEEDED: True, FAILED: False}.get(status.state),
            stamp_ns=status.stamp_ns,
        )
        if found is not None:
            try:
                self._learner.learn(*found)
            except (CaseError, StoreError, LookupError, ValueError) as error:
                self._note(f"an episode's lesson was not learned: {error}")
        self._status = status

    def on_state(self, state: RobotState) -> None:
        """Keep the proprioception at hand."""
        self._episode.proprioception.append(state.stamp_ns, lambda: proprioception(state))

    def on_chunk(self, chunk: ActionChunk) -> None:
        """Keep the chunk, and which cases shaped it."""
        self._episode.chunks.append(chunk.stamp_ns, chunk)
        used = chunk.provenance
        self._episode.use(used.correction, used.case_ids, used.correction_strength, chunk.chunk_id, chunk.stamp_ns)

    def on_command(self, command: Command) -> None:
        """Note cases that the controller applied itself."""
        used = command.provenance
        if used.correction and used.case_ids:
            self._episode.use(used.correction, used.case_ids, used.correction_strength, command.chunk_id)
        if command.mode is Mode.TAKEOVER:
            self._episode.intervene()
            self._note("a person took over: what they did is not learned as a correction in a replay")

    def on_failure(self, entry: BagMessage) -> None:
        """Make a case of a failure and store it."""
        message = entry.message
        shown_ns = stamp_ns(message.header)
        try:
            failure = Failure(
                shown_ns,
                stamp_ns(message.onset) or shown_ns,
                FailureType(message.failure_type),
                message.task,
                message.phase,
                evidence(message.evidence),
                message.description,
            )
        except ValueError as error:
            self._note(f"failure event {message.event_id}: {error}")
            return
        try:
            # The moment of the failure, not of the replay: two replays store the same.
            pending = self._learner.failed(failure, shown_ns)
        except CaseError as error:
            self._note(f"failure event {message.event_id} made no case: {error}")
            return
        try:
            self._learner.remember(pending)
        except (CaseError, StoreError) as error:
            self._note(f"a case was not stored: {error}")

    def case(self, case_id: int) -> FailureCase | None:
        """A stored case."""
        return self._memory.cases([case_id]).get(case_id)

    def _told(self, what: str, warn: bool) -> None:
        if warn:
            self._note(what)

    def _note(self, sentence: str) -> None:
        if sentence not in self.notes:
            self.notes.append(sentence)


def _as_sent(correction: Correction) -> Correction:
    """What policy and controller receive: strength and until have been through a message's float32."""
    sent = memoryview(bytearray(8)).cast("f")
    sent[0], sent[1] = correction.strength, correction.until
    return dataclasses.replace(correction, strength=sent[0], until=told_until(sent[1]))


def copy_database(source: Path, target: Path) -> None:
    """Copy a database as it stands, also while another process writes it."""
    if not source.is_file():
        raise StoreError(f"there is no failure memory at {source}; name the database with --database")
    try:
        with (
            closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True)) as before,
            closing(sqlite3.connect(target)) as after,
        ):
            before.backup(after)
    except sqlite3.Error as error:
        raise StoreError(f"{source} cannot be copied: {error}") from error


def is_shaping(mode: CorrectionMode) -> bool:
    """Whether a correction of this mode changes what the robot does."""
    return mode not in (CorrectionMode.NONE, CorrectionMode.TIMEOUT)
