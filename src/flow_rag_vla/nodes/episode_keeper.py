# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Keeps the running episode on disk, so that an episode manager which is started again can go on with it."""

from __future__ import annotations

from pathlib import Path

from rclpy.node import Node

from flow_rag_vla.data.running_episode import (
    FILE,
    Asked,
    Course,
    Marks,
    Moment,
    RunningEpisode,
    RunningEpisodeError,
    read_running,
    remove_leftovers,
    write_running,
)
from flow_rag_vla.nodes.complaints import Complaints


class EpisodeKeeper:
    """One file in the folder of the records. Every method on the executor's thread.

    found: what the process before this one left, None if that is nothing that can be read
    """

    def __init__(self, node: Node, folder: Path) -> None:
        self._node, self._path = node, folder / FILE
        self._complain = Complaints(node.get_logger())
        self.not_written = 0
        """How often an episode could not be written down: it would end with this process."""
        self.found: RunningEpisode | None = None
        try:
            remove_leftovers(self._path)
            self.found = read_running(self._path)
        except (OSError, RunningEpisodeError) as error:
            self._complain(f"an episode that ran before this start is not gone on with: {error}")

    def now(self) -> Moment:
        """The present moment."""
        return Moment.now(int(self._node.get_clock().now().nanoseconds))

    def keep(
        self, asked: Asked, marks: Marks, course: Course | None, *, result_file: str = "", synced: bool = True
    ) -> None:
        """Write down how far an episode is; what cannot be written is logged, and the episode goes on.

        What stands there from before is taken away then: it may say that an episode runs which is over, or was not
        even begun.
        """
        try:
            write_running(self._path, RunningEpisode(self.now(), asked, marks, course, result_file), synced=synced)
        except OSError as error:
            self.not_written += 1
            self._complain(
                f"the running episode is not kept in {self._path} ({error}); it would end if this node were started "
                "again: see to the disk"
            )
            self.forget()

    def forget(self) -> None:
        """There is nothing to go on with."""
        try:
            self._path.unlink(missing_ok=True)
        except OSError as error:
            self._complain(f"{self._path} cannot be removed: {error}")
