# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.policy.encoders import EncoderError, ImageError, make_encoder
from flow_rag_vla.policy.encoders.compact import CompactConfig, CompactEncoder, CompactNetwork, save_compact
from flow_rag_vla.policy.encoders.huggingface import read_preprocessing

SMALL = CompactConfig((32, 40), (24, 24), (4, 4, 4), keypoints=4, hidden=16, dimension=10)


def pictures(front=(32, 40), wrist=(24, 24), seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    sizes = {"front": front, "wrist": wrist}
    return {name: rng.integers(0, 256, (*size, 3), dtype=np.uint8) for name, size in sizes.items()}


def small_network(seed: int = 0) -> CompactNetwork:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return CompactNetwork(SMALL)


@pytest.fixture(scope="module")
def compact(tmp_path_factory) -> CompactEncoder:
    folder = tmp_path_factory.mktemp("compact")
    save_compact(small_network(), folder)
    return CompactEncoder.load(folder)


@pytest.fixture(scope="module", params=["dinov2", "vit", "mobilenet"])
def backbone(request, tmp_path_factory):
    import transformers

    folder = tmp_path_factory.mktemp(request.param)
    torch.manual_seed(0)
    if request.param == "dinov2":
        config = transformers.Dinov2Config(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, mlp_ratio=1, image_size=28, patch_size=14
        )
        model = transformers.Dinov2Model(config)
    elif request.param == "vit":
        config = transformers.ViTConfig(
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            image_size=32,
            patch_size=16,
        )
        model = transformers.ViTModel(config)
    else:
        config = transformers.MobileNetV2Config(image_size=32, depth_multiplier=0.25, min_depth=8)
        model = transformers.MobileNetV2Model(config)
    model.save_pretrained(folder)
    return folder


def test_an_embedding_is_float32_of_unit_length(compact) -> None:
    vector = compact.encode(pictures())
    assert vector.shape == (compact.dimension,) == (10,) and vector.dtype == np.float32
    assert float(np.linalg.norm(vector)) == pytest.approx(1.0, abs=1e-5)


def test_a_batch_gives_what_its_pictures_give_one_by_one(compact) -> None:
    items = [pictures(seed=seed) for seed in range(3)]
    batch = compact.encode_batch({name: np.stack([item[name] for item in items]) for name in ("front", "wrist")})
    assert np.allclose(batch, np.stack([compact.encode(item) for item in items]), atol=1e-5)


@given(height=st.integers(8, 90), width=st.integers(8, 90))
def test_pictures_of_any_size_are_resized(compact, height: int, width: int) -> None:
    vector = compact.encode(pictures(front=(height, width)))
    assert np.isfinite(vector).all()


def test_both_cameras_count(compact) -> None:
    first, other = pictures(seed=0), pictures(seed=1)
    base = compact.encode(first)
    for camera in ("front", "wrist"):
        assert not np.allclose(base, compact.encode({**first, camera: other[camera]}), atol=1e-4)


@pytest.mark.parametrize(
    ("image", "words"),
    [
        (np.zeros((32, 40), np.uint8), r"front.*\(32, 40\)"),
        (np.zeros((32, 40, 4), np.uint8), r"front.*\(32, 40, 4\)"),
        (np.zeros((32, 40, 3), np.float32), "front.*float32.*uint8"),
        (np.zeros((0, 40, 3), np.uint8), "front.*40 x 0"),
        (None, "front.*NoneType"),
    ],
)
def test_a_malformed_picture_is_named_with_what_is_wrong(compact, image, words) -> None:
    with pytest.raises(ImageError, match=words):
        compact.encode({**pictures(), "front": image})


def test_a_missing_camera_is_named(compact) -> None:
    with pytest.raises(ImageError, match="'wrist'"):
        compact.encode({"front": pictures()["front"]})
    with pytest.raises(ImageError, match="'wrist'"):
        compact.encode_batch({"front": pictures()["front"][None]})


def test_batches_must_have_one_length(compact) -> None:
    items = pictures()
    with pytest.raises(ImageError, match="2 images"):
        compact.encode_batch({"front": items["front"][None], "wrist": np.stack([items["wrist"]] * 2)})
    with pytest.raises(ImageError, match="B of at least 1"):
        compact.encode_batch({"front": items["front"], "wrist": items["wrist"][None]})


def test_a_compact_encoder_is_made_from_its_folder_and_named_by_its_weights(tmp_path) -> None:
    revisions = [save_compact(small_network(seed), tmp_path / str(seed)) for seed in (0, 1)]
    encoders = [make_encoder(str(tmp_path / str(seed))) for seed in (0, 1)]
    assert [encoder.revision for encoder in encoders] == revisions
    assert revisions[0] != revisions[1]
    assert encoders[0].cameras == ("front", "wrist")


def test_missing_and_damaged_weights_are_named_with_the_remedy(tmp_path) -> None:
    with pytest.raises(EncoderError, match=r"encoder\.json.*flow_rag_vla train"):
        CompactEncoder.load(tmp_path)
    save_compact(small_network(), tmp_path)
    weights = tmp_path / "encoder.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(EncoderError, match=r"encoder\.safetensors.*retrain"):
        CompactEncoder.load(tmp_path)


@pytest.mark.parametrize("text", ["{", "[]", '{"format": "x"}', '{"format": "flow_rag_vla.compact_encoder/1", "a": 1}'])
def test_a_damaged_configuration_is_named(tmp_path, text) -> None:
    save_compact(small_network(), tmp_path)
    (tmp_path / "encoder.json").write_text(text)
    with pytest.raises(EncoderError, match=r"encoder\.json"):
        CompactEncoder.load(tmp_path)


def test_any_hugging_face_backbone_gives_unit_vectors_of_both_cameras(backbone) -> None:
    encoder = make_encoder(str(backbone))
    vector = encoder.encode(pictures())
    assert vector.shape == (encoder.dimension,) and vector.dtype == np.float32
    assert float(np.linalg.norm(vector)) == pytest.approx(1.0, abs=1e-5)
    half = encoder.dimension // 2
    assert float(np.linalg.norm(vector[:half])) == pytest.approx(float(np.linalg.norm(vector[half:])), rel=1e-3)
    assert encoder.revision == make_encoder(str(backbone)).revision
    assert encoder.name == str(backbone)


def test_the_preprocessor_file_is_obeyed(backbone) -> None:
    plain = make_encoder(str(backbone)).encode(pictures())
    path = backbone / "preprocessor_config.json"
    path.write_text(json.dumps({"image_mean": [0.0, 0.0, 0.0], "image_std": [0.1, 0.1, 0.1]}))
    try:
        assert not np.allclose(plain, make_encoder(str(backbone)).encode(pictures()), atol=1e-4)
    finally:
        path.unlink()


@pytest.mark.parametrize(
    ("values", "size"),
    [
        ({}, (224, 224)),
        ({"size": {"height": 30, "width": 40}}, (30, 40)),
        ({"size": {"shortest_edge": 50}}, (50, 50)),
        ({"size": {"shortest_edge": 50}, "crop_size": 48}, (48, 48)),
        ({"size": [20, 24]}, (20, 24)),
    ],
)
def test_every_way_of_writing_a_size_is_understood(tmp_path, values, size) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(values))
    assert read_preprocessing(str(tmp_path), None).size == size


