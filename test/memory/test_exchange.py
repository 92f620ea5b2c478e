# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Cases travel in a file, whole or not at all."""

from __future__ import annotations

import dataclasses
import zipfile
from pathlib import Path

import numpy as np
import pytest

from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.memory import exchange
from flow_rag_vla.memory.case import FailureCase
from flow_rag_vla.memory.exchange import ExchangeError, export_cases, import_cases, read_cases
from flow_rag_vla.memory.store import CaseFilter, EncoderMismatchError, StoreError


@pytest.fixture
def exported(make, open_memory, tmp_path) -> Path:
    memory = open_memory()
    memory.add(make.case(1, origin="left arm", note="näh", uses=3, successes=2))
    memory.add(
        make.case(
            2,
            failure_type=FailureType.DROP,
            failed_actions=make.motion(0.002, 9),
            evidence=(),
            correction=make.motion(0.003, 9),
            correction_source="expert",
            proprioception=np.arange(5.0),
            misreading=np.array([0.01, -0.02, 0.0]),
            origin="left arm",
        )
    )
    memory.retire(memory.add(make.case(3, origin="left arm")).case_id, True, "it hurt")
    path = tmp_path / "cases.npz"
    assert export_cases(memory, path, include_retired=True) == 3
    return path


def test_what_was_exported_is_imported_field_by_field(open_memory, exported, tmp_path):
    source, target = open_memory(), open_memory(tmp_path / "other.db")
    dry = import_cases(target, exported, dry_run=True)
    assert (dry.imported, dry.duplicates, target.statistics().cases) == (3, 0, 0)
    report = import_cases(target, exported)
    assert (report.imported, report.duplicates, report.origins) == (3, 0, ("left arm",))
    which = CaseFilter(include_retired=True)
    before, after = source.page(which)[1], target.page(which)[1]
    assert len(before) == len(after) == 3
    for one, other in zip(before, after, strict=True):
        for field in dataclasses.fields(FailureCase):
            if field.name != "history":
                np.testing.assert_array_equal(getattr(one, field.name), getattr(other, field.name))
        said = [(item.stamp_ns, item.change, item.origin, item.detail) for item in other.history]
        assert said[:-1] == [(item.stamp_ns, item.change, item.origin, item.detail) for item in one.history]
        assert said[-1][1:] == ("imported", "", f"from {exported.name}")
    assert (target.statistics().cases, target.statistics().retired) == (2, 1)


def test_an_import_counts_duplicates_and_can_name_the_origin(make, open_memory, exported, tmp_path):
    target = open_memory(tmp_path / "other.db")
    target.add(make.case(1))
    report = import_cases(target, exported, origin="borrowed")
    assert (report.imported, report.duplicates, report.origins) == (2, 1, ("borrowed",))
    assert {case.origin for case in target.page(CaseFilter(include_retired=True))[1]} == {"", "borrowed"}
    again = import_cases(target, exported)
    assert (again.imported, again.duplicates) == (0, 3)


def test_duplicates_within_one_import_are_stored_once(make, open_memory):
    memory = open_memory()
    cases = [make.case(1), make.case(1, note="again"), make.case(1, failed_actions=make.motion(0.01))]
    assert memory.add_all(cases) == (2, 1)
    assert memory.statistics().added == 2


def test_without_the_retired_ones_fewer_are_exported_and_an_empty_memory_none(open_memory, exported, tmp_path):
    path = tmp_path / "active.npz"
    assert export_cases(open_memory(), path) == 2
    assert not any(case.retired for case in read_cases(path))
    empty = open_memory(tmp_path / "empty.db")
    assert export_cases(empty, path, overwrite=True) == 0
    assert import_cases(empty, path).imported == 0


def test_a_long_export_is_read_page_by_page(make, open_memory, tmp_path, monkeypatch):
    monkeypatch.setattr(exchange, "BATCH", 2)
    memory = open_memory()
    memory.add_all([make.case(seed) for seed in range(5)])
    assert export_cases(memory, tmp_path / "cases.npz") == 5
    assert [case.created_ns for case in read_cases(tmp_path / "cases.npz")] == [1000, 1001, 1002, 1003, 1004]


def test_an_export_neither_overwrites_nor_takes_another_name(open_memory, exported):
    memory = open_memory()
    before = exported.read_bytes()
    with pytest.raises(ExchangeError, match="exists; allow overwriting"):
        export_cases(memory, exported)
    assert exported.read_bytes() == before
    with pytest.raises(ExchangeError, match=r"is a \.npz file"):
        export_cases(memory, exported.with_suffix(".pkl"))
    blocked = exported.parent / "file"
    blocked.write_text("")
    with pytest.raises(ExchangeError, match="cannot be written"):
        export_cases(memory, blocked / "cases.npz")


