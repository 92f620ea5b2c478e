# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Where ROS keeps the log files of a process.

rcl makes the folder as a process initialises ROS, and ends it where that fails: with a home that cannot be written, as
containers and shared machines have, nothing would start.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping, MutableMapping
from pathlib import Path

LOG_FOLDER = "ROS_LOG_DIR"
"""Names the folder. Without it rcl takes ``log`` in ``ROS_HOME``, and without that one ``~/.ros/log``."""

_HOME = "ROS_HOME"


def choose_log_folder(environment: MutableMapping[str, str]) -> None:
    """Have ROS log below the temporary folder, unless its own folder can be written or somebody named another.

    Args:
        environment: of this process, before it initialises ROS; the variable is set in it.
    """
    if environment.get(LOG_FOLDER) or _writable(_usual(environment)):
        return
    # A user's own: another user's folder of one name for all could not be written either.
    environment[LOG_FOLDER] = str(Path(tempfile.gettempdir()) / f"ros_log_{os.getuid()}")


def _usual(environment: Mapping[str, str]) -> Path:
    home = environment.get(_HOME)
    return (Path(home) if home else Path(environment.get("HOME", "/")) / ".ros") / "log"


def _writable(folder: Path) -> bool:
    """Whether files can be made in the folder, or it can be made itself."""
    nearest = next(place for place in (folder, *folder.parents) if place.exists() or place == place.parent)
    return nearest.is_dir() and os.access(nearest, os.W_OK | os.X_OK)
