# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What similar situations agree on: what was right where the policy failed, and what was done where it went well.

One remembered failure says little: its correction was right for another place of the object, and the same situation may
have gone well ten times. So the memory answers like a regression over everything it knows nearby, failures with their
corrections and successes with what was done in them alike. Let ``w_i = similarity_i ** sharpness`` be the weight of a
stored situation:

- mass of failures ``F = sum w_i trust_i`` over cases, mass of successes ``S = sum w_j`` over the stored successes;
- confidence ``F / (F + S)``: the chance that a situation of this kind is one that failed (Nadaraya 1964, Watson 1964);
- answer: kernel ridge regression, with the cosine k of two keys as its kernel (a Gaussian one of their distance, so
  this is the posterior mean of a Gaussian process; Rasmussen and Williams 2006, equation 2.23):
  ``m + k (K + ridge / trust)^-1 (Y - m)`` over the nearest cases' corrections and successes' chunks Y, with their mean
  m weighted by similarity. It is held within what those chunks do, so it never goes beyond what was done.

A mean alone lags behind wherever the right action changes across the neighbourhood, as it does on the way to a handle.
And what lies between two acts is neither: half a descent and half a closing hand is a hand that closes above the thing.
So chunks are taken apart by when they close the hand, and only those are asked that do what most of the regression's
weight does.

Some failures have another cause: the policy does the right thing at the wrong place, because it misreads where the
target is. Their cases know by how much (``FailureCase.misreading``), and there a chunk is the wrong thing to remember:
a grasp from above wants millimetres, which neighbouring chunks do not keep, while the misreading hardly changes across
the neighbourhood. Where such cases carry most of the failures' mass the answer is a SHIFT: the same regression over
their misreadings, with 0 as its mean, so that what is far from everything known is left where it was read.

Nothing is said where little is known (``F`` small) or where next to nothing failed (confidence below the gate). Where
failures and successes lie together no gate is needed: what is said there is between what went well and what was right.
A gate above the lowest confidence is conformal: of stored successes, each judged without its own episode, at most a
stated share would have passed.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.action import ACTION_DIM, CLOSED_BELOW, GRIPPER, CorrectionMode
from flow_rag_vla.core.correction import Correction
from flow_rag_vla.memory.calibration import conformal_threshold
from flow_rag_vla.memory.case import Array, EncoderStamp, FailureCase
from flow_rag_vla.memory.ledger import Successes, SuccessPlace
from flow_rag_vla.memory.memory import FailureMemory
from flow_rag_vla.memory.misreadings import FARTHEST, kernel, shifts, trust
from flow_rag_vla.memory.results import SearchResult

NAMED = 32
"""Most similar cases that an answer names, and that are credited for it: the others hardly have a say."""

UNJUDGED = 2.0
"""A gate that no confidence reaches: of a place whose successes are known and not judged yet."""


@dataclass(frozen=True, slots=True)
class ConsensusSettings:
    """How the memory is asked.

    neighbours: cases looked at, and as many successes
    sharpness: power to which similarities are raised; with a Gaussian key of width h, p means a width of h / sqrt(p).
        It decides where the memory speaks at all: with 2.5 it led the arm where it knew nothing, see "A wider kernel"
        in docs/proof_history.md
    ridge: noise of a single chunk, as variance beside that of what is right across situations; the more, the more the
        answer is a mean over the neighbourhood
    confidence: lowest confidence that passes, whatever the successes say
    mass: smallest mass of failures: one case of similarity 0.875 has it alone, or ten of 0.72. With a quarter of it
        one case of 0.78 led the arm where it knew nothing, see docs/proof.md
    false_retrieval_rate: share of successes, at most, that may pass; 1: all that reach the confidence
    minimum_credit: cases with less credit have no say
    until: share of the flow during which the correction guides; 1 because an offset of the policy must be overcome
    misread: share of the failures' mass from which on what they say is a misreading; above 1: never, 0: nothing else
    by_act: whether chunks that close the hand at other moments are other acts; False where a chunk's last column is no
        gripper

    The defaults were chosen on development seeds; see what was tried in docs/proof_history.md. With a gate at 15 % of
    the successes, and cases alone in the answer, the first approach to a handle was left alone because handles of
    another size had gone well from there, and the hand missed before the memory spoke.
    """

    neighbours: int = 64
    sharpness: float = 12.0
    ridge: float = 0.3
    confidence: float = 0.01
    mass: float = 0.2
    false_retrieval_rate: float = 1.0
    minimum_credit: float = 0.2
    until: float = 1.0
    misread: float = 0.5
    by_act: bool = True

    def __post_init__(self) -> None:
        """Refuse what makes no sense."""
        for name, low, high in (
            ("neighbours", 1, 1024),
            ("sharpness", 0.1, 100.0),
            ("ridge", 1e-3, 1e6),
            ("confidence", 0.0, 1.0),
            ("mass", 0.0, 1e6),
            ("false_retrieval_rate", 1e-6, 1.0),
            ("minimum_credit", 0.0, 1.0),
            ("until", 0.0, 1.0),
            ("misread", 0.0, 2.0),
        ):
            value = getattr(self, name)
            if not low <= value <= high:
                raise ValueError(f"{name} is {value}, expected {low} to {high}")


