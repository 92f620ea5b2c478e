# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What RViz and Foxglove are told of an arm: one tree from the world to every link and camera."""

from __future__ import annotations

import urllib.parse
import urllib.request
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from flow_rag_vla.bringup import frames, topics
from flow_rag_vla.bringup.resources import robots_folder
from flow_rag_vla.robot.description import DescriptionError, read_description, rotated
from flow_rag_vla.robot.profile import load_profile
from flow_rag_vla.sim.bodies import JOINT_NAMES
from flow_rag_vla.sim.camera import FRONT, WRIST, camera_pose
from flow_rag_vla.sim.scene import CameraOffset

NOWHERE = np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0])
SHIPPED = sorted(path.stem for path in robots_folder().glob("*.yaml"))


def assert_one_tree(told):
    """Every frame has one parent, and all lead to the world."""
    parents = {item.child: item.parent for item in told}
    assert len(parents) == len(told)
    for frame in parents:
        seen = [frame]
        while seen[-1] in parents:
            seen.append(parents[seen[-1]])
            assert len(seen) <= len(told) + 1, "a circle"
        assert seen[-1] == frames.WORLD


@pytest.mark.parametrize("name", SHIPPED)
def test_the_frames_of_a_shipped_profile_are_one_tree_with_the_frame_of_the_graphs_poses(name):
    profile = load_profile(robots_folder() / f"{name}.yaml")
    arm = frames.arm_of(profile)
    cameras = frames.told_cameras(
        arm, {"front": "front_lens", "wrist": "wrist_lens"}, (1.0, 0.0, 1.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.1, 0, 0, 0)
    )
    told = [*arm.still(cameras), *arm.description.moved(dict.fromkeys(profile.joint_names, 0.1))]
    assert_one_tree(told)
    found = {item.child for item in told}
    assert {topics.BASE_FRAME, profile.base_frame, profile.tool_frame, "front_lens", "wrist_lens"} <= found


def test_the_simulators_frames_are_one_tree_with_its_cameras_where_it_renders_them():
    arm, cameras = frames.simulated_arm(), frames.simulated_cameras()
    assert_one_tree([*arm.still(cameras), *arm.description.moved({})])
    for model, told in zip((FRONT, WRIST), cameras, strict=True):
        position, axes = camera_pose(model, CameraOffset((0.0, 0.0, 0.0), (0.0, 0.0, 0.0)), NOWHERE)
        assert told.child == f"{model.name}_optical_frame"
        assert np.allclose(told.position, position)
        assert np.allclose(np.stack([rotated(told.orientation, axis) for axis in np.eye(3)], axis=1), axes)


def test_a_robot_state_gives_every_joint_a_value_and_that_of_another_arm_is_refused():
    arm = frames.simulated_arm()
    values = arm.values(JOINT_NAMES[:7], [0.1] * 7, 0.06)
    assert set(values) == set(arm.description.movable) and values["panda_finger_joint1"] == pytest.approx(0.03)
    left, right = (arm.description.place(f"panda_{side}finger", values) for side in ("left", "right"))
    assert np.linalg.norm(left.position - right.position) == pytest.approx(0.06)
    with pytest.raises(DescriptionError, match=r"'shoulder_pan_joint', which 'panda' lacks.*parameter profile"):
        arm.values(["shoulder_pan_joint"], [0.0], 0.0)


def test_viewers_find_the_meshes_of_the_simulated_arm():
    text = frames.simulated_arm().text
    names = [mesh.get("filename", "") for mesh in ElementTree.fromstring(text).iter("mesh")]
    assert names
    for name in names:
        parts = urllib.parse.urlparse(name)
        assert parts.scheme == "file" and Path(urllib.request.url2pathname(parts.path)).is_file(), name


def test_a_base_that_moves_on_the_root_is_refused():
    profile = load_profile(robots_folder() / "mock.yaml")
    arm = frames.arm_of(replace(profile, base_frame="panda_link3"))
    with pytest.raises(DescriptionError, match="'panda_link3' moves on the link 'panda_link0'"):
        arm.still()
    text = """<robot name="stand"><link name="floor"/><link name="foot"/>
      <joint name="stand" type="fixed"><parent link="floor"/><child link="foot"/><origin xyz="0 0 0.5"/></joint>
      </robot>"""
    standing = replace(arm, description=read_description(text, "stand.urdf"), base="foot")
    told = {item.child: item for item in standing.still()}
    assert told["floor"].parent == topics.BASE_FRAME and np.allclose(told["floor"].position, [0.0, 0.0, -0.5])
