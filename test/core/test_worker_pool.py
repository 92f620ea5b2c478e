# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Ctrl-C ends workers and what was not begun, as a person at a terminal sends it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

SCRIPT = """
import os, sys, time
from pathlib import Path
from flow_rag_vla.core.processes import worker_pool

def job(folder, number):
    (folder / str(number)).touch()
    os.write(1, b"begun\\n")
    time.sleep(3600)

def square(number):
    return number * number

if __name__ == "__main__":
    with worker_pool(2) as pool:
        assert list(pool.map(square, range(5))) == [0, 1, 4, 9, 16]
    try:
        with worker_pool(2) as pool:
            for done in [pool.submit(job, Path(sys.argv[1]), number) for number in range(20)]:
                done.result()
    except KeyboardInterrupt:
        sys.exit(130)
"""


def test_ctrl_c_ends_the_workers_and_begins_no_further_job(tmp_path: Path):
    script, begun = tmp_path / "work.py", tmp_path / "begun"
    script.write_text(SCRIPT)
    begun.mkdir()
    process = subprocess.Popen(
        [sys.executable, str(script), str(begun)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        assert [process.stdout.readline() for _ in range(2)] == ["begun\n"] * 2
        os.killpg(process.pid, signal.SIGINT)
        _, said = process.communicate(timeout=60.0)
    finally:
        process.kill()
    assert process.returncode == 130
    assert "Traceback" not in said
    assert len(list(begun.iterdir())) == 2
