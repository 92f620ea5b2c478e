# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What a robot learns while it works: from failures, from what went well later, from people, and from using cases.

The memory's node and a replay follow the graph's messages with this, practice in the simulator learns by the same
:mod:`lesson`. Two kinds of methods: those that *follow* are quick, for the one thread that feeds the episode's memory;
those that *write* change the store and may take a while, for another. What is to be written can be had as steps too, so
that a lesson which a full disk interrupts goes on where it stopped (see :mod:`backlog`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial

from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.memory.backlog import Step
from flow_rag_vla.memory.case import CORRECTION_SOURCES, Array, CaseError, FailureCase
from flow_rag_vla.memory.credit import COUNTED, CaseUse, UseResult
from flow_rag_vla.memory.episode import (
    FELT_NS,
    LAST_NS,
    EpisodeLesson,
    EpisodeMemory,
    Failure,
    LaterSuccess,
    PendingFailure,
)
from flow_rag_vla.memory.guard import STOPPED, ToolPosition
from flow_rag_vla.memory.hindsight import explained, grasp_of
from flow_rag_vla.memory.images import CaseImage
from flow_rag_vla.memory.ledger import SuccessSituation
from flow_rag_vla.memory.lesson import Occasion, Situation, other_than_person, split
from flow_rag_vla.memory.memory import FailureMemory
from flow_rag_vla.memory.results import AddResult
from flow_rag_vla.memory.store import StoreError, StoreUnavailableError, UnknownCaseError
from flow_rag_vla.memory.takeover import Takeover, correction_of, done_in

BEFORE_NS = 1_000_000_000
"""A failure that shows this soon after a takeover ended was the reason for it: people are faster than detectors."""

BEFORE_GRASP_NS = 10_000_000_000
"""How long before a takeover situations are looked at for what was misread in them: each costs a reading."""


@dataclass(frozen=True, slots=True)
class LearningSettings:
    """How far what happened is taken together. See the failure memory node's parameters for each.

    origin: this robot's name; times in nanoseconds
    tool_position: (P,) proprioception to (3,) metres in the base frame; None leaves misreadings unknown
    """

    origin: str = ""
    onset_tolerance_ns: int = 500_000_000
    lead_in_ns: int = 1_000_000_000
    later_success_window_ns: int = 20_000_000_000
    takeover_window_ns: int = 30_000_000_000
    tool_position: ToolPosition | None = None


@dataclass(frozen=True, slots=True)
class TakeoverLesson:
    """What a person's takeover teaches.

    corrections: of failures that led to it, (H, 7) each; cases: situations on the way in which they did otherwise than
    the policy would have, and those before of which their grasp says how far the target was misread; successes: those
    in which the policy would have done the same
    how: who did it, in words
    """

    corrections: tuple[tuple[PendingFailure, Array], ...]
    cases: tuple[FailureCase, ...]
    successes: tuple[SuccessSituation, ...]
    how: str


class Learner:
    """Turns what happened in an episode into what the memory holds."""

    def __init__(
        self,
        memory: FailureMemory,
        episode: EpisodeMemory,
        settings: LearningSettings,
        tell: Callable[[str, bool], None],
    ) -> None:
        """Learn into this memory from this episode.

        Args:
            memory: is written.
            episode: is followed; who feeds it what was seen, felt and done says so to it directly.
            settings: may be replaced at any time.
            tell: is told what was learned, and (True) what could not be.
        """
        self._memory, self._episode, self._tell = memory, episode, tell
        self.settings = settings

    # Follow.

    def follow(
        self, episode_id: int, task: str, phase: str, *, running: bool, success: bool | None, stamp_ns: int
    ) -> tuple[EpisodeLesson, UseResult] | None:
        """An episode status: begin, follow or end an episode; what the one that ended teaches, for :meth:`learn`.

        success: how it ended; None if it was broken off, or goes on
        """
        episode = self._episode
        if running:
            if not episode.running or episode.episode_id != episode_id:
                episode.begin(episode_id, task, stamp_ns)
            if phase:
                episode.phases.append(stamp_ns, phase)
            return None
        if not episode.running:
            return None
        if success is None:
            lesson, result = episode.cancel(), UseResult.CANCELLED
        else:
            window_ns, lead_in_ns = self.settings.later_success_window_ns, self.settings.lead_in_ns
            lesson = episode.end(success, stamp_ns, self._memory.threshold, window_ns, lead_in_ns)
            result = UseResult.SUCCESS if success else UseResult.FAILURE
        return lesson, UseResult.INTERVENED if lesson.intervened else result

    def failed(self, failure: Failure, created_ns: int = 0) -> list[PendingFailure]:
        """Cases of a failure, for :meth:`remember`: that of its onset, then those of the way into it.

        created_ns: when they were made; 0: when they are stored

        Raises:
            CaseError: if nothing was seen or done near the onset; the failure is noted all the same.
        """
        settings = self.settings
        try:
            cases = self._episode.cases_of(failure, settings.origin, settings.onset_tolerance_ns, settings.lead_in_ns)
        except CaseError:
            self._episode.failed(failure, None)
            raise
        cases = [replace(case, created_ns=created_ns) for case in cases] if created_ns else cases
        # Between episodes nothing waits for a correction, but the cases are kept.
        return [self._episode.failed(failure, case) or PendingFailure(failure, case) for case in cases]

    def disregard(self, failure: Failure) -> None:
        """A failure that is no case of the policy's, such as one under a person's hands."""
        self._episode.failed(failure, None)

    def taken_over(self, takeover: Takeover) -> TakeoverLesson:
        """What a takeover that has ended teaches, for :meth:`learn_takeover`.

        It corrects the failures that led to it where the person stood in their situations. And each situation on its
        way is one of which somebody knows what was right: a case where the policy planned otherwise.

        Raises:
            CaseError: if it teaches nothing, saying why.
        """
        settings, episode = self.settings, self._episode
        before = [
            item
            for item in episode.pending
            if item.failure.stamp_ns - BEFORE_NS <= takeover.end_ns
            and takeover.start_ns - item.failure.stamp_ns <= settings.takeover_window_ns
        ]
        seen = episode.embeddings.between(takeover.start_ns - 1, takeover.end_ns)
        corrections: list[tuple[PendingFailure, Array]] = []
        problem: CaseError | None = None
        for item in before:
            alike = [(stamp_ns, one.values) for stamp_ns, one in seen if one.stamp == item.case.stamp]
            try:
                actions = correction_of(takeover, item.case, item.failure.onset_ns, alike, self._memory.threshold)
            except CaseError as error:
                # That of the failure itself says more than that of the way into it.
                problem = problem or error
            else:
                corrections.append((item, actions))
        what = "to correct a failure" if before else "before a failure was detected"
        occasion = Occasion(
            task=episode.task,
            failure_type=before[-1].failure.failure_type if before else FailureType.UNKNOWN,
            source="human",
            note=f"{takeover.person} took over {what}",
            origin=settings.origin,
            episode_id=episode.episode_id,
        )
        way, earlier = self._misread(takeover)
        cases, successes = split([*done_in(takeover, way), *earlier], occasion, other_than_person)
        if not before and not cases:
            corrections, cases = [], [self._foreseen(takeover, occasion)]
        if not corrections and not cases:
            raise problem or CaseError(
                "it did what the policy would have done all the way; nothing is to be learned from that"
            )
        how = f"{takeover.person}, {len(takeover.ticks)} commands"
        return TakeoverLesson(tuple(corrections), tuple(cases), tuple(successes), how)

    def _misread(self, takeover: Takeover) -> tuple[list[Situation], list[Situation]]:
        """The situations of a takeover, and those before it, as far as its grasp says how far the target was misread.

        In the first only some have a misreading; the others all have one.
        """
        episode, tool = self._episode, self.settings.tool_position
        way = episode.situations(takeover.start_ns - 1, takeover.end_ns)
        if tool is None:
            return way, []

        def place(stamp_ns: int) -> Array | None:
            felt = episode.proprioception.nearest(stamp_ns, FELT_NS)
            known = None if felt is None else felt[1]()
            return None if known is None or not known.size else tool(known)

        grasp = grasp_of(takeover, episode.phases.between(takeover.start_ns - 1, LAST_NS), place)
        if grasp is None:
            return way, []
        before = episode.situations(
            max(takeover.start_ns - BEFORE_GRASP_NS, episode.started_ns) - 1, takeover.start_ns - 1
        )
        told = explained([*before, *way], grasp, takeover.start_ns, place, episode.first_closed_ns)
        during = {item.stamp_ns: item for item in told if item.stamp_ns >= takeover.start_ns}
        return [during.get(item.stamp_ns, item) for item in way], told[: len(told) - len(during)]

    def _foreseen(self, takeover: Takeover, occasion: Occasion) -> FailureCase:
        """The failure that a person kept from happening: whatever the policy was about to do where they took over."""
        settings = self.settings
        failure = Failure(takeover.start_ns, takeover.start_ns, FailureType.UNKNOWN, "", "", description=occasion.note)
        case = self._episode.case_of(failure, settings.origin, settings.onset_tolerance_ns)
        actions = correction_of(takeover, case, failure.onset_ns, [], self._memory.threshold)
        return replace(case, correction=actions, correction_source="human")

    # Write.

    def remember(self, pending: Sequence[PendingFailure], images: tuple[CaseImage, ...] = ()) -> None:
        """Store the cases of a failure; pictures go with the first.

        Raises:
            StoreError: if they cannot be written; those before are kept.
        """
        _do(self.remembering(pending, lambda: images))

    def remembering(self, pending: Sequence[PendingFailure], images: Callable[[], tuple[CaseImage, ...]]) -> list[Step]:
        """The steps of :meth:`remember`; the pictures are asked for as the first is written."""
        stored: list[AddResult] = []

        def store(number: int) -> None:
            item = pending[number]
            result = self._memory.add(item.case, images() if number == 0 else ())
            item.case_id = result.case_id
            stored.append(result)

        steps: list[Step] = [partial(store, number) for number in range(len(pending))]
        return [*steps, lambda: self._told(pending[0].case, stored)] if steps else []

    def learn(self, lesson: EpisodeLesson, result: UseResult) -> None:
        """Take in what an episode teaches: credit, corrections of its failures, successes.

        Raises:
            StoreError: if it cannot be written.
        """
        _do(self.learning(lesson, result))

    def learning(self, lesson: EpisodeLesson, result: UseResult) -> list[Step]:
        """The steps of :meth:`learn`."""
        memory = self._memory

        def credit() -> None:
            # The episode that a case was made of is the first in which its situation came up and nothing followed it.
            known = {use.case_id for use in lesson.uses}
            founded = sorted({item.case_id for item in lesson.failures if item.case_id} - known)
            uses = (*lesson.uses, *(CaseUse(case_id) for case_id in founded))
            for case in memory.record_uses(uses, result, lesson.episode_id):
                self._tell(f"case {case.case_id} is retired: {case.retired_reason}", True)

        def correct(later: LaterSuccess) -> None:
            how = f"similarity {later.similarity:.3f}"
            self._correct(later.pending.case_id, later.actions, "later_success", how)

        def observe() -> None:
            if lesson.situations and memory.stamp is not None:
                memory.observe_success(lesson.situations)

        steps: list[Step] = [credit]
        if not lesson.used and result in COUNTED and lesson.task:
            success = result is UseResult.SUCCESS
            steps.append(lambda: memory.ledger.record_baseline(lesson.task, lesson.phases, success))
        steps += [partial(correct, later) for later in lesson.corrections]
        return [*steps, observe, lambda: self._succeeded(lesson.done)]

    def learn_takeover(self, lesson: TakeoverLesson, images: tuple[CaseImage, ...] = ()) -> None:
        """Take in what a person did.

        Raises:
            StoreError: if it cannot be written.
        """
        _do(self.learning_takeover(lesson, lambda: images))

    def learning_takeover(self, lesson: TakeoverLesson, images: Callable[[], tuple[CaseImage, ...]]) -> list[Step]:
        """The steps of :meth:`learn_takeover`; the pictures are asked for as the first case is written."""
        stored: list[AddResult] = []

        def store(number: int) -> None:
            stored.append(self._memory.add(lesson.cases[number], images() if number == 0 else ()))

        def teach(number: int) -> None:
            self._teach(lesson.cases[number], stored[number], lesson.how)

        def correct(pending: PendingFailure, actions: Array) -> None:
            self._correct(pending.case_id, actions, "human", lesson.how)

        steps: list[Step] = [partial(correct, *item) for item in lesson.corrections]
        for number in range(len(lesson.cases)):
            steps.append(partial(store, number))
            steps.append(partial(teach, number))
        if lesson.cases:
            steps.append(lambda: self._told(lesson.cases[0], stored))
        return [*steps, lambda: self._succeeded(lesson.successes)]

    def _teach(self, case: FailureCase, result: AddResult, how: str) -> None:
        """A case that was known already learns from a takeover what was right in it, and how far it was misread."""
        if result.accepted or not result.case_id:
            return
        with suppress(UnknownCaseError):
            known = self._memory.get(result.case_id)
            rank = CORRECTION_SOURCES.index
            if case.correction is not None and rank(known.correction_source) < rank(case.correction_source):
                self._correct(known.case_id, case.correction, case.correction_source, how)
            if case.misreading is not None and known.misreading is None:
                # What this robot saw for itself is not doubted for what others said.
                self._memory.edit(known.case_id, misreading=case.misreading, force=True)

    def _succeeded(self, done: Sequence[SuccessSituation]) -> None:
        if done:
            self._memory.observe_done([replace(item, origin=self.settings.origin) for item in done])

    def _correct(self, case_id: int, actions: Array, source: str, how: str) -> None:
        try:
            if not case_id or (source != "human" and self._memory.get(case_id).correction is not None):
                return
            case = self._memory.edit(case_id, correction=actions, correction_source=source)
            if case.retired and case.retired_reason.startswith(STOPPED):
                # It was kept out for what it lacked: with this correction it changes no success.
                self._memory.retire(case_id, False, f"its correction by {source} passes the guard")
        except StoreUnavailableError:
            raise
        except (CaseError, StoreError, UnknownCaseError) as error:
            # Dropped meanwhile, stopped, or a known case of another horizon: nothing lost but this one lesson.
            self._tell(f"case {case_id} did not learn its correction: {error}", True)
            return
        self._tell(f"case {case_id} learned its correction by {source} ({how})", False)

    def _told(self, case: FailureCase, stored: Sequence[AddResult]) -> None:
        first = stored[0]
        outcome = f"case {first.case_id}" if first.accepted else f"not active: {first.message}"
        others = [item for item in stored[1:] if item.accepted]
        if len(stored) > 1:
            outcome += f"; {len(others)} of {len(stored) - 1} more situations of it are cases too"
        self._tell(f"{case.failure_type.name.lower()} in {case.task}/{case.phase}: {outcome}", False)


def _do(steps: Sequence[Step]) -> None:
    for step in steps:
        step()
