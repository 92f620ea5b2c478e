# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What a training leaves is a detector like any other."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.labeling.backends import BackendSettings, make_detector, make_pipeline
from flow_rag_vla.labeling.detectors.detr import SIDE_FILE, DetectorSide, DetrDetector, scaled_pixels, stretched
from flow_rag_vla.labeling.pipeline import Detector, LabelRequest
from flow_rag_vla.labeling.pipeline.errors import ModelError, PromptError
from flow_rag_vla.labeling.pretrained import PretrainedSettings
from flow_rag_vla.labeling.training.batches import LEAST_SHARE, Example, augmented, targets_of
from flow_rag_vla.labeling.training.model_folder import CARD, MODEL, recovered
from flow_rag_vla.labeling.training.networks import make_network
from flow_rag_vla.labeling.training.settings import DetectorTraining


@pytest.fixture
def model(trained: Path, tmp_path: Path) -> Path:
    """The detector of a training of two steps, in a folder of its own."""
    return Path(shutil.copytree(trained / MODEL, tmp_path / "training" / MODEL))


def test_it_labels_as_a_backend_with_its_own_words(model: Path) -> None:
    detector = make_detector(BackendSettings(detector="detr", detector_model=str(model)))
    assert isinstance(detector, Detector) and detector.vocabulary == ("red", "blue")
    images = [np.full((64, 96, 3), 120, np.uint8), np.zeros((200, 100, 3), np.uint8)]
    first, second = detector.detect(images, (), 0.0)
    assert (second.width, second.height) == (100, 200) and len(second) > 0 and (np.diff(second.scores) <= 0).all()
    assert set(first.labels) == {"red", "blue"} and first.origin.revision == detector.revision
    (one,) = detector.detect(images[:1], ("RED ",), 0.0)
    assert set(one.labels) == {"RED"}
    with pytest.raises(PromptError, match="it knows: red, blue"):
        detector.detect(images, ("green",), 0.0)
    pipeline = make_pipeline(BackendSettings(detector="detr", detector_model=str(model)))
    labelled = pipeline.label(images, LabelRequest(threshold=0.05))
    assert all(item.detections.masks is None for item in labelled)
    assert "| red |" in (model / CARD).read_text()


def test_each_labels_own_threshold_becomes_one_half(model: Path) -> None:
    image = [np.full((64, 96, 3), 120, np.uint8)]
    as_it_is = make_detector(BackendSettings(detector="detr", detector_model=str(model)))
    side = json.loads((model / SIDE_FILE).read_text())
    raw = dict.fromkeys(("red", "blue"), 0.0) | {
        label: float(score)
        for label, score in zip(*(lambda found: (found.labels[::-1], found.scores[::-1]))(
            as_it_is.detect(image, (), 0.0)[0]), strict=True)
    }  # fmt: skip
    (model / SIDE_FILE).write_text(json.dumps(side | {"thresholds": [0.1, 0.9]}))
    other = make_detector(BackendSettings(detector="detr", detector_model=str(model)))
    (found,) = other.detect(image, ("red",), 0.0)
    # The old thresholds were 0.5, where a score stays what it is.
    assert side["thresholds"] == [0.5, 0.5]
    expected = stretched(np.asarray([[raw["red"]]], np.float32), np.asarray([0.1], np.float32))[0, 0]
    assert found.scores[0] == pytest.approx(expected, abs=1e-6) and expected != pytest.approx(raw["red"], abs=1e-3)


@given(st.floats(0, 1, width=32), st.floats(0, 1, width=32), st.floats(0.03125, 0.96875, width=32))
def test_stretching_keeps_the_order_and_the_ends(one: float, other: float, threshold: float) -> None:
    cut = np.asarray([threshold], np.float32)
    low, high, middle, zero, full = stretched(
        np.asarray([[min(one, other)], [max(one, other)], [threshold], [0.0], [1.0]], np.float32), cut
    )[:, 0]
    assert zero == 0.0 and full == pytest.approx(1.0) and middle == pytest.approx(0.5, abs=1e-6)
    assert low <= high + 1e-6


