# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Corrections that nobody said: what is proposed, when it counts as found, and what it labels."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from flow_rag_vla.control.integrator import MotionLimits
from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.evaluate.trials.attempts import Attempt
from flow_rag_vla.evaluate.trials.bank import SETTINGS, CaseBank
from flow_rag_vla.evaluate.trials.labelled import Keeper, Labelled, Seen, within_limits
from flow_rag_vla.evaluate.trials.practice import LABELS, practise
from flow_rag_vla.evaluate.trials.protocol import Start, TrialError
from flow_rag_vla.evaluate.trials.rig import Rig
from flow_rag_vla.evaluate.trials.scenes import scene_of
from flow_rag_vla.evaluate.trials.search import (
    SEARCHES,
    Draw,
    Search,
    SearchSettings,
    ShiftProposal,
    read_searches,
    seen_with,
    to_label,
)
from flow_rag_vla.evaluate.trials.simulated_spec import SimulatedSpec, simulated_spec
from flow_rag_vla.memory.guard import beyond_limits
from flow_rag_vla.memory.lesson import disagreement
from flow_rag_vla.memory.memory import FailureMemory
from flow_rag_vla.memory.store import FailureStore
from flow_rag_vla.policy.follower import ChunkFollower
from flow_rag_vla.sim.camera import FRONT, WRIST

SHIFT = np.outer([0.0, 1.0, 0.0], [0.04, 0.02, 0.0])
FAILS = 200_000
"""A start at which the shipped policy fails in the held-out strip."""


@pytest.fixture(scope="module")
def spec() -> SimulatedSpec:
    return simulated_spec("push", "held_out_strip")


@pytest.fixture(scope="module")
def rig(spec: SimulatedSpec) -> Iterator[Rig]:
    found = Rig(spec)
    yield found
    found.close()


@pytest.fixture
def keeper(rig: Rig, tmp_path: Path) -> Iterator[Keeper]:
    memory = FailureMemory(FailureStore(tmp_path / "memory.db"), SETTINGS)
    yield Keeper(memory, rig.key)
    memory.close()


@pytest.fixture(scope="module")
def seen(rig: Rig) -> Seen:
    """The first observation of an episode."""
    scene = scene_of("push", "held_out_strip", Start(FAILS, 5))
    state = rig.world.reset(scene)
    images = {"front": rig.world.render(FRONT), "wrist": rig.world.render(WRIST)}
    chunk = ChunkFollower(rig.policy, rig.encoder, scene.goal, seed=5).observe(0, images, state)
    return Seen(rig.encoder.encode(images), state, "reach", chunk)


# -- where to look ---------------------------------------------------------------------------------------------------


def test_the_search_begins_broad_with_one_part_at_a_time_and_takes_the_parts_in_turn() -> None:
    proposal, rng = ShiftProposal(SearchSettings(spread=(1.0, 2.0, 3.0))), np.random.default_rng(0)
    draws = [proposal.draw(rng, []) for _ in range(600)]
    assert all(draw.known is None for draw in draws)
    moved = np.array([(draw.shift != 0.0).any(axis=1) for draw in draws])
    assert (moved.sum(axis=1) == 1).all()
    for part, spread in enumerate((1.0, 2.0, 3.0)):
        assert np.std([draw.shift[part] for draw in draws if draw.shift[part].any()]) == pytest.approx(spread, rel=0.2)


def test_what_succeeded_is_tried_again_nearby_and_parts_that_were_not_shifted_stay() -> None:
    proposal, rng = ShiftProposal(SearchSettings(broad=0.0, near=0.004)), np.random.default_rng(0)
    proposal.succeeded(Draw(SHIFT))
    shifts = np.array([proposal.draw(rng, []).shift for _ in range(300)])
    assert np.allclose(shifts.mean(axis=0), SHIFT, atol=0.001)
    assert np.std(shifts[:, 1]) < 0.025
    assert not shifts[:, (0, 2)].any()


def test_a_share_of_draws_stays_broad() -> None:
    proposal, rng = ShiftProposal(SearchSettings(broad=0.3)), np.random.default_rng(0)
    proposal.succeeded(Draw(SHIFT))
    assert np.mean([proposal.draw(rng, []).known is None for _ in range(1000)]) == pytest.approx(0.3, abs=0.05)


def test_what_failed_in_an_episode_is_not_repeated_in_it_and_the_other_kind_of_success_is() -> None:
    proposal, rng = ShiftProposal(SearchSettings(broad=0.0)), np.random.default_rng(0)
    proposal.succeeded(Draw(SHIFT))
    assert all(proposal.draw(rng, [SHIFT]).known is None for _ in range(50))
    proposal.succeeded(Draw(-SHIFT))
    assert {proposal.draw(rng, [SHIFT]).known for _ in range(50)} == {1}


