# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""One episode through the detector: resets, clocks, malformed input, and the frames that the monitor gets."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.core.action import ActionChunk
from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.core.goal import task_names
from flow_rag_vla.core.phase import Phase
from flow_rag_vla.core.state import CartesianTarget, RobotState
from flow_rag_vla.failure.detector import FailureDetector
from flow_rag_vla.failure.sample import Command, Episode
from flow_rag_vla.failure.thresholds import RuleThresholds

LIMITS = RuleThresholds()


EMBEDDING = np.eye(8, dtype=np.float32)[0]


def test_a_new_episode_forgets_the_one_before(signals):
    signals.close(0.0, 10.0)
    assert len(signals.reports) == 1
    signals.start(episode_id=2)
    told = signals.run(1.0, (0.0, 0.0, 0.05))
    assert [report.failure_type for report in told] == [FailureType.GRASP_FAILURE]


def test_a_clock_that_jumps_back_begins_anew_and_raises_nothing(signals):
    signals.detector.start(Episode(1, "pick_and_place", signals.stamp_ns, 5.0))
    signals.run(3.0, (0.05, 0.0, 0.0))
    signals.stamp_ns = 0
    assert signals.run(3.0, (0.0, 0.05, 0.0)) == []


def test_a_clock_that_jumps_ahead_is_no_timeout(signals):
    signals.detector.start(Episode(1, "pick_and_place", signals.stamp_ns, 5.0))
    signals.run(1.0, (0.05, 0.0, 0.0))
    signals.stamp_ns += 3_600_000_000_000
    assert signals.run(1.0, (0.05, 0.0, 0.0)) == []


def test_a_state_seen_twice_counts_once(signals):
    signals.force = (0.0, 0.0, 200.0)
    signals.run(0.025)
    state = signals.state()
    assert all(signals.detector.update(state) == () for _ in range(20))