@dataclass(frozen=True, slots=True)
class Consensus:
    """An answer and what it rests on. failures, successes: masses; gate: confidence that had to be reached.

    shares: of each of the correction's cases, in the order of its ids, how much of the answer is its own; what they
        lack to 1 is that of the successes
    """

    correction: Correction
    found: SearchResult
    confidence: float
    gate: float
    failures: float
    successes: float
    shares: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class _Place:
    """The stored successes of a task and phase, (N, D) and what was done in each, and the gate there."""

    vectors: Array
    actions: tuple[Array, ...]
    gate: float


@dataclass(frozen=True, slots=True)
class _Known:
    """Situations (N, D) of which it is known what to do, (N, H, 7), and how far each is trusted, (N,) 0 to 1."""

    vectors: Array
    chunks: Array
    trusts: NDArray[np.float64]

    def of(self, rows: NDArray[np.bool_]) -> _Known:
        """Some of them, (N,) bool."""
        return _Known(self.vectors[rows], self.chunks[rows], self.trusts[rows])

    def joined(self, other: _Known) -> _Known:
        """Both together."""
        if len(other.vectors) == 0:
            return self
        return _Known(
            np.concatenate([self.vectors, other.vectors]),
            np.concatenate([self.chunks, other.chunks]),
            np.concatenate([self.trusts, other.trusts]),
        )


@dataclass(frozen=True, slots=True)
class _Witnesses:
    """Cases that may have a say, most similar first, what each weighs, (N,), and how far it is trusted, (N,) 0 to 1."""

    cases: tuple[FailureCase, ...]
    weights: NDArray[np.float64]
    trusts: NDArray[np.float64]

    @property
    def named(self) -> tuple[int, ...]:
        """Ids of those that an answer names."""
        return tuple(case.case_id for case in self.cases[:NAMED])

    @property
    def misread(self) -> _Witnesses | None:
        """Those that a misread place explains; None if there is none."""
        return self._picked([row for row, case in enumerate(self.cases) if case.misreading is not None])

    @property
    def corrected(self) -> _Witnesses | None:
        """Those of which it is known what would have been right; None if there is none."""
        return self._picked([row for row, case in enumerate(self.cases) if case.correction is not None])

    def of(self, rows: list[int]) -> _Witnesses:
        """Some of them."""
        return _Witnesses(tuple(self.cases[row] for row in rows), self.weights[rows], self.trusts[rows])

    def _picked(self, rows: list[int]) -> _Witnesses | None:
        return self.of(rows) if rows else None


