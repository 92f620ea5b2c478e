# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Permission as the environment says it, and a policy that follows from the declared graph."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree
from fnmatch import fnmatchcase

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.bringup import labeling, topics
from flow_rag_vla.bringup.endpoints import SERVICES, TOPICS
from flow_rag_vla.bringup.graph import EVERY_NODE, Process, node_spec
from flow_rag_vla.bringup.labeling import LABELING_SERVICES
from flow_rag_vla.bringup.resources import robots_folder, share_folder
from flow_rag_vla.bringup.security.audit import Endpoints, beyond, granted
from flow_rag_vla.bringup.security.grants import VIEWER, enclave_nodes, grants
from flow_rag_vla.bringup.security.permission import CHANGING, SCORE_EPISODE, refusal, stay_local
from flow_rag_vla.bringup.security.policy import enclave, enclave_arguments, policy
from flow_rag_vla.bringup.supervisor import command_line
from flow_rag_vla.robot.profile import RobotProfile, find_profile, load_profile

ENFORCED = {"ROS_SECURITY_ENABLE": "true", "ROS_SECURITY_STRATEGY": "Enforce"}

ANSWERED = {
    # Stopping, and questions: nothing is moved, remembered or written by these.
    topics.EMERGENCY_STOP_SERVICE,
    topics.PAUSE,
    topics.IS_ACTIVE,
    topics.GET_CASE,
    topics.SEARCH_CASES,
    topics.LIST_CASES,
    topics.MEMORY_STATISTICS_SERVICE,
    topics.LOOP_STATISTICS_SERVICE,
    topics.ASK,
    topics.EMBED_TEXT,
    topics.LIST_PROVIDERS,
    topics.GENERATE,
    topics.DELIBERATE_TASK,
    labeling.DETECT,
    labeling.SEGMENT,
    labeling.SEARCH_OBJECTS,
    labeling.GET_OBJECT,
    labeling.LABEL_STATISTICS,
}


def arm(name: str = "mock") -> RobotProfile:
    return load_profile(find_profile(name, robots_folder()))


def test_every_declared_service_either_needs_the_permission_or_changes_nothing():
    declared = {service.name for service in (*SERVICES, *LABELING_SERVICES)} | {SCORE_EPISODE}
    assert declared == CHANGING | ANSWERED, "say of a new service whether it changes memory or motion"
    assert not CHANGING & ANSWERED


def test_the_page_names_everything_that_needs_the_permission():
    page = (share_folder() / "docs" / "security.md").read_text()
    actions = {service.name for service in LABELING_SERVICES if "/action/" in service.type}
    assert not [name for name in sorted(CHANGING - actions) if f"`{name}`" not in page]
    assert "every action of `labeling`" in page


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({}, "SUBNET"),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}, "SUBNET"),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "SYSTEM_DEFAULT"}, "SYSTEM_DEFAULT"),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "localhost"}, "localhost"),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "ROS_STATIC_PEERS": "127.0.0.1;robot.lan"}, "robot.lan"),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "ROS_DISCOVERY_SERVER": "10.0.0.1"}, "ROS_DISCOVERY_SERVER"),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "CYCLONEDDS_URI": "file:///a.xml"}, "CYCLONEDDS_URI"),
        ({"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "RMW_IMPLEMENTATION": "rmw_zenoh_cpp"}, "rmw_zenoh_cpp"),
        # rcl enforces for exactly these two words: with others it lets everybody in.
        ({"ROS_SECURITY_ENABLE": "true", "ROS_SECURITY_STRATEGY": "Permissive"}, "SUBNET"),
        ({"ROS_SECURITY_ENABLE": "1", "ROS_SECURITY_STRATEGY": "Enforce"}, "SUBNET"),
        ({"ROS_SECURITY_ENABLE": "true", "ROS_SECURITY_STRATEGY": "enforce"}, "SUBNET"),
    ],
)
def test_where_others_may_call_changes_are_refused_with_what_lets_them_in_and_the_remedy(environment, named):
    reason = refusal(environment, open_to_network=False)
    assert named in reason and "open_to_network" in reason
    assert not refusal(environment, open_to_network=True)
    assert not refusal({**environment, **ENFORCED}, open_to_network=False)


