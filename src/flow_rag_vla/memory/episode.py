# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Makes cases of failures, and finds out afterwards what would have been right and what using a case was good for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from flow_rag_vla.core.action import ActionChunk, CorrectionMode
from flow_rag_vla.core.failure import Evidence, FailureType
from flow_rag_vla.memory.case import Array, CaseError, EncoderStamp, FailureCase, action_distance
from flow_rag_vla.memory.credit import CaseUse
from flow_rag_vla.memory.history import Series
from flow_rag_vla.memory.ledger import SuccessSituation
from flow_rag_vla.memory.lesson import Occasion, Situation, distinct, repeats, successes_of

USING_MODES = frozenset(
    {
        CorrectionMode.GUIDANCE,
        CorrectionMode.NEGATIVE,
        CorrectionMode.RESIDUAL,
        CorrectionMode.BLEND,
        CorrectionMode.HOLD,
        CorrectionMode.SHIFT,
    }
)
"""Ways in which a case shapes what the robot does; only these earn credit."""

SITUATIONS_PER_EPISODE = 8
"""Embeddings of an episode without a failure that are kept for calibration; neighbours in time say the same twice."""

MOST_DONE = 256
"""Situations of one success that are looked at for the sample of successes: one long episode is no hundred."""

MOST_LEAD_IN = 8
"""Situations before the onset of one failure that become cases, at most: the latest ones."""

FELT_NS = 100_000_000
"""Farthest that a robot state may be from the embedding of its situation: four ticks."""

SHARED_NS = 10_000_000_000
"""How long the shares of an answer's cases are kept: its chunk follows within the policy's budget."""

LAST_NS = 2**63 - 1
"""Later than any stamp."""

SAME_ACTIONS = 0.02
"""Distance of chunks below which a later success did what had failed: it tells nothing about what to do instead."""


@dataclass(frozen=True, slots=True)
class SeenEmbedding:
    """(D,) float32 unit vector, and whose it is.

    read: gives (3,) float32 metres, base axes, where the policy reads the target there; None if that is not known
    """

    values: Array
    stamp: EncoderStamp
    read: Callable[[], Array] | None = None


@dataclass(frozen=True, slots=True)
class Failure:
    """A failure event: when it showed, when it began, and why it is one."""

    stamp_ns: int
    onset_ns: int
    failure_type: FailureType
    task: str
    phase: str
    evidence: tuple[Evidence, ...] = ()
    description: str = ""


@dataclass(slots=True)
class PendingFailure:
    """A failure of the present episode whose case may still learn its correction.

    ``case_id`` is 0 until the case is stored (or found to be known).
    """

    failure: Failure
    case: FailureCase
    case_id: int = 0


@dataclass(frozen=True, slots=True)
class LaterSuccess:
    """What was done when the same phase went well: (H, 7) float32, and how alike the situations were."""

    pending: PendingFailure
    actions: Array
    similarity: float


@dataclass(frozen=True, slots=True)
class EpisodeLesson:
    """What an episode teaches when it ends.

    used: cases that shaped it; corrections: for failures in it; situations: (task, phase, (D,) float32) in which
    nothing failed and no case was needed
    uses: how the cases shaped it, and (mode NONE) which came up and were not followed
    failures: of it, with the cases made of them: the first episodes in which these came up and were not followed
    phases: that it passed through; done: what the policy did alone in a success in which nothing failed
    intervened: a person took over, so that it says nothing about the policy or a case
    """

    success: bool
    used: tuple[int, ...] = ()
    corrections: tuple[LaterSuccess, ...] = ()
    situations: tuple[tuple[str, str, Array], ...] = ()
    uses: tuple[CaseUse, ...] = ()
    failures: tuple[PendingFailure, ...] = ()
    task: str = ""
    phases: tuple[str, ...] = ()
    done: tuple[SuccessSituation, ...] = ()
    intervened: bool = False
    episode_id: int = 0