def test_code_that_comes_with_weights_is_never_run_and_nobody_is_asked(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("builtins.input", lambda *_said: pytest.fail("somebody was asked whether it may run"))
    folder, ran = tmp_path / "foreign", tmp_path / "ran"
    folder.mkdir()
    (folder / "foreign.py").write_text(f"from pathlib import Path\n\nPath({str(ran)!r}).touch()\n")
    places = {"AutoConfig": "foreign.A", "AutoModel": "foreign.B"}
    (folder / "config.json").write_text(json.dumps({"model_type": "foreign", "auto_map": places}))
    with pytest.raises(EncoderError, match="does not load"):
        make_encoder(str(folder))
    assert not ran.exists()


def test_a_missing_folder_is_named_with_the_remedy(tmp_path) -> None:
    with pytest.raises(EncoderError, match=r"nowhere does not exist.*encoder: compact"):
        make_encoder(str(tmp_path / "nowhere"))
    with pytest.raises(EncoderError, match=r"has no config\.json"):
        make_encoder(str(tmp_path))


def test_an_unknown_hub_id_is_named_with_the_remedy(monkeypatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(EncoderError, match=r"no-such-owner/no-such-model.*download"):
        make_encoder("no-such-owner/no-such-model")


def test_a_model_that_sees_nothing_is_refused(tmp_path) -> None:
    import transformers

    config = transformers.BertConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, vocab_size=20
    )
    transformers.BertModel(config).save_pretrained(tmp_path)
    with pytest.raises(EncoderError, match="no vision backbone"):
        make_encoder(str(tmp_path))


def test_an_empty_name_is_refused() -> None:
    with pytest.raises(EncoderError, match="empty"):
        make_encoder("")
