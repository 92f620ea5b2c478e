# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""RViz, Foxglove and the live page's node show topics that exist, with the types that they have."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from flow_rag_vla.bringup.endpoints import TOPICS, Topic
from flow_rag_vla.bringup.frames import simulated_arm, simulated_cameras
from flow_rag_vla.bringup.graph import sim_graph
from flow_rag_vla.bringup.live import DASHBOARD, LIVE_TOPICS, dashboard_process
from flow_rag_vla.bringup.resources import default_params_file, share_folder

CONFIG = share_folder() / "config"
DECLARED: dict[str, Topic] = {f"/{topic.name.lstrip('/')}": topic for topic in (*TOPICS, *LIVE_TOPICS)}

SHOWS = {
    "rviz_default_plugins/Image": "sensor_msgs/msg/Image",
    "rviz_default_plugins/PoseArray": "geometry_msgs/msg/PoseArray",
    "rviz_default_plugins/Polygon": "geometry_msgs/msg/PolygonStamped",
    "rviz_default_plugins/Wrench": "geometry_msgs/msg/WrenchStamped",
}
"""What each kind of display subscribes to."""

PATH = re.compile(r"(?P<topic>/[a-z_/]+)(?P<fields>(\.[a-z_0-9]+(\[\d+\])?)*)")


def rviz_displays() -> list[dict[str, Any]]:
    text = (CONFIG / "rviz" / "flow_rag_vla.rviz").read_text()
    displays: list[dict[str, Any]] = yaml.safe_load(text)["Visualization Manager"]["Displays"]
    return [display for display in displays if "Topic" in display]


def test_every_rviz_display_shows_a_topic_of_its_type():
    displays = rviz_displays()
    for display in displays:
        topic = DECLARED[display["Topic"]["Value"]]
        assert topic.type == SHOWS[display["Class"]], display["Name"]
    assert {f"/{topic.name}" for topic in LIVE_TOPICS if topic.name.startswith("overlay/")} <= {
        display["Topic"]["Value"] for display in displays
    }


def test_rviz_draws_the_arm_from_the_description_that_is_kept_for_latecomers_in_a_frame_of_the_tree():
    manager = yaml.safe_load((CONFIG / "rviz" / "flow_rag_vla.rviz").read_text())["Visualization Manager"]
    (arm,) = (item for item in manager["Displays"] if item["Class"] == "rviz_default_plugins/RobotModel")
    described = arm["Description Topic"]
    topic = DECLARED[described["Value"]]
    assert (topic.type, topic.qos) == ("std_msgs/msg/String", "STATE")
    assert (described["Durability Policy"], described["Reliability Policy"]) == ("Transient Local", "Reliable")
    assert manager["Transformation"]["Current"]["Class"] == "rviz_default_plugins/TF"
    assert {DECLARED[name].type for name in ("/tf", "/tf_static")} == {"tf2_msgs/msg/TFMessage"}
    arms = simulated_arm()
    frames = {item.child for item in (*arms.still(simulated_cameras()), *arms.description.moved({}))}
    assert manager["Global Options"]["Fixed Frame"] in frames
    assert foxglove()["configById"]["3D!scene"]["followTf"] in frames
    assert foxglove()["configById"]["3D!scene"]["topics"]["/robot_description"]["visible"]


def test_rviz_takes_what_is_published_best_effort():
    assert all(display["Topic"]["Reliability Policy"] == "Best Effort" for display in rviz_displays())


def strings(value: Any) -> Iterator[str]:
    """Every string and key in a JSON value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
        for item in value.values():
            yield from strings(item)
    elif isinstance(value, list):
        for item in value:
            yield from strings(item)


def foxglove() -> dict[str, Any]:
    layout: dict[str, Any] = json.loads((CONFIG / "foxglove" / "flow_rag_vla.json").read_text())
    return layout


def test_every_path_in_the_foxglove_layout_is_a_topic_and_a_field_that_it_has():
    paths = sorted({text for text in strings(foxglove()["configById"]) if text.startswith("/")})
    assert len(paths) > 10
    for path in paths:
        found = PATH.fullmatch(path)
        assert found is not None, path
        assert found["topic"] in DECLARED, path
        check_fields(DECLARED[found["topic"]].type, [part for part in found["fields"].split(".") if part], path)


def check_fields(kind: str, fields: list[str], path: str) -> None:
    """Follow field names through our own message definitions."""
    package, _, name = kind.split("/")
    for field in fields:
        file = share_folder() / "src" / package / "msg" / f"{name}.msg"
        assert file.is_file(), f"{path}: {kind} is none of our messages"
        plain = field.split("[")[0]
        assert re.search(rf"^[A-Za-z0-9_/\[\]]+ {plain}\b", file.read_text(), re.MULTILINE), f"{path}: no {field}"


def test_every_panel_of_the_foxglove_layout_is_placed_and_configured():
    layout = foxglove()
    assert {text for text in strings(layout["layout"]) if "!" in text} == set(layout["configById"])


def test_the_live_page_is_started_only_on_request():
    def names(**arguments: str) -> list[str]:
        return [process.spec.name for process in sim_graph(arguments, Path("parameters.yaml"))]

    assert DASHBOARD not in names()
    assert DASHBOARD in names(dashboard="true")
    process = dashboard_process({"port": 0}, default_params_file(), "left")
    assert (process.module, process.namespace) == ("flow_rag_vla.nodes.dashboard", "left")


def test_what_the_page_publishes_has_names_of_its_own():
    declared = [topic.name for topic in (*TOPICS, *LIVE_TOPICS)]
    assert len(declared) == len(set(declared))
    assert all(not topic.name.startswith("/") and topic.publishers == (DASHBOARD,) for topic in LIVE_TOPICS)
