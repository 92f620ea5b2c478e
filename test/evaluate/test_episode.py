# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The course of an episode, without ROS."""

from __future__ import annotations

import math
from dataclasses import replace
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.core.action import CorrectionMode
from flow_rag_vla.core.goal import GOALS, UnknownTaskError
from flow_rag_vla.data.episode_record import EpisodeRecord, FailureRecord
from flow_rag_vla.evaluate.episode import (
    EpisodeState,
    EpisodeTracker,
    LoopSample,
    Outcome,
    Verdict,
    requested_goal,
)

S = 1_000_000_000


def running(success_hold: float = 0.2, timeout: float = 5.0) -> EpisodeTracker:
    tracker = EpisodeTracker(1, "push", "plain", 3, "push it", success_hold)
    tracker.run(10 * S, timeout)
    return tracker


def failure(number: int) -> FailureRecord:
    return FailureRecord(number, "drop", 0.9, "transport", "rule", "fell", 0, 0, 1.0)


def ended(tracker: EpisodeTracker, now_ns: int, verdict: Verdict) -> EpisodeRecord:
    tracker.decide(now_ns, verdict)
    return tracker.record()


def sample(ticks: int, late: int = 0, p99: float = 1.0) -> LoopSample:
    return LoopSample(40.0, 0.1, p99, 2.0, 0.4, ticks, late, 0, 1, 10, 0)


@pytest.mark.parametrize("moved", [-3600 * S, 3600 * S])
def test_a_clock_that_is_set_changes_nothing_about_how_long_an_episode_has_run(moved: int) -> None:
    tracker = running(success_hold=1.0)
    tracker.observe_phase(11 * S, "reach")
    tracker.observe_success(12 * S, True)
    tracker.clock_set(moved)
    assert tracker.elapsed(12 * S + moved) == pytest.approx(2.0) and tracker.judge(12 * S + moved) is None
    assert tracker.judge(13 * S + moved) is not None, "the success has held for a second"
    tracker.observe_success(13 * S + moved, False)
    assert tracker.judge(15 * S - 1 + moved) is None
    verdict = tracker.judge(15 * S + moved)
    assert verdict is not None and verdict.word == "timeout"
    record = ended(tracker, 15 * S + moved, verdict)
    assert record.duration == pytest.approx(5.0)
    assert [(span.start, span.end) for span in record.phases] == [(pytest.approx(1.0), pytest.approx(5.0))]
    tracker.clock_set(moved)
    assert tracker.record() == record, "what is over stays as it was"


