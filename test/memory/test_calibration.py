# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The similarity threshold keeps its promise."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.memory.calibration import Calibration, conformal_threshold
from flow_rag_vla.memory.case import CaseError, EncoderStamp


@given(st.integers(1, 200), st.floats(0.005, 0.5), st.integers(0, 2**32 - 1))
def test_at_most_the_stated_share_of_exchangeable_scores_passes(count, rate, seed):
    scores = np.random.default_rng(seed).permutation(count + 1) / 2048.0
    passed, promised = 0, False
    # Every score takes its turn as the new one: the share that passes is then exact.
    for place in range(count + 1):
        threshold = conformal_threshold(np.delete(scores, place), rate)
        if threshold is not None:
            promised = True
            passed += bool(scores[place] >= threshold)
    assert promised == (count >= math.ceil((1 - rate) / rate - 1e-6))
    assert passed <= rate * (count + 1) + 1e-6


def test_the_threshold_is_the_corrected_quantile():
    scores = np.arange(1, 20) / 32.0
    threshold = conformal_threshold(scores, 0.05)
    assert threshold is not None and 19 / 32 < threshold < 19 / 32 + 1e-6
    assert conformal_threshold(scores[:-1], 0.05) is None
    assert conformal_threshold([], 0.5) is None
    for rate in (0.0, 1.0, float("nan")):
        with pytest.raises(ValueError, match="expected between 0 and 1"):
            conformal_threshold(scores, rate)


def test_the_default_threshold_holds_until_there_is_enough_to_tell(make, open_memory):
    memory = open_memory(threshold=0.77, false_retrieval_rate=0.1)
    memory.add(make.case(1))
    assert memory.observe_success([("push", "reach", make.unit(seed)) for seed in range(50, 58)]) is None
    assert memory.threshold == 0.77 and memory.calibration is None
    found = memory.observe_success([("push", "reach", make.unit(58))])
    assert found is not None and found.scores == 9
    worst = max(float(make.unit(seed) @ make.unit(1)) for seed in range(50, 59))
    assert memory.threshold == pytest.approx(worst, abs=1e-5)
    assert memory.statistics().calibrated
    again = open_memory(threshold=0.77)
    assert again.calibration == found
    assert open_memory(threshold=0.77, calibrate=False).threshold == 0.77


def test_situations_where_no_case_could_be_found_do_not_lower_the_threshold(make, open_memory):
    memory = open_memory(threshold=0.77, false_retrieval_rate=0.1)
    memory.add(make.case(1))
    assert memory.observe_success([("push", "grasp", make.unit(seed)) for seed in range(40)]) is None
    assert memory.threshold == 0.77


def test_cases_of_other_phases_can_raise_the_default_but_not_lower_it(make, open_memory):
    memory = open_memory(threshold=0.9, false_retrieval_rate=0.2)
    for seed in range(8):
        memory.add(make.case(seed, phase=("reach", "grasp")[seed % 2]))
    found = memory.recalibrate()
    assert found is not None and found.threshold == 0.9 and found.scores == 8
    twin = open_memory(memory.store.path.with_name("twin.db"), threshold=0.9, false_retrieval_rate=0.2)
    for seed in range(8):
        twin.add(make.case(embedding=make.unit(seed // 2), phase=("reach", "grasp")[seed % 2]))
    found = twin.recalibrate()
    assert found is not None and found.threshold > 0.999
    assert twin.search(make.unit(0), phase="reach").cases == ()


def test_a_situation_that_is_no_embedding_is_refused(make, open_memory):
    memory = open_memory()
    memory.add(make.case(1))
    with pytest.raises(CaseError, match="8 numbers"):
        memory.observe_success([("push", "reach", make.unit(1, 8))])
    with pytest.raises(CaseError, match="length"):
        memory.observe_success([("push", "reach", make.unit(1) * 2)])


def test_a_calibration_comes_back_from_text_and_nonsense_does_not():
    found = Calibration(0.8125, 0.05, 40, EncoderStamp("compact", "abc", 16))
    values = found.to_settings()
    assert Calibration.from_settings(values) == found
    assert Calibration.from_settings({}) is None
    for bad in ("nan", "high"):
        assert Calibration.from_settings({**values, "calibration.threshold": bad}) is None


def test_a_calibration_of_another_encoder_is_not_used(make, open_memory):
    memory = open_memory(threshold=0.77)
    memory.add(make.case(1))
    stale = Calibration(0.1, 0.05, 40, EncoderStamp("dinov2", "abc", 16))
    memory.store.write_settings(stale.to_settings())
    assert open_memory(threshold=0.77).threshold == 0.77
