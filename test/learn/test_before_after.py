"""The classifier of two pictures: what it is given, what it learns, and that it is scored beside the monitor."""

from __future__ import annotations

import numpy as np
import pytest

from flow_rag_vla.evaluate.benchmarks.detection import Cost, Fold, judge, score_folds, table
from flow_rag_vla.failure.calibration import calibrate, fit_knowledge, split_successes
from flow_rag_vla.failure.trace import Trace
from flow_rag_vla.learn.before_after import NAME, pairs, train_before_after
from flow_rag_vla.learn.train_probe import ProbeTraining

from ..failure.synthetic import DIMENSION, ORIGIN, make_trace, successes

TRAINING = ProbeTraining(iterations=80, batch=128)


@pytest.fixture(scope="module")
def classifier():
    return train_before_after(successes(30), [make_trace(seed, "astray") for seed in range(300, 320)], TRAINING)


def test_each_frame_is_paired_with_the_one_from_a_second_before():
    trace = make_trace(1)
    rows, features = pairs(trace)
    assert rows[0] == 10 and rows[-1] == len(trace.frames) - 1
    assert features.shape == (len(rows), 2 * DIMENSION)
    assert np.array_equal(features[3], np.concatenate([trace.frames[3].embedding, trace.frames[13].embedding]))
    assert pairs(Trace(trace.info, trace.frames[:10]))[0] == []


def test_it_tells_what_went_astray_from_what_went_well_and_says_nothing_of_the_first_second(classifier):
    well, astray = make_trace(900), make_trace(901, "astray")
    assert np.isnan(classifier.logits(well)[:10]).all() and np.isfinite(classifier.logits(well)[10:]).all()
    assert np.nanmax(classifier.logits(well)) < np.nanmax(classifier.logits(astray)[:22])
    assert np.isnan(classifier.logits(Trace(well.info, well.frames[:5]))).all()


def test_the_same_seed_gives_the_same_classifier(classifier):
    again = train_before_after(successes(30), [make_trace(seed, "astray") for seed in range(300, 320)], TRAINING)
    trace = make_trace(901, "astray")
    np.testing.assert_array_equal(again.logits(trace), classifier.logits(trace))


def test_episodes_that_all_ended_alike_are_refused():
    with pytest.raises(ValueError, match="0 pairs of failed episodes"):
        train_before_after(successes(5), [], TRAINING)


def test_it_stands_beside_the_monitors_scores(classifier):
    split = split_successes(successes(60), with_probe=False)
    calibration = calibrate(split, fit_knowledge(split.bank), ORIGIN, rate=0.1)
    beside = {NAME: classifier.logits}
    calm = judge(calibration, successes(10, first=5000), beside)
    failed = judge(calibration, [make_trace(seed, "astray") for seed in range(800, 806)], beside)
    score = score_folds([Fold(tuple(calm), tuple(failed), ())], 0.1)
    assert score.single[NAME][0] > 0.95
    assert f"| {NAME} |" in table(score, Cost(0.4, 0.1))
    # A fold that could not teach it leaves it out of the table, and nothing else.
    bare = Fold(tuple(judge(calibration, successes(10, first=5000))), tuple(failed), ())
    assert NAME not in score_folds([Fold(tuple(calm), tuple(failed), ()), bare], 0.1).single