def test_pictures_go_in_as_transformers_own_processor_makes_them(model: Path) -> None:
    from transformers.models.rt_detr.image_processing_pil_rt_detr import RTDetrImageProcessorPil

    image = np.random.default_rng(0).integers(0, 256, (50, 70, 3), np.uint8)
    theirs = RTDetrImageProcessorPil.from_pretrained(model)(images=[image], return_tensors="np")["pixel_values"][0]
    np.testing.assert_allclose(scaled_pixels(image, 96, 64), theirs, atol=1e-6)


def test_another_training_goes_on_from_its_weights_with_other_words(model: Path) -> None:
    settings = DetectorTraining(model=str(model))
    network, pretrained = make_network(settings, ("cup", "bowl", "spoon"))
    same = DetrDetector.load(PretrainedSettings(str(model)))._network
    assert pretrained and network.config.num_labels == 3
    name = "model.backbone.model.embedder.embedder.0.convolution.weight"
    assert torch.equal(network.get_parameter(name), same.get_parameter(name))
    # A configuration alone is a model to be made anew.
    (model / "model.safetensors").unlink()
    made, pretrained = make_network(settings, ("cup",))
    assert not pretrained and made.config.num_labels == 1


@pytest.mark.parametrize(
    ("file", "content", "words"),
    [
        (SIDE_FILE, "{", "is damaged"),
        (SIDE_FILE, '{"format": "flow_rag_vla.detector/1", "labels": [], "thresholds": []}', "is damaged"),
        (
            SIDE_FILE,
            '{"format": "flow_rag_vla.detector/1", "labels": ["a"], "thresholds": [0.5], "width": 96, "height": 64}',
            "names 1 labels, the network has 2",
        ),
        ("config.json", '{"model_type": "bert"}', "expected rt_detr_v2 or d_fine"),
        ("model.safetensors", "no weights", "does not load"),
    ],
)
def test_a_damaged_folder_is_refused(model: Path, file: str, content: str, words: str) -> None:
    (model / file).write_text(content)
    with pytest.raises(ModelError, match=words):
        make_detector(BackendSettings(detector="detr", detector_model=str(model)))


def test_a_checkpoint_of_somebody_else_is_taken_as_it_is(model: Path) -> None:
    (model / SIDE_FILE).unlink()
    detector = DetrDetector.load(PretrainedSettings(str(model)))
    assert detector.side == DetectorSide(("red", "blue"), (0.5, 0.5), 96, 64)
    (model / "preprocessor_config.json").unlink()
    assert DetrDetector.load(PretrainedSettings(str(model))).side.width == 640


def test_a_replacement_that_a_crash_cut_short_is_ended(model: Path) -> None:
    folder = model.parent
    model.rename(folder / "model.new")
    (folder / ".model.part").mkdir()
    recovered(folder)
    assert DetrDetector.load(PretrainedSettings(str(model))).vocabulary == ("red", "blue")
    assert not (folder / ".model.part").exists() and not (folder / "model.new").exists()


@given(st.integers(0, 2**32 - 1))
def test_augmented_boxes_stay_on_their_things(seed: int) -> None:
    rng = np.random.default_rng(seed)
    image = np.full((60, 90, 3), 100, np.uint8)
    side = int(rng.integers(8, 30))
    left, top = int(rng.integers(0, 90 - side)), int(rng.integers(0, 60 - side))
    image[top : top + side, left : left + side, 0] = 255
    image[top : top + side, left : left + side, 1:] = 0
    box = np.asarray([[left, top, left + side, top + side]], np.float32)
    made = augmented(Example(image, box, np.asarray([3])), rng)
    assert len(made.boxes) == len(made.labels) == 1 and made.labels[0] == 3
    x0, y0, x1, y1 = made.boxes[0].astype(int)
    red = (made.image[..., 0].astype(int) - made.image[..., 1] > 60).nonzero()
    assert (red[1].min(), red[0].min(), red[1].max() + 1, red[0].max() + 1) == (x0, y0, x1, y1)
    assert (x1 - x0) * (y1 - y0) >= LEAST_SHARE * side * side - 1e-6
    target = targets_of(made)["boxes"]
    assert target.min() >= 0.0 and target.max() <= 1.0
