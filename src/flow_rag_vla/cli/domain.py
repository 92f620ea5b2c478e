# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A ROS domain of one's own, for a command whose graph is nobody else's."""

from __future__ import annotations

import fcntl
import os
import tempfile
from pathlib import Path

import typer

_LAST_DOMAIN = 101
"""Higher ones use ports that Linux hands out to others."""


def own_domain() -> None:
    """Keep the graph of a trial apart from others, unless the caller chose a domain.

    A domain is claimed by a lock on a file, as the tests claim theirs, and is free again when this process ends.
    """
    os.environ.setdefault("ROS_AUTOMATIC_DISCOVERY_RANGE", "LOCALHOST")
    if "ROS_DOMAIN_ID" in os.environ:
        return
    folder = Path(tempfile.gettempdir()) / f"flow_rag_vla_test_domains_{os.getuid()}"
    folder.mkdir(exist_ok=True)
    for domain in range(_LAST_DOMAIN, 0, -1):
        lock = os.open(folder / str(domain), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        os.environ["ROS_DOMAIN_ID"] = str(domain)
        return
    raise typer.BadParameter(f"every ROS domain is claimed by a lock in {folder}; choose one by ROS_DOMAIN_ID")
