# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Failures, and how the memory answered each of them."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from flow_rag_vla.core.action import CorrectionMode
from flow_rag_vla.core.failure import Evidence

KEPT = 200
GAP_NS = 1_000_000_000
"""Uses of the memory that are further apart are two answers."""

SHOWN_CASES = 5

_ACTING = frozenset(CorrectionMode) - {CorrectionMode.NONE, CorrectionMode.TIMEOUT}


@dataclass(frozen=True, slots=True)
class FailureSeen:
    """A failure as the detector told it."""

    stamp_ns: int
    episode_id: int
    kind: str
    task: str
    phase: str
    detector: str
    description: str
    confidence: float
    evidence: tuple[Evidence, ...] = ()


@dataclass
class Answer:
    """A stretch in which the memory shaped what was done, without a pause of more than ``GAP_NS``."""

    number: int
    episode_id: int
    mode: CorrectionMode
    start_ns: int
    end_ns: int
    uses: int = 0
    """Observations whose actions it shaped; each comes once in a chunk and several times in commands."""
    newest_ns: int = -1
    strength: float = 0.0
    cases: Counter[int] = field(default_factory=Counter)
    similarity: float | None = None

    def view(self) -> dict[str, Any]:
        """For the page."""
        return {
            "kind": "answer",
            "id": self.number,
            "episode": self.episode_id,
            "mode": self.mode.name.lower(),
            "t": self.start_ns / 1e6,
            "end": self.end_ns / 1e6,
            "uses": self.uses,
            "strength": self.strength,
            "cases": [case_id for case_id, _ in self.cases.most_common(SHOWN_CASES)],
            "more_cases": max(len(self.cases) - SHOWN_CASES, 0),
            "similarity": self.similarity,
        }


@dataclass
class _Failure:
    number: int
    seen: FailureSeen
    answer: Answer | None = None

    def view(self) -> dict[str, Any]:
        seen = self.seen
        return {
            "kind": "failure",
            "id": self.number,
            "episode": seen.episode_id,
            "t": seen.stamp_ns / 1e6,
            "type": seen.kind,
            "task": seen.task,
            "phase": seen.phase,
            "detector": seen.detector,
            "description": seen.description,
            "confidence": seen.confidence,
            "evidence": [
                {"name": item.name, "value": item.value, "threshold": item.threshold, "unit": item.unit}
                for item in seen.evidence
            ],
            "answer": None if self.answer is None else self.answer.view(),
        }


class Timeline:
    """The newest ``KEPT`` failures and answers. One thread at a time; ``revision`` rises with every change."""

    def __init__(self) -> None:
        self._entries: deque[_Failure | Answer] = deque(maxlen=KEPT)
        self._numbers = count(1)
        self._current: Answer | None = None
        self._open: list[_Failure] = []
        self._similar: deque[tuple[int, float]] = deque(maxlen=64)
        self._episode_id = 0
        self.revision = 0

    def episode(self, episode_id: int) -> None:
        """Another episode begins: what failed in the one before stays unanswered."""
        if episode_id != self._episode_id:
            self._episode_id, self._current = episode_id, None
            self._open.clear()

    def failure(self, seen: FailureSeen) -> None:
        """A failure was detected. It may be heard of before its episode is."""
        self.episode(seen.episode_id)
        entry = _Failure(next(self._numbers), seen)
        self._entries.append(entry)
        self._open.append(entry)
        self._current = None
        self.revision += 1

    def retrieved(self, observation_ns: int, similarities: Iterable[float]) -> None:
        """How similar the cases are that a search brought up for one observation."""
        best = max(similarities, default=None)
        if best is not None:
            self._similar.append((observation_ns, best))

    def used(self, stamp_ns: int, mode: CorrectionMode, strength: float, case_ids: tuple[int, ...]) -> None:
        """What the provenance of a chunk or a command says of the memory's part in it.

        ``stamp_ns`` is when the observation was captured that the memory answered: what was seen before a failure does
        not answer it, however late it acts.
        """
        if mode not in _ACTING:
            return
        answer = self._current
        if answer is None or answer.mode is not mode or stamp_ns - answer.end_ns > GAP_NS:
            answer = Answer(next(self._numbers), self._episode_id, mode, stamp_ns, stamp_ns)
            self._entries.append(answer)
            self._current = answer
        answer.end_ns = max(answer.end_ns, stamp_ns)
        answer.strength = max(answer.strength, strength)
        if stamp_ns > answer.newest_ns:
            answer.newest_ns, answer.uses = stamp_ns, answer.uses + 1
            answer.cases.update(case_ids)
        similar = next((value for stamp, value in reversed(self._similar) if stamp == stamp_ns), None)
        if similar is not None:
            answer.similarity = max(similar, answer.similarity if answer.similarity is not None else similar)
        for entry in self._open:
            if entry.seen.stamp_ns <= stamp_ns:
                entry.answer = answer
        self._open = [entry for entry in self._open if entry.answer is None]
        self.revision += 1

    def view(self) -> list[Mapping[str, Any]]:
        """For the page, newest first."""
        return [entry.view() for entry in reversed(self._entries)]
