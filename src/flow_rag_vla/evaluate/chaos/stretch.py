# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A stretch of steady time."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Stretch:
    """From when to when, steady nanoseconds."""

    start_ns: int
    end_ns: int

    def overlap_ns(self, other: Stretch) -> int:
        """How much both have in common."""
        return max(0, min(self.end_ns, other.end_ns) - max(self.start_ns, other.start_ns))