def rewrite(path: Path, **changes: object) -> Path:
    with np.load(path, allow_pickle=False) as data:
        arrays = {name: data[name] for name in data.files}
    for name, value in changes.items():
        if value is None:
            del arrays[name]
        else:
            arrays[name] = np.asarray(value)
    target = path.with_name("changed.npz")
    np.savez(target, **arrays)
    return target


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"format": "someone/else/3"}, "format 'someone/else/3', expected one of"),
        ({"embedding": None}, "lacks the array 'embedding'"),
        ({"task": np.array(["push"])}, r"task has shape \(1,\)"),
        ({"horizon": np.array([4, 99, 4])}, "failed_actions has 17 rows, but the cases' sizes add up to 107"),
        ({"horizon": np.array([-4, 8, 13])}, "damaged"),
        ({"proprioception_size": np.array([99, 0, 0])}, "proprioception has 5 rows, but"),
    ],
)
def test_a_file_that_does_not_hang_together_is_refused_as_a_whole(open_memory, exported, tmp_path, changes, text):
    target = open_memory(tmp_path / "other.db")
    with pytest.raises(ExchangeError, match=text):
        import_cases(target, rewrite(exported, **changes))
    assert target.statistics().cases == 0


@pytest.mark.parametrize(
    ("changes", "refused"),
    [
        ({"embedding": np.ones((3, 16))}, {0: "embedding has length 4", 1: "embedding", 2: "embedding"}),
        ({"embedding": np.zeros((3, 0))}, {0: "embedding", 1: "embedding", 2: "embedding"}),
        ({"failure_type": np.array([1, 2, 77])}, {2: "77 is not a valid"}),
        ({"successes": np.array([9, 0, 0])}, {0: "successes is 9 of 3"}),
        ({"correction_source": np.array(["prophecy"] * 3)}, {0: "prophecy", 1: "prophecy", 2: "prophecy"}),
    ],
)
def test_a_case_that_makes_no_sense_is_refused_with_its_row_and_the_others_are_taken(
    open_memory, exported, tmp_path, changes, refused
):
    target = open_memory(tmp_path / "other.db")
    changed = rewrite(exported, **changes)
    report = import_cases(target, changed)
    assert [item.place for item in report.refused] == [f"case {row} of 3" for row in refused]
    for item, text in zip(report.refused, refused.values(), strict=True):
        assert text in item.text and "mend it" in item.text
    assert report.imported == target.page(CaseFilter(include_retired=True))[0] == 3 - len(refused)
    with pytest.raises(ExchangeError, match=f"case {min(refused)} of 3"):
        read_cases(changed)


def test_nan_in_a_chunk_and_a_chunk_without_rows_are_refused_by_row(make, open_memory, tmp_path):
    source, target = open_memory(), open_memory(tmp_path / "other.db")
    source.add_all([make.case(seed) for seed in range(3)])
    path = tmp_path / "cases.npz"
    export_cases(source, path)
    with np.load(path) as data:
        actions = data["failed_actions"].copy()
    actions[5, 2] = np.nan
    # The third case has lost its rows altogether.
    report = import_cases(target, rewrite(path, failed_actions=actions[:8], horizon=np.array([4, 4, 0])))
    assert [str(item) for item in report.refused] == [
        "case 1 of 3: failed_actions: actions[1, 2] is nan, expected a finite number; mend it where it was exported",
        "case 2 of 3: failed_actions: actions have no rows, expected (H, 7) with H of at least 1; mend it where it was "
        "exported",
    ]
    assert report.imported == 1


def test_a_file_with_pickled_objects_is_refused(exported):
    with pytest.raises(ExchangeError, match="no readable"):
        read_cases(rewrite(exported, note=np.array([{"a": 1}] * 3, dtype=object)))


def test_a_truncated_or_foreign_file_is_refused(exported, tmp_path):
    data = exported.read_bytes()
    for name, content in (("cut.npz", data[: len(data) // 2]), ("empty.npz", b""), ("text.npz", b"hello" * 99)):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ExchangeError, match="no readable"):
            read_cases(tmp_path / name)
    with zipfile.ZipFile(tmp_path / "zip.npz", "w") as archive:
        archive.writestr("readme.txt", "no arrays")
    with pytest.raises(ExchangeError, match="lacks the array 'format'"):
        read_cases(tmp_path / "zip.npz")
    with pytest.raises(ExchangeError, match="there is no such file"):
        read_cases(tmp_path / "missing.npz")


def test_a_file_that_unpacks_to_more_than_the_memory_is_refused(exported, monkeypatch):
    monkeypatch.setattr(exchange, "MOST_BYTES", 100)
    with pytest.raises(ExchangeError, match="more than 100"):
        read_cases(exported)


def test_an_import_of_another_encoder_or_beyond_the_capacity_stores_nothing(make, open_memory, exported, tmp_path):
    other = open_memory(tmp_path / "other.db")
    other.add(make.case(9, encoder="dinov2"))
    with pytest.raises(EncoderMismatchError):
        import_cases(other, exported)
    small = open_memory(tmp_path / "small.db", capacity=1)
    with pytest.raises(StoreError, match="2 active cases are new but there is room for 1"):
        import_cases(small, exported)
    assert (other.statistics().cases, small.statistics().cases) == (1, 0)
    with pytest.raises(StoreError, match="stored together"):
        small.add_all([make.case(1), make.case(2, encoder="dinov2")])
