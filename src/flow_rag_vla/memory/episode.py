"""Makes cases of failures, and finds out afterwards what would have been right and what using a case was good for."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from flow_rag_vla.core.action import ActionChunk, CorrectionMode
from flow_rag_vla.core.failure import Evidence, FailureType
from flow_rag_vla.memory.case import Array, CaseError, EncoderStamp, FailureCase, action_distance
from flow_rag_vla.memory.history import Series

USING_MODES = frozenset(
    {
        CorrectionMode.GUIDANCE,
        CorrectionMode.NEGATIVE,
        CorrectionMode.RESIDUAL,
        CorrectionMode.BLEND,
        CorrectionMode.HOLD,
    }
)
"""Ways in which a case shapes what the robot does; only these earn credit."""

SITUATIONS_PER_EPISODE = 8
"""Embeddings of an episode without a failure that are kept for calibration; neighbours in time say the same twice."""

SAME_ACTIONS = 0.02
"""Distance of chunks below which a later success did what had failed: it tells nothing about what to do instead."""


@dataclass(frozen=True, slots=True)
class SeenEmbedding:
    """(D,) float32 unit vector, and whose it is."""

    values: Array
    stamp: EncoderStamp


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
    """

    success: bool
    used: tuple[int, ...] = ()
    corrections: tuple[LaterSuccess, ...] = ()
    situations: tuple[tuple[str, str, Array], ...] = ()


class EpisodeMemory:
    """Follows one episode after another. Not thread-safe: one thread feeds it."""

    def __init__(self, span_ns: int) -> None:
        """Keep the last ``span_ns`` of everything."""
        self.embeddings: Series[SeenEmbedding] = Series(span_ns)
        self.chunks: Series[ActionChunk] = Series(span_ns)
        self.phases: Series[str] = Series(span_ns)
        self.proprioception: Series[Callable[[], Array]] = Series(span_ns)
        """How to get (P,) float32 of each robot state: most are never asked for."""
        self._begin(0, "", 0)

    @property
    def episode_id(self) -> int:
        """The episode that is running or ended last; 0 before the first."""
        return self._episode_id

    @property
    def running(self) -> bool:
        """Whether an episode is running."""
        return self._running

    def begin(self, episode_id: int, task: str, stamp_ns: int) -> None:
        """Start an episode; what an unfinished one would have taught is dropped."""
        self._begin(episode_id, task, stamp_ns)
        self._running = True

    def use(self, mode: CorrectionMode, case_ids: Iterable[int]) -> None:
        """Note that cases shaped a chunk or a command of the running episode."""
        if self._running and mode in USING_MODES:
            self._used.update(case_ids)

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

    def end(self, success: bool, stamp_ns: int, threshold: float, window_ns: int) -> EpisodeLesson:
        """Finish the episode and say what it teaches.

        Args:
            success: whether it reached its goal.
            stamp_ns: when it ended.
            threshold: cosine similarity from which two situations count as the same.
            window_ns: how long after a failure another attempt still speaks for it.
        """
        self._running = False
        used = tuple(sorted(self._used))
        if not success:
            return EpisodeLesson(False, used)
        corrections = [
            lesson
            for pending in self._pending
            if (lesson := self._later_success(pending, stamp_ns, threshold, window_ns))
        ]
        undisturbed = not self._failures and not used
        return EpisodeLesson(True, used, tuple(corrections), self._situations(stamp_ns) if undisturbed else ())

    def cancel(self) -> None:
        """Finish the episode without a verdict: nobody is credited."""
        self._running = False

    def _begin(self, episode_id: int, task: str, stamp_ns: int) -> None:
        self._episode_id, self._task, self._started_ns = episode_id, task, stamp_ns
        self._running = False
        self._used: set[int] = set()
        self._failures: list[Failure] = []
        self._pending: list[PendingFailure] = []

    def _later_success(
        self, pending: PendingFailure, end_ns: int, threshold: float, window_ns: int
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
        best: tuple[float, int] | None = None
        for stamp_ns, seen in self.embeddings.between(after, min(end_ns, pending.failure.stamp_ns + window_ns)):
            if seen.stamp != case.stamp or (self.phases.at(stamp_ns) or case.phase) != case.phase:
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

    def _situations(self, end_ns: int) -> tuple[tuple[str, str, Array], ...]:
        seen = self.embeddings.between(self._started_ns - 1, end_ns)
        if not seen:
            return ()
        count = min(SITUATIONS_PER_EPISODE, len(seen))
        chosen = [seen[place] for place in np.linspace(0, len(seen) - 1, count).astype(int).tolist()]
        return tuple((self._task, self.phases.at(stamp_ns) or "", item.values) for stamp_ns, item in chosen)
