# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The emergency stop's latch outside of the process: a controller that was killed must not forget it."""

from __future__ import annotations

import os
from pathlib import Path

from flow_rag_vla.core.files import state_file


class StopLatch:
    """A file that is there while the emergency stop is latched.

    It is made without waiting for a disk: a process that dies loses nothing that it wrote, and a machine that loses its
    power has stopped the robot as well. That it is there says it all, so a full disk does no harm; the words in it say
    why. One thread calls it.

    Args:
        path: the file; its folder is made. None: nothing is kept.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.problem = ""
        """Why the latch could not be kept or removed, and what follows; empty if it could."""

    @property
    def path(self) -> Path | None:
        """The file."""
        return self._path

    def read(self) -> str | None:
        """Why it is latched, or None if it is not.

        A file that cannot be looked at counts as latched.
        """
        if self._path is None:
            return None
        try:
            return self._path.read_text(encoding="utf-8", errors="replace").strip() or "the reason was not kept"
        except FileNotFoundError:
            return None
        except OSError as error:
            return f"{self._path} cannot be read: {error.strerror}"

    def keep(self, reason: str) -> None:
        """Latch: make the file, with the reason in it. Never raises; see ``problem``."""
        self.problem = ""
        if self._path is None:
            return
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with self._path.open("w", encoding="utf-8") as stream:
                stream.write(reason)
        except OSError as error:
            # Not Path.exists, which raises for a folder that may not be looked into.
            if not os.path.exists(self._path):
                self.problem = (
                    f"{self._path} cannot be made: {error.strerror}; a controller that is started again would not "
                    "know of the emergency stop"
                )

    def remove(self) -> None:
        """Release: remove the file. Never raises; see ``problem``."""
        self.problem = ""
        if self._path is None:
            return
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            self.problem = (
                f"{self._path} cannot be removed: {error.strerror}; a controller that is started again would begin "
                "with the emergency stop"
            )


def latch_file(setting: str, domain: str, namespace: str) -> Path | None:
    """The file that a setting names.

    Args:
        setting: a path; empty: one in ``~/.ros`` for this domain and namespace; ``off``: none.
        domain: number of the ROS domain, "0" by default.
        namespace: the controller's, with or without slashes.
    """
    return state_file("emergency_stop", setting, domain, namespace)
