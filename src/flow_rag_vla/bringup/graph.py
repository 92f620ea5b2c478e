# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The graph, declared once: which nodes, with which arguments turned into which parameters.

``launch/sim.launch.py`` and the console command both read this module, so they start the same processes with the
same parameters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from flow_rag_vla.bringup.parameters.camera_encoder import CameraEncoderParameters
from flow_rag_vla.bringup.parameters.controller import ControllerParameters
from flow_rag_vla.bringup.parameters.dashboard import DashboardParameters
from flow_rag_vla.bringup.parameters.deliberation import DeliberationParameters
from flow_rag_vla.bringup.parameters.episode_manager import EpisodeManagerParameters
from flow_rag_vla.bringup.parameters.failure_detector import FailureDetectorParameters
from flow_rag_vla.bringup.parameters.failure_memory import CHOSEN_CORRECTORS, FailureMemoryParameters
from flow_rag_vla.bringup.parameters.flow_policy import FlowPolicyParameters
from flow_rag_vla.bringup.parameters.labeling import LabelingParameters
from flow_rag_vla.bringup.parameters.lifecycle_manager import MANAGED, LifecycleManagerParameters
from flow_rag_vla.bringup.parameters.llm import LlmParameters
from flow_rag_vla.bringup.parameters.recorder import RecorderParameters
from flow_rag_vla.bringup.parameters.remote_policy import RemotePolicyParameters
from flow_rag_vla.bringup.parameters.simulator import SimulatorCameraParameters, SimulatorParameters
from flow_rag_vla.bringup.resources import policies_folder
from flow_rag_vla.bringup.run_folders import own_folder
from flow_rag_vla.policy.remote.connection import checked_url
from flow_rag_vla.policy.remote.contract import find_contract, load_contract
from flow_rag_vla.policy.remote.errors import RemotePolicyError


@dataclass(frozen=True, slots=True)
class NodeSpec:
    """One process of the graph. Its name is also its executable and its module in ``flow_rag_vla.nodes``."""

    name: str
    parameters: type
    summary: str
    respawn: bool = True
    """Started again when it dies. False only for the controller: after a loop that died, a person decides."""


NODES: tuple[NodeSpec, ...] = (
    NodeSpec("simulator", SimulatorParameters, "PyBullet world: robot, table, objects"),
    NodeSpec("simulator_camera", SimulatorCameraParameters, "renders the front and the wrist camera"),
    NodeSpec("camera_encoder", CameraEncoderParameters, "images to one embedding"),
    NodeSpec("flow_policy", FlowPolicyParameters, "embedding, proprioception and goal to an action chunk"),
    NodeSpec("failure_memory", FailureMemoryParameters, "remembers failures, answers every embedding"),
    NodeSpec("failure_detector", FailureDetectorParameters, "says when something went wrong, and why"),
    NodeSpec("controller", ControllerParameters, "the 40 Hz loop", respawn=False),
    NodeSpec("episode_manager", EpisodeManagerParameters, "runs, watches and scores episodes"),
    NodeSpec("lifecycle_manager", LifecycleManagerParameters, "brings the heavy nodes up, says when all work"),
    NodeSpec("recorder", RecorderParameters, "writes every topic to an MCAP bag"),
)

ON_REQUEST: tuple[NodeSpec, ...] = (
    NodeSpec("llm", LlmParameters, "words in, validated structures out"),
    NodeSpec("deliberation", DeliberationParameters, "words to a checked plan, or a hold with its reason"),
    NodeSpec("labeling", LabelingParameters, "images into labels, and labels to be found and corrected"),
    NodeSpec("dashboard", DashboardParameters, "the live page, and one state over all nodes"),
    NodeSpec("remote_policy", RemotePolicyParameters, "a policy server in the flow policy's place"),
)
"""Started only if the argument of the same name says so; ``remote_policy`` if ``policy_server`` names one."""

EVERY_NODE: tuple[NodeSpec, ...] = (*NODES, *ON_REQUEST)


def node_spec(name: str) -> NodeSpec:
    """The declaration of one node."""
    return next(spec for spec in EVERY_NODE if spec.name == name)


@dataclass(frozen=True, slots=True)
class Argument:
    """One argument of the bring-up, the same for ``ros2 launch`` and the console command."""

    name: str
    default: str
    description: str
    choices: tuple[str, ...] = ()


BOOLEAN = ("true", "false")

