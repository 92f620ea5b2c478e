# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""From an embedding to a correction: the one way in which a node and a replay ask the memory.

What a case is compared by is either the encoder's embedding or a *key* that is made of the embedding, the robot state
nearest to it and the goal of the episode (see ``policy.situation``). With a key everything that is stored, searched,
calibrated and compared is a key; the embedding is only what it is made of.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from flow_rag_vla.core.action import CorrectionMode
from flow_rag_vla.core.correction import Correction
from flow_rag_vla.core.goal import Goal, UnknownTaskError, parse_instruction
from flow_rag_vla.memory.case import SITUATION, Array, CaseError, EncoderStamp, unit_embedding
from flow_rag_vla.memory.consensus import Consensus, ConsensusMemory, ConsensusSettings
from flow_rag_vla.memory.corrector import Corrector, CredibleCase, make_corrector
from flow_rag_vla.memory.episode import EpisodeMemory, SeenEmbedding
from flow_rag_vla.memory.memory import FailureMemory
from flow_rag_vla.memory.patience import Patience, PatienceSettings
from flow_rag_vla.memory.results import RetrievedCase
from flow_rag_vla.memory.rewind import Rewind, RewindSettings
from flow_rag_vla.memory.store import EncoderMismatchError

CONSENSUS = "consensus"
"""The corrector that asks all similar cases, and the successes, at once."""

STATE_TOLERANCE_NS = 100_000_000
"""Farthest that the robot state of a key may be from its embedding: four ticks."""

ANYTHING = -2.0
"""A threshold below every similarity."""


class KeyFunction(Protocol):
    """Makes keys; ``policy.situation.SituationKey`` is one."""

    revision: str
    encoder_revision: str

    def __call__(self, embedding: NDArray[np.floating], proprioception: NDArray[np.floating], goal: Goal, /) -> Array:
        """(K,) float32 of unit length of an embedding (D,), a robot state (P,) and what is to be done."""
        ...


@dataclass(frozen=True, slots=True)
class Keying:
    """What vectors are made with.

    dimension: their length K
    read: of the same three, (3,) metres, base axes: where the policy reads the target; None if it has no such reading
    """

    make: KeyFunction
    dimension: int
    read: Callable[[NDArray[np.floating], NDArray[np.floating], Goal], Array] | None = None

    @property
    def stamp(self) -> EncoderStamp:
        """Whose vectors they are."""
        return EncoderStamp(SITUATION, self.make.revision, self.dimension)


@dataclass(frozen=True, slots=True)
class Whereabouts:
    """What is being done, as the newest episode status says. instruction: in words; phase: the present one."""

    task: str
    phase: str
    instruction: str


@dataclass(frozen=True, slots=True)
class AnsweringSettings:
    """How the memory answers; see the failure memory node's parameters."""

    corrector: str = CONSENSUS
    without_correction: str = "negative"
    minimum_credit: float = 0.2
    match_phase: bool = True
    consensus: ConsensusSettings = field(default_factory=ConsensusSettings)
    patience: PatienceSettings = field(default_factory=PatienceSettings)
    rewind: RewindSettings = field(default_factory=RewindSettings)


@dataclass(frozen=True, slots=True)
class MemoryAnswer:
    """A correction and what it rests on.

    found: cases that came up, most similar first; threshold: cosine similarity below which one has no say
    consensus: masses, confidence and gate; None with another corrector, or between episodes
    """

    correction: Correction
    found: tuple[RetrievedCase, ...] = ()
    threshold: float = 0.0
    search_ms: float = 0.0
    consensus: Consensus | None = None


