# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Which index proposes the candidates: by name. A kind whose package may be missing is imported when it is chosen."""

from __future__ import annotations

from pathlib import Path

from flow_rag_vla.labeling.registry.errors import ErrorCode, InvalidInputError
from flow_rag_vla.labeling.registry.index.base import CandidateIndex
from flow_rag_vla.labeling.registry.index.exact import ExactIndex
from flow_rag_vla.labeling.registry.index.matrix import VectorMatrix


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
