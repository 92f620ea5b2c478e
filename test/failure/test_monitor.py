# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Calibration and monitor together: success stays inside, failure leaves, bad input changes nothing."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import replace

import numpy as np
import pytest

from flow_rag_vla.core.goal import GOALS
from flow_rag_vla.failure.calibration import (
    Calibration,
    CalibrationError,
    calibrate,
    fit_knowledge,
    recalibrated,
    split_successes,
)
from flow_rag_vla.failure.calibration_file import load_calibration, save_calibration
from flow_rag_vla.failure.detector import FailureDetector
from flow_rag_vla.failure.fusion import fuse
from flow_rag_vla.failure.monitor import Monitor
from flow_rag_vla.failure.sample import Episode
from flow_rag_vla.failure.trace import Trace
from flow_rag_vla.learn.train_probe import make_calibration

from .synthetic import DIMENSION, ORIGIN, make_frame, make_trace, successes


@pytest.fixture(scope="module")
def calibration() -> Calibration:
    split = split_successes(successes(90), with_probe=False)
    return calibrate(split, fit_knowledge(split.bank), ORIGIN, rate=0.1)


@pytest.fixture(scope="module")
def taught() -> Calibration:
    faulty = [make_trace(seed, "stuck") for seed in range(500, 560)]
    return make_calibration(successes(90), faulty, ORIGIN, rate=0.1)


def follow(calibration, trace):
    monitor = Monitor(calibration)
    return [monitor.update(frame) for frame in trace.frames]


def test_fresh_successes_stay_inside_about_as_often_as_promised(calibration):
    alarms = [follow(calibration, trace)[-1].alarm for trace in successes(100, first=5000)]
    assert sum(alarms) <= 22


@pytest.mark.parametrize("failure", ["stuck", "astray"])
def test_a_failure_leaves_the_band_and_says_which_score_and_where(calibration, failure):
    for seed in range(800, 806):
        readings = follow(calibration, make_trace(seed, failure))
        (raised,) = [reading for reading in readings if reading.raised]
        assert raised.score > raised.band == calibration.threshold
        assert raised.p_value <= 0.1
        assert raised.leading in raised.names
        assert raised.leading in raised.reason
        assert "reach" in raised.reason
        assert raised.onset_ns <= raised.stamp_ns
        assert all(reading.alarm for reading in readings[readings.index(raised) :])


def strained(trace: Trace) -> Trace:
    """The same episode on a robot that feels more force."""
    return replace(trace, frames=tuple(replace(frame, strain=frame.strain + 3.0) for frame in trace.frames))


def test_bands_can_be_made_anew_where_alarms_count_and_what_was_learned_stays(taught):
    fresh = [strained(trace) for trace in successes(50, first=5000)]
    assert sum(follow(taught, trace)[-1].alarm for trace in fresh) >= 40
    there = [strained(trace) for trace in (*successes(60, first=3000), make_trace(90, "stuck"))]
    fitting, split = recalibrated(taught, there, rate=0.1)
    assert (len(split.held_out), len(fitting.peaks), fitting.episodes) == (60, 60, {"push": 60})
    assert fitting.probe is taught.probe and fitting.banks is taught.banks
    assert sum(follow(fitting, trace)[-1].alarm for trace in fresh) <= 14
    for seed in range(800, 806):
        assert follow(fitting, strained(make_trace(seed, "stuck")))[-1].alarm
    with pytest.raises(CalibrationError, match="29 success episodes"):
        recalibrated(taught, there[:29])


def test_a_probe_is_taught_once_enough_failed_and_is_one_score_among_the_others(calibration, taught):
    assert (calibration.probe, calibration.failures) == (None, 0)
    assert taught.failures == 60
    good, bad = follow(taught, make_trace(7000)), follow(taught, make_trace(7001, "stuck"))
    assert good[-1].names[-1] == "probe"
    assert good[-1].probability < bad[20].probability
    assert math.isnan(follow(calibration, make_trace(7000))[-1].probability)
    few = make_calibration(successes(60), [make_trace(500, "stuck")], ORIGIN)
    assert few.probe is None


def test_without_chunks_the_scores_that_remain_still_tell(calibration):
    readings = follow(calibration, make_trace(900, "stuck", chunks=False))
    assert any(reading.raised for reading in readings)
    assert math.isnan(readings[5].values[readings[5].names.index("disagreement")])


def test_nothing_known_is_no_alarm(calibration):
    assert math.isnan(fuse(np.full(6, math.nan), np.ones(6)))
    frame = dataclasses.replace(make_frame(0, 0.0, np.random.default_rng(0), chunk=False), goal=None)
    reading = Monitor(calibration).update(frame)
    assert not reading.alarm


def test_a_task_that_was_not_calibrated_gets_no_reading(calibration):
    assert Monitor(calibration).update(make_frame(0, 0.0, np.random.default_rng(0), goal=GOALS[4])) is None


def test_a_clock_that_jumps_back_begins_anew(calibration):
    monitor = Monitor(calibration)
    for frame in make_trace(900, "stuck").frames:
        last = monitor.update(frame)
    assert last.alarm
    again = [monitor.update(frame) for frame in make_trace(5003).frames]
    assert again == [] or not again[0].alarm


