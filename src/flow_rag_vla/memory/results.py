"""How a memory is set, and what it answers."""

from __future__ import annotations

from dataclasses import dataclass

from flow_rag_vla.memory.case import credit
from flow_rag_vla.memory.store import CaseSummary


@dataclass(frozen=True, slots=True)
class MemorySettings:
    """How a memory searches, forgets and refuses. See the failure memory node's parameters for each."""

    k: int = 5
    threshold: float = 0.9
    calibrate: bool = True
    false_retrieval_rate: float = 0.05
    capacity: int = 10_000
    duplicate_similarity: float = 0.98
    duplicate_action_distance: float = 0.15
    cache_size: int = 256
    seed: int = 0


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
    """Whether a case was stored. ``case_id`` is its id, or that of the case that it is a duplicate of."""

    accepted: bool
    case_id: int = 0
    message: str = ""
    pruned: tuple[int, ...] = ()
