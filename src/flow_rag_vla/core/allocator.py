# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What the C library's allocator keeps for later."""

from __future__ import annotations

import contextlib
import ctypes


def give_back() -> None:
    """Give the system what was freed and is kept by glibc's allocator; nothing elsewhere.

    Each thread has a pool of its own there, which a large computation blows up and which stays as large afterwards.
    Takes some milliseconds, and allocations wait meanwhile: for after something rare, never for the path of an answer.
    """
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)
