# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""How a stage of training tells how far it is."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called by a stage as it goes on."""

    def __call__(self, done: int, total: int, note: str = "") -> None:
        """Report ``done`` of ``total`` units of work, with a few words beside them."""


def silent(done: int, total: int, note: str = "") -> None:
    """A progress callback that says nothing."""
