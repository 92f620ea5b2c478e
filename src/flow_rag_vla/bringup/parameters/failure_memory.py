# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Parameters of the failure memory."""

from __future__ import annotations

from dataclasses import dataclass

from flow_rag_vla.bringup.parameters.controller import deciding_priority
from flow_rag_vla.control.integrator import MotionLimits
from flow_rag_vla.core.parameters import parameter
from flow_rag_vla.memory.consensus import ConsensusSettings
from flow_rag_vla.memory.corrector import CORRECTORS
from flow_rag_vla.memory.patience import PatienceSettings

_CONSENSUS = ConsensusSettings()
_PATIENCE = PatienceSettings()
_LIMITS = MotionLimits()

CHOSEN_CORRECTORS = ("consensus", *CORRECTORS)
"""How the memory may act: by the consensus of many cases, or by what a corrector makes of the credible ones."""


@dataclass(frozen=True, slots=True)
class FailureMemoryParameters:
    """Which failures are kept, which are credible in a situation, and what is done with a credible one."""

    database: str = parameter(
        "~/.ros/flow_rag_vla/failure_memory.db", "SQLite file with the cases; created if it is not there"
    )
    autostart: bool = parameter(
        True, "Configure and activate at start; false: wait for a lifecycle manager (ros2 lifecycle set)"
    )
    origin: str = parameter("", "Name kept with each new case, such as the robot's; empty: the host's name")
    key: str = parameter(
        "situation",
        "What cases are stored and compared by: where things are for the hand and what it feels, as the policy reads "
        "it (situation), or the encoder's embedding (embedding). A database holds one kind",
        choices=("situation", "embedding"),
    )
    policy_checkpoint: str = parameter(
        "", "Folder of the policy checkpoint whose readout makes the situation key; empty: the one that ships"
    )
    learn: bool = parameter(
        True,
        "Whether failures, takeovers and episodes are learned from; false: the memory answers and stays as it is",
        live=True,
    )
    corrector: str = parameter(
        "consensus",
        "What the cases that come up become: guidance to what the corrections of similar situations agree on, where "
        "successes do not outweigh them (consensus), by type and what is known of the most similar ones (dispatch), "
        "the rule table with a blend of 0.3 as the baseline (rules_blend), or nothing (off)",
        choices=CHOSEN_CORRECTORS,
        live=True,
    )
    consensus_neighbours: int = parameter(
        _CONSENSUS.neighbours,
        "Most similar cases, and successes, that the consensus is of",
        minimum=1,
        maximum=1024,
        live=True,
    )
    consensus_sharpness: float = parameter(
        _CONSENSUS.sharpness,
        "Power of the cosine similarity that is a situation's weight in the consensus; higher listens to nearer ones",
        minimum=0.1,
        maximum=100.0,
        live=True,
    )
    consensus_ridge: float = parameter(
        _CONSENSUS.ridge,
        "Noise of a single stored chunk in the consensus, as variance; the more, the more it is a mean of its "
        "neighbourhood",
        minimum=0.001,
        maximum=1e6,
        live=True,
    )
    consensus_confidence: float = parameter(
        _CONSENSUS.confidence,
        "Share of failures among the similar situations from which the consensus is followed, whatever the stored "
        "successes say",
        minimum=0.0,
        maximum=1.0,
        live=True,
    )
    consensus_mass: float = parameter(
        _CONSENSUS.mass, "Smallest sum of the cases' weights that says anything", minimum=0.0, maximum=1e6, live=True
    )
    consensus_false_retrieval_rate: float = parameter(
        _CONSENSUS.false_retrieval_rate,
        "Share of stored successes, each judged without its own episode, that may reach the confidence that is needed; "
        "1: no more is needed than consensus_confidence",
        minimum=0.001,
        maximum=1.0,
        live=True,
    )
    consensus_until: float = parameter(
        _CONSENSUS.until,
        "Share of the flow, from its start, during which the consensus guides; 1 leads to it whatever the policy sees",
        minimum=0.01,
        maximum=1.0,
        live=True,
    )
    consensus_misread: float = parameter(
        _CONSENSUS.misread,
        "Share of similar failures, by weight, that a misread place explains, from which the policy is told another "
        "place instead of being guided; 0: it is never guided, above 1: it is never told",
        minimum=0.0,
        maximum=2.0,
        live=True,
    )
    consensus_lead: float = parameter(
        _PATIENCE.lead_ns * 1e-9,
        "How long the consensus may lead within one phase of the task; then it leads nowhere and the policy goes on "
        "alone for consensus_rest; 0: for ever",
        unit="s",
        minimum=0.0,
        maximum=600.0,
        live=True,
    )
    consensus_rest: float = parameter(
        _PATIENCE.rest_ns * 1e-9,
        "How long it is silent after that, unless the phase ends before; 0: not at all",
        unit="s",
        minimum=0.0,
        maximum=600.0,
        live=True,
    )
    without_correction: str = parameter(
        "negative",
        "What dispatch does with credible cases of which no correction is known: sample away from their "
        "failed chunks, ask the controller to hold, or nothing",
        choices=("negative", "hold", "none"),
        live=True,
    )
    rewinds: int = parameter(
        0,
        "Times that a running episode goes back to a safe checkpoint of its own after a failure, and tries again away "
        "from what failed; 0: never",
        minimum=0,
        maximum=20,
        live=True,
    )
    rewind_back: float = parameter(
        1.0, "Seconds before a failure's onset that a checkpoint lies, at least", minimum=0.0, maximum=30.0, live=True
    )
    rewind_ask: bool = parameter(
        True, "Hold the robot and ask a person when an episode fails after its last rewind", live=True
    )
    k: int = parameter(5, "Most similar cases looked at", minimum=1, maximum=100, live=True)
    threshold: float = parameter(
        0.9,
        "Cosine similarity from which a case is credible, until enough situations for calibration were seen",
        minimum=-1.0,
        maximum=1.0,
        live=True,
    )
    calibrate: bool = parameter(True, "Set the threshold from situations that should not match, once there are enough")
    false_retrieval_rate: float = parameter(
        0.05,
        "Share of situations without a failure in which a case may still be found credible",
        minimum=0.001,
        maximum=0.5,
    )
    minimum_credit: float = parameter(
        0.2, "Posterior mean chance of helping below which a case is not used", minimum=0.0, maximum=1.0, live=True
    )
    match_phase: bool = parameter(True, "Search only cases of the present phase, not of the whole task", live=True)
    capacity: int = parameter(
        10_000, "Active cases kept; beyond it the least telling ones are dropped", minimum=1, maximum=10_000_000
    )
    duplicate_similarity: float = parameter(
        0.98,
        "Cosine similarity from which a case of the same task, phase and type can be a duplicate",
        minimum=-1.0,
        maximum=1.0,
    )
    duplicate_action_distance: float = parameter(
        0.15,
        "Distance of the failed chunks below which it is one; root mean square, in units of the largest step",
        minimum=0.0,
        maximum=10.0,
    )
    realtime_priority: int = deciding_priority()
    device: str = parameter(
        "auto",
        "Where the index lives; auto takes a GPU if there is one and faiss can use it",
        choices=("auto", "cpu", "cuda"),
    )
    index: str = parameter(
        "faiss",
        "What searches: faiss (exact for small groups, compressed and measured beyond), numpy (a plain scan), or "
        "postgresql://user:password@host/database?namespace=robot_7 (PostgreSQL with pgvector)",
    )
    cache_size: int = parameter(256, "Searches remembered", minimum=0, maximum=1_000_000)
    history: float = parameter(
        60.0, "How long embeddings, states and chunks are kept to make a case of", unit="s", minimum=1.0, maximum=600.0
    )
    onset_tolerance: float = parameter(
        0.5,
        "Largest distance between the onset of a failure and the embedding or robot state taken for it",
        unit="s",
        minimum=0.01,
        maximum=10.0,
        live=True,
    )
    lead_in: float = parameter(
        1.0,
        "How long before the onset of a failure the situations on the way into it become cases, too; 0: only the onset",
        unit="s",
        minimum=0.0,
        maximum=10.0,
        live=True,
    )
    later_success_window: float = parameter(
        20.0,
        "How long after a failure an attempt that succeeds still becomes its correction",
        unit="s",
        minimum=0.0,
        maximum=600.0,
        live=True,
    )
    keep_images: bool = parameter(True, "Keep small pictures of both cameras with each new case")
    contradiction_distance: float = parameter(
        0.5,
        "Distance of two corrections of one situation above which they contradict each other and one of the cases "
        "retires; root mean square, in units of the largest step",
        minimum=0.0,
        maximum=10.0,
    )
    credit_prior_weight: float = parameter(
        4.0,
        "Episodes that the success rate without memory weighs in what a case is worth before it was used",
        minimum=0.5,
        maximum=1000.0,
        live=True,
    )
    retire_above: float = parameter(
        0.95,
        "Chance that a case does worse than no memory above which it retires; 1: never",
        minimum=0.5,
        maximum=1.0,
        live=True,
    )
    successes_kept: int = parameter(
        4096,
        "Situations of successful episodes kept of each task and phase, on which new cases are tried and which have a "
        "say in the consensus",
        minimum=0,
        maximum=100_000,
    )
    guard_distance: float = parameter(
        0.35,
        "Distance between what was done in a success and a new case's correction above which the case would change it; "
        "a gripper that does the opposite is at 0.38",
        minimum=0.0,
        maximum=10.0,
        live=True,
    )
    guard_share: float = parameter(
        0.02,
        "Share of the stored successes of its task and phase that a new case may change",
        minimum=0.0,
        maximum=1.0,
        live=True,
    )
    max_translation: float = parameter(
        _LIMITS.translation,
        "Largest step of a correction that is stored; that of the controller",
        unit="m per tick",
        minimum=0.0005,
        maximum=0.05,
    )
    max_rotation: float = parameter(
        _LIMITS.rotation,
        "Largest rotation of a correction that is stored; that of the controller",
        unit="rad per tick",
        minimum=0.002,
        maximum=0.3,
    )
    workspace_low: tuple[float, ...] = parameter(
        _LIMITS.workspace_low,
        "Lowest x, y, z to which a stored correction may lead the tool, base frame; that of the controller",
        unit="m",
        minimum=-5.0,
        maximum=5.0,
    )
    workspace_high: tuple[float, ...] = parameter(
        _LIMITS.workspace_high,
        "Highest x, y, z to which a stored correction may lead the tool, base frame; that of the controller",
        unit="m",
        minimum=-5.0,
        maximum=5.0,
    )
    takeover_window: float = parameter(
        30.0,
        "How long after a failure a person's takeover still becomes its correction",
        unit="s",
        minimum=0.0,
        maximum=600.0,
        live=True,
    )