def test_the_same_frames_give_the_same_readings(calibration):
    trace = make_trace(901, "astray")
    first, second = follow(calibration, trace), follow(calibration, trace)
    assert [reading.score for reading in first] == [reading.score for reading in second]


def test_the_detector_raises_one_event_with_its_evidence(calibration):
    detector = FailureDetector(monitor=Monitor(calibration))
    detector.start(Episode(1, "push", 1_000_000_000, 0.0, GOALS[3]))
    told = [detector.judge(frame)[1] for frame in make_trace(900, "stuck").frames]
    (event,) = [report for report in told if report is not None]
    assert event.detector == "monitor"
    assert event.evidence[0].name == "fused_score"
    assert event.evidence[0].value > event.evidence[0].threshold
    assert {item.name for item in event.evidence} >= {"fused_score", "p_value"}
    assert 0.0 <= event.confidence <= 1.0
    detector.stop()
    assert detector.judge(make_frame(0, 0.0, np.random.default_rng(0))) == (None, None)


def test_another_rate_moves_the_threshold_and_nothing_else(calibration):
    strict = calibration.at_rate(0.02)
    assert strict.threshold >= calibration.threshold >= calibration.at_rate(0.3).threshold
    with pytest.raises(CalibrationError, match="false-alarm rate is 0"):
        calibration.at_rate(0.0)


def test_too_few_held_out_for_the_rate_means_no_alarm_ever(calibration):
    rare = calibration.at_rate(0.001)
    assert rare.threshold == math.inf
    assert not any(reading.alarm for reading in follow(rare, make_trace(900, "stuck")))


# -- the file ------------------------------------------------------------------------------------------------------


def test_a_saved_calibration_says_the_same(tmp_path, taught):
    path = tmp_path / "calibration.safetensors"
    revision = save_calibration(path, taught)
    loaded = load_calibration(path)
    assert loaded.revision == revision
    assert (loaded.origin, loaded.rate, loaded.episodes) == (taught.origin, taught.rate, taught.episodes)
    trace = make_trace(902, "astray")
    first = [reading.score for reading in follow(taught, trace)]
    # Banks are kept in half precision.
    assert [reading.score for reading in follow(loaded, trace)] == pytest.approx(first, rel=0.02, abs=0.02)


@pytest.mark.parametrize("place", [0.3, 0.6, 0.9])
def test_one_wrong_bit_is_noticed(tmp_path, calibration, place):
    path = tmp_path / "calibration.safetensors"
    save_calibration(path, calibration)
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 0x10
    path.write_bytes(bytes(data))
    with pytest.raises(CalibrationError, match=r"damaged|cannot be read|not usable"):
        load_calibration(path)


def test_a_missing_a_cut_and_a_foreign_file_are_refused_with_the_remedy(tmp_path, calibration):
    from safetensors.numpy import save_file

    path = tmp_path / "calibration.safetensors"
    with pytest.raises(CalibrationError, match=r"missing.*flow_rag_vla calibrate"):
        load_calibration(path)
    save_calibration(path, calibration)
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CalibrationError, match="cannot be read"):
        load_calibration(path)
    save_file({"a": np.zeros(3)}, path)
    with pytest.raises(CalibrationError, match="no calibration of format"):
        load_calibration(path)


def test_another_encoder_or_policy_is_refused_by_name(calibration):
    calibration.check_encoder("compact", "0123456789ab", DIMENSION)
    calibration.check_policy("flow", "abcdef012345")
    with pytest.raises(CalibrationError, match=r"0123456789ab.*ffff.*flow_rag_vla calibrate"):
        calibration.check_encoder("compact", "ffff", DIMENSION)
    with pytest.raises(CalibrationError, match="with 7"):
        calibration.check_encoder("compact", "0123456789ab", 7)
    with pytest.raises(CalibrationError, match=r"abcdef012345.*eeee"):
        calibration.check_policy("flow", "eeee")


def test_fewer_than_thirty_successes_are_refused():
    traces = [*successes(29), *[make_trace(seed, "stuck") for seed in range(40)]]
    with pytest.raises(CalibrationError, match=r"29 success episodes.*at least 30"):
        split_successes(traces, with_probe=False)


def test_several_tasks_have_bands_of_their_own():
    split = split_successes(successes(90, goals=(GOALS[3], GOALS[4])), with_probe=False)
    made = calibrate(split, fit_knowledge(split.bank), ORIGIN)
    assert set(made.bands) == {"push", "push/yellow_cylinder", "stack", "stack/red_cube"}
    assert made.episodes == {"push": 45, "stack": 45}


def test_the_shipped_calibration_belongs_to_the_shipped_encoder_and_policy():
    # After either was retrained: flow_rag_vla calibrate --simulate
    from flow_rag_vla.policy.encoders import make_encoder
    from flow_rag_vla.policy.policy import FlowPolicy

    shipped, encoder, policy = load_calibration(), make_encoder("compact"), FlowPolicy.load()
    shipped.check_encoder(encoder.name, encoder.revision, encoder.dimension)
    shipped.check_policy(policy.name, policy.revision)
    assert set(shipped.bands) >= {"pick_and_place", "push", "stack", "open_drawer"}
    assert math.isfinite(shipped.threshold)
