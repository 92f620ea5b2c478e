# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The index in files: a restart reads them, catches up, and trusts nothing that is damaged or of something else."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from flow_rag_vla.memory import loading
from flow_rag_vla.memory.backends.choice import LayeredBackend
from flow_rag_vla.memory.backends.layered import Layers
from flow_rag_vla.memory.index import NumpyIndex
from flow_rag_vla.memory.memory import FailureMemory
from flow_rag_vla.memory.results import MemorySettings
from flow_rag_vla.memory.store import FailureStore

SMALL = Layers(exact=32, tail=16, lists_from=128)
CASES = 200


@pytest.fixture
def start(database: Path) -> Iterator[Callable[..., FailureMemory]]:
    """``start()``: a memory on the test's database whose index is compressed from 32 cases on."""
    opened: list[FailureMemory] = []

    def make(path: Path | None = None) -> FailureMemory:
        settings = MemorySettings(threshold=-1.0, duplicate_similarity=1.0)
        memory, report = FailureMemory.open(path or database, settings, LayeredBackend(SMALL))
        assert report is None
        memory.settle_index()
        opened.append(memory)
        return memory

    yield make
    for memory in opened:
        memory.close()


@pytest.fixture(scope="module")
def template(make, tmp_path_factory) -> Path:
    """A folder with a database of 200 cases in two groups, and its kept index."""
    path = tmp_path_factory.mktemp("template") / "memory.db"
    with closing(FailureStore(path)) as store:
        store.add([make.case(seed, phase="reach" if seed % 4 else "grasp") for seed in range(CASES)])
    memory = FailureMemory.open(path, MemorySettings(duplicate_similarity=1.0), LayeredBackend(SMALL))[0]
    memory.settle_index()
    memory.close()
    return path.parent


@pytest.fixture
def kept(template: Path, database: Path) -> Path:
    """The kept files of a copy of the template at the test's database."""
    shutil.copytree(template, database.parent, dirs_exist_ok=True)
    return database.with_name("memory.db.index")


def answers(memory: FailureMemory, make) -> list[list[int]]:
    return [[item.case_id for item in memory.search(make.unit(seed), k=1).cases] for seed in range(0, CASES, 7)]


def expected() -> list[list[int]]:
    return [[seed + 1] for seed in range(0, CASES, 7)]


def test_a_restart_reads_the_kept_index_and_not_every_case(kept, start, make, monkeypatch):
    monkeypatch.setattr(FailureStore, "summaries", lambda _: pytest.fail("every case was read"))
    memory = start()
    assert memory.statistics().index.source == "kept files"
    assert memory.statistics().index.kind.split(",")[0].endswith("codes")
    assert memory.statistics().cases == CASES
    assert answers(memory, make) == expected()


def test_a_small_memory_keeps_no_files(start, make, database):
    memory = start()
    memory.add(make.case(1))
    memory.close()
    assert not database.with_name("memory.db.index").exists()


def test_what_changed_since_is_taken_from_the_database(kept, start, make, database, open_memory):
    # Another program, without an index of this kind, as the console command is.
    other = FailureMemory.open(database, MemorySettings(duplicate_similarity=1.0), NumpyIndex)[0]
    added = other.add(make.case(1_000)).case_id
    other.retire(1)
    other.record_use([8], True)
    other.edit(15, note="looked at")
    other.apply([], {}, remove=[22])
    other.close()
    memory = start()
    assert memory.statistics().index.source == "kept files"
    assert (memory.statistics().cases, memory.statistics().retired) == (CASES - 1, 1)
    assert [item.case_id for item in memory.search(make.unit(1_000), k=1).cases] == [added]
    found = answers(memory, make)
    assert found[0] != [1]
    assert found[1] == [8]
    assert found[2] == [15]
    assert found[3] != [22]
    assert memory.search(make.unit(7), k=1).cases[0].summary.uses == 1


def test_a_running_memory_takes_in_only_what_another_program_changed(kept, start, make, database, monkeypatch):
    memory = start()
    with closing(FailureStore(database)) as other:
        added = other.add([make.case(1_000)], remove=[1])[0]
    monkeypatch.setattr(FailureStore, "summaries", lambda _: pytest.fail("every case was read"))
    assert memory.refresh()
    assert not memory.refresh()
    assert [item.case_id for item in memory.search(make.unit(1_000), k=1).cases] == [added]
    assert answers(memory, make)[0] != [1]
    assert memory.statistics().cases == CASES


def damage(path: Path, place: float = 0.5) -> None:
    data = bytearray(path.read_bytes())
    data[int(len(data) * place)] ^= 0xFF
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("pattern", "harm"),
    [
        ("rows-*.i16", damage),
        ("rows-*.i16", lambda path: path.write_bytes(path.read_bytes()[:-8])),
        ("group-*.npz", damage),
        ("group-*.npz", lambda path: path.write_bytes(b"")),
        ("cases-*.npz", damage),
        ("cases-*.npz", Path.unlink),
        ("manifest.json", lambda path: path.write_text(path.read_text()[:-20])),
        ("manifest.json", lambda path: path.write_text("[]")),
        ("manifest.json", lambda path: path.write_text(path.read_text().replace('"format": 1', '"format": 99'))),
        ("manifest.json", lambda path: path.write_text(path.read_text().replace('"compact"', '"dinov2"'))),
        ("manifest.json", lambda path: path.write_text(path.read_text().replace('"mark": "', '"mark": "0'))),
    ],
)
def test_files_that_are_damaged_or_of_something_else_are_made_again(kept, start, make, pattern, harm, caplog):
    for path in kept.glob(pattern):
        harm(path)
    memory = start()
    assert memory.statistics().index.source.startswith("database (")
    assert "is not used" in caplog.text
    assert answers(memory, make) == expected()
    memory.close()
    caplog.clear()
    assert start().statistics().index.source == "kept files"
    assert caplog.text == ""


