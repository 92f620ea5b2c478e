# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Cases of several robots come together: united, settled, refused, and never half."""

from __future__ import annotations

import dataclasses
import signal
import subprocess
import sys

import numpy as np
import pytest

from flow_rag_vla.memory.case import FailureCase, OriginCredit
from flow_rag_vla.memory.checking import check_cases
from flow_rag_vla.memory.credit import CaseUse, UseResult
from flow_rag_vla.memory.exchange import export_cases, import_cases, merge_store, read_export
from flow_rag_vla.memory.images import encoded
from flow_rag_vla.memory.merging import Arrival, merge_cases, united
from flow_rag_vla.memory.store import CaseFilter, EncoderMismatchError, StoreError

EVERY = CaseFilter(include_retired=True)


def corrected(make, seed: int, step: float, **fields) -> FailureCase:
    return make.case(seed, correction=make.motion(step), correction_source="search", **fields)


def arrivals(*cases: FailureCase) -> list[Arrival]:
    return [Arrival(f"row {row}", case) for row, case in enumerate(cases)]


def use(memory, case_id: int, successes: int, failures: int) -> None:
    for episode, result in enumerate([UseResult.SUCCESS] * successes + [UseResult.FAILURE] * failures, start=1):
        memory.record_uses([CaseUse(case_id, 1, 1.0)], result, episode)


def test_credit_of_each_robot_is_kept_apart_and_merging_again_changes_nothing(make, open_memory, tmp_path):
    left, right = open_memory(tmp_path / "left.db", origin="left"), open_memory(tmp_path / "right.db", origin="right")
    left.add(make.case(1, origin="left"))
    use(left, 1, 3, 1)
    right.add(make.case(1, origin="right", created_ns=77))
    use(right, 1, 1, 0)
    first = merge_store(right, left.store.path)
    assert (first.imported, first.duplicates, first.united) == (0, 1, 1)
    case = right.get(1)
    assert (case.uses, case.successes) == (5, 4)
    assert case.shares == (OriginCredit("left", 4, 3), OriginCredit("right", 1, 1))
    assert case.history[-1].change == "merged" and "case 1 there of left.db" in case.history[-1].detail
    again = merge_store(right, left.store.path)
    assert (again.united, right.get(1).uses, len(right.get(1).history)) == (0, 5, 1)
    # And back: what the left one knew of itself is not counted twice.
    back = merge_store(left, right.store.path)
    assert back.united == 1 and left.get(1).shares == case.shares
    use(left, 1, 1, 0)
    merge_store(right, left.store.path)
    assert right.get(1).shares == (OriginCredit("left", 5, 4), OriginCredit("right", 1, 1))


def test_a_union_is_the_same_whatever_the_order(make):
    one = make.case(1, origin="a", uses=4, successes=2, credits=(OriginCredit("b", 1, 1),))
    other = make.case(1, origin="b", uses=6, successes=3, credits=(OriginCredit("a", 2, 0),))
    assert united(one, other).shares == united(other, one).shares == (OriginCredit("a", 3, 1), OriginCredit("b", 4, 3))
    assert united(united(one, other), other).shares == united(one, other).shares


def test_a_correction_that_only_the_other_robot_knows_is_taken_over(make, open_memory):
    memory = open_memory()
    memory.add(make.case(1))
    report = merge_cases(memory, arrivals(corrected(make, 1, 0.004)), "left.npz")
    assert report.united == 1
    np.testing.assert_array_equal(memory.get(1).correction, make.motion(0.004))


def test_contradictions_are_settled_by_credit_and_reported(make, open_memory):
    memory = open_memory()
    memory.add(corrected(make, 1, 0.012, uses=10, successes=9))
    loses = corrected(make, 1, -0.012, failed_actions=make.motion(-0.012), uses=10, successes=1)
    wins = corrected(make, 2, 0.012, uses=10, successes=9)
    memory.add(corrected(make, 2, -0.012, failed_actions=make.motion(-0.012), uses=10, successes=1))
    report = merge_cases(memory, arrivals(loses, wins), "left.npz")
    assert (report.imported, len(report.conflicts)) == (2, 2)
    assert "row 0 contradicts case 1" in report.conflicts[0] and "9 of 10" in report.conflicts[0]
    assert "case 2 contradicts row 1" in report.conflicts[1]
    assert [memory.get(case_id).retired for case_id in (1, 2, 3, 4)] == [False, True, True, False]
    assert "contradicts" in memory.get(3).retired_reason