def test_what_helps_more_often_is_tried_more_often() -> None:
    proposal, rng = ShiftProposal(SearchSettings(broad=0.0)), np.random.default_rng(0)
    proposal.succeeded(Draw(SHIFT))
    proposal.succeeded(Draw(-SHIFT))
    for _ in range(10):
        proposal.failed(Draw(SHIFT, 0))
    drawn = [proposal.draw(rng, []).known for _ in range(300)]
    assert drawn.count(1) > 3 * drawn.count(0)


def test_only_so_many_shifts_are_remembered_and_the_worst_go() -> None:
    proposal = ShiftProposal(SearchSettings(kept=3))
    proposal.succeeded(Draw(SHIFT))
    proposal.failed(Draw(SHIFT, 0))
    for number in range(2, 5):
        proposal.succeeded(Draw(SHIFT * number))
    assert [round(shift[1, 0] / SHIFT[1, 0]) for shift in proposal.known] == [2, 3, 4]


def test_the_same_seed_draws_the_same() -> None:
    def draws() -> list[bytes]:
        proposal, rng = ShiftProposal(SearchSettings()), np.random.default_rng(7)
        proposal.succeeded(Draw(SHIFT))
        return [proposal.draw(rng, []).shift.tobytes() for _ in range(20)]

    assert draws() == draws()


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"attempts": 1}, "attempts is 1"),
        ({"broad": 1.5}, "broad is 1.5"),
        ({"kept": 0}, "kept is 0"),
        ({"copies": -1}, "copies is -1"),
        ({"attempt_s": 0.0}, "attempt_s is 0.0"),
        ({"spread": (0.01, 0.0, 0.01)}, "spread is 0.0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values: dict[str, object], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        SearchSettings(**values)


# -- what it labels --------------------------------------------------------------------------------------------------


def test_a_label_is_what_the_policy_does_with_the_shifted_perception_and_the_noise_of_then(
    rig: Rig, seen: Seen
) -> None:
    goal = scene_of("push", "held_out_strip", Start(FAILS, 5)).goal
    plain, moved = (seen_with(rig.policy, seen, goal, shift) for shift in (None, SHIFT))
    assert np.array_equal(plain, seen.chunk.actions)
    assert disagreement(plain, moved) > 0.0
    # Where everything is taken to be farther along x, the hand goes farther along x.
    farther = seen_with(rig.policy, seen, goal, np.outer([1.0, 1.0, 0.0], [0.06, 0.0, 0.0]))
    assert farther[:, 0].sum() > plain[:, 0].sum()


@given(arrays(np.float32, (16, 7), elements=st.floats(-0.25, 0.25, width=32)))
def test_labels_are_motions_that_the_guard_lets_pass_in_the_same_direction(actions: np.ndarray) -> None:
    actions[:, 6] = 1.0
    limited = within_limits(actions)
    assert beyond_limits(limited, MotionLimits()) is None
    assert np.array_equal(limited[:, 6], actions[:, 6])
    assert (limited[:, :6] * actions[:, :6] >= 0.0).all()
    assert (np.abs(limited) <= np.abs(actions) + 1e-9).all()


def test_slow_motions_are_left_as_they_are() -> None:
    actions = np.full((16, 7), 0.002, dtype=np.float32)
    assert np.array_equal(within_limits(actions), actions)


def test_what_succeeded_is_labelled_first_and_what_failed_only_if_asked(seen: Seen) -> None:
    failed, luckless, found, confirmed = (Attempt(success, seen=[seen] * 20) for success in (False, False, True, True))
    tried = [failed, luckless, found, confirmed]
    everything = to_label(tried, SearchSettings(), 4)
    assert [(len(some), success) for some, success in everything] == [(20, True)] * 2 + [(20, False)] * 2
    assert [success for _, success in to_label(tried, SearchSettings(relabel=False), 4)] == [True, True]
    # In place one success counts, and of the failure only where the arm was stuck in the end.
    in_place = to_label(tried[:3], SearchSettings(reset=False), 4)
    assert [(len(some), success) for some, success in in_place] == [(20, True), (10, False)]


def keep(keeper: Keeper, items: list[Labelled]) -> tuple[int, ...]:
    goal = scene_of("push", "held_out_strip", Start(FAILS, 5)).goal
    return keeper.failure(0, "push", goal, FailureType.TIMEOUT, items, source="search", note="here")


def test_a_disagreement_becomes_a_case_that_says_nobody_said_it(keeper: Keeper, seen: Seen) -> None:
    alone = within_limits(seen.chunk.actions)
    right = alone.copy()
    right[:, :3] = -right[:, :3] + np.float32(0.003)
    ids = keep(keeper, [Labelled(seen, alone, within_limits(right)), Labelled(seen, alone, within_limits(right))])
    assert len(ids) == 1
    case = keeper.memory.get(ids[0])
    assert (case.correction_source, case.note, case.phase) == ("search", "here", "reach")
    assert np.allclose(case.correction, within_limits(right))
    assert np.allclose(case.failed_actions, alone)
    assert len(keeper.labels.goal) == 2
    assert keeper.refused == 0


def test_an_agreement_is_a_success_only_where_an_attempt_succeeded(keeper: Keeper, seen: Seen) -> None:
    alone = seen.chunk.actions
    assert keep(keeper, [Labelled(seen, alone, alone, succeeded=False)]) == ()
    assert keeper.memory.ledger.success_count() == 0
    assert keep(keeper, [Labelled(seen, alone, alone)]) == ()
    assert keeper.memory.ledger.success_count() == 1


def test_a_case_that_the_guard_stops_is_counted(keeper: Keeper, seen: Seen) -> None:
    wild = seen.chunk.actions.copy()
    wild[:, :3] = 0.1
    assert len(keep(keeper, [Labelled(seen, seen.chunk.actions, wild)])) == 1
    assert keeper.refused == 1


def test_what_is_seen_twice_is_seen_once(keeper: Keeper, seen: Seen) -> None:
    goal = scene_of("push", "held_out_strip", Start(FAILS, 5)).goal
    moved = replace(seen.state, position=seen.state.position + np.array([0.1, 0.1, 0.0]))
    other = replace(seen, state=moved)
    assert keeper.distinct([seen, seen, other, seen], goal) == [seen, other]


# -- whole episodes --------------------------------------------------------------------------------------------------


def test_attempts_are_bounded_and_nothing_found_is_nothing_remembered(rig: Rig, keeper: Keeper) -> None:
    search = Search(rig, keeper, SearchSettings(attempts=3, attempt_s=0.3))
    line = search.episode(0, Start(FAILS, FAILS))
    assert not line.success
    assert line.cases == ()
    assert [(item.attempts, item.found) for item in search.searches] == [(3, None)]
    assert keeper.memory.statistics().cases == 0


@pytest.mark.parametrize("settings", [{"reset": False}, {"copies": 1, "supposed": 1}])
def test_attempts_in_place_and_after_a_look_at_copies_are_bounded_too(
    rig: Rig, keeper: Keeper, settings: dict[str, object]
) -> None:
    search = Search(rig, keeper, SearchSettings(attempts=2, attempt_s=0.3, **settings))
    assert not search.episode(0, Start(FAILS, FAILS)).success
    (line,) = search.searches
    assert (line.attempts, line.found, line.first) == (2, None, False)
    assert line.copied == (0.0 if "copies" in settings else None)


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.parametrize("source", ["expert", "search"])
def test_practice_makes_a_bank_and_the_same_one_again(spec: SimulatedSpec, tmp_path: Path, source: str) -> None:
    short = SearchSettings(attempts=2, attempt_s=2.0)
    seen: list[tuple[int, int, int]] = []
    for name in ("one", "two"):
        practise(tmp_path / name, spec, 1, FAILS, source=source, search=short, progress=lambda *done: seen.append(done))
    one, two = (CaseBank(tmp_path / name) for name in ("one", "two"))
    assert [item.success for item in one.episodes] == [False]
    assert one.revision == two.revision
    # With an expert every start comes once more at the end.
    assert seen == ([(1, 2, 1), (2, 2, 1)] if source == "expert" else [(1, 1, 1)]) * 2
    assert {case.correction_source for case in one.cases()} <= {source}
    if source == "expert":
        assert len(one.cases()) > 5
        assert (tmp_path / "one" / LABELS).is_file()
        assert read_searches(tmp_path / "one") == []
    else:
        assert read_searches(tmp_path / "one") == read_searches(tmp_path / "two") != []


def test_practice_refuses_a_bank_that_is_there_and_a_source_that_nobody_is(spec: SimulatedSpec, tmp_path: Path) -> None:
    with pytest.raises(TrialError, match="'oracle' is not known; known: expert, takeover, rehearsal, search"):
        practise(tmp_path, spec, 1, FAILS, source="oracle")
    (tmp_path / "failure_memory.db").touch()
    with pytest.raises(TrialError, match="holds a bank already"):
        practise(tmp_path, spec, 1, FAILS)


def test_a_damaged_list_of_searches_is_named(tmp_path: Path) -> None:
    assert read_searches(tmp_path) == []
    for text in ("{", json.dumps({"place": 1}), json.dumps({"found": None, "what": 2})):
        (tmp_path / SEARCHES).write_text(text)
        with pytest.raises(TrialError, match="no list of searches"):
            read_searches(tmp_path)