class NoKeyError(CaseError):
    """No key can be made of an embedding. ``reason``: one word for a counter."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


class Answering:
    """Answers embeddings from a memory. One thread answers; another may ``renew``."""

    def __init__(
        self,
        memory: FailureMemory,
        episode: EpisodeMemory,
        settings: AnsweringSettings | None = None,
        keying: Keying | None = None,
        *,
        deferred: bool = False,
    ) -> None:
        """Answer from this memory.

        Args:
            memory: is searched.
            episode: gets what was seen, and knows robot states and phases.
            settings: how to answer.
            keying: None: the embeddings themselves are compared.
            deferred: the consensus' gates are judged by ``renew`` only, see :class:`ConsensusMemory`.
        """
        self._memory, self._episode, self._keying = memory, episode, keying
        self._consensus = ConsensusMemory(memory, deferred=deferred)
        self.patience = Patience()
        """When the consensus is withdrawn in the running episode."""
        self.rewind = Rewind(episode)
        """What is done about failures of the running episode."""
        self._of = episode.episode_id
        self._goals: dict[str, Goal] = {}
        self._corrector: Corrector | None = None
        self.configure(settings or AnsweringSettings())

    def configure(self, settings: AnsweringSettings) -> None:
        """Take new settings for the answers to come.

        Raises:
            ValueError: for an unknown corrector.
        """
        if settings.corrector == CONSENSUS:
            self._corrector = None
        else:
            self._corrector = make_corrector(settings.corrector, settings.without_correction, settings.minimum_credit)
        self._consensus.settings = settings.consensus
        self.patience.settings = settings.patience
        self.rewind.settings = settings.rewind
        self._settings = settings

    @property
    def threshold(self) -> float:
        """Cosine similarity below which a case has no say at present."""
        return self._memory.threshold

    @property
    def stale(self) -> bool:
        """Whether ``renew`` would change an answer."""
        return self._corrector is None and self._stamp is not None and self._consensus.stale

    def renew(self) -> None:
        """Judge the consensus' gates anew; may take seconds.

        Raises:
            StoreError: if the successes cannot be read.
        """
        stamp = self._stamp
        if stamp is not None:
            self._consensus.renew(stamp)

    def answer(
        self,
        stamp_ns: int,
        values: ArrayLike,
        encoder: str,
        revision: str,
        where: Whereabouts | None,
        felt: tuple[int, Array] | None = None,
    ) -> MemoryAnswer:
        """What to do about what is seen; it is kept in the episode's memory.

        Args:
            stamp_ns: of the embedding.
            values: (D,), the embedding.
            encoder: whose it is.
            revision: of that encoder.
            where: newest episode status; None if there is no episode manager, then cases of any task are looked at.
            felt: stamp and (P,) float32 proprioception of the robot state to go by; None: of the nearest that came.

        Raises:
            NoKeyError: if no key can be made of it.
            EncoderMismatchError: if the memory holds vectors of another kind, or the key reads another encoder's.
            CaseError: if it is no unit vector.
            StoreError: if the cases cannot be read.
        """
        state_ns, seen = self._seen(stamp_ns, values, encoder, revision, where, felt)
        answer = self._known(stamp_ns, seen, where)
        # Between episodes nothing is sampled, so there is nothing to go back for.
        correction = self.rewind.correct(stamp_ns, answer.correction)
        return replace(answer, correction=replace(correction, state_stamp_ns=state_ns))

    def _known(self, stamp_ns: int, seen: SeenEmbedding, where: Whereabouts | None) -> MemoryAnswer:
        """What the cases say."""
        self._episode.embeddings.append(stamp_ns, seen)
        self.check(seen.stamp)
        # Between episodes nothing is sampled, so there is nothing to correct.
        idle = where is not None and not self._episode.running
        if self._corrector is None and not idle:
            return self._agreed(stamp_ns, seen, where)
        task, phase = self._place(stamp_ns, where)
        threshold = self._memory.threshold
        result = self._memory.search(seen.values, stamp=seen.stamp, threshold=ANYTHING, task=task, phase=phase)
        correction = Correction(stamp_ns)
        if self._corrector is not None and not idle:
            credible = [item for item in result.cases if item.similarity >= threshold]
            whole = self._memory.cases(item.case_id for item in credible)
            cases = [CredibleCase(whole[item.case_id], item.similarity) for item in credible if item.case_id in whole]
            correction = self._corrector.correct(stamp_ns, cases, threshold)
        self._pass_over(correction, result.cases)
        return MemoryAnswer(correction, result.cases, threshold, result.search_ms)

    def check(self, stamp: EncoderStamp) -> None:
        """Refuse vectors of another kind than the memory's, or than the key makes.

        Raises:
            EncoderMismatchError: naming both and what to do.
        """
        held = self._memory.stamp or (None if self._keying is None else self._keying.stamp)
        if held is None or held == stamp:
            return
        if held.encoder == SITUATION == stamp.encoder:
            remedy = "set policy_checkpoint to the policy that they were made with, or give another database"
        elif SITUATION in (held.encoder, stamp.encoder):
            kind = "situation" if held.encoder == SITUATION else "embedding"
            remedy = f"give another database, or set the parameter key to {kind}"
        else:
            remedy = "use that encoder, or give the new one a database of its own"
        verb = "holds" if self._memory.stamp is not None else "is to hold"
        raise EncoderMismatchError(
            f"{self._memory.store.path} {verb} embeddings of {held}, but these are of {stamp}; {remedy}"
        )

    @property
    def _stamp(self) -> EncoderStamp | None:
        return self._memory.stamp if self._keying is None else self._keying.stamp

    def _agreed(self, stamp_ns: int, seen: SeenEmbedding, where: Whereabouts | None) -> MemoryAnswer:
        """What the consensus says, unless it has led nowhere for long."""
        task, phase = self._place(stamp_ns, where)
        agreed = self._consensus.answer(seen.values, stamp=seen.stamp, task=task, phase=phase, stamp_ns=stamp_ns)
        found = agreed.found
        correction = agreed.correction
        if self._lets_go(stamp_ns, where, correction):
            # The cases were followed until now: they are not passed over, and no part of this answer is theirs.
            correction = Correction(stamp_ns)
        else:
            self._pass_over(correction, found.cases)
            if agreed.shares:
                self._episode.answered(stamp_ns, dict(zip(correction.case_ids, agreed.shares, strict=True)))
        return MemoryAnswer(correction, found.cases, found.threshold, found.search_ms, agreed)

    def _lets_go(self, stamp_ns: int, where: Whereabouts | None, correction: Correction) -> bool:
        """Whether a correction of the consensus is withdrawn, see ``memory.patience``."""
        if self._of != self._episode.episode_id:
            self._of = self._episode.episode_id
            self.patience.begin()
        return self.patience.lets_go(stamp_ns, self._phase(stamp_ns, where), correction.mode is not CorrectionMode.NONE)

    def _pass_over(self, correction: Correction, found: tuple[RetrievedCase, ...]) -> None:
        if not correction.mode:
            threshold = self._memory.threshold
            self._episode.pass_over(item.case_id for item in found if item.similarity >= threshold)

    def _place(self, stamp_ns: int, where: Whereabouts | None) -> tuple[str, str]:
        """Task and phase to search in."""
        if where is None:
            return "", ""
        return where.task, self._phase(stamp_ns, where) if self._settings.match_phase else ""

    def _phase(self, stamp_ns: int, where: Whereabouts | None) -> str:
        """That of the embedding's stamp, as a case's is that of its onset: the present one may be the next."""
        return "" if where is None else self._episode.phases.at(stamp_ns) or where.phase

    def _seen(
        self,
        stamp_ns: int,
        values: ArrayLike,
        encoder: str,
        revision: str,
        where: Whereabouts | None,
        felt: tuple[int, Array] | None,
    ) -> tuple[int, SeenEmbedding]:
        """What is compared, and the stamp of the robot state in it; 0 if there is none."""
        embedding = unit_embedding(values)
        if self._keying is None:
            return 0, SeenEmbedding(embedding, EncoderStamp(encoder, revision, len(embedding)))
        make = self._keying.make
        if revision != make.encoder_revision:
            raise EncoderMismatchError(
                f"the situation key reads embeddings of revision {make.encoder_revision}, but these are of "
                f"{encoder}@{revision}; set policy_checkpoint to a policy of this encoder, or the parameter key to "
                "embedding"
            )
        if where is None or not where.instruction:
            raise NoKeyError("no_episode", "no episode status names a goal yet; start an episode manager")
        if felt is None:
            found = self._episode.proprioception.nearest(stamp_ns, STATE_TOLERANCE_NS)
            felt = None if found is None else (found[0], found[1]())
        if felt is None or not felt[1].size:
            raise NoKeyError(
                "no_state",
                f"no robot state within {STATE_TOLERANCE_NS * 1e-9:g} s of the embedding; check the robot driver",
            )
        state_ns, feels = felt
        goal = self._goal(where.instruction)
        read = None if self._keying.read is None else partial(self._keying.read, embedding, feels, goal)
        return state_ns, SeenEmbedding(make(embedding, feels, goal), self._keying.stamp, read)

    def _goal(self, instruction: str) -> Goal:
        goal = self._goals.get(instruction)
        if goal is None:
            try:
                goal = parse_instruction(instruction)
            except UnknownTaskError as error:
                raise NoKeyError("no_goal", str(error)) from None
            self._goals = {instruction: goal}
        return goal
