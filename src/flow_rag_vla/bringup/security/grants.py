# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What each node needs of the graph and nothing more: the declared endpoints turned round, a row a node.

Topics and services come from ``bringup.endpoints`` and its neighbours, which tests hold against running nodes; what a
node asks of others, which no table there says, is declared here and held by a test of its own.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from flow_rag_vla.bringup import topics
from flow_rag_vla.bringup.deliberation import DELIBERATION, DELIBERATION_TOPICS, PLAN_REVIEW
from flow_rag_vla.bringup.endpoints import SERVICES, TOPICS
from flow_rag_vla.bringup.graph import EVERY_NODE
from flow_rag_vla.bringup.labeling import DETECTIONS, LABELING, LABELING_SERVICES, LABELING_TOPICS
from flow_rag_vla.bringup.live import DASHBOARD, LIVE_TOPICS
from flow_rag_vla.bringup.parameters.lifecycle_manager import MANAGED
from flow_rag_vla.bringup.profiles import PARAMETER_EVENTS, PROFILES
from flow_rag_vla.bringup.replay_graph import PLAYER
from flow_rag_vla.bringup.robot_graph import (
    HOLD_TOPIC,
    MOCK_ROBOT,
    ROBOT,
    ROBOT_CAMERA,
    ROBOT_NODES,
    VIOLATIONS_TOPIC,
    WATCHDOG_STOPS_TOPIC,
)
from flow_rag_vla.bringup.security.permission import SCORE_EPISODE
from flow_rag_vla.core.parameters import parameter_table
from flow_rag_vla.robot.profile import RobotProfile

ANYTHING = "*"
"""Every name of the graph's namespace."""

OPERATOR, VIEWER = "operator", "viewer"
"""Enclaves of people: the console command, which starts and stops episodes; and tools that only look."""

OPERATOR_NODES = ("teleoperator", "memory_switch", "player_control", "person")
"""Further nodes of the console command: several may be in one process, which has one identity."""

VIEWER_NODES = ("rviz*", "foxglove_bridge")
"""The names that those tools give their nodes; ``ros2 topic`` makes one without services."""

ROSOUT = "/rosout"
_PARAMETER_CALLS = (
    "describe_parameters",
    "get_parameter_types",
    "get_parameters",
    "list_parameters",
    "set_parameters",
    "set_parameters_atomically",
)
_OWN_CALLS = (*_PARAMETER_CALLS, "get_type_description")
"""Services of every node."""

_MANAGED_CALLS = (
    "change_state",
    "get_available_states",
    "get_available_transitions",
    "get_state",
    "get_transition_graph",
)
"""Further services of a managed node."""


@dataclass(frozen=True, slots=True)
class Grant:
    """What one node may do. Names are relative to the graph's namespace, absolute, or of the node's own (``~/``)."""

    node: str
    publishes: tuple[str, ...] = ()
    subscribes: tuple[str, ...] = ()
    serves: tuple[str, ...] = ()
    """Services that it answers."""
    requests: tuple[str, ...] = ()
    """Services that it calls."""
    executes: tuple[str, ...] = ()
    """Actions that it offers."""
    calls: tuple[str, ...] = ()
    """Actions that it asks for."""

    def __add__(self, other: Grant) -> Grant:
        """Both grants' rights, for the node of the first."""
        return Grant(self.node, *(mine + its for mine, its in zip(self._rights(), other._rights(), strict=True)))

    def sorted(self) -> Grant:
        """The same with each name once, in order."""
        return Grant(self.node, *(tuple(sorted(set(names))) for names in self._rights()))

    def _rights(self) -> tuple[tuple[str, ...], ...]:
        return tuple(getattr(self, item.name) for item in fields(Grant)[1:])


REMOTE_POLICY = "remote_policy"

_IMAGES = (topics.FRONT_IMAGE, topics.WRIST_IMAGE)
_CASES = (topics.LIST_CASES, topics.GET_CASE, topics.EDIT_CASE, topics.RETIRE_CASE, topics.EXPORT_CASES)
_LANGUAGE_MODEL = (topics.ASK, f"{topics.ASK.partition('/')[0]}/get_parameters")
"""What asks it asks first whether it is known there."""

