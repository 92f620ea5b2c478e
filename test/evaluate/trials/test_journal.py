# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from flow_rag_vla.evaluate.trials.journal import Journal, read_trials
from flow_rag_vla.evaluate.trials.protocol import TrialError


@pytest.fixture
def path(tmp_path: Path, make_result) -> Path:
    file = tmp_path / "run" / "trials.jsonl"
    with Journal(file) as journal:
        for seed in (1, 2, 3):
            journal.append(make_result(seed=seed))
    return file


def test_what_was_appended_is_read_back_in_order(path: Path, make_result) -> None:
    assert read_trials(path) == [make_result(seed=seed) for seed in (1, 2, 3)]
    assert read_trials(path.with_name("none.jsonl")) == []


@pytest.mark.parametrize("cut", [1, 30, 200])
def test_a_half_written_last_line_is_dropped_and_its_trial_written_again(path: Path, make_result, cut: int) -> None:
    os.truncate(path, path.stat().st_size - cut)
    assert len(read_trials(path)) == 2
    with Journal(path) as journal:
        assert len(journal.results) == 2
        journal.append(make_result(seed=3))
    assert read_trials(path) == [make_result(seed=seed) for seed in (1, 2, 3)]
    assert path.read_bytes().endswith(b"\n")


def test_a_trial_is_kept_once(path: Path, make_result) -> None:
    with Journal(path) as journal:
        journal.append(make_result(seed=2, success=False))
    assert [item.success for item in read_trials(path)] == [True, True, True]


def test_a_damaged_line_is_named(path: Path) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + b'{"format": 1}\n' + lines[2])
    for reading in (lambda: read_trials(path), lambda: Journal(path)):
        with pytest.raises(TrialError, match="line 2"):
            reading()


def test_two_runs_do_not_write_one_journal(path: Path) -> None:
    with Journal(path), pytest.raises(TrialError, match="another run"):
        Journal(path)
    Journal(path).close()


def test_a_full_disk_leaves_whole_lines(path: Path, make_result) -> None:
    # A limit on the size of files refuses the write in the middle of a line, as a full disk does.
    code = (
        "import json,signal,sys\n"
        "from flow_rag_vla.evaluate.trials.journal import Journal\n"
        "from flow_rag_vla.evaluate.trials.protocol import from_json\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "journal = Journal(sys.argv[1])\n"
        "try: journal.append(from_json(json.loads(sys.argv[2])))\n"
        "except OSError: sys.exit(7)\n"
    )
    from flow_rag_vla.evaluate.trials.protocol import to_json

    limit = path.stat().st_size + 50
    done = subprocess.run(
        [sys.executable, "-c", code, str(path), json.dumps(to_json(make_result(seed=9)))],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
        check=False,
    )
    assert done.returncode == 7
    assert path.read_bytes().endswith(b"\n")
    assert len(read_trials(path)) == 3
