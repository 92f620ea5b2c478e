# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The profile of Fast DDS that ships: read by every process of ours, and no way around the check of who may call."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import pytest

from flow_rag_vla.bringup import discovery
from flow_rag_vla.bringup.discovery import (
    LOOPBACK,
    ORDINARY,
    PICTURES,
    PROFILES_VARIABLE,
    WANTED_BUFFER,
    Transport,
    choose_profile,
    foreign_profile,
    profile_file,
    short_buffer,
)
from flow_rag_vla.bringup.security.permission import refusal
from flow_rag_vla.robot.camera_feed import REMEDY

LOCAL = {"ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST"}
NAMES = (PROFILES_VARIABLE, "FASTRTPS_DEFAULT_PROFILES_FILE")


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_the_file_that_ships_is_read_and_changes_nothing_of_who_may_call():
    environment = dict(LOCAL)
    choose_profile(environment)
    assert environment == {**LOCAL, PROFILES_VARIABLE: str(profile_file())}
    assert foreign_profile(environment) == "" and refusal(environment, open_to_network=False) == ""


@pytest.mark.parametrize("name", [ORDINARY, LOOPBACK, PICTURES])
def test_types_are_told_to_nobody(name):
    namespace = {"dds": "http://www.eprosima.com"}
    properties = ElementTree.parse(profile_file(name)).getroot().iterfind(".//dds:property", namespace)
    told = {item.findtext("dds:name", "", namespace): item.findtext("dds:value", "", namespace) for item in properties}
    assert told == {"fastdds.type_propagation": "disabled"}


def test_it_says_how_often_and_nothing_of_transports_peers_or_ports():
    root = ElementTree.parse(profile_file()).getroot()
    tags = {item.tag.rpartition("}")[2] for item in root.iter()}
    assert tags == {
        "profiles", "participant", "rtps", "builtin", "discovery_config", "leaseAnnouncement", "sec", "nanosec",
        "propertiesPolicy", "properties", "property", "name", "value",
    }  # fmt: skip


def test_a_node_that_must_be_in_time_keeps_to_the_loopback_interface_and_its_children_are_free_again():
    environment = dict(LOCAL)
    assert choose_profile(environment, transport=Transport.LOOPBACK)
    alone = {"ROS_AUTOMATIC_DISCOVERY_RANGE": "SYSTEM_DEFAULT", PROFILES_VARIABLE: str(profile_file(LOOPBACK))}
    assert environment == alone and refusal(environment, open_to_network=False) == ""
    for stranger in ({"RMW_IMPLEMENTATION": "rmw_cyclonedds_cpp"}, {"ROS_STATIC_PEERS": "robot.lan"}):
        assert refusal({**environment, **stranger}, open_to_network=False)
    assert not choose_profile(environment)
    assert environment == {**LOCAL, PROFILES_VARIABLE: str(profile_file())}
    assert choose_profile(environment, transport=Transport.LOOPBACK) and environment == alone, (
        "a parent's profile is no choice"
    )


@pytest.mark.parametrize(
    "chosen",
    [
        {"ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"},
        {**LOCAL, "ROS_STATIC_PEERS": "robot.lan"},
        {**LOCAL, "FASTDDS_BUILTIN_TRANSPORTS": "DEFAULT"},
        {**LOCAL, "ROS_DISTRO": "jazzy"},
    ],
)
def test_a_reach_or_transport_that_was_chosen_stays(chosen):
    environment = dict(chosen)
    assert not choose_profile(environment, transport=Transport.LOOPBACK)
    assert {name: environment[name] for name in chosen} == chosen
    assert environment["FASTDDS_BUILTIN_TRANSPORTS"] == chosen.get("FASTDDS_BUILTIN_TRANSPORTS", "UDPv4")
    assert foreign_profile(environment) == ""


def test_another_middleware_gets_no_profile():
    environment = dict(LOCAL)
    assert not choose_profile(environment, fast_dds=False, transport=Transport.LOOPBACK)
    assert PROFILES_VARIABLE not in environment and environment["ROS_AUTOMATIC_DISCOVERY_RANGE"] == "LOCALHOST"


