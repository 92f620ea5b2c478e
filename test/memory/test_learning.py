# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What a robot learns while it works."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from flow_rag_vla.core.action import TICK_NS, ActionChunk, CorrectionMode
from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.memory.case import CaseError, EncoderStamp
from flow_rag_vla.memory.credit import CaseUse, UseResult
from flow_rag_vla.memory.episode import EpisodeMemory, Failure, SeenEmbedding
from flow_rag_vla.memory.learning import Learner, LearningSettings
from flow_rag_vla.memory.store import CaseFilter
from flow_rag_vla.memory.takeover import Takeover, TakeoverRecorder

STAMP = EncoderStamp("compact", "abc", 16)
SECOND = 1_000_000_000


class Bench:
    """A learner over an empty memory, and an episode told step by step."""

    def __init__(self, memory, make) -> None:
        self.memory, self.make = memory, make
        self.episode = EpisodeMemory(60 * SECOND)
        self.said: list[tuple[str, bool]] = []
        self.learner = Learner(
            memory, self.episode, LearningSettings(origin="left"), lambda what, warn: self.said.append((what, warn))
        )

    def status(self, at: float, phase: str = "reach", *, running: bool = True, success: bool | None = None, number=1):
        return self.learner.follow(number, "push", phase, running=running, success=success, stamp_ns=int(at * SECOND))

    def see(self, vector: np.ndarray, at: float, step: float, read: np.ndarray | None = None) -> None:
        stamp_ns = int(at * SECOND)
        place = None if read is None else (lambda: read)
        self.episode.embeddings.append(stamp_ns, SeenEmbedding(vector, STAMP, place))
        self.episode.chunks.append(stamp_ns, ActionChunk(1, stamp_ns, self.make.motion(step, 16)))

    def failure(self, onset: float, at: float) -> Failure:
        return Failure(int(at * SECOND), int(onset * SECOND), FailureType.GRASP_FAILURE, "push", "reach")

    def takeover(self, start: float, ticks: int, step: float) -> Takeover:
        recorder = TakeoverRecorder()
        action = self.make.motion(step, 1)[0]
        for tick in range(ticks):
            recorder.add("ada", 100 + tick, int(start * SECOND) + tick * TICK_NS, action)
        found = recorder.finish()
        assert found is not None
        return found

    def stored(self):
        return self.memory.page(CaseFilter(include_retired=True), 0, 1000)[1][::-1]


@pytest.fixture
def bench(open_memory, make) -> Bench:
    return Bench(open_memory(successes_kept=4096), make)


def test_the_way_into_a_failure_is_stored_and_a_later_success_corrects_all_of_it(bench, make):
    bench.status(0.0)
    for place in range(4):
        bench.see(make.unit(place), 0.2 * place, 0.001)
    pending = bench.learner.failed(bench.failure(0.6, 1.0))
    assert len(pending) == 4
    bench.learner.remember(pending)
    assert [case.correction for case in bench.stored()] == [None] * 4
    assert "case 1; 3 of 3 more situations of it are cases too" in bench.said[-1][0]
    for place in range(4):
        bench.see(make.turned(make.unit(place), 0.99), 2.0 + 0.2 * place, 0.005)
    lesson, result = bench.status(3.0, running=False, success=True)
    assert result is UseResult.SUCCESS
    bench.learner.learn(lesson, result)
    for case in bench.stored():
        assert case.correction_source == "later_success"
        np.testing.assert_array_equal(case.correction, make.motion(0.005, 16))
        # The episode that it was made of is the first in which its situation came up and nothing followed it.
        assert [use.mode for use in bench.memory.ledger.uses(case.case_id)] == [CorrectionMode.NONE]


def test_an_attempt_that_went_further_and_failed_there_is_no_later_success(bench, make):
    bench.status(0.0)
    bench.see(make.unit(1), 0.2, 0.001)
    bench.learner.remember(bench.learner.failed(bench.failure(0.2, 0.5)))
    # The second attempt looks as the first did, grasps, and drops; the third goes well.
    bench.see(make.turned(make.unit(1), 0.99), 2.0, 0.005)
    bench.status(2.3, "transport")
    bench.see(make.unit(2), 2.4, 0.005)
    drop = Failure(int(2.5 * SECOND), int(2.4 * SECOND), FailureType.DROP, "push", "transport")
    bench.learner.remember(bench.learner.failed(drop))
    bench.status(3.0)
    bench.see(make.turned(make.unit(1), 0.97), 5.0, 0.009)
    lesson, result = bench.status(6.0, running=False, success=True)
    bench.learner.learn(lesson, result)
    first = bench.memory.get(1)
    np.testing.assert_array_equal(first.correction, make.motion(0.009, 16))
    # What the second attempt did there is the way into the drop, and corrected alike.
    led_in = next(case for case in bench.stored() if case.failure_type is FailureType.DROP and case.phase == "reach")
    np.testing.assert_array_equal(led_in.failed_actions, make.motion(0.005, 16))
    np.testing.assert_array_equal(led_in.correction, make.motion(0.009, 16))


