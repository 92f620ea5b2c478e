# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Nothing acknowledged is lost: not to a kill, not to a full disk, not to a damaged file."""

from __future__ import annotations

import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from flow_rag_vla.memory.memory import FailureMemory
from flow_rag_vla.memory.salvage import open_or_salvage, salvage
from flow_rag_vla.memory.store import CaseFilter, CorruptStoreError, FailureStore, StoreError

ADDER = """
import sys, resource
import numpy as np
from flow_rag_vla.memory.case import FailureCase
from flow_rag_vla.memory.index import NumpyIndex
from flow_rag_vla.memory.memory import FailureMemory
from flow_rag_vla.memory.store import StoreError

path, seed, limit = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
if limit:
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
memory, _ = FailureMemory.open(path, make_index=NumpyIndex)
generator = np.random.default_rng(seed)
print("ready", flush=True)
while True:
    embedding = generator.normal(size=256)
    case = FailureCase(
        1, "push", "reach", "compact", "abc", embedding / np.linalg.norm(embedding), generator.normal(size=(16, 7))
    )
    try:
        result = memory.add(case)
        print(result.case_id, flush=True)
        if result.case_id % 7 == 0:
            memory.record_use([result.case_id], True)
    except StoreError as error:
        print("refused", error, flush=True)
        break
"""


def adder(path: Path, seed: int, limit: int = 0, *prefix: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*prefix, sys.executable, "-c", ADDER, str(path), str(seed), str(limit)], stdout=subprocess.PIPE, text=True
    )


def test_no_acknowledged_case_is_lost_when_the_process_is_killed(database):
    acknowledged: set[int] = set()
    moments = random.Random(5)
    for round_ in range(6):
        process = adder(database, round_)
        assert process.stdout is not None
        for _ in range(moments.randint(1, 25)):
            line = process.stdout.readline()
            if line.strip().isdigit():
                acknowledged.add(int(line))
        process.send_signal(signal.SIGKILL)
        acknowledged.update(int(line) for line in process.stdout.read().splitlines() if line.isdigit())
        process.wait(timeout=30)
        memory, report = FailureMemory.open(database)
        assert report is None
        stored = {case.case_id for case in memory.page(CaseFilter(), 0, 10_000)[1]}
        assert acknowledged <= stored
        # What was under way may be there, too: at most one case a kill.
        assert len(stored - acknowledged) <= round_ + 1
        assert memory.statistics().cases == len(stored)
        memory.close()
    assert len(acknowledged) > 6


def refused_when_full(process: subprocess.Popen[str]) -> tuple[set[int], str]:
    output = process.communicate(timeout=60)[0].splitlines()
    assert process.returncode == 0
    refusal = output[-1]
    assert refusal.startswith("refused")
    return {int(line) for line in output if line.isdigit()}, refusal


def test_a_disk_that_is_full_refuses_and_loses_nothing(database):
    acknowledged, refusal = refused_when_full(adder(database, 1, 400_000))
    assert str(database) in refusal and "nothing was changed; free space" in refusal
    assert len(acknowledged) > 10
    with closing(FailureStore(database)) as store:
        assert {case.case_id for case in store.page(CaseFilter(), 0, 10_000)[1]} == acknowledged
    process = adder(database, 2)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    assert int(process.stdout.readline()) > max(acknowledged)
    process.kill()
    process.communicate(timeout=30)


def may_mount(folder: Path) -> bool:
    if shutil.which("unshare") is None:
        return False
    command = ["unshare", "--mount", "mount", "-t", "tmpfs", "none", str(folder)]
    return subprocess.run(command, capture_output=True, timeout=30, check=False).returncode == 0


def test_a_file_system_without_space_refuses_and_loses_nothing(tmp_path):
    folder, copy = tmp_path / "small", tmp_path / "copy"
    folder.mkdir()
    if not may_mount(folder):
        pytest.skip("a small file system cannot be mounted here; the file size limit above stands in")
    # The mount lives in a namespace of the child's own and vanishes with it.
    script = (
        f'mount -t tmpfs -o size=400k none {folder} && {sys.executable} -c "$0" {folder}/memory.db 1 0 '
        f"&& cp -r {folder} {copy}"
    )
    process = subprocess.Popen(["unshare", "--mount", "sh", "-c", script, ADDER], stdout=subprocess.PIPE, text=True)
    acknowledged, refusal = refused_when_full(process)
    assert "full" in refusal or "I/O" in refusal
    with closing(FailureStore(copy / "memory.db")) as store:
        stored = {case.case_id for case in store.page(CaseFilter(), 0, 10_000)[1]}
    assert acknowledged == stored and len(stored) > 10


def filled(database: Path, make, count: int = 120) -> list[int]:
    with closing(FailureStore(database)) as store:
        ids = store.add([make.case(seed, note="n" * 600) for seed in range(count)])
        store.checkpoint()
    return ids


def damage(database: Path, start: int, size: int) -> bytes:
    data = bytearray(database.read_bytes())
    data[start : start + size] = b"\xa5" * size
    database.write_bytes(bytes(data))
    return bytes(data)


