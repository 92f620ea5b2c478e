# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Power that fails, disks that fill, and many who write at once."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from flow_rag_vla.labeling.registry.benchmark.writing import _left, crowd, killed, missing
from flow_rag_vla.labeling.registry.doctor import Finding, examine
from flow_rag_vla.labeling.registry.errors import BusyError, DiskFullError, ErrorCode, StorageError
from flow_rag_vla.labeling.registry.queries import Order
from flow_rag_vla.labeling.registry.registry import Registry

WRITER = """
import json, sys
import numpy as np
sys.path.insert(0, sys.argv[2])
from conftest import Maker
from flow_rag_vla.labeling.registry.registry import Registry

make = Maker()
with Registry(sys.argv[1]) as registry:
    image = make.image(registry, f"/writer/{sys.argv[3]}")
    drafts = [make.draft(image, mask=make.mask(right=30 + n), embedding=make.unit(n)) for n in range(8)]
    number = 0
    while True:
        batch = registry.register(drafts, who="w", key=f"{sys.argv[3]}/{number}")
        print(json.dumps([number, batch.object_ids]), flush=True)
        number += 1
"""


def test_nothing_acknowledged_is_lost_and_nothing_half_written_shows_after_a_kill(folder, make, tmp_path):
    """A process is killed wherever it is in a batch, again and again; the next one goes on."""
    acknowledged: list[list[str]] = []
    rng = random.Random(1)
    for round_number in range(2):
        process = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(folder), str(Path(__file__).parent), str(round_number)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        for _ in range(rng.randint(2, 4)):
            line = process.stdout.readline()
            assert line, "the writer ended by itself"
            acknowledged.append(json.loads(line)[1])
        # Anywhere between two acknowledgements.
        threading.Event().wait(rng.random() * 0.02)
        os.kill(process.pid, signal.SIGKILL)
        rest = process.stdout.read()
        acknowledged += [json.loads(line)[1] for line in rest.splitlines() if line.endswith("]]")]
        process.wait()
    with Registry(folder) as registry:
        for batch in acknowledged:
            for n, found in enumerate(registry.get_many(batch)):
                assert not found.deleted
                assert np.array_equal(registry.mask(found.object_id), make.mask(right=30 + n))
                assert np.array_equal(registry.embedding(found.object_id)[0], make.unit(n))
        # A batch that was not acknowledged may be there, but then whole.
        assert registry.count() % 8 == 0
        assert registry.count() >= 8 * len(acknowledged)
        problems = examine(registry, grace_s=0.0)
        assert {problem.finding for problem in problems} <= {Finding.ORPHAN_MASKS}
        examine(registry, grace_s=0.0, repair=True)
        assert examine(registry, grace_s=0.0) == ()
        for batch in acknowledged:
            assert registry.mask(batch[0]).any()


def test_writers_and_readers_at_once_lose_nothing(folder):
    together = crowd(folder, writers=4, readers=4, seconds=1.5)
    assert (together.errors, together.first_error) == (0, "")
    assert together.acknowledged == together.stored > 0
    assert (together.lost, together.torn, together.damage) == (0, 0, 0)
    assert together.pages > 0


def test_what_is_lost_torn_or_damaged_after_the_crowd_is_told(folder, make):
    """The measurement itself: it sees each kind of loss."""
    with Registry(folder) as registry:
        image = make.image(registry)
        mask = make.mask()
        for number in range(3):
            drafts = [make.draft(image, mask=None if n else mask, embedding=make.unit(n)) for n in range(20)]
            ids = registry.register(drafts, who="w", key=f"0/{number}").object_ids
        assert missing(registry, {0: 3}) == (0, 0)
        assert missing(registry, {0: 2, 1: 1}) == (20, 0)
        with registry.database.write() as connection:
            connection.exec_driver_sql("DELETE FROM vectors WHERE row_id = 7")
        assert missing(registry, {0: 3}) == (0, 1)
        with registry.database.write() as connection:
            connection.exec_driver_sql("UPDATE objects SET mask_path = '' WHERE object_id = ?", (ids[0],))
        assert missing(registry, {0: 3}) == (20, 2)


def test_writers_that_are_killed_leave_whole_batches(folder):
    left = killed(folder, 3)
    assert (left.kills, left.lost, left.torn, left.damage) == (3, 0, 0, 0)
    assert left.batches >= 3


def test_writers_that_store_nothing_are_no_measurement(folder):
    (folder / "registry.db").write_bytes(b"no database")
    with pytest.raises(RuntimeError, match="writer 0 ended"):
        killed(folder, 1)


def test_what_kills_would_tear_is_told(folder, make):
    """The measurement itself, and its baseline."""
    with Registry(folder) as registry:
        image = make.image(registry)
        for n in range(23):
            registry.register([make.draft(image)], who="w", key=f"0/{n // 20}/{n % 20}")
        assert _left(registry, {0: 1}) == (0, 1)
        assert _left(registry, {0: 2}) == (17, 1)
        assert _left(registry, {0: 1, 1: 1}) == (20, 1)


