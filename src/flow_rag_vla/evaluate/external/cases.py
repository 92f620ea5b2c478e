# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Failures of an external policy as cases of the project's memory, and corrections out of it.

A case's actions have seven columns, the robot's. A chunk (H, A) of any width is laid out row after row into seven
columns, filled up with zeros, and each column is scaled by the robot's largest step: the memory's distance between two
chunks is then their root mean square difference in -1..1 (times the share that is no filling).
"""

from __future__ import annotations

import dataclasses
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.action import ACTION_DIM
from flow_rag_vla.core.correction import EARLY
from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.evaluate.external.key import KernelKey
from flow_rag_vla.memory.case import ACTION_SCALE, EncoderStamp, FailureCase
from flow_rag_vla.memory.consensus import ConsensusMemory, ConsensusSettings
from flow_rag_vla.memory.ledger import SuccessSituation
from flow_rag_vla.memory.memory import FailureMemory
from flow_rag_vla.memory.results import MemorySettings
from flow_rag_vla.memory.store import FailureStore

Array = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class RecallSettings:
    """How cases are looked up and what their corrections are made of.

    threshold: cosine similarity from which a case is credible; calibrated from successes instead if ``calibrate``
    neighbours: credible cases that are joined at most
    sharpness: a case weighs its similarity to this power: a Gaussian kernel narrower than the key's by its root
    agreement: root-mean-square spread of corrections, in -1..1, at which confidence has fallen to 1/e
    least_trust: density of failures over that of failures and successes, below which nothing is corrected
    """

    threshold: float = 0.7
    calibrate: bool = False
    false_retrieval_rate: float = 0.05
    neighbours: int = 8
    sharpness: float = 8.0
    agreement: float = 1.0
    least_trust: float = 0.3


@dataclass(frozen=True, slots=True)
class LabelledFailure:
    """A situation of a failed episode, what the policy was about to do, and what the expert did from there.

    observation: (D,) float32; situation: (D,) float32 standardised; failed, correction: (H, A) float32 in -1..1
    """

    seed: int
    step: int
    observation: Array
    situation: Array
    failed: Array
    correction: Array


@dataclass(frozen=True, slots=True)
class DoneWell:
    """What the policy did somewhere in an episode that succeeded, or where an expert would have done the same.

    observation, situation, chunk: as of a labelled failure
    """

    seed: int
    observation: Array
    situation: Array
    chunk: Array


AGREEMENT = ConsensusSettings(sharpness=2.5, mass=0.05, by_act=False)
"""How the consensus is asked under these keys; no column of a case's chunk is a gripper here."""

Relations = Callable[[NDArray[np.floating]], NDArray[np.floating]]
"""An observation (D,) to (K,): where things are to one another, in units in which 1 is about as far as two situations
still count as alike."""


@dataclass(frozen=True, slots=True)
class Recall:
    """What the memory says about a situation.

    correction, offset: (H, A) kernel-weighted means of the corrections and of correction minus failed chunk
    failed: (F, H, A) failed chunks, most similar first; similarity: of the nearest case
    strength: 0..1, the product of how near the nearest case is, how dense failures are here beside successes (1 from
        as dense on), the nearest case's credit (1 from that of an unused case on), how well the corrections agree
    agreement: length of the mean offset over the mean length of the offsets; 1 when all point the same way, 0 for a
        single case, which agrees with nobody
    until: share of the flow in which a correction acts that is guided to
    """

    correction: Array
    offset: Array
    failed: Array
    strength: float
    similarity: float
    agreement: float
    case_ids: tuple[int, ...]
    until: float = EARLY


