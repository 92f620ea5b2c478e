# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""One declaration of the graph feeds launch and the console command."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml

from flow_rag_vla.bringup import endpoints, topics
from flow_rag_vla.bringup.graph import ARGUMENTS, EVERY_NODE, NODES, GraphError, default_arguments, node_spec, sim_graph
from flow_rag_vla.bringup.parameters.failure_memory import FailureMemoryParameters
from flow_rag_vla.bringup.profiles import BRIDGE
from flow_rag_vla.bringup.reference import CONFIGURED
from flow_rag_vla.bringup.replay_graph import replay_graph
from flow_rag_vla.bringup.resources import default_params_file
from flow_rag_vla.bringup.robot_graph import ROBOT, robot_graph
from flow_rag_vla.bringup.supervisor import command_line
from flow_rag_vla.cli.memory_database import DEFAULT_DATABASE
from flow_rag_vla.core.parameters import load_parameters, parameter_table

PARAMS = Path("parameters.yaml")


def overrides(name, **arguments):
    return next(process for process in sim_graph(arguments, PARAMS) if process.spec.name == name).overrides


def test_every_override_is_a_declared_parameter_of_its_node(tmp_path):
    arguments = {"run_folder": str(tmp_path), "memory": "m.db", "mode": "stepped", "corrector": "off"}
    for process in sim_graph(arguments, PARAMS):
        values = {name: value for name, value in process.overrides.items() if name != "use_sim_time"}
        load_parameters(process.spec.parameters, values)


def test_a_stepped_simulation_takes_its_time_from_the_clock_topic():
    assert overrides("controller", mode="stepped")["use_sim_time"] is True
    assert overrides("controller")["use_sim_time"] is False


def test_the_memory_lives_in_the_run_folder_unless_told_otherwise(tmp_path):
    assert overrides("failure_memory", run_folder=str(tmp_path))["database"] == str(tmp_path / "failure_memory.db")
    assert overrides("failure_memory", run_folder=str(tmp_path), memory="lab.db")["database"] == "lab.db"


def test_simulated_runs_without_a_folder_have_a_memory_each_and_leave_the_lasting_one_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    graphs = [
        {
            process.spec.name: process.overrides
            for process in sim_graph({"namespace": name, "deliberation": "true"}, PARAMS)
        }
        for name in ("left", "right")
    ]
    found = [graph["failure_memory"]["database"] for graph in graphs]
    assert len(set(found)) == 2, "two that run side by side would write one database"
    assert str(DEFAULT_DATABASE) == FailureMemoryParameters().database, "the lasting one, which an arm's graph uses"
    assert str(DEFAULT_DATABASE.expanduser()) not in found
    for graph, database in zip(graphs, found, strict=True):
        # Beside its episodes, so that a run's traces are in one place.
        assert Path(database).parent == Path(graph["episode_manager"]["results_dir"]).parent
        assert graph["deliberation"]["memory_database"] == database
    assert overrides("failure_memory", memory="lab.db")["database"] == "lab.db"


@pytest.mark.parametrize(("graph", "given"), [(sim_graph, {}), (robot_graph, {"profile": "mock", "mock": "true"})])
def test_graphs_that_are_given_no_run_folder_have_one_each(graph, given, tmp_path, monkeypatch):
    # As two `ros2 launch` do, and one that includes the file twice.
    monkeypatch.setenv("HOME", str(tmp_path))

    def results(namespace):
        processes = graph({**given, "namespace": namespace}, PARAMS)
        return next(item.overrides["results_dir"] for item in processes if item.spec.name == "episode_manager")

    found = [results(namespace) for namespace in ("", "left", "lab/left")]
    monkeypatch.setattr(os, "getpid", lambda: 1)
    found += [results(namespace) for namespace in ("", "left", "lab/left")]
    assert len(set(found)) == 6
    assert all(Path(item).parents[1] == tmp_path / ".ros/flow_rag_vla/runs" for item in found)
    assert not list(tmp_path.iterdir()), "asking for a graph makes no folder"


def test_false_alarms_are_counted_in_the_run_folder_and_for_a_real_arm_across_runs(tmp_path):
    def file(graph, **arguments):
        processes = graph({"run_folder": str(tmp_path), **arguments}, PARAMS)
        return next(item.overrides for item in processes if item.spec.name == "failure_detector").get(
            "false_alarms_file"
        )

    assert file(sim_graph) == str(tmp_path / "false_alarms.json")
    assert file(robot_graph, profile="mock", mock="true") == str(tmp_path / "false_alarms.json")
    assert file(robot_graph, profile="mock") is None, "the node's own, by domain and namespace"
    assert file(replay_graph, bag=str(tmp_path), remake="failure") == "off", "a recorded success is counted once"
    assert file(sim_graph, run_folder="").endswith("/false_alarms.json")


