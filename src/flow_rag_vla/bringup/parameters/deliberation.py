# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Parameters of the node that decides about commands."""

from __future__ import annotations

from dataclasses import dataclass

from flow_rag_vla.core.parameters import parameter


@dataclass(frozen=True, slots=True)
class DeliberationParameters:
    """From words to a checked plan: how strict, how long, and where the past is looked up."""

    deadline: float = parameter(
        30.0,
        "Time for a decision, a person's answer included, when the goal names none",
        unit="s",
        minimum=0.1,
        maximum=3600.0,
        live=True,
    )
    concurrency: int = parameter(
        4, "Deliberations under way at once; further ones are refused", minimum=1, maximum=100, live=True
    )
    profile: str = parameter(
        "", "YAML file of the arm's profile, whose limits plans are checked against; empty: the simulated arm"
    )
    logs: tuple[str, ...] = parameter(
        (), "Folders of runs or files of trials or rehearsals, which say what episodes have shown"
    )
    memory_database: str = parameter("", "Database of the failure memory, read only; empty: none is looked into")
    policy_checkpoint: str = parameter(
        "",
        "Folder of the policy checkpoint whose readout makes the situation key that remembered failures are compared "
        "by, as of the failure memory; empty: the one that ships",
    )
    log: str = parameter("", "File that gets a JSON line for each stage of each deliberation; empty: none")
    most_steps: int = parameter(8, "Steps of a plan", minimum=1, maximum=8)
    longest: float = parameter(
        90.0, "Time that a plan's steps may take together by their limits", unit="s", minimum=1.0, maximum=3600.0
    )
    margin: float = parameter(
        0.02, "How far inside the workspace places must be, to the sides", unit="m", minimum=0.0, maximum=0.2
    )
    least_certainty: float = parameter(
        0.5, "Certainty below which a thing of the scene does not count as seen", minimum=0.0, maximum=1.0
    )
    stop_distance: float = parameter(
        0.5,
        "Distance of a person from target or destination below which a plan is refused",
        unit="m",
        minimum=0.0,
        maximum=10.0,
    )
    ask_distance: float = parameter(
        1.5,
        "Distance of a person from target or destination below which a person is asked",
        unit="m",
        minimum=0.0,
        maximum=10.0,
    )
    require_scene: bool = parameter(False, "Whether a command without a scene is refused")
    labels: bool = parameter(
        True,
        "Whether a goal without a scene takes what the labeling node saw last, if that publishes its detections",
    )
    labels_age: float = parameter(
        3.0, "Age beyond which what was seen last is no scene any more", unit="s", minimum=0.1, maximum=60.0
    )
    front_camera: tuple[float, ...] = parameter(
        (),
        "Where the camera of the labels is and the point it looks at, x y z x y z, base frame: says where things are; "
        "empty: that of the simulator if one runs, else a person is asked",
        unit="m",
        minimum=-20.0,
        maximum=20.0,
    )
    table: float = parameter(0.0, "Height of what things stand on, base frame", unit="m", minimum=-2.0, maximum=2.0)
    certainty_floor: float = parameter(
        0.2, "Chance of success that a plan must still be able to have, at 97.5 % confidence", minimum=0.0, maximum=1.0
    )
    ask_below: float = parameter(
        0.0, "Score below which a person is asked, unknown criteria at their worst; 0: never", minimum=0.0, maximum=1.0
    )
    diagnose: bool = parameter(True, "Whether failure events are explained on failure_diagnosis")
    manuals: str = parameter(
        "",
        "Text store (file or postgresql://...) whose manuals a language model is given with a failure to explain, see "
        "flow_rag_vla knowledge; embedded as the node llm embeds; empty: none",
    )
    diagnose_images: bool = parameter(
        True,
        "Whether small pictures of both cameras go with the question why, to whichever server the node llm asks; "
        "false keeps them here",
    )
