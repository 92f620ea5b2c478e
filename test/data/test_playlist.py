# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What of a bag is played beside a robot."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rosbags.rosbag2 import StoragePlugin, Writer

from flow_rag_vla.data.bag import Bag
from flow_rag_vla.data.definitions import Definitions
from flow_rag_vla.data.playlist import COMMANDS, playlist

ARM = "/arm/target"
NUMBERS = "std_msgs/msg/Float64MultiArray"
JOINTS = "sensor_msgs/msg/JointState"


@pytest.fixture
def bag(tmp_path: Path) -> Bag:
    """One topic that an arm obeys, and one that it tells."""
    definitions = Definitions()
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        target = writer.add_connection(ARM, NUMBERS, typestore=definitions.store)
        told = writer.add_connection("/joint_states", JOINTS, typestore=definitions.store)
        empty = definitions.message("std_msgs/msg/MultiArrayLayout", dim=[], data_offset=0)
        message = definitions.message(NUMBERS, layout=empty, data=np.zeros(7))
        writer.write(target, 1_700_000_000_000_000_000, definitions.serialize(message, NUMBERS))
        joints = definitions.message(JOINTS, name=["a"], position=np.zeros(1))
        writer.write(told, 1_700_000_000_000_000_005, definitions.serialize(joints, JOINTS))
    return Bag(tmp_path / "bag")


def test_what_an_arm_obeys_is_not_played_and_is_told(bag: Bag) -> None:
    assert bag.topics[ARM].msgtype in COMMANDS
    found = playlist(bag)
    assert dict(found.names) == {"/joint_states": "/joint_states"}
    assert found.withheld == found.muted == (ARM,)


def test_what_an_arm_obeys_is_played_by_whoever_names_it(bag: Bag) -> None:
    assert dict(playlist(bag, topics=["arm/target"]).names) == {ARM: ARM}
    elsewhere = playlist(bag, remap=[f"{ARM}:=/shown"])
    assert dict(elsewhere.names) == {"/joint_states": "/joint_states", ARM: "/shown"} and elsewhere.withheld == ()
    silent = playlist(bag, mute=[ARM], remap=[f"{ARM}:=/shown"])
    assert ARM not in silent.names and silent.withheld == ()
