# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A misreading that arrives is held against what the memory knows nearby; a true one is believed, no case is lost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flow_rag_vla.core.action import TICK_NS, CorrectionMode
from flow_rag_vla.core.correction import FARTHEST_SHIFT
from flow_rag_vla.memory.case import FailureCase
from flow_rag_vla.memory.checking import check_cases
from flow_rag_vla.memory.consensus import ConsensusMemory
from flow_rag_vla.memory.exchange import export_cases, import_cases
from flow_rag_vla.memory.guard import GuardError
from flow_rag_vla.memory.hindsight import Grasp, explained
from flow_rag_vla.memory.ledger import SuccessPlace, SuccessSituation
from flow_rag_vla.memory.lesson import Occasion, Situation, split
from flow_rag_vla.memory.memory import FailureMemory
from flow_rag_vla.memory.merging import Arrival, MergeReport, merge_cases
from flow_rag_vla.memory.misreadings import MisreadingSettings, doubt
from flow_rag_vla.memory.store import CaseFilter

DOWN = np.array([0.0, 0.0, -0.149])
ASIDE = np.array([0.03, 0.0, 0.0])


def misread(make, alike: float, seed: int, metres: np.ndarray | None, **fields) -> FailureCase:
    """A case so alike to the first situation; each moves otherwise, so that none is a duplicate."""
    moved = make.motion(0.003 * seed - 0.03)
    return make.case(
        embedding=make.turned(make.unit(1), alike, seed), failed_actions=moved, misreading=metres, **fields
    )


def succeeded(make, alike: float, seed: int, episode: int) -> SuccessSituation:
    case = make.case(0)
    vector = make.turned(make.unit(1), alike, 100 + seed)
    return SuccessSituation("push", "reach", case.stamp, vector, make.motion(0.001), episode, "here")


def arrive(memory: FailureMemory, *cases: FailureCase, dry_run: bool = False) -> MergeReport:
    return merge_cases(
        memory, [Arrival(f"row {row}", case) for row, case in enumerate(cases)], "f.npz", dry_run=dry_run
    )


def stored(memory: FailureMemory) -> list[FailureCase]:
    return list(reversed(memory.page(CaseFilter(include_retired=True))[1]))


def shift(memory: FailureMemory, key: np.ndarray) -> np.ndarray:
    stamp = stored(memory)[0].stamp
    found = ConsensusMemory(memory).answer(key, stamp=stamp, task="push", phase="reach", stamp_ns=0).correction
    return np.zeros(3) if found.mode is not CorrectionMode.SHIFT else found.shift


def test_a_misreading_that_two_neighbours_contradict_is_left_out_and_the_case_is_taken(make, open_memory):
    memory = open_memory()
    for seed in (2, 3):
        assert memory.add(misread(make, 0.9, seed, ASIDE)).accepted
    before = shift(memory, make.unit(1))
    assert arrive(memory, misread(make, 0.95, 4, DOWN), dry_run=True).doubted
    report = arrive(memory, misread(make, 0.95, 4, DOWN, retired=True), misread(make, 0.95, 5, DOWN))
    assert (report.imported, report.refused, len(report.doubted)) == (2, [], 2)
    text = str(report.doubted[1])
    assert text.startswith("row 1: taken without its misreading: its misreading of 149 mm contradicts")
    assert "case 2" in text or "case 1" in text
    assert "was misread 152 mm elsewhere, allowed is 50 mm" in text
    # One that arrives retired may be taken back in: it has lost its misreading, too.
    assert [case.misreading is None for case in stored(memory)] == [False, False, True, True]
    assert not stored(memory)[3].retired
    np.testing.assert_array_equal(shift(memory, make.unit(1)), before)


def test_one_neighbour_that_is_hardly_alike_is_not_enough_nor_are_many_that_are_not(make, open_memory):
    memory = open_memory()
    memory.add(misread(make, 0.7, 2, ASIDE))
    for seed in range(3, 12):
        memory.add(misread(make, 0.45, seed, ASIDE))
    assert arrive(memory, make.case(embedding=make.unit(1), misreading=DOWN)).doubted == []
    memory.add(misread(make, 0.9, 12, ASIDE))
    assert len(arrive(memory, misread(make, 0.98, 13, DOWN)).doubted) == 1


def test_those_that_say_the_same_speak_for_it_and_disappointed_ones_hardly_against_it(make, open_memory):
    memory = open_memory()
    for seed in (2, 3):
        memory.add(misread(make, 0.9, seed, ASIDE))
    for seed in (4, 5, 6):
        memory.add(misread(make, 0.9, seed, DOWN + 0.01))
    assert arrive(memory, misread(make, 0.95, 7, DOWN)).doubted == []
    other = open_memory(memory.store.path.with_name("other.db"))
    other.apply([misread(make, 0.9, seed, ASIDE, uses=40, successes=1) for seed in (2, 3)], {})
    assert arrive(other, misread(make, 0.95, 7, DOWN)).doubted == []


