# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Plans that wait for a person, as long as they do."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Reviews:
    """Belongs to one thread. Times are on a steady clock."""

    def __init__(self) -> None:
        self._waiting: dict[str, tuple[float, Mapping[str, Any]]] = {}

    def asked(self, name: str, view: Mapping[str, Any], ends_s: float) -> None:
        """A plan waits until then; said again, only the last counts."""
        self._waiting[name] = ends_s, view

    def closed(self, name: str) -> None:
        """It was answered, withdrawn or held."""
        self._waiting.pop(name, None)

    def waiting(self, now_s: float) -> list[Mapping[str, Any]]:
        """What still waits, the oldest first. That a plan no longer does may get lost; its time is then up."""
        self._waiting = {name: one for name, one in self._waiting.items() if one[0] > now_s}
        return [view for _, view in self._waiting.values()]