def test_a_damaged_page_costs_its_cases_and_no_other(make, database):
    ids = filled(database, make)
    broken = damage(database, database.stat().st_size // 2 // 4096 * 4096, 4096)
    with pytest.raises(CorruptStoreError, match="is damaged") as raised:
        FailureStore(database)
    assert str(database) in str(raised.value) and "memory salvage" in str(raised.value)
    assert database.read_bytes() == broken

    store, report = open_or_salvage(database)
    with closing(store):
        saved = store.page(CaseFilter(), 0, 1000)[1]
        assert report is not None and report.recovered == len(saved)
        assert len(ids) - 10 <= len(saved) < len(ids)
        for case in saved:
            assert case.embedding.tobytes() == make.unit(ids.index(case.case_id)).tobytes()
            assert len(case.evidence) in (0, 2)
        assert store.add([make.case(999)])[0] > max(case.case_id for case in saved)
    assert report.kept.read_bytes() == broken
    assert str(report.kept) in str(report)
    assert {path.name for path in database.parent.iterdir()} == {database.name, report.kept.name}


@pytest.mark.parametrize(("source", "target"), [(0, 5), (5, 0), (2, 3), (-1, 1)])
def test_a_page_that_was_written_over_another_costs_that_ones_cases_only(make, database, source, target):
    """Its ids are then read twice, and not in their order."""
    ids = filled(database, make)
    data = bytearray(database.read_bytes())
    # Leaves of the table of cases: pages of type 13 with a note in them.
    leaves = [at for at in range(4096, len(data), 4096) if data[at] == 13 and b"n" * 600 in data[at : at + 4096]]
    assert len(leaves) > 8
    one, other = leaves[source], leaves[target]
    data[other : other + 4096] = data[one : one + 4096]
    database.write_bytes(bytes(data))

    store, report = open_or_salvage(database)
    with closing(store):
        saved = [case.case_id for case in store.page(CaseFilter(), 0, 1000)[1]]
    assert report is not None and report.recovered == len(saved) == len(set(saved))
    assert set(saved) <= set(ids) and len(ids) - 10 <= len(saved) < len(ids)


def test_a_flipped_bit_in_an_array_is_found(make, database):
    ids = filled(database, make, 3)
    data = bytearray(database.read_bytes())
    place = data.index(make.unit(1).tobytes()) + 5
    data[place] ^= 1
    database.write_bytes(bytes(data))
    store, report = open_or_salvage(database)
    with closing(store):
        assert report is not None and "does not match its checksum" in report.reason
        assert [case.case_id for case in store.page(CaseFilter(), 0, 10)[1]] == [ids[2], ids[0]]


def test_words_that_are_no_words_any_more_cost_their_case_and_no_other(make, database):
    ids = filled(database, make, 6)
    with closing(sqlite3.connect(database)) as connection, connection:
        connection.execute("UPDATE cases SET note = CAST(X'67F0BCBD' AS TEXT) WHERE case_id = ?", (ids[2],))
    with pytest.raises(CorruptStoreError, match="Could not decode to UTF-8 column 'note'") as raised:
        FailureStore(database)
    assert "with text" not in str(raised.value), "what stands there instead belongs in no log"
    store, report = open_or_salvage(database)
    with closing(store):
        assert report is not None and report.recovered == 5
        assert ids[2] not in [case.case_id for case in store.page(CaseFilter(), 0, 10)[1]]


@pytest.mark.parametrize("size", [100, 4096, 20_000])
def test_a_truncated_file_is_salvaged_as_far_as_it_goes(make, database, size):
    filled(database, make)
    with database.open("r+b") as stream:
        stream.truncate(size)
    store, report = open_or_salvage(database)
    with closing(store):
        assert report is not None
        assert store.page(CaseFilter(), 0, 1000)[0] == report.recovered
        assert report.kept.stat().st_size == size


def test_a_file_that_is_no_database_is_kept_and_a_fresh_one_made(make, database):
    database.write_text("these are notes, not cases\n" * 100)
    store, report = open_or_salvage(database)
    with closing(store):
        assert report is not None and report.recovered == 0
        assert report.kept.read_text().startswith("these are notes")
        assert store.add([make.case(1)]) == [1]


def test_what_is_in_the_log_is_salvaged_too(make, database, tmp_path):
    ids = filled(database, make)
    with closing(FailureStore(database)) as store:
        late = store.add([make.case(500)])[0]
        for suffix in ("", "-wal"):
            shutil.copyfile(f"{database}{suffix}", tmp_path / f"killed.db{suffix}")
    killed = tmp_path / "killed.db"
    damage(killed, killed.stat().st_size // 2 // 4096 * 4096, 4096)
    report = salvage(killed)
    assert report.recovered < len(ids) + 1
    with closing(FailureStore(killed)) as store:
        assert late in store.get([late])
    assert report.kept.with_name(report.kept.name + "-wal").is_file()


def test_two_salvages_keep_two_files(make, database):
    filled(database, make, 5)
    first, second = salvage(database), salvage(database)
    assert first.kept != second.kept and first.kept.is_file() and second.kept.is_file()
    assert (first.recovered, second.recovered) == (5, 5)


def test_cases_of_a_second_encoder_are_not_mixed_in_by_a_salvage(make, database):
    filled(database, make, 5)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE cases SET encoder = 'dinov2' WHERE case_id > 3")
        connection.commit()
    assert salvage(database).recovered == 3


def test_there_is_nothing_to_salvage_of_a_missing_file(database):
    with pytest.raises(StoreError, match="there is no such database"):
        salvage(database)
