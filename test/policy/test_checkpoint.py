# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json

import pytest
import torch

from flow_rag_vla.policy.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from flow_rag_vla.policy.policy import FlowPolicy


@pytest.fixture
def folder(tmp_path, tiny_network):
    network, config = tiny_network()
    save_checkpoint(network, config, tmp_path / "policy")
    return tmp_path / "policy"


def test_a_saved_policy_loads_as_it_was(folder, tiny_network) -> None:
    network, config = tiny_network()
    loaded, read, revision = load_checkpoint(folder)
    assert (read.encoder, read.velocity, read.readout) == (config.encoder, config.velocity, config.readout)
    assert len(revision) == 12
    for key, value in network.state_dict().items():
        assert torch.equal(value, loaded.state_dict()[key])


def test_a_loaded_policy_acts_as_the_one_that_was_saved(folder, policy, embedding, state) -> None:
    from flow_rag_vla.core.goal import GOALS

    loaded = FlowPolicy.load(folder)
    chunks = [item.act(embedding, state, GOALS[2], seed=3).actions for item in (policy, loaded)]
    assert chunks[0].tobytes() == chunks[1].tobytes()


def test_other_weights_have_another_revision(folder, tmp_path, tiny_network) -> None:
    network, config = tiny_network(seed=1)
    save_checkpoint(network, config, tmp_path / "other")
    assert load_checkpoint(folder)[2] != load_checkpoint(tmp_path / "other")[2]


def test_a_missing_checkpoint_names_the_folder_and_the_command(tmp_path) -> None:
    with pytest.raises(CheckpointError, match=rf"policy\.json in {tmp_path}.*flow_rag_vla train"):
        FlowPolicy.load(tmp_path)


@pytest.mark.parametrize("name", ["policy.json", "policy.safetensors"])
def test_a_truncated_file_is_named(folder, name) -> None:
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: len(data) // 2])
    with pytest.raises(CheckpointError, match=name):
        load_checkpoint(folder)


def test_weights_of_another_shape_are_refused(folder, tmp_path, tiny_network) -> None:
    network, config = tiny_network(horizon=8)
    save_checkpoint(network, config, tmp_path / "short")
    (folder / "policy.safetensors").write_bytes((tmp_path / "short" / "policy.safetensors").read_bytes())
    with pytest.raises(CheckpointError, match="retrain"):
        load_checkpoint(folder)


def test_weights_that_are_not_finite_are_refused(tmp_path, tiny_network) -> None:
    network, config = tiny_network()
    with torch.no_grad():
        network.velocity.enter.weight[0, 0] = float("nan")
    save_checkpoint(network, config, tmp_path)
    with pytest.raises(CheckpointError, match="not all finite"):
        load_checkpoint(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("format", "other/9", "other/9"),
        ("goals", ["dance"], "dance"),
        ("encoder", 3, "damaged"),
        ("velocity", {}, "damaged"),
    ],
)
def test_a_checkpoint_of_another_version_is_refused(folder, key, value, words) -> None:
    path = folder / "policy.json"
    values = json.loads(path.read_text())
    values[key] = value
    path.write_text(json.dumps(values))
    with pytest.raises(CheckpointError, match=words):
        load_checkpoint(folder)


def test_embeddings_of_another_encoder_are_refused_with_the_remedy(policy) -> None:
    policy.check_encoder("tiny", "abc")
    with pytest.raises(CheckpointError, match=r"tiny abc.*dinov2 fff.*--encoder dinov2"):
        policy.check_encoder("dinov2", "fff")