@pytest.mark.parametrize("credit", [(10, 9), (10, 0)])
def test_a_correction_that_a_known_case_learns_is_settled_with_those_that_contradict_it(make, open_memory, credit):
    uses, successes = credit
    memory = open_memory()
    memory.add(make.case(1))
    beside = corrected(make, 1, 0.012, failed_actions=make.motion(-0.012), uses=uses, successes=successes)
    assert memory.add(beside).accepted
    report = merge_cases(memory, arrivals(corrected(make, 1, -0.012)), "left.npz")
    assert len(report.conflicts) == 1 and report.imported == 0
    learned, rival = memory.get(1), memory.get(2)
    if successes:
        assert "the correction of row 0 for case 1 contradicts case 2" in report.conflicts[0]
        assert (learned.correction, learned.retired, rival.retired) == (None, False, False)
    else:
        assert "case 2 contradicts case 1, corrected by row 0" in report.conflicts[0]
        assert learned.correction is not None and rival.retired
    assert check_cases(memory) == []


def test_a_correction_learned_from_a_file_is_settled_with_what_else_is_in_the_file(make, open_memory):
    memory = open_memory()
    memory.add(make.case(1))
    # Another failure of the same situation, whose correction leads the other way.
    other = corrected(make, 1, 0.012, failed_actions=make.motion(-0.012))
    report = merge_cases(memory, arrivals(corrected(make, 1, -0.012), other), "left.npz")
    assert (report.imported, len(report.conflicts)) == (1, 1)
    assert [memory.get(case_id).retired for case_id in (1, 2)] == [False, True]
    assert check_cases(memory) == []
    # And the other way round: first what is new, then what is learned.
    again = open_memory(memory.store.path.with_name("again.db"))
    again.add(make.case(1))
    report = merge_cases(again, arrivals(other, corrected(make, 1, -0.012)), "left.npz")
    assert len(report.conflicts) == 1 and again.get(1).correction is None
    assert check_cases(again) == []


def test_what_another_robot_has_retired_is_not_learned_by_an_active_case(make, open_memory):
    memory = open_memory()
    memory.add(make.case(1))
    hurts = corrected(
        make, 1, 0.004, origin="left", uses=9, successes=0, misreading=np.array([0.03, 0.0, 0.0]), retired=True,
        retired_reason="credit: it hurts",
    )  # fmt: skip
    report = merge_cases(memory, arrivals(hurts), "left.npz")
    case = memory.get(1)
    assert (case.correction, case.misreading, case.retired) == (None, None, False)
    # What was made of it is known all the same.
    assert (report.duplicates, report.united, case.uses) == (1, 1, 9)
    # A retired one may, it does not act.
    memory.retire(1, reason="tried")
    merge_cases(memory, arrivals(hurts), "left.npz")
    assert memory.get(1).correction is not None and memory.get(1).retired


def test_contradictions_inside_one_file_leave_one_active(make, open_memory):
    memory = open_memory()
    pair = (
        corrected(make, 1, 0.012, uses=4, successes=0),
        corrected(make, 1, -0.012, failed_actions=make.motion(-0.012), uses=4, successes=4),
    )
    report = merge_cases(memory, arrivals(*pair), "left.npz")
    assert len(report.conflicts) == 1
    assert [(case.successes, case.retired) for case in memory.page(EVERY)[1][::-1]] == [(0, True), (4, False)]


def test_another_encoder_is_refused_naming_both(make, open_memory, tmp_path):
    here, there = open_memory(), open_memory(tmp_path / "there.db")
    here.add(make.case(1))
    there.add(make.case(1, encoder="dinov2", embedding=make.unit(1, 8)))
    with pytest.raises(EncoderMismatchError, match=r"compact@abc \(16 numbers\).*dinov2@abc \(8 numbers\)"):
        merge_store(here, there.store.path)
    export_cases(there, tmp_path / "there.npz")
    with pytest.raises(EncoderMismatchError, match=r"compact@abc \(16 numbers\).*dinov2@abc \(8 numbers\)"):
        import_cases(here, tmp_path / "there.npz")
    assert here.page(EVERY)[0] == 1
    with pytest.raises(StoreError, match="there is no such database"):
        merge_store(here, tmp_path / "none.db")


def test_ten_thousand_duplicates_are_one_case(make, open_memory):
    memory = open_memory()
    case = make.case(1, origin="left", uses=3, successes=2)
    report = merge_cases(memory, arrivals(*[case] * 10_000), "left.npz")
    assert (report.imported, report.duplicates, report.united) == (1, 9_999, 0)
    assert (memory.statistics().cases, memory.get(1).uses) == (1, 3)


def test_pictures_and_history_travel(make, open_memory, tmp_path):
    source, target = open_memory(), open_memory(tmp_path / "other.db", origin="right")
    picture = encoded("front", np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8))
    source.add(make.case(1, calibration_id="abc123"), (picture,))
    source.edit(1, note="slippery")
    path = tmp_path / "cases.npz"
    export_cases(source, path)
    import_cases(target, path, origin="left")
    case = target.get(1)
    assert target.ledger.images(1) == (picture,) and case.calibration_id == "abc123"
    assert [(item.change, item.origin) for item in case.history] == [("edited", ""), ("imported", "right")]
    assert read_export(path).arrivals[0].case.uid == case.uid