class ConsensusMemory:
    """Asks a failure memory for the consensus at a situation. Any number of threads may ask."""

    def __init__(
        self, memory: FailureMemory, settings: ConsensusSettings | None = None, *, deferred: bool = False
    ) -> None:
        """Ask this memory; it may grow meanwhile.

        deferred: answers never judge the stored successes, which may take a second. They use what the last ``renew``
            found, and a place that it did not know is left alone until the next.
        """
        self._memory = memory
        self.settings = settings or ConsensusSettings()
        self._deferred = deferred
        self._lock = threading.Lock()
        self._renewed: tuple[int, ConsensusSettings] | None = None
        self._places: dict[tuple[str, str], _Place] = {}
        self._successes: Successes = {}
        self._wanted: set[tuple[str, str]] = set()

    def answer(self, key: Array, *, stamp: EncoderStamp, task: str, phase: str, stamp_ns: int) -> Consensus:
        """What to do in a situation.

        Args:
            key: (D,) float32 of unit length, of the kind that the memory holds.
            stamp: whose key it is.
            task: only cases and successes of this task.
            phase: only those of this phase.
            stamp_ns: of the observation; the correction's stamp.

        Returns:
            GUIDANCE toward the consensus, or SHIFT of the target, with the cases used, most similar first; NONE where
            there is neither.

        Raises:
            EncoderMismatchError: if the cases were made with another key.
            CaseError: if the key has another dimension.
        """
        settings = self.settings
        found = self._memory.search(key, stamp=stamp, k=settings.neighbours, threshold=FARTHEST, task=task, phase=phase)
        said = self._witnesses(found)
        if said is None:
            return Consensus(Correction(stamp_ns), found, 0.0, settings.confidence, 0.0, 0.0)
        place = self._place(task, phase, stamp)
        alike = place.vectors @ key
        failures = float(said.weights.sum())
        successes = float(self._weights(alike).sum())
        confidence = failures / max(failures + successes, 1e-12)
        correction, shares = Correction(stamp_ns), np.zeros(0)
        if failures >= settings.mass and confidence >= place.gate:
            if said.misread is not None and float(said.misread.weights.sum()) >= settings.misread * failures:
                correction, shares = self._shift(stamp_ns, key, said.misread), said.misread.weights / failures
            elif settings.misread > 0.0 and (right := said.corrected) is not None:
                near = _nearest(place, alike, right.cases[0].horizon, settings.neighbours)
                correction, shares = self._guidance(stamp_ns, key, right, near)
                shares = shares / (failures + successes)
        return Consensus(correction, found, confidence, place.gate, failures, successes, tuple(shares[:NAMED].tolist()))

    def gate(self, task: str, phase: str, stamp: EncoderStamp) -> float:
        """The confidence that has to be reached for a task and phase."""
        return self._place(task, phase, stamp).gate

    @property
    def stale(self) -> bool:
        """Whether the memory or the settings have changed since the gates were judged."""
        return self._renewed != (self._memory.generation, self.settings) or not self._wanted <= self._places.keys()

    def renew(self, stamp: EncoderStamp) -> None:
        """Judge the stored successes of every place anew; one thread does this, others may ask meanwhile.

        Raises:
            StoreError: if they cannot be read; the gates are as they were then.
        """
        moment = self._memory.generation, self.settings
        successes = self._memory.successes(stamp)
        places = {
            (task, phase): self._judged(successes, task, phase, stamp)
            for task, phase in {*successes, *tuple(self._wanted)}
        }
        self._successes, self._places = successes, places
        self._renewed = moment

    def _witnesses(self, found: SearchResult) -> _Witnesses | None:
        """The cases of a search that may have a say; None if there is none."""
        if not found.cases:
            return None
        whole = self._memory.cases(item.case_id for item in found.cases)
        said = [(whole[item.case_id], item.similarity) for item in found.cases if item.case_id in whole]
        said = [
            (case, similarity)
            for case, similarity in said
            if (case.correction is not None or case.misreading is not None)
            and case.credit >= self.settings.minimum_credit
        ]
        said = [entry for entry in said if entry[0].horizon == said[0][0].horizon]
        if not said:
            return None
        trusts = np.array([trust(case) for case, _ in said])
        weights = np.array([self._weight(similarity) for _, similarity in said]) * trusts
        return _Witnesses(tuple(case for case, _ in said), weights, trusts)

    def _shift(self, stamp_ns: int, key: Array, said: _Witnesses) -> Correction:
        """The target elsewhere, by a regression over misreadings whose mean is 0; see the module."""
        shift = shifts(key[np.newaxis], said.cases, said.trusts, self.settings.ridge)[0]
        return Correction(stamp_ns, CorrectionMode.SHIFT, 1.0, case_ids=said.named, shift=shift)

    def _guidance(
        self, stamp_ns: int, key: Array, said: _Witnesses, near: _Known
    ) -> tuple[Correction, NDArray[np.float64]]:
        """Toward the chunk of a regression over corrections and what was done in successes; see the module.

        Beside it the weight of each of its cases, (N,), most similar first.
        """
        corrected = _Known(
            np.stack([case.embedding for case in said.cases]),
            np.stack([case.correction for case in said.cases if case.correction is not None]),
            said.trusts,
        )
        known = corrected.joined(near)
        shares = self._shares(key, known)
        asked = _foremost(known, shares) if self.settings.by_act else np.ones(len(shares), dtype=bool)
        if not asked.all():
            shares = self._shares(key, known.of(asked))
        chunk = _held(shares, known.chunks[asked])
        rows = np.flatnonzero(asked[: len(said.cases)]).tolist()
        # Where successes alone do what is done, the cases are what it was asked for all the same.
        heard = said.of(rows) if rows else said
        correction = Correction(
            stamp_ns,
            CorrectionMode.GUIDANCE,
            1.0,
            chunk,
            said.cases[0].failed_actions[np.newaxis],
            heard.named,
            self.settings.until,
        )
        return correction, heard.weights if rows else np.zeros(len(said.cases))

    def _shares(self, key: Array, known: _Known) -> NDArray[np.float64]:
        """(N,) that sum to 1, some below 0: how much of each known chunk the regression takes."""
        near = np.maximum(known.vectors @ key, 0.0).astype(np.float64)
        weights = near * known.trusts
        weights /= max(float(weights.sum()), 1e-12)
        # The kernel is symmetric, so one system gives the weight of every chunk; what they lack to one is the mean's.
        beyond = np.linalg.solve(kernel(known.vectors, known.trusts, self.settings.ridge), near)
        shares: NDArray[np.float64] = beyond + (1.0 - beyond.sum()) * weights
        return shares

    def _weight(self, similarity: float) -> float:
        return float(max(similarity, 0.0) ** self.settings.sharpness)

    def _weights(self, similarities: Array) -> Array:
        weights: Array = np.maximum(similarities, 0.0) ** np.float32(self.settings.sharpness)
        # Beyond this a random-feature key tells nothing: its noise would add up over many successes.
        weights[similarities < FARTHEST] = 0.0
        return weights

    def _place(self, task: str, phase: str, stamp: EncoderStamp) -> _Place:
        if self._deferred:
            found = self._places.get((task, phase))
            if found is not None:
                return found
            self._wanted.add((task, phase))
            unjudged = bool(_places(self._successes, task, phase))
            return _Place(_nothing(stamp), (), UNJUDGED if unjudged else self.settings.confidence)
        with self._lock:
            moment = self._memory.generation, self.settings
            if moment != self._renewed:
                self._renewed, self._places = moment, {}
                self._successes = self._memory.successes(stamp)
            found = self._places.get((task, phase))
            if found is None:
                found = self._places[task, phase] = self._judged(self._successes, task, phase, stamp)
            return found

    def _judged(self, successes_by_place: Successes, task: str, phase: str, stamp: EncoderStamp) -> _Place:
        """The successes of a place and the conformal gate: each success judged without its own episode."""
        settings = self.settings
        places = _places(successes_by_place, task, phase)
        if not places:
            return _Place(_nothing(stamp), (), settings.confidence)
        known = [item for place in places for item in place.situations]
        # One place's are shared with whoever else looks at them.
        vectors = places[0].vectors if len(places) == 1 else np.concatenate([place.vectors for place in places])
        actions = tuple(item.actions for item in known)
        if settings.false_retrieval_rate >= 1.0:
            return _Place(vectors, actions, settings.confidence)
        episodes = np.array([item.episode_id for item in known])
        among = self._weights(vectors @ vectors.T)
        among[episodes[:, None] == episodes[None]] = 0.0
        successes = among.sum(axis=1)
        scores = np.zeros(len(known))
        for row, vector in enumerate(vectors):
            near = self._memory.nearest(vector, k=settings.neighbours, threshold=FARTHEST, task=task, phase=phase)
            failures = sum(self._weight(item.similarity) * min(2.0 * item.credit, 1.0) for item in near)
            scores[row] = failures / max(failures + successes[row], 1e-12) if failures >= settings.mass else 0.0
        quantile = conformal_threshold(scores, settings.false_retrieval_rate)
        gate = settings.confidence if quantile is None else max(settings.confidence, quantile)
        return _Place(vectors, actions, gate)


