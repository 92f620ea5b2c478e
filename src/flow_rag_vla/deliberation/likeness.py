# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Which remembered failures are most like what is going on now, and by what they were compared.

Cases are compared as the failure memory compares them: by the situation key of the policy, or by the encoder's
embedding, whichever their database holds. Nothing of another encoder or revision is compared. A plan is judged before
the hand is where it failed then: so the present places are looked at with the hand where the case's was. Where no such
vector can be had, case and command are compared in words; where that cannot be had either, the newest cases are told.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.goal import Goal
from flow_rag_vla.llm.knowledge import case_text
from flow_rag_vla.memory.case import SITUATION, EncoderStamp, FailureCase
from flow_rag_vla.policy.situation import SituationKey, SituationKeyError

Array = NDArray[np.float32]

EMBEDDING, WORDS, NEWEST = "embedding", "words", "newest"
"""Besides ``SITUATION``, what cases may have been chosen by."""

LEAST_SITUATION = 0.5
"""Cosine of two situation keys below which they are not alike: 95 % of other starts of a task are below 0.3 to 0.5, and
a start's own case, seen before the hand moves, has 0.7 to 1 (``flow_rag_vla bench likeness``)."""

COMPARED = 512
"""Cases of a task that are looked at, the newest."""

COMPARED_IN_WORDS = 32
LONGEST_S = 3.0
"""Seconds for a look around, and for vectors of words, at most."""


class LikenessError(ValueError):
    """Nothing can be compared; the text says why, in a few words."""


@dataclass(frozen=True, slots=True, eq=False)
class Present:
    """What the robot sees and feels.

    embedding: (D,) float32 unit vector, of the encoder and revision that ``stamp`` names
    proprioception: (P,) float32, as ``policy.observation`` makes it; None if the robot's state is not known
    age: seconds since it was seen
    """

    embedding: Array
    stamp: EncoderStamp
    proprioception: Array | None = None
    age: float = 0.0


@dataclass(frozen=True, slots=True)
class Sought:
    """What remembered failures are to be like.

    goals: what is to be done; words: the command, or the failure as a case is told in words
    phase: in which it failed; empty for a plan, whose present places are compared with the hand where a case's was
    ends: by the monotonic clock, when an answer is too late
    """

    goals: tuple[Goal, ...] = ()
    words: str = ""
    phase: str = ""
    ends: float = field(default_factory=lambda: time.monotonic() + LONGEST_S)


LookAround = Callable[[float], Present]
"""(seconds): called in any thread; raises a LikenessError that says why nothing is known."""

TextVectors = Callable[[Sequence[str], float], Array]
"""(texts, seconds): (N, D) float32 unit vectors. Called in any thread; raises a LikenessError."""


@dataclass(frozen=True, slots=True)
class Ranked:
    """Cases of one task, the most alike first, each with its similarity; None: it was not compared.

    measure: SITUATION, EMBEDDING, WORDS or NEWEST; why: why by nothing better, empty for the first two
    """

    cases: tuple[tuple[FailureCase, float | None], ...]
    measure: str
    why: str = ""


