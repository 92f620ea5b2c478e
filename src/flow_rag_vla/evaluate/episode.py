# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The course of one episode, from reset to verdict. Pure: stamps are handed in, nothing is read or sent."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from enum import IntEnum
from typing import Any

from flow_rag_vla.core.action import CorrectionMode
from flow_rag_vla.core.goal import GOALS, Goal, UnknownTaskError, check_task, parse_instruction
from flow_rag_vla.core.phase import Phase
from flow_rag_vla.data.episode_record import CorrectionUse, EpisodeRecord, FailureRecord, LoopSummary, PhaseSpan
from flow_rag_vla.data.running_episode import LISTED, Course


class EpisodeState(IntEnum):
    """Values equal EpisodeStatus.STATE_*."""

    IDLE = 0
    RESETTING = 1
    RUNNING = 2
    SUCCEEDED = 3
    FAILED = 4
    CANCELED = 5


class Outcome(IntEnum):
    """Values equal ExecuteTask.Result.OUTCOME_*."""

    SUCCESS = 0
    FAILURE = 1
    CANCELED = 2
    ABORTED = 3

    @property
    def word(self) -> str:
        """As it stands in an episode record."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Verdict:
    """How an episode ended. word: for the status line, e.g. "timeout"; reason: one sentence."""

    outcome: Outcome
    word: str
    reason: str


@dataclass(frozen=True, slots=True)
class LoopSample:
    """What one LoopStatistics message says. Counters run since the controller started; milliseconds, Hz."""

    rate_hz: float
    tick_error_p50_ms: float
    tick_error_p99_ms: float
    tick_error_max_ms: float
    cpu_mean_ms: float
    ticks: int
    late_ticks: int
    skipped_ticks: int
    starved_ticks: int
    chunks_accepted: int
    chunks_rejected: int

    @staticmethod
    def values_of(message: Any) -> dict[str, Any]:
        """The fields by name, from a LoopStatistics message, live or from a bag; one that a bag lacks counts as 0."""
        kinds = {"float": float, "int": int}
        return {item.name: kinds[str(item.type)](getattr(message, item.name, 0)) for item in fields(LoopSample)}

    @classmethod
    def of(cls, message: Any) -> LoopSample:
        """What a LoopStatistics message says."""
        return LoopSample(**cls.values_of(message))


def requested_goal(instruction: str, task: str) -> Goal | None:
    """The goal that a request names; None if a task is named whose target the simulator is to draw.

    Raises:
        UnknownTaskError: if neither is understood, or they disagree, with what is known.
    """
    instruction, task = instruction.strip(), task.strip()
    if not instruction and not task:
        known = "; ".join(goal.instruction for goal in GOALS)
        raise UnknownTaskError(f"no instruction and no task given; known are: {known}")
    if task:
        check_task(task)
    if not instruction:
        targets = [goal for goal in GOALS if goal.task == task]
        return targets[0] if len(targets) == 1 else None
    goal = parse_instruction(instruction)
    if task and goal.task != task:
        raise UnknownTaskError(
            f"instruction {instruction!r} is of task {goal.task!r}, but task is {task!r}; leave one of them empty"
        )
    return goal


PROGRESS: dict[str, float] = {
    Phase.IDLE.value: 0.0,
    Phase.REACH.value: 0.0,
    Phase.GRASP.value: 0.3,
    Phase.TRANSPORT.value: 0.6,
    Phase.RELEASE.value: 0.9,
}
"""How far along a phase is, as far as a robot can tell: evenly spaced, for a progress bar and no more."""


@dataclass(slots=True)
class EpisodeTracker:
    """Follows one episode.

    Stamps are ns of one clock. success_hold: seconds for which the success test must hold, so that an object
    flying through the goal does not count.
    """

    episode_id: int
    task: str
    variant: str
    seed: int
    instruction: str
    success_hold: float = 0.25
    pace: float = 1.0
    """Share of the speed at which it is done, and why below 1."""
    pace_reason: str = ""
    state: EpisodeState = EpisodeState.RESETTING
    timeout: float = 0.0
    started_ns: int = 0
    """0 until it runs."""
    phase: str = ""
    verdict: Verdict | None = None
    ended_ns: int = 0
    corrected_chunks: int = 0
    intervened: bool = False
    """Whether a person took over while it ran."""
    away: float = 0.0
    """Seconds for which nobody watched it: until the episode manager was there again."""
    _unlisted: int = 0
    """Failures that were seen before nobody watched it, and are only counted."""
    _phases: list[tuple[str, int]] = field(default_factory=list)
    _failures: list[FailureRecord] = field(default_factory=list)
    _corrections: list[CorrectionUse] = field(default_factory=list)
    _chunk: tuple[int, CorrectionMode] | None = None
    _success_since_ns: int | None = None
    _loop_before: LoopSample | None = None
    _loop: list[LoopSample] = field(default_factory=list)

    @property
    def active(self) -> bool:
        """Whether no verdict has been reached."""
        return self.verdict is None

    @property
    def failures(self) -> int:
        """Failure events so far."""
        return self._unlisted + len(self._failures)

    @property
    def progress(self) -> float:
        """0 to 1: the farthest phase reached; 1 after a success."""
        if self.verdict is not None and self.verdict.outcome is Outcome.SUCCESS:
            return 1.0
        return max((PROGRESS.get(name, 0.0) for name, _ in self._phases), default=0.0)

    def run(self, now_ns: int, timeout: float, instruction: str = "", loop: LoopSample | None = None) -> None:
        """The start is set up; time counts from now.

        Args:
            now_ns: present stamp.
            timeout: seconds until the episode counts as failed.
            instruction: the goal in words as the simulator drew it; empty: as asked for.
            loop: newest figures of the loop, against which the episode's own are counted.
        """
        # Simulated time begins at 0, which here means that the episode has not begun.
        self.state, self.started_ns, self.timeout = EpisodeState.RUNNING, max(1, now_ns), timeout
        self.instruction = instruction or self.instruction
        self._loop_before = loop

    def elapsed(self, now_ns: int) -> float:
        """Seconds since the episode began to run, until the verdict; 0 before."""
        if not self.started_ns:
            return 0.0
        end_ns = now_ns if self.verdict is None else min(now_ns, self.ended_ns)
        return max(0.0, (end_ns - self.started_ns) * 1e-9)

    def observe_phase(self, now_ns: int, phase: str) -> bool:
        """Note the phase; whether it is a new one."""
        if self.state is not EpisodeState.RUNNING or phase == self.phase:
            return False
        self.phase = phase
        self._phases.append((phase, now_ns))
        return True

    def observe_failure(self, failure: FailureRecord) -> None:
        """Count a failure event. One that comes after the verdict belongs to what led to it."""
        if self.state is EpisodeState.RUNNING or (self.started_ns and not self.active):
            self._failures.append(failure)

    def observe_command(
        self, now_ns: int, chunk_id: int, mode: CorrectionMode, strength: float, case_ids: Sequence[int]
    ) -> None:
        """Note by which memory the chunk behind a command was shaped."""
        if self.state is not EpisodeState.RUNNING or chunk_id == 0:
            return
        fresh = self._chunk != (chunk_id, mode)
        self._chunk = (chunk_id, mode)
        if mode in (CorrectionMode.NONE, CorrectionMode.TIMEOUT):
            return
        name, cases = mode.name.lower(), tuple(case_ids)
        self.corrected_chunks += fresh
        last = self._corrections[-1] if self._corrections else None
        if last is not None and (last.mode, last.case_ids) == (name, cases) and (not fresh or _close(last, now_ns)):
            self._corrections[-1] = CorrectionUse(
                name, cases, max(last.strength, strength), last.chunks + fresh, last.first_ns, now_ns
            )
        else:
            self._corrections.append(CorrectionUse(name, cases, strength, 1, now_ns, now_ns))

    def observe_takeover(self) -> bool:
        """Note that a person has the robot; whether that is new."""
        fresh = self.state is EpisodeState.RUNNING and not self.intervened
        self.intervened = self.intervened or fresh
        return fresh

    def observe_loop(self, sample: LoopSample) -> None:
        """Note what the loop says about itself."""
        if self.state is EpisodeState.RUNNING:
            self._loop.append(sample)

    def observe_success(self, now_ns: int, success: bool) -> None:
        """Note the simulator's success test."""
        if self.state is not EpisodeState.RUNNING:
            return
        if not success:
            self._success_since_ns = None
        elif self._success_since_ns is None:
            self._success_since_ns = now_ns

    def judge(self, now_ns: int) -> Verdict | None:
        """The verdict that success test and time limit lead to; None while it is open."""
        if self.state is not EpisodeState.RUNNING:
            return None
        since = self._success_since_ns
        if since is not None and (now_ns - since) * 1e-9 >= self.success_hold:
            return Verdict(Outcome.SUCCESS, "success", f"the success test held for {self.success_hold:g} s")
        # A success that is being confirmed as time runs out is a success or a failure by the test, not by the clock.
        if self.elapsed(now_ns) >= self.timeout and since is None:
            reason = f"not done within {self.timeout:g} s; last phase: {self.phase or 'none'}"
            return Verdict(Outcome.FAILURE, "timeout", reason)
        return None

    def decide(self, now_ns: int, verdict: Verdict) -> None:
        """Reach the verdict.

        Raises:
            RuntimeError: if there is one.
        """
        if self.verdict is not None:
            raise RuntimeError(f"episode {self.episode_id} has ended already: {self.verdict.reason}")
        self.verdict, self.ended_ns = verdict, now_ns
        self.state = {
            Outcome.SUCCESS: EpisodeState.SUCCEEDED,
            Outcome.FAILURE: EpisodeState.FAILED,
            Outcome.CANCELED: EpisodeState.CANCELED,
            Outcome.ABORTED: EpisodeState.FAILED,
        }[verdict.outcome]

    def record(self) -> EpisodeRecord:
        """What is to be kept of the episode.

        Raises:
            RuntimeError: if there is no verdict yet.
        """
        if self.verdict is None:
            raise RuntimeError(f"episode {self.episode_id} has no verdict yet")
        return EpisodeRecord(
            episode_id=self.episode_id,
            task=self.task,
            variant=self.variant,
            instruction=self.instruction,
            seed=self.seed,
            outcome=self.verdict.outcome.word,
            reason=self.verdict.reason,
            start_ns=self.started_ns or self.ended_ns,
            end_ns=self.ended_ns,
            duration=self.elapsed(self.ended_ns),
            timeout=self.timeout,
            phases=self._spans(self.ended_ns),
            failures=tuple(self._failures),
            corrections=tuple(self._corrections),
            loop=self._summary(),
            intervened=self.intervened,
            speed_scale=self.pace,
            speed_reason=self.pace_reason,
            away=round(self.away, 3),
        )

    def course(self) -> Course:
        """How far it is, for the process that goes on with it if this one dies."""
        verdict = self.verdict
        return Course(
            self.episode_id,
            self.task,
            self.variant,
            self.seed,
            self.instruction,
            int(self.state),
            self.timeout,
            self.started_ns,
            self.pace,
            self.pace_reason,
            -1 if verdict is None else int(verdict.outcome),
            "" if verdict is None else verdict.word,
            "" if verdict is None else verdict.reason,
            self.ended_ns,
            self.corrected_chunks,
            self.intervened,
            self.away,
            self.failures - len(self._failures[-LISTED:]),
            tuple(self._phases),
            tuple(self._failures[-LISTED:]),
            tuple(self._corrections[-LISTED:]),
            None if self._loop_before is None else asdict(self._loop_before),
        )

    @classmethod
    def of(cls, course: Course, success_hold: float) -> EpisodeTracker:
        """An episode as far as a course tells.

        Raises:
            ValueError: for a state or an outcome that does not exist.
            TypeError: for figures of the loop by names that do not exist.
        """
        before = course.loop_before
        return cls(
            course.episode_id,
            course.task,
            course.variant,
            course.seed,
            course.instruction,
            success_hold,
            course.pace,
            course.pace_reason,
            EpisodeState(course.state),
            course.timeout,
            course.started_ns,
            course.phases[-1][0] if course.phases else "",
            None if course.outcome < 0 else Verdict(Outcome(course.outcome), course.word, course.reason),
            course.ended_ns,
            course.corrected_chunks,
            course.intervened,
            course.away,
            course.unlisted_failures,
            list(course.phases),
            list(course.failures),
            list(course.corrections),
            _loop_before=None if before is None else LoopSample(**before),  # type: ignore[arg-type]
        )

    def resume(self, now_ns: int, elapsed: float, away: float) -> None:
        """Go on after nobody watched it.

        Args:
            now_ns: present stamp; the clock may have been set meanwhile.
            elapsed: seconds for which it has been running, those included for which nobody watched it.
            away: these, seconds.
        """
        self.clock_set(now_ns - int(elapsed * 1e9) - self.started_ns)
        self.away += away

    def clock_set(self, moved_ns: int) -> None:
        """The clock of the stamps was set while it ran: ahead by so many nanoseconds, or back (below 0).

        What time is counted from goes along, or its time limit would come too soon, or much too late. Failures and
        corrections keep the stamps under which a recording has them.
        """
        if not self.started_ns or not self.active:
            return
        # 0 would mean that it has not begun.
        self.started_ns = self.started_ns + moved_ns or 1
        self._phases = [(name, stamp + moved_ns) for name, stamp in self._phases]
        if self._success_since_ns is not None:
            self._success_since_ns += moved_ns

    def _spans(self, end_ns: int) -> tuple[PhaseSpan, ...]:
        ends = [stamp for _, stamp in (*self._phases, ("", end_ns))][1:]
        return tuple(
            PhaseSpan(name, round(self.elapsed(start), 3), round(self.elapsed(end), 3))
            for (name, start), end in zip(self._phases, ends, strict=True)
        )

    def _summary(self) -> LoopSummary | None:
        if not self._loop:
            return None
        last, before = self._loop[-1], self._loop_before
        if before is None or before.ticks > last.ticks:
            # The controller restarted within the episode: its counters began anew.
            before = self._loop[0]
        return LoopSummary(
            rate_hz=_mean([sample.rate_hz for sample in self._loop]),
            tick_error_p50_ms=statistics.median(sample.tick_error_p50_ms for sample in self._loop),
            tick_error_p99_ms=_greatest([sample.tick_error_p99_ms for sample in self._loop]),
            tick_error_max_ms=_greatest([sample.tick_error_max_ms for sample in self._loop]),
            cpu_mean_ms=_mean([sample.cpu_mean_ms for sample in self._loop]),
            ticks=last.ticks - before.ticks,
            late_ticks=last.late_ticks - before.late_ticks,
            skipped_ticks=last.skipped_ticks - before.skipped_ticks,
            starved_ticks=last.starved_ticks - before.starved_ticks,
            chunks_accepted=last.chunks_accepted - before.chunks_accepted,
            chunks_rejected=last.chunks_rejected - before.chunks_rejected,
        )


def _close(use: CorrectionUse, now_ns: int) -> bool:
    """Whether a use goes on: chunks follow each other within a second."""
    return now_ns - use.last_ns < 1_000_000_000


def _mean(values: Sequence[float]) -> float:
    # A sum of infinities of both signs raises.
    return statistics.fmean(finite) if (finite := [value for value in values if math.isfinite(value)]) else math.nan


def _greatest(values: Sequence[float]) -> float:
    return max((value for value in values if math.isfinite(value)), default=math.nan)
