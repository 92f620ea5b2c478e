# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Which topics a recording is about: profiles by name, so that nobody has to list topics."""

from __future__ import annotations

from collections.abc import Mapping

from flow_rag_vla.bringup import topics
from flow_rag_vla.bringup.endpoints import ARM_TOPICS, TOPICS

PARAMETER_EVENTS = "/parameter_events"
"""Where ROS itself tells of parameters."""

_IMAGES = (topics.FRONT_IMAGE, topics.FRONT_INFO, topics.WRIST_IMAGE, topics.WRIST_INFO)
_GRAPH = (*(topic.name for topic in (*TOPICS, *ARM_TOPICS)), "/rosout", PARAMETER_EVENTS)

PROFILES: Mapping[str, tuple[str, ...]] = {
    "graph": _GRAPH,
    "control": tuple(
        name
        for name in _GRAPH
        if name not in (*_IMAGES, topics.GROUND_TRUTH, topics.JOINT_STATES, topics.GRIPPER_STATE, topics.WRENCH)
    ),
    "perception": (
        *_IMAGES, topics.EMBEDDING, topics.ROBOT_STATE, topics.EPISODE_STATUS, topics.CLOCK, PARAMETER_EVENTS,
    ),
    "everything": (*_GRAPH, "*"),
}  # fmt: skip
"""graph: every topic of the graph. control: all that decisions are replayed from, without pictures. perception: what
the cameras saw, and where the robot was. everything: also the topics of others ("*")."""

HEARING_THE_ARM = ("graph", "control", "everything")
"""Profiles to which belongs what an arm tells of itself. Its topics have other names on each arm, and are none of ours:
they are what ``BRIDGE`` listens to, of the types in ``SENSED_TYPES``. The simulated arm has no bridge."""

BRIDGE = "robot"
"""The node between an arm and the graph."""

SENSED_TYPES = frozenset(("sensor_msgs/msg/JointState", "geometry_msgs/msg/WrenchStamped"))
"""Joint states and wrench: not the arm's own command topic, which a bag that is played would move it by."""
