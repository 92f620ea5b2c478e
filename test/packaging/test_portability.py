# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The sources are clean for Python 3.10 to 3.13; what the standard library of 3.10 lacks is for `make lint` to find."""

from __future__ import annotations

import ast
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

REMOVED = frozenset(
    {
        # 3.12
        "asynchat", "asyncore", "distutils", "imp", "smtpd",
        # 3.13, PEP 594 and lib2to3
        "aifc", "audioop", "cgi", "cgitb", "chunk", "crypt", "imghdr", "lib2to3", "mailcap", "msilib", "nis",
        "nntplib", "ossaudiodev", "pipes", "sndhdr", "spwd", "sunau", "telnetlib", "uu", "xdrlib",
        # Gone from setuptools 80 on.
        "pkg_resources",
    }
)  # fmt: skip


def sources() -> list[Path]:
    folders = [ROOT / name for name in ("src", "launch", "test")]
    scripts = [path for path in (ROOT / "scripts").iterdir() if path.is_file()]
    return [
        *(path for folder in folders for path in folder.rglob("*.py")),
        *(path for path in scripts if path.suffix == ".py" or path.read_bytes().startswith(b"#!/usr/bin/env python")),
        ROOT / "setup.py",
    ]


def problems(path: Path) -> list[str]:
    """What keeps a source from being read by any of these versions without a warning."""
    text = path.read_text(encoding="utf-8")
    try:
        with warnings.catch_warnings():
            # An invalid escape is a warning that later versions print at each first import.
            warnings.simplefilter("error")
            tree = ast.parse(text, str(path), feature_version=(3, 10))
    except (SyntaxError, Warning) as error:
        return [f"{path}: {error}"]
    imported = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            imported.add(node.module.split(".")[0])
    return [f"{path} imports {name}" for name in sorted(imported & REMOVED)]


def test_every_source_is_read_by_every_supported_python():
    found = sources()
    assert len(found) > 300
    assert not [problem for path in found for problem in problems(path)]


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("try:\n    pass\nexcept* ValueError:\n    pass\n", "Exception groups"),
        ("def first[T](items: list[T]) -> T: ...\n", ""),
        ("pattern = '\\d'\n", "invalid escape sequence"),
        ("import distutils.core\n", "imports distutils"),
    ],
)
def test_what_another_python_does_not_take_is_found(tmp_path, source, said):
    path = tmp_path / "module.py"
    path.write_text(source)
    assert said in "".join(found := problems(path)) and found


def test_lint_asks_for_the_oldest_python_that_setup_allows(root):
    from importlib.machinery import SourceFileLoader
    from importlib.util import module_from_spec, spec_from_loader

    loader = SourceFileLoader("check", str(root / "scripts" / "check"))
    check = module_from_spec(spec_from_loader("check", loader))
    sys.modules["check"] = check
    loader.exec_module(check)
    del sys.modules["check"]
    (command,) = (command for name, command in check.LINT if command[0] == "vermin")
    assert "-t=3.10-" in command and 'python_requires=">=3.10"' in (root / "setup.py").read_text()
    assert all((root / name).exists() for name in check.PYTHON)


def test_a_later_python_is_named_by_the_check_of_lint(tmp_path):
    path = tmp_path / "module.py"
    path.write_text("import tomllib\nfrom typing import Self\n")
    command = [str(Path(sys.executable).parent / "vermin"), "-q", "-t=3.10-", "--violations", "--no-tips", str(path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 1 and "tomllib" in result.stdout and "typing.Self" in result.stdout