ARGUMENTS: tuple[Argument, ...] = (
    Argument("namespace", "", "Namespace of every node, topic and service; two graphs can run side by side"),
    Argument("use_sim_time", "false", "Take the time from /clock instead of the system clock", BOOLEAN),
    Argument("params_file", "", "YAML file of parameters; empty: the package's config/flow_rag_vla.yaml"),
    Argument("log_level", "info", "Severity from which nodes log", ("debug", "info", "warn", "error", "fatal")),
    Argument("mode", "real_time", "How the simulator's time passes", ("real_time", "stepped")),
    Argument("gui", "false", "Open PyBullet's window; needs a screen", BOOLEAN),
    Argument("encoder", "compact", "Vision backbone: compact, dinov2, mobilenet, a folder or a hub id"),
    Argument("checkpoint", "", "Folder of the policy checkpoint; empty: the one that ships"),
    Argument("device", "auto", "Where the networks run", ("auto", "cpu", "cuda")),
    Argument(
        "policy_server", "", "Policy server of openpi's protocol to use, as ws://host:8000; empty: the own policy"
    ),
    Argument("policy_preset", "libero", "What that server takes and gives: a name of config/policies/, or a YAML file"),
    Argument("policy_profile", "", "Robot profile whose kinematics turn that server's joint velocities into motion"),
    Argument(
        "corrector",
        "consensus",
        "How the memory acts: by what similar cases agree on, dispatch by case, the rules and blend baseline, or off",
        CHOSEN_CORRECTORS,
    ),
    Argument("run_folder", "", "Where episodes and the bag go; empty: no bag, and episodes to a folder in ~/.ros"),
    Argument(
        "memory",
        "",
        "Database of the failure memory, or a folder that holds one; empty: a new one, in the run folder if there is "
        "one; a real arm without a run folder keeps a lasting one in ~/.ros",
    ),
    Argument("record", "true", "Write the bag; needs run_folder", BOOLEAN),
    Argument("llm", "false", "Start the node of language models too", BOOLEAN),
    Argument("deliberation", "false", "Start the node that decides about commands too; it asks the node llm", BOOLEAN),
    Argument("labeling", "false", "Start the labeling node too", BOOLEAN),
    Argument("dashboard", "false", "Start the live page too", BOOLEAN),
)

MEMORY_DATABASE = "failure_memory.db"
"""The failure memory in a run's folder, and in one that practice made."""

EMERGENCY_STOP_FILE = "emergency_stop"
"""In a run's folder while the emergency stop is latched."""

FALSE_ALARMS_FILE = "false_alarms.json"
"""In a run's folder: what the detector has counted of its own false alarms."""

Parameters = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Process:
    """A node as it is to be started."""

    spec: NodeSpec
    namespace: str
    params_file: str
    overrides: Parameters
    log_level: str
    remaps: tuple[tuple[str, str], ...] = field(default=(), kw_only=True)
    """Topics under other names: (name in the node, name in the graph)."""

    @property
    def module(self) -> str:
        """Python module that runs the node."""
        return f"flow_rag_vla.nodes.{self.spec.name}"


class GraphError(ValueError):
    """The arguments of a bring-up make no sense."""


def check_policy_folder(checkpoint: str) -> None:
    """Refuse a policy's folder that is none before anything is started; empty: the one that ships.

    Raises:
        GraphError: naming it and what to give.
    """
    if checkpoint and not (Path(checkpoint).expanduser() / "policy.json").is_file():
        raise GraphError(
            f"checkpoint {checkpoint!r} holds no policy.json; give a policy's folder, such as "
            "runs/train/checkpoints/policy, which flow_rag_vla train makes"
        )


def memory_database(memory: str) -> str:
    """Database that the argument ``memory`` names: a file, or that of a run's or a bank's folder."""
    path = Path(memory).expanduser()
    return str(path / MEMORY_DATABASE) if path.is_dir() else memory


def default_arguments() -> dict[str, str]:
    """Every argument at its default."""
    return {argument.name: argument.default for argument in ARGUMENTS}


