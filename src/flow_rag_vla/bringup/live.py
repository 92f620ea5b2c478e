# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The live page's node and its topics: started on request, beside any graph."""

from __future__ import annotations

from pathlib import Path

from flow_rag_vla.bringup.endpoints import Topic
from flow_rag_vla.bringup.graph import Parameters, Process, node_spec

DASHBOARD = "dashboard"

OVERALL_TOPIC = "diagnostics_toplevel_state"
AGGREGATED_TOPIC = "diagnostics_agg"
PLANNED_TOPIC = "overlay/planned_path"
COMMITTED_TOPIC = "overlay/committed_path"
CORRECTION_TOPIC = "overlay/correction_path"
WORKSPACE_TOPIC = "overlay/workspace"
PLAN_IMAGE_TOPIC = "overlay/plan_image"
DESCRIPTION_TOPIC = "robot_description"
FRAMES_TOPIC = "tf"
STILL_FRAMES_TOPIC = "tf_static"

LIVE_TOPICS: tuple[Topic, ...] = (
    Topic(OVERALL_TOPIC, "diagnostic_msgs/msg/DiagnosticStatus", "STATE", (DASHBOARD,), (),
          "one state over all nodes, each second: as bad as the worst"),
    Topic(AGGREGATED_TOPIC, "diagnostic_msgs/msg/DiagnosticArray", "default", (DASHBOARD,), (),
          "the newest of every node, and who is silent, each second"),
    Topic(PLANNED_TOPIC, "geometry_msgs/msg/PoseArray", "default", (DASHBOARD,), (),
          "where the chunk that is followed leads from here; only while someone listens"),
    Topic(COMMITTED_TOPIC, "geometry_msgs/msg/PoseArray", "default", (DASHBOARD,), (),
          "the part of it that no newer chunk may change; only while someone listens"),
    Topic(CORRECTION_TOPIC, "geometry_msgs/msg/PoseArray", "default", (DASHBOARD,), (),
          "where the correction that the memory retrieved leads from here; only while someone listens"),
    Topic(WORKSPACE_TOPIC, "geometry_msgs/msg/PolygonStamped", "default", (DASHBOARD,), (),
          "edges of the box that no command leaves; only while someone listens"),
    Topic(PLAN_IMAGE_TOPIC, "sensor_msgs/msg/Image", "SENSOR", (DASHBOARD,), (),
          "the front camera's picture with target, plan and correction drawn over it; only while someone listens"),
    Topic(DESCRIPTION_TOPIC, "std_msgs/msg/String", "STATE", (DASHBOARD,), (),
          "the arm's URDF, for viewers"),
    Topic(FRAMES_TOPIC, "tf2_msgs/msg/TFMessage", "default", (DASHBOARD,), (),
          "where the arm's links are; only while someone listens"),
    Topic(STILL_FRAMES_TOPIC, "tf2_msgs/msg/TFMessage", "STATE", (DASHBOARD,), (),
          "frames that never move: the world, the base, fixed links, cameras"),
)  # fmt: skip

SIMULATED_FRONT_CAMERA = (0.98, -0.40, 0.72, 0.455, -0.005, 0.02)
"""Eye and point looked at of the simulator's front camera, metres, base frame."""

SIMULATED_WRIST_CAMERA = (0.085, 0.0, 0.04, 0.02, 0.0, 0.14)
"""The same of its wrist camera, in the hand's frame."""


def dashboard_process(
    overrides: Parameters, params_file: Path, namespace: str = "", log_level: str = "info"
) -> Process:
    """The live page's node as it is to be started beside a graph."""
    return Process(node_spec(DASHBOARD), namespace, str(params_file), overrides, log_level)
