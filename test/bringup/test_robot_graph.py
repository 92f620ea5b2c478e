# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Which processes a graph over an arm has, by its profile."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from flow_rag_vla.bringup.endpoints import ARM_TOPICS
from flow_rag_vla.bringup.loop_settings import loop_settings
from flow_rag_vla.bringup.memory_settings import memory_settings
from flow_rag_vla.bringup.parameters.controller import ControllerParameters
from flow_rag_vla.bringup.parameters.dashboard import DashboardParameters
from flow_rag_vla.bringup.parameters.failure_memory import FailureMemoryParameters
from flow_rag_vla.bringup.profiles import PROFILES
from flow_rag_vla.bringup.resources import robots_folder
from flow_rag_vla.bringup.robot_graph import HOLD_TOPIC, ROBOT, ROBOT_CAMERA, ROBOT_NODES, robot_graph
from flow_rag_vla.core.parameters import load_parameters

PARAMS = Path("parameters.yaml")


def blind(folder: Path) -> str:
    """A profile like the mock's, without cameras."""
    values = yaml.safe_load((robots_folder() / "mock.yaml").read_text(encoding="utf-8"))
    values["urdf"] = str((robots_folder() / values["urdf"]).resolve())
    del values["cameras"]
    (folder / "blind.yaml").write_text(yaml.safe_dump(values), encoding="utf-8")
    return str(folder / "blind.yaml")


@pytest.mark.parametrize("mock", ["false", "true"])
def test_an_arm_has_a_bridge_and_its_cameras_have_a_process_of_their_own(mock):
    processes = {process.spec.name: process for process in robot_graph({"profile": "franka", "mock": mock}, PARAMS)}
    arm = [processes[spec.name] for spec in ROBOT_NODES if spec.name in processes]
    assert len(arm) == (3 if mock == "true" else 2)
    assert {process.overrides["profile"] for process in arm} == {str((robots_folder() / "franka.yaml").resolve())}
    assert [name for name, process in processes.items() if not process.spec.respawn] == ["controller"]
    for process in processes.values():
        values = {name: value for name, value in process.overrides.items() if name != "use_sim_time"}
        load_parameters(process.spec.parameters, values)


def test_what_a_mock_teaches_is_not_remembered_for_an_arm(tmp_path):
    def database(**arguments: str) -> str:
        processes = robot_graph({"profile": "mock", **arguments}, PARAMS)
        memory = next(process.overrides for process in processes if process.spec.name == "failure_memory")
        return memory.get("database", "")

    assert database() == "", "an arm's own is the parameter's default, which outlives the run"
    assert database(mock="true").endswith("/failure_memory.db") and "/runs/" in database(mock="true")
    assert database(mock="true", run_folder=str(tmp_path)) == str(tmp_path / "failure_memory.db")
    assert database(mock="true", memory=str(tmp_path / "lab.db")) == str(tmp_path / "lab.db")


@pytest.mark.parametrize("asked", [{}, {"dashboard": "true", "labeling": "true", "llm": "true"}])
def test_no_node_over_an_arm_takes_its_time_from_a_clock_that_somebody_publishes(asked, tmp_path):
    processes = robot_graph({"profile": "mock", "run_folder": str(tmp_path), **asked}, PARAMS)
    assert {process.overrides["use_sim_time"] for process in processes} == {False}


def test_who_decides_about_an_arm_holds_plans_against_its_profile_and_sees_what_is_labelled(tmp_path):
    asked = {"profile": "franka", "llm": "true", "deliberation": "true", "labeling": "true"}
    with_folder = {process.spec.name: process for process in robot_graph(asked | {"run_folder": "r"}, PARAMS)}
    assert {"llm", "deliberation", "labeling"} <= with_folder.keys()
    values = with_folder["deliberation"].overrides
    assert values["profile"] == str((robots_folder() / "franka.yaml").resolve())
    assert values["logs"] == ["r"] and values["memory_database"] == with_folder["failure_memory"].overrides["database"]
    assert with_folder["labeling"].overrides["publish"]
    for process in with_folder.values():
        values = {name: value for name, value in process.overrides.items() if name != "use_sim_time"}
        load_parameters(process.spec.parameters, values)
    bare = {process.spec.name: process for process in robot_graph({**asked, "labeling": "false"}, PARAMS)}
    assert "labeling" not in bare and "logs" not in bare["deliberation"].overrides
    none = [process.spec.name for process in robot_graph({"profile": "franka"}, PARAMS)]
    assert not {"llm", "deliberation", "labeling"} & set(none)


def test_the_live_page_of_an_arm_is_started_on_request_and_misses_its_bridge_and_cameras(tmp_path):
    def expected(**arguments):
        processes = robot_graph({"dashboard": "true", **arguments}, PARAMS)
        names = [process.spec.name for process in processes]
        values = next(process.overrides for process in processes if process.spec.name == "dashboard")
        load_parameters(DashboardParameters, _declared(values))
        assert set(values["expected"]) <= set(names), "nobody waits for a node that is not there"
        return values["expected"]

    assert expected(profile="franka")[:2] == ["robot", "robot_camera"]
    assert "robot_camera" not in expected(profile=blind(tmp_path))
    assert "mock_robot" not in expected(profile="mock", mock="true")
    served = expected(profile="mock", policy_server="ws://a:8000", policy_preset="plain")
    assert "remote_policy" in served and "flow_policy" not in served
    assert "dashboard" not in [process.spec.name for process in robot_graph({"profile": "franka"}, PARAMS)]


@pytest.mark.parametrize("profile", ["franka", "so101", "ur5e"])
def test_the_memorys_guard_lets_pass_what_this_arms_controller_does_and_nothing_else(profile):
    processes = {process.spec.name: process.overrides for process in robot_graph({"profile": profile}, PARAMS)}
    guard = memory_settings(load_parameters(FailureMemoryParameters, _declared(processes["failure_memory"]))).guard
    loop = loop_settings(load_parameters(ControllerParameters, _declared(processes["controller"]))).limits
    for name in ("workspace_low", "workspace_high", "translation", "rotation"):
        assert getattr(guard.limits, name) == getattr(loop, name), name
    if profile == "so101":
        assert guard.limits.workspace_high == (0.32, 0.15, 0.22)


def _declared(overrides):
    return {name: value for name, value in overrides.items() if name != "use_sim_time"}


def test_why_the_bridge_holds_is_recorded_by_every_profile_that_has_commands():
    assert HOLD_TOPIC in {topic.name for topic in ARM_TOPICS}
    assert [name for name, names in PROFILES.items() if HOLD_TOPIC in names] == ["graph", "control", "everything"]


def test_an_arm_without_cameras_has_no_process_for_them(tmp_path):
    processes = [process.spec for process in robot_graph({"profile": blind(tmp_path)}, PARAMS)]
    assert ROBOT in processes and ROBOT_CAMERA not in processes