@pytest.mark.parametrize("field", ["gripper_width", "gripper_effort", "position", "wrench", "orientation"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_state_that_is_not_finite_is_refused_by_name_and_changes_nothing(signals, field, value):
    signals.run(0.2)
    good = signals.state()
    present = getattr(good, field)
    broken = value if isinstance(present, float) else np.full_like(present, value)
    state = dataclasses.replace(good, stamp_ns=good.stamp_ns + 25_000_000, **{field: broken})
    with pytest.raises(ValueError, match=field):
        signals.detector.update(state)
    assert signals.run(1.0, (0.05, 0.0, 0.0)) == []


def test_the_phase_of_a_report_is_the_phase_at_its_onset(signals):
    signals.observation_stamp_ns = 0
    signals.run(0.5)
    (told,) = signals.close(0.0, 5.0)
    assert told.phase is Phase.GRASP
    assert signals.detector.phase is Phase.GRASP


def test_new_thresholds_hold_from_then_on(signals):
    signals.detector.configure(RuleThresholds(collision_force_free=100.0, collision_force_contact=100.0))
    signals.force = (0.0, 0.0, 90.0)
    assert signals.run(0.5, (0.05, 0.0, 0.0)) == []
    signals.force = (0.0, 0.0, 110.0)
    assert len(signals.run(0.5, (0.05, 0.0, 0.0))) == 1


def look(signals, seconds=0.1, chunk=True):
    """One picture after so much motion; the frame that it completes."""
    signals.run(seconds, (0.02, 0.0, 0.0))
    before = signals.detector.offer_embedding(signals.stamp_ns, EMBEDDING)
    if not chunk:
        return before
    return signals.detector.offer_chunk(ActionChunk(1, signals.stamp_ns, np.zeros((16, 7), dtype=np.float32)))


def test_a_frame_is_complete_with_the_chunk_made_of_its_embedding(signals):
    frame = look(signals)
    assert frame.chunk is not None
    assert frame.stamp_ns == signals.stamp_ns == frame.chunk.stamp_ns
    assert frame.elapsed == pytest.approx(0.1)
    assert (frame.phase, frame.opening) == (Phase.REACH, 1.0)
    stale = ActionChunk(2, signals.stamp_ns - 1, np.zeros((16, 7), dtype=np.float32))
    assert signals.detector.offer_chunk(stale) is None


def test_a_frame_whose_chunk_never_comes_is_told_with_the_next_embedding(signals):
    assert look(signals, chunk=False) is None
    first = signals.stamp_ns
    frame = look(signals, chunk=False)
    assert (frame.stamp_ns, frame.chunk) == (first, None)


def test_embeddings_between_episodes_or_out_of_order_are_passed_over(signals):
    detector = FailureDetector()
    assert detector.offer_embedding(1, EMBEDDING) is None
    look(signals, chunk=False)
    assert signals.detector.offer_embedding(signals.stamp_ns, EMBEDDING) is None
    assert signals.detector.offer_embedding(signals.stamp_ns - 1, EMBEDDING) is None


def test_strain_and_reports_reach_the_frame_and_strain_fades_with_the_next(signals):
    signals.force = (0.0, 0.0, 200.0)
    frame = look(signals)
    assert frame.strain == pytest.approx(200.0 / LIMITS.collision_force_free)
    assert frame.evidence > 0.0
    signals.force = (0.0, 0.0, 0.0)
    calm = look(signals)
    assert calm.strain < 1.0
    assert calm.evidence == frame.evidence


def test_what_a_robot_that_follows_nothing_meets_is_no_strain(signals):
    signals.force, signals.following = (0.0, 0.0, 200.0), False
    assert look(signals).strain == 0.0


def test_time_that_ran_out_is_no_evidence_of_its_own(signals):
    signals.detector.start(Episode(1, "pick_and_place", signals.stamp_ns, 0.5))
    frame = look(signals, seconds=1.0)
    assert [report.failure_type for report in signals.reports] == [FailureType.TIMEOUT]
    assert frame.evidence == 0.0


def test_without_a_monitor_frames_raise_nothing(signals):
    assert signals.detector.judge(look(signals)) == (None, None)


@given(
    task=st.sampled_from(task_names()),
    samples=st.lists(
        st.tuples(
            st.integers(-2, 60),
            st.floats(0.0, 0.08),
            st.floats(-100.0, 100.0),
            st.floats(0.0, 1.0),
            st.floats(-500.0, 500.0),
            st.floats(-0.05, 0.05),
        ),
        max_size=60,
    ),
)
def test_any_finite_samples_give_sane_reports_and_the_same_again(task, samples):
    def follow():
        detector = FailureDetector()
        detector.start(Episode(1, task, 1_000_000_000, 3.0))
        stamp_ns, told = 1_000_000_000, []
        for ticks, width, effort, opening, force, offset in samples:
            stamp_ns = max(0, stamp_ns + ticks * 25_000_000)
            position = np.array([0.5 + offset, 0.0, 0.1 + offset])
            target = CartesianTarget(position - offset, np.array([1.0, 0.0, 0.0, 0.0]), opening * 0.08)
            detector.offer_command(Command(stamp_ns, target))
            state = RobotState(
                stamp_ns,
                position,
                np.array([1.0, 0.0, 0.0, 0.0]),
                gripper_width=width,
                gripper_effort=effort,
                wrench=np.array([force, 0.0, force, 0.0, 0.0, 0.0]),
            )
            told += [(stamp_ns, report) for report in detector.update(state)]
        return told

    told = follow()
    assert told == follow()
    for stamp_ns, report in told:
        assert report.stamp_ns == stamp_ns >= report.onset_ns
        assert 0.0 <= report.confidence <= 1.0
        assert report.evidence
        assert all(math.isfinite(item.value) and math.isfinite(item.threshold) for item in report.evidence)
        assert report.description


def test_a_target_that_the_robot_has_had_no_time_to_follow_is_no_misalignment():
    detector = FailureDetector()
    detector.start(Episode(1, "pick_and_place", 0))
    down = np.array([1.0, 0.0, 0.0, 0.0])
    told = []
    for tick in range(40, 80):
        # The target runs 25 mm a tick ahead; the tool reaches each target one tick later, exactly.
        state = RobotState(tick * 25_000_000, np.array([0.025 * (tick - 1), 0.0, 0.2]), down)
        target = CartesianTarget(np.array([0.025 * (tick + 1), 0.0, 0.2]), down, 0.08)
        told += detector.update(state)
        detector.offer_command(Command(tick * 25_000_000 + 12_000_000, target))
    assert told == []
