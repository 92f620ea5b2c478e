# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The graph that faults are injected into: the whole graph on the mock arm, a relay in four of its links, two watchers.

The mock moves no mass and renders no scene, so that rounds are short; every other node is the one that ships.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import yaml

from flow_rag_vla.bringup.graph import NodeSpec, Process
from flow_rag_vla.bringup.parameters.chaos import ChaosMonitorParameters, ChaosPulseParameters, ChaosRelayParameters
from flow_rag_vla.bringup.resources import robots_folder
from flow_rag_vla.bringup.robot_graph import robot_graph
from flow_rag_vla.core.files import write_text

RELAY = NodeSpec("chaos_relay", ChaosRelayParameters, "stands in four links and disturbs them")
MONITOR = NodeSpec("chaos_monitor", ChaosMonitorParameters, "watches the command stream", respawn=False)
PULSE = NodeSpec("chaos_pulse", ChaosPulseParameters, "an empty 40 Hz timer", respawn=False)

ARM = "mock_robot"
"""In a real arm's place: it may stall, but a real one does not jump home as a new process does."""

COMMAND_TIMEOUT_S = 0.05
"""Of the arm's bridge: two periods, after which a silent controller is held for."""

MONITOR_FILE, PULSE_FILE = "monitor.jsonl", "pulse.jsonl"

_RELAYED = {
    "flow_policy": "action_chunk",
    "failure_memory": "correction",
    "camera_encoder": "embedding",
    "robot": "robot_state",
}


def chaos_graph(folder: Path, params_file: Path, seed: int = 0) -> tuple[Process, ...]:
    """The processes; ``folder`` takes the run, the profile of the arm and what the watchers write.

    Unlike elsewhere the controller is started again when it dies: what the robot does meanwhile is the question.
    """
    profile = _profile(folder / "arm.yaml")
    arguments = {"profile": str(profile), "mock": "true", "run_folder": str(folder)}
    processes = []
    for process in robot_graph(arguments, params_file):
        topic = _RELAYED.get(process.spec.name)
        remaps = ((topic, f"relayed/{topic}"),) if topic else ()
        processes.append(replace(process, spec=replace(process.spec, respawn=True), remaps=remaps))
    beside = (
        (RELAY, {"seed": seed}),
        (MONITOR, {"profile": str(profile), "output": str(folder / MONITOR_FILE)}),
        (PULSE, {"output": str(folder / PULSE_FILE)}),
    )
    file = processes[0].params_file
    return (*processes, *(Process(spec, "", file, values, "info") for spec, values in beside))


def victims(processes: tuple[Process, ...]) -> tuple[str, ...]:
    """The nodes of the graph that may be killed."""
    own = (RELAY.name, MONITOR.name, PULSE.name, ARM)
    return tuple(process.spec.name for process in processes if process.spec.name not in own)


def _profile(path: Path) -> Path:
    values = yaml.safe_load((robots_folder() / "mock.yaml").read_text(encoding="utf-8"))
    values["urdf"] = str((robots_folder() / values["urdf"]).resolve())
    values["timeouts"]["command"] = COMMAND_TIMEOUT_S
    write_text(path, yaml.safe_dump(values, sort_keys=False))
    return path
