# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Practice tells a wrong place from a wrong action: by telling the policy the place."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from flow_rag_vla.core.action import ActionChunk
from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.evaluate.trials.bank import DATABASE, SETTINGS, read_episodes
from flow_rag_vla.evaluate.trials.labelled import Keeper, Labels
from flow_rag_vla.evaluate.trials.practice import LABELS, Practice, practise
from flow_rag_vla.evaluate.trials.protocol import Start, TrialError
from flow_rag_vla.evaluate.trials.rig import Rig
from flow_rag_vla.evaluate.trials.simulated_spec import simulated_spec
from flow_rag_vla.memory.case import SITUATION, FailureCase
from flow_rag_vla.memory.memory import FailureMemory
from flow_rag_vla.memory.store import CaseFilter, FailureStore
from flow_rag_vla.policy.action_space import FREE_DIM
from flow_rag_vla.policy.observation import SITUATION_COLUMNS
from flow_rag_vla.policy.policy import SHIFT_SHAPE, FlowPolicy

SOLVED = 200_000
"""A plain start that the shipped policy does."""


class Impaired:
    """The shipped policy, but it reads the target elsewhere, or leaves the hand open whatever it reads.

    limp: in so many attempts, the first
    """

    def __init__(self, policy: FlowPolicy, *, misread: float = 0.0, limp: float = 0) -> None:
        self._policy, self._limp = policy, limp
        self._attempts, self._last_ns = 0, 0
        self._shift = np.zeros(SHIFT_SHAPE)
        self._shift[0, 0] = misread

    def __getattr__(self, name: str) -> Any:
        return getattr(self._policy, name)

    def reading(self, embedding: np.ndarray, state: Any) -> np.ndarray:
        found = self._policy.reading(embedding, state).copy()
        found[SITUATION_COLUMNS[:, 0]] += self._shift[0, 0]
        return found

    def act(self, *given: Any, **named: Any) -> ActionChunk:
        chunk = self._policy.act(*given, **{**named, "shift": self._shift})
        self._attempts += chunk.stamp_ns < self._last_ns
        self._last_ns = chunk.stamp_ns
        if self._attempts < self._limp:
            chunk.actions[:, 6] = 1.0
        return chunk


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    found = Rig(simulated_spec("pick_and_place", "plain"))
    yield found
    found.close()


def practised(
    rig: Rig, tmp_path: Path, policy: Impaired, *, by_hand: bool = False, rounds: int = 0
) -> list[FailureCase]:
    """What is known after one start with this policy."""
    tmp_path.mkdir(exist_ok=True)
    memory = FailureMemory(FailureStore(tmp_path / "cases.db"), SETTINGS)
    sound = rig.policy
    rig.policy = policy  # type: ignore[assignment]
    try:
        episode = Practice(rig, Keeper(memory, rig.key), by_hand=by_hand, rounds=rounds).episode(
            0, Start(SOLVED, SOLVED)
        )
        assert not episode.success and episode.cases
        return memory.page(CaseFilter(include_retired=True))[1]
    finally:
        rig.policy = sound
        memory.close()


def test_a_policy_that_misreads_the_target_leaves_cases_that_know_by_how_much(rig: Rig, tmp_path: Path) -> None:
    cases = practised(rig, tmp_path, Impaired(rig.policy, misread=0.05))
    known = [case.misreading for case in cases if case.misreading is not None]
    assert len(known) > 3
    # What the shipped policy reads is right to some millimetres, until it has pushed the thing somewhere odd.
    assert float(np.median(known, axis=0)[0]) == pytest.approx(-0.05, abs=0.015)


def test_a_policy_that_reads_well_and_does_the_wrong_thing_leaves_no_misreadings(rig: Rig, tmp_path: Path) -> None:
    cases = practised(rig, tmp_path, Impaired(rig.policy, limp=math.inf))
    assert cases and all(case.misreading is None for case in cases)


def test_a_policy_that_does_it_the_next_time_without_being_told_leaves_no_misreadings(rig: Rig, tmp_path: Path) -> None:
    cases = practised(rig, tmp_path, Impaired(rig.policy, limp=1))
    assert cases and all(case.misreading is None for case in cases)


