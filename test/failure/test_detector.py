"""One episode through the detector: resets, clocks, malformed input, and the classifier beside the rules."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.core.goal import GOALS, task_names
from flow_rag_vla.core.phase import Phase
from flow_rag_vla.core.state import CartesianTarget, RobotState
from flow_rag_vla.failure.classifier import ClassifierConfig, FailureClassifier, feature_size
from flow_rag_vla.failure.detector import FailureDetector
from flow_rag_vla.failure.sample import Command, Episode
from flow_rag_vla.failure.thresholds import RuleThresholds

DIMENSION = 8
LIMITS = RuleThresholds()


def one_number_classifier(threshold: float = 0.8) -> FailureClassifier:
    """Says failure exactly when the first number of the later embedding is large."""
    weight = np.zeros((1, feature_size(DIMENSION)), dtype=np.float32)
    weight[0, DIMENSION] = 10.0
    config = ClassifierConfig("compact", "0123456789ab", DIMENSION, 1.0, threshold, 0.02)
    return FailureClassifier(config, [(weight, np.array([-5.0], dtype=np.float32))], "feedfeedfeed")


GOOD = np.eye(DIMENSION, dtype=np.float32)[1]
BAD = np.eye(DIMENSION, dtype=np.float32)[0]


def see(signals, embedding, seconds=0.1):
    signals.run(seconds, (0.02, 0.0, 0.0))
    return signals.detector.update_embedding(signals.stamp_ns, embedding, GOALS[0])


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


def test_the_classifier_scores_every_embedding_once_a_span_has_passed(make_signals):
    signals = make_signals(FailureDetector(classifier=one_number_classifier())).start()
    scores = [see(signals, GOOD)[0] for _ in range(20)]
    assert [score is None for score in scores[:8]] == [True] * 8
    assert all(score is not None for score in scores[11:])
    assert scores[-1].span == pytest.approx(1.0)
    assert (scores[-1].threshold, scores[-1].revision) == (0.8, "feedfeedfeed")
    assert scores[-1].stamp_ns == signals.stamp_ns


def test_two_high_scores_in_a_row_raise_one_event_until_scores_have_fallen(make_signals):
    signals = make_signals(FailureDetector(classifier=one_number_classifier())).start()
    told = [see(signals, GOOD)[1] for _ in range(12)] + [see(signals, BAD)[1] for _ in range(6)]
    events = [report for report in told if report is not None]
    assert len(events) == 1
    assert told.index(events[0]) == 13
    assert events[0].failure_type is FailureType.UNKNOWN
    assert events[0].detector == "before_after"
    assert events[0].onset_ns == events[0].stamp_ns - 1_000_000_000
    assert events[0].evidence[0].value > events[0].evidence[0].threshold


def test_a_single_high_score_raises_nothing(make_signals):
    signals = make_signals(FailureDetector(classifier=one_number_classifier())).start()
    sequence = [GOOD] * 12 + [BAD] + [GOOD] * 3
    assert [see(signals, embedding)[1] for embedding in sequence] == [None] * len(sequence)


def test_where_a_rule_has_spoken_the_classifier_has_nothing_to_add(make_signals):
    signals = make_signals(FailureDetector(classifier=one_number_classifier())).start()
    for _ in range(12):
        see(signals, GOOD)
    signals.force = (0.0, 0.0, 200.0)
    signals.run(0.2, (0.02, 0.0, 0.0))
    assert [report.failure_type for report in signals.reports] == [FailureType.COLLISION]
    signals.force = (0.0, 0.0, 0.0)
    assert [see(signals, BAD)[1] for _ in range(5)] == [None] * 5


def test_a_threshold_of_ones_own_replaces_the_checkpoint_s(make_signals):
    detector = FailureDetector(classifier=one_number_classifier(), classifier_threshold=0.999999)
    signals = make_signals(detector).start()
    scores = [see(signals, GOOD)[0] for _ in range(12)]
    assert scores[-1].threshold == 0.999999


def test_embeddings_between_episodes_or_out_of_order_are_passed_over(make_signals):
    detector = FailureDetector(classifier=one_number_classifier())
    assert detector.update_embedding(1, GOOD) == (None, None)
    signals = make_signals(detector).start()
    for _ in range(12):
        see(signals, GOOD)
    assert detector.update_embedding(signals.stamp_ns, GOOD) == (None, None)
    assert detector.update_embedding(signals.stamp_ns - 1, GOOD) == (None, None)


def test_a_gap_in_the_embeddings_gives_no_score(make_signals):
    signals = make_signals(FailureDetector(classifier=one_number_classifier())).start()
    for _ in range(12):
        see(signals, GOOD)
    assert see(signals, GOOD, seconds=3.0) == (None, None)


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