_STOP = (topics.EMERGENCY_STOP_SERVICE, topics.EMERGENCY_STOP_RESET_SERVICE)

_BESIDES: tuple[Grant, ...] = (
    Grant(
        "episode_manager",
        serves=(SCORE_EPISODE,),
        requests=(topics.RESET_SIMULATION, *_LANGUAGE_MODEL),
        calls=(topics.DELIBERATE_TASK,),
    ),
    Grant(
        DELIBERATION,
        subscribes=(
            *_IMAGES,
            topics.ROBOT_STATE,
            topics.EMBEDDING,
            topics.EPISODE_STATUS,
            topics.FAILURE_EVENT,
            DETECTIONS,
            topics.FRONT_INFO,
            topics.DIAGNOSTICS,
        ),
        requests=(*_LANGUAGE_MODEL, topics.EMBED_TEXT),
    ),
    Grant(LABELING, subscribes=(*_IMAGES, topics.LOOP_STATISTICS)),
    Grant(
        DASHBOARD,
        publishes=(topics.EMERGENCY_STOP,),
        subscribes=(
            *_IMAGES,
            topics.FRONT_INFO,
            topics.WRIST_INFO,
            topics.ROBOT_STATE,
            topics.COMMAND,
            topics.ACTION_CHUNK,
            topics.CORRECTION,
            topics.FAILURE_EVENT,
            topics.EPISODE_STATUS,
            topics.LOOP_STATISTICS,
            topics.MEMORY_STATISTICS,
            topics.DIAGNOSTICS,
            PLAN_REVIEW,
        ),
        requests=(
            *_STOP,
            *_CASES,
            topics.APPROVE_PLAN,
            SCORE_EPISODE,
            "controller/get_parameters",
            f"{ROBOT.name}/get_parameters",
        ),
        calls=(topics.EXECUTE_TASK,),
    ),
    # In the flow policy's place.
    Grant(
        REMOTE_POLICY,
        publishes=(topics.ACTION_CHUNK,),
        subscribes=(*_IMAGES, topics.ROBOT_STATE, topics.COMMAND, topics.EPISODE_STATUS),
    ),
    Grant(
        "lifecycle_manager",
        subscribes=tuple(f"{name}/transition_event" for name in (*MANAGED, REMOTE_POLICY)),
        requests=tuple(
            f"{name}/{call}" for name in (*MANAGED, REMOTE_POLICY) for call in ("change_state", "get_state")
        ),
    ),
    # Which settings the nodes had, it asks each of them.
    Grant(
        "recorder",
        subscribes=PROFILES["graph"],
        requests=tuple(
            f"{spec.name}/{call}"
            for spec in (*EVERY_NODE, PLAYER, *ROBOT_NODES)
            for call in ("list_parameters", "get_parameters")
        ),
    ),
    # A bag may hold any topic of the graph.
    Grant(
        PLAYER.name,
        publishes=tuple(topic.name for topic in TOPICS),
        serves=tuple(f"{PLAYER.name}/{name}" for name in ("pause", "resume", "step")),
    ),
    # People: the console command, which starts and stops episodes; and tools that only look.
    Grant(
        OPERATOR,
        publishes=(topics.TAKEOVER, topics.EMERGENCY_STOP),
        subscribes=(
            topics.DIAGNOSTICS,
            topics.EPISODE_STATUS,
            topics.LOOP_STATISTICS,
            topics.MEMORY_STATISTICS,
            topics.FAILURE_EVENT,
            topics.COMMAND,
            topics.ACTION_CHUNK,
            PLAN_REVIEW,
        ),
        requests=(
            *_STOP,
            topics.APPROVE_PLAN,
            SCORE_EPISODE,
            *(f"{PLAYER.name}/{name}" for name in ("pause", "resume", "step", "set_parameters")),
            *(f"failure_memory/{call}" for call in _PARAMETER_CALLS),
        ),
        calls=(topics.EXECUTE_TASK,),
        serves=tuple(f"{name}/{call}" for name in OPERATOR_NODES for call in _OWN_CALLS),
    ),
    Grant(
        VIEWER,
        subscribes=(ANYTHING, topics.CLOCK, topics.DIAGNOSTICS, ROSOUT, PARAMETER_EVENTS),
        serves=tuple(f"{name}/{call}" for name in VIEWER_NODES for call in _OWN_CALLS),
    ),
)


