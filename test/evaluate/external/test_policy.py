# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json

import numpy as np
import pytest
import torch

from flow_rag_vla.evaluate.external.environment import ExternalError
from flow_rag_vla.evaluate.external.policy import (
    CONFIG_FILE,
    LARGEST_SITUATION,
    WEIGHTS_FILE,
    ChunkPolicy,
    ExternalNetwork,
    ExternalPolicyConfig,
    load_policy,
    save_policy,
)
from flow_rag_vla.evaluate.external.training import ExternalTraining, fine_tune, train
from flow_rag_vla.policy.sampler import Attraction
from flow_rag_vla.policy.velocity import VelocityConfig

QUICK = ExternalTraining(horizon=4, iterations=200, batch=64, width=32, blocks=1)


def samples(gain=0.5, count=300):
    """Do ``gain`` times what is seen, in every row."""
    situations = np.random.default_rng(0).uniform(-1.0, 1.0, (count, 2)).astype(np.float32)
    return situations, np.repeat(gain * situations[:, None, :1], 4, axis=1)


def error(network, gain):
    config = ExternalPolicyConfig("test", "state", network.velocity.config)
    policy = ChunkPolicy(network, config)
    situations, chunks = samples(gain, 20)
    drawn = [policy.draw(policy.situation(row), seed).chosen.numpy() for seed, row in enumerate(situations)]
    return float(np.abs(np.stack(drawn) - chunks).mean())


@pytest.fixture(scope="module")
def trained():
    return train(*samples(), QUICK)


def test_training_makes_the_policy_do_what_was_shown(trained):
    fresh = train(*samples(), ExternalTraining(horizon=4, iterations=1, width=32, blocks=1))
    assert error(trained, 0.5) < 0.5 * error(fresh, 0.5)


def test_training_again_gives_the_same_weights(trained):
    again = train(*samples(), QUICK)
    for one, other in zip(trained.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)


def test_fine_tuning_moves_toward_the_corrections_and_leaves_the_policy_as_it_was(trained):
    before = error(trained, 0.5)
    tuned = fine_tune(trained, samples(0.5, 30), samples(-0.5), QUICK)
    assert error(tuned, -0.5) < error(trained, -0.5)
    assert error(trained, 0.5) == before


def test_noise_is_the_seeds_whatever_guides_the_flow(trained):
    policy = ChunkPolicy(trained, ExternalPolicyConfig("test", "state", trained.velocity.config))
    situation = policy.situation(np.array([0.3, 0.1]))
    plain = policy.draw(situation, 5).chosen
    assert torch.equal(policy.draw(situation, 5).chosen, plain)
    assert not torch.equal(policy.draw(situation, 6).chosen, plain)
    weightless = Attraction(torch.ones(4, 1), torch.ones(4), 0.0)
    assert torch.allclose(policy.draw(situation, 5, attraction=weightless).chosen, plain, atol=1e-6)
    pulled = policy.draw(situation, 5, attraction=Attraction(torch.ones(4, 1), torch.ones(4), 1.0)).chosen
    assert float((pulled - 1.0).abs().mean()) < float((plain - 1.0).abs().mean())


def test_a_number_that_never_varied_is_left_out_and_one_that_hardly_did_is_not_blown_up():
    network = ExternalNetwork(VelocityConfig(4, 1, 4, width=8, blocks=1))
    generator = np.random.default_rng(0)
    seen = generator.normal(size=(500, 4)) * np.array([1.0, 1.0, 1e-3, 0.0])
    network.fit(torch.from_numpy(seen.astype(np.float32)))
    far = network.situation(torch.tensor([[1.0, 1e9, 0.5, 7.0]]))[0]
    assert float(far[0]) == pytest.approx(1.0, abs=0.2)
    assert float(far[1]) == LARGEST_SITUATION
    assert 0.0 < float(far[2]) < 3.0
    assert float(far[3]) == 0.0


def test_a_checkpoint_comes_back_as_it_was(trained, tmp_path):
    config = ExternalPolicyConfig("test", "state", trained.velocity.config, {"demonstrations": 3})
    revision = save_policy(trained, config, tmp_path)
    network, read, same = load_policy(tmp_path)
    assert (read, same) == (config, revision)
    row = torch.tensor([[0.2, -0.4]])
    assert torch.equal(network.situation(row), trained.situation(row))
    for one, other in zip(network.parameters(), trained.parameters(), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("damage", ["missing", "cut", "format", "field", "nan"])
def test_a_damaged_checkpoint_is_refused(trained, tmp_path, damage):
    save_policy(trained, ExternalPolicyConfig("test", "state", trained.velocity.config), tmp_path)
    values = json.loads((tmp_path / CONFIG_FILE).read_text())
    if damage == "missing":
        (tmp_path / WEIGHTS_FILE).unlink()
    elif damage == "cut":
        (tmp_path / WEIGHTS_FILE).write_bytes((tmp_path / WEIGHTS_FILE).read_bytes()[:-100])
    elif damage == "format":
        (tmp_path / CONFIG_FILE).write_text(json.dumps({**values, "format": "other/9"}))
    elif damage == "field":
        (tmp_path / CONFIG_FILE).write_text(json.dumps({**values, "surprise": 1}))
    else:
        broken = ExternalNetwork(trained.velocity.config)
        broken.mean.fill_(float("nan"))
        save_policy(broken, ExternalPolicyConfig("test", "state", trained.velocity.config), tmp_path)
    with pytest.raises(ExternalError, match=r"train (it )?anew"):
        load_policy(tmp_path)