@pytest.mark.parametrize(("name", "transports"), [(LOOPBACK, {"UDPv4"}), (PICTURES, {"UDPv4", "SHM"})])
def test_a_profile_of_the_loopback_interface_names_no_other_address_and_asks_for_room(name, transports):
    root = ElementTree.parse(profile_file(name)).getroot()
    texts = {item.tag.rpartition("}")[2]: set() for item in root.iter()}
    for item in root.iter():
        texts[item.tag.rpartition("}")[2]].add((item.text or "").strip())
    assert texts["address"] == {"127.0.0.1"} and texts["type"] == transports
    assert texts["useBuiltinTransports"] == {"false"}
    assert texts["receiveBufferSize"] == {str(WANTED_BUFFER)}


def test_what_sends_pictures_keeps_to_this_host_and_its_children_choose_for_themselves():
    environment = dict(LOCAL)
    assert choose_profile(environment, transport=Transport.PICTURES)
    assert environment[PROFILES_VARIABLE] == str(profile_file(PICTURES))
    assert refusal(environment, open_to_network=False) == ""
    assert choose_profile(environment, transport=Transport.LOOPBACK)
    assert environment[PROFILES_VARIABLE] == str(profile_file(LOOPBACK))


def test_what_a_person_is_told_to_permit_is_what_the_profiles_ask_for():
    assert f"net.core.rmem_max={WANTED_BUFFER}," in REMEDY


def test_beyond_this_host_what_sends_pictures_keeps_the_transports_that_the_system_has():
    environment = {"ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET"}
    assert not choose_profile(environment, transport=Transport.PICTURES)
    assert environment == {"ROS_AUTOMATIC_DISCOVERY_RANGE": "SUBNET", PROFILES_VARIABLE: str(profile_file())}


@pytest.mark.parametrize(
    ("largest", "kept"), [("212992\n", 425_984), (str(WANTED_BUFFER), None), ("none", None), (None, None)]
)
def test_a_socket_that_may_not_ask_for_enough_keeps_twice_what_it_may(largest, kept, tmp_path, monkeypatch):
    monkeypatch.setattr(discovery, "LARGEST_BUFFER", tmp_path / "rmem_max")
    if largest is not None:
        (tmp_path / "rmem_max").write_text(largest, encoding="ascii")
    assert short_buffer() == kept


@pytest.mark.parametrize("name", [*NAMES, "ROS_DISCOVERY_SERVER"])
def test_what_a_person_has_set_is_left_and_refused_as_before(name, tmp_path):
    file = tmp_path / "own.xml"
    file.write_bytes(profile_file().read_bytes() + b"\n")
    environment = {**LOCAL, name: str(file)}
    choose_profile(environment)
    assert environment == {**LOCAL, name: str(file)}
    assert name in refusal(environment, open_to_network=False)


@pytest.mark.parametrize("name", NAMES)
def test_a_file_is_known_by_what_is_in_it(name, tmp_path):
    copied = tmp_path / "copied.xml"
    copied.write_bytes(profile_file().read_bytes())
    assert refusal({**LOCAL, name: str(copied)}, open_to_network=False) == ""
    copied.write_bytes(profile_file().read_bytes().replace(b"250000000", b"250000001"))
    assert name in refusal({**LOCAL, name: str(copied)}, open_to_network=False)
    assert name in refusal({**LOCAL, name: str(tmp_path / "not there.xml")}, open_to_network=False)


def test_a_file_that_fast_dds_finds_in_the_working_folder_counts_like_one_that_is_named(tmp_path):
    (tmp_path / "DEFAULT_FASTDDS_PROFILES.xml").write_text("<profiles/>", encoding="utf-8")
    environment = dict(LOCAL)
    choose_profile(environment)
    assert environment == LOCAL, "two default profiles are one too many"
    assert "DEFAULT_FASTDDS_PROFILES.xml" in refusal(environment, open_to_network=False)
    assert refusal({**LOCAL, "SKIP_DEFAULT_XML_FILE": "1"}, open_to_network=False) == ""


def test_without_the_packages_files_nothing_is_set(monkeypatch):
    monkeypatch.setattr("flow_rag_vla.bringup.discovery.share_folder", _nowhere)
    environment = dict(LOCAL)
    choose_profile(environment)
    assert environment == LOCAL


def _nowhere() -> Path:
    raise FileNotFoundError("nowhere")