def enclave_nodes() -> tuple[str, ...]:
    """Names of the nodes, and of the people beside them, that have an enclave each."""
    return (*(spec.name for spec in (*EVERY_NODE, PLAYER, *ROBOT_NODES)), OPERATOR, VIEWER)


def grants(profile: RobotProfile) -> tuple[Grant, ...]:
    """A grant for each of ``enclave_nodes``, in that order.

    Args:
        profile: the arm whose topics ``robot``, ``robot_camera`` and ``mock_robot`` use, and ``recorder`` hears.
    """
    besides: dict[str, Grant] = {}
    for grant in (*_BESIDES, *_arm(profile)):
        besides[grant.node] = besides.get(grant.node, Grant(grant.node)) + grant
    return tuple(
        (_every_node(name) + _declared(name) + besides.get(name, Grant(name))).sorted() for name in enclave_nodes()
    )


def _declared(node: str) -> Grant:
    if node in (OPERATOR, VIEWER):
        return Grant(node)
    every = (*TOPICS, *LIVE_TOPICS, *DELIBERATION_TOPICS, *LABELING_TOPICS)
    served = [item for item in (*SERVICES, *LABELING_SERVICES) if item.server == node]
    return Grant(
        node,
        publishes=tuple(item.name for item in every if node in item.publishers or item.publishers == ("every node",)),
        subscribes=tuple(item.name for item in every if node in item.subscribers),
        serves=tuple(item.name for item in served if "/srv/" in item.type),
        executes=tuple(item.name for item in served if "/action/" in item.type),
    )


def _every_node(node: str) -> Grant:
    """What rclpy does in every node: logs, parameters, simulated time, and the states of one that is managed."""
    managed = any(
        spec.name == node and any(info.name == "autostart" for info in parameter_table(spec.parameters))
        for spec in EVERY_NODE
    )
    return Grant(
        node,
        publishes=(ROSOUT, PARAMETER_EVENTS, *(("~/transition_event",) if managed else ())),
        subscribes=(topics.CLOCK,),
        serves=tuple(f"~/{call}" for call in (*_OWN_CALLS, *(_MANAGED_CALLS if managed else ()))),
    )


def _arm(profile: RobotProfile) -> tuple[Grant, ...]:
    gripper = () if profile.gripper.kind == "none" else (profile.gripper.command_topic,)
    commands = (profile.command_topic, *gripper)
    senses = _given(profile.joint_states, profile.wrench)
    pictures = _given(*(name for camera in profile.cameras for name in (camera.image, camera.info)))
    bridge = Grant(
        ROBOT.name,
        publishes=(topics.ROBOT_STATE, HOLD_TOPIC, *commands),
        # The arm's own too: it looks whether somebody else commands it.
        subscribes=(topics.COMMAND, topics.EMERGENCY_STOP, profile.command_topic, *senses),
    )
    camera = Grant(
        ROBOT_CAMERA.name,
        publishes=(*_IMAGES, topics.FRONT_INFO, topics.WRIST_INFO) if profile.cameras else (),
        subscribes=pictures,
    )
    mock = Grant(
        MOCK_ROBOT.name,
        publishes=(VIOLATIONS_TOPIC, WATCHDOG_STOPS_TOPIC, *senses, *pictures),
        subscribes=commands,
    )
    return bridge, camera, mock, Grant("recorder", subscribes=senses)


def _given(*names: str) -> tuple[str, ...]:
    return tuple(name for name in names if name)
