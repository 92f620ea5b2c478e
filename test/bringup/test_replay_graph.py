# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The replay graph: the player in place of the robot, and whoever makes a stage anew mutes what was recorded of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from flow_rag_vla.bringup.endpoints import TOPICS
from flow_rag_vla.bringup.graph import GraphError, default_arguments
from flow_rag_vla.bringup.profiles import PROFILES
from flow_rag_vla.bringup.replay_graph import REPLAY_ARGUMENTS, STAGES, replay_graph
from flow_rag_vla.bringup.replay_settings import replay_settings
from flow_rag_vla.core.parameters import load_parameters
from flow_rag_vla.data.playlist import GROUPS
from flow_rag_vla.evaluate.decisions.replay import PolicySettings

PARAMS = Path("parameters.yaml")


def graph(tmp_path, **arguments):
    (tmp_path / "bag").mkdir(exist_ok=True)
    processes = replay_graph({"bag": str(tmp_path / "bag"), **arguments}, PARAMS)
    return {process.spec.name: process for process in processes}


def test_everything_is_made_anew_by_default_and_nothing_simulates(tmp_path):
    nodes = graph(tmp_path, run_folder=str(tmp_path / "run"))
    assert set(nodes) == {"bag_player", *STAGES.values(), "recorder"}
    assert nodes["bag_player"].overrides["mute"] == list(STAGES)
    assert all(node.overrides["use_sim_time"] is True for name, node in nodes.items() if name != "bag_player")
    assert nodes["failure_memory"].overrides["database"] == str(tmp_path / "run" / "failure_memory.db")


def test_only_what_is_asked_for_is_made_anew(tmp_path):
    nodes = graph(tmp_path, remake="chunk,command", mute="images", loop="true", rate="2")
    assert set(nodes) == {"bag_player", "flow_policy", "controller"}
    player = nodes["bag_player"].overrides
    assert player["mute"] == ["chunk", "command", "images"]
    assert player["wait_for"] == ["flow_policy", "controller"]
    assert (player["loop"], player["rate"]) == (True, 2.0)
    alone = graph(tmp_path, remake="none")
    assert set(alone) == {"bag_player"} and "wait_for" not in alone["bag_player"].overrides


def test_the_live_page_of_a_replay_follows_the_bags_time_and_misses_only_who_is_there(tmp_path):
    nodes = graph(
        tmp_path, remake="chunk,command", dashboard="true", policy_server="ws://a:8000", policy_preset="plain"
    )
    values = nodes["dashboard"].overrides
    assert values["expected"] == ["bag_player", "remote_policy", "controller"] and values["use_sim_time"] is True
    alone = graph(tmp_path, remake="none", dashboard="true")
    assert alone["dashboard"].overrides["expected"] == ["bag_player"]
    assert alone["bag_player"].overrides["wait_for"] == ["dashboard"]
    assert "dashboard" not in graph(tmp_path)


def test_a_policy_server_makes_the_chunks_anew(tmp_path):
    nodes = graph(tmp_path, remake="chunk,command", policy_server="ws://a:8000", policy_preset="plain")
    assert set(nodes) == {"bag_player", "remote_policy", "controller"}
    assert nodes["remote_policy"].overrides["use_sim_time"] is True
    assert nodes["remote_policy"].overrides["server"] == "ws://a:8000"
    assert nodes["bag_player"].overrides["wait_for"] == ["remote_policy", "controller"]
    assert nodes["bag_player"].overrides["mute"] == ["chunk", "command"]


def test_every_override_is_a_declared_parameter_of_its_node(tmp_path):
    for process in graph(
        tmp_path, run_folder=str(tmp_path), topics="a,b", remap="a:=b", memory="m.db", dashboard="true"
    ).values():
        values = {name: value for name, value in process.overrides.items() if name != "use_sim_time"}
        load_parameters(process.spec.parameters, values)


def test_what_a_stage_makes_is_what_its_group_mutes():
    for stage, node in STAGES.items():
        made = {topic.name for topic in TOPICS if node in topic.publishers}
        assert made == set(GROUPS[stage]), stage


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"bag": "/nowhere"}, "does not exist"),
        ({"remake": "soup"}, "remake names 'soup'"),
        ({"rate": "fast"}, "expected a number"),
        ({"speed": "1"}, "unknown argument"),
        ({"loop": "often"}, "expected one of true, false"),
    ],
)
def test_wrong_arguments_are_named(tmp_path, arguments, said):
    with pytest.raises(GraphError, match=said):
        graph(tmp_path, **arguments)
    with pytest.raises(GraphError, match="bag is empty"):
        replay_graph({}, PARAMS)


def test_arguments_are_described_and_shared_ones_mean_the_same():
    assert all(argument.description for argument in REPLAY_ARGUMENTS)
    shared = set(default_arguments()) & {argument.name for argument in REPLAY_ARGUMENTS}
    assert {"namespace", "params_file", "memory", "corrector"} <= shared


def test_profiles_of_recordings_hold_what_replays_need():
    needed = {"command", "tick_inputs", "robot_state", "embedding", "action_chunk", "correction", "episode_status"}
    assert needed | {"failure_event", "/parameter_events"} <= set(PROFILES["control"])
    assert not any("image" in name for name in PROFILES["control"])
    assert "*" in PROFILES["everything"]


def test_a_replay_is_set_as_the_policys_parameters_on_record_say(tmp_path):
    policy = {"solver": "heun", "steps": 9, "samples": 2, "guidance_strength": 0.25}
    on_record = SimpleNamespace(parameters={"controller": {}, "flow_policy": policy}, changes=(), path=tmp_path)
    assert replay_settings(on_record).policy == PolicySettings("heun", 9, 2, guidance=0.25)
