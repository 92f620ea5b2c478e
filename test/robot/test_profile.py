# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Profiles of robots: what ships loads, what is wrong is said with file, field, value and remedy."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.robot.fields import ProfileError
from flow_rag_vla.robot.profile import LONGEST_STOP_S, find_profile, load_profile, read_profile

ROBOTS = Path(__file__).resolve().parents[2] / "config" / "robots"
FILE = ROBOTS / "mock.yaml"
VALUES = yaml.safe_load(FILE.read_text(encoding="utf-8"))


def refusal(values: object) -> str:
    with pytest.raises(ProfileError) as error:
        read_profile(values, FILE)
    return str(error.value)


def changed(path: str, value: object) -> dict:
    """The mock's values with one changed, by a path such as joints.0.low."""
    values = copy.deepcopy(VALUES)
    *way, last = (int(part) if part.isdigit() else part for part in path.split("."))
    place = values
    for part in way:
        place = place[part]
    place[last] = value
    return values


def test_every_shipped_profile_loads_and_agrees_with_its_urdf(shipped):
    from flow_rag_vla.robot.arm import Arm

    position, _ = Arm(shipped).pose(shipped.limits("home"))
    assert (
        shipped.joint_names and (shipped.workspace_low <= position).all() and (position <= shipped.workspace_high).all()
    )


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("mode", "joint_trajectry", ("mode", "joint_trajectry", "did you mean 'joint_trajectory'?")),
        ("joints.2.velocity", 0.0, ("joints[2].velocity", "0.0", "0.01 to 20")),
        ("joints.2.velocity", "fast", ("joints[2].velocity", "'fast'", "finite number")),
        ("joints.2.acceleration", 0.5, ("joints[2].acceleration", "0.5", "at least 1.08", "to stop from 1.08 in 1 s")),
        ("motion.tool_acceleration", 0.2, ("motion.tool_acceleration", "0.2", "at least 0.5", "lower the speed")),
        ("joints.1.high", -1.8, ("joints[1].high", "-1.8", "more than low")),
        ("joints.1.home", 2.0, ("joints[1].home", "2.0")),
        ("joints.1.name", "panda_joint1", ("joints[1].name", "no other joint")),
        ("joints", [], ("joints", "[]", "a list")),
        ("urdf", "nowhere.urdf", ("urdf", "nowhere.urdf", "relative to the profile")),
        ("gripper.width", [0.08, 0.0], ("gripper.width", "closed below open")),
        ("gripper.open", 0.0, ("gripper.open", "differs from closed")),
        ("cameras.1.role", "front", ("cameras[1].role", "each role once")),
        ("cameras.0.compressed", "yes", ("cameras[0].compressed", "true or false")),
        ("workspace.high", [0.7, -0.5, 0.5], ("workspace.high", "more than low")),
        ("workspace.low", [0.1, 0.2], ("workspace.low", "3 numbers")),
        ("timeouts.command", 0.001, ("timeouts.command", "0.001")),
        ("joint", 1, ("joint is not a field", "did you mean 'joints'?")),
        ("motion.tool_sped", 1, ("motion.tool_sped", "did you mean 'tool_speed'?")),
        ("state.effort", 1, ("state.effort", "known: joint_states, wrench")),
    ],
)
def test_what_is_wrong_is_said_with_file_field_value_and_remedy(path, value, said):
    text = refusal(changed(path, value))
    assert str(FILE) in text
    for words in said:
        assert words in text, text


def test_a_missing_field_names_the_one_that_was_probably_meant():
    values = copy.deepcopy(VALUES)
    values["tool_fram"] = values.pop("tool_frame")
    assert "tool_frame is missing; 'tool_fram' is there, did you mean that?" in refusal(values)


NUMBERS = ["joints.0.low", "joints.0.velocity", "joints.3.acceleration", "joints.4.home", "motion.tool_speed",
           "motion.reach_time", "rates.command", "timeouts.state", "gripper.closed"]  # fmt: skip


@given(st.sampled_from(NUMBERS), st.one_of(st.floats(), st.integers(), st.booleans(), st.text(max_size=5), st.none()))
def test_any_value_for_a_number_gives_a_profile_inside_its_ranges_or_a_named_refusal(path, value):
    try:
        profile = read_profile(changed(path, value), FILE)
    except ProfileError as error:
        assert path.split(".")[-1] in str(error) or path.split(".")[0] in str(error)
        return
    for joint in profile.joints:
        assert all(math.isfinite(number) for number in (joint.low, joint.high, joint.velocity, joint.acceleration))
        assert joint.low <= joint.home <= joint.high and joint.velocity > 0 and joint.acceleration > 0
    assert all(joint.velocity <= joint.acceleration * LONGEST_STOP_S for joint in profile.joints)
    assert profile.tool_speed > 0 and profile.reach_time > 0 and profile.state_timeout > 0
    assert profile.command_timeout >= 2 / profile.command_rate


@given(st.recursive(st.none() | st.integers() | st.text(max_size=4), lambda inner: st.lists(inner, max_size=2)
                    | st.dictionaries(st.sampled_from([*VALUES, "x"]), inner, max_size=4), max_leaves=8))  # fmt: skip
def test_whatever_a_file_holds_nothing_but_a_profile_error_comes_of_it(values):
    with pytest.raises(ProfileError):
        read_profile(values, FILE)


def test_a_file_that_is_no_yaml_or_not_there_is_said(tmp_path):
    with pytest.raises(ProfileError, match="cannot be read"):
        load_profile(tmp_path / "none.yaml")
    (tmp_path / "bad.yaml").write_text("a: [1", encoding="utf-8")
    with pytest.raises(ProfileError, match="is no YAML"):
        load_profile(tmp_path / "bad.yaml")


def test_a_profile_is_found_by_name_and_the_nearest_is_named():
    assert find_profile("ur5e", ROBOTS) == ROBOTS / "ur5e.yaml"
    with pytest.raises(ProfileError, match="did you mean 'franka'"):
        find_profile("frank", ROBOTS)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tool_frame": "panda_tpc"}, "tool_frame is 'panda_tpc', but the URDF's links are"),
        ({"base_frame": "world"}, "base_frame is 'world'"),
    ],
)
def test_frames_and_joints_that_the_urdf_has_not_are_named(profile_values, change, said):
    from flow_rag_vla.robot.arm import Arm

    with pytest.raises(ProfileError, match=said):
        Arm(read_profile({**profile_values, **change}, FILE))
    profile_values["joints"][0]["name"] = "joint_a1"
    with pytest.raises(ProfileError, match=r"joints\[0\].name is 'joint_a1', but the URDF has: panda_joint1"):
        Arm(read_profile(profile_values, FILE))


def test_limits_wider_than_the_urdfs_are_refused(profile_values):
    from flow_rag_vla.robot.arm import Arm

    profile_values["joints"][0]["high"] = 3.1
    with pytest.raises(ProfileError, match=r"joints\[0\] \(panda_joint1\) goes from -2.8973 to 3.1"):
        Arm(read_profile(profile_values, FILE))


def test_the_gripper_maps_width_to_its_joint_and_back(mock_profile):
    gripper = mock_profile.gripper
    assert gripper.joint_value(0.08) == pytest.approx(0.04) and gripper.joint_value(5.0) == pytest.approx(0.04)
    assert gripper.width(gripper.joint_value(0.03)) == pytest.approx(0.03)
