# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Where a graph writes that was given no run folder."""

from __future__ import annotations

import os
from datetime import datetime
from pathlib import Path

RUNS = "~/.ros/flow_rag_vla/runs"


def own_folder(namespace: str) -> Path:
    """A folder that no other graph has: by time, namespace, and the process that starts it. It is not made here.

    Graphs that shared one would number their episodes alike, and each overwrite what the other wrote.
    """
    parts = (datetime.now().strftime("%Y-%m-%d_%H-%M-%S"), namespace.strip("/").replace("/", "_"), str(os.getpid()))
    return Path(RUNS).expanduser() / "_".join(part for part in parts if part)
