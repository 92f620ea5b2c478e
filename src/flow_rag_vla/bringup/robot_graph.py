# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The graph over a real arm, declared once for ``launch/robot.launch.py`` and ``flow_rag_vla robot``.

It is the simulation graph with the robot bridge, the node of its cameras, and on request the mock robot, in the
simulator's place. Limits of the loop follow the robot's profile.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from flow_rag_vla.bringup.graph import (
    ARGUMENTS,
    BOOLEAN,
    EMERGENCY_STOP_FILE,
    FALSE_ALARMS_FILE,
    MEMORY_DATABASE,
    Argument,
    GraphError,
    NodeSpec,
    Parameters,
    Process,
    check_policy_folder,
    chosen_policy,
    decides,
    memory_database,
    node_spec,
)
from flow_rag_vla.bringup.parameters.dashboard import DashboardParameters
from flow_rag_vla.bringup.parameters.robot import MockRobotParameters, RobotCameraParameters, RobotParameters
from flow_rag_vla.bringup.resources import robots_folder
from flow_rag_vla.bringup.run_folders import own_folder
from flow_rag_vla.control.integrator import MotionLimits
from flow_rag_vla.core.action import TICK_S
from flow_rag_vla.robot.fields import ProfileError
from flow_rag_vla.robot.profile import RobotProfile, find_profile, load_profile

ROBOT = NodeSpec("robot", RobotParameters, "bridge to a real arm: its topics to ours, our commands inside its limits")
ROBOT_CAMERA = NodeSpec(
    "robot_camera", RobotCameraParameters, "images of an arm's cameras, checked and under the graph's names"
)
MOCK_ROBOT = NodeSpec("mock_robot", MockRobotParameters, "an arm that is not there, on the topics of a profile")

ROBOT_NODES = (ROBOT, ROBOT_CAMERA, MOCK_ROBOT)
"""In the simulator's place: the second for a profile with cameras, the third on request."""

HOLD_TOPIC = "robot/hold"
"""Why the bridge holds; empty while it does not."""

VIOLATIONS_TOPIC, WATCHDOG_STOPS_TOPIC = "mock_robot/violations", "mock_robot/watchdog_stops"
"""How often the mock was sent something beyond its limits, and stopped for want of commands."""

_NODES = (
    "camera_encoder", "flow_policy", "failure_memory", "failure_detector", "controller", "episode_manager",
    "lifecycle_manager",
)  # fmt: skip
_SHARED = (
    "namespace", "params_file", "log_level", "encoder", "checkpoint", "device", "corrector", "run_folder", "memory",
    "record", "policy_server", "policy_preset", "llm", "deliberation", "labeling", "dashboard",
)  # fmt: skip
_ON_REQUEST = ("llm", "deliberation", "labeling", "dashboard")
"""Started if the argument of the same name says so."""

ROBOT_ARGUMENTS: tuple[Argument, ...] = (
    Argument("profile", "", "Robot profile: the name of one in config/robots/, or the path of a YAML file"),
    Argument("mock", "false", "Start a mock of the robot too, on the topics of the profile", BOOLEAN),
    *(argument for argument in ARGUMENTS if argument.name in _SHARED),
)


