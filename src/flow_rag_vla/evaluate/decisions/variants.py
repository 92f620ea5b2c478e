# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Named sources of corrections: what a person writes behind ``--memory``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flow_rag_vla.evaluate.decisions.memory import (
    CorrectionSource,
    LivingMemory,
    MemoryReplaySettings,
    NoMemory,
    RecordedMemory,
    copy_database,
)
from flow_rag_vla.evaluate.decisions.recording import DecisionRecording
from flow_rag_vla.memory.store import FailureStore

VARIANTS = ("on", "off", "recorded", "empty")

SNAPSHOT = "memory_before.db"
"""In a run folder: the failure memory as it was when the run began, if it was not empty."""


LARGEST_SNAPSHOT = 500_000_000
"""Bytes: a larger memory is not copied at every start."""


class VariantError(ValueError):
    """A variant that is not understood; the text says what is."""


@contextmanager
def open_variant(
    name: str, recording: DecisionRecording, settings: MemoryReplaySettings, database: str = ""
) -> Iterator[tuple[CorrectionSource, str]]:
    """Open one variant's source of corrections; give it with a sentence about what it is.

    Args:
        name: ``on`` (the memory of the run, living through it again), ``off``, ``recorded`` (what was said live),
            ``empty`` (a new memory that learns as the bag goes on), or the path of a database.
        recording: the bag.
        settings: of the memory.
        database: which the run used, as its parameters say; empty if unknown.

    Raises:
        VariantError: for a name that is none of these.
        StoreError: if a database cannot be read.
    """
    if name == "off":
        yield NoMemory(), "no memory: every embedding is answered with nothing"
    elif name == "recorded":
        yield RecordedMemory(recording), "the answers that the memory gave live"
    elif name == "empty":
        with LivingMemory(settings) as memory:
            yield memory, "a memory that starts empty and learns from the failures in the bag"
    elif name == "on":
        start = _start(recording, database)
        if start is None:
            text = "the answers that the memory gave live (its content at the start is not on record)"
            yield RecordedMemory(recording), text
            return
        with LivingMemory(settings, start or None) as memory:
            yield memory, f"the run's own memory, from {start or 'empty'} on"
    elif Path(name).expanduser().is_file():
        with LivingMemory(settings, name) as memory:
            yield memory, f"a copy of {name}"
    else:
        raise VariantError(f"memory {name!r} is not one of {', '.join(VARIANTS)}, and no database of that name exists")


def _start(recording: DecisionRecording, database: str) -> str | None:
    """Database that the run began with; empty if it began with none, None if that is not known."""
    run = recording.path.parent
    snapshot = run / SNAPSHOT
    if snapshot.is_file():
        return str(snapshot)
    # A memory in the run's own folder was made for the run.
    if database and Path(database).parent.name == run.name:
        return ""
    return None


def keep_snapshot(database: str | Path, run_folder: str | Path) -> bool:
    """Copy a memory into a run folder before the run, so that its answers can be made again; whether that was done.

    Raises:
        StoreError: if the copy cannot be written.
    """
    source = Path(database).expanduser()
    target = Path(run_folder) / SNAPSHOT
    if not source.is_file():
        # It is about to be created: the run begins with no case.
        FailureStore(target).close()
        return True
    if source.stat().st_size > LARGEST_SNAPSHOT:
        return False
    copy_database(source, target)
    return True