def sim_graph(arguments: Mapping[str, str], params_file: Path) -> tuple[Process, ...]:
    """The simulation graph for these arguments.

    Args:
        arguments: values by name; what is missing takes its default.
        params_file: the file to use when the argument ``params_file`` is empty.

    Raises:
        GraphError: for an unknown argument or value.
    """
    values = _checked(arguments)
    sim_time = values["use_sim_time"] == "true" or values["mode"] == "stepped"
    folder = Path(values["run_folder"]).expanduser() if values["run_folder"] else None
    overrides: dict[str, Parameters] = {spec.name: {"use_sim_time": sim_time} for spec in EVERY_NODE}
    overrides["simulator"] |= {"mode": values["mode"], "gui": values["gui"] == "true"}
    overrides["camera_encoder"] |= {"encoder": values["encoder"], "device": values["device"]}
    overrides["flow_policy"] |= {"checkpoint": values["checkpoint"], "device": values["device"]}
    overrides["failure_memory"] |= {"corrector": values["corrector"], "policy_checkpoint": values["checkpoint"]}
    own = folder or own_folder(values["namespace"])
    # Without a folder a new one, too: what simulated runs leave in ~/.ros would lead later ones, and an arm.
    database = memory_database(values["memory"]) if values["memory"] else str(own / MEMORY_DATABASE)
    overrides["failure_memory"]["database"] = database
    overrides["episode_manager"]["results_dir"] = str(own / "episodes")
    overrides["failure_detector"]["false_alarms_file"] = str(own / FALSE_ALARMS_FILE)
    if folder is not None:
        overrides["recorder"]["bag"] = str(folder / "bag")
    overrides["deliberation"] |= decides(values, folder, database)
    if values["deliberation"] == "true":
        # What it sees is the scene of commands that bring none.
        overrides["labeling"]["publish"] = True
    chosen = chosen_policy(values)
    overrides |= {name: overrides[name] | added for name, added in chosen.overrides.items()}
    # A simulated robot begins anew with each run.
    overrides["controller"]["emergency_stop_file"] = "off" if folder is None else str(folder / EMERGENCY_STOP_FILE)
    recording = folder is not None and values["record"] == "true"
    return tuple(
        Process(
            spec,
            values["namespace"],
            values["params_file"] or str(params_file),
            overrides[spec.name],
            values["log_level"],
        )
        for spec in EVERY_NODE
        if (spec.name != "recorder" or recording)
        and spec.name != chosen.other
        and (spec not in ON_REQUEST or spec.name == chosen.node or values.get(spec.name) == "true")
    )


def decides(values: Mapping[str, str], folder: Path | None, database: str) -> Parameters:
    """Parameters of the deliberation node: where the past is looked up and its own log is kept.

    Args:
        values: arguments by name.
        folder: the run's; None: nothing is kept, and no episodes are looked into.
        database: of the graph's failure memory; empty: none is looked into.
    """
    kept: Parameters = {}
    if folder is not None:
        kept = {"logs": [str(folder)], "log": str(folder / "deliberation.jsonl")}
    return {"policy_checkpoint": values["checkpoint"], "memory_database": database, **kept}


@dataclass(frozen=True, slots=True)
class ChosenPolicy:
    """The node that makes chunks, the one that does not, and what follows for others: parameters by node."""

    node: str
    other: str
    overrides: Mapping[str, Parameters]


def chosen_policy(values: Mapping[str, str]) -> ChosenPolicy:
    """Who makes the chunks, by the arguments ``policy_server``, ``policy_preset`` and ``policy_profile``.

    Raises:
        GraphError: for a server or a contract that cannot be used.
    """
    own, remote = "flow_policy", "remote_policy"
    if not values["policy_server"]:
        return ChosenPolicy(own, remote, {})
    try:
        server = checked_url(values["policy_server"])
        file = find_contract(values["policy_preset"], policies_folder()).resolve()
        load_contract(file)
    except RemotePolicyError as error:
        raise GraphError(str(error)) from None

    def instead(names: tuple[str, ...]) -> list[str]:
        return [remote if name == own else name for name in names]

    # The whole path: a node's working directory need not be the person's.
    node: Parameters = {"server": server, "contract": str(file), "robot_profile": values["policy_profile"]}
    expected = DashboardParameters().expected
    others = {"lifecycle_manager": {"nodes": instead(MANAGED)}, "dashboard": {"expected": instead(expected)}}
    return ChosenPolicy(remote, own, {remote: node, **others})


def _checked(arguments: Mapping[str, str]) -> dict[str, str]:
    values = default_arguments()
    for name, value in arguments.items():
        if name not in values:
            raise GraphError(f"unknown argument {name!r}; known: {', '.join(values)}")
        values[name] = value
    for argument in ARGUMENTS:
        value = values[argument.name]
        if argument.choices and value not in argument.choices:
            raise GraphError(f"{argument.name} is {value!r}, expected one of {', '.join(argument.choices)}")
    path = values["params_file"]
    if path and not Path(path).is_file():
        raise GraphError(f"params_file {path!r} does not exist; copy config/flow_rag_vla.yaml and edit the copy")
    check_policy_folder(values["checkpoint"])
    return values
