# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The summary of all checks, over tools that only say that they were called."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = """#!/bin/sh
echo {name} "$@"
case "$*" in *"-m ros"*) echo "types known: $(test -e {folder}/typed && echo yes || echo no)" ;; esac
{more}
"""
MORE = {"mypy": "sleep 0.3; touch {folder}/typed; exit {code}", "pytest": "touch .coverage"}


@pytest.fixture
def check(root: Path, tmp_path: Path):
    """``check("--all", "-k", "one", types=1)``: what it printed, and its exit code."""
    (tmp_path / "scripts").mkdir()
    copied = tmp_path / "scripts" / "check"
    copied.write_text((root / "scripts" / "check").read_text(encoding="utf-8"), encoding="utf-8")
    folder = tmp_path / "bin"
    folder.mkdir()

    def run(*arguments: str, types: int = 0) -> tuple[str, int]:
        for name in ("ruff", "mypy", "lint-imports", "vermin", "pytest", "coverage"):
            more = MORE.get(name, "").format(folder=folder, code=types)
            (folder / name).write_text(TOOL.format(name=name, folder=folder, more=more), encoding="utf-8")
            (folder / name).chmod(0o755)
        environment = {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}"}
        done = subprocess.run(
            [sys.executable, str(copied), *arguments], capture_output=True, text=True, env=environment, check=False
        )
        return done.stdout + done.stderr, done.returncode

    return run


def called(output: str) -> list[str]:
    return [line.split()[0] for line in output.splitlines() if line.split(" ")[0] in {"ruff", "mypy", "pytest"}]


def test_every_step_runs_and_the_types_are_known_before_the_ros_tests(check) -> None:
    output, code = check("--all")
    assert code == 0 and "all passed in" in output, output
    assert sorted(called(output)) == ["mypy", "pytest", "pytest", "ruff", "ruff"]
    assert "types known: yes" in output and "-m not ros" in output and "coverage report" in output
    names = [line.split()[1] for line in output.split("== summary")[1].splitlines() if line.startswith("ok")]
    assert names == ["style", "format", "layers", "Python", "types", "tests", "ROS", "coverage"]


def test_what_failed_is_named_and_the_rest_is_done_all_the_same(check) -> None:
    output, code = check("--all", "-k", "one", types=1)
    assert code == 1 and "FAILED types" in output and "failed: types in" in output, output
    given = [line for line in output.splitlines() if line.startswith("pytest ")]
    assert len(given) == 2 and all(line.endswith("-k one") for line in given)
    assert "coverage report" not in output


def test_without_tests_there_is_lint_alone(check) -> None:
    output, code = check("--lint")
    assert code == 0 and "mypy" in output and "pytest" not in output
    assert check()[1] == check("--some")[1] == 2
