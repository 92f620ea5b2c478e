# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The settings of a replay, of the parameters that a bag or a run folder has on record."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import yaml

from flow_rag_vla.bringup.loop_settings import loop_settings
from flow_rag_vla.bringup.memory_settings import answering_settings, keying, learning_settings, memory_settings
from flow_rag_vla.bringup.parameters.controller import ControllerParameters
from flow_rag_vla.bringup.parameters.failure_memory import FailureMemoryParameters
from flow_rag_vla.bringup.parameters.flow_policy import FlowPolicyParameters
from flow_rag_vla.control.loop import LoopSettings
from flow_rag_vla.core.parameters import ParameterError, load_parameters, parameter_table
from flow_rag_vla.core.yaml_text import plain_yaml
from flow_rag_vla.evaluate.decisions.memory import ORIGIN, MemoryReplaySettings
from flow_rag_vla.evaluate.decisions.recording import DecisionRecording
from flow_rag_vla.evaluate.decisions.replay import PolicySettings
from flow_rag_vla.policy.situation import SituationKeyError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class ReplaySettings:
    """Everything that may be set about a replay.

    loop_changes: settings of the loop that took over while the bag was recorded, with log times
    checkpoint: folder of the policy; empty: the one that ships
    database: of the failure memory that the run used; empty if it is not known
    notes: where defaults had to stand in for what is not on record
    """

    policy: PolicySettings
    loop: LoopSettings
    loop_changes: tuple[tuple[int, LoopSettings], ...]
    memory: MemoryReplaySettings
    checkpoint: str
    database: str
    notes: tuple[str, ...]


def replay_settings(recording: DecisionRecording) -> ReplaySettings:
    """Settings of what is on record: parameters in the bag, else ``run.json`` beside it, else defaults."""
    notes: list[str] = []
    values: dict[str, Mapping[str, Any]] = dict(recording.parameters)
    where = "the bag"
    if "controller" not in values:
        values, where = dict(_run_parameters(recording.path)), "run.json"
        if not values:
            notes.append("no parameters are on record: every one is taken at its default")
    controller = _load(ControllerParameters, values.get("controller", {}), where, notes)
    policy = _load(FlowPolicyParameters, values.get("flow_policy", {}), where, notes)
    remembered = values.get("failure_memory", {})
    if remembered and "key" not in remembered:
        # Recorded before there was a choice: embeddings were compared.
        remembered = {"corrector": "dispatch", **remembered, "key": "embedding"}
    memory = _load(FailureMemoryParameters, remembered, where, notes)
    changes = []
    for log_ns, node, changed in recording.changes:
        if node == "controller":
            controller_then = {**values.get("controller", {}), **changed}
            values["controller"] = controller_then
            changes.append((log_ns, loop_settings(_load(ControllerParameters, controller_then, where, notes))))
        elif node in ("flow_policy", "failure_memory"):
            notes.append(f"parameters of {node} were changed while recording; the first ones are used throughout")
    return ReplaySettings(
        PolicySettings(
            "heun" if policy.solver == "heun" else "euler",
            policy.steps,
            policy.samples,
            guidance=policy.guidance_strength,
        ),
        loop_settings(controller),
        tuple(changes),
        _memory(memory, notes),
        policy.checkpoint,
        memory.database if "failure_memory" in values else "",
        tuple(dict.fromkeys(notes)),
    )


def _memory(parameters: FailureMemoryParameters, notes: list[str]) -> MemoryReplaySettings:
    try:
        made_with = keying(parameters)
    except SituationKeyError as error:
        made_with = None
        notes.append(f"the memory compares embeddings in this replay: {error}")
    return MemoryReplaySettings(
        answering_settings(parameters),
        made_with,
        int(parameters.history * 1e9),
        dataclasses.replace(learning_settings(parameters), origin=ORIGIN),
        memory_settings(parameters),
    )


def _load(cls: type[T], values: Mapping[str, Any], where: str, notes: list[str]) -> T:
    table = {info.name: info for info in parameter_table(cls)}
    known = {}
    for name, value in values.items():
        if name not in table:
            continue
        try:
            known[name] = table[name].check([] if value is None and table[name].is_list else value)
        except ParameterError as error:
            notes.append(f"a parameter of {where} is refused, its default is used: {error}")
    return load_parameters(cls, known)


def _run_parameters(bag: Path) -> dict[str, dict[str, Any]]:
    """Parameters of run.json and the parameter file that it names, for a bag in a run folder."""
    for folder in (bag.parent, bag):
        try:
            about = json.loads((folder / "run.json").read_text(encoding="utf-8"))
            values: dict[str, dict[str, Any]] = {}
            path = Path(str(about.get("params_file", "")))
            loaded = plain_yaml(path.read_text(encoding="utf-8")) if path.is_file() else {}
            for name, section in (loaded or {}).items():
                values.setdefault(name.rsplit("/", 1)[-1], {}).update(section.get("ros__parameters") or {})
            for name, overrides in about.get("parameters", {}).items():
                values.setdefault(name, {}).update(overrides)
            return values
        except (OSError, ValueError, AttributeError, TypeError, yaml.YAMLError):
            continue
    return {}
