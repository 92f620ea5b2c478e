# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import numpy as np
import pytest

from flow_rag_vla.control.arbiter import Arbiter, ArbiterSettings, CorrectionRefusal, invalid_correction
from flow_rag_vla.control.queue import HeldChunk
from flow_rag_vla.core.action import ActionChunk, CorrectionMode, Provenance
from flow_rag_vla.core.correction import Correction

MS = 1_000_000
STAMP = 5_000 * MS
LIMIT = np.array([0.004] * 3 + [0.02] * 3 + [0.0])


def held(mode: CorrectionMode = CorrectionMode.NONE, stamp: int = STAMP, committed: int = 0) -> HeldChunk:
    actions = np.full((8, 7), 0.001, dtype=np.float32)
    provenance = Provenance(stamp, "flow", "abc", 7, mode)
    return HeldChunk(ActionChunk(1, stamp, actions, committed=committed, provenance=provenance), 100 * MS, 60 * MS)


def correction(mode: CorrectionMode, value: float = 0.5, rows: int = 8, **others) -> Correction:
    values = {"strength": 1.0, "case_ids": (3, 9), "actions": np.full((rows, 7), value, dtype=np.float32)} | others
    return Correction(values.pop("stamp_ns", STAMP), mode, **values)


@pytest.mark.parametrize("correction_first", [True, False])
def test_a_blend_is_the_weighted_average_of_the_seeds(correction_first: bool):
    arbiter, chunk = Arbiter(), held()
    if correction_first:
        assert arbiter.offer(correction(CorrectionMode.BLEND), None, 0, 90 * MS) is None
        arbiter.on_chunk(chunk, 0)
    else:
        arbiter.on_chunk(chunk, 0)
        assert arbiter.offer(correction(CorrectionMode.BLEND), chunk, 0, 102 * MS) is None
    assert np.allclose(chunk.chunk.actions, 0.7 * 0.001 + 0.3 * 0.5)
    provenance = chunk.chunk.provenance
    assert (provenance.correction, provenance.case_ids, provenance.noise_seed) == (CorrectionMode.BLEND, (3, 9), 7)
    assert arbiter.applied == 1


def test_a_residual_is_clipped_on_every_axis():
    arbiter, chunk = Arbiter(), held()
    failed = np.zeros((2, 8, 7), dtype=np.float32)
    arbiter.offer(correction(CorrectionMode.RESIDUAL, failed_actions=failed, strength=0.5), chunk, 0, 100 * MS)
    assert np.allclose(chunk.chunk.actions - 0.001, 0.5 * LIMIT, atol=1e-7)


def test_a_small_residual_is_the_difference_from_what_failed():
    arbiter, chunk = Arbiter(), held()
    failed = np.full((1, 8, 7), 0.498, dtype=np.float32)
    arbiter.offer(correction(CorrectionMode.RESIDUAL, failed_actions=failed), chunk, 0, 100 * MS)
    assert np.allclose(chunk.chunk.actions[:, :6], 0.003, atol=1e-6)
    assert np.allclose(chunk.chunk.actions[:, 6], 0.001)


def test_a_residual_without_failed_actions_leads_toward_the_correction():
    arbiter, chunk = Arbiter(), held()
    arbiter.offer(correction(CorrectionMode.RESIDUAL, value=0.002), chunk, 0, 100 * MS)
    assert np.allclose(chunk.chunk.actions[:, :6], 0.002, atol=1e-6)


@pytest.mark.parametrize(("first_row", "committed", "start"), [(3, 0, 3), (0, 5, 5), (2, 4, 4)])
def test_rows_already_committed_stay_as_they_are(first_row: int, committed: int, start: int):
    arbiter, chunk = Arbiter(), held(committed=committed)
    arbiter.offer(correction(CorrectionMode.BLEND), chunk, first_row, 100 * MS)
    assert np.allclose(chunk.chunk.actions[:start], 0.001)
    assert (chunk.chunk.actions[start:] > 0.1).all()


def test_rows_beyond_the_correction_stay_as_they_are():
    arbiter, chunk = Arbiter(), held()
    arbiter.offer(correction(CorrectionMode.BLEND, rows=3), chunk, 0, 100 * MS)
    assert np.allclose(chunk.chunk.actions[3:], 0.001)
    late = held()
    arbiter.offer(correction(CorrectionMode.BLEND, rows=3), late, 5, 100 * MS)
    assert np.allclose(late.chunk.actions, 0.001)


def test_a_correction_never_changes_the_array_that_it_was_given():
    chunk = held()
    before = chunk.chunk.actions
    Arbiter().offer(correction(CorrectionMode.BLEND), chunk, 0, 100 * MS)
    assert np.allclose(before, 0.001)


def test_a_request_to_hold_marks_the_chunk():
    arbiter, chunk = Arbiter(), held()
    arbiter.offer(correction(CorrectionMode.HOLD, actions=None), chunk, 0, 100 * MS)
    assert chunk.hold and chunk.chunk.provenance.correction is CorrectionMode.HOLD


