# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What was counted of false alarms outside of the process: a detector that was killed must not forget it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from flow_rag_vla.core.files import replaced_file
from flow_rag_vla.failure.drift import WINDOW, DriftWatch

FORMAT = 1

UNUSABLE = ".unusable"
"""Ends the name under which a file is kept that holds no counts: it may be somebody's."""


class DriftFile:
    """A small file with one digit for each of the last success episodes: whether it raised an alarm.

    It is written after each of them, whole or not at all, and without waiting for a disk: at the end of an episode the
    rules of the next one are about to begin. One thread calls it.

    Args:
        path: the file; its folder is made. None: nothing is kept.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self.problem = ""
        """Why counts could not be read or kept, and what follows; empty if they could."""

    @property
    def path(self) -> Path | None:
        """The file."""
        return self._path

    def watch(self, monitor: str, rate: float) -> DriftWatch:
        """The watch as the process before left it.

        It begins anew where nothing was kept, or by another monitor or rate, whose alarms say nothing about this one. A
        file that holds no counts is moved aside, and ``problem`` says so.

        Args:
            monitor: what decides about alarms: revisions of the calibration and of what is fused with it.
            rate: nominal share of success episodes that raise an alarm, 0 to 1.

        Raises:
            ValueError: for a rate that is not between 0 and 1.
        """
        self.problem = ""
        fresh = DriftWatch(rate)
        if self._path is None:
            return fresh
        try:
            kept = json.loads(self._path.read_bytes())
            alarmed = _alarmed(kept)
        except FileNotFoundError:
            return fresh
        except OSError as error:
            self.problem = f"{self._path} cannot be read ({error.strerror}); false alarms are counted from 0"
            return fresh
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            self.problem = f"{self._path} holds no counts of false alarms ({error!r}); they begin at 0, {self._aside()}"
            return fresh
        if (kept["monitor"], kept["rate"]) != (monitor, rate):
            return fresh
        for one in alarmed[-WINDOW:]:
            fresh.add(one == "1")
        return fresh

    def keep(self, monitor: str, watch: DriftWatch) -> None:
        """Write what was counted."""
        if self._path is None:
            return
        alarmed = "".join("1" if one else "0" for one in watch.alarmed)
        text = json.dumps({"format": FORMAT, "monitor": monitor, "rate": watch.rate, "alarmed": alarmed})
        try:
            with replaced_file(self._path, synced=False) as temporary:
                temporary.write_text(f"{text}\n", encoding="utf-8")
        except OSError as error:
            self.problem = (
                f"{self._path} cannot be written ({error.strerror}); a detector that is started again would count its "
                "false alarms from 0: free space, or name another file by the parameter false_alarms_file"
            )
        else:
            self.problem = ""

    def _aside(self) -> str:
        assert self._path is not None
        other = self._path.with_name(self._path.name + UNUSABLE)
        try:
            self._path.replace(other)
        except OSError as error:
            return f"and it stays where it is ({error.strerror})"
        return f"and it is kept as {other}"


def _alarmed(kept: Any) -> str:
    """The digits of a file's content.

    Raises:
        ValueError, KeyError, TypeError: if it is not what ``keep`` writes.
    """
    if not isinstance(kept, dict) or kept["format"] != FORMAT:
        raise ValueError(f"expected an object of format {FORMAT}")
    alarmed, monitor, rate = kept["alarmed"], kept["monitor"], kept["rate"]
    if not isinstance(alarmed, str) or set(alarmed) - {"0", "1"}:
        raise ValueError("expected digits 0 and 1 under alarmed")
    if not isinstance(monitor, str) or not isinstance(rate, float):
        raise ValueError("expected a text under monitor and a number under rate")
    return alarmed