def test_the_recorder_knows_the_bridge_by_its_name():
    assert ROBOT.name == BRIDGE


@pytest.mark.parametrize("arguments", [{}, {"run_folder": "r", "record": "false"}])
def test_without_a_place_or_a_wish_nothing_is_recorded(arguments):
    assert "recorder" not in [process.spec.name for process in sim_graph(arguments, PARAMS)]


def test_the_node_of_language_models_is_started_only_on_request():
    assert "llm" not in [process.spec.name for process in sim_graph({}, PARAMS)]
    assert "llm" in [process.spec.name for process in sim_graph({"llm": "true"}, PARAMS)]


def test_a_policy_server_takes_the_place_of_the_own_policy_for_everybody_who_names_it(tmp_path):
    arguments = {"policy_server": "ws://10.0.0.5:8000", "policy_preset": "droid", "dashboard": "true"}
    nodes = {process.spec.name: process.overrides for process in sim_graph(arguments, PARAMS)}
    assert "flow_policy" not in nodes
    assert nodes["remote_policy"]["server"] == "ws://10.0.0.5:8000"
    assert Path(nodes["remote_policy"]["contract"]).is_file()
    assert nodes["lifecycle_manager"]["nodes"] == [
        "camera_encoder", "failure_memory", "remote_policy", "failure_detector",
    ]  # fmt: skip
    assert "remote_policy" in nodes["dashboard"]["expected"] and "flow_policy" not in nodes["dashboard"]["expected"]
    for process in sim_graph(arguments, PARAMS):
        load_parameters(process.spec.parameters, {k: v for k, v in process.overrides.items() if k != "use_sim_time"})
    assert "remote_policy" not in [process.spec.name for process in sim_graph({}, PARAMS)]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"policy_server": "10.0.0.5:8000"}, "expected ws://host:port"),
        ({"policy_server": "ws://a:1", "policy_preset": "octo"}, "name one of droid, libero, plain"),
        ({"speed": "1"}, "unknown argument 'speed'"),
        ({"mode": "fast"}, "expected one of real_time, stepped"),
        ({"params_file": "/nowhere.yaml"}, "does not exist"),
    ],
)
def test_wrong_arguments_are_named(arguments, said):
    with pytest.raises(GraphError, match=said):
        sim_graph(arguments, PARAMS)


def test_only_the_controller_is_not_started_again():
    assert [spec.name for spec in NODES if not spec.respawn] == ["controller"]


def test_arguments_are_described_and_their_defaults_valid():
    assert all(argument.description for argument in ARGUMENTS)
    assert sim_graph(default_arguments(), PARAMS)


def test_the_shipped_parameter_file_holds_every_parameter_at_its_default_and_nothing_else():
    loaded = yaml.safe_load(default_params_file().read_text())
    # Parameters on a command line are put into the entry of all nodes, and lose against entries after it.
    assert list(loaded) == [*(f"/**/{spec.name}" for spec in CONFIGURED), "/**"]
    for spec in CONFIGURED:
        values = loaded[f"/**/{spec.name}"]["ros__parameters"]
        assert list(values) == [info.name for info in parameter_table(spec.parameters)]
        assert load_parameters(spec.parameters, values) == spec.parameters()


def test_the_command_line_quotes_strings_so_that_yaml_keeps_them_strings():
    process = sim_graph({"encoder": "true", "namespace": "left/arm"}, PARAMS)
    encoder = next(item for item in process if item.spec.name == "camera_encoder")
    command = command_line(encoder)
    assert 'encoder:="true"' in command
    assert "__ns:=/left/arm" in command


def test_every_declared_endpoint_names_nodes_that_exist():
    names = {spec.name for spec in EVERY_NODE} | {"every node"}
    for topic in endpoints.TOPICS:
        assert set(topic.publishers) <= names and set(topic.subscribers) <= names, topic.name
    assert {service.server for service in endpoints.SERVICES} <= names
    assert node_spec("controller").name == "controller"


def test_every_topic_name_is_declared_as_an_endpoint():
    declared = {topic.name for topic in endpoints.TOPICS} | {service.name for service in endpoints.SERVICES}
    named = {value for key, value in vars(topics).items() if key.isupper() and key != "BASE_FRAME"}
    assert named == declared


def test_only_the_clock_and_diagnostics_have_absolute_names():
    assert {topic.name for topic in endpoints.TOPICS if topic.name.startswith("/")} == {"/clock", "/diagnostics"}


def test_who_decides_about_commands_sees_what_is_labelled():
    def publishes(**arguments: str) -> bool:
        processes = {process.spec.name: process for process in sim_graph(arguments, default_params_file())}
        return bool(processes["labeling"].overrides.get("publish", False))

    assert publishes(labeling="true", deliberation="true")
    assert not publishes(labeling="true")