class EpisodeMemory:
    """Follows one episode after another. Not thread-safe: one thread feeds it."""

    def __init__(self, span_ns: int) -> None:
        """Keep the last ``span_ns`` of everything."""
        self.embeddings: Series[SeenEmbedding] = Series(span_ns)
        self.chunks: Series[ActionChunk] = Series(span_ns)
        self.phases: Series[str] = Series(span_ns)
        self.proprioception: Series[Callable[[], Array]] = Series(span_ns)
        """How to get (P,) float32 of each robot state, (0,) of one that makes no sense: most are never asked for."""
        self.hand: Series[bool] = Series(span_ns)
        """Whether the hand is told to be closed, where that changes."""
        self._shares: Series[Mapping[int, float]] = Series(min(span_ns, SHARED_NS))
        self._begin(0, "", 0)

    @property
    def episode_id(self) -> int:
        """The episode that is running or ended last; 0 before the first."""
        return self._episode_id

    @property
    def task(self) -> str:
        """Its task."""
        return self._task

    @property
    def running(self) -> bool:
        """Whether an episode is running."""
        return self._running

    def begin(self, episode_id: int, task: str, stamp_ns: int) -> None:
        """Start an episode; what an unfinished one would have taught is dropped."""
        self._begin(episode_id, task, stamp_ns)
        self._running = True
        # Until its own phase is announced it has none: the last one of the episode before says nothing about it.
        self.phases.append(stamp_ns, "")

    def answered(self, stamp_ns: int, shares: Mapping[int, float]) -> None:
        """Note how much of the answer to the embedding of this stamp is each case's own."""
        self._shares.append(stamp_ns, shares)

    def use(
        self,
        mode: CorrectionMode,
        case_ids: Iterable[int],
        strength: float = 1.0,
        chunk_id: int | None = None,
        stamp_ns: int | None = None,
    ) -> None:
        """Note that cases shaped a chunk of the running episode, or a command of it.

        A chunk has a credit of one to give: to each case its share of the answer, or to all the same where that is not
        known.

        Args:
            mode: how they shaped it.
            case_ids: all that had a say.
            strength: of the correction.
            chunk_id: which chunk; a command of one that is noted already is not another use.
            stamp_ns: of the embedding that the answer was to.
        """
        if not self._running or mode not in USING_MODES:
            return
        ids = tuple(dict.fromkeys(case_ids))
        said = None if stamp_ns is None else self._shares.nearest(stamp_ns, 0)
        shares: Mapping[int, float] = {} if said is None else said[1]
        for case_id in ids:
            self._used.add(case_id)
            before = self._uses.get((case_id, mode), CaseUse(case_id, mode, 0.0, 0, 0.0))
            fresh = chunk_id is None or self._chunk_of.get((case_id, mode)) != chunk_id
            if chunk_id is not None:
                self._chunk_of[case_id, mode] = chunk_id
            share = before.share + fresh * shares.get(case_id, 1.0 / len(ids))
            self._uses[case_id, mode] = CaseUse(
                case_id, mode, max(before.strength, strength), before.chunks + fresh, min(share, 1.0)
            )

    def pass_over(self, case_ids: Iterable[int]) -> None:
        """Note that credible cases came up in the running episode and the answer was not to follow them."""
        if self._running:
            self._passed_over.update(case_ids)

    def intervene(self) -> None:
        """Note that a person took over."""
        if self._running:
            self._intervened = True
            self._interventions += 1

    def went_back(self, stamp_ns: int) -> None:
        """Note that until then the robot went back to try again: nothing of that is an attempt that went well."""
        self._back_until_ns = stamp_ns

    def command_hand(self, stamp_ns: int, closed: bool) -> None:
        """Note what the hand is told."""
        before = self.hand.at(stamp_ns)
        if before is None or before != closed:
            self.hand.append(stamp_ns, closed)

    @property
    def first_closed_ns(self) -> int | None:
        """When the hand closed for the first time in that episode; None if it has not, or was closed from the first."""
        before = self.hand.at(self._started_ns)
        for stamp_ns, closed in self.hand.between(self._started_ns, LAST_NS):
            if closed and before is False:
                return stamp_ns
            before = closed
        return None

    @property
    def started_ns(self) -> int:
        """When that episode began; 0 before the first."""
        return self._started_ns

    @property
    def failures(self) -> tuple[Failure, ...]:
        """Failures of the episode that is running or ended last, oldest first."""
        return tuple(self._failures)

    @property
    def interventions(self) -> int:
        """How often it was said that a person has the robot, in the episode that is running or ended last."""
        return self._interventions

    @property
    def pending(self) -> tuple[PendingFailure, ...]:
        """Failures with a case, of the episode that is running or ended last, oldest first."""
        return tuple(self._pending)

    def chunk_at(self, stamp_ns: int) -> ActionChunk | None:
        """The chunk in force at a time: the newest not made for later, if it has a row for it."""
        chunk = self.chunks.at(stamp_ns)
        return chunk if chunk is not None and stamp_ns < chunk.end_ns else None

    def case_of(self, failure: Failure, origin: str, tolerance_ns: int) -> FailureCase:
        """Case of a failure: what was seen nearest its onset, and the chunk in force then.

        The phase is the one that was announced at onset, if any was: a later search asks with the same source.

        Args:
            failure: what happened.
            origin: robot that it happened to.
            tolerance_ns: how far from onset an embedding or robot state may be.

        Raises:
            CaseError: if nothing was seen or done near the onset, saying what is missing.
        """
        found = self.embeddings.nearest(failure.onset_ns, tolerance_ns)
        if found is None:
            raise CaseError(
                f"no embedding within {tolerance_ns * 1e-9:g} s of the onset {failure.onset_ns * 1e-9:.3f} s; check "
                "the camera encoder, or raise the parameter onset_tolerance"
            )
        chunk = self.chunk_at(failure.onset_ns)
        if chunk is None:
            raise CaseError(f"no chunk was in force at the onset {failure.onset_ns * 1e-9:.3f} s; check the policy")
        felt = self.proprioception.nearest(failure.onset_ns, tolerance_ns)
        seen = found[1]
        return FailureCase(
            failure_type=failure.failure_type,
            task=failure.task or self._task,
            phase=self.phases.at(failure.onset_ns) or failure.phase,
            encoder=seen.stamp.encoder,
            encoder_revision=seen.stamp.revision,
            embedding=seen.values,
            failed_actions=chunk.actions,
            proprioception=np.zeros(0, dtype=np.float32) if felt is None else felt[1](),
            evidence=failure.evidence,
            note=failure.description,
            origin=origin,
        )

    def cases_of(self, failure: Failure, origin: str, tolerance_ns: int, lead_in_ns: int) -> list[FailureCase]:
        """Cases of a failure: that of its onset, then those of the way into it, each situation once, latest first.

        What goes wrong has been going wrong for a while before it shows: the same answer is needed there.

        Args:
            failure: what happened.
            origin: robot that it happened to.
            tolerance_ns: how far from onset an embedding or robot state may be.
            lead_in_ns: how long before the onset the way into it begins.

        Raises:
            CaseError: if nothing was seen or done near the onset, saying what is missing.
        """
        onset = self.case_of(failure, origin, tolerance_ns)
        cases = [onset]
        begin_ns = max(failure.onset_ns - lead_in_ns, self._started_ns) - 1
        known = [onset.embedding]
        for item in reversed(self.situations(begin_ns, failure.onset_ns)):
            if len(cases) > MOST_LEAD_IN:
                break
            if item.stamp != onset.stamp or item.planned.shape != onset.failed_actions.shape:
                continue
            if not repeats(item.vector, known, item.stamp):
                known.append(item.vector)
                cases.append(
                    replace(
                        onset,
                        phase=item.phase or onset.phase,
                        embedding=item.vector,
                        failed_actions=item.planned,
                        proprioception=item.proprioception,
                    )
                )
        return cases

    def situations(self, after_ns: int, until_ns: int) -> list[Situation]:
        """What was seen in (after, until] and planned there, oldest first; where no chunk was in force is left out."""
        found = []
        for stamp_ns, seen in self.embeddings.between(after_ns, until_ns):
            chunk = self.chunk_at(stamp_ns)
            if chunk is None:
                continue
            felt = self.proprioception.nearest(stamp_ns, FELT_NS)
            found.append(
                Situation(
                    stamp_ns,
                    self.phases.at(stamp_ns) or "",
                    seen.values,
                    seen.stamp,
                    chunk.actions,
                    proprioception=np.zeros(0, dtype=np.float32) if felt is None else felt[1](),
                    alone=chunk.provenance.correction not in USING_MODES,
                    read=seen.read,
                )
            )
        return found

    def failed(self, failure: Failure, case: FailureCase | None) -> PendingFailure | None:
        """Note a failure of the running episode, and its case if one could be made."""
        if not self._running:
            return None
        self._failures.append(failure)
        if case is None:
            return None
        pending = PendingFailure(failure, case)
        self._pending.append(pending)
        return pending

    def end(self, success: bool, stamp_ns: int, threshold: float, window_ns: int, lead_in_ns: int = 0) -> EpisodeLesson:
        """Finish the episode and say what it teaches.

        Args:
            success: whether it reached its goal.
            stamp_ns: when it ended.
            threshold: cosine similarity from which two situations count as the same.
            window_ns: how long after a failure another attempt still speaks for it.
            lead_in_ns: how long before the onset of a failure the way into it begins: no attempt that went well.
        """
        lesson = self.cancel()
        if not success or lesson.intervened:
            # What a person did is learned when they release the robot; what the policy planned meanwhile was not done.
            return replace(lesson, success=success)
        corrections = [
            found
            for pending in self._pending
            if (found := self._later_success(pending, stamp_ns, threshold, window_ns, lead_in_ns))
        ]
        return replace(
            lesson,
            success=True,
            corrections=tuple(corrections),
            situations=self._situations(stamp_ns) if not self._failures and not lesson.used else (),
            done=self._done(stamp_ns) if not self._failures else (),
        )

    def cancel(self) -> EpisodeLesson:
        """Finish the episode without a verdict: nobody is credited. Say what came up in it."""
        self._running = False
        passed_over = sorted(self._passed_over - self._used)
        return EpisodeLesson(
            False,
            tuple(sorted(self._used)),
            uses=(*self._uses.values(), *(CaseUse(case_id) for case_id in passed_over)),
            failures=tuple(self._pending),
            task=self._task,
            phases=tuple(sorted({phase for _, phase in self.phases.between(self._started_ns - 1, LAST_NS) if phase})),
            intervened=self._intervened,
            episode_id=self._episode_id,
        )

    def _begin(self, episode_id: int, task: str, stamp_ns: int) -> None:
        self._episode_id, self._task, self._started_ns = episode_id, task, stamp_ns
        self._running = False
        self._interventions = self._back_until_ns = 0
        self._used: set[int] = set()
        self._uses: dict[tuple[int, CorrectionMode], CaseUse] = {}
        self._chunk_of: dict[tuple[int, CorrectionMode], int] = {}
        self._passed_over: set[int] = set()
        self._intervened = False
        self._failures: list[Failure] = []
        self._pending: list[PendingFailure] = []

    def _later_success(
        self, pending: PendingFailure, end_ns: int, threshold: float, window_ns: int, lead_in_ns: int
    ) -> LaterSuccess | None:
        case = pending.case
        if case.correction is not None:
            return None
        # The attempt that went well is the one after the last failure of this phase.
        after = max(
            failure.stamp_ns
            for failure in self._failures
            if failure is pending.failure or (self.phases.at(failure.onset_ns) or failure.phase) == case.phase
        )
        after = max(after, self._back_until_ns)
        # One that got further may have failed by what it did here.
        failed = [(failure.onset_ns - lead_in_ns, failure.stamp_ns) for failure in self._failures]
        best: tuple[float, int] | None = None
        for stamp_ns, seen in self.embeddings.between(after, min(end_ns, pending.failure.stamp_ns + window_ns)):
            if seen.stamp != case.stamp or (self.phases.at(stamp_ns) or case.phase) != case.phase:
                continue
            if any(begin_ns <= stamp_ns <= until_ns for begin_ns, until_ns in failed):
                continue
            similarity = float(seen.values @ case.embedding)
            if similarity >= threshold and (best is None or similarity > best[0]):
                best = similarity, stamp_ns
        chunk = None if best is None else self.chunk_at(best[1])
        if best is None or chunk is None or chunk.horizon != case.horizon:
            return None
        if action_distance(chunk.actions, case.failed_actions) < SAME_ACTIONS:
            return None
        return LaterSuccess(pending, chunk.actions, best[0])

    def _done(self, end_ns: int) -> tuple[SuccessSituation, ...]:
        """The episode's situations, each once, with what the policy alone planned there."""
        found = distinct(item for item in self.situations(self._started_ns - 1, end_ns) if item.alone)
        if len(found) > MOST_DONE:
            found = [found[place] for place in np.linspace(0, len(found) - 1, MOST_DONE).astype(int).tolist()]
        return tuple(successes_of(found, Occasion(self._task, episode_id=self._episode_id)))

    def _situations(self, end_ns: int) -> tuple[tuple[str, str, Array], ...]:
        seen = self.embeddings.between(self._started_ns - 1, end_ns)
        if not seen:
            return ()
        count = min(SITUATIONS_PER_EPISODE, len(seen))
        chosen = [seen[place] for place in np.linspace(0, len(seen) - 1, count).astype(int).tolist()]
        return tuple((self._task, self.phases.at(stamp_ns) or "", item.values) for stamp_ns, item in chosen)
