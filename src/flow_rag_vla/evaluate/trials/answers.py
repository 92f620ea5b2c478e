# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What the failure memory answers in a simulated trial, by method: the simulator's side of ``variants``.

A method is a function from ``AnswerContext`` to ``Answering``, made for each episode. A new one is a line in
``variants.register`` and a function with ``@answering`` here (or in a module that this package imports).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.control.arbiter import ArbiterSettings
from flow_rag_vla.core.action import ACTION_DIM, GRIPPER, CorrectionMode
from flow_rag_vla.core.correction import Correction
from flow_rag_vla.core.goal import Goal
from flow_rag_vla.core.state import GRIPPER_MAX_WIDTH, RobotState
from flow_rag_vla.evaluate.trials.protocol import Start
from flow_rag_vla.memory.case import EncoderStamp
from flow_rag_vla.memory.consensus import ConsensusMemory, ConsensusSettings
from flow_rag_vla.memory.corrector import Corrector, CredibleCase, DispatchCorrector, RulesBlendCorrector, strength
from flow_rag_vla.memory.memory import FailureMemory
from flow_rag_vla.memory.patience import Patience, PatienceSettings
from flow_rag_vla.policy.encoders import Encoder
from flow_rag_vla.policy.observation import proprioception
from flow_rag_vla.policy.policy import FlowPolicy
from flow_rag_vla.policy.situation import DIMENSION, NAME, SituationKey

ANYTHING = -2.0
"""A threshold below every similarity."""


@dataclass(frozen=True, slots=True)
class AnswerContext:
    """What an answer may be made from.

    stamp: whose vectors are asked with; key: makes them of an observation, None: they are the encoder's embeddings
    """

    memory: FailureMemory
    stamp: EncoderStamp
    policy: FlowPolicy
    encoder: Encoder
    goal: Goal
    key: SituationKey | None = None

    def asked(self, embedding: NDArray[np.float32], state: RobotState, goal: Goal) -> NDArray[np.float32]:
        """The unit vector that the memory is searched with."""
        return embedding if self.key is None else self.key(embedding, proprioception(state), goal)


@dataclass(frozen=True, slots=True)
class EpisodeContext:
    """What is known of the running episode. phase: the present one, as a robot can tell it."""

    task: str
    phase: Callable[[], str]
    start: Start


class Answering(Protocol):
    """Answers observations in one episode."""

    @property
    def arbiter(self) -> ArbiterSettings | None:
        """How far the controller lets corrections go; None: its defaults."""

    @property
    def delay_ticks(self) -> int:
        """Ticks that asking adds to the time from picture to chunk."""

    def begin(self, episode: EpisodeContext) -> None:
        """The episode begins."""

    def __call__(
        self, embedding: NDArray[np.float32], state: RobotState, goal: Goal, stamp_ns: int
    ) -> Correction | None:
        """The answer to (D,) float32, unit length; None or NONE: nothing credible."""


ANSWERS: dict[str, Callable[[AnswerContext], Answering]] = {}
"""By method."""


def answering(name: str) -> Callable[[Callable[[AnswerContext], Answering]], Callable[[AnswerContext], Answering]]:
    """Register what makes the answers of a method."""

    def register(make: Callable[[AnswerContext], Answering]) -> Callable[[AnswerContext], Answering]:
        ANSWERS[name] = make
        return make

    return register


def memory_stamp(encoder: Encoder) -> EncoderStamp:
    """Whose embeddings a memory must hold to be asked with this encoder's."""
    return EncoderStamp(encoder.name, encoder.revision, encoder.dimension)


def key_stamp(key: SituationKey) -> EncoderStamp:
    """Whose vectors a memory must hold to be asked with this key."""
    return EncoderStamp(NAME, key.revision, DIMENSION)


