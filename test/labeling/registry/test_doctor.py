# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The doctor finds what is wrong, says it, and repairs what it can."""

from __future__ import annotations

import json
import sqlite3

import numpy as np
import pytest

from flow_rag_vla.labeling.registry.doctor import Finding, examine
from flow_rag_vla.labeling.registry.errors import StorageError
from flow_rag_vla.labeling.registry.registry import Registry
from flow_rag_vla.labeling.registry.values import ObjectChange


@pytest.fixture
def ids(registry, image, make) -> tuple[str, ...]:
    drafts = [make.draft(image, mask=make.mask(right=20 + n), embedding=make.unit(n)) for n in range(4)]
    return registry.register(drafts, who="a").object_ids


def findings(registry: Registry, **options: object) -> dict[Finding, int]:
    return {item.finding: item.count for item in examine(registry, grace_s=0.0, **options)}  # type: ignore[arg-type]


def test_a_sound_registry_has_no_findings(registry, ids, make):
    registry.update(ids[0], ObjectChange(box=(1, 1, 9, 9)), who="b")
    registry.update(ids[1], ObjectChange(mask=make.mask()), who="b")
    registry.delete(ids[2], who="b")
    registry.build_index()
    told: list[str] = []
    assert examine(registry, grace_s=0.0, progress=told.append) == ()
    assert told == ["pages and references", "vectors", "masks", "index"]


def test_masks_of_past_states_are_kept_for_an_undo(registry, ids, make):
    registry.update(ids[1], ObjectChange(mask=make.mask()), who="b")
    examine(registry, grace_s=0.0, repair=True)
    registry.undo(who="b")
    assert np.array_equal(registry.mask(ids[1]), make.mask(right=21))


def test_files_without_an_object_are_removed_unless_they_are_new(registry, ids, make):
    registry.masks.write({f"ab/cd/{'0' * 32}-{'1' * 8}.png": b"orphan"})
    (registry.masks.root / "ab" / "cd" / ".writing-x.png").write_bytes(b"half")
    assert examine(registry) == ()
    assert findings(registry) == {Finding.ORPHAN_MASKS: 2}
    (problem,) = examine(registry, grace_s=0.0, repair=True)
    assert problem.repaired and "removes the files" in problem.remedy and len(problem.examples) == 2
    assert findings(registry) == {}
    assert all(registry.mask(object_id).any() for object_id in ids)


def test_lost_and_damaged_masks_are_taken_off_as_a_change(registry, ids):
    registry.mask_file(ids[0]).unlink()
    registry.mask_file(ids[1]).write_bytes(b"no picture")
    with pytest.raises(StorageError, match="cannot be read"):
        registry.mask(ids[1])
    assert findings(registry) == {Finding.MISSING_MASKS: 1, Finding.DAMAGED_MASKS: 1}
    examine(registry, grace_s=0.0, repair=True)
    # The damaged file is now of a past state only.
    assert findings(registry) == {}
    assert [registry.get(object_id).mask_path == "" for object_id in ids] == [True, True, False, False]
    assert registry.history(ids[0])[-1].who == "doctor"


def test_vectors_that_cannot_be_are_taken_off(registry, ids, make):
    with registry.database.write() as connection:
        connection.exec_driver_sql("UPDATE vectors SET value = x'00' WHERE row_id = 1")
        connection.exec_driver_sql("DELETE FROM vectors WHERE row_id = 2")
    assert findings(registry) == {Finding.WRONG_VECTORS: 2}
    examine(registry, grace_s=0.0, repair=True)
    assert findings(registry) == {}
    assert registry.get(ids[0]).embedder is None
    assert registry.search(make.unit(3), make.embedder).answered.matching == 2


def test_rows_that_refer_to_nothing_are_named(registry, folder, ids):
    registry.close()
    with sqlite3.connect(folder / "registry.db") as connection:
        connection.execute("UPDATE objects SET track_row = 77 WHERE row_id = 1")
    (problem,) = examine(registry, grace_s=0.0, repair=True)
    assert (problem.finding, problem.count, problem.repaired) == (Finding.BROKEN_REFERENCES, 1, False)
    assert problem.examples == ("objects row 1 refers to a row of tracks that is not there",)


def test_damaged_pages_are_named(registry, folder, ids):
    registry.close()
    path = folder / "registry.db"
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        (root,) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = 'ix_objects_score'").fetchone()
        (size,) = connection.execute("PRAGMA page_size").fetchone()
    with path.open("r+b") as stream:
        stream.seek((root - 1) * size + 8)
        stream.write(b"\xff" * 64)
    found = findings(registry)
    assert found[Finding.DAMAGED_PAGES] >= 1


def test_an_index_of_another_registry_or_a_lost_future_is_removed(registry, folder, ids, make):
    registry.build_index()
    (saved,) = (folder / "index").glob("generation-*")
    manifest = json.loads((saved / "manifest.json").read_text())
    (saved / "manifest.json").write_text(json.dumps({**manifest, "generation": 99}))
    (folder / "index" / "generation-9-9-x").mkdir()
    (folder / "index" / "unfinished-x").mkdir()
    assert findings(registry) == {Finding.FOREIGN_INDEX: 3}
    # It is not used either.
    with Registry(folder) as other:
        assert other.search(make.unit(0), make.embedder).answered.generation == 4
    examine(registry, grace_s=0.0, repair=True)
    assert list((folder / "index").iterdir()) == []
