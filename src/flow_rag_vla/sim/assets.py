# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Finds the package's own robot and furniture descriptions, from a checkout or from an installation."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pybullet_data

_DATA_PREFIX = "package://pybullet_data"


class AssetError(FileNotFoundError):
    """A description file is not where a checkout or an installation keeps it."""


def asset_path(name: str) -> Path:
    """Path of ``urdf/<name>``.

    Raises:
        AssetError: naming every folder that was searched.
    """
    package = Path(__file__).resolve().parents[1]
    # A checkout keeps urdf/ two folders above the package; colcon and pip install it to share/ of a prefix that
    # lies somewhere above site-packages, or of the interpreter itself.
    folders = [package.parents[1] / "urdf"]
    folders += [parent / "share" / "flow_rag_vla" / "urdf" for parent in (*package.parents, Path(sys.prefix))]
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    searched = ", ".join(str(folder) for folder in folders)
    raise AssetError(f"{name!r} was found in none of {searched}; reinstall flow_rag_vla or run from a checkout")


@contextmanager
def resolved_urdf(name: str) -> Iterator[str]:
    """Yield the path of a copy of ``urdf/<name>`` whose mesh paths are absolute.

    PyBullet looks for meshes beside the description only, and the Panda's meshes belong to pybullet_data.
    """
    text = asset_path(name).read_text(encoding="utf-8")
    if _DATA_PREFIX not in text:
        yield str(asset_path(name))
        return
    with tempfile.TemporaryDirectory(prefix="flow_rag_vla-") as folder:
        resolved = Path(folder) / name
        resolved.write_text(text.replace(_DATA_PREFIX, pybullet_data.getDataPath()), encoding="utf-8")
        yield str(resolved)
