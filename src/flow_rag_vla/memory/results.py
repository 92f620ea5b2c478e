# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""How a memory is set, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass, field

from flow_rag_vla.memory.case import credit
from flow_rag_vla.memory.credit import CreditSettings
from flow_rag_vla.memory.guard import GuardSettings
from flow_rag_vla.memory.ledger import SUCCESSES_KEPT
from flow_rag_vla.memory.store import CaseSummary


@dataclass(frozen=True, slots=True)
class MemorySettings:
    """How a memory searches, forgets and refuses. See the failure memory node's parameters for each.

    origin: this robot's name in credits and histories
    """

    k: int = 5
    threshold: float = 0.9
    calibrate: bool = True
    false_retrieval_rate: float = 0.05
    capacity: int = 10_000
    duplicate_similarity: float = 0.98
    duplicate_action_distance: float = 0.15
    cache_size: int = 256
    seed: int = 0
    origin: str = ""
    contradiction_distance: float = 0.5
    successes_kept: int = SUCCESSES_KEPT
    credit: CreditSettings = field(default_factory=CreditSettings)
    guard: GuardSettings = field(default_factory=GuardSettings)


@dataclass(frozen=True, slots=True)
class RetrievedCase:
    """A case that a search brought up."""

    summary: CaseSummary
    similarity: float

    @property
    def case_id(self) -> int:
        """Id of the case."""
        return self.summary.case_id

    @property
    def credit(self) -> float:
        """Posterior mean chance that using it helps."""
        return credit(self.summary.uses, self.summary.successes)


@dataclass(frozen=True, slots=True)
class SearchResult:
    """Cases at or above the threshold, most similar first."""

    cases: tuple[RetrievedCase, ...]
    threshold: float
    search_ms: float
    from_cache: bool


@dataclass(frozen=True, slots=True)
class AddResult:
    """Whether a case was stored and may act.

    ``case_id`` is its id, or that of the case that it is a duplicate of. One that the guard stopped, or that lost
    against a case which it contradicts, is not accepted but kept, retired, under its id.
    """

    accepted: bool
    case_id: int = 0
    message: str = ""
    pruned: tuple[int, ...] = ()