def test_threads_of_one_process_lose_nothing(registry, image, make):
    errors: list[BaseException] = []

    def write(number: int) -> None:
        try:
            for n in range(5):
                ids = registry.register([make.draft(image, embedding=make.unit(n))] * 3, who=f"t{number}").object_ids
                assert registry.get(ids[0]).version == 1
                registry.search(make.unit(n), make.embedder, k=3)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert registry.count() == 6 * 5 * 3
    assert registry.search(make.unit(0), make.embedder).answered.matching == 90


def test_a_key_that_two_send_at_once_is_registered_once(folder, make):
    with Registry(folder) as one, Registry(folder) as other:
        image = make.image(one)
        drafts = [make.draft(image, mask=make.mask()) for _ in range(4)]
        answers = []
        both = threading.Barrier(2)

        def send(registry: Registry) -> None:
            both.wait()
            answers.append(registry.register(drafts, who="a", key="k"))

        threads = [threading.Thread(target=send, args=(registry,)) for registry in (one, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers[0].object_ids == answers[1].object_ids
        assert sorted(answer.repeated for answer in answers) == [False, True]
        assert one.count() == 4
        assert sum(1 for _ in one.masks.names()) == 4


def test_a_write_behind_one_that_never_ends_is_refused_as_busy_and_reads_go_on(folder, make):
    with Registry(folder) as holder, Registry(folder, busy_timeout_s=0.05) as other:
        image = make.image(holder)
        ids = holder.register([make.draft(image)], who="a").object_ids
        with holder.database.write(), pytest.raises(BusyError, match="send the request again") as error:
            other.register([make.draft(image, mask=make.mask())], who="b")
        assert error.value.code is ErrorCode.BUSY
        assert error.value.http_status == 503
        with holder.database.write():
            assert other.get(ids[0]).version == 1
        assert list(other.masks.names()) == []
        other.register([make.draft(image)], who="b")


LIMITED = """
import resource, sys
import numpy as np
sys.path.insert(0, sys.argv[2])
import signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
from conftest import Maker
from flow_rag_vla.labeling.registry.errors import DiskFullError, ErrorCode, StorageError
from flow_rag_vla.labeling.registry.registry import Registry

make = Maker()
with Registry(sys.argv[1]) as registry:
    image = make.image(registry)
    registry.register([make.draft(image)], who="before")
    # No file may grow beyond this: the mask does not fit, or the write-ahead log does not.
    resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[3]), resource.RLIM_INFINITY))
    mask = np.random.default_rng(0).random((48, 64)) < 0.5
    try:
        for _ in range(50):
            registry.register([make.draft(image, mask=mask, embedding=make.unit(n)) for n in range(40)], who="after")
    except (DiskFullError, StorageError) as error:
        print(error.code.value)
"""


@pytest.mark.parametrize(("limit", "codes"), [(200, {"disk_full"}), (400_000, {"disk_full", "storage_failed"})])
def test_a_full_disk_is_said_and_what_was_stored_before_stays(folder, make, limit, codes):
    """The limit on a file's size stands for a disk: the first stops a mask, the second the database."""
    result = subprocess.run(
        [sys.executable, "-c", LIMITED, str(folder), str(Path(__file__).parent), str(limit)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert result.stdout.strip() in codes, result.stderr
    with Registry(folder) as registry:
        found = registry.list_objects(order=Order.OLDEST, limit=1_000).objects
        assert len(found) % 40 == 1
        assert all(registry.mask(item.object_id).any() for item in found[1:3])
        assert {problem.finding for problem in examine(registry)} == set()
        registry.register([make.draft(found[0].image_id, mask=make.mask())], who="later")


def test_a_full_disk_leaves_no_mask_of_the_refused_batch(registry, image, make, monkeypatch):
    wrote = []
    real = os.fsync

    def full(descriptor: int) -> None:
        wrote.append(descriptor)
        if len(wrote) > 3:
            raise OSError(28, "No space left on device")
        real(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(DiskFullError, match=r"no space is left .*free space") as error:
        registry.register([make.draft(image, mask=make.mask()) for _ in range(6)], who="a")
    monkeypatch.undo()
    assert error.value.http_status == 507
    assert list(registry.masks.names()) == []
    assert registry.count() == 0


def test_a_forked_child_uses_connections_of_its_own(registry, image, make):
    registry.register([make.draft(image)], who="parent")
    child = os.fork()
    if child == 0:
        try:
            registry.register([make.draft(image)], who="child")
            os._exit(0)
        except BaseException:
            os._exit(1)
    assert os.waitpid(child, 0)[1] == 0
    registry.register([make.draft(image)], who="parent")
    assert registry.count() == 3


def test_a_database_that_cannot_be_written_says_whose_permissions_to_look_at(tmp_path):
    with Registry(tmp_path / "labels") as registry:
        # What SQLite says of a file without write permission, which a test that runs as root cannot take away.
        sa.event.listen(registry.database.engine, "checkout", lambda raw, *_: raw.execute("PRAGMA query_only=ON"))
        registry.database.close()
        with pytest.raises(StorageError, match=r"cannot be written .*readonly.*; check the permissions of the file"):
            registry.add_project("cups")
