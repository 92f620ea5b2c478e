# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The classifier of two pictures in a running detector: its answers, its file, and what it changes and what not."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from flow_rag_vla.core.goal import GOALS
from flow_rag_vla.failure.before_after import (
    FARTHEST_S,
    KEPT,
    NAME,
    BeforeAfterNetwork,
    BeforeAfterScore,
    answers,
    calibrate_before_after,
)
from flow_rag_vla.failure.before_after_file import SHIPPED, load_before_after, save_before_after
from flow_rag_vla.failure.calibration import CalibrationError, calibrate, fit_knowledge, split_successes
from flow_rag_vla.failure.calibration_file import load_calibration
from flow_rag_vla.failure.detector import FailureDetector
from flow_rag_vla.failure.monitor import Monitor
from flow_rag_vla.failure.perceptron import Layer
from flow_rag_vla.failure.sample import Episode
from flow_rag_vla.failure.trace import Trace

from .synthetic import DIMENSION, ORIGIN, make_trace, successes

FILE = "before_after.safetensors"


@pytest.fixture(scope="module")
def network() -> BeforeAfterNetwork:
    """Looks at the one direction in which ``astray`` episodes leave, made by hand."""
    hidden, out = np.zeros((2 * DIMENSION, 2), dtype=np.float32), np.array([[4.0], [2.0]], dtype=np.float32)
    hidden[DIMENSION + 5, 0] = hidden[5, 1] = 1.0
    return BeforeAfterNetwork([Layer(hidden, np.zeros(2, np.float32)), Layer(out, np.full(1, -1.0, np.float32))])


@pytest.fixture(scope="module")
def split():
    return split_successes(successes(90), with_probe=False)


@pytest.fixture(scope="module")
def calibration(split):
    return calibrate(split, fit_knowledge(split.bank), ORIGIN, rate=0.1)


@pytest.fixture(scope="module")
def classifier(network, calibration, split):
    return calibrate_before_after(network, calibration, split, successes=30, failures=60, source="by hand")


def follow(monitor, trace):
    return [monitor.update(frame) for frame in trace.frames]


def test_it_answers_from_the_first_second_on_and_not_across_a_gap(network):
    trace = make_trace(1, "astray")
    said = answers(network, trace)
    assert np.isnan(said[:10]).all() and np.isfinite(said[10:]).all()
    gap = Trace(trace.info, (*trace.frames[:12], *trace.frames[30:55]))
    later = answers(network, gap)
    assert gap.frames[12].elapsed - gap.frames[11].elapsed > FARTHEST_S
    assert np.isfinite(later[11]) and np.isnan(later[12:22]).all()
    assert later[22:] == pytest.approx(said[40:55])


def test_a_fast_camera_and_a_clock_that_stands_still_keep_no_more_than_so_many_pictures(network):
    score, frame = BeforeAfterScore(network), make_trace(1).frames[0]
    for _ in range(3 * KEPT):
        assert math.isnan(score.update(frame))
    assert len(score._pairs._seen) == KEPT
    score.reset()
    fast = [dataclasses.replace(frame, elapsed=0.01 * step) for step in range(150)]
    assert [math.isnan(score.update(item)) for item in fast] == [True] * 100 + [False] * 50


def test_an_answer_that_is_no_number_says_nothing(network):
    first, *_, last = make_trace(1).frames[:11]
    score = BeforeAfterScore(network)
    score.update(dataclasses.replace(first, embedding=np.full(DIMENSION, np.nan, dtype=np.float32)))
    assert math.isnan(score.update(last))


def test_it_is_one_more_score_with_a_band_of_its_own_and_changes_no_other(calibration, classifier):
    trace = make_trace(800, "astray")
    without, beside = follow(Monitor(calibration), trace), follow(Monitor(calibration, classifier), trace)
    assert beside[0].names == (*without[0].names, NAME)
    for plain, reading in zip(without, beside, strict=True):
        np.testing.assert_array_equal(reading.values[:-1], plain.values)
        np.testing.assert_array_equal(reading.bands[:-1], plain.bands)
        assert math.isfinite(reading.bands[-1])
        assert reading.score >= plain.score or math.isnan(plain.score)
    assert math.isnan(beside[9].values[-1]) and beside[25].values[-1] > beside[25].bands[-1]
    assert beside[25].score > without[25].score
    assert beside[0].band == Monitor(calibration, classifier).threshold != calibration.threshold


def test_fresh_successes_stay_inside_about_as_often_as_promised_and_failures_do_not(calibration, classifier):
    monitor = Monitor(calibration, classifier)
    assert sum(follow(monitor, trace)[-1].alarm for trace in successes(60, first=5000)) <= 14
    assert all(follow(monitor, make_trace(seed, "astray"))[-1].alarm for seed in range(800, 806))
    assert len(classifier.peaks) == len(calibration.peaks)


