# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Whether services that change memory or motion answer, as the environment of a node's process says.

Without SROS2 nobody can tell who calls. Then only callers on this host are trusted, and only while discovery stays on
it; everything else needs a word of the person who starts the graph. Stopping is never asked for a permission.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping

from flow_rag_vla.bringup import labeling, topics
from flow_rag_vla.bringup.discovery import DISCOVERY_RANGE, foreign_profile, keeps_here

STATIC_PEERS = "ROS_STATIC_PEERS"

_LOCAL_RANGES = frozenset({"LOCALHOST", "OFF"})
_LOCAL_PEERS = frozenset({"localhost", "127.0.0.1", "::1"})

_CONFIGURED_ELSEWHERE = (
    "ROS_DISCOVERY_SERVER",
    "CYCLONEDDS_URI",
    "ZENOH_SESSION_CONFIG_URI",
    "ZENOH_CONFIG_OVERRIDE",
)
"""Where one of these is set, it decides how far discovery reaches, and the range above says nothing."""

SCORE_EPISODE = "episode_manager/score"

CHANGING: frozenset[str] = frozenset(
    {
        topics.RESET_SIMULATION,
        topics.STEP_SIMULATION,
        topics.ADD_CASE,
        topics.EDIT_CASE,
        topics.RETIRE_CASE,
        topics.EXPORT_CASES,
        topics.IMPORT_CASES,
        topics.EMERGENCY_STOP_RESET_SERVICE,
        topics.START_UP,
        topics.RESET_NODES,
        topics.EXECUTE_TASK,
        topics.SET_PROVIDER,
        topics.APPROVE_PLAN,
        SCORE_EPISODE,
        labeling.REGISTER_OBJECTS,
        labeling.UPDATE_OBJECT,
        # Each of its actions writes labels, data sets or weights.
        *(service.name for service in labeling.LABELING_SERVICES if "/action/" in service.type),
        labeling.TRAIN_DETECTOR,
        labeling.EVALUATE_DETECTOR,
    }
)
"""Services and actions that need the permission: they move the robot, change what is remembered, or write a file.

Setting a parameter of any node needs it too. The emergency stop, canceling a goal and every question do not.
"""


def stay_local(environment: MutableMapping[str, str]) -> None:
    """Keep discovery on this host unless the environment says how far it is to reach; ROS 2's own default is SUBNET."""
    environment.setdefault(DISCOVERY_RANGE, "LOCALHOST")


def beyond_this_host(environment: Mapping[str, str]) -> str:
    """What lets programs on other hosts into this graph, as one phrase; empty if discovery stays here."""
    for name in _CONFIGURED_ELSEWHERE:
        if environment.get(name):
            return f"how far discovery reaches is set by {name}"
    if name := foreign_profile(environment):
        return f"how far discovery reaches is set by {name}"
    fast_dds = environment.get("RMW_IMPLEMENTATION", "rmw_fastrtps").startswith("rmw_fastrtps")
    if fast_dds and keeps_here(environment) and not environment.get(STATIC_PEERS):
        return ""
    if environment.get("RMW_IMPLEMENTATION") == "rmw_zenoh_cpp":
        return "how far discovery reaches is set by the router of rmw_zenoh_cpp"
    if environment.get("ROS_LOCALHOST_ONLY") == "1":
        # Deprecated, but where it is on, rcl takes no notice of the other two.
        return ""
    if (scope := environment.get(DISCOVERY_RANGE) or "SUBNET") not in _LOCAL_RANGES:
        return f"discovery reaches beyond this host ({DISCOVERY_RANGE}={scope})"
    peers = {peer.strip() for peer in environment.get(STATIC_PEERS, "").split(";")} - {"", *_LOCAL_PEERS}
    return f"discovery reaches beyond this host ({STATIC_PEERS}={';'.join(sorted(peers))})" if peers else ""


def enforced(environment: Mapping[str, str]) -> bool:
    """Whether SROS2 decides who may call; rcl compares both words letter by letter, anything else is permissive."""
    return environment.get("ROS_SECURITY_ENABLE") == "true" and environment.get("ROS_SECURITY_STRATEGY") == "Enforce"


def refusal(environment: Mapping[str, str], open_to_network: bool) -> str:
    """Why changing services refuse in a process with this environment; empty if they answer."""
    if open_to_network or enforced(environment) or not (reach := beyond_this_host(environment)):
        return ""
    return (
        f"not permitted: {reach} and SROS2 does not enforce who calls; keep discovery on LOCALHOST, enforce SROS2, or "
        "set the parameter open_to_network of the node (docs/security.md)"
    )
