# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""One pass over a bag's small topics: what a report needs of them, as plain values."""

from __future__ import annotations

import bisect
from dataclasses import dataclass, field
from typing import Any

from flow_rag_vla.core.action import CorrectionMode
from flow_rag_vla.core.failure import Evidence, FailureType
from flow_rag_vla.data.bag import SAME_CLOCK_NS, Bag
from flow_rag_vla.data.message_values import stamp_ns
from flow_rag_vla.evaluate.episode import LoopSample

MODES = ("idle", "follow", "hold", "decelerate", "stop", "emergency stop", "takeover")
"""Names of ControlCommand.MODE_*, by value."""

EPISODE_RUNNING = 2
_CLOCK_SAMPLES = 20
"""First commands and embeddings by which the clock is told: one alone may have waited, for a model that loads."""

_TOPICS = (
    "embedding", "action_chunk", "correction", "command", "loop_statistics", "failure_event", "memory_statistics",
    "episode_status", "clock",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Command:
    """A command as received. Times in ns; ``mode`` indexes MODES."""

    log_ns: int
    stamp_ns: int
    tick: int
    mode: int
    chunk_id: int
    observation_age_ms: float
    correction: int
    case_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Embedding:
    """An embedding as received; ``stamp_ns`` is the capture time of its images."""

    log_ns: int
    stamp_ns: int
    inference_ms: float


@dataclass(frozen=True, slots=True)
class Chunk:
    """An action chunk as received; ``stamp_ns`` is the capture time of its observation."""

    log_ns: int
    stamp_ns: int
    chunk_id: int
    inference_ms: float
    correction_wait_ms: float
    correction: str


@dataclass(frozen=True, slots=True)
class RetrievedCase:
    """A case that a search brought up."""

    case_id: int
    similarity: float
    failure_type: str
    phase: str
    has_correction: bool
    uses: int
    successes: int
    credit: float


@dataclass(frozen=True, slots=True)
class Answer:
    """The memory's answer to one embedding."""

    log_ns: int
    stamp_ns: int
    mode: str
    strength: float
    threshold: float
    search_ms: float
    cases: tuple[RetrievedCase, ...]


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure event as received."""

    log_ns: int
    stamp_ns: int
    onset_ns: int
    event_id: int
    episode_id: int
    failure_type: str
    confidence: float
    task: str
    phase: str
    detector: str
    description: str
    evidence: tuple[Evidence, ...]


@dataclass(frozen=True, slots=True)
class Loop(LoopSample):
    """What the loop said about itself in one second, as received. stages: name, count, p50 and p99 in milliseconds."""

    log_ns: int
    stages: tuple[tuple[str, int, float, float], ...]


@dataclass(frozen=True, slots=True)
class Memory:
    """What the memory said about itself."""

    log_ns: int
    cases: int
    retired: int
    added: int
    refused: int
    searches: int
    corrections: int
    search_p50_ms: float
    search_p99_ms: float
    encoder: str
    encoder_revision: str


@dataclass(slots=True)
class EpisodeWindow:
    """Reception times (ns) between which an episode ran, and its phases as (log time, name)."""

    episode_id: int
    start_ns: int
    end_ns: int
    phases: list[tuple[int, str]] = field(default_factory=list)


@dataclass(slots=True)
class Digest:
    """Everything small in a bag, in order of reception."""

    embeddings: list[Embedding] = field(default_factory=list)
    chunks: list[Chunk] = field(default_factory=list)
    answers: list[Answer] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)
    loops: list[Loop] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    memories: list[Memory] = field(default_factory=list)
    windows: dict[int, EpisodeWindow] = field(default_factory=dict)
    policy: str = ""
    policy_revision: str = ""
    encoder: str = ""
    encoder_revision: str = ""
    _clock: list[tuple[int, int]] = field(default_factory=list)

    @property
    def simulated_clock(self) -> bool:
        """Whether stamps are of another clock than the times of reception: a simulation's, or that of a played bag."""
        firsts: tuple[Command | Embedding, ...] = (
            *self.commands[:_CLOCK_SAMPLES],
            *self.embeddings[:_CLOCK_SAMPLES],
        )
        apart = [abs(item.stamp_ns - item.log_ns) for item in firsts]
        return bool(apart) and min(apart) > SAME_CLOCK_NS

    def received_at(self, stamp: int) -> int | None:
        """Reception time that belongs to a stamp: the stamp itself, or through /clock if time is simulated."""
        if not self.simulated_clock:
            return stamp
        place = bisect.bisect_left(self._clock, (stamp, 0))
        if place < len(self._clock):
            return self._clock[place][1]
        return self._clock[-1][1] if self._clock else None


def digest_bag(bag: Bag) -> Digest:
    """Read the small topics of a bag once. Topics that it lacks leave their lists empty."""
    result = Digest()
    names = {found: relative for relative in _TOPICS if (found := bag.find(relative)) is not None}
    takers = {
        "embedding": _take_embedding,
        "action_chunk": _take_chunk,
        "correction": _take_answer,
        "command": _take_command,
        "loop_statistics": _take_loop,
        "failure_event": _take_failure,
        "memory_statistics": _take_memory,
        "episode_status": _take_status,
        "clock": _take_clock,
    }
    if names:
        for entry in bag.messages(tuple(names)):
            takers[names[entry.topic]](result, entry.log_ns, entry.message)
    result.commands.sort(key=lambda item: item.log_ns)
    result._clock.sort()
    return result


def _take_embedding(result: Digest, log_ns: int, message: Any) -> None:
    result.embeddings.append(Embedding(log_ns, stamp_ns(message.header), float(message.inference_ms)))
    result.encoder, result.encoder_revision = message.encoder, message.revision


def _take_chunk(result: Digest, log_ns: int, message: Any) -> None:
    result.chunks.append(
        Chunk(
            log_ns,
            stamp_ns(message.header),
            int(message.chunk_id),
            float(message.inference_ms),
            float(message.correction_wait_ms),
            correction_name(message.provenance.correction),
        )
    )
    result.policy, result.policy_revision = message.provenance.policy, message.provenance.policy_revision


def _take_answer(result: Digest, log_ns: int, message: Any) -> None:
    cases = tuple(
        RetrievedCase(
            int(case.case_id), float(case.similarity), failure_name(case.failure_type), case.phase,
            bool(case.has_correction), int(case.uses), int(case.successes), float(case.credit),
        )
        for case in message.cases
    )  # fmt: skip
    result.answers.append(
        Answer(
            log_ns,
            stamp_ns(message.header),
            correction_name(message.correction),
            float(message.strength),
            float(message.threshold),
            float(message.search_ms),
            cases,
        )
    )


def _take_command(result: Digest, log_ns: int, message: Any) -> None:
    result.commands.append(
        Command(
            log_ns,
            stamp_ns(message.header),
            int(message.tick),
            int(message.mode),
            int(message.chunk_id),
            float(message.observation_age_ms),
            int(message.provenance.correction),
            tuple(int(case) for case in message.provenance.case_ids),
        )
    )


def _take_loop(result: Digest, log_ns: int, message: Any) -> None:
    result.loops.append(
        Loop(
            **LoopSample.values_of(message),
            log_ns=log_ns,
            stages=tuple(
                (item.stage, int(item.count), float(item.p50_ms), float(item.p99_ms)) for item in message.stages
            ),
        )
    )


def _take_failure(result: Digest, log_ns: int, message: Any) -> None:
    evidence = tuple(
        Evidence(item.name, float(item.value), float(item.threshold), item.unit) for item in message.evidence
    )
    result.failures.append(
        Failure(
            log_ns,
            stamp_ns(message.header),
            stamp_ns(message.onset),
            int(message.event_id),
            int(message.episode_id),
            failure_name(message.failure_type),
            float(message.confidence),
            message.task,
            message.phase,
            message.detector,
            message.description,
            evidence,
        )
    )


def _take_memory(result: Digest, log_ns: int, message: Any) -> None:
    result.memories.append(
        Memory(
            log_ns,
            int(message.cases),
            int(message.retired),
            int(message.added),
            int(message.refused_duplicates) + int(message.refused_invalid),
            int(message.searches),
            int(message.corrections),
            float(message.search_p50_ms),
            float(message.search_p99_ms),
            message.encoder,
            message.encoder_revision,
        )
    )


def _take_status(result: Digest, log_ns: int, message: Any) -> None:
    number = int(message.episode_id)
    window = result.windows.get(number)
    if int(message.state) == EPISODE_RUNNING:
        if window is None:
            window = result.windows[number] = EpisodeWindow(number, log_ns, log_ns)
        if message.phase and (not window.phases or window.phases[-1][1] != message.phase):
            window.phases.append((log_ns, message.phase))
        window.end_ns = log_ns


def _take_clock(result: Digest, log_ns: int, message: Any) -> None:
    result._clock.append((stamp_ns(message.clock), log_ns))


def correction_name(value: int) -> str:
    """Name of a Provenance.CORRECTION_*."""
    return CorrectionMode(value).name.lower() if value in set(CorrectionMode) else f"mode {value}"


def failure_name(value: int) -> str:
    """Name of a FailureEvent.TYPE_*."""
    return FailureType(value).name.lower() if value in set(FailureType) else f"type {value}"
