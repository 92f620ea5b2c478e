# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A command that lacks a package says how to get it, and leaves out how it came to know."""

from __future__ import annotations

import re
import runpy
import subprocess
import sys

import pytest

from flow_rag_vla.bringup.resources import share_folder
from flow_rag_vla.cli.missing import EXTRAS, where_from

WITHOUT = """
import sys
from flow_rag_vla.cli.main import main
sys.modules["{module}"] = None
sys.argv = ["flow_rag_vla", *sys.argv[1:]]
main()
"""
"""An import of None is refused as that of a package that is not installed."""


@pytest.mark.parametrize(
    ("module", "command", "extra"),
    [
        ("pybullet", ["evaluate", "--task", "push", "--episodes", "1"], "sim"),
        ("fastapi", ["live", "--tokens", "t.json", "--new-token", "ada:viewer"], "web"),
        ("sqlalchemy", ["registry", "stats", "nowhere"], "registry"),
        ("sqlalchemy", ["curate", "next", "nowhere"], "registry"),
    ],
)
def test_a_package_that_is_not_installed_is_named_with_its_extra(tmp_path, module, command, extra):
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT.format(module=module), *command],
        cwd=tmp_path, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60,
    )  # fmt: skip
    assert ended.returncode in (1, 2)
    assert f"pip install 'flow_rag_vla[{extra}]'" in ended.stdout + ended.stderr
    assert "Traceback" not in ended.stderr


def test_each_extra_that_is_named_brings_what_it_is_named_for(monkeypatch):
    caught: dict = {}
    monkeypatch.chdir(share_folder())
    monkeypatch.setattr("setuptools.setup", lambda **given: caught.update(given))
    runpy.run_path("setup.py", run_name="__main__")
    brought = {
        extra: {re.split(r"[\[<>=]", needed)[0] for needed in packages}
        for extra, packages in caught["extras_require"].items()
    }
    assert {module: package for module, (package, extra) in EXTRAS.items() if package not in brought[extra]} == {}


def test_a_module_of_no_extra_is_nobodys_to_install():
    assert where_from("flow_rag_vla.nowhere") == "" == where_from("")
    assert "make setup" in where_from("rclpy.node") and "make setup" in where_from("flow_rag_vla_interfaces.msg")
    assert where_from("torch.nn").startswith("torch is not installed; it comes with the extra 'policy'")