def test_an_episode_succeeds_when_the_test_has_held() -> None:
    tracker = running()
    tracker.observe_success(11 * S, True)
    assert tracker.judge(11 * S) is None
    tracker.observe_success(11 * S + S // 10, False)
    tracker.observe_success(12 * S, True)
    assert tracker.judge(12 * S + S // 10) is None
    verdict = tracker.judge(12 * S + S // 5)
    assert verdict is not None and verdict.outcome is Outcome.SUCCESS
    tracker.decide(12 * S + S // 5, verdict)
    record = tracker.record()
    assert (record.outcome, record.duration) == ("success", pytest.approx(2.2))
    assert (tracker.state, tracker.progress) == (EpisodeState.SUCCEEDED, 1.0)


def test_time_runs_out_but_not_on_a_success_that_is_being_confirmed() -> None:
    tracker = running(timeout=2.0)
    tracker.observe_success(12 * S - 1, True)
    assert tracker.judge(12 * S + 1) is None
    tracker.observe_success(12 * S + 2, False)
    verdict = tracker.judge(12 * S + 3)
    assert verdict is not None and (verdict.outcome, verdict.word) == (Outcome.FAILURE, "timeout")


def test_nothing_counts_before_the_start_or_after_the_end() -> None:
    tracker = EpisodeTracker(1, "push", "plain", 3, "push it")
    tracker.observe_failure(failure(1))
    tracker.observe_success(1, True)
    tracker.observe_loop(sample(1))
    assert not tracker.observe_phase(1, "reach")
    tracker.observe_command(1, 5, CorrectionMode.GUIDANCE, 1.0, (1,))
    assert (tracker.failures, tracker.judge(10**12), tracker.elapsed(10**12)) == (0, None, 0.0)
    with pytest.raises(RuntimeError, match="no verdict yet"):
        tracker.record()
    record = ended(tracker, 5, Verdict(Outcome.ABORTED, "aborted", "no simulator"))
    assert (record.outcome, record.duration, record.phases, record.loop) == ("aborted", 0.0, (), None)
    assert tracker.state is EpisodeState.FAILED
    tracker.observe_failure(failure(2))
    assert tracker.failures == 0
    with pytest.raises(RuntimeError, match="has ended already"):
        tracker.decide(6, Verdict(Outcome.CANCELED, "canceled", ""))


def test_a_failure_event_on_its_way_at_the_verdict_still_counts() -> None:
    tracker = running(timeout=1.0)
    verdict = tracker.judge(12 * S)
    assert verdict is not None
    tracker.decide(12 * S, verdict)
    tracker.observe_failure(failure(1))
    assert tracker.elapsed(20 * S) == pytest.approx(2.0)
    assert [item.event_id for item in tracker.record().failures] == [1]


def test_phases_follow_each_other_without_gaps() -> None:
    tracker = running()
    assert tracker.observe_phase(10 * S, "reach")
    assert not tracker.observe_phase(11 * S, "reach")
    assert tracker.observe_phase(12 * S, "grasp")
    assert tracker.progress == pytest.approx(0.3)
    record = ended(tracker, 13 * S, Verdict(Outcome.CANCELED, "canceled", ""))
    assert [(span.name, span.start, span.end) for span in record.phases] == [("reach", 0, 2), ("grasp", 2, 3)]


@given(
    st.lists(
        st.tuples(
            st.integers(1, 6),
            st.sampled_from([CorrectionMode.NONE, CorrectionMode.GUIDANCE, CorrectionMode.TIMEOUT]),
            st.sampled_from([(), (3,), (3, 7)]),
        ),
        max_size=40,
    )
)
def test_corrected_chunks_are_counted_once_however_many_commands_use_them(
    commands: list[tuple[int, CorrectionMode, tuple[int, ...]]],
) -> None:
    tracker = running()
    ordered = sorted(commands, key=lambda item: item[0])
    # One chunk has one mode and one set of cases: the last drawn for its id.
    meaning = {chunk: (mode, cases) for chunk, mode, cases in ordered}
    for index, (chunk, _, _) in enumerate(ordered):
        mode, cases = meaning[chunk]
        tracker.observe_command(10 * S + index, chunk, mode, 0.5, cases)
    record = ended(tracker, 11 * S, Verdict(Outcome.CANCELED, "canceled", ""))
    shaped = {chunk for chunk, (mode, _) in meaning.items() if mode is CorrectionMode.GUIDANCE}
    assert tracker.corrected_chunks == len(shaped)
    assert sum(use.chunks for use in record.corrections) == len(shaped)
    assert all(use.mode == "guidance" and use.first_ns <= use.last_ns for use in record.corrections)


def test_a_correction_that_comes_back_after_a_pause_is_another_use() -> None:
    tracker = running()
    tracker.observe_command(10 * S, 1, CorrectionMode.RESIDUAL, 0.5, (1,))
    tracker.observe_command(10 * S + 1, 2, CorrectionMode.RESIDUAL, 0.7, (1,))
    tracker.observe_command(13 * S, 3, CorrectionMode.RESIDUAL, 0.7, (1,))
    tracker.observe_command(13 * S, 0, CorrectionMode.RESIDUAL, 0.7, (9,))
    record = ended(tracker, 14 * S, Verdict(Outcome.CANCELED, "canceled", ""))
    assert [(use.chunks, use.strength) for use in record.corrections] == [(2, 0.7), (1, 0.7)]


def test_the_loop_is_summed_up_over_the_episode_alone() -> None:
    tracker = EpisodeTracker(1, "push", "plain", 3, "push it")
    tracker.run(0, 5.0, "push the thing", sample(1000, 5))
    tracker.observe_loop(sample(1040, 5, 1.0))
    tracker.observe_loop(sample(1080, 6, 3.0))
    tracker.observe_loop(sample(1120, 6, math.nan))
    loop = ended(tracker, 3 * S, Verdict(Outcome.SUCCESS, "success", "")).loop
    assert loop is not None
    assert (loop.ticks, loop.late_ticks, loop.tick_error_p99_ms) == (120, 1, 3.0)
    assert tracker.instruction == "push the thing"


def test_figures_of_the_loop_that_are_no_numbers_cost_no_record() -> None:
    tracker = running()
    for rate in (math.inf, 30.0, -math.inf, 50.0, math.nan):
        tracker.observe_loop(LoopSample(rate, math.nan, math.nan, math.inf, rate, 1, 0, 0, 1, 10, 0))
    loop = ended(tracker, 12 * S, Verdict(Outcome.SUCCESS, "success", "")).loop
    assert loop is not None and (loop.rate_hz, loop.cpu_mean_ms) == (40.0, 40.0)


def test_a_controller_that_restarts_within_an_episode_does_not_give_negative_counts() -> None:
    tracker = EpisodeTracker(1, "push", "plain", 3, "push it")
    tracker.run(0, 5.0, loop=sample(5000, 9))
    tracker.observe_loop(sample(40))
    tracker.observe_loop(sample(80, 1))
    loop = ended(tracker, S, Verdict(Outcome.SUCCESS, "success", "")).loop
    assert loop is not None and (loop.ticks, loop.late_ticks) == (40, 1)


@pytest.mark.parametrize("goal", GOALS, ids=lambda goal: goal.instruction)
def test_every_instruction_is_understood_with_or_without_its_task(goal: object) -> None:
    assert requested_goal(goal.instruction, "") == goal  # type: ignore[attr-defined]
    assert requested_goal(goal.instruction, goal.task) == goal  # type: ignore[attr-defined]


def test_a_task_alone_leaves_the_target_open_only_if_there_are_several() -> None:
    assert requested_goal("", "pick_and_place") is None
    found = requested_goal("", " open_drawer ")
    assert found is not None and found.target == "drawer"


@pytest.mark.parametrize(
    ("instruction", "task", "words"),
    [("", "", "known are: put the red cube"), ("dance", "", "not understood"), ("", "dance", "known tasks"),
     ("open the drawer", "push", "leave one of them empty")],
)  # fmt: skip
def test_what_is_not_understood_says_what_is(instruction: str, task: str, words: str) -> None:
    with pytest.raises(UnknownTaskError, match=words):
        requested_goal(instruction, task)


def test_a_loop_sample_is_what_its_message_says() -> None:
    message = SimpleNamespace(
        rate_hz=39.5, tick_error_p50_ms=0.1, tick_error_p99_ms=2.0, tick_error_max_ms=9.0, cpu_mean_ms=0.4, ticks=40,
        late_ticks=1, skipped_ticks=2, starved_ticks=3, chunks_accepted=4,
    )  # fmt: skip
    # The message of an older bag lacks the last one.
    assert LoopSample.of(message) == LoopSample(39.5, 0.1, 2.0, 9.0, 0.4, 40, 1, 2, 3, 4, 0)


def test_an_episode_in_which_a_person_took_over_is_on_record_as_that(tmp_path) -> None:
    from flow_rag_vla.data.episode_record import read_record, write_record

    tracker = running()
    assert tracker.observe_takeover() and not tracker.observe_takeover()
    record = ended(tracker, 12 * S, Verdict(Outcome.SUCCESS, "success", "done"))
    write_record(tmp_path / "1.json", record)
    assert record.intervened and read_record(tmp_path / "1.json").intervened
    untouched = running()
    assert not ended(untouched, 12 * S, Verdict(Outcome.SUCCESS, "success", "done")).intervened
    assert not untouched.observe_takeover() and not untouched.intervened


def test_an_episode_goes_on_from_what_was_kept_of_it() -> None:
    tracker = EpisodeTracker(4, "push", "friction", 3, "push it", 0.2, 0.5, "gently")
    tracker.run(10 * S, 30.0, loop=sample(1000))
    tracker.observe_phase(10 * S, "reach")
    tracker.observe_command(11 * S, 5, CorrectionMode.GUIDANCE, 0.5, (1,))
    tracker.observe_failure(failure(1))
    tracker.observe_takeover()
    other = EpisodeTracker.of(tracker.course(), 0.2)
    assert other.course() == tracker.course() and other.active and other.phase == "reach"
    # The clock was set back meanwhile; the episode had run for three seconds, one of them with nobody there.
    other.resume(2 * S, 3.0, 1.0)
    other.observe_phase(3 * S, "transport")
    other.observe_loop(sample(1200))
    assert other.elapsed(3 * S) == pytest.approx(4.0)
    record = ended(other, 4 * S, Verdict(Outcome.FAILURE, "timeout", "too slow"))
    assert [(span.name, span.start, span.end) for span in record.phases] == [
        ("reach", 0.0, 4.0),
        ("transport", 4.0, 5.0),
    ]
    assert (record.away, record.intervened, len(record.failures), len(record.corrections)) == (1.0, True, 1, 1)
    assert (record.speed_scale, record.speed_reason) == (0.5, "gently")
    assert record.loop is not None and record.loop.ticks == 200
    over = EpisodeTracker.of(other.course(), 0.2)
    assert over.verdict == other.verdict and over.record().outcome == "failure"


def test_of_many_failures_the_newest_are_kept_and_all_are_counted() -> None:
    tracker = running()
    for number in range(250):
        tracker.observe_failure(failure(number))
    other = EpisodeTracker.of(EpisodeTracker.of(tracker.course(), 0.2).course(), 0.2)
    assert other.failures == 250
    record = ended(other, 11 * S, Verdict(Outcome.FAILURE, "timeout", ""))
    assert [item.event_id for item in record.failures] == list(range(150, 250))


def test_a_course_with_a_state_that_does_not_exist_is_refused() -> None:
    with pytest.raises(ValueError, match="17"):
        EpisodeTracker.of(replace(running().course(), state=17), 0.2)
