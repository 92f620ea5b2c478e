# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Failures become cases, and episodes teach when they end."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.core.action import TICK_NS, ActionChunk, CorrectionMode, Provenance
from flow_rag_vla.core.failure import Evidence, FailureType
from flow_rag_vla.memory.case import CaseError, EncoderStamp
from flow_rag_vla.memory.credit import CaseUse
from flow_rag_vla.memory.episode import MOST_LEAD_IN, EpisodeMemory, Failure, SeenEmbedding
from flow_rag_vla.memory.history import JUMP_NS, Series

STAMP = EncoderStamp("compact", "abc", 16)
SECOND = 1_000_000_000
WINDOW = 20 * SECOND


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=300), st.integers(1, 10**6), st.integers(-10, 10**6 + 10))
def test_a_series_answers_like_a_search_through_all_it_was_given(stamps, span, time):
    series: Series[int] = Series(span)
    for stamp in stamps:
        series.append(stamp, stamp)
    recent = sorted(stamp for stamp in stamps if stamp >= max(stamps) - span)
    found = series.nearest(time, span)
    near = min(abs(stamp - time) for stamp in recent)
    if near <= span:
        assert found is not None and abs(found[0] - time) <= near
    assert (found is None) or abs(found[0] - time) <= span
    expected = [stamp for stamp in recent if stamp <= time]
    if expected:
        assert series.at(time) == expected[-1]
    window = [stamp for stamp, _ in series.between(max(stamps) - span, time)]
    assert window == [stamp for stamp in recent if max(stamps) - span < stamp <= time]


def test_a_series_stays_short_and_forgets_when_the_clock_is_set_back():
    series: Series[int] = Series(1000)
    for stamp in range(0, 100_000, 10):
        series.append(stamp, stamp)
    assert 100 <= len(series) <= 300
    series.append(100_000 + 2 * JUMP_NS, 1)
    series.append(5, 2)
    assert (len(series), series.at(5)) == (1, 2)
    assert series.nearest(2000, 1000) is None and series.at(0) is None


@pytest.mark.parametrize("noted", [2, 3, 200])
def test_what_was_in_force_before_the_span_of_a_series_is_still_known_in_it(noted):
    series: Series[int] = Series(1000)
    for stamp in range(noted):
        series.append(stamp, stamp)
    series.append(10_000, -1)
    assert series.at(9_999) == noted - 1


def test_a_hand_that_was_left_open_for_longer_than_anything_is_kept_is_seen_to_close():
    memory = EpisodeMemory(60 * SECOND)
    memory.command_hand(0, True)
    memory.command_hand(100 * SECOND, False)
    memory.begin(2, "push", 200 * SECOND)
    memory.command_hand(200 * SECOND, False)
    memory.command_hand(205 * SECOND, True)
    assert memory.first_closed_ns == 205 * SECOND


def test_an_episode_begins_without_the_phase_of_the_one_before():
    memory = EpisodeMemory(60 * SECOND)
    memory.begin(1, "push", 0)
    memory.phases.append(SECOND, "release")
    assert memory.cancel().phases == ("release",)
    memory.begin(2, "push", 2 * SECOND)
    assert not memory.phases.at(2 * SECOND) and memory.cancel().phases == ()