class Likeness:
    """Orders cases by how alike they are. Any number of threads."""

    def __init__(
        self,
        look: LookAround | None = None,
        key: Callable[[], SituationKey] | None = None,
        vectors: TextVectors | None = None,
    ) -> None:
        """Compare by these.

        Args:
            look: what is seen and felt; None: nobody looks.
            key: loads the situation key; called once, when it is needed. None: there is none.
            vectors: of words; None: words are not compared.
        """
        self._look, self._load, self._vectors = look, key, vectors
        self._key: SituationKey | None = None

    def rank(self, cases: Sequence[FailureCase], sought: Sought, count: int) -> Ranked:
        """The ``count`` most alike of a task's cases, which come newest first. Never raises for what cannot be had."""
        why: list[str] = []
        for measure in (self._by_picture, self._by_words):
            try:
                return measure(cases, sought, count, "; ".join(why))
            except LikenessError as error:
                why.append(str(error))
        return Ranked(tuple((case, None) for case in cases[:count]), NEWEST, "; ".join(why))

    def _by_picture(self, cases: Sequence[FailureCase], sought: Sought, count: int, _why: str) -> Ranked:
        if self._look is None:
            raise LikenessError("nobody says what is seen")
        if not cases:
            return Ranked((), NEWEST)
        present = self._look(_left(sought))
        held = cases[0].stamp
        if held.encoder == SITUATION:
            found = best(cases, self._situations(cases, present, sought), count)
            most = found[0][1] if found else 0.0
            found = [(case, value) for case, value in found if value >= LEAST_SITUATION]
            if not found:
                raise LikenessError(f"no case is alike (at most {most:.2f})")
            return Ranked(tuple(found), SITUATION)
        if held != present.stamp:
            raise LikenessError(f"what is seen is of {present.stamp}, the cases are of {held}")
        # Pictures of another phase show the hand elsewhere, whatever else they show.
        same = [case for case in cases if case.phase == sought.phase] or cases
        values = np.array([case.embedding @ present.embedding for case in same])
        return Ranked(tuple(best(same, values, count)), EMBEDDING)

    def _situations(self, cases: Sequence[FailureCase], present: Present, sought: Sought) -> NDArray[np.float64]:
        """(N,) how alike each case is to what is seen, for the goal that fits best; NaN: it cannot be compared."""
        if self._load is None:
            raise LikenessError("no policy makes situation keys here")
        felt = present.proprioception
        if felt is None:
            raise LikenessError("the robot's state is not known")
        key = self._key = self._key or self._loaded()
        held = cases[0].stamp
        if (key.revision, key.encoder_revision) != (held.revision, present.stamp.revision):
            raise LikenessError(
                f"the cases are of {held}; here the policy makes {SITUATION}@{key.revision} and the encoder is "
                f"{present.stamp}"
            )
        values = np.full(len(cases), np.nan)
        fits = [number for number, case in enumerate(cases) if case.proprioception.shape == felt.shape]
        for goal in sought.goals:
            mine = [number for number in fits if cases[number].task == goal.task]
            if not mine:
                continue
            try:
                if sought.phase:
                    keys = key(present.embedding, felt, goal)[None]
                else:
                    hands = np.stack([cases[number].proprioception for number in mine])
                    keys = key.as_if(present.embedding, felt, goal, hands)
            except SituationKeyError as error:
                raise LikenessError(str(error)) from None
            held_keys = np.stack([cases[number].embedding for number in mine])
            values[mine] = np.fmax(values[mine], np.sum(held_keys * keys, axis=1))
        return values

    def _loaded(self) -> SituationKey:
        assert self._load is not None
        try:
            return self._load()
        except SituationKeyError as error:
            raise LikenessError(str(error)) from None

    def _by_words(self, cases: Sequence[FailureCase], sought: Sought, count: int, why: str) -> Ranked:
        if self._vectors is None or not sought.words.strip():
            raise LikenessError("words are not compared")
        if len(cases) <= 1:
            raise LikenessError("there is nothing to choose from")
        newest = cases[:COMPARED_IN_WORDS]
        vectors = self._vectors([sought.words, *map(text_of, newest)], _left(sought))
        if vectors.shape[0] != len(newest) + 1 or not np.isfinite(vectors).all():
            raise LikenessError(f"vectors of words have the shape {vectors.shape} or hold no numbers")
        return Ranked(tuple(best(newest, vectors[1:] @ vectors[0], count)), WORDS, why)


def _left(sought: Sought) -> float:
    left = min(sought.ends - time.monotonic(), LONGEST_S)
    if left <= 0.0:
        raise LikenessError("no time is left to compare anything")
    return left


def best(cases: Sequence[FailureCase], values: NDArray[np.floating], count: int) -> list[tuple[FailureCase, float]]:
    """The cases of the ``count`` highest values, the highest first, equal ones in their order; NaN is left out."""
    known = [(case, float(value)) for case, value in zip(cases, values, strict=True) if math.isfinite(value)]
    return sorted(known, key=lambda pair: -pair[1])[:count]


def text_of(case: FailureCase) -> str:
    """A case in words."""
    return case_text(case.failure_type, case.task, case.phase, case.evidence, case.correction_source, case.note)
