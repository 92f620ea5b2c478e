# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Parameters of the simulator and of its camera."""

from __future__ import annotations

from dataclasses import dataclass

from flow_rag_vla.core.goal import task_names
from flow_rag_vla.core.parameters import parameter


@dataclass(frozen=True, slots=True)
class SimulatorParameters:
    """The PyBullet world: robot, table, objects, and how its time passes."""

    mode: str = parameter(
        "real_time",
        "real_time follows the wall clock; stepped advances only when simulator/step is called",
        choices=("real_time", "stepped"),
    )
    gui: bool = parameter(False, "Open PyBullet's window; needs a screen")
    task: str = parameter("pick_and_place", "Task of the scene shown before the first reset", choices=task_names())
    variant: str = parameter("plain", "Variant of that scene")
    seed: int = parameter(0, "Seed of that scene", minimum=0, maximum=2**31 - 1)
    command_timeout: float = parameter(
        0.2,
        "Age of the last command above which the robot keeps its pose",
        unit="s",
        minimum=0.05,
        maximum=5.0,
        live=True,
    )


@dataclass(frozen=True, slots=True)
class SimulatorCameraParameters:
    """The renderer: a mirror of the simulated scene in a process of its own."""

    rate: float = parameter(
        10.0, "Image pairs a second, at most one for each robot state", unit="Hz", minimum=0.5, maximum=40.0, live=True
    )
