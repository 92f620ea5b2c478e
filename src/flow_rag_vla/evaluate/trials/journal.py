# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Results of trials on disk: one JSON line each, appended and synced before the next trial counts as done."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

from flow_rag_vla.evaluate.trials.protocol import TrialError, TrialResult, from_json, to_json


def read_trials(path: str | Path) -> list[TrialResult]:
    """The results in a journal; none if there is no such file.

    What follows the last newline was being written when the process died, and is left out.

    Raises:
        TrialError: for a whole line that holds no result, naming it.
    """
    return [result for result, _ in _lines(Path(path))]


class Journal:
    """An open journal. One process writes it; others may read at any time."""

    def __init__(self, path: str | Path) -> None:
        """Open a journal to go on with, cutting off a half-written last line.

        Raises:
            TrialError: for a file that is no journal, or that another process writes.
            OSError: if it cannot be written.
        """
        self.path = Path(path)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.results: dict[str, TrialResult] = {}
        """By the trial's key; the first of two equal ones counts."""
        self._descriptor = os.open(self.path, os.O_WRONLY | os.O_CREAT, 0o666)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            end = 0
            for result, offset in _lines(self.path):
                self.results.setdefault(result.trial.key, result)
                end = offset
            os.ftruncate(self._descriptor, end)
        except BlockingIOError:
            self.close()
            raise TrialError(f"{self.path} is being written by another run; wait for it or end it") from None
        except BaseException:
            self.close()
            raise
        os.lseek(self._descriptor, 0, os.SEEK_END)

    def append(self, result: TrialResult) -> None:
        """Keep a result; it is durable when this returns. A trial that is there already is left as it is.

        Raises:
            OSError: if the disk takes no more; the journal then ends with the line before.
        """
        if result.trial.key in self.results:
            return
        line = json.dumps(to_json(result), allow_nan=False, separators=(",", ":")).encode() + b"\n"
        start = os.lseek(self._descriptor, 0, os.SEEK_END)
        try:
            written = 0
            while written < len(line):
                written += os.write(self._descriptor, line[written:])
            os.fsync(self._descriptor)
        except OSError:
            os.ftruncate(self._descriptor, start)
            raise
        self.results[result.trial.key] = result

    def close(self) -> None:
        """Close the file. A second call does nothing."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def _lines(path: Path) -> Iterator[tuple[TrialResult, int]]:
    """Each result with the offset at which its line ends."""
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return
    end = 0
    for number, line in enumerate(content.splitlines(keepends=True), 1):
        if not line.endswith(b"\n"):
            return
        end += len(line)
        try:
            yield from_json(json.loads(line)), end
        except (TrialError, ValueError) as error:
            raise TrialError(
                f"{path}, line {number}: {error}; take the line out, its trial is then run again"
            ) from None