def pack_chunk(chunk: NDArray[np.floating]) -> Array:
    """(H, A) in -1..1 to (ceil(H A / 7), 7) float32 in the units of a case."""
    flat = np.asarray(chunk, dtype=np.float32).reshape(-1)
    rows = -(-flat.shape[0] // ACTION_DIM)
    filled = np.zeros(rows * ACTION_DIM, dtype=np.float32)
    filled[: flat.shape[0]] = flat
    return filled.reshape(rows, ACTION_DIM) * ACTION_SCALE


def unpack_chunk(rows: NDArray[np.floating], shape: tuple[int, int]) -> Array:
    """The chunk (H, A) that :func:`pack_chunk` laid out."""
    flat = (np.asarray(rows, dtype=np.float32) / ACTION_SCALE).reshape(-1)
    return np.asarray(flat[: shape[0] * shape[1]].reshape(shape), dtype=np.float32)


class ExternalMemory:
    """A failure memory of one task and one policy's standardisation."""

    def __init__(
        self,
        task: str,
        policy_revision: str,
        key: KernelKey,
        shape: tuple[int, int],
        settings: RecallSettings | None = None,
        path: str | Path | None = None,
        consensus: ConsensusSettings | None = None,
        relations: Relations | None = None,
    ) -> None:
        """Open it.

        Args:
            task: of all cases.
            policy_revision: whose failures they are.
            key: of standardised situations, or of relations.
            shape: (H, A) of a chunk.
            settings: of ``recall``.
            path: of the database; None for one that goes when it closes.
            consensus: settings of ``agreed``.
            relations: what situations are looked up by; None for the standardised observation.
        """
        self.task = task
        self.settings = settings or RecallSettings()
        self.key = key
        self._revision = f"{policy_revision}-{key.revision}"
        self._shape = shape
        self._relations = relations
        self._folder = tempfile.TemporaryDirectory(prefix="flow_rag_vla_external_") if path is None else None
        self._memory = FailureMemory(
            FailureStore(Path(self._folder.name) / "memory.sqlite" if self._folder is not None else Path(path or "")),
            MemorySettings(
                k=self.settings.neighbours,
                threshold=self.settings.threshold,
                calibrate=self.settings.calibrate,
                false_retrieval_rate=self.settings.false_retrieval_rate,
                cache_size=1,
            ),
        )
        self._consensus = ConsensusMemory(self._memory, consensus or AGREEMENT)
        self._failed = self._calm = np.zeros((0, key.dimension), dtype=np.float32)
        self._chunks: dict[int, tuple[Array, Array]] = {}

    def __len__(self) -> int:
        """Cases that a search can find."""
        return self._memory.statistics().cases

    @property
    def threshold(self) -> float:
        """Similarity from which a case is credible."""
        return self._memory.threshold

    def close(self) -> None:
        """Close the database."""
        self._memory.close()
        if self._folder is not None:
            self._folder.cleanup()

    def remember(self, failures: Sequence[LabelledFailure]) -> int:
        """Store failures as cases; those that say what another says are refused. Gives the number stored."""
        cases = [self._case(failure) for failure in failures]
        # Of all, also those that are refused as duplicates: how often something failed here is what counts.
        self._failed = np.concatenate([self._failed, *(case.embedding[np.newaxis] for case in cases)])
        stored, _ = self._memory.add_all(cases)
        return stored

    def calibrate(self, situations: Sequence[NDArray[np.floating]]) -> None:
        """Take in standardised situations (D,) of successes.

        Where the policy succeeded as often as it failed, a failure says little about what to change: see ``Recall``.
        The threshold is set from them too, if the settings say so.
        """
        keys = [self.key(situation) for situation in situations]
        self._calm = np.stack(keys) if keys else self._calm[:0]
        self._memory.observe_success([(self.task, "", key) for key in keys])

    def observe_done(self, situations: Sequence[DoneWell]) -> None:
        """Take in what was done where it went well: the consensus is between that and the corrections."""
        self._memory.observe_done(
            [
                SuccessSituation(
                    self.task, "", self._stamp, self._key(item), pack_chunk(item.chunk), item.seed, "practice"
                )
                for item in situations
            ]
        )

    def agreed(self, observation: NDArray[np.floating], situation: NDArray[np.floating]) -> Recall | None:
        """What failures and successes nearby agree on, as in the running graph; None where nothing failed nearby.

        observation: (D,); situation: (D,) the same standardised. See ``memory.consensus``
        """
        key = self._key_of(observation, situation)
        said = self._consensus.answer(key, stamp=self._stamp, task=self.task, phase="", stamp_ns=0)
        correction = said.correction
        if correction.actions is None or not correction.case_ids:
            return None
        chunk = unpack_chunk(correction.actions, self._shape)
        failed = np.stack([self._pair(case_id)[0] for case_id in correction.case_ids])
        return Recall(
            chunk,
            chunk - failed[0],
            failed,
            correction.strength,
            float(said.found.cases[0].similarity),
            said.confidence,
            correction.case_ids,
            correction.until,
        )

    def recall(self, situation: NDArray[np.floating]) -> Recall | None:
        """What is known about a standardised situation (D,); None if no case is credible."""
        key = self.key(situation)
        found = self._memory.search(key, task=self.task).cases
        if not found:
            return None
        pairs = [self._pair(item.case_id) for item in found]
        failed = np.stack([pair[0] for pair in pairs])
        corrections = np.stack([pair[1] for pair in pairs])
        similarity = np.array([item.similarity for item in found])
        weights = np.clip(similarity, 0.0, 1.0) ** self.settings.sharpness
        trust = self._trust(key)
        if trust < self.settings.least_trust:
            return None
        weights /= weights.sum()
        mean = np.einsum("n,nha->ha", weights, corrections)
        spread = float(np.sqrt(np.einsum("n,nha->", weights, (corrections - mean) ** 2) / mean.size))
        nearest = float(similarity[0])
        closeness = (nearest - self.threshold) / max(1.0 - self.threshold, 1e-6)
        trust = min(trust / 0.5, 1.0) * min(found[0].credit / 0.5, 1.0)
        strength = np.clip(0.5 + 0.5 * closeness, 0.0, 1.0) * trust * np.exp(-((spread / self.settings.agreement) ** 2))
        offsets = corrections - failed
        offset = np.einsum("n,nha->ha", weights, offsets)
        length = float(weights @ np.linalg.norm(offsets.reshape(len(offsets), -1), axis=1))
        agreement = float(np.linalg.norm(offset)) / length if length > 0.0 and len(offsets) > 1 else 0.0
        return Recall(
            mean.astype(np.float32),
            offset.astype(np.float32),
            failed,
            float(strength),
            nearest,
            agreement,
            tuple(item.case_id for item in found),
        )

    def record_use(self, case_ids: Sequence[int], success: bool) -> None:
        """Credit or debit the cases that shaped an episode."""
        self._memory.record_use(case_ids, success)

    def _key(self, moment: LabelledFailure | DoneWell) -> Array:
        return self._key_of(moment.observation, moment.situation)

    def _key_of(self, observation: NDArray[np.floating], situation: NDArray[np.floating]) -> Array:
        return self.key(situation if self._relations is None else self._relations(observation))

    @property
    def _stamp(self) -> EncoderStamp:
        return EncoderStamp("kernel_key", self._revision, self.key.dimension)

    def _trust(self, key: Array) -> float:
        """Density of failures over that of failures and successes here, 0 to 1; each integrates to one."""
        failed, calm = (
            float(np.mean(np.clip(keys @ key, 0.0, 1.0) ** self.settings.sharpness)) if len(keys) else 0.0
            for keys in (self._failed, self._calm)
        )
        return failed / (failed + calm) if failed > 0.0 else 0.0

    def _case(self, failure: LabelledFailure) -> FailureCase:
        return FailureCase(
            failure_type=FailureType.TIMEOUT,
            task=self.task,
            phase="",
            encoder="kernel_key",
            encoder_revision=self._revision,
            embedding=self._key(failure),
            failed_actions=pack_chunk(failure.failed),
            correction=pack_chunk(failure.correction),
            correction_source="expert",
            origin=f"seed {failure.seed}, step {failure.step}",
        )

    def _pair(self, case_id: int) -> tuple[Array, Array]:
        # Kept unpacked: a recall every few steps reads the same cases again and again.
        pair = self._chunks.get(case_id)
        if pair is None:
            case = self._memory.get(case_id)
            failed = unpack_chunk(case.failed_actions, self._shape)
            assert case.correction is not None, "every case of this memory is stored with one"
            pair = self._chunks[case_id] = (failed, unpack_chunk(case.correction, self._shape))
        return pair


def shuffled(failures: Sequence[LabelledFailure], seed: int) -> list[LabelledFailure]:
    """The same failures with each other's corrections: what is left of an effect is not due to what is remembered."""
    order = np.random.default_rng(seed).permutation(len(failures))
    return [
        dataclasses.replace(failure, correction=failures[int(other)].correction)
        for failure, other in zip(failures, order, strict=True)
    ]
