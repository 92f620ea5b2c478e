# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What was counted of false alarms is known to the next process, and to no other calibration."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.failure.drift import WINDOW, DriftWatch
from flow_rag_vla.failure.drift_file import DriftFile


def counted(outcomes: list[bool], rate: float = 0.02) -> DriftWatch:
    watch = DriftWatch(rate)
    for alarmed in outcomes:
        watch.add(alarmed)
    return watch


@given(st.lists(st.booleans(), max_size=WINDOW + 50))
def test_the_next_process_counts_on_from_where_the_last_one_was_killed(tmp_path_factory, outcomes):
    path = tmp_path_factory.mktemp("counts") / "made" / "false_alarms.json"
    DriftFile(path).keep("abc", counted(outcomes))
    file = DriftFile(path)
    assert file.watch("abc", 0.02).alarmed == tuple(outcomes[-WINDOW:])
    assert file.problem == ""
    assert list(path.parent.iterdir()) == [path]


def test_a_warning_that_was_due_is_due_after_a_restart(tmp_path):
    file = DriftFile(tmp_path / "counts")
    watch = file.watch("abc", 0.02)
    assert (watch.episodes, file.problem) == (0, "")
    watch.add(True)
    file.keep("abc", watch)
    again = DriftFile(tmp_path / "counts").watch("abc", 0.02)
    assert again.problem() == ""
    again.add(True)
    assert "2 of 2" in again.problem()


@pytest.mark.parametrize(("monitor", "rate"), [("def", 0.02), ("abc", 0.05), ("abc fed", 0.02)])
def test_counts_of_another_calibration_classifier_or_rate_begin_anew(tmp_path, monitor, rate):
    file = DriftFile(tmp_path / "counts")
    file.keep("abc", counted([True] * 9))
    assert (file.watch(monitor, rate).episodes, file.problem) == (0, "")
    # Looking at them does not lose them: a rate that was tried is taken back.
    assert file.watch("abc", 0.02).alarms == 9


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x00\xff\xfe",
        b"[]",
        b'{"format": 1, "monitor": "abc", "rate": 0.02}',
        b'{"format": 2, "monitor": "abc", "rate": 0.02, "alarmed": "01"}',
        b'{"format": 1, "monitor": "abc", "rate": 0.02, "alarmed": [0, 1]}',
        b'{"format": 1, "monitor": "abc", "rate": 0.02, "alarmed": "012"}',
        b'{"format": 1, "monitor": 7, "rate": 0.02, "alarmed": "01"}',
        b"controller:\n  ros__parameters: {}\n",
        b"[" * 100_000,
    ],
)
def test_a_damaged_or_foreign_file_is_named_kept_aside_and_begun_anew(tmp_path, content):
    path = tmp_path / "counts"
    path.write_bytes(content)
    file = DriftFile(path)
    watch = file.watch("abc", 0.02)
    assert watch.episodes == 0
    assert f"{path} holds no counts of false alarms" in file.problem and "counts.unusable" in file.problem
    assert (tmp_path / "counts.unusable").read_bytes() == content
    watch.add(False)
    file.keep("abc", watch)
    assert file.problem == ""
    assert DriftFile(path).watch("abc", 0.02).alarmed == (False,)


def test_what_cannot_be_read_or_written_is_said_with_the_remedy_and_counted_all_the_same(tmp_path):
    folder = DriftFile(tmp_path)
    assert folder.watch("abc", 0.02).episodes == 0
    assert "cannot be read" in folder.problem
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    file = DriftFile(in_the_way / "counts")
    file.keep("abc", counted([True]))
    assert "cannot be written" in file.problem and "false_alarms_file" in file.problem
    file.watch("abc", 0.02)
    assert "cannot be read" in file.problem


def test_a_crash_while_writing_leaves_the_counts_before(tmp_path, monkeypatch):
    path = tmp_path / "counts"
    DriftFile(path).keep("abc", counted([True, False]))

    def killed(self, target):
        raise KeyboardInterrupt

    monkeypatch.setattr(type(path), "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        DriftFile(path).keep("abc", counted([True, False, True]))
    monkeypatch.undo()
    assert DriftFile(path).watch("abc", 0.02).alarmed == (True, False)
    assert json.loads(path.read_text())["alarmed"] == "10"


def test_without_a_file_nothing_is_kept():
    file = DriftFile(None)
    file.keep("abc", counted([True]))
    assert (file.watch("abc", 0.02).episodes, file.problem, file.path) == (0, "", None)