def test_with_another_calibration_it_is_shown_and_decides_nothing(calibration, classifier):
    foreign = dataclasses.replace(classifier, calibration="ffffffffffff")
    trace = make_trace(801, "astray")
    for plain, reading in zip(
        follow(Monitor(calibration), trace), follow(Monitor(calibration, foreign), trace), strict=True
    ):
        assert reading.names[-1] == NAME and math.isnan(reading.bands[-1])
        assert (reading.score, reading.band, reading.p_value, reading.alarm, reading.leading, reading.reason) == (
            plain.score, plain.band, plain.p_value, plain.alarm, plain.leading, plain.reason
        )  # fmt: skip
    assert math.isfinite(reading.values[-1])


def test_an_episode_begun_anew_is_not_paired_with_the_one_before(calibration, classifier):
    monitor = Monitor(calibration, classifier)
    follow(monitor, make_trace(800, "astray"))
    again = follow(monitor, make_trace(5003))
    assert [math.isnan(reading.values[-1]) for reading in again[:11]] == [True] * 10 + [False]


def test_the_event_shows_what_it_says_beside_its_band(calibration, classifier):
    detector = FailureDetector(monitor=Monitor(calibration, classifier))
    told = []
    for seed in range(800, 806):
        detector.start(Episode(1, "push", 1_000_000_000, 0.0, GOALS[3]))
        told += [report for frame in make_trace(seed, "astray").frames if (report := detector.judge(frame)[1])]
    assert len(told) == 6
    shown = [item for report in told for item in report.evidence if item.name == NAME]
    assert len(shown) == 6
    assert all(math.isfinite(item.value) and math.isfinite(item.threshold) for item in shown)
    assert all(report.evidence[0].name == "fused_score" for report in told)
    assert all(report.evidence[-1].name == "p_value" for report in told)


def test_another_encoder_is_refused_by_name(calibration, classifier):
    foreign = dataclasses.replace(classifier, origin=dataclasses.replace(ORIGIN, encoder_revision="ffffffffffff"))
    with pytest.raises(CalibrationError, match=r"ffffffffffff.*0123456789ab.*flow_rag_vla calibrate"):
        Monitor(calibration, foreign)
    wide = BeforeAfterNetwork([Layer(np.zeros((14, 1), np.float32), np.zeros(1, np.float32))])
    with pytest.raises(CalibrationError, match="with 7 numbers"):
        Monitor(calibration, dataclasses.replace(classifier, network=wide))


# -- the file ------------------------------------------------------------------------------------------------------


def test_a_saved_classifier_says_the_same(tmp_path, calibration, classifier):
    revision = save_before_after(tmp_path / FILE, classifier)
    loaded = load_before_after(tmp_path / FILE)
    assert loaded.revision == revision
    for name in ("origin", "calibration", "scale", "successes", "failures", "source"):
        assert getattr(loaded, name) == getattr(classifier, name)
    trace = make_trace(802, "astray")
    first, second = (follow(Monitor(calibration, item), trace) for item in (classifier, loaded))
    assert [reading.score for reading in first] == [reading.score for reading in second]


@pytest.mark.parametrize("place", [0.1, 0.5, 0.95])
def test_one_wrong_bit_is_noticed(tmp_path, classifier, place):
    save_before_after(tmp_path / FILE, classifier)
    data = bytearray((tmp_path / FILE).read_bytes())
    data[int(len(data) * place)] ^= 0x10
    (tmp_path / FILE).write_bytes(bytes(data))
    with pytest.raises(CalibrationError, match=r"damaged|cannot be read|not usable|no before/after classifier"):
        load_before_after(tmp_path / FILE)


def test_a_missing_a_cut_and_a_foreign_file_are_refused_with_the_remedy(tmp_path, classifier):
    path = tmp_path / FILE
    with pytest.raises(CalibrationError, match=r"missing.*flow_rag_vla calibrate --simulate --before-after"):
        load_before_after(path)
    save_before_after(path, classifier)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(CalibrationError, match="cannot be read"):
        load_before_after(path)
    with pytest.raises(CalibrationError, match="is no before/after classifier"):
        load_before_after(SHIPPED.parent / "calibration.safetensors")


@pytest.mark.parametrize("what", ["weight", "peak"])
def test_a_number_that_is_not_finite_is_refused(tmp_path, network, classifier, what):
    if what == "weight":
        broken = network.layers[0].weight.copy()
        broken[3, 1] = np.nan
        with pytest.raises(ValueError, match="before/after classifier holds a weight that is not finite"):
            BeforeAfterNetwork([Layer(broken, network.layers[0].bias), network.layers[1]])
        return
    save_before_after(tmp_path / FILE, dataclasses.replace(classifier, peaks=np.array([1.0, math.nan])))
    with pytest.raises(CalibrationError, match="peaks holds a number that is not finite"):
        load_before_after(tmp_path / FILE)


def test_the_shipped_classifier_belongs_to_the_shipped_calibration():
    # After encoder or policy was retrained: the command in failure/README.md, which makes both.
    shipped, calibration = load_before_after(), load_calibration()
    assert shipped.belongs_to(calibration)
    assert Monitor(calibration, shipped).names[-1] == NAME
    assert set(shipped.bands) == set(calibration.bands)
    assert math.isfinite(Monitor(calibration, shipped).threshold)
    card = (SHIPPED.parent / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert f"`{shipped.revision}`" in card and f"`{calibration.revision}`" in card
