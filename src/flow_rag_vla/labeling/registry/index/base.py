"""What every index promises: candidates for the nearest vectors, which the planner then compares exactly."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.labeling.registry.errors import ErrorCode, InvalidInputError
from flow_rag_vla.labeling.registry.index.matrix import Positions, VectorMatrix, Vectors

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


def make_index(kind: str, matrix: VectorMatrix, folder: Path) -> CandidateIndex:
    """An index over everything in a matrix.

    Args:
        kind: ``exact``, ``faiss`` or ``chroma``.
        matrix: the vectors; ``exact`` keeps referring to it.
        folder: where an index may keep files while it is open.

    Raises:
        InvalidInputError: an unknown kind, or one whose package is not installed.
    """
    if kind == "exact":
        from flow_rag_vla.labeling.registry.index.exact import ExactIndex

        return ExactIndex(matrix)
    if kind == "faiss":
        from flow_rag_vla.labeling.registry.index.faiss_ivf import FaissIndex

        return FaissIndex.built(matrix)
    if kind == "chroma":
        from flow_rag_vla.labeling.registry.index.chroma import ChromaIndex

        return ChromaIndex.built(matrix, folder)
    raise InvalidInputError(
        ErrorCode.INVALID_VALUE, f"there is no index {kind!r}", "choose one of exact, faiss and chroma"
    )


def load_index(kind: str, folder: Path, built_for: int) -> CandidateIndex | None:
    """The index that ``save`` wrote to a folder; None where there is none of this kind or it cannot be read."""
    if kind != "faiss":
        return None
    from flow_rag_vla.labeling.registry.index.faiss_ivf import FaissIndex

    return FaissIndex.loaded(folder, built_for)
