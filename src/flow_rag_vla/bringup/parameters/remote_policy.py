# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Parameters of the remote policy."""

from __future__ import annotations

from dataclasses import dataclass

from flow_rag_vla.core.parameters import parameter


@dataclass(frozen=True, slots=True)
class RemotePolicyParameters:
    """Images, proprioception and instruction to a policy server of openpi's protocol, its answers to action chunks."""

    autostart: bool = parameter(
        True, "Configure and activate at start; false: wait for a lifecycle manager (ros2 lifecycle set)"
    )
    server: str = parameter("ws://127.0.0.1:8000", "Address of the policy server, ws:// or wss://")
    contract: str = parameter(
        "libero", "What the server takes and gives: the name of a file in config/policies/, or the path of one"
    )
    revision: str = parameter(
        "", "Which weights are served, for the provenance; empty: a digest of what the server says about itself"
    )
    prompt: str = parameter("", "Instruction that is sent instead of the episode's; empty: the episode's", live=True)
    robot_profile: str = parameter(
        "", "Robot profile whose kinematics turn joint velocities into tool motion; for a contract of joint_velocity"
    )
    gripper_width: float = parameter(
        0.08, "Width of the open gripper, for a contract that takes its opening", unit="m", minimum=0.001, maximum=1.0
    )
    connect_timeout: float = parameter(
        5.0, "How long a connection may take, its greeting included", unit="s", minimum=0.1, maximum=60.0
    )
    answer_timeout: float = parameter(
        2.0, "After so long without an answer the connection is made anew", unit="s", minimum=0.05, maximum=60.0
    )
    first_answer_timeout: float = parameter(
        120.0,
        "The same for the first answer on a connection: a server may compile its model then",
        unit="s",
        minimum=0.05,
        maximum=1800.0,
    )
    warm_up: bool = parameter(
        True, "Ask once before the first episode: a server that compiles, or takes something else, shows it then"
    )
    max_answer: float = parameter(16.0, "A larger answer is refused", unit="MB", minimum=0.01, maximum=1000.0)
    margin: float = parameter(
        0.05,
        "How much earlier than needed an answer is to be there, counted from the 95th percentile of the last ones",
        unit="s",
        minimum=0.0,
        maximum=5.0,
        live=True,
    )
    pairing_tolerance: float = parameter(
        0.02,
        "Images of different cameras no further apart than this are one observation",
        unit="s",
        minimum=0.0,
        maximum=1.0,
        live=True,
    )
    max_image_age: float = parameter(
        0.5,
        "Images older than this, or further in the future, are not sent",
        unit="s",
        minimum=0.02,
        maximum=10.0,
        live=True,
    )
    state_tolerance: float = parameter(
        0.05,
        "Largest distance between the images' stamp and the robot state's",
        unit="s",
        minimum=0.0,
        maximum=1.0,
        live=True,
    )