def _places(successes: Successes, task: str, phase: str) -> list[SuccessPlace]:
    """Stored successes of a task and phase; "" is any, as in a search."""
    return [some for place, some in successes.items() if task in ("", place[0]) and phase in ("", place[1])]


def _held(shares: NDArray[np.float64], chunks: Array) -> Array:
    """(H, 7) float32: chunks (N, H, 7) by their shares (N,), held within what they do; see the module."""
    rows = chunks.reshape(len(chunks), -1)
    bounded: Array = np.clip(shares.astype(np.float32) @ rows, rows.min(axis=0), rows.max(axis=0))
    return bounded.reshape(chunks.shape[1:])


def _foremost(known: _Known, shares: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(N,) which chunks do what most shares (N,) do, by whether the hand is closed early, in the middle, late."""
    horizon = known.chunks.shape[1]
    closed = known.chunks[:, [0, horizon // 3, 2 * horizon // 3], GRIPPER] < CLOSED_BELOW
    acts = closed @ np.array([4, 2, 1])
    return np.asarray(acts == max(np.unique(acts).tolist(), key=lambda act: float(shares[acts == act].sum())))


def _nearest(place: _Place, similarities: Array, horizon: int, count: int) -> _Known:
    """The successes of a place that are most similar and fit a horizon."""
    order = np.argsort(-similarities, kind="stable")[: 2 * count]
    rows = [row for row in order.tolist() if similarities[row] >= FARTHEST and len(place.actions[row]) == horizon]
    rows = rows[:count]
    chunks = np.array([place.actions[row] for row in rows], dtype=np.float32).reshape(len(rows), horizon, ACTION_DIM)
    return _Known(place.vectors[rows], chunks, np.ones(len(rows)))


def _nothing(stamp: EncoderStamp) -> Array:
    return np.zeros((0, stamp.dimension), dtype=np.float32)
