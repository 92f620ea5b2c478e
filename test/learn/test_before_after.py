"""The classifier of two pictures: what it is given, what it learns, and that it is scored beside the monitor."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from flow_rag_vla.evaluate.benchmarks.detection import (
    BEFORE_AFTER,
    FUSED_WITH,
    Fold,
    judge,
    measure_cost,
    score_folds,
    table,
)
from flow_rag_vla.failure.before_after import BeforeAfter, answers
from flow_rag_vla.failure.trace import Trace
from flow_rag_vla.learn.before_after import (
    make_before_after,
    numpy_network,
    pairs,
    torch_network,
    train_before_after,
)
from flow_rag_vla.learn.train_probe import ProbeTraining, make_calibration

from ..failure.synthetic import DIMENSION, ORIGIN, make_trace, successes

TRAINING = ProbeTraining(iterations=80, batch=128)
ASTRAY = [make_trace(seed, "astray") for seed in range(300, 320)]


@pytest.fixture(scope="module")
def network():
    return train_before_after(successes(30), ASTRAY, TRAINING)


def test_each_frame_is_paired_with_the_one_from_a_second_before():
    trace = make_trace(1)
    rows, features = pairs(trace)
    assert rows[0] == 10 and rows[-1] == len(trace.frames) - 1
    assert features.shape == (len(rows), 2 * DIMENSION)
    assert np.array_equal(features[3], np.concatenate([trace.frames[3].embedding, trace.frames[13].embedding]))
    assert pairs(Trace(trace.info, trace.frames[:10]))[0] == []


def test_what_runs_says_what_torch_says():
    torch.manual_seed(5)
    taught = torch_network(2 * DIMENSION).eval()
    features = np.random.default_rng(5).normal(size=(200, 2 * DIMENSION)).astype(np.float32)
    with torch.no_grad():
        expected = taught(torch.from_numpy(features))[:, 0].numpy()
    said = numpy_network(taught).logits(features)
    assert said.dtype == np.float32
    assert float(np.ptp(expected)) > 0.1
    np.testing.assert_allclose(said, expected, atol=1e-5)


def test_it_tells_what_went_astray_from_what_went_well_and_says_nothing_of_the_first_second(network):
    well, astray = make_trace(900), make_trace(901, "astray")
    assert np.isnan(answers(network, well)[:10]).all() and np.isfinite(answers(network, well)[10:]).all()
    assert np.nanmax(answers(network, well)) < np.nanmax(answers(network, astray)[:22])
    assert np.isnan(answers(network, Trace(well.info, well.frames[:5]))).all()


def test_the_same_seed_gives_the_same_classifier(network):
    again = train_before_after(successes(30), ASTRAY, TRAINING)
    trace = make_trace(901, "astray")
    np.testing.assert_array_equal(answers(again, trace), answers(network, trace))


def test_episodes_that_all_ended_alike_are_refused():
    with pytest.raises(ValueError, match="0 pairs of failed episodes"):
        train_before_after(successes(5), [], TRAINING)


def test_the_monitor_that_runs_it_is_scored_beside_the_one_that_does_not():
    calm = successes(60)
    calibration = make_calibration(calm, [], ORIGIN, rate=0.1)
    classifier = make_before_after(calm, ASTRAY, calibration, training=TRAINING)
    assert isinstance(classifier, BeforeAfter)
    assert (classifier.successes, classifier.failures, len(classifier.peaks)) == (20, 20, len(calibration.peaks))
    fresh, failing = successes(10, first=5000), [make_trace(seed, "astray") for seed in range(800, 806)]
    well, failed = judge(calibration, fresh, classifier), judge(calibration, failing, classifier)
    score = score_folds([Fold(tuple(well), tuple(failed), ())], 0.1)
    assert score.single[BEFORE_AFTER][0] > 0.95
    assert score.single[FUSED_WITH][0] > 0.95
    text = table(score, measure_cost(calibration, fresh, classifier, frames=50, ticks=50))
    assert f"| {BEFORE_AFTER} |" in text and "| the same with the before/after classifier" in text
    # The monitor without it says the same as if there were none; a fold that could not teach it leaves it out.
    plain = judge(calibration, fresh)
    assert [item.fused.tolist() for item in plain] == [item.fused.tolist() for item in well]
    bare = Fold(tuple(plain), tuple(failed), ())
    assert BEFORE_AFTER not in score_folds([Fold(tuple(well), tuple(failed), ()), bare], 0.1).single
