# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Parameters of the live page's node."""

from __future__ import annotations

from dataclasses import dataclass

from flow_rag_vla.core.parameters import parameter


@dataclass(frozen=True, slots=True)
class DashboardParameters:
    """The live page, the state over all nodes, and what RViz and Foxglove draw."""

    page: bool = parameter(
        True,
        "Serve the live page; false: only the overall state and the drawn topics, without the extra [web]",
    )
    host: str = parameter("127.0.0.1", "Address to listen on; 0.0.0.0 is every one of this machine")
    port: int = parameter(
        8600,
        "Port to listen on; 0: a free one, as where it is taken and no token file was given",
        minimum=0,
        maximum=65535,
    )
    tokens: str = parameter(
        "", "Token file (docs/live.md); empty: tokens are made and printed once, on standard output"
    )
    image_rate: float = parameter(
        5.0, "Pictures of each camera a second while somebody looks", unit="Hz", minimum=0.2, maximum=30.0, live=True
    )
    data_rate: float = parameter(
        10.0, "Updates a second while somebody looks", unit="Hz", minimum=0.5, maximum=40.0, live=True
    )
    jpeg_quality: int = parameter(85, "Quality of the pictures", minimum=10, maximum=95, live=True)
    front_camera: tuple[float, ...] = parameter(
        (),
        "Where the front camera is and the point it looks at, x y z x y z, base frame: plans are drawn into its "
        "picture; empty: that of the simulator if one runs, else nothing is drawn",
        unit="m",
        minimum=-20.0,
        maximum=20.0,
    )
    wrist_camera: tuple[float, ...] = parameter(
        (),
        "Where the optical frame of a real arm's wrist camera is, x y z roll pitch yaw, in the profile's tool_frame, "
        "metres and radians; empty: where its driver says, and where the simulator's is",
        minimum=-20.0,
        maximum=20.0,
    )
    frames: bool = parameter(
        True,
        "Publish the arm's description and frames (robot_description, tf, tf_static), unless another node does; "
        "false: never",
    )
    frame_rate: float = parameter(
        20.0, "Frames of the moving links a second while somebody listens", unit="Hz", minimum=1.0, maximum=40.0
    )
    profile: str = parameter(
        "", "Profile of the arm that is drawn; empty: that of the node robot, else the simulator's arm"
    )
    expected: tuple[str, ...] = parameter(
        ("camera_encoder", "flow_policy", "failure_memory", "failure_detector", "controller", "episode_manager"),
        "Nodes that must report before the graph counts as ready",
    )
    export_folder: str = parameter("~/.ros/flow_rag_vla_exports", "Folder for exported failure cases")
    niceness: int = parameter(10, "Priority below the other nodes; 0 leaves it alone", minimum=0, maximum=19)