IMPORTER = """
import os, signal, sys
from flow_rag_vla.memory.exchange import import_cases
from flow_rag_vla.memory.index import NumpyIndex
from flow_rag_vla.memory.memory import FailureMemory
from flow_rag_vla.memory import store

memory, _ = FailureMemory.open(sys.argv[1], make_index=NumpyIndex)
insert, count = store.insert_case, 0

def dying(*arguments):
    global count
    count += 1
    if count == 30:
        os.kill(os.getpid(), signal.SIGKILL)
    return insert(*arguments)

store.insert_case = dying
import_cases(memory, sys.argv[2])
"""


def test_an_import_that_is_killed_leaves_nothing_and_can_be_done_again(make, open_memory, tmp_path):
    source = open_memory(tmp_path / "source.db")
    source.add_all([make.case(seed) for seed in range(60)])
    path, target = tmp_path / "cases.npz", tmp_path / "target.db"
    export_cases(source, path)
    killed = subprocess.run([sys.executable, "-c", IMPORTER, str(target), str(path)], timeout=60, check=False)
    assert killed.returncode == -signal.SIGKILL
    memory = open_memory(target)
    assert memory.page(EVERY)[0] == 0
    assert import_cases(memory, path).imported == 60


def test_an_import_onto_a_full_disk_stores_nothing(make, open_memory, tmp_path):
    source = open_memory(tmp_path / "source.db")
    source.add_all([make.case(seed, note="n" * 2_000) for seed in range(200)])
    path, target = tmp_path / "cases.npz", tmp_path / "target.db"
    export_cases(source, path)
    open_memory(target).add(make.case(999))
    script = (
        "import resource, sys\n"
        "from flow_rag_vla.memory.exchange import import_cases\n"
        "from flow_rag_vla.memory.index import NumpyIndex\n"
        "from flow_rag_vla.memory.memory import FailureMemory\n"
        "from flow_rag_vla.memory.store import StoreError\n"
        "memory, _ = FailureMemory.open(sys.argv[1], make_index=NumpyIndex)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"
        "try:\n    import_cases(memory, sys.argv[2])\n"
        "except StoreError as error:\n    print(error)\n"
        "    print(memory.statistics().cases, len(memory.search(memory.get(1).embedding, threshold=-2.0).cases))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(target), str(path)], capture_output=True, text=True, timeout=60, check=True
    )
    assert "nothing was changed; free space" in done.stdout and done.stdout.splitlines()[-1] == "1 1"
    assert open_memory(target).page(EVERY)[0] == 1


def test_an_export_onto_a_full_disk_leaves_the_old_file(make, open_memory, tmp_path):
    memory = open_memory()
    memory.add_all([make.case(seed, note="n" * 2_000) for seed in range(50)])
    path = tmp_path / "cases.npz"
    export_cases(memory, path)
    before = path.read_bytes()
    script = (
        "import resource, sys\n"
        "from flow_rag_vla.memory.exchange import ExchangeError, export_cases\n"
        "from flow_rag_vla.memory.index import NumpyIndex\n"
        "from flow_rag_vla.memory.memory import FailureMemory\n"
        "memory, _ = FailureMemory.open(sys.argv[1], make_index=NumpyIndex)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (2_000, 2_000))\n"
        "try:\n    export_cases(memory, sys.argv[2], overwrite=True)\n"
        "except ExchangeError as error:\n    print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script, str(memory.store.path), str(path)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert "cannot be written" in done.stdout, done.stderr
    assert path.read_bytes() == before and [item.name for item in tmp_path.glob(".cases*")] == []


def test_a_check_finds_what_was_let_in_before_there_was_anything_to_try_it_on(make, open_memory):
    from flow_rag_vla.memory.ledger import SuccessSituation

    memory = open_memory(origin="left")
    memory.add_all([corrected(make, 1, -0.012), corrected(make, 2, 0.012), make.case(3)])
    memory.add_all([corrected(make, 2, -0.012, failed_actions=make.motion(-0.012), uses=2, successes=2)])
    for _ in range(50):
        memory.ledger.record_baseline("push", ["reach"], True)
    memory.settings = dataclasses.replace(
        memory.settings, credit=dataclasses.replace(memory.settings.credit, retire_above=1.0)
    )
    use(memory, 3, 0, 9)
    memory.settings = dataclasses.replace(
        memory.settings, credit=dataclasses.replace(memory.settings.credit, retire_above=0.95)
    )
    case = memory.get(1)
    memory.observe_done([SuccessSituation("push", "reach", case.stamp, make.unit(1), make.motion(0.012))])
    found = {item.case_id: item.text for item in check_cases(memory)}
    assert sorted(found) == [1, 2, 3]
    assert "guard" in found[1] and "contradicts case 4" in found[2] and "P(worse" in found[3]
