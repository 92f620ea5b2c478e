# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What is believed of a misreading that arrives, and what misreadings together say about a place.

A case that knows by how much the policy misread its target moves targets wherever it comes up. One of a file, of
another robot or of an edit is therefore held against what the memory knows nearby, in the same task and phase (what the
robot finds out itself is not):

- **Neighbours.** Cases that know a misreading, each with the weight that the consensus gives it. It is contradicted
  where more of that weight says something else than says the same.
- **Successes.** Where the policy acted alone and went well it read the target well enough. What the consensus would
  answer there with the case is worked out, as if nothing spoke against it; where that moves the target far, the success
  is a witness against the case. Situations of one episode are one witness.

A case that is not believed keeps all but its misreading.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.memory.case import Array, FailureCase
from flow_rag_vla.memory.ledger import SuccessPlace

FARTHEST = 0.2
"""Cosine similarity below which a case has no say: its weight would be lost in the others'."""

ASKED = 64
"""Cases, most similar first, that a misreading is held against."""


@dataclass(frozen=True, slots=True)
class MisreadingSettings:
    """When a misreading that arrives is believed.

    distance: metres from which on two misreadings contradict each other, and by which a success may be moved. By
        judgement: what a grasp tells lies within 14 mm of the truth in 90 % of situations (see ``hindsight``) and what
        the policies here misread is 8 to 49 mm long, so of two true ones within reach the difference stays below
    nearby: cosine similarity from which on a case or a success is a witness
    witnesses: weight of those that speak against it, at least: one episode alike to 0.76, or three to 0.5
    sharpness, ridge: of the consensus

    What they stop and let through was measured on three banks of practice, see docs/memory.md.
    """

    distance: float = 0.05
    nearby: float = 0.5
    witnesses: float = 0.5
    sharpness: float = 2.5
    ridge: float = 0.3


def doubt(
    case: FailureCase, known: Sequence[FailureCase], successes: SuccessPlace | None, settings: MisreadingSettings
) -> str | None:
    """Why the misreading of a case is not believed, with the remedy; None if it is, or there is none.

    Args:
        case: what arrives.
        known: other cases of its task and phase with a misreading, the nearest of them.
        successes: those stored of its task and phase.
        settings: when it is believed.
    """
    if case.misreading is None:
        return None
    trusts = np.array([trust(other) for other in known])
    alike = np.array([float(other.embedding @ case.embedding) for other in known])
    weights = np.where(alike >= settings.nearby, np.maximum(alike, 0.0) ** settings.sharpness, 0.0) * trusts
    said = np.array([other.misreading for other in known], dtype=np.float64).reshape(-1, 3)
    apart = np.linalg.norm(said - case.misreading, axis=1)
    agreeing = float(weights[apart <= settings.distance].sum())
    against = float(weights[apart > settings.distance].sum())
    length = float(np.linalg.norm(case.misreading))
    if against >= settings.witnesses and against > agreeing:
        worst = max(np.flatnonzero(apart > settings.distance).tolist(), key=lambda row: float(weights[row]))
        return (
            f"its misreading of {_mm(length)} contradicts what is known there: case {known[worst].case_id} is alike to "
            f"{alike[worst]:.3f} and was misread {_mm(apart[worst])} elsewhere, allowed is {_mm(settings.distance)} "
            f"(weight {against:.2f} against {agreeing:.2f} for it); retire those cases if they are wrong"
        )
    moved = None if successes is None else _moved(case, known, trusts, successes, settings)
    if successes is None or moved is None or moved.weight < settings.witnesses or moved.weight <= agreeing:
        return None
    return (
        f"its misreading of {_mm(length)} would move the target by {_mm(moved.farthest)} in "
        f"{successes.situations[moved.row]}, where the policy alone read it well enough, allowed is "
        f"{_mm(settings.distance)} (weight of {moved.episodes} such episodes {moved.weight:.2f}, {agreeing:.2f} "
        "for it); let the robot learn it from a takeover if it is true here"
    )


def trust(case: FailureCase) -> float:
    """Share of a case's weight: 1 while its credit is that of an unused case or better, falling to 0."""
    return min(2.0 * case.credit, 1.0)


def kernel(vectors: Array, trusts: NDArray[np.float64], ridge: float) -> NDArray[np.float64]:
    """(N, N): likeness of known situations (N, D), and on the diagonal the noise of what each says."""
    found: NDArray[np.float64] = np.maximum(vectors @ vectors.T, 0.0).astype(np.float64)
    # A case that disappointed is a noisier witness; one trusted by nothing would be noise alone.
    found[np.diag_indices_from(found)] += ridge / np.maximum(trusts, 1e-3)
    return found


def shifts(keys: Array, cases: Sequence[FailureCase], trusts: NDArray[np.float64], ridge: float) -> Array:
    """(K, 3) float32, metres: where the target is taken to be beside its reading, in K situations (K, D).

    A regression over the cases' misreadings whose mean is 0, held within what they say; all of them must know one.
    """
    vectors = np.stack([case.embedding for case in cases])
    near = np.maximum(vectors @ keys.T, 0.0).astype(np.float64)
    misreadings = np.array([case.misreading for case in cases], dtype=np.float64)
    moved = np.linalg.solve(kernel(vectors, trusts, ridge), near).T @ misreadings
    least, most = np.minimum(misreadings.min(axis=0), 0.0), np.maximum(misreadings.max(axis=0), 0.0)
    bounded: Array = np.clip(moved, least, most).astype(np.float32)
    return bounded


@dataclass(frozen=True, slots=True)
class _Moved:
    """Successes in which a case would move the target too far. row: of the one moved farthest, by so many metres."""

    weight: float
    episodes: int
    row: int
    farthest: float


def _moved(
    case: FailureCase,
    known: Sequence[FailureCase],
    trusts: NDArray[np.float64],
    successes: SuccessPlace,
    settings: MisreadingSettings,
) -> _Moved | None:
    if successes.situations[0].stamp != case.stamp:
        return None
    alike = successes.vectors @ case.embedding
    rows = np.flatnonzero(alike >= settings.nearby)
    if len(rows) == 0:
        return None
    keys = successes.vectors[rows]
    with_it = shifts(keys, [*known, case], np.append(trusts, trust(case)), settings.ridge)
    lengths = np.linalg.norm(with_it, axis=1)
    before = np.linalg.norm(shifts(keys, known, trusts, settings.ridge), axis=1) if known else np.zeros(len(rows))
    # Where the target is moved as far without it, the case is not what moves it.
    wrong = (lengths > settings.distance) & (lengths > before)
    if not wrong.any():
        return None
    witnesses: dict[tuple[str, int], float] = {}
    for row in rows[wrong].tolist():
        which = successes.situations[row]
        episode = which.origin, which.episode_id
        witnesses[episode] = max(witnesses.get(episode, 0.0), float(alike[row]) ** settings.sharpness)
    farthest = int(np.argmax(np.where(wrong, lengths, -1.0)))
    return _Moved(sum(witnesses.values()), len(witnesses), int(rows[farthest]), float(lengths[farthest]))


def _mm(metres: float) -> str:
    return f"{1e3 * metres:.0f} mm"
