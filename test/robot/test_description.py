# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""An arm's links from its URDF: they stand where the kinematics put them, and what cannot be drawn is named."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow_rag_vla.robot.arm import Arm
from flow_rag_vla.robot.description import (
    DescriptionError,
    Transform,
    drawable,
    from_axes,
    from_rpy,
    looking,
    read_description,
    rotated,
)

CHAIN = """<robot name="two">
  <link name="base"/><link name="arm"/><link name="slide"/><link name="finger"/>
  <joint name="turn" type="revolute">
    <parent link="base"/><child link="arm"/><origin xyz="0 0 1"/><axis xyz="0 0 2"/>
  </joint>
  <joint name="out" type="prismatic"><parent link="arm"/><child link="slide"/><axis xyz="1 0 0"/></joint>
  <joint name="grip" type="prismatic">
    <parent link="slide"/><child link="finger"/><origin xyz="0.1 0 0"/><axis xyz="0 1 0"/>
    <mimic joint="out" multiplier="-0.5" offset="0.2"/>
  </joint>
</robot>"""

angles = st.floats(-3.1, 3.1)


def test_every_link_of_a_shipped_arm_stands_where_pinocchio_puts_it(shipped):
    arm, description = Arm(shipped), read_description(shipped.urdf.read_text(), shipped.file)
    low, high = shipped.limits("low"), shipped.limits("high")
    assert set(shipped.joint_names) <= set(description.movable)
    for seed in range(20):
        joints = np.random.default_rng(seed).uniform(low, high)
        values = dict(zip(shipped.joint_names, joints, strict=True))
        base = description.place(shipped.base_frame, values)
        tool = base.inverse() @ description.place(shipped.tool_frame, values)
        position, orientation = arm.pose(joints)
        assert np.allclose(tool.position, position, atol=1e-9)
        assert abs(float(tool.orientation @ orientation)) == pytest.approx(1.0, abs=1e-9)
    # What is published is every link once, each on the one before it.
    told = [*description.fixed(), *description.moved({})]
    assert sorted([item.child for item in told] + [description.root]) == sorted(description.links)


def test_joints_turn_slide_and_mimic():
    description = read_description(CHAIN, "two.urdf")
    assert (description.root, description.movable) == ("base", ("turn", "out"))
    finger = description.place("finger", {"turn": np.pi / 2, "out": 0.4})
    # 0.4 out and 0.1 on, both turned to y; -0.5 * 0.4 + 0.2 sideways.
    assert np.allclose(finger.position, [0.0, 0.5, 1.0])
    assert np.allclose(rotated(finger.orientation, np.array([1.0, 0.0, 0.0])), [0.0, 1.0, 0.0])
    assert np.allclose(description.place("finger", {}).position, [0.1, 0.2, 1.0])


@settings(max_examples=100)
@given(st.tuples(angles, angles, angles), st.tuples(angles, angles, angles))
def test_a_transform_and_its_inverse_are_nothing(position, rpy):
    there = Transform("a", "b", np.array(position), from_rpy(*rpy))
    back = there @ there.inverse()
    assert (back.parent, back.child) == ("a", "a")
    assert np.allclose(back.position, 0.0, atol=1e-9) and abs(back.orientation[3]) == pytest.approx(1.0)
    axes = np.stack([rotated(there.orientation, axis) for axis in np.eye(3)], axis=1)
    assert abs(float(from_axes(axes) @ there.orientation)) == pytest.approx(1.0)


def test_a_camera_looks_along_z_with_y_down():
    camera = looking("base", "optical", (1.0, 0.0, 1.0), (0.0, 0.0, 1.0), (0.0, 0.0, 1.0))
    assert np.allclose(rotated(camera.orientation, np.array([0.0, 0.0, 1.0])), [-1.0, 0.0, 0.0])
    assert np.allclose(rotated(camera.orientation, np.array([0.0, 1.0, 0.0])), [0.0, 0.0, -1.0])
    with pytest.raises(DescriptionError, match="no upright picture"):
        looking("base", "optical", (0.0, 0.0, 1.0), (0.0, 0.0, 0.0), (0.0, 0.0, 1.0))


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("<robot", "<!DOCTYPE robot [<!ENTITY a 'b'>]><robot", "document type"),
        ("</robot>", "", "is no XML"),
        ('<robot name="two">', '<xacro name="two">', "is no XML"),
        ('type="revolute"', 'type="floating"', "joint 'turn' is of type 'floating'"),
        ('xyz="0 0 1"', 'xyz="0 0"', "xyz='0 0', expected 3 numbers"),
        ('xyz="0 0 1"', 'xyz="0 nan 1"', "expected 3 numbers"),
        ('<axis xyz="0 0 2"/>', '<axis xyz="0 0 0"/>', "expected a direction"),
        ('<child link="arm"/>', '<child link="leg"/>', "the link 'leg', which is not there"),
        ('<parent link="base"/>', '<parent link="finger"/>', "not one tree; look at arm, finger, slide"),
        ('<child link="finger"/>', '<child link="slide"/>', "not one tree; look at finger, slide"),
        ('<link name="arm"/>', "<link/>", "a <link> has no name"),
    ],
)
def test_what_cannot_be_drawn_is_named(before, after, said):
    assert before in CHAIN
    with pytest.raises(DescriptionError, match=r"two\.urdf") as caught:
        read_description(CHAIN.replace(before, after, 1), "two.urdf")
    assert said in str(caught.value)


def test_meshes_are_named_where_they_lie_and_an_arm_without_shape_becomes_rods():
    text = CHAIN.replace(
        '<link name="arm"/>', '<link name="arm"><visual><geometry><mesh filename="a.stl"/></geometry></visual></link>'
    )
    shown = ElementTree.fromstring(drawable(text, "two.urdf", lambda mesh: f"file:///there/{mesh}"))
    assert [mesh.get("filename") for mesh in shown.iter("mesh")] == ["file:///there/a.stl"]
    assert not list(shown.iter("cylinder"))
    rods = ElementTree.fromstring(drawable(CHAIN, "two.urdf", str))
    found = {link.get("name"): [rod.get("length") for rod in link.iter("cylinder")] for link in rods.findall("link")}
    assert found == {"base": ["1"], "arm": [], "slide": ["0.1"], "finger": []}
    (origin,) = rods.findall("link[@name='slide']/visual/origin")
    pitch, yaw = (float(value) for value in origin.get("rpy").split()[1:])
    assert np.allclose(rotated(from_rpy(0.0, pitch, yaw), np.array([0.0, 0.0, 1.0])), [1.0, 0.0, 0.0], atol=1e-4)
