# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The policy as the graph uses it: one call from an observation to an action chunk."""

from __future__ import annotations

import itertools
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from flow_rag_vla.core.action import ACTION_DIM, TICK_NS, ActionChunk, CorrectionMode, Provenance, invalid_actions
from flow_rag_vla.core.correction import FARTHEST_SHIFT, Correction
from flow_rag_vla.core.goal import Goal
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.policy.action_space import FREE_DIM, actions_from, normalised
from flow_rag_vla.policy.checkpoint import CheckpointError, PolicyConfig, load_checkpoint
from flow_rag_vla.policy.flow import METHODS, Method
from flow_rag_vla.policy.network import PolicyNetwork
from flow_rag_vla.policy.observation import READING_DIM, goal_features, proprioception
from flow_rag_vla.policy.sampler import Attraction, Prefix, Repulsion, draw, prefix_weights

DEFAULT_STEPS = 6
DEFAULT_SAMPLES = 4

SHIFT_SHAPE = (3, 3)
"""A shifted perception: metres along the base's axes, of target, of destination and of the hand."""


class FlowPolicy:
    """A loaded checkpoint with its sampling settings. Not safe for use by two threads at once."""

    def __init__(
        self,
        network: PolicyNetwork,
        config: PolicyConfig,
        *,
        revision: str,
        device: str | torch.device = "cpu",
    ) -> None:
        self._network = network.to(device).eval().requires_grad_(False)
        self._config = config
        self._revision = revision
        self._device = torch.device(device)
        self._ids = itertools.count(1)
        self._method: Method = "euler"
        self._steps = DEFAULT_STEPS
        self._samples = DEFAULT_SAMPLES
        self._guidance = 1.0

    @classmethod
    def load(cls, folder: str | Path | None = None, device: str | torch.device = "cpu") -> FlowPolicy:
        """Load a checkpoint folder; None takes the one that ships.

        Raises:
            CheckpointError: when it is missing or damaged.
        """
        network, config, revision = load_checkpoint(folder, device)
        return cls(network, config, revision=revision, device=device)

    @property
    def name(self) -> str:
        """What the policy is called in provenance."""
        return self._config.name

    @property
    def revision(self) -> str:
        """Hash of weights and configuration."""
        return self._revision

    @property
    def config(self) -> PolicyConfig:
        """What the checkpoint says beside its weights."""
        return self._config

    @property
    def horizon(self) -> int:
        """Rows of a chunk."""
        return self._config.velocity.horizon

    @property
    def embedding_dimension(self) -> int:
        """Length of the embeddings that it takes."""
        return self._config.encoder.dimension

    def configure(
        self,
        *,
        solver: Method = "euler",
        steps: int = DEFAULT_STEPS,
        samples: int = DEFAULT_SAMPLES,
        guidance: float = 1.0,
    ) -> None:
        """Set how the flow is integrated, how many chunks are drawn at once, and which share of a correction acts.

        Raises:
            ValueError: for an unknown solver, a count below 1 or a share outside 0 to 1.
        """
        if solver not in METHODS:
            raise ValueError(f"solver is {solver!r}, expected one of {', '.join(METHODS)}")
        for label, value in (("steps", steps), ("samples", samples)):
            if value < 1:
                raise ValueError(f"{label} is {value}, expected at least 1")
        if not 0.0 <= guidance <= 1.0:
            raise ValueError(f"guidance is {guidance}, expected 0 to 1")
        self._method, self._steps, self._samples, self._guidance = solver, int(steps), int(samples), float(guidance)

    def check_encoder(self, name: str, revision: str) -> None:
        """Refuse embeddings of another encoder than the one trained on.

        Raises:
            CheckpointError: naming both and the remedy.
        """
        own = self._config.encoder
        if revision != own.revision:
            raise CheckpointError(
                f"the policy was trained on embeddings of encoder {own.name} {own.revision}, these are of {name} "
                f"{revision}; set encoder: {own.name}, or train a policy for it: flow_rag_vla train --encoder {name}"
            )

    def reading(self, embedding: NDArray[np.float32], state: RobotState) -> NDArray[np.float32]:
        """(READING_DIM,) float32: where the policy's readout sees things, see ``policy.observation``.

        Raises:
            ValueError: for an embedding of another length or not of unit length, or a state that is not finite.
        """
        vector = torch.from_numpy(self._check_embedding(embedding))[None].to(self._device)
        felt = torch.from_numpy(proprioception(state))[None].to(self._device)
        with torch.inference_mode():
            found: NDArray[np.float32] = self._network.readout(vector, felt)[0].cpu().numpy()
        return found

    def act(
        self,
        embedding: NDArray[np.float32],
        state: RobotState,
        goal: Goal,
        *,
        seed: int,
        stamp_ns: int | None = None,
        previous: ActionChunk | None = None,
        delay_ticks: int = 0,
        correction: Correction | None = None,
        shift: NDArray[np.floating] | None = None,
        reading: NDArray[np.floating] | None = None,
    ) -> ActionChunk:
        """Sample one chunk.

        Args:
            embedding: (D,) float32 of unit length.
            state: the robot at the time of the images.
            goal: what is to be done.
            seed: of the noise; the same arguments give the same chunk bit for bit.
            stamp_ns: capture time of the images, the tick of row 0; None takes the state's.
            previous: the chunk being followed; its rows are continued where the two overlap.
            delay_ticks: ticks that will have passed when this chunk arrives: so many rows repeat ``previous``.
            correction: what the failure memory answers; guidance, negative and shift are used here, the other modes
                are the controller's.
            shift: (3, 3) metres, base axes: so much farther are target, destination and hand taken to be than they are
                read and felt; None believes the readings.
            reading: (READING_DIM,), where things are for the hand, believed instead of what is read in the embedding;
                None reads it there.

        Raises:
            ValueError: for an embedding of another length or not of unit length, a state, shift or reading that is not
                finite, or an unknown goal.
        """
        vector = torch.from_numpy(self._check_embedding(embedding))[None].to(self._device)
        stamp = state.stamp_ns if stamp_ns is None else stamp_ns
        felt = torch.from_numpy(proprioception(state))[None].to(self._device)
        goal_index = torch.from_numpy(goal_features(goal)).argmax()[None].to(self._device)
        rows, committed, prefix = self._continue(previous, stamp, delay_ticks)
        attraction, repulsion = self._steer(correction)
        asked_shift = self._asked_shift(correction)
        moved = None if shift is None else self._check_shift(shift)
        if asked_shift is not None:
            moved = asked_shift if moved is None else moved + asked_shift
        believed = None if reading is None else self._check_reading(reading)
        with torch.inference_mode():
            condition = self._condition(vector, felt, goal_index, believed, moved)
            embedded = self._network.velocity.embed(condition)
            drawn = draw(
                lambda chunk, time: self._network.velocity.velocity(chunk, time, embedded.expand(chunk.shape[0], -1)),
                (self.horizon, FREE_DIM),
                torch.Generator().manual_seed(seed),
                samples=self._samples,
                steps=self._steps,
                method=self._method,
                prefix=prefix,
                attraction=attraction,
                repulsion=repulsion,
                device=self._device,
            )
        actions = actions_from(drawn.chosen)
        actions[:committed] = rows[:committed]
        corrected = any(way is not None for way in (attraction, repulsion, asked_shift))
        return ActionChunk(
            chunk_id=next(self._ids),
            stamp_ns=stamp,
            actions=actions,
            task=goal.task,
            uncertainty=drawn.spread.cpu().numpy().astype(np.float32),
            committed=committed,
            provenance=self._provenance(stamp, state.stamp_ns, seed, correction, corrected),
        )

    def _check_embedding(self, embedding: NDArray[np.float32]) -> NDArray[np.float32]:
        vector = np.ascontiguousarray(embedding, dtype=np.float32)
        if vector.shape != (self.embedding_dimension,):
            raise ValueError(
                f"embedding has shape {vector.shape}, the policy takes ({self.embedding_dimension},) of encoder "
                f"{self._config.encoder.name}"
            )
        length = float(np.linalg.norm(vector))
        if not abs(length - 1.0) < 1e-2:
            raise ValueError(f"embedding has length {length:.4g}, expected a unit vector")
        return vector

    def _check_shift(self, shift: NDArray[np.floating]) -> torch.Tensor:
        moved = np.asarray(shift, dtype=np.float32)
        if moved.shape != SHIFT_SHAPE or not np.isfinite(moved).all():
            raise ValueError(
                f"shift is {moved.tolist()}, expected {SHIFT_SHAPE[0]} x {SHIFT_SHAPE[1]} finite numbers (metres): of "
                "target, destination and hand"
            )
        return torch.from_numpy(moved).to(self._device)

    def _asked_shift(self, correction: Correction | None) -> torch.Tensor | None:
        """A shift (3, 3) of the target alone, as far as a correction asks for one."""
        if correction is None or correction.mode != CorrectionMode.SHIFT or correction.shift is None:
            return None
        # A number that is not finite is not at most anything.
        strength = self._strength(correction)
        if not (strength > 0.0 and float(np.linalg.norm(correction.shift)) <= FARTHEST_SHIFT):
            return None
        rows = np.zeros(SHIFT_SHAPE, dtype=np.float32)
        rows[0] = strength * correction.shift
        return torch.from_numpy(rows).to(self._device)

    def _strength(self, correction: Correction) -> float:
        """With what strength a correction acts here; what is not a number stays none."""
        return min(float(correction.strength), 1.0) * self._guidance

    def _check_reading(self, reading: NDArray[np.floating]) -> torch.Tensor:
        believed = np.asarray(reading, dtype=np.float32)
        if believed.shape != (READING_DIM,) or not np.isfinite(believed).all():
            raise ValueError(f"reading has shape {believed.shape}, expected {READING_DIM} finite numbers")
        return torch.from_numpy(believed)[None].to(self._device)

    def _condition(
        self,
        embedding: torch.Tensor,
        felt: torch.Tensor,
        goal: torch.Tensor,
        reading: torch.Tensor | None,
        shift: torch.Tensor | None,
    ) -> torch.Tensor:
        """(1, CONDITION_DIM): what the velocity is conditioned on, with another perception where one is given."""
        network = self._network
        situation = network.situation(embedding, felt, goal) if reading is None else network.needed(reading, goal)
        if shift is not None:
            situation, felt = network.shifted(situation, felt, shift)
        return network.condition(situation, felt, goal)

    def _continue(
        self, previous: ActionChunk | None, stamp_ns: int, delay_ticks: int
    ) -> tuple[NDArray[np.float32], int, Prefix | None]:
        """Rows of the chunk before from this stamp on, how many are committed, and the pull toward them."""
        nothing: NDArray[np.float32] = np.zeros((0, ACTION_DIM), dtype=np.float32)
        if previous is None or stamp_ns < previous.stamp_ns:
            return nothing, 0, None
        passed = round((stamp_ns - previous.stamp_ns) / TICK_NS)
        rows = previous.actions[passed:]
        overlap = min(rows.shape[0], self.horizon)
        if overlap == 0:
            return nothing, 0, None
        rows = rows[:overlap].astype(np.float32)
        if not np.isfinite(rows).all():
            # The controller refused that chunk. To go on from it would make this one, and all after it, not finite too.
            return nothing, 0, None
        committed = max(0, min(delay_ticks, overlap))
        padded = np.zeros((self.horizon, FREE_DIM), dtype=np.float32)
        padded[:overlap] = normalised(rows)
        weights = prefix_weights(self.horizon, committed, overlap)
        return rows, committed, Prefix(torch.from_numpy(padded).to(self._device), weights.to(self._device))

    def _steer(self, correction: Correction | None) -> tuple[Attraction | None, Repulsion | None]:
        if correction is None or not (strength := self._strength(correction)) > 0.0:
            return None, None
        if correction.mode == CorrectionMode.GUIDANCE and correction.actions is not None:
            problem = invalid_actions(correction.actions)
            if problem is None:
                rows, weights = self._rows(correction.actions)
                return Attraction(rows, weights, strength, correction.until), None
        if correction.mode == CorrectionMode.NEGATIVE and correction.failed_actions is not None:
            failed = [self._rows(chunk)[0] for chunk in correction.failed_actions if invalid_actions(chunk) is None]
            if failed:
                return None, Repulsion(torch.stack(failed), strength)
        return None, None

    def _rows(self, actions: NDArray[np.float32]) -> tuple[torch.Tensor, torch.Tensor]:
        """Normalised rows cut or filled to the horizon, and weights that are 0 where filled."""
        known = min(actions.shape[0], self.horizon)
        padded = np.zeros((self.horizon, FREE_DIM), dtype=np.float32)
        padded[:known] = normalised(actions[:known])
        padded[known:] = padded[known - 1]
        weights = np.zeros(self.horizon, dtype=np.float32)
        weights[:known] = 1.0
        return torch.from_numpy(padded).to(self._device), torch.from_numpy(weights).to(self._device)

    def _provenance(
        self, stamp_ns: int, state_ns: int, seed: int, correction: Correction | None, corrected: bool
    ) -> Provenance:
        made = Provenance(
            observation_stamp_ns=stamp_ns,
            policy=self.name,
            policy_revision=self.revision,
            noise_seed=seed,
            state_stamp_ns=state_ns,
        )
        if correction is None:
            return made
        if corrected:
            strength = self._strength(correction)
            return replace(made, correction=correction.mode, correction_strength=strength, case_ids=correction.case_ids)
        if correction.mode == CorrectionMode.TIMEOUT:
            return replace(made, correction=CorrectionMode.TIMEOUT)
        return made