def robot_graph(arguments: Mapping[str, str], params_file: Path) -> tuple[Process, ...]:
    """The graph over an arm for these arguments.

    Args:
        arguments: values by name; what is missing takes its default.
        params_file: the file to use when the argument ``params_file`` is empty.

    Raises:
        GraphError: for an unknown argument or value, or a profile that cannot be used.
    """
    values = _checked(arguments)
    try:
        profile = load_profile(find_profile(values["profile"], robots_folder()))
    except ProfileError as error:
        raise GraphError(str(error)) from None
    folder = Path(values["run_folder"]).expanduser() if values["run_folder"] else None
    own = folder or own_folder(values["namespace"])
    chosen = chosen_policy({**values, "policy_profile": str(Path(profile.file).resolve())})
    names = [chosen.node if name == chosen.other else name for name in _NODES]
    left_out = {ROBOT_CAMERA: not profile.cameras, MOCK_ROBOT: values["mock"] != "true"}
    arm = [spec for spec in ROBOT_NODES if not left_out.get(spec)]
    names += [name for name in _ON_REQUEST if values[name] == "true"]
    specs = [*arm, *(node_spec(name) for name in names)]
    if folder is not None and values["record"] == "true":
        specs.append(node_spec("recorder"))
    overrides: dict[str, Parameters] = {spec.name: {"use_sim_time": False} for spec in specs}
    # The whole path: a node's working directory need not be the person's.
    file = str(Path(profile.file).resolve())
    for spec in arm:
        overrides[spec.name]["profile"] = file
    if MOCK_ROBOT in arm:
        # A mock begins anew with each run; of a real arm the latch outlives the run too, until a person releases it.
        overrides["controller"]["emergency_stop_file"] = "off" if folder is None else str(folder / EMERGENCY_STOP_FILE)
        overrides["failure_detector"]["false_alarms_file"] = str(own / FALSE_ALARMS_FILE)
    limits = loop_limits(profile)
    overrides["controller"] |= limits
    # What the guard lets pass must be what the controller then does, and what this arm's people teach must pass.
    overrides["failure_memory"] |= {name: limits[name] for name in GUARDED}
    overrides["episode_manager"] |= {"reset": "none", "scoring": "person"}
    overrides["camera_encoder"] |= {"encoder": values["encoder"], "device": values["device"]}
    if chosen.node == "flow_policy":
        overrides["flow_policy"] |= {"checkpoint": values["checkpoint"], "device": values["device"]}
    else:
        overrides["remote_policy"]["gripper_width"] = max(profile.gripper.width_open, 0.001)
    for name in overrides.keys() & chosen.overrides.keys():
        overrides[name] |= chosen.overrides[name]
    if "dashboard" in overrides:
        # An arm without its bridge is not ready, whatever decides about it.
        expected = overrides["dashboard"].get("expected", DashboardParameters().expected)
        overrides["dashboard"]["expected"] = [*(spec.name for spec in arm if spec != MOCK_ROBOT), *expected]
    overrides["failure_memory"] |= {"corrector": values["corrector"], "policy_checkpoint": values["checkpoint"]}
    if values["memory"]:
        overrides["failure_memory"]["database"] = memory_database(values["memory"])
    elif folder is not None or MOCK_ROBOT in arm:
        # What happens to an arm that is not there must not lead the one that is.
        overrides["failure_memory"]["database"] = str(own / MEMORY_DATABASE)
    if "deliberation" in overrides:
        # Plans are held against this arm's limits; what the labeling node sees is the scene of commands without one.
        database = overrides["failure_memory"].get("database", "")
        overrides["deliberation"] |= {"profile": file, **decides(values, folder, database)}
        if "labeling" in overrides:
            overrides["labeling"]["publish"] = True
    overrides["episode_manager"]["results_dir"] = str(own / "episodes")
    if folder is not None and "recorder" in overrides:
        overrides["recorder"]["bag"] = str(folder / "bag")
    return tuple(
        Process(
            spec,
            values["namespace"],
            values["params_file"] or str(params_file),
            overrides[spec.name],
            values["log_level"],
        )
        for spec in specs
    )


GUARDED = ("workspace_low", "workspace_high", "max_translation", "max_rotation")
"""Parameters of the memory's guard that are the controller's."""


def loop_limits(profile: RobotProfile) -> Parameters:
    """Parameters of the controller for an arm: the tighter of its own limits and the profile's."""
    limits = MotionLimits()
    return {
        "workspace_low": list(profile.workspace_low),
        "workspace_high": list(profile.workspace_high),
        "gripper_width": max(profile.gripper.width_open, 0.001),
        "max_translation": max(min(limits.translation, profile.tool_speed * TICK_S), 0.0005),
        "max_rotation": max(min(limits.rotation, profile.turn_speed * TICK_S), 0.002),
    }


def _checked(arguments: Mapping[str, str]) -> dict[str, str]:
    values = {argument.name: argument.default for argument in ROBOT_ARGUMENTS}
    for name, value in arguments.items():
        if name not in values:
            raise GraphError(f"unknown argument {name!r}; known: {', '.join(values)}")
        values[name] = value
    for argument in ROBOT_ARGUMENTS:
        value = values[argument.name]
        if argument.choices and value not in argument.choices:
            raise GraphError(f"{argument.name} is {value!r}, expected one of {', '.join(argument.choices)}")
    path = values["params_file"]
    if path and not Path(path).is_file():
        raise GraphError(f"params_file {path!r} does not exist; copy config/flow_rag_vla.yaml and edit the copy")
    check_policy_folder(values["checkpoint"])
    if not values["profile"]:
        shipped = ", ".join(sorted(found.stem for found in robots_folder().glob("*.yaml")))
        raise GraphError(f"profile is empty; name one of {shipped}, or a YAML file (docs/robot.md)")
    return values
