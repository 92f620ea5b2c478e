# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What the system refuses is one line, and a home that cannot be written starts nodes all the same."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

import pytest

from flow_rag_vla.bringup.log_folder import LOG_FOLDER, choose_log_folder
from flow_rag_vla.cli import main
from flow_rag_vla.core.files import write_text


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC])
def test_a_refused_file_is_named_in_one_line(number, monkeypatch, capsys):
    def refused() -> None:
        raise OSError(number, os.strerror(number), "/lab/[run]/out.json")

    monkeypatch.setattr(main, "app", refused)
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.startswith(f"/lab/[run]/out.json: {os.strerror(number)}; ")


def test_a_folder_in_a_files_place_is_named_as_the_person_named_it(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(main, "app", lambda: write_text(tmp_path, "a page"))
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.startswith(f"{tmp_path}: ") and "name a file in it" in said


def test_a_file_in_a_folders_place_is_named(tmp_path, monkeypatch, capsys):
    (tmp_path / "taken").touch()
    monkeypatch.setattr(main, "app", lambda: (tmp_path / "taken").mkdir(parents=True, exist_ok=True))
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 1
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and said.startswith(f"{tmp_path / 'taken'}: ") and "name another place" in said


def test_ctrl_c_before_a_command_begins_says_nothing(monkeypatch, capsys):
    def interrupted() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(main, "app", interrupted)
    with pytest.raises(SystemExit) as ended:
        main.main()
    assert ended.value.code == 130
    assert capsys.readouterr() == ("", "")


def test_a_fault_of_the_program_keeps_its_trace(monkeypatch):
    def broken() -> None:
        raise FileNotFoundError(errno.ENOENT, "no such file", "x")

    monkeypatch.setattr(main, "app", broken)
    with pytest.raises(FileNotFoundError):
        main.main()


def test_logs_go_elsewhere_only_where_they_have_to(tmp_path: Path):
    home = {"HOME": str(tmp_path)}
    choose_log_folder(home)
    assert LOG_FOLDER not in home
    (tmp_path / "file").touch()
    blocked = {"HOME": str(tmp_path), "ROS_HOME": str(tmp_path / "file" / "below")}
    choose_log_folder(blocked)
    assert Path(blocked[LOG_FOLDER]).parent == Path(tempfile.gettempdir())
    chosen = blocked | {LOG_FOLDER: "/mine"}
    choose_log_folder(chosen)
    assert chosen[LOG_FOLDER] == "/mine"
