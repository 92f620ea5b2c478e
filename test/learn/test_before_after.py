# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The classifier of two pictures: what it is given, what it learns, and that it is scored beside the monitor."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from typer.testing import CliRunner, Result

from flow_rag_vla.cli.main import app
from flow_rag_vla.evaluate.benchmarks.detection import (
    BEFORE_AFTER,
    FUSED_WITH,
    Fold,
    judge,
    score_folds,
    table,
)
from flow_rag_vla.evaluate.benchmarks.detection_cost import measure_cost
from flow_rag_vla.failure.before_after import BeforeAfter, answers
from flow_rag_vla.failure.before_after_file import load_before_after
from flow_rag_vla.failure.calibration_file import load_calibration
from flow_rag_vla.failure.trace import Trace, save_traces
from flow_rag_vla.learn.before_after import (
    make_before_after,
    numpy_network,
    pairs,
    torch_network,
    train_before_after,
)
from flow_rag_vla.learn.train_probe import ProbeTraining, make_calibration
from flow_rag_vla.learn.watched_rollouts import trace_origin
from flow_rag_vla.policy.encoders import make_encoder
from flow_rag_vla.policy.policy import FlowPolicy

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
    assert f"| {BEFORE_AFTER} |" in text and "| with it: processor time a tick" in text
    assert score.detected_with is not None and score.detected_with.rate == 1.0
    assert score.false_alarms_with is not None and score.false_alarms_with.trials == 10
    # The monitor without it says the same as if there were none; a fold that could not teach it leaves it out.
    plain = judge(calibration, fresh)
    assert [item.fused.tolist() for item in plain] == [item.fused.tolist() for item in well]
    bare = Fold(tuple(plain), tuple(failed), ())
    mixed = score_folds([Fold(tuple(well), tuple(failed), ()), bare], 0.1)
    assert BEFORE_AFTER not in mixed.single and mixed.false_alarms_with is None


def test_the_command_teaches_it_beside_a_calibration_and_refuses_too_few_failures(tmp_path):
    origin = trace_origin(FlowPolicy.load(), make_encoder("compact"))
    failing = [make_trace(seed, "astray") for seed in range(300, 350)]
    for name, traces in {"calibration_36": successes(36), "training_faults_50": failing}.items():
        save_traces(tmp_path / f"{name}.safetensors", origin, traces)
    save_traces(tmp_path / "training_faults_9.safetensors", origin, failing[:9])
    made, classifier = tmp_path / "made.safetensors", tmp_path / "before_after.safetensors"

    def calibrated(faults: int) -> Result:
        words = f"calibrate --simulate --episodes 36 --faults {faults} --work {tmp_path} --output {made}"
        return CliRunner().invoke(app, [*words.split(), "--before-after", str(classifier)], env={"COLUMNS": "300"})

    few = calibrated(9)
    assert few.exit_code == 2
    assert "9 episodes failed, the classifier needs 50" in few.output
    assert not made.exists() and not classifier.exists()
    result = calibrated(50)
    assert result.exit_code == 0, result.output
    loaded, calibration = load_before_after(classifier), load_calibration(made)
    assert loaded.belongs_to(calibration) and calibration.probe is not None
    assert loaded.revision in result.output
    assert (loaded.successes, loaded.failures, loaded.origin) == (19, 50, origin)
    well, failed = (judge(calibration, [make_trace(901, kind)], loaded)[0] for kind in ("", "astray"))
    assert well.single[BEFORE_AFTER][-1] < failed.single[BEFORE_AFTER][-1]
