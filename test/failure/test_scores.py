# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Each score by itself: what raises it, and what leaves it silent."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest

from flow_rag_vla.failure.fitting import fit_banks, fit_distillation, fit_space
from flow_rag_vla.failure.scores import (
    ChunkDisagreement,
    ChunkSpread,
    ExpectedDuration,
    NeighbourDistance,
    Neighbours,
    RandomDistillation,
    RuleEvidence,
)

from .synthetic import make_chunk, make_frame, successes

RNG = np.random.default_rng


@pytest.fixture(scope="module")
def space_and_traces():
    traces = successes(20)
    return fit_space(traces), traces


@pytest.fixture
def neighbours(space_and_traces):
    space, traces = space_and_traces
    return Neighbours(space, fit_banks(space, traces, RNG(0)))


def with_chunk(step: int, speed: float, committed: int = 3, spread: float = 0.05):
    frame = make_frame(step, 0.5, RNG(step))
    chunk = make_chunk(frame.stamp_ns, speed, RNG(99), spread)
    return dataclasses.replace(frame, chunk=dataclasses.replace(chunk, committed=committed))


def test_the_same_plan_twice_is_no_disagreement_and_another_one_is():
    score = ChunkDisagreement()
    assert math.isnan(score.update(with_chunk(0, 1.0)))
    same = score.update(with_chunk(1, 1.0))
    other = score.update(with_chunk(2, -1.0))
    assert same < math.log(0.1) < other


def test_rows_that_were_copied_do_not_count():
    score = ChunkDisagreement()
    score.update(with_chunk(0, 1.0))
    assert math.isnan(score.update(with_chunk(1, -1.0, committed=12)))


def test_chunks_that_share_no_row_or_go_back_in_time_say_nothing():
    score = ChunkDisagreement()
    score.update(with_chunk(5, 1.0))
    assert math.isnan(score.update(with_chunk(30, 1.0)))
    assert math.isnan(score.update(with_chunk(29, 1.0)))


def test_a_frame_without_a_chunk_or_uncertainty_leaves_chunk_scores_silent():
    frame = make_frame(0, 0.5, RNG(0), chunk=False)
    assert math.isnan(ChunkDisagreement().update(frame))
    assert math.isnan(ChunkSpread().update(frame))
    mute = dataclasses.replace(with_chunk(0, 1.0).chunk, uncertainty=None)
    assert math.isnan(ChunkSpread().update(dataclasses.replace(frame, chunk=mute)))


def test_samples_that_lie_apart_raise_the_spread():
    score = ChunkSpread()
    assert score.update(with_chunk(0, 1.0, spread=0.5)) > score.update(with_chunk(0, 1.0, spread=0.05))


def test_what_was_never_seen_is_far_and_novel(space_and_traces, neighbours):
    space, traces = space_and_traces
    distance = NeighbourDistance(neighbours)
    novelty = RandomDistillation(space, fit_distillation(space, traces, RNG(1)))
    known = [make_frame(step, step / 20, RNG(1000 + step)) for step in range(20)]
    strange = [make_frame(step, step / 20, RNG(2000 + step), astray=0.6) for step in range(20)]
    for score in (distance, novelty):
        assert np.median([score.update(frame) for frame in strange]) > max(score.update(frame) for frame in known)


def test_expected_duration_stands_still_on_the_way_and_rises_when_nothing_comes_of_it(neighbours):
    score = ExpectedDuration(neighbours)
    on_the_way = [score.update(make_frame(step, step / 20, RNG(step))) for step in range(20)]
    assert np.ptp(on_the_way) < 1.0
    stuck = score.update(make_frame(60, 0.5, RNG(0)))
    assert stuck > max(on_the_way) + 3.0


def test_a_goal_without_success_frames_leaves_the_neighbours_silent(neighbours):
    from flow_rag_vla.core.goal import GOALS

    frame = make_frame(0, 0.5, RNG(0), goal=GOALS[0])
    assert math.isnan(NeighbourDistance(neighbours).update(frame))
    assert math.isnan(ExpectedDuration(neighbours).update(dataclasses.replace(frame, goal=None)))


def test_reports_of_rules_add_up_and_strain_is_limited():
    score = RuleEvidence()
    frame = make_frame(0, 0.5, RNG(0))
    assert score.update(dataclasses.replace(frame, evidence=0.0, strain=0.5)) == 0.0
    assert score.update(dataclasses.replace(frame, evidence=0.0, strain=1.0)) == 0.5
    assert score.update(dataclasses.replace(frame, evidence=1.4, strain=50.0)) == pytest.approx(2.9)


def test_two_scores_that_share_neighbours_search_once(neighbours, monkeypatch):
    from flow_rag_vla.failure import scores

    searches = []
    original = scores.Bank.nearest
    monkeypatch.setattr(scores.Bank, "nearest", lambda self, point: searches.append(1) or original(self, point))
    distance, duration = NeighbourDistance(neighbours), ExpectedDuration(neighbours)
    for step in range(3):
        frame = make_frame(step, 0.1, RNG(step))
        distance.update(frame)
        duration.update(frame)
    assert len(searches) == 3