def test_a_takeover_corrects_every_case_of_the_failure_and_its_way_becomes_cases_and_successes(bench, make):
    bench.status(0.0)
    for place in range(3):
        bench.see(make.unit(place), 0.2 * place, 0.001)
    pending = bench.learner.failed(bench.failure(0.4, 0.8))
    bench.learner.remember(pending)
    # The person goes through the same situations and one more, in which the policy plans as they do.
    for place in range(3):
        bench.see(make.turned(make.unit(place), 0.99), 2.0 + 0.2 * place, 0.001)
    bench.see(make.unit(9), 2.6, 0.008)
    lesson = bench.learner.taken_over(bench.takeover(2.0, 60, 0.008))
    assert len(lesson.corrections) == 3 and len(lesson.cases) == 3 and len(lesson.successes) == 1
    bench.learner.learn_takeover(lesson)
    stored = bench.stored()
    assert {case.correction_source for case in stored} == {"human"}
    for case in stored:
        np.testing.assert_allclose(case.correction, make.motion(0.008, 16), atol=1e-7)
    # What the person did in the same situations is known already; nothing is stored twice.
    assert len(stored) == 3
    assert bench.memory.ledger.success_count() == 1


def test_a_takeover_before_a_failure_is_split_into_cases(bench, make):
    bench.status(0.0)
    for place in range(5):
        bench.see(make.unit(place), 1.0 + 0.2 * place, 0.001)
    lesson = bench.learner.taken_over(bench.takeover(1.0, 60, 0.006))
    assert lesson.corrections == () and len(lesson.cases) == 5
    bench.learner.learn_takeover(lesson)
    assert {case.note for case in bench.stored()} == {"ada took over before a failure was detected"}
    assert {case.failure_type for case in bench.stored()} == {FailureType.UNKNOWN}


@pytest.mark.parametrize(("source", "learns"), [("", True), ("later_success", True), ("human", False)])
def test_what_a_person_does_where_a_case_is_known_already_is_not_lost(bench, make, source, learns):
    known = make.case(1, failure_type=FailureType.UNKNOWN, failed_actions=make.motion(0.001, 16))
    if source:
        known = replace(known, correction=make.motion(0.003, 16), correction_source=source)
    assert bench.memory.add(known).accepted
    bench.status(0.0)
    bench.see(make.unit(0), 1.0, 0.001)
    bench.see(make.unit(1), 1.2, 0.001)
    lesson = bench.learner.taken_over(bench.takeover(1.0, 60, 0.006))
    assert len(lesson.cases) == 2
    bench.learner.learn_takeover(lesson)
    case = bench.memory.get(1)
    assert case.correction_source == "human"
    np.testing.assert_allclose(case.correction, make.motion(0.006 if learns else 0.003, 16), atol=1e-7)
    assert len(bench.stored()) == 2


def test_a_grasp_of_a_takeover_says_how_far_the_target_was_misread_before(bench, make):
    here = np.array([0.50, 0.1, 0.02], dtype=np.float32)
    bench.learner.settings = replace(bench.learner.settings, tool_position=lambda felt: felt)
    bench.status(0.0)
    for tick in range(200):
        bench.episode.proprioception.append(tick * TICK_NS, lambda: here)
    # Read 2 cm beside it by the policy, which then fails, and by the policy's eyes while a person does it.
    for place in range(6):
        bench.see(make.unit(place), 0.2 * place, 0.001, read=here - np.float32([0.02, 0.0, 0.0]))
    bench.learner.remember(bench.learner.failed(bench.failure(0.4, 0.6)))
    takeover = bench.takeover(0.8, 100, 0.008)
    takeover.actions[40:, 6] = 0.0
    for at, phase in ((1.9, "grasp"), (2.4, "transport")):
        bench.status(at, phase)
    lesson = bench.learner.taken_over(takeover)
    bench.learner.learn_takeover(lesson)
    stored = bench.stored()
    assert len(stored) == 6
    for case in stored:
        np.testing.assert_allclose(case.misreading, [0.02, 0.0, 0.0], atol=1e-6)
    # What was right is known on the person's way only.
    assert [case.correction is not None for case in stored].count(True) >= 2


