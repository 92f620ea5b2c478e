# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A yes or no of whoever sits at the terminal, in time. Anything but a clear yes is none."""

from __future__ import annotations

import os
import select
import sys
import threading
import time

from rich.console import Console

_LOOK_S = 0.1
"""How often it is looked whether the question was withdrawn."""

_YES = ("y", "yes", "네", "예")


def somebody_there(console: Console) -> bool:
    """Whether questions can be asked here: they are seen, and answers are typed."""
    return console.is_terminal and sys.stdin is not None and sys.stdin.isatty()


def said_yes(console: Console, question: str, seconds: float, withdrawn: threading.Event | None = None) -> bool | None:
    """Ask, and wait for a line.

    What was typed before the question is thrown away: it answers something else.

    Args:
        console: where the question goes.
        question: in a few words, without a question mark.
        seconds: to wait.
        withdrawn: ends the wait.

    Returns:
        Whether it was a yes; None if nothing was said in time, or the question was withdrawn.
    """
    descriptor = sys.stdin.fileno()
    _forget_typed(descriptor)
    console.print(f"{question}? \\[y/N, {seconds:.0f} s] ", end="", highlight=False)
    sys.stdout.flush()
    ends, line = time.monotonic() + seconds, b""
    while not line.endswith(b"\n"):
        left = ends - time.monotonic()
        if left <= 0.0 or (withdrawn is not None and withdrawn.is_set()):
            console.print()
            return None
        if select.select([descriptor], [], [], min(left, _LOOK_S))[0]:
            typed = os.read(descriptor, 1024)
            if not typed:
                # The terminal is gone.
                console.print()
                return False
            line += typed
    return line.decode("utf-8", "replace").strip().lower() in _YES


def _forget_typed(descriptor: int) -> None:
    try:
        import termios

        termios.tcflush(descriptor, termios.TCIFLUSH)
    except (ImportError, OSError):
        # No terminal of this kind: then nothing was typed ahead.
        return