def test_a_misreading_that_would_move_the_target_where_two_episodes_went_well_is_left_out(make, open_memory):
    memory = open_memory()
    memory.add(make.case(9))
    poison = make.case(embedding=make.unit(1), misreading=DOWN)
    memory.observe_done([succeeded(make, 0.7, seed, 7) for seed in range(3)])
    # Three situations of one episode are one witness.
    assert arrive(memory, poison, dry_run=True).doubted == []
    memory.observe_done([succeeded(make, 0.7, 4, 8)])
    report = arrive(memory, poison)
    assert report.imported == 1 and stored(memory)[1].misreading is None
    assert "(push/reach, episode" in report.doubted[0].text and "weight of 2 such episodes" in report.doubted[0].text
    # What was ever misread here is shorter than what a success forgives.
    assert arrive(memory, misread(make, 0.98, 3, 1.5 * ASIDE)).doubted == []
    # Not where nothing of the kind was done: no success is alike.
    assert arrive(memory, make.case(3, misreading=DOWN)).doubted == []


def test_successes_of_another_phase_or_encoder_say_nothing(make, open_memory):
    memory = open_memory()
    memory.observe_done([succeeded(make, 0.95, seed, seed) for seed in range(3)])
    elsewhere = make.case(embedding=make.unit(1), misreading=DOWN, phase="grasp")
    memory.add(make.case(9))
    assert memory.doubted(elsewhere) is None
    assert memory.doubted(make.case(embedding=make.unit(1), misreading=DOWN)) is not None
    place = SuccessPlace.of([succeeded(make, 0.95, seed, seed) for seed in range(3)])
    other = make.case(embedding=make.unit(1), misreading=DOWN, encoder="another")
    assert doubt(other, [], place, MisreadingSettings()) is None


def test_a_known_case_does_not_learn_a_contradicted_misreading_from_a_file(make, open_memory, tmp_path: Path):
    memory, mallory = open_memory(), open_memory(tmp_path / "mallory.db")
    for seed in (2, 3):
        memory.add(misread(make, 0.9, seed, ASIDE))
    memory.add(misread(make, 0.95, 4, None))
    mallory.add(misread(make, 0.95, 4, DOWN, correction=make.motion(0.004), correction_source="expert"))
    mallory.add(misread(make, 0.9, 2, DOWN))
    export_cases(mallory, tmp_path / "gift.npz")
    report = import_cases(memory, tmp_path / "gift.npz")
    assert (report.imported, report.duplicates, report.united, report.refused) == (0, 2, 1, [])
    said = sorted(item.text for item in report.doubted)
    assert said[0].startswith("it is the same failure as case 1 and misread otherwise")
    assert said[1].startswith("taken without its misreading") and "for case 3" in str(report.doubted)
    case = memory.get(3)
    assert case.misreading is None and case.correction is not None
    np.testing.assert_allclose(memory.get(1).misreading, ASIDE)
    # What agrees is learned.
    mallory.edit(1, misreading=ASIDE + 0.01, force=True)
    export_cases(mallory, tmp_path / "gift.npz", overwrite=True)
    import_cases(memory, tmp_path / "gift.npz")
    np.testing.assert_allclose(memory.get(3).misreading, ASIDE + 0.01)


def test_an_edit_is_refused_unless_forced(make, open_memory):
    memory = open_memory()
    for seed in (2, 3):
        memory.add(misread(make, 0.9, seed, ASIDE))
    memory.add(misread(make, 0.95, 4, None))
    with pytest.raises(GuardError, match=r"case 3 keeps what it has: .*contradicts"):
        memory.edit(3, misreading=DOWN)
    assert memory.get(3).misreading is None
    assert memory.edit(3, misreading=DOWN, force=True).misreading is not None


def test_a_check_finds_misreadings_that_are_doubted_since_and_what_was_found_accuses_nobody(make, open_memory):
    memory = open_memory()
    # The first arrived when nothing was known there; then the robot found out otherwise, twice.
    arrive(memory, misread(make, 0.95, 2, DOWN, correction=make.motion(0.004), correction_source="expert"))
    assert check_cases(memory) == []
    for seed in (3, 4):
        memory.add(misread(make, 0.9, seed, ASIDE))
    (found,) = check_cases(memory)
    assert (found.case_id, found.misreading) == (1, True)
    assert found.text.startswith("its misreading of 149 mm contradicts what is known there: case ")
    assert found.text.endswith("or forget it: flow_rag_vla memory edit 1 --forget-misreading")