@pytest.mark.parametrize("rounds", [1, 2])
def test_a_start_that_failed_is_tried_again_with_what_is_remembered_until_it_is_done(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rounds: int
) -> None:
    played: list[tuple[bool, bool]] = []
    play = Practice._play

    def watched(self: Practice, *given: Any, remembering: bool = False) -> Any:
        found = play(self, *given, remembering=remembering)
        played.append((remembering, found.success))
        # Whatever the memory led to, a case says what the policy alone does.
        assert not remembering or all(not item.chunk.provenance.correction for item in found.seen)
        return found

    monkeypatch.setattr(Practice, "_play", watched)
    cases = practised(rig, tmp_path, Impaired(rig.policy, misread=0.05), rounds=rounds)
    assert played[0] == (False, False) and 2 <= len(played) <= 1 + rounds
    assert all(remembering for remembering, _ in played[1:])
    assert all(not success for _, success in played[:-1]), "it goes on after it was done"
    assert played[-1][1] or len(played) == 1 + rounds
    assert cases


def test_of_a_start_that_never_gets_done_every_attempt_is_learned(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    learned: list[tuple[int, tuple[int, ...]]] = []
    failure = Keeper.failure

    def watched(keeper: Keeper, *given: Any, **named: Any) -> tuple[int, ...]:
        ids = failure(keeper, *given, **named)
        learned.append((len(given[4]), ids))
        return ids

    monkeypatch.setattr(Keeper, "failure", watched)
    cases = practised(rig, tmp_path, Impaired(rig.policy, limp=math.inf), rounds=2)
    # A later attempt may show little that is not known from the one before: that makes no further case.
    assert len(learned) == 3 and all(count for count, _ in learned)
    assert {case.case_id for case in cases} >= {number for _, ids in learned for number in ids}


def test_a_start_that_was_done_alone_is_tried_with_the_memory_and_what_fails_then_is_learned(
    rig: Rig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = FailureMemory(FailureStore(tmp_path / "cases.db"), SETTINGS)
    practice = Practice(rig, Keeper(memory, rig.key), rounds=2)
    line = practice.episode(0, Start(SOLVED, SOLVED))
    assert line.success and not line.cases
    tried = []
    play = Practice._play
    monkeypatch.setattr(Practice, "_play", lambda *given, **named: tried.append(given[3]) or play(*given, **named))
    monkeypatch.setattr(rig, "policy", Impaired(rig.policy, limp=1))
    reviewed = practice.reviewed(line)
    assert reviewed.success, "it says what the policy did alone"
    assert reviewed.cases and len(tried) == 2 and len(set(tried)) == 2, "once more after it was learned, otherwise"
    assert set(memory.cases(reviewed.cases)) == set(reviewed.cases)
    assert practice.reviewed(line).cases == (), "what goes well teaches nothing new"
    memory.close()


def test_practice_goes_on_with_a_bank_and_keeps_its_labels(rig: Rig, tmp_path: Path) -> None:
    spec = simulated_spec("pick_and_place", "plain")
    practise(tmp_path, spec, 1, SOLVED, rounds=0)
    labels = Labels([np.ones(3, np.float32)], [np.ones(2, np.float32)], [1], [np.ones((2, FREE_DIM), np.float32)])
    labels.write(tmp_path / LABELS)
    with pytest.raises(TrialError, match="holds a bank already; add to it"):
        practise(tmp_path, spec, 1, SOLVED, rounds=0)
    practise(tmp_path, spec, 1, SOLVED + 1, rounds=0, add=True)
    assert [(line.place, line.start.seed) for line in read_episodes(tmp_path)] == [(0, SOLVED), (1, SOLVED + 1)]
    with np.load(tmp_path / LABELS) as kept:
        assert kept["goal"].tolist()[0] == 1 and kept["chunks"].shape[1:] == (2, FREE_DIM)
    with pytest.raises(TrialError, match="'search' cannot add"):
        practise(tmp_path, spec, 1, SOLVED, source="search", add=True)


def test_practice_does_not_add_to_the_bank_of_another_policy(tmp_path: Path) -> None:
    store = FailureStore(tmp_path / DATABASE)
    vector = np.zeros(4, np.float32)
    vector[0] = 1.0
    chunk = np.zeros((2, 7), np.float32)
    store.add([FailureCase(FailureType.TIMEOUT, "push", "reach", SITUATION, "another", vector, chunk)])
    store.close()
    with pytest.raises(TrialError, match=r"holds situations of .*another.*this policy's are"):
        practise(tmp_path, simulated_spec("pick_and_place", "plain"), 1, SOLVED, rounds=0, add=True)


def test_the_hand_that_closed_at_last_says_the_same_as_the_simulator(rig: Rig, tmp_path: Path) -> None:
    cases = practised(rig, tmp_path, Impaired(rig.policy, misread=0.05), by_hand=True)
    known = [case.misreading for case in cases if case.misreading is not None]
    assert len(known) > 3
    assert float(np.median(known, axis=0)[0]) == pytest.approx(-0.05, abs=0.015)
    # What would have been right is known from the takeover on, and not before.
    assert any(case.correction is None for case in cases) and any(case.correction is not None for case in cases)
