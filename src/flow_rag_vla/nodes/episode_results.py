# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The folder of episode records: numbers that go on after a restart, one file an episode."""

from __future__ import annotations

from pathlib import Path

from flow_rag_vla.data.episode_record import EpisodeRecord, last_episode_id, record_path, write_record
from flow_rag_vla.nodes.runtime import StartError


class EpisodeResults:
    """Gives out episode numbers and writes records."""

    def __init__(self, folder: str) -> None:
        """Make the folder, and go on after the last number in it.

        Raises:
            StartError: if the folder cannot be made or read.
        """
        self.folder = Path(folder).expanduser()
        self.not_written = 0
        """Records that were lost to an error."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._last_id = last_episode_id(self.folder)
        except OSError as error:
            raise StartError(
                f"results_dir {str(self.folder)!r} cannot be used ({error.strerror}); name a folder that can be written"
            ) from error

    def next_id(self) -> int:
        """The number of a new episode."""
        self._last_id += 1
        return self._last_id

    def keep_free(self, episode_id: int) -> None:
        """Give this number to no new episode: it is that of one which has no record yet."""
        self._last_id = max(self._last_id, episode_id)

    def write(self, record: EpisodeRecord) -> Path:
        """Write a record; the whole path of its file.

        Raises:
            OSError: if it cannot be written; it is then counted in ``not_written``.
        """
        path = record_path(self.folder, record.episode_id)
        try:
            write_record(path, record)
            return path.resolve()
        except OSError:
            self.not_written += 1
            raise
