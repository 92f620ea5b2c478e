# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The emergency stop's latch outside of the process."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from flow_rag_vla.control.latch import StopLatch, latch_file


def test_what_one_process_latched_the_next_one_reads_until_it_is_released(tmp_path):
    path = tmp_path / "made" / "latch"
    latch = StopLatch(path)
    assert latch.read() is None
    latch.keep("asked for by a service call")
    assert StopLatch(path).read() == "asked for by a service call"
    StopLatch(path).remove()
    assert latch.read() is None
    latch.remove()
    assert latch.problem == ""


def test_a_file_without_words_is_latched_as_on_a_full_disk(tmp_path):
    path = tmp_path / "latch"
    path.touch()
    assert StopLatch(path).read() == "the reason was not kept"


def test_what_cannot_be_kept_read_or_removed_is_said_and_counts_as_latched(tmp_path):
    in_the_way = tmp_path / "file"
    in_the_way.write_text("")
    latch = StopLatch(in_the_way / "latch")
    latch.keep("stop")
    assert "cannot be made" in latch.problem and "would not know" in latch.problem
    folder = StopLatch(tmp_path)
    assert "cannot be read" in (folder.read() or "")
    folder.remove()
    assert "cannot be removed" in folder.problem


def test_a_folder_that_may_not_be_looked_into_is_a_problem_that_is_said(tmp_path, monkeypatch):
    # What the system answers to anybody but root, who may run these tests.
    def denied(path, *_args, **_options):
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(Path, "open", denied)
    monkeypatch.setattr(Path, "stat", denied)
    latch = StopLatch(tmp_path / "latch")
    latch.keep("stop")
    assert "Permission denied" in latch.problem


def test_without_a_file_nothing_is_kept():
    latch = StopLatch(None)
    latch.keep("stop")
    assert latch.read() is None and latch.path is None
    latch.remove()


@pytest.mark.parametrize(
    ("setting", "domain", "namespace", "name"),
    [
        ("", "", "/", "emergency_stop_0"),
        ("", "7", "/left/arm", "emergency_stop_7_left_arm"),
        ("~/latch", "7", "/", "latch"),
    ],
)
def test_the_file_is_of_one_domain_and_namespace_unless_it_is_named(setting, domain, namespace, name):
    path = latch_file(setting, domain, namespace)
    assert path is not None and path.name == name and path.is_relative_to(Path.home())
    assert latch_file("off", domain, namespace) is None
