# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What a server takes and gives, and what is said when the description of it is wrong."""

from __future__ import annotations

import numpy as np
import pytest
import yaml

from flow_rag_vla.bringup.resources import policies_folder
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.policy.remote.contract import STATE_PARTS, find_contract, load_contract, parse_contract
from flow_rag_vla.policy.remote.errors import ContractError, ObservationError
from flow_rag_vla.policy.remote.observation import PARTS, fitted, request

TURNED = np.array([np.sin(0.3), 0.0, 0.0, np.cos(0.3)])
STATE = RobotState(0, np.array([0.4, 0.1, 0.2]), TURNED, np.arange(7.0), gripper_width=0.02)


def shipped(name):
    return load_contract(find_contract(name, policies_folder()))


@pytest.mark.parametrize("path", sorted(policies_folder().glob("*.yaml")), ids=lambda path: path.stem)
def test_every_contract_that_ships_can_be_asked(path):
    contract = load_contract(path)
    images = {camera: np.full((48, 64, 3), 7, dtype=np.uint8) for camera in contract.cameras}
    message = request(contract, images, STATE, "push it", 0.08)
    assert set(message) == {*contract.images, *contract.state, contract.prompt}
    for key in contract.images:
        assert message[key].shape == ((224, 224, 3) if contract.image_size else (48, 64, 3))
        assert message[key].dtype == np.uint8
    assert all(message[key].dtype == np.float32 for key in contract.state)


def test_libero_and_droid_are_asked_by_the_names_and_in_the_units_of_openpis_examples():
    image = np.zeros((224, 224, 3), dtype=np.uint8)
    images = {"front": image, "wrist": image}
    libero = request(shipped("libero"), images, STATE, "go", 0.08)
    assert set(libero) == {"observation/image", "observation/wrist_image", "observation/state", "prompt"}
    assert np.allclose(libero["observation/state"], [0.4, 0.1, 0.2, 0.6, 0.0, 0.0, 0.01, -0.01])
    droid = request(shipped("droid"), images, STATE, "go", 0.08)
    assert np.allclose(droid["observation/joint_position"], np.arange(7.0))
    assert np.allclose(droid["observation/gripper_position"], [0.75]), "0 is open, 1 is closed"


def test_every_part_of_a_state_can_be_made():
    assert set(PARTS) == set(STATE_PARTS)
    assert np.allclose(PARTS["rpy"](STATE, 0.08), [0.6, 0.0, 0.0])


@pytest.mark.parametrize(("height", "width", "inside"), [(120, 160, (168, 224)), (160, 120, (224, 168))])
def test_an_image_is_fitted_into_a_square_with_black_beside_it(height, width, inside):
    result = fitted(np.full((height, width, 3), 200, dtype=np.uint8), 224)
    assert result.shape == (224, 224, 3)
    lit = result[:, :, 0] == 200
    assert (lit.any(axis=1).sum(), lit.any(axis=0).sum()) == inside
    assert np.array_equal(lit, lit[::-1, ::-1]), "in the middle"


def test_what_is_missing_or_not_finite_is_not_sent():
    with pytest.raises(ObservationError, match="camera 'wrist'"):
        request(shipped("libero"), {"front": np.zeros((9, 9, 3), dtype=np.uint8)}, STATE, "go", 0.08)
    lost = RobotState(0, np.array([np.nan, 0, 0]), TURNED)
    images = {name: np.zeros((9, 9, 3), dtype=np.uint8) for name in ("front", "wrist")}
    with pytest.raises(ObservationError, match=r"observation/state is \[nan"):
        request(shipped("libero"), images, lost, "go", 0.08)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"imgaes": {}}, "'imgaes' is no field.*did you mean 'images'"),
        ({"images": {"a": "top"}}, "images.a is 'top', expected one of front, wrist"),
        ({"images": {}}, "names no camera"),
        ({"state": {"s": ["positon"]}}, "did you mean 'position'"),
        ({"state": {"s": "position"}}, "expected a list"),
        ({"prompt": "observation/image"}, "each may stand there once"),
        ({"image_size": True}, "expected 16 to 2048"),
        ({"actions": {"kind": "joint_position"}}, "not one of delta_pose, absolute_pose, joint_velocity"),
        ({"actions": {"rate": 0}}, "rate: 0.0 is outside"),
        ({"actions": {"speed": 1}}, "unknown parameter 'speed'"),
        ({"actions": {"gripper_open": 0.0}}, "are both 0"),
    ],
)
def test_a_wrong_field_is_named_with_what_would_be_right(changes, said):
    values = yaml.safe_load((policies_folder() / "plain.yaml").read_text()) | changes
    with pytest.raises(ContractError, match=said):
        parse_contract(values, "mine", "mine.yaml")


def test_a_contract_that_is_not_there_or_no_yaml_is_named(tmp_path):
    with pytest.raises(ContractError, match="name one of droid, libero, plain"):
        find_contract("octo", policies_folder())
    broken = tmp_path / "broken.yaml"
    broken.write_text("images: [")
    with pytest.raises(ContractError, match=r"broken\.yaml: cannot be read"):
        load_contract(find_contract(str(broken), policies_folder()))