def test_a_correction_after_its_budget_is_counted_and_ignored():
    arbiter, chunk = Arbiter(ArbiterSettings(budget_ns=3 * MS)), held()
    refusal, text = arbiter.offer(correction(CorrectionMode.BLEND), chunk, 0, 103 * MS + 1)
    assert refusal is CorrectionRefusal.LATE and "3.0 ms" in text
    assert np.allclose(chunk.chunk.actions, 0.001)
    assert chunk.chunk.provenance.correction is CorrectionMode.TIMEOUT
    assert (arbiter.timed_out, arbiter.applied) == (1, 0)


def test_a_correction_of_another_observation_does_not_touch_the_chunk():
    arbiter, chunk = Arbiter(), held()
    refusal, _ = arbiter.offer(correction(CorrectionMode.BLEND, stamp_ns=STAMP - 1), chunk, 0, 100 * MS)
    assert refusal is CorrectionRefusal.SUPERSEDED
    assert arbiter.offer(correction(CorrectionMode.BLEND, stamp_ns=STAMP + 1), chunk, 0, 100 * MS) is None
    assert np.allclose(chunk.chunk.actions, 0.001)


@pytest.mark.parametrize("mode", [CorrectionMode.NONE, CorrectionMode.GUIDANCE, CorrectionMode.NEGATIVE])
def test_what_acts_inside_the_policy_is_left_alone(mode: CorrectionMode):
    arbiter, chunk = Arbiter(), held(mode)
    arbiter.on_chunk(chunk, 0)
    assert arbiter.offer(correction(mode), chunk, 0, 100 * MS) is None
    assert np.allclose(chunk.chunk.actions, 0.001) and chunk.chunk.provenance.correction is mode
    assert arbiter.applied == (0 if mode is CorrectionMode.NONE else 1)


def test_a_chunk_that_is_corrected_already_is_not_corrected_again():
    arbiter, chunk = Arbiter(), held(CorrectionMode.RESIDUAL)
    arbiter.on_chunk(chunk, 0)
    arbiter.offer(correction(CorrectionMode.RESIDUAL), chunk, 0, 100 * MS)
    assert np.allclose(chunk.chunk.actions, 0.001)
    twice = held()
    for _ in range(2):
        arbiter.offer(correction(CorrectionMode.BLEND), twice, 0, 100 * MS)
    assert np.allclose(twice.chunk.actions, 0.7 * 0.001 + 0.3 * 0.5)


def test_a_policy_that_went_without_its_correction_is_counted():
    arbiter = Arbiter()
    arbiter.on_chunk(held(CorrectionMode.TIMEOUT), 0)
    assert arbiter.timed_out == 1


def test_strength_zero_is_ignored():
    arbiter, chunk = Arbiter(), held()
    assert arbiter.offer(correction(CorrectionMode.BLEND, strength=0.0), chunk, 0, 100 * MS) is None
    assert np.allclose(chunk.chunk.actions, 0.001)


def test_corrections_that_nobody_asks_for_do_not_pile_up():
    arbiter = Arbiter()
    for index in range(100):
        arbiter.offer(correction(CorrectionMode.BLEND, stamp_ns=STAMP + index), None, 0, 100 * MS)
    oldest = held(stamp=STAMP)
    arbiter.on_chunk(oldest, 0)
    assert np.allclose(oldest.chunk.actions, 0.001)
    newest = held(stamp=STAMP + 99)
    arbiter.on_chunk(newest, 0)
    assert (newest.chunk.actions > 0.1).all()
    arbiter.offer(correction(CorrectionMode.BLEND, stamp_ns=STAMP + 200), newest, 0, 100 * MS)
    arbiter.clear()
    cleared = held(stamp=STAMP + 200)
    arbiter.on_chunk(cleared, 0)
    assert np.allclose(cleared.chunk.actions, 0.001)


@pytest.mark.parametrize(
    ("changes", "part"),
    [
        ({"strength": 1.5}, "strength"),
        ({"strength": np.nan}, "strength"),
        ({"actions": np.full((8, 7), np.inf, dtype=np.float32)}, "inf"),
        ({"actions": np.zeros((8, 6), dtype=np.float32)}, "shape"),
        ({"actions": None}, "without actions"),
        ({"failed_actions": np.zeros((8, 7), dtype=np.float32)}, "failed_actions"),
        ({"failed_actions": np.zeros((1, 4, 7), dtype=np.float32)}, "4 rows"),
        ({"failed_actions": np.full((1, 8, 7), np.nan, dtype=np.float32)}, "not finite"),
    ],
)
def test_garbage_is_refused_with_the_value(changes: dict, part: str):
    arbiter, chunk = Arbiter(), held()
    refusal, text = arbiter.offer(correction(CorrectionMode.RESIDUAL, **changes), chunk, 0, 100 * MS)
    assert refusal is CorrectionRefusal.INVALID and part in text
    assert np.allclose(chunk.chunk.actions, 0.001) and arbiter.invalid == 1


def test_a_sound_correction_is_not_called_invalid():
    assert invalid_correction(correction(CorrectionMode.RESIDUAL)) is None
