# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The replay graph, declared once: a bag in place of the robot, and the nodes that decide anew.

``launch/replay.launch.py`` and ``flow_rag_vla replay --graph`` both read this module.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path

from flow_rag_vla.bringup.graph import (
    ARGUMENTS,
    BOOLEAN,
    MEMORY_DATABASE,
    Argument,
    GraphError,
    NodeSpec,
    Parameters,
    Process,
    check_policy_folder,
    chosen_policy,
    memory_database,
    node_spec,
)
from flow_rag_vla.bringup.parameters.bag_player import BagPlayerParameters

PLAYER = NodeSpec("bag_player", BagPlayerParameters, "plays a bag: its topics, and its time on /clock", respawn=False)
"""Not started again: a bag that was played is played."""

STAGES: Mapping[str, str] = {
    "embedding": "camera_encoder",
    "chunk": "flow_policy",
    "correction": "failure_memory",
    "failure": "failure_detector",
    "command": "controller",
}
"""What can be made anew, and by whom."""

_SHARED = (
    "namespace", "params_file", "log_level", "encoder", "checkpoint", "device", "corrector", "run_folder", "memory",
    "record", "policy_server", "policy_preset", "policy_profile", "dashboard",
)  # fmt: skip

REPLAY_ARGUMENTS: tuple[Argument, ...] = (
    Argument("bag", "", "Bag folder, run folder, .mcap or .db3 file"),
    Argument("remake", ",".join(STAGES), f"What is made anew instead of played, of {', '.join(STAGES)}; none: nothing"),
    Argument("rate", "1.0", "Speed of the bag's time"),
    Argument("start", "0.0", "Where to begin, seconds from the first message"),
    Argument("duration", "0.0", "How much to play, seconds; 0: to the end"),
    Argument("loop", "false", "Begin again at the end", BOOLEAN),
    Argument("paused", "false", "Begin paused", BOOLEAN),
    Argument("topics", "", "Topics to play, separated by commas; empty: all that are not made anew"),
    Argument("mute", "", "Further topics or groups that are not played, separated by commas"),
    Argument("remap", "", "New names, as old:=new, separated by commas"),
    *(argument for argument in ARGUMENTS if argument.name in _SHARED),
)


def replay_graph(arguments: Mapping[str, str], params_file: Path) -> tuple[Process, ...]:
    """The replay graph for these arguments: the player first, then who makes the stages of ``remake`` anew.

    Args:
        arguments: values by name; what is missing takes its default.
        params_file: the file to use when the argument ``params_file`` is empty.

    Raises:
        GraphError: for an unknown argument or value.
    """
    values = _checked(arguments)
    stages = [] if values["remake"] in ("", "none") else _list(values["remake"])
    for stage in stages:
        if stage not in STAGES:
            raise GraphError(f"remake names {stage!r}, expected some of {', '.join(STAGES)}, or none")
    folder = Path(values["run_folder"]).expanduser() if values["run_folder"] else None
    policy = chosen_policy(values)
    makers = {**STAGES, "chunk": policy.node}
    specs = [node_spec(makers[stage]) for stage in stages]
    decides = [spec.name for spec in specs]
    if folder is not None and values["record"] == "true":
        specs.append(node_spec("recorder"))
    if values["dashboard"] == "true":
        specs.append(node_spec("dashboard"))
    overrides: dict[str, Parameters] = {spec.name: {"use_sim_time": True} for spec in specs}
    overrides["bag_player"] = {
        "bag": values["bag"],
        "rate": _number(values, "rate"),
        "start": _number(values, "start"),
        "duration": _number(values, "duration"),
        "loop": values["loop"] == "true",
        "paused": values["paused"] == "true",
        "wait_for": [spec.name for spec in specs],
    }
    # An empty list has no type in YAML: what is not asked for is left to the parameter's default.
    lists = {
        "topics": _list(values["topics"]),
        "mute": [*stages, *_list(values["mute"])],
        "remap": _list(values["remap"]),
    }
    overrides["bag_player"] |= {name: found for name, found in lists.items() if found}
    settings: Mapping[str, Parameters] = {
        "camera_encoder": {"encoder": values["encoder"], "device": values["device"]},
        "flow_policy": {"checkpoint": values["checkpoint"], "device": values["device"]},
        "failure_memory": {
            "corrector": values["corrector"],
            "policy_checkpoint": values["checkpoint"],
            "database": _database(values["memory"], folder),
        },
        "recorder": {"bag": str(folder / "bag") if folder is not None else ""},
        # What a bag plays may not stop the robot of tomorrow.
        "controller": {"emergency_stop_file": "off"},
        "failure_detector": {"false_alarms_file": "off"},
        **policy.overrides,
    }
    for name, chosen in settings.items():
        if name in overrides:
            overrides[name] |= chosen
    if "dashboard" in overrides:
        overrides["dashboard"]["expected"] = [PLAYER.name, *decides]
    if not specs:
        del overrides["bag_player"]["wait_for"]
    return tuple(
        Process(
            spec,
            values["namespace"],
            values["params_file"] or str(params_file),
            overrides[spec.name],
            values["log_level"],
        )
        for spec in (PLAYER, *specs)
    )


def _database(memory: str, folder: Path | None) -> str:
    """The memory that is named, else a new one: a replay must not teach the robot's memory the same episode twice."""
    if memory:
        return memory_database(memory)
    home = folder if folder is not None else Path(tempfile.mkdtemp(prefix="flow_rag_vla_replay_"))
    return str(home / MEMORY_DATABASE)


def _checked(arguments: Mapping[str, str]) -> dict[str, str]:
    values = {argument.name: argument.default for argument in REPLAY_ARGUMENTS}
    for name, value in arguments.items():
        if name not in values:
            raise GraphError(f"unknown argument {name!r}; known: {', '.join(values)}")
        values[name] = value
    for argument in REPLAY_ARGUMENTS:
        value = values[argument.name]
        if argument.choices and value not in argument.choices:
            raise GraphError(f"{argument.name} is {value!r}, expected one of {', '.join(argument.choices)}")
    for name in ("params_file", "bag"):
        if values[name] and not Path(values[name]).expanduser().exists():
            wanted = "a bag folder, a run folder, or a file" if name == "bag" else "a YAML file of parameters"
            raise GraphError(f"{name} {values[name]!r} does not exist; name {wanted}")
    check_policy_folder(values["checkpoint"])
    if not values["bag"]:
        raise GraphError("bag is empty; name a bag folder, a run folder, or a file")
    return values


def _number(values: Mapping[str, str], name: str) -> float:
    try:
        return float(values[name])
    except ValueError:
        raise GraphError(f"{name} is {values[name]!r}, expected a number") from None


def _list(text: str) -> list[str]:
    return [item.strip() for item in text.split(",") if item.strip()]