def test_the_index_of_a_copy_that_went_another_way_is_refused(kept, start, make, database):
    # A backup is put back, and lives on: its log reaches the same number by other changes.
    with closing(FailureStore(database)) as store:
        store.add([make.case(2_000)])
        backup = database.with_name("backup.db")
        store.checkpoint()
        shutil.copyfile(database, backup)
        store.add([make.case(seed) for seed in range(3_000, 3_040)])
    start().close()
    manifest = json.loads((kept / "manifest.json").read_text())
    backup.replace(database)
    with closing(FailureStore(database)) as store:
        store.add([make.case(seed) for seed in range(4_000, 4_040)])
        assert store.last_change().change_id == manifest["change"]["change_id"]
    memory = start()
    assert memory.statistics().index.source == "database (it is not of this database's past)"
    assert len(memory.search(make.unit(4_001), k=1, threshold=0.99).cases) == 1
    assert memory.search(make.unit(3_001), k=1, threshold=0.99).cases == ()


def test_a_crash_while_files_are_written_leaves_the_old_ones(kept, start, make, monkeypatch):
    memory = start()
    for seed in range(5_000, 5_040):
        memory.add(make.case(seed))
    memory.settle_index()

    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("flow_rag_vla.memory.kept.write_text", full)
        assert not memory.keep_index()
    assert "No space left" in memory.statistics().index.problem
    # As after kill -9: nothing more is written.
    monkeypatch.setattr(loading.Loader, "save", lambda *_: False)
    memory.close()
    again = start()
    assert again.statistics().index.source == "kept files"
    assert again.statistics().cases == CASES + 40
    assert len(again.search(make.unit(5_039), k=1, threshold=0.99).cases) == 1


def test_rows_are_appended_to_the_kept_file_and_the_rest_is_replaced(kept, start, make):
    sizes = {path.name: path.stat().st_size for path in kept.glob("rows-*")}
    memory = start()
    for seed in range(6_000, 6_032):
        memory.add(make.case(seed))
    memory.settle_index()
    assert memory.keep_index()
    assert not memory.keep_index()
    later = {path.name: path.stat().st_size for path in kept.glob("rows-*")}
    assert set(later) == set(sizes)
    assert sum(later.values()) > sum(sizes.values())
    memory.close()
    again = start()
    assert again.statistics().index.source == "kept files"
    assert len(again.search(make.unit(6_000), k=1, threshold=0.99).cases) == 1


def test_two_programs_on_one_database_do_not_spoil_each_others_files(kept, start, make):
    one, other = start(), start()
    for memory, first in ((one, 8_000), (other, 9_000), (one, 10_000)):
        for seed in range(first, first + 40):
            memory.add(make.case(seed))
        memory.settle_index()
        assert memory.keep_index()
    # What is mapped into memory by one is still there after the other has saved.
    assert answers(one, make) == answers(other, make) == expected()
    one.close()
    other.close()
    again = start()
    assert again.statistics().cases == CASES + 120
    assert answers(again, make) == expected()


def test_the_log_of_changes_is_cut_where_the_index_is_kept(kept, start, make, monkeypatch, database):
    monkeypatch.setattr(loading, "SAVED_AFTER", 10)
    memory = start()
    for seed in range(7_000, 7_032):
        memory.add(make.case(seed))
    memory.settle_index()
    assert memory.keep_index()
    with closing(FailureStore(database)) as store, store.transaction() as connection:
        kept_log = connection.execute("SELECT count(*) FROM changes").fetchone()[0]
    assert kept_log <= 12


def test_a_million_scale_table_knows_what_the_cases_say(make):
    # Sized down: the same columns, filled, changed and kept.
    from flow_rag_vla.memory.store import CaseSummary
    from flow_rag_vla.memory.table import CaseTable

    table, truth = CaseTable(), {}
    generator = np.random.default_rng(0)
    for _ in range(600):
        case_id = int(generator.integers(1, 200))
        if generator.random() < 0.3 and case_id in truth:
            del table[case_id], truth[case_id]
            continue
        uses = int(generator.integers(0, 9))
        group = make.case(0, phase=f"phase {generator.integers(0, 3)}").group
        retired, corrected = (bool(value) for value in generator.integers(0, 2, 2))
        summary = CaseSummary(case_id, group, corrected, uses, uses // 2, retired, int(generator.integers(0, 2**60)))
        table[case_id] = truth[case_id] = summary
    assert dict(table) == truth
    assert len(table) == len(truth)
    assert table.active == sum(not item.retired for item in truth.values())
    assert dict(CaseTable.of_columns(table.columns(), table.groups())) == truth
    wanted = [999, 0, *generator.permutation(200).tolist()]
    assert table.of(wanted) == [truth[case_id] for case_id in wanted if case_id in truth]
    assert table.of([]) == [] == CaseTable().of(wanted)
    assert table.get(999) is None
    assert 999 not in table
    with pytest.raises(KeyError):
        del table[999]
    with pytest.raises(ValueError, match="out of order"):
        CaseTable.of_columns({**table.columns(), "case_id": table.columns()["case_id"][::-1]}, table.groups())
    with pytest.raises(ValueError, match="column uses is missing"):
        CaseTable.of_columns({**table.columns(), "uses": np.zeros(1)}, table.groups())
