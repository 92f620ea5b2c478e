# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Rewrite the build machine's paths in the CMake files of the ROS wheels.

The wheels on PyPI export CMake targets whose include directories name the interpreter of the machine that built them
(``/opt/python/cp3xx-cp3xx/...``). CMake refuses a target whose include directory does not exist, so nothing can be
built against them. This script points those entries at the interpreter and the numpy that run it. It is idempotent.

Run it with the environment's own interpreter: ``.venv/bin/python scripts/mend_wheels.py``.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
import sysconfig
from pathlib import Path

FOREIGN_NUMPY = re.compile(r"/opt/python/cp3\d+-cp3\d+t?/lib/python3\.\d+t?/site-packages/numpy/_?core/include")
FOREIGN_PYTHON = re.compile(r"/opt/python/cp3\d+-cp3\d+t?/include/python3\.\d+t?")


class MendError(Exception):
    """The environment cannot be mended; the message says what is missing and how to get it."""


def python_include_directory() -> str:
    """Return the folder of this interpreter's ``Python.h``.

    Raises:
        MendError: The development headers of this interpreter are not installed.
    """
    directory = sysconfig.get_path("platinclude")
    for candidate in (directory, sysconfig.get_config_var("INCLUDEPY") or directory):
        if (Path(candidate) / "Python.h").is_file():
            return candidate
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    raise MendError(
        f"Python.h is not in {directory}: the headers of Python {version} are missing.\n"
        f"Install them: sudo apt-get install python{version}-dev (or python3-dev for the system's own Python)."
    )


def numpy_include_directory() -> str:
    """Return numpy's C header folder without importing numpy (which would take a tenth of a second).

    Raises:
        MendError: numpy is not installed in this environment.
    """
    spec = importlib.util.find_spec("numpy")
    if spec is None or not spec.submodule_search_locations:
        raise MendError(f"numpy is not installed in {sys.prefix}. Run `make setup`.")
    directory = Path(spec.submodule_search_locations[0]) / "_core" / "include"
    if not (directory / "numpy" / "arrayobject.h").is_file():
        raise MendError(f"{directory} holds no numpy headers: numpy 2 is needed. Run `make clean` and `make setup`.")
    return str(directory)


def mend(share: Path) -> int:
    """Rewrite every foreign path under ``share`` and return how many files changed.

    Raises:
        MendError: ``share`` holds no ROS wheels, or the headers to point at are missing.
        OSError: A file cannot be replaced.
    """
    files = sorted(share.glob("*/cmake/*.cmake"))
    if not files:
        raise MendError(f"{share} holds no CMake files: the ROS wheels are not installed there. Run `make setup`.")
    python_headers = python_include_directory()
    numpy_headers = numpy_include_directory()
    changed = 0
    for path in files:
        text = path.read_text(encoding="utf-8")
        if "/opt/python/" not in text:
            continue
        mended = FOREIGN_PYTHON.sub(python_headers, FOREIGN_NUMPY.sub(numpy_headers, text))
        if mended == text:
            continue
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        temporary.write_text(mended, encoding="utf-8")
        os.replace(temporary, path)
        changed += 1
    return changed


def main() -> int:
    """Mend the environment of the running interpreter; return the exit code."""
    if sys.prefix == sys.base_prefix:
        print(f"mend_wheels: {sys.executable} is not in a virtual environment. Run `make setup`.", file=sys.stderr)
        return 1
    try:
        changed = mend(Path(sys.prefix) / "share")
    except MendError as error:
        print(f"mend_wheels: {error}", file=sys.stderr)
        return 1
    print(f"mend_wheels: {changed} files mended")
    return 0


if __name__ == "__main__":
    sys.exit(main())
