# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What every index promises: candidates for the nearest vectors, which the planner then compares exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.labeling.registry.index.matrix import Positions, Vectors

Allowed: TypeAlias = NDArray[np.bool_]
"""(N,) bool by position: what may be proposed."""


class CandidateIndex(Protocol):
    """Proposes positions of a matrix of unit vectors. Searches may run at once; what changes is called alone."""

    kind: str
    """The way it searches, in words."""

    @property
    def built_for(self) -> int:
        """How many vectors it was laid out for: one that grew to a multiple is built anew."""
        ...

    def add(self, positions: Positions, vectors: Vectors) -> None:
        """Take in vectors (N, D) under positions (N,) that the matrix just gave out."""
        ...

    def candidates(self, query: Vectors, count: int, allowed: Allowed, matching: int) -> Positions:
        """At most ``count`` positions that are allowed, those of the vectors nearest to a query (D,) among them.

        Args:
            query: (D,) of unit length.
            count: how many.
            allowed: which positions may be proposed.
            matching: how many of them are allowed, so that a rare filter is searched more widely.
        """
        ...

    def save(self, folder: Path) -> bool:
        """Write it to a new folder for ``load``; False where this kind is made anew each time."""
        ...

    def close(self) -> None:
        """Give back what it holds."""
        ...