class MemoryAnswering:
    """Searches cases of the same task and phase as the memory's node does, and asks a corrector what to do."""

    def __init__(
        self,
        context: AnswerContext,
        corrector: Corrector,
        *,
        arbiter: ArbiterSettings | None = None,
        delay_ticks: int = 0,
        threshold: float | None = None,
    ) -> None:
        self.arbiter, self.delay_ticks = arbiter, delay_ticks
        self._context, self._corrector, self._threshold = context, corrector, threshold
        self._episode: EpisodeContext | None = None

    def begin(self, episode: EpisodeContext) -> None:
        """The episode begins."""
        self._episode = episode

    def __call__(
        self, embedding: NDArray[np.float32], state: RobotState, goal: Goal, stamp_ns: int
    ) -> Correction | None:
        """The corrector's answer to the credible cases."""
        memory, episode = self._context.memory, self._episode
        if memory.stamp is None or episode is None:
            return Correction(stamp_ns)
        threshold = memory.threshold if self._threshold is None else self._threshold
        result = memory.search(
            self._context.asked(embedding, state, goal),
            stamp=self._context.stamp,
            threshold=threshold,
            task=episode.task,
            phase=episode.phase(),
        )
        whole = memory.cases(item.case_id for item in result.cases)
        cases = [CredibleCase(whole[item.case_id], item.similarity) for item in result.cases if item.case_id in whole]
        return self._corrector.correct(stamp_ns, cases, threshold)


class ConsensusAnswering:
    """What similar situations agree on, until it leads nowhere; see ``memory.consensus`` and ``memory.patience``."""

    arbiter: ArbiterSettings | None = None
    delay_ticks = 0

    def __init__(
        self,
        context: AnswerContext,
        settings: ConsensusSettings | None = None,
        patience: PatienceSettings | None = None,
    ) -> None:
        self._context = context
        self._consensus = ConsensusMemory(context.memory, settings)
        self._patience = Patience(patience)
        self._episode: EpisodeContext | None = None

    def begin(self, episode: EpisodeContext) -> None:
        """The episode begins."""
        self._episode = episode
        self._patience.begin()

    def __call__(
        self, embedding: NDArray[np.float32], state: RobotState, goal: Goal, stamp_ns: int
    ) -> Correction | None:
        """Guidance toward the consensus, a shift of the target, or NONE."""
        context, episode = self._context, self._episode
        if context.memory.stamp is None or episode is None:
            return Correction(stamp_ns)
        phase = episode.phase()
        correction = self._consensus.answer(
            context.asked(embedding, state, goal),
            stamp=context.stamp,
            task=episode.task,
            phase=phase,
            stamp_ns=stamp_ns,
        ).correction
        withdrawn = self._patience.lets_go(stamp_ns, phase, correction.mode is not CorrectionMode.NONE)
        return Correction(stamp_ns) if withdrawn else correction


class GuideCorrector:
    """GUIDANCE toward the correction of the firmest case, nothing else."""

    def correct(self, stamp_ns: int, cases: Sequence[CredibleCase], threshold: float) -> Correction:
        """Say what to do."""
        best = firmest(cases, threshold)
        if best is None:
            return Correction(stamp_ns)
        case = best.case
        return Correction(
            stamp_ns,
            CorrectionMode.GUIDANCE,
            strength(best, threshold),
            case.correction,
            case.failed_actions[np.newaxis],
            (case.case_id,),
        )


class ResidualCorrector:
    """RESIDUAL by the firmest case alone: its correction minus its failed chunk."""

    def correct(self, stamp_ns: int, cases: Sequence[CredibleCase], threshold: float) -> Correction:
        """Say what to do."""
        guided = GuideCorrector().correct(stamp_ns, cases, threshold)
        return guided if guided.actions is None else replace(guided, mode=CorrectionMode.RESIDUAL)


class PriorCorrector:
    """The firmest case's correction put into the flow as a prior: GUIDANCE at full strength.

    Guidance of strength 1 replaces the velocity by that of the straight line from the noise to the correction, so when
    the early part of the flow ends, at time t, the point is (1 - t) noise + t correction whatever the policy would have
    done: the flow begins at t from the noised correction, as in SDEdit (Meng et al. 2022, arXiv 2108.01073).
    """

    def correct(self, stamp_ns: int, cases: Sequence[CredibleCase], threshold: float) -> Correction:
        """Say what to do."""
        guided = GuideCorrector().correct(stamp_ns, cases, threshold)
        return guided if guided.actions is None else replace(guided, strength=1.0)


