# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.evaluate.trials.protocol import (
    BLOCKS,
    FailureSeen,
    Intervention,
    Latency,
    Start,
    Trial,
    TrialError,
    TrialResult,
    from_json,
    to_json,
)

TEXT = st.text(max_size=12)
COUNT = st.integers(0, 2**40)
REAL = st.floats(0, 1e6)
TRIALS = st.builds(Trial, TEXT, TEXT, st.builds(Start, COUNT, COUNT, COUNT), st.sampled_from(list(BLOCKS)), COUNT)
RESULTS = st.builds(
    TrialResult,
    TRIALS, TEXT, TEXT, TEXT, st.booleans(), REAL,
    ticks=COUNT,
    failures=st.lists(st.builds(FailureSeen, TEXT, REAL, TEXT, TEXT), max_size=3).map(tuple),
    interventions=st.lists(
        st.builds(Intervention, TEXT, COUNT, st.lists(COUNT, max_size=3).map(tuple)), max_size=3
    ).map(tuple),
    detail=st.dictionaries(TEXT, st.one_of(TEXT, COUNT, REAL), max_size=3),
    timing=st.lists(st.builds(Latency, TEXT, COUNT, REAL, REAL, REAL), max_size=2).map(tuple),
)  # fmt: skip


@given(RESULTS)
def test_a_result_comes_back_from_json_as_it_was(result: TrialResult) -> None:
    assert from_json(json.loads(json.dumps(to_json(result), allow_nan=False))) == result


@given(TRIALS, st.sampled_from(["off", "guide"]))
def test_only_the_variant_sets_paired_trials_apart(trial: Trial, variant: str) -> None:
    other = Trial(trial.bench, variant, trial.start, trial.block, trial.place)
    assert other.pair == trial.pair
    assert (other.key == trial.key) == (variant == trial.variant)


def test_what_is_no_result_is_refused_with_the_reason(make_result) -> None:
    whole = to_json(make_result())
    for content, text in (
        ([], "no format number"),
        ({**whole, "format": 99}, "format is 99"),
        ({name: value for name, value in whole.items() if name != "trial"}, "trial"),
        ({**whole, "failures": [{"kind": "drop"}]}, "at"),
        ({**whole, "trial": {**whole["trial"], "start": {"seed": 1}}}, "noise"),
    ):
        with pytest.raises(TrialError, match=text):
            from_json(content)


def test_fields_of_a_newer_patch_are_passed_over(make_result) -> None:
    assert from_json({**to_json(make_result()), "colour": "red"}) == make_result()