@pytest.mark.parametrize(
    "environment",
    [
        {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"},
        {"ROS_AUTOMATIC_DISCOVERY_RANGE": "OFF"},
        {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST", "ROS_STATIC_PEERS": "localhost;127.0.0.1"},
        {"ROS_LOCALHOST_ONLY": "1", "ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"},
    ],
)
def test_on_this_host_alone_changes_are_permitted(environment):
    assert not refusal(environment, open_to_network=False)


@given(st.sampled_from(["", "OFF", "LOCALHOST", "SUBNET", "SYSTEM_DEFAULT", "anything"]))
def test_discovery_stays_here_by_default_and_a_range_that_was_chosen_is_left(scope):
    environment = {"ROS_AUTOMATIC_DISCOVERY_RANGE": scope} if scope else {}
    stay_local(environment)
    assert environment == {"ROS_AUTOMATIC_DISCOVERY_RANGE": scope or "LOCALHOST"}


def test_the_policy_is_the_one_the_declarations_make():
    assert (share_folder() / "config/security/policy.xml").read_text() == policy(arm())


@pytest.mark.parametrize("name", ["mock", "franka", "ur5e", "so101"])
@pytest.mark.parametrize("namespace", ["", "left"])
def test_the_policy_is_of_the_schema_that_sros2_reads_and_has_an_enclave_a_node(name, namespace):
    root = ElementTree.fromstring(policy(arm(name), namespace))
    assert (root.tag, root.attrib) == ("policy", {"version": "0.2.0"})
    (enclaves,) = root
    assert [item.get("path") for item in enclaves] == [enclave(node, namespace) for node in enclave_nodes()]
    children = {"topics": ("topic", {"publish", "subscribe"}), "services": ("service", {"reply", "request"})}
    children["actions"] = ("action", {"call", "execute"})
    for profile in root.iterfind("enclaves/enclave/profiles/profile"):
        assert profile.attrib == {"ns": f"/{namespace}", "node": profile.get("node")}
        for rule in profile:
            tag, rights = children[rule.tag]
            assert len(rule.attrib) == 1 and set(rule.attrib) <= rights and set(rule.attrib.values()) == {"ALLOW"}
            assert len(rule) and all(item.tag == tag and item.text and item.text.strip() for item in rule)


def holders(right: str, name: str) -> set[str]:
    """Who may do it, of the people and nodes that have an enclave."""
    found = set()
    for grant in grants(arm()):
        if any(fnmatchcase(name, pattern) for pattern in getattr(granted(grant), right)):
            found.add(grant.node)
    return found


@pytest.mark.parametrize(
    ("right", "name", "only"),
    [
        # A bag plays what it holds; its keys belong on machines that replay.
        ("publishes", "/command", {"controller", "bag_player"}),
        ("publishes", "/mock/joint_trajectory", {"robot"}),
        ("publishes", "/camera/front/image_raw", {"simulator_camera", "robot_camera", "bag_player"}),
        ("subscribes", "/mock/front/image_raw/compressed", {"robot_camera", "viewer"}),
        ("subscribes", "/mock/joint_states", {"robot", "recorder", "viewer"}),
        ("subscribes", "/mock/wrench", {"robot", "recorder", "viewer"}),
        ("publishes", "/action_chunk", {"flow_policy", "remote_policy", "bag_player"}),
        ("publishes", "/takeover", {"operator", "bag_player"}),
        ("publishes", "/emergency_stop", {"dashboard", "operator", "bag_player"}),
        ("requests", "/controller/reset_emergency_stop", {"dashboard", "operator"}),
        ("requests", "/failure_memory/edit", {"dashboard"}),
        ("requests", "/failure_memory/add", set()),
        ("requests", "/failure_memory/import", set()),
        ("requests", "/failure_memory/set_parameters", {"operator"}),
        ("requests", "/controller/set_parameters", set()),
        ("requests", "/flow_policy/change_state", {"lifecycle_manager"}),
        ("requests", "/deliberation/approve", {"dashboard", "operator"}),
        ("requests", "/episode_manager/score", {"dashboard", "operator"}),
        ("serves", "/camera_encoder/change_state", {"camera_encoder"}),
        ("requests", "/simulator/reset", {"episode_manager"}),
        ("requests", "/execute_task/_action/send_goal", {"dashboard", "operator"}),
        ("serves", "/controller/reset_emergency_stop", {"controller"}),
        ("serves", "/failure_memory/get", {"failure_memory"}),
        ("serves", "/execute_task/_action/send_goal", {"episode_manager"}),
    ],
)
def test_what_moves_the_robot_or_changes_the_memory_is_granted_to_few(right, name, only):
    assert holders(right, name) == only


def test_only_the_viewer_has_a_pattern_and_it_may_change_nothing():
    for grant in grants(arm()):
        names = [name for field in ("publishes", "subscribes", "requests") for name in getattr(grant, field)]
        assert grant.node == VIEWER or not any("*" in name for name in (*names, *grant.serves)), grant.node
    (viewer,) = (grant for grant in grants(arm()) if grant.node == VIEWER)
    assert set(viewer.publishes) == {"/rosout", "/parameter_events"} and not viewer.requests and not viewer.calls


@given(st.sampled_from(TOPICS), st.sampled_from(EVERY_NODE), st.sampled_from(["", "left"]))
def test_an_endpoint_is_beyond_its_grant_exactly_if_it_is_not_declared(topic, spec, namespace):
    home = f"/{namespace}" if namespace else ""
    name = topic.name if topic.name.startswith("/") else f"{home}/{topic.name}"
    declared = spec.name in topic.publishers or topic.publishers == ("every node",)
    beside = {("dashboard", topics.EMERGENCY_STOP), ("remote_policy", topics.ACTION_CHUNK)}
    declared = declared or (spec.name, topic.name) in beside
    found = beyond(grants(arm()), {spec.name: Endpoints(publishes=[name])}, namespace)
    assert found == ([] if declared else [f"{spec.name} publishes {name}"])


def test_a_node_without_an_enclave_is_named():
    assert beyond(grants(arm()), {"intruder": Endpoints()}) == ["intruder has no enclave"]


def test_a_node_is_started_in_its_enclave_where_security_is_on(monkeypatch):
    process = Process(node_spec("controller"), "left", "parameters.yaml", {}, "info")
    monkeypatch.setenv("ROS_SECURITY_ENABLE", "true")
    monkeypatch.delenv("ROS_SECURITY_ENCLAVE_OVERRIDE", raising=False)
    assert command_line(process)[-2:] == ["--enclave", "/flow_rag_vla/left/controller"]
    assert enclave_arguments({"ROS_SECURITY_ENABLE": "true", "ROS_SECURITY_ENCLAVE_OVERRIDE": "/all"}, "x") == []
    monkeypatch.delenv("ROS_SECURITY_ENABLE")
    assert "--enclave" not in command_line(process)
