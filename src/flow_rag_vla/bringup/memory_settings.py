# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The failure memory's settings of a table of parameters, for the node and for the console command."""

from __future__ import annotations

import socket

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.bringup.parameters.failure_memory import FailureMemoryParameters
from flow_rag_vla.control.integrator import MotionLimits
from flow_rag_vla.core.parameters import ParameterError
from flow_rag_vla.memory.answering import AnsweringSettings, Keying
from flow_rag_vla.memory.consensus import ConsensusSettings
from flow_rag_vla.memory.credit import CreditSettings
from flow_rag_vla.memory.guard import GuardSettings
from flow_rag_vla.memory.learning import LearningSettings
from flow_rag_vla.memory.misreadings import MisreadingSettings
from flow_rag_vla.memory.patience import PatienceSettings
from flow_rag_vla.memory.results import MemorySettings
from flow_rag_vla.memory.rewind import RewindSettings
from flow_rag_vla.policy.observation import CENTRE, PROPRIOCEPTION_DIM
from flow_rag_vla.policy.situation import DIMENSION, SituationKey


def tool_position(proprioception: NDArray[np.float32]) -> NDArray[np.floating] | None:
    """Where the tool was, (3,) metres in the base frame, by a case's proprioception; None if that is not known."""
    return proprioception[:3] + CENTRE if proprioception.size == PROPRIOCEPTION_DIM else None


def memory_settings(parameters: FailureMemoryParameters, capacity: int | None = None) -> MemorySettings:
    """The memory's settings; ``capacity`` in place of the parameter's.

    Raises:
        ParameterError: if the workspace is none.
    """
    low, high = parameters.workspace_low, parameters.workspace_high
    for name, corner in (("workspace_low", low), ("workspace_high", high)):
        if len(corner) != 3:
            raise ParameterError(f"{name}: {list(corner)} has {len(corner)} numbers, expected x, y, z")
    if any(one >= other for one, other in zip(low, high, strict=True)):
        raise ParameterError(f"workspace_low: {list(low)} is not below workspace_high {list(high)} on every axis")
    return MemorySettings(
        k=parameters.k,
        threshold=parameters.threshold,
        calibrate=parameters.calibrate,
        false_retrieval_rate=parameters.false_retrieval_rate,
        capacity=capacity or parameters.capacity,
        duplicate_similarity=parameters.duplicate_similarity,
        duplicate_action_distance=parameters.duplicate_action_distance,
        cache_size=parameters.cache_size,
        origin=parameters.origin or socket.gethostname(),
        contradiction_distance=parameters.contradiction_distance,
        successes_kept=parameters.successes_kept,
        credit=CreditSettings(parameters.credit_prior_weight, parameters.retire_above),
        guard=GuardSettings(
            distance=parameters.guard_distance,
            same_actions=parameters.duplicate_action_distance,
            share=parameters.guard_share,
            limits=MotionLimits(
                translation=parameters.max_translation,
                rotation=parameters.max_rotation,
                workspace_low=(low[0], low[1], low[2]),
                workspace_high=(high[0], high[1], high[2]),
            ),
            misreading=MisreadingSettings(ridge=parameters.consensus_ridge),
            tool_position=tool_position,
        ),
    )


def answering_settings(parameters: FailureMemoryParameters) -> AnsweringSettings:
    """How the memory answers."""
    return AnsweringSettings(
        parameters.corrector,
        parameters.without_correction,
        parameters.minimum_credit,
        parameters.match_phase,
        ConsensusSettings(
            parameters.consensus_neighbours,
            parameters.consensus_sharpness,
            parameters.consensus_ridge,
            parameters.consensus_confidence,
            parameters.consensus_mass,
            parameters.consensus_false_retrieval_rate,
            parameters.minimum_credit,
            parameters.consensus_until,
            parameters.consensus_misread,
        ),
        PatienceSettings(round(parameters.consensus_lead * 1e9), round(parameters.consensus_rest * 1e9)),
        RewindSettings(parameters.rewinds, round(parameters.rewind_back * 1e9), ask=parameters.rewind_ask),
    )


def learning_settings(parameters: FailureMemoryParameters) -> LearningSettings:
    """How far what happened is taken together."""
    return LearningSettings(
        parameters.origin or socket.gethostname(),
        round(parameters.onset_tolerance * 1e9),
        round(parameters.lead_in * 1e9),
        round(parameters.later_success_window * 1e9),
        round(parameters.takeover_window * 1e9),
        tool_position,
    )


def keying(parameters: FailureMemoryParameters) -> Keying | None:
    """What makes the keys; None: embeddings are compared.

    Raises:
        SituationKeyError: if the policy checkpoint cannot be read.
    """
    if parameters.key == "embedding":
        return None
    key = SituationKey.load(parameters.policy_checkpoint)
    return Keying(key, DIMENSION, key.target_place)
