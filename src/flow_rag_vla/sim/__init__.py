"""PyBullet worlds, their tasks, cameras, a scripted expert and a failure generator."""

from __future__ import annotations

import ctypes
import os
import sys


def _import_pybullet_quietly() -> None:
    # PyBullet greets with its build time on the C library's stdout, in the middle of tables and JSON.
    sys.stdout.flush()
    library = ctypes.CDLL(None)
    library.fflush(None)
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 1)
        import pybullet  # noqa: F401

        library.fflush(None)
    finally:
        os.dup2(kept, 1)
        os.close(kept)
        os.close(nowhere)


_import_pybullet_quietly()
