# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Files that are either whole or absent."""

from __future__ import annotations

import errno
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from flow_rag_vla.core.parameters import ParameterError

OFF = "off"
"""Setting of a file that is not to be kept."""


@contextmanager
def replaced_file(path: str | Path, *, synced: bool = True) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; on success it is synced and renamed to it.

    A crash or an exception leaves the old file, if any, as it was. A folder that takes no files, such as /proc, is a
    ``PermissionError``.

    synced: False does not wait for the disk: a process that dies loses nothing, a machine that loses its power may
        leave an empty file.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Not mkstemp, whose files only their owner may read: these follow the umask like any other.
    temporary = target.parent / f".{target.name}.{secrets.token_hex(6)}{target.suffix}"
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))
    except FileNotFoundError as error:
        # The folder is there: one of a file system that takes no files, such as /proc.
        raise PermissionError(errno.EPERM, "no file can be made there", str(target)) from error
    try:
        yield temporary
        if synced:
            with temporary.open("rb") as stream:
                os.fsync(stream.fileno())
        temporary.replace(target)
        if synced:
            _sync_folder(target.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: str | Path, text: str) -> None:
    """Replace a text file as a whole."""
    with replaced_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def state_file(name: str, setting: str, domain: str, namespace: str) -> Path | None:
    """The file in which a node keeps something for the process that is started after it.

    Args:
        name: of what is kept.
        setting: a path; empty: one in ``~/.ros`` for this domain and namespace; ``off``: none.
        domain: number of the ROS domain, "0" by default.
        namespace: the node's, with or without slashes.

    Raises:
        ParameterError: if no home folder is known, as in a container whose user has none.
    """
    if setting == OFF:
        return None
    whole = "_".join([name, domain or "0", *(part for part in namespace.split("/") if part)])
    try:
        return Path(setting).expanduser() if setting else Path("~/.ros/flow_rag_vla").expanduser() / whole
    except RuntimeError as error:
        raise ParameterError(
            f"parameter {name}_file: no home folder is known ({error}); set HOME, or the parameter to an absolute path "
            f"or to {OFF!r}"
        ) from None


def file_revision(*paths: str | Path) -> str:
    """First 12 hex digits of the SHA-256 over the bytes of the files, in the order given."""
    digest = hashlib.sha256()
    for path in paths:
        digest.update(Path(path).read_bytes())
    return digest.hexdigest()[:12]


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
