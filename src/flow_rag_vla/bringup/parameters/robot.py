# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Parameters of the robot bridge, of an arm's cameras and of the mock robot."""

from __future__ import annotations

from dataclasses import dataclass

from flow_rag_vla.bringup.parameters.controller import LOOP_PRIORITY
from flow_rag_vla.core.parameters import parameter


@dataclass(frozen=True, slots=True)
class RobotParameters:
    """A real arm in the simulator's place: its topics, its limits, and a hold when something is wrong."""

    profile: str = parameter("mock", "Robot profile: the name of one that ships, or a YAML file")
    niceness: int = parameter(
        -10,
        "Priority where the system permits it, as the loop's; lower is more, 0 leaves it alone",
        minimum=-20,
        maximum=19,
    )
    realtime_priority: int = parameter(
        LOOP_PRIORITY,
        "SCHED_FIFO priority where the system permits it, as the loop's; 0 leaves the scheduler alone",
        minimum=0,
        maximum=98,
    )


@dataclass(frozen=True, slots=True)
class RobotCameraParameters:
    """A real arm's cameras in the simulated ones' place: how old an image may be, and when a camera is silent."""

    profile: str = parameter("mock", "Robot profile: the name of one that ships, or a YAML file")
    max_image_age: float = parameter(
        0.5,
        "Images older than this, or further in the future, are not passed on; not below the encoder's",
        unit="s",
        minimum=0.02,
        maximum=10.0,
        live=True,
    )
    silence: float = parameter(
        2.0,
        "Time without an image after which a camera counts as silent",
        unit="s",
        minimum=0.1,
        maximum=600.0,
        live=True,
    )
    listen_again: float = parameter(
        1.0,
        "Silence of a camera whose driver publishes after which its subscription is made anew, never before five of "
        "its periods; next after twice as long, up to a minute; 0: never",
        unit="s",
        minimum=0.0,
        maximum=600.0,
        live=True,
    )


@dataclass(frozen=True, slots=True)
class MockRobotParameters:
    """An arm that is not there: the topics of a profile, with limits and a watchdog of its own."""

    profile: str = parameter("mock", "Robot profile: the name of one that ships, or a YAML file")
    rate: float = parameter(100.0, "Joint states a second", unit="Hz", minimum=10.0, maximum=500.0)
    time_constant: float = parameter(0.04, "Lag of the joints", unit="s", minimum=0.001, maximum=1.0)
    image_rate: float = parameter(10.0, "Images a second of each camera", unit="Hz", minimum=0.5, maximum=60.0)
