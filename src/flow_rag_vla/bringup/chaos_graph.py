# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The graph that faults are injected into: a whole graph, a relay in four of its links, two watchers.

On the mock arm, which moves no mass and renders no scene, so that rounds are short; every other node is the one that
ships. Or in simulation, where the robot itself can die.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import yaml

from flow_rag_vla.bringup import topics
from flow_rag_vla.bringup.graph import NodeSpec, Parameters, Process, sim_graph
from flow_rag_vla.bringup.parameters.chaos import ChaosMonitorParameters, ChaosPulseParameters, ChaosRelayParameters
from flow_rag_vla.bringup.resources import robots_folder
from flow_rag_vla.bringup.robot_graph import robot_graph
from flow_rag_vla.core.files import write_text

RELAY = NodeSpec("chaos_relay", ChaosRelayParameters, "stands in five links and disturbs them")
MONITOR = NodeSpec("chaos_monitor", ChaosMonitorParameters, "watches the command stream", respawn=False)
PULSE = NodeSpec("chaos_pulse", ChaosPulseParameters, "an empty 40 Hz timer", respawn=False)

ARM = "mock_robot"
"""In a real arm's place: it may stall, but a real one does not jump home as a new process does."""

ALSO = ("llm", "deliberation", "labeling", "dashboard")
"""Nodes that a graph has only on request."""

SIMULATOR = "simulator"
"""In a simulated graph: the robot and its world in one process."""

COMMAND_TIMEOUT_S = 0.05
"""Of the arm's bridge: two periods, after which a silent controller is held for."""

MONITOR_FILE, PULSE_FILE = "monitor.jsonl", "pulse.jsonl"

_RELAYED = {
    "flow_policy": "action_chunk",
    "failure_memory": "correction",
    "camera_encoder": "embedding",
    "robot": "robot_state",
    SIMULATOR: "robot_state",
    "robot_camera": topics.FRONT_IMAGE,
    "simulator_camera": topics.FRONT_IMAGE,
}


def chaos_graph(
    folder: Path, params_file: Path, seed: int = 0, *, simulated: bool = False, also: Sequence[str] = ()
) -> tuple[Process, ...]:
    """The processes; ``folder`` takes the run, the profile of the arm and what the watchers write.

    Unlike elsewhere the controller is started again when it dies: what the robot does meanwhile is the question.

    Args:
        folder: of the run.
        params_file: the nodes' parameters.
        seed: of the relay.
        simulated: in PyBullet, instead of on the mock arm.
        also: nodes of ``ALSO`` to start too.
    """
    arguments = {"run_folder": str(folder), **dict.fromkeys(also, "true")}
    profile = "" if simulated else str(_profile(folder / "arm.yaml"))
    if simulated:
        graph = sim_graph(arguments, params_file)
    else:
        graph = robot_graph({**arguments, "profile": profile, "mock": "true"}, params_file)
    # What is not of this run: a person's labels, a port that is taken, a server elsewhere.
    apart: dict[str, Parameters] = {
        "labeling": {"registry": str(folder / "labels"), "trainings": str(folder / "trainings")},
        "dashboard": {"port": free_port() if "dashboard" in also else 0},
        "llm": {"provider": "rules"},
    }
    processes = []
    for process in graph:
        name = process.spec.name
        topic = _RELAYED.get(name)
        remaps = ((topic, f"relayed/{topic}"),) if topic else ()
        overrides = process.overrides | apart.get(name, {})
        spec = replace(process.spec, respawn=True)
        processes.append(replace(process, spec=spec, remaps=remaps, overrides=overrides))
    beside = (
        (RELAY, {"seed": seed}),
        (MONITOR, {"profile": profile, "output": str(folder / MONITOR_FILE)}),
        (PULSE, {"output": str(folder / PULSE_FILE)}),
    )
    file = processes[0].params_file
    return (*processes, *(Process(spec, "", file, values, "info") for spec, values in beside))


def victims(processes: tuple[Process, ...]) -> tuple[str, ...]:
    """The nodes of the graph that may be killed, restarted and paused.

    In simulation not the controller: there is no bridge, which would name the hold of a robot that hears nothing.
    """
    own = {RELAY.name, MONITOR.name, PULSE.name, ARM}
    names = [process.spec.name for process in processes]
    if SIMULATOR in names:
        own.add("controller")
    return tuple(name for name in names if name not in own)


def free_port() -> int:
    """A port that nobody listens on: a page that is started again is looked for where it was."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def _profile(path: Path) -> Path:
    values = yaml.safe_load((robots_folder() / "mock.yaml").read_text(encoding="utf-8"))
    values["urdf"] = str((robots_folder() / values["urdf"]).resolve())
    values["timeouts"]["command"] = COMMAND_TIMEOUT_S
    write_text(path, yaml.safe_dump(values, sort_keys=False))
    return path
