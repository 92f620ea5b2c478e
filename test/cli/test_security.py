# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla security``: the policy, its enclaves, and what a shell's environment means."""

from __future__ import annotations

import xml.etree.ElementTree as ElementTree

import pytest
from typer.testing import CliRunner

from flow_rag_vla.bringup.security.permission import DISCOVERY_RANGE
from flow_rag_vla.cli.main import app


@pytest.fixture
def security(monkeypatch):
    """``security("check", ROS_STATIC_PEERS="robot")`` runs a command in an environment that says nothing else."""
    for name in ("ROS_SECURITY_ENABLE", "ROS_STATIC_PEERS", "ROS_LOCALHOST_ONLY", "CYCLONEDDS_URI", DISCOVERY_RANGE):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str, **variables: str):
        return CliRunner().invoke(app, ["security", *arguments], env=variables)

    return run


def test_the_policy_of_an_arm_in_a_namespace_is_written_with_an_enclave_for_each_that_is_listed(security, tmp_path):
    file = tmp_path / "left.xml"
    written = security("policy", "--profile", "franka", "--namespace", "left", "-o", str(file))
    assert written.exit_code == 0 and not written.output
    root = ElementTree.parse(file).getroot()
    paths = [item.get("path") for item in root.iter("enclave")]
    assert security("enclaves", "--namespace", "left").output.split() == paths
    robot = root.find("enclaves/enclave[@path='/flow_rag_vla/left/robot']")
    assert robot is not None
    assert "/joint_trajectory_controller/joint_trajectory" in {item.text for item in robot.iter("topic")}
    assert security("policy", "--profile", "franka", "--namespace", "left").output == file.read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--profile", "r2d2"], "r2d2"), (["-o", "/dev/null/policy.xml"], "cannot be written")],
)
def test_a_policy_that_cannot_be_written_is_told_in_one_line(security, arguments, said):
    result = security("policy", *arguments)
    assert result.exit_code == 2 and said in result.output and len(result.output.splitlines()) == 1


def test_a_shell_learns_whether_its_nodes_change_anything_for_callers(security):
    here = security("check")
    assert here.exit_code == 0 and "stays on this host" in here.output
    wide = security("check", **{DISCOVERY_RANGE: "SUBNET"})
    assert wide.exit_code == 1 and "SUBNET" in wide.output and "open_to_network" in wide.output
    enforced = {"ROS_SECURITY_ENABLE": "true", "ROS_SECURITY_STRATEGY": "Enforce"}
    kept = security("check", **{DISCOVERY_RANGE: "SUBNET"}, **enforced)
    assert kept.exit_code == 0 and "SROS2 is enforced" in kept.output
