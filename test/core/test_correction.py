# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""How long guidance acts, as a message tells it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.core.correction import EARLY, told_until
from flow_rag_vla.data.message_values import MessageError, correction


def recorded(**fields: object) -> SimpleNamespace:
    header = SimpleNamespace(stamp=SimpleNamespace(sec=1, nanosec=5))
    return SimpleNamespace(
        header=header, correction_id=3, correction=1, strength=1.0, actions=[], failed_actions=[], horizon=0, cases=[],
        **fields,
    )  # fmt: skip


def test_what_is_not_said_is_early():
    assert told_until(0.0) == EARLY
    assert correction(recorded()).until == EARLY
    assert correction(recorded(guidance_until=0.0)).until == EARLY
    assert correction(recorded(guidance_until=1.0)).until == 1.0


def test_early_is_the_same_number_after_a_message():
    assert told_until(float(np.float32(EARLY))) == EARLY


@given(st.integers(1, 1000))
def test_a_share_of_the_flow_survives_a_message(thousandths):
    share = thousandths / 1000
    assert told_until(float(np.float32(share))) == share


@pytest.mark.parametrize("value", [-0.1, 1.5, float("nan")])
def test_what_is_no_share_is_refused_with_its_field(value):
    with pytest.raises(ValueError, match="guidance_until"):
        told_until(value)
    with pytest.raises(MessageError, match="correction 3: guidance_until"):
        correction(recorded(guidance_until=value))


def test_a_shift_survives_a_message_and_an_older_one_has_none():
    assert correction(recorded()).shift is None
    assert correction(recorded(shift=[])).shift is None
    told = correction(recorded(shift=[0.01, -0.02, 0.0])).shift
    np.testing.assert_array_equal(told, np.array([0.01, -0.02, 0.0], dtype=np.float32))


@pytest.mark.parametrize("shift", [[0.01], [0.0, float("nan"), 0.0], [0.2, 0.0, 0.0], [0.0, float("inf"), 0.0]])
def test_a_shift_that_is_none_is_refused_with_its_numbers(shift):
    with pytest.raises(MessageError, match="correction 3: shift is"):
        correction(recorded(shift=shift))
