# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""PyBullet worlds, their tasks, cameras, a scripted expert and a failure generator."""

from __future__ import annotations

import os
import sys


def _import_pybullet_quietly() -> None:
    # PyBullet greets with its build time on the C library's stderr, in the middle of our tables and logs.
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        import pybullet  # noqa: F401
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


_import_pybullet_quietly()
