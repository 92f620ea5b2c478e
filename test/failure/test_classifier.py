"""The before/after classifier: its files, what it refuses, and that numpy gives what torch gives."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

from flow_rag_vla.core.goal import GOALS
from flow_rag_vla.failure.classifier import (
    ClassifierConfig,
    ClassifierError,
    FailureClassifier,
    Observation,
    feature_size,
    pair_features,
)

DIMENSION = 6
CONFIG = ClassifierConfig("compact", "0123456789ab", DIMENSION, 1.0, 0.9, 0.02)


def layers(seed: int = 0, hidden: tuple[int, ...] = (16, 8)) -> list[tuple[np.ndarray, np.ndarray]]:
    rng = np.random.default_rng(seed)
    sizes = (feature_size(DIMENSION), *hidden, 1)
    return [
        (rng.normal(size=(b, a)).astype(np.float32) / np.float32(np.sqrt(a)), rng.normal(size=b).astype(np.float32))
        for a, b in itertools.pairwise(sizes)
    ]


def write(folder, config=CONFIG, made=None):
    tensors = {}
    for index, (weight, bias) in enumerate(made or layers()):
        tensors[f"weight{index}"], tensors[f"bias{index}"] = weight, bias
    save_file(tensors, folder / "weights.safetensors")
    (folder / "config.json").write_text(json.dumps(config.to_json()))
    return folder


def observation(seed: int) -> Observation:
    rng = np.random.default_rng(seed)
    vector = rng.normal(size=DIMENSION).astype(np.float32)
    width = float(rng.uniform(0.0, 0.08))
    return Observation(seed, vector / np.linalg.norm(vector), rng.uniform(0.0, 0.6, 3), width, 1.0)


def test_what_is_written_is_what_is_loaded(tmp_path):
    loaded = FailureClassifier.load(write(tmp_path))
    direct = FailureClassifier(CONFIG, layers(), "")
    assert loaded.config == CONFIG
    assert len(loaded.revision) == 12
    before, after = observation(1), observation(2)
    assert loaded.probability(before, after, GOALS[1]) == direct.probability(before, after, GOALS[1])


@given(seed=st.integers(0, 1000), rows=st.integers(1, 5))
def test_numpy_gives_what_torch_gives(seed, rows):
    made = layers(seed)
    features = np.random.default_rng(seed).normal(size=(rows, feature_size(DIMENSION))).astype(np.float32)
    modules: list[torch.nn.Module] = []
    for weight, bias in made:
        linear = torch.nn.Linear(weight.shape[1], weight.shape[0])
        linear.weight.data, linear.bias.data = torch.from_numpy(weight), torch.from_numpy(bias)
        modules += [linear, torch.nn.ReLU()]
    expected = torch.sigmoid(torch.nn.Sequential(*modules[:-1])(torch.from_numpy(features)))[:, 0].detach().numpy()
    np.testing.assert_allclose(FailureClassifier(CONFIG, made, "").probabilities(features), expected, atol=1e-5)


def test_the_input_tells_before_from_after_and_one_goal_from_another():
    before, after = observation(1), observation(2)
    there = pair_features(before, after, GOALS[0])
    assert there.shape == (feature_size(DIMENSION),)
    assert there.dtype == np.float32
    assert not np.array_equal(there, pair_features(after, before, GOALS[0]))
    assert not np.array_equal(there, pair_features(before, after, GOALS[1]))
    assert not pair_features(before, after, None)[-len(GOALS) :].any()


@pytest.mark.parametrize("name", ["weights.safetensors", "config.json"])
def test_a_missing_file_is_named_with_the_remedy(tmp_path, name):
    (write(tmp_path) / name).unlink()
    with pytest.raises(ClassifierError, match=rf"{name} is missing; .*train one with"):
        FailureClassifier.load(tmp_path)


@pytest.mark.parametrize("name", ["weights.safetensors", "config.json"])
@pytest.mark.parametrize("content", [b"", b"\x00\xff garbage", b"[]"])
def test_a_damaged_file_is_named_with_the_remedy(tmp_path, name, content):
    (write(tmp_path) / name).write_bytes(content)
    with pytest.raises(ClassifierError, match="retrain with"):
        FailureClassifier.load(tmp_path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("format", 99, "format is 99"),
        ("goals", ["dance"], "knows the goals"),
        ("dimension", "many", "not usable"),
        ("dimension", 0, "out of range"),
        ("span", float("nan"), "out of range"),
        ("threshold", 0.0, "out of range"),
        ("dimension", DIMENSION + 1, "belongs to other code or another encoder"),
    ],
)
def test_a_configuration_that_does_not_fit_is_refused(tmp_path, key, value, message):
    write(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text()) | {key: value}
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(ClassifierError, match=message):
        FailureClassifier.load(tmp_path)


def test_a_missing_entry_or_layer_is_refused(tmp_path):
    write(tmp_path)
    values = CONFIG.to_json()
    del values["span"]
    (tmp_path / "config.json").write_text(json.dumps(values))
    with pytest.raises(ClassifierError, match="span"):
        FailureClassifier.load(tmp_path)
    write(tmp_path)
    tensors = load_file(tmp_path / "weights.safetensors")
    del tensors["bias1"]
    save_file(tensors, tmp_path / "weights.safetensors")
    with pytest.raises(ClassifierError, match="bias1"):
        FailureClassifier.load(tmp_path)


def test_weights_that_are_not_finite_or_end_in_more_than_one_number_are_refused():
    made = layers()
    made[1][0][0, 0] = np.nan
    with pytest.raises(ClassifierError, match="not finite"):
        FailureClassifier(CONFIG, made, "")
    with pytest.raises(ClassifierError, match="8 outputs"):
        FailureClassifier(CONFIG, layers()[:-1], "")


@pytest.mark.parametrize(
    ("encoder", "revision", "dimension"),
    [
        ("dinov2", "0123456789ab", DIMENSION),
        ("compact", "ba9876543210", DIMENSION),
        ("compact", "0123456789ab", DIMENSION + 1),
    ],
)
def test_embeddings_of_another_encoder_are_refused_naming_both(encoder, revision, dimension):
    classifier = FailureClassifier(CONFIG, layers(), "")
    classifier.check("compact", "0123456789ab", DIMENSION)
    with pytest.raises(ClassifierError, match=rf"'compact' revision 0123456789ab .* {encoder!r} revision {revision}"):
        classifier.check(encoder, revision, dimension)


def test_extreme_inputs_still_give_a_probability():
    classifier = FailureClassifier(CONFIG, layers(), "")
    huge = np.full((2, feature_size(DIMENSION)), 1e30, dtype=np.float32)
    huge[1] *= -1
    values = classifier.probabilities(huge)
    assert ((values >= 0) & (values <= 1)).all()


def test_the_shipped_classifier_belongs_to_the_shipped_encoder():
    from flow_rag_vla.policy.encoders import make_encoder

    encoder = make_encoder("compact")
    # After the encoder was retrained: python -m flow_rag_vla.learn.train_classifier
    FailureClassifier.load().check(encoder.name, encoder.revision, encoder.dimension)