def test_the_first_closing_of_an_episode_is_that_of_a_hand_that_was_open(bench):
    episode = bench.episode
    episode.command_hand(0, True)
    bench.status(1.0)
    assert episode.first_closed_ns is None
    for at, closed in ((1.1, True), (2.0, False), (2.1, False), (3.0, True), (4.0, False), (5.0, True)):
        episode.command_hand(int(at * SECOND), closed)
    assert episode.first_closed_ns == 3 * SECOND
    bench.status(6.0, running=False)
    bench.status(7.0, number=2)
    assert episode.first_closed_ns is None


def test_a_takeover_elsewhere_that_does_as_planned_teaches_nothing_and_says_so(bench, make):
    bench.status(0.0)
    bench.see(make.unit(1), 1.0, 0.001)
    bench.learner.remember(bench.learner.failed(bench.failure(1.0, 1.2)))
    bench.see(make.unit(8), 9.0, 0.006)
    with pytest.raises(CaseError, match="never stood in the situation"):
        bench.learner.taken_over(bench.takeover(9.0, 60, 0.006))


def test_a_takeover_of_which_nothing_was_seen_is_refused(bench, make):
    bench.status(0.0)
    with pytest.raises(CaseError, match="no embedding within"):
        bench.learner.taken_over(bench.takeover(9.0, 60, 0.006))


def test_a_failure_of_which_nothing_was_seen_still_marks_its_episode(bench, make):
    bench.status(0.0)
    with pytest.raises(CaseError, match="no embedding"):
        bench.learner.failed(bench.failure(1.0, 1.2))
    bench.see(make.unit(1), 2.0, 0.001)
    lesson, _ = bench.status(3.0, running=False, success=True)
    assert lesson.done == () and lesson.situations == ()


def test_an_episode_that_is_broken_off_or_taken_over_credits_nobody(bench, make):
    bench.status(0.0)
    assert bench.status(1.0, running=False)[1] is UseResult.CANCELLED
    bench.status(2.0, number=2)
    bench.episode.intervene()
    assert bench.status(3.0, running=False, success=True, number=2)[1] is UseResult.INTERVENED
    assert bench.status(4.0, running=False, success=True, number=2) is None


def test_successes_of_an_episode_are_kept_with_the_robots_name(bench, make):
    bench.memory.add(make.case(50))
    bench.status(0.0)
    for place in range(20):
        bench.see(make.unit(place), 0.1 * place, 0.001)
    bench.learner.learn(*bench.status(3.0, running=False, success=True))
    kept = bench.memory.ledger.successes(STAMP)
    assert len(kept) == 20 and {(item.origin, item.episode_id) for item in kept} == {("left", 1)}


def test_shares_of_episodes_make_up_whole_ones(bench, make):
    """Thirty cases that shaped one episode are no thirty witnesses: each is counted when its shares make up one."""
    ids = [bench.memory.add(make.case(seed)).case_id for seed in range(3)]

    def episode(number: int, result: UseResult, *shares: float) -> None:
        uses = [
            CaseUse(case_id, CorrectionMode.GUIDANCE, 1.0, 1, share) for case_id, share in zip(ids, shares, strict=True)
        ]
        bench.memory.record_uses(uses, result, number)

    def counts() -> list[tuple[int, int]]:
        return [(case.uses, case.successes) for case in (bench.memory.get(case_id) for case_id in ids)]

    episode(1, UseResult.FAILURE, 0.5, 1.0, 0.1)
    assert counts() == [(0, 0), (1, 0), (0, 0)]
    episode(2, UseResult.SUCCESS, 0.5, 1.0, 0.1)
    # Half of a failure and half of a success are not one of either.
    assert counts() == [(0, 0), (2, 1), (0, 0)]
    episode(3, UseResult.FAILURE, 0.5, 1.0, 0.1)
    assert counts() == [(1, 0), (3, 1), (0, 0)]
    for number in range(4, 12):
        episode(number, UseResult.SUCCESS, 0.0, 0.0, 0.1)
    assert counts()[2] == (0, 0)
    episode(12, UseResult.SUCCESS, 0.0, 0.0, 0.1)
    assert counts()[2] == (1, 1)
    used, _ = bench.memory.ledger.counted(ids[2])
    assert (used.episodes, used.successes) == pytest.approx((1.2, 1.0))