class Robot:
    """An episode told step by step."""

    def __init__(self, make) -> None:
        self.make = make
        self.memory = EpisodeMemory(60 * SECOND)
        self.memory.begin(1, "push", 0)
        self.memory.phases.append(0, "reach")

    def see(self, vector: np.ndarray, at: float, stamp: EncoderStamp = STAMP) -> None:
        self.memory.embeddings.append(int(at * SECOND), SeenEmbedding(vector, stamp))

    def act(self, step: float, at: float, horizon: int = 16) -> None:
        stamp_ns = int(at * SECOND)
        self.memory.chunks.append(stamp_ns, ActionChunk(1, stamp_ns, self.make.motion(step, horizon)))

    def enter(self, phase: str, at: float) -> None:
        self.memory.phases.append(int(at * SECOND), phase)

    def fail(self, onset: float, at: float, phase: str = "grasp"):
        failure = Failure(
            int(at * SECOND),
            int(onset * SECOND),
            FailureType.GRASP_FAILURE,
            "push",
            phase,
            (Evidence("gripper_width", 0.0, 0.01, "m"),),
            "closed on nothing",
        )
        return self.memory.failed(failure, self.memory.case_of(failure, "left arm", SECOND // 2))

    def end(self, at: float, success: bool = True, threshold: float = 0.9):
        return self.memory.end(success, int(at * SECOND), threshold, WINDOW)


@pytest.fixture
def robot(make) -> Robot:
    return Robot(make)


def test_a_case_holds_what_was_seen_felt_and_done_at_onset(make, robot):
    robot.see(make.unit(1), 0.9)
    robot.see(make.unit(2), 1.1)
    robot.see(make.unit(3), 1.5)
    robot.memory.proprioception.append(SECOND, lambda: np.arange(3, dtype=np.float32))
    robot.act(0.001, 0.9)
    robot.act(0.002, 1.0)
    robot.act(0.003, 1.2)
    pending = robot.fail(1.15, 1.6)
    case = pending.case
    np.testing.assert_array_equal(case.embedding, make.unit(2))
    np.testing.assert_array_equal(case.failed_actions, make.motion(0.002, 16))
    np.testing.assert_array_equal(case.proprioception, [0, 1, 2])
    assert (case.task, case.phase, case.origin, case.note) == ("push", "reach", "left arm", "closed on nothing")
    assert case.evidence[0].name == "gripper_width" and case.stamp == STAMP


def test_without_an_announced_phase_the_events_own_is_kept_and_without_a_state_none_is_made_up(make):
    memory = EpisodeMemory(SECOND)
    memory.embeddings.append(5, SeenEmbedding(make.unit(1), STAMP))
    memory.chunks.append(5, ActionChunk(1, 5, make.motion(0.001)))
    failure = Failure(6, 6, FailureType.DROP, "stack", "transport")
    case = memory.case_of(failure, "", 100)
    assert (case.task, case.phase, case.proprioception.size) == ("stack", "transport", 0)
    assert memory.failed(failure, case) is None


def test_a_failure_of_which_nothing_was_seen_or_done_makes_no_case(make, robot):
    with pytest.raises(CaseError, match=r"no embedding within 0.5 s of the onset 1.000 s"):
        robot.fail(1.0, 1.1)
    robot.see(make.unit(1), 1.0)
    with pytest.raises(CaseError, match="no chunk was in force"):
        robot.fail(1.0, 1.1)
    robot.act(0.001, 1.0 - 16 * TICK_NS / SECOND)
    with pytest.raises(CaseError, match="no chunk was in force"):
        robot.fail(1.0, 1.1)


def first_failure(make, robot: Robot):
    robot.see(make.unit(1), 1.0)
    robot.act(0.001, 1.0)
    return robot.fail(1.0, 1.3)


def test_the_attempt_that_went_well_becomes_the_correction(make, robot):
    pending = first_failure(make, robot)
    robot.see(make.turned(make.unit(1), 0.95), 2.0)
    robot.act(0.005, 2.0)
    robot.see(make.turned(make.unit(1), 0.99), 2.2)
    robot.act(0.006, 2.2)
    robot.enter("grasp", 2.5)
    robot.see(make.unit(1), 2.6)
    robot.act(0.009, 2.6)
    (later,) = robot.end(3.0).corrections
    assert later.pending is pending and later.similarity == pytest.approx(0.99, abs=1e-5)
    np.testing.assert_array_equal(later.actions, make.motion(0.006, 16))


def test_of_several_attempts_only_the_one_after_the_last_failure_counts(make, robot):
    first_failure(make, robot)
    robot.see(make.unit(1), 2.0)
    robot.act(0.005, 2.0)
    robot.fail(2.0, 2.3)
    robot.see(make.turned(make.unit(1), 0.95), 3.0)
    robot.act(0.006, 3.0)
    lessons = robot.end(4.0).corrections
    assert len(lessons) == 2
    for later in lessons:
        np.testing.assert_array_equal(later.actions, make.motion(0.006, 16))


@pytest.mark.parametrize(
    "why", ["failed", "other_situation", "too_late", "same_actions", "other_horizon", "other_encoder"]
)
def test_what_does_not_show_a_better_way_is_no_correction(make, robot, why):
    first_failure(make, robot)
    at = 22.0 if why == "too_late" else 2.0
    vector = make.unit(2) if why == "other_situation" else make.unit(1)
    stamp = EncoderStamp("dinov2", "abc", 16) if why == "other_encoder" else STAMP
    robot.see(vector, at, stamp)
    robot.act(0.001 if why == "same_actions" else 0.006, at, 8 if why == "other_horizon" else 16)
    assert robot.end(30.0, success=why != "failed").corrections == ()


def test_only_modes_that_shape_the_robot_earn_credit(robot):
    robot.memory.use(CorrectionMode.GUIDANCE, [3, 1])
    robot.memory.use(CorrectionMode.HOLD, [1])
    robot.memory.use(CorrectionMode.TIMEOUT, [5])
    robot.memory.use(CorrectionMode.NONE, [6])
    lesson = robot.end(1.0, success=False)
    assert (lesson.success, lesson.used) == (False, (1, 3))
    robot.memory.use(CorrectionMode.GUIDANCE, [8])
    robot.memory.begin(2, "push", SECOND)
    assert robot.end(2.0).used == ()


def test_an_undisturbed_success_gives_situations_to_calibrate_with(make, robot):
    for step in range(50):
        robot.see(make.unit(step), 0.1 * step)
    robot.enter("grasp", 2.5)
    lesson = robot.end(5.0)
    assert len(lesson.situations) == 8
    assert {(task, phase) for task, phase, _ in lesson.situations} == {("push", "reach"), ("push", "grasp")}


@pytest.mark.parametrize("disturbance", ["failure", "use", "nothing_seen"])
def test_an_episode_with_a_failure_or_a_correction_gives_no_situations(make, robot, disturbance):
    if disturbance == "failure":
        first_failure(make, robot)
    elif disturbance == "use":
        robot.see(make.unit(1), 0.5)
        robot.memory.use(CorrectionMode.NEGATIVE, [1])
    assert robot.end(5.0).situations == ()


def test_a_failure_without_a_case_still_marks_its_episode_and_a_cancel_ends_it(make, robot):
    robot.see(make.unit(1), 0.5)
    assert robot.memory.failed(Failure(1, 1, FailureType.DROP, "push", "reach"), None) is None
    assert robot.end(5.0).situations == ()
    robot.memory.begin(2, "push", 6 * SECOND)
    assert (robot.memory.running, robot.memory.episode_id) == (True, 2)
    robot.memory.cancel()
    assert not robot.memory.running


def test_an_episode_says_how_each_case_shaped_it_which_it_passed_over_and_where_it_went(make):
    robot = Robot(make)
    memory = robot.memory
    memory.use(CorrectionMode.GUIDANCE, [4], 0.3, chunk_id=1)
    memory.use(CorrectionMode.GUIDANCE, [4], 0.6, chunk_id=1)
    memory.use(CorrectionMode.GUIDANCE, [4], 0.5, chunk_id=2)
    memory.pass_over([4, 9])
    robot.enter("grasp", 1.0)
    lesson = robot.end(2.0, success=False)
    assert lesson.uses == (CaseUse(4, CorrectionMode.GUIDANCE, 0.6, 2), CaseUse(9))
    assert (lesson.task, lesson.phases, lesson.episode_id) == ("push", ("grasp", "reach"), 1)


def test_an_undisturbed_success_says_what_was_done_where(make):
    robot = Robot(make)
    for place in range(20):
        robot.see(make.unit(place), place * 0.1)
        robot.act(place * 1e-3, place * 0.1)
    lesson = robot.end(2.0)
    assert len(lesson.done) == 20 and {item.phase for item in lesson.done} == {"reach"}
    for item in lesson.done:
        place = next(place for place in range(20) if np.array_equal(item.embedding, make.unit(place)))
        np.testing.assert_allclose(item.actions[0, 0], place * 1e-3, atol=1e-7)
    assert Robot(make).end(2.0).done == ()


def test_of_a_success_in_which_the_memory_helped_only_what_the_policy_did_alone_is_a_success_of_its_own(make):
    robot = Robot(make)
    for place in range(6):
        robot.see(make.unit(place), place * 0.1)
        shaped = CorrectionMode.GUIDANCE if place in (2, 3) else CorrectionMode.NONE
        stamp_ns = int(place * 0.1 * SECOND)
        provenance = Provenance(stamp_ns, correction=shaped, case_ids=(7,) if shaped else ())
        robot.memory.chunks.append(stamp_ns, ActionChunk(1, stamp_ns, make.motion(place * 1e-3), provenance=provenance))
    robot.memory.use(CorrectionMode.GUIDANCE, [7], 1.0, chunk_id=3)
    lesson = robot.end(1.0)
    assert [round(float(item.actions[0, 0]) * 1e3) for item in lesson.done] == [0, 1, 4, 5]
    assert lesson.situations == ()


def test_a_situation_that_rests_is_one_success(make):
    robot = Robot(make)
    for place in range(50):
        robot.see(make.unit(1), place * 0.1)
        robot.act(0.001, place * 0.1)
    assert len(robot.end(5.0).done) == 1


def test_the_way_into_a_failure_becomes_cases_too_latest_first_and_each_situation_once(make, robot):
    for place in range(10):
        robot.see(make.unit(place // 2), place * 0.1)
        robot.act(place * 1e-3, place * 0.1)
        robot.memory.proprioception.append(int(place * 0.1 * SECOND), lambda place=place: np.full(2, place, np.float32))
    robot.enter("grasp", 0.75)
    failure = Failure(int(1.2 * SECOND), int(0.9 * SECOND), FailureType.DROP, "push", "grasp")
    cases = robot.memory.cases_of(failure, "left", SECOND // 2, int(0.55 * SECOND))
    # Of places 4 to 9 two by two are the same situation; 9 is the onset's.
    assert [round(float(case.failed_actions[0, 0]) * 1e3) for case in cases] == [9, 7, 5]
    assert [case.phase for case in cases] == ["grasp", "reach", "reach"]
    assert [case.proprioception.tolist() for case in cases] == [[9, 9], [7, 7], [5, 5]]
    assert {case.failure_type for case in cases} == {FailureType.DROP}
    assert len(robot.memory.cases_of(failure, "left", SECOND // 2, 0)) == 1


def test_the_way_into_a_failure_does_not_reach_into_the_episode_before(make, robot):
    for place in range(6):
        robot.see(make.unit(place), place * 0.1)
        robot.act(0.001, place * 0.1)
    robot.memory.begin(2, "push", int(0.35 * SECOND))
    failure = Failure(SECOND, int(0.5 * SECOND), FailureType.DROP, "push", "grasp")
    cases = robot.memory.cases_of(failure, "", SECOND // 2, SECOND)
    assert len(cases) == 2
    many = Robot(make)
    for place in range(40):
        many.see(make.unit(place), place * 0.02)
        many.act(0.001, place * 0.02)
    assert len(many.memory.cases_of(failure, "", SECOND // 2, SECOND)) == MOST_LEAD_IN + 1


def test_every_case_of_a_failure_learns_from_the_attempt_that_went_well(make, robot):
    for place in range(3):
        robot.see(make.unit(place), place * 0.1)
        robot.act(0.001, place * 0.1)
    failure = Failure(SECOND, int(0.2 * SECOND), FailureType.DROP, "push", "reach")
    for case in robot.memory.cases_of(failure, "", SECOND // 2, SECOND):
        robot.memory.failed(failure, case)
    for place in range(3):
        robot.see(make.turned(make.unit(place), 0.99), 2.0 + place * 0.1)
        robot.act(0.004 + place * 1e-3, 2.0 + place * 0.1)
    corrections = robot.end(3.0).corrections
    assert [round(float(item.actions[0, 0]) * 1e3) for item in corrections] == [6, 5, 4]


def test_a_chunk_gives_each_case_its_share_of_the_credit_and_no_case_more_than_the_episode(make, robot):
    memory = robot.memory
    memory.answered(100, {1: 0.75, 2: 0.25})
    memory.answered(200, {1: 0.5, 2: 0.3, 3: 0.2})
    memory.use(CorrectionMode.GUIDANCE, [1, 2], 1.0, chunk_id=1, stamp_ns=100)
    memory.use(CorrectionMode.GUIDANCE, [1, 2], 1.0, chunk_id=1, stamp_ns=100)
    memory.use(CorrectionMode.GUIDANCE, [1, 2, 3], 1.0, chunk_id=2, stamp_ns=200)
    # An answer that nobody remembers is shared alike.
    memory.use(CorrectionMode.GUIDANCE, [4, 5], 1.0, chunk_id=3, stamp_ns=300)
    shares = {use.case_id: use.share for use in robot.end(1.0).uses}
    assert shares == pytest.approx({1: 1.0, 2: 0.55, 3: 0.2, 4: 0.5, 5: 0.5})


def test_an_episode_with_a_takeover_teaches_nothing_about_the_policy_but_its_failures_stay_known(make):
    robot = Robot(make)
    robot.see(make.unit(1), 0.5)
    robot.act(0.001, 0.5)
    pending = robot.fail(0.5, 1.0, "reach")
    robot.memory.intervene()
    robot.see(make.unit(1), 1.5)
    robot.act(0.009, 1.5)
    lesson = robot.end(3.0)
    assert lesson.intervened and lesson.success
    assert (lesson.corrections, lesson.situations, lesson.done) == ((), (), ())
    assert robot.memory.pending == (pending,)
    robot.memory.begin(2, "push", 0)
    assert robot.memory.pending == () and not robot.end(1.0).intervened
