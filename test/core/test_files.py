# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Files are whole or absent."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from flow_rag_vla.core.files import file_revision, replaced_file, state_file, write_text
from flow_rag_vla.core.parameters import ParameterError


def test_a_failed_write_leaves_the_old_file_and_no_litter(tmp_path):
    path = tmp_path / "a.txt"
    write_text(path, "old")
    with pytest.raises(RuntimeError), replaced_file(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_write_makes_the_folders_it_needs(tmp_path):
    write_text(tmp_path / "b" / "c.txt", "x")
    assert (tmp_path / "b" / "c.txt").read_text() == "x"


def test_the_revision_changes_with_the_bytes_and_their_order(tmp_path):
    one, two = tmp_path / "1", tmp_path / "2"
    one.write_bytes(b"1")
    two.write_bytes(b"2")
    assert file_revision(one, two) == file_revision(one, two)
    assert len({file_revision(one), file_revision(two), file_revision(one, two), file_revision(two, one)}) == 4


def test_a_replaced_file_follows_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        write_text(tmp_path / "a.txt", "x")
    finally:
        os.umask(before)
    assert (tmp_path / "a.txt").stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="needs a file system that takes no files")
def test_a_folder_that_takes_no_files_is_a_refusal_with_the_files_name():
    with pytest.raises(PermissionError, match=r"no file can be made there: '/proc/figures\.json'"):
        write_text("/proc/figures.json", "{}")


def test_without_a_home_folder_a_file_of_a_state_asks_for_a_path(monkeypatch):
    def homeless(_path):
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "expanduser", homeless)
    with pytest.raises(ParameterError, match=r"emergency_stop_file: no home folder is known .* absolute path"):
        state_file("emergency_stop", "", "", "/")
    assert state_file("emergency_stop", "off", "", "/") is None
