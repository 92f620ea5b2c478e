# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Helpers of the packaging tests: the repository, and its set-up scripts as modules."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def root() -> Path:
    """The repository's root."""
    return ROOT


@pytest.fixture
def load_script(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """``load_script("set_up")``: a fresh module of ``scripts/set_up.py``."""

    def load(name: str) -> ModuleType:
        monkeypatch.syspath_prepend(str(ROOT / "scripts"))
        for sibling in ("requisites", "set_up", "link_overlay", "mend_wheels", "lock", "warm_up"):
            monkeypatch.delitem(sys.modules, sibling, raising=False)
        spec = importlib.util.spec_from_file_location(name, ROOT / "scripts" / f"{name}.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def tools(tmp_path: Path) -> Callable[..., Path]:
    """``tools("sh", "make")``: a folder for PATH that holds only these tools of the machine."""

    def make(*names: str) -> Path:
        folder = tmp_path / "tools"
        folder.mkdir()
        for name in names:
            found = shutil.which(name)
            assert found, f"{name} is needed for this test"
            (folder / name).symlink_to(found)
        return folder

    return make


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what set-up reads first, without an environment."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    for name in ("scripts", "requirements"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "Makefile", folder)
    return folder


@pytest.fixture
def base_python() -> str:
    """An interpreter outside every virtual environment."""
    return os.path.realpath(sys.executable)
