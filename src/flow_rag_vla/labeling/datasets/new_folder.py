# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Folders that are either whole or absent: made under another name, synced, renamed."""

from __future__ import annotations

import fcntl
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from flow_rag_vla.labeling.datasets.errors import DatasetError, disk_checked

_UNFINISHED = ".unfinished-"
_LOCK, _NEW_LOCK = ".lock", ".lock-new"


@contextmanager
def new_folder(target: str | Path) -> Iterator[Path]:
    """Yield a folder to be filled; on success it becomes ``target``, on an error nothing is left.

    A process that is killed leaves its unfinished folder beside the target, under a name that no reader takes. The
    next one to write there removes it: it holds a lock that ends with its process.

    Raises:
        DatasetError: ``dataset_exists``, ``disk_full``, ``storage_failed``.
    """
    target = Path(target).expanduser()
    with disk_checked(target):
        if os.path.lexists(target):
            raise DatasetError(f"{target} exists already: choose another folder, or remove it", "dataset_exists")
        target.parent.mkdir(parents=True, exist_ok=True)
        _sweep(target.parent)
        unfinished = target.parent / f"{_UNFINISHED}{target.name[:80]}-{secrets.token_hex(6)}"
        unfinished.mkdir()
        # Locked before it has the name that others try: they must not find it unlocked while we are at work.
        lock = os.open(unfinished / _NEW_LOCK, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            (unfinished / _NEW_LOCK).rename(unfinished / _LOCK)
            yield unfinished
            _sync(unfinished)
            # rename() would replace an empty folder that came meanwhile: harmless. It fails on one that is not empty.
            unfinished.rename(target)
            (target / _LOCK).unlink()
            _sync_folder(target)
            _sync_folder(target.parent)
        finally:
            if unfinished.is_dir():
                shutil.rmtree(unfinished, ignore_errors=True)
            os.close(lock)


def _sweep(parent: Path) -> None:
    """Remove what killed processes left."""
    for left in parent.glob(f"{_UNFINISHED}*"):
        with suppress(OSError):
            lock = os.open(left / _LOCK, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left, ignore_errors=True)
            finally:
                os.close(lock)


def _sync(folder: Path) -> None:
    for place, _, files in os.walk(folder):
        for file in files:
            path = Path(place, file)
            if not path.is_symlink():
                descriptor = os.open(path, os.O_RDONLY)
                try:
                    os.fsync(descriptor)
                finally:
                    os.close(descriptor)
        _sync_folder(Path(place))


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
