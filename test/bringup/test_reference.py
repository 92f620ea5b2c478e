# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The generated files are those that were generated."""

from __future__ import annotations

from flow_rag_vla.bringup.graph import ARGUMENTS, EVERY_NODE
from flow_rag_vla.bringup.reference import parameters_file, reference_page
from flow_rag_vla.bringup.replay_graph import PLAYER, REPLAY_ARGUMENTS
from flow_rag_vla.bringup.resources import share_folder
from flow_rag_vla.bringup.robot_graph import ROBOT_ARGUMENTS, ROBOT_NODES
from flow_rag_vla.bringup.security.grants import ANYTHING, grants
from flow_rag_vla.core.parameters import parameter_table
from flow_rag_vla.robot.profile import find_profile, load_profile


def test_the_reference_page_is_the_one_the_declarations_make():
    assert (share_folder() / "docs" / "reference.md").read_text() == reference_page()


def test_the_parameter_file_is_the_one_the_declarations_make():
    assert (share_folder() / "config" / "flow_rag_vla.yaml").read_text() == parameters_file()


def test_the_page_has_every_parameter_of_every_node():
    page = reference_page()
    for spec in (*EVERY_NODE, PLAYER, *ROBOT_NODES):
        section = page.split(f"### {spec.name}\n")[1].split("\n### ")[0]
        for info in parameter_table(spec.parameters):
            assert f"| `{info.name}` |" in section


def test_the_page_has_every_argument_of_every_launch_file():
    files = {"sim": ARGUMENTS, "robot": ROBOT_ARGUMENTS, "replay": REPLAY_ARGUMENTS}
    assert {path.name.removesuffix(".launch.py") for path in (share_folder() / "launch").iterdir()} == set(files)
    for name, arguments in files.items():
        section = reference_page().split(f"`ros2 launch flow_rag_vla {name}.launch.py ")[1].split("`ros2 launch")[0]
        for argument in arguments:
            assert f"| `{argument.name}` |" in section, f"{name}: {argument.name}"


def test_the_page_has_whatever_a_node_may_publish_and_answer():
    page = reference_page()
    # Those of an arm and its mock are the profile's; those of every node and of people are no endpoint of the graph.
    nodes = {spec.name for spec in (*EVERY_NODE, PLAYER)}
    offered = {
        name
        for grant in grants(load_profile(find_profile("mock", share_folder() / "config" / "robots")))
        if grant.node in nodes
        for name in (*grant.publishes, *grant.serves, *grant.executes)
        if name != ANYTHING and not name.startswith(("~/", "/rosout", "/parameter_events"))
    }
    assert {"labeling/auto_label", "failure_diagnosis", "episode_manager/score", "bag_player/step"} <= offered
    assert sorted(name for name in offered if f"| `{name}` |" not in page) == []
