"""Parameters of the failure memory."""

from __future__ import annotations

from dataclasses import dataclass

from flow_rag_vla.core.parameters import parameter


@dataclass(frozen=True, slots=True)
class FailureMemoryParameters:
    """Which failures are kept, which are credible in a situation, and what is done with a credible one."""

    database: str = parameter(
        "~/.ros/flow_rag_vla/failure_memory.db", "SQLite file with the cases; created if it is not there"
    )
    origin: str = parameter("", "Name kept with each new case, such as the robot's; empty: the host's name")
    corrector: str = parameter(
        "dispatch",
        "What a credible case becomes: by its type and what is known (dispatch), the rule table with a blend of 0.3 as "
        "the baseline (rules_blend), or nothing (off)",
        choices=("dispatch", "rules_blend", "off"),
        live=True,
    )
    without_correction: str = parameter(
        "negative",
        "What dispatch does with credible cases of which no correction is known: sample away from their "
        "failed chunks, ask the controller to hold, or nothing",
        choices=("negative", "hold", "none"),
        live=True,
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
    device: str = parameter(
        "auto",
        "Where the index lives; auto takes a GPU if there is one and faiss can use it",
        choices=("auto", "cpu", "cuda"),
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
    later_success_window: float = parameter(
        20.0,
        "How long after a failure an attempt that succeeds still becomes its correction",
        unit="s",
        minimum=0.0,
        maximum=600.0,
        live=True,
    )