def test_of_two_that_contradict_each_other_a_check_names_what_arrived_then_the_younger(make, open_memory, tmp_path):
    memory = open_memory()
    memory.add(misread(make, 0.95, 2, ASIDE, created_ns=1))
    memory.add(misread(make, 0.95, 3, DOWN, created_ns=2))
    assert [item.case_id for item in check_cases(memory)] == [2]
    other = open_memory(tmp_path / "other.db")
    arrive(other, misread(make, 0.95, 2, ASIDE, created_ns=1))
    other.add(misread(make, 0.95, 3, DOWN, created_ns=2))
    assert [item.case_id for item in check_cases(other)] == [1]


def test_a_case_that_should_not_act_at_all_is_no_witness_in_a_check(make, open_memory):
    memory = open_memory()
    memory.add(misread(make, 0.95, 2, DOWN))
    wild = misread(make, 0.9, 3, ASIDE, correction=make.motion(0.5), correction_source="expert")
    memory.apply([wild, misread(make, 0.9, 4, ASIDE, retired=True)], {})
    found = check_cases(memory)
    assert [(item.case_id, item.misreading) for item in found] == [(2, False)]


def test_a_check_holds_misreadings_against_successes_that_came_since(make, open_memory):
    memory = open_memory()
    memory.add(make.case(embedding=make.unit(1), misreading=DOWN))
    assert check_cases(memory) == []
    memory.observe_done([succeeded(make, 0.8, seed, seed) for seed in range(2)])
    (found,) = check_cases(memory)
    assert "where the policy alone read it well enough" in found.text and found.misreading


directions = st.lists(st.floats(-1.0, 1.0), min_size=3, max_size=3).map(np.array)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(directions, min_size=2, max_size=10),
    st.lists(st.floats(0.3, 0.99), min_size=0, max_size=8),
    directions,
    st.one_of(st.just(0.0), st.floats(0.0, 0.12)),
)
def test_misreadings_that_differ_by_what_a_grasp_leaves_open_never_contradict(make, noises, alikes, way, length):
    """Around any common misreading, however long, with any noise of up to 24 mm, where no success speaks."""
    common = length * way / max(float(np.linalg.norm(way)), 1.0)
    said = [common + 0.024 * noise / max(float(np.linalg.norm(noise)), 1.0) for noise in noises]
    cases = [misread(make, 0.9, seed, values) for seed, values in enumerate(said)]
    for place, case in enumerate(cases):
        others = cases[:place] + cases[place + 1 :]
        assert doubt(case, others, None, MisreadingSettings()) is None
        if length <= 0.004:
            # No longer than 28 mm: no regression over them goes beyond 50 mm, so no success speaks against them.
            done = [succeeded(make, alike, seed, seed) for seed, alike in enumerate(alikes)]
            assert not done or doubt(case, others, SuccessPlace.of(done), MisreadingSettings()) is None


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.floats(-0.048, 0.048), min_size=2, max_size=2),
    st.lists(st.floats(-0.007, 0.007), min_size=24, max_size=24),
    st.integers(0, 2**16),
)
def test_what_a_takeover_tells_is_believed_by_another_robot_with_its_like(make, planar, noise, seed):
    """Two takeovers at one place, read with noise: the cases of the one are held against those of the other."""
    place, wrong = np.array([0.5, 0.1, 0.02], dtype=np.float32), np.array([*planar, 0.0], dtype=np.float32)
    length = float(np.linalg.norm(wrong))
    wrong *= min(1.0, 0.048 / max(length, 1e-9))
    stamp = make.case(0).stamp
    told: list[list[FailureCase]] = []
    for robot in range(2):
        situations = []
        for tick in range(6):
            off = np.array([*noise[12 * robot + 2 * tick :][:2], 0.0], dtype=np.float32)
            read = place - wrong + off
            vector = make.turned(make.unit(1), 0.9 + 0.01 * tick, seed + 10 * robot + tick)
            situations.append(
                Situation(tick * TICK_NS, "reach", vector, stamp, make.motion(0.001), read=lambda read=read: read)
            )
        found = explained(situations, Grasp(10 * TICK_NS, place), 3 * TICK_NS, lambda stamp_ns: place + 0.2)
        assert len(found) >= 3
        told.append(split(found, Occasion("push"))[0])
    for case in told[1]:
        assert case.misreading is not None and float(np.linalg.norm(case.misreading)) <= FARTHEST_SHIFT
        assert doubt(case, told[0], None, MisreadingSettings()) is None
