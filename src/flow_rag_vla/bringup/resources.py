# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Finds launch files, parameter files and models, in a source checkout and installed."""

from __future__ import annotations

import os
import sysconfig
from pathlib import Path

PACKAGE = "flow_rag_vla"


def share_folder() -> Path:
    """The folder that holds ``config/``, ``launch/`` and ``urdf/``.

    Raises:
        FileNotFoundError: naming the places that were looked at.
    """
    places = [Path(__file__).resolve().parents[3]]
    prefixes = [prefix for prefix in os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep) if prefix]
    prefixes.append(sysconfig.get_path("data"))
    places += [Path(prefix) / "share" / PACKAGE for prefix in prefixes]
    for place in places:
        if (place / "config" / "flow_rag_vla.yaml").is_file():
            return place
    looked = ", ".join(str(place) for place in places)
    raise FileNotFoundError(f"config/flow_rag_vla.yaml of {PACKAGE} is in none of: {looked}; build the package again")


def default_params_file() -> Path:
    """The parameter file that ships."""
    return share_folder() / "config" / "flow_rag_vla.yaml"


def robots_folder() -> Path:
    """The folder of the robot profiles that ship."""
    return share_folder() / "config" / "robots"


def policies_folder() -> Path:
    """The folder of the contracts with policy servers that ship."""
    return share_folder() / "config" / "policies"
