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
)  # fmt: skip

SIMULATED_FRONT_CAMERA = (0.98, -0.40, 0.72, 0.455, -0.005, 0.02)
"""Eye and point looked at of the simulator's front camera, metres, base frame."""


def dashboard_process(
    overrides: Parameters, params_file: Path, namespace: str = "", log_level: str = "info"
) -> Process:
    """The live page's node as it is to be started beside a graph."""
    return Process(node_spec(DASHBOARD), namespace, str(params_file), overrides, log_level)
