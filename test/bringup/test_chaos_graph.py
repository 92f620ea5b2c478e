# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The graphs that faults are injected into: who is in them, who may be killed, what is not a person's own."""

from __future__ import annotations

import pytest

from flow_rag_vla.bringup.chaos_graph import ALSO, ARM, SIMULATOR, chaos_graph, victims
from flow_rag_vla.bringup.resources import default_params_file
from flow_rag_vla.evaluate.chaos.plan import LINKS

WATCHERS = {"chaos_relay", "chaos_monitor", "chaos_pulse"}


def by_name(processes):
    return {process.spec.name: process for process in processes}


def test_on_the_mock_arm_every_node_but_the_arm_may_be_killed(tmp_path):
    graph = chaos_graph(tmp_path, default_params_file())
    names = by_name(graph)
    assert set(names) - WATCHERS - {ARM} == set(victims(graph))
    assert {"controller", "episode_manager", "robot", "recorder"} <= set(victims(graph))
    assert names["chaos_monitor"].overrides["profile"] == str(tmp_path / "arm.yaml")
    assert names["robot"].remaps == (("robot_state", "relayed/robot_state"),)
    assert {remap for process in graph for remap in process.remaps} == {(link, f"relayed/{link}") for link in LINKS}


def test_in_simulation_the_robot_itself_may_be_killed_and_the_controller_not(tmp_path):
    graph = chaos_graph(tmp_path, default_params_file(), simulated=True)
    names = by_name(graph)
    assert {SIMULATOR, "simulator_camera", "episode_manager"} <= set(victims(graph))
    assert not {"controller", ARM, "robot"} & set(victims(graph))
    # No profile: the loop's own limits hold.
    assert names["chaos_monitor"].overrides["profile"] == ""
    assert names[SIMULATOR].remaps == (("robot_state", "relayed/robot_state"),)
    assert all(process.spec.respawn for process in graph if process.spec.name not in WATCHERS)


@pytest.mark.parametrize("simulated", [False, True])
def test_nodes_on_request_are_victims_too_and_touch_nothing_of_a_persons(tmp_path, simulated):
    graph = chaos_graph(tmp_path, default_params_file(), simulated=simulated, also=ALSO)
    names = by_name(graph)
    assert set(ALSO) <= set(victims(graph))
    assert names["labeling"].overrides["registry"].startswith(str(tmp_path))
    assert names["labeling"].overrides["trainings"].startswith(str(tmp_path))
    assert names["llm"].overrides["provider"] == "rules"
    assert 1024 < names["dashboard"].overrides["port"] < 65536
