# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The layer contracts hold a violation up, each with the name of the offender."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGES = (
    "bringup",
    "cli",
    "control",
    "core",
    "data",
    "deliberation",
    "evaluate",
    "failure",
    "gateway",
    "labeling",
    "learn",
    "llm",
    "memory",
    "nodes",
    "policy",
    "proof",
    "residency",
    "robot",
    "sim",
)


@pytest.fixture
def lint(tmp_path, root):
    """``lint(core="import rclpy")``: run the repository's contracts over empty packages with these modules in them."""

    def run(**sources: str) -> subprocess.CompletedProcess[str]:
        source = tmp_path / "flow_rag_vla"
        for package in {*PACKAGES, *sources}:
            (source / package).mkdir(parents=True)
            (source / package / "__init__.py").write_text(sources.get(package, "") + "\n", encoding="utf-8")
        (source / "__init__.py").touch()
        shutil.copy(root / "pyproject.toml", tmp_path)
        linter = shutil.which("lint-imports", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
        assert linter
        return subprocess.run(
            [linter, "--no-logo", "--no-cache"],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(tmp_path)},
            capture_output=True,
            text=True,
            check=False,
        )

    return run


def test_packages_that_import_downwards_pass(lint):
    result = lint(
        cli="import flow_rag_vla.nodes",
        nodes="import rclpy\nimport flow_rag_vla.policy",
        policy="import torch\nimport flow_rag_vla.control",
        control="import flow_rag_vla.core",
    )
    assert result.returncode == 0, result.stdout


@pytest.mark.parametrize(
    ("package", "statement", "contract"),
    [
        ("core", "import flow_rag_vla.control", "Arrows only point down"),
        ("control", "import flow_rag_vla.policy", "Arrows only point down"),
        ("policy", "import flow_rag_vla.memory", "Arrows only point down"),
        ("learn", "import flow_rag_vla.evaluate", "Arrows only point down"),
        ("bringup", "import flow_rag_vla.nodes", "Arrows only point down"),
        ("somewhere", "", "Arrows only point down"),
        ("cli", "import rclpy", "rclpy is imported in nodes only"),
        ("memory", "from flow_rag_vla_interfaces import msg", "Domain packages know neither ROS"),
        ("data", "import sensor_msgs.msg", "Domain packages know neither ROS"),
        ("control", "import torch", "Loop and memory import no model"),
        ("memory", "import torch", "Loop and memory import no model"),
    ],
)
def test_a_forbidden_import_breaks_its_contract(lint, package, statement, contract):
    result = lint(**{package: statement})
    assert result.returncode == 1
    broken = [line for line in result.stdout.splitlines() if line.endswith("BROKEN")]
    assert any(line.startswith(contract) for line in broken), result.stdout
    assert f"flow_rag_vla.{package}" in result.stdout