class NegativeCorrector:
    """NEGATIVE with the failed chunks of the credible cases, as if no correction were known."""

    def correct(self, stamp_ns: int, cases: Sequence[CredibleCase], threshold: float) -> Correction:
        """Say what to do."""
        blind = [replace(item, case=replace(item.case, correction=None, correction_source="")) for item in cases]
        return DispatchCorrector("negative").correct(stamp_ns, blind, threshold)


class AloneCorrector:
    """The memory's chunk in the policy's place: the most similar case's correction, else the first design's rule."""

    def correct(self, stamp_ns: int, cases: Sequence[CredibleCase], threshold: float) -> Correction:
        """Say what to do: BLEND, which an arbiter with a weight of 1 executes alone."""
        known = next((item.case for item in cases if item.case.correction is not None), None)
        if known is not None:
            return Correction(stamp_ns, CorrectionMode.BLEND, 1.0, known.correction, None, (known.case_id,))
        ruled = RulesBlendCorrector().correct(stamp_ns, cases, threshold)
        return replace(ruled, strength=1.0, failed_actions=None) if ruled.actions is not None else ruled


class AloneAnswering(MemoryAnswering):
    """As ``AloneCorrector`` says; where the memory knows nothing the robot stands still."""

    def __init__(self, context: AnswerContext) -> None:
        settings = replace(ArbiterSettings(), blend_weight=1.0)
        super().__init__(context, AloneCorrector(), arbiter=settings, threshold=ANYTHING)
        self._horizon = context.policy.horizon

    def __call__(
        self, embedding: NDArray[np.float32], state: RobotState, goal: Goal, stamp_ns: int
    ) -> Correction | None:
        """The memory's chunk, or one that stands still with the hand as it is."""
        found = super().__call__(embedding, state, goal, stamp_ns)
        if found is not None and found.actions is not None:
            return found
        still = np.zeros((self._horizon, ACTION_DIM), dtype=np.float32)
        still[:, GRIPPER] = float(state.gripper_width > 0.5 * GRIPPER_MAX_WIDTH)
        return Correction(stamp_ns, CorrectionMode.BLEND, 1.0, still)


def firmest(cases: Sequence[CredibleCase], threshold: float) -> CredibleCase | None:
    """The case with a correction that is to be followed most firmly; None if no correction is known."""
    known = [item for item in cases if item.case.correction is not None]
    return max(known, key=lambda item: (strength(item, threshold), item.similarity), default=None)


@answering("dispatch")
def _dispatch(context: AnswerContext) -> Answering:
    return MemoryAnswering(context, DispatchCorrector())


@answering("consensus")
def _consensus(context: AnswerContext) -> Answering:
    # Chunks alone, whatever is known of misreadings: each of the two ways can be measured on its own.
    return ConsensusAnswering(context, ConsensusSettings(misread=2.0))


@answering("relocation")
def _relocation(context: AnswerContext) -> Answering:
    return ConsensusAnswering(context, ConsensusSettings(misread=0.0))


@answering("by_cause")
@answering("rewind_by_cause")
def _by_cause(context: AnswerContext) -> Answering:
    return ConsensusAnswering(context)


@answering("steadfast")
def _steadfast(context: AnswerContext) -> Answering:
    return ConsensusAnswering(context, patience=PatienceSettings(lead_ns=0))


@answering("guide")
def _guide(context: AnswerContext) -> Answering:
    return MemoryAnswering(context, GuideCorrector())


@answering("prior")
def _prior(context: AnswerContext) -> Answering:
    return MemoryAnswering(context, PriorCorrector())


@answering("negative")
def _negative(context: AnswerContext) -> Answering:
    return MemoryAnswering(context, NegativeCorrector())


@answering("residual")
def _residual(context: AnswerContext) -> Answering:
    return MemoryAnswering(context, ResidualCorrector())


@answering("blend")
def _blend(context: AnswerContext) -> Answering:
    return MemoryAnswering(context, RulesBlendCorrector())


@answering("rag_only")
def _rag_only(context: AnswerContext) -> Answering:
    return AloneAnswering(context)


@answering("sequential")
def _sequential(context: AnswerContext) -> Answering:
    # The loop knows whole ticks only: a policy that waits for the search has its chunk one tick later.
    return MemoryAnswering(context, DispatchCorrector(), delay_ticks=1)
