# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Parameters of the episode manager."""

from __future__ import annotations

from dataclasses import dataclass

from flow_rag_vla.core.parameters import parameter


@dataclass(frozen=True, slots=True)
class EpisodeManagerParameters:
    """Episodes: how one starts, who says that it succeeded, and when it is given up."""

    results_dir: str = parameter("runs/latest/episodes", "Folder that gets one JSON file an episode")
    reset: str = parameter(
        "simulator",
        "How an episode starts: by the simulator's reset service, or none on a robot that people set up",
        choices=("simulator", "none"),
    )
    scoring: str = parameter(
        "ground_truth",
        "Who judges: the simulator's success test, or a person through the service ~/score",
        choices=("ground_truth", "person"),
    )
    reset_timeout: float = parameter(
        20.0,
        "How long a reset may take, waiting for the service included",
        unit="s",
        minimum=0.1,
        maximum=600.0,
        live=True,
    )
    timeout: float = parameter(
        30.0,
        "Time limit of an episode when neither the goal nor the simulator names one",
        unit="s",
        minimum=0.1,
        maximum=3600.0,
        live=True,
    )
    success_hold: float = parameter(
        0.25, "How long the success test must hold", unit="s", minimum=0.0, maximum=10.0, live=True
    )
    scoring_time: float = parameter(
        0.3,
        "How long after the verdict failure events still count for the episode",
        unit="s",
        minimum=0.0,
        maximum=10.0,
        live=True,
    )
    silence_limit: float = parameter(
        5.0,
        "Silence of controller, robot or simulator after which a running episode is aborted",
        unit="s",
        minimum=0.2,
        maximum=600.0,
        live=True,
    )
    take_up_limit: float = parameter(
        20.0,
        "For how long an episode manager may have been gone so that the one started after it goes on with its "
        "episode; 0: such an episode is always aborted",
        unit="s",
        minimum=0.0,
        maximum=600.0,
    )
    plan_deadline: float = parameter(
        30.0,
        "Time for the deliberation node to decide about free words, a person's answer included",
        unit="s",
        minimum=0.1,
        maximum=3600.0,
        live=True,
    )
