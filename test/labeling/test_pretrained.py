# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The loading code of the pretrained backends, on tiny models of random weights that are saved as the real ones are."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from flow_rag_vla.labeling.backends import BackendSettings, make_pipeline
from flow_rag_vla.labeling.detections import Detections, Origin, ScoreKind
from flow_rag_vla.labeling.detectors.calibration import CalibratedDetector, ScoreCalibration, fit_calibration
from flow_rag_vla.labeling.detectors.florence2 import Florence2Detector, read_answer
from flow_rag_vla.labeling.detectors.grounding_dino import GroundingDinoDetector, joined_prompts, token_owner
from flow_rag_vla.labeling.embedders.dinov2 import Dinov2Embedder
from flow_rag_vla.labeling.pipeline import LabelRequest, ModelError, PromptError, SettingError
from flow_rag_vla.labeling.pretrained import PretrainedSettings, load_processor
from flow_rag_vla.labeling.segmenters.sam2 import Sam2Segmenter

from . import tiny_models

ANSWER = (100, 200, 600, 700)

Folder = Callable[[str], str]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    """Path of a tiny model by name, made when it is first asked for."""
    made: dict[str, str] = {}
    makers: dict[str, Callable[[Path], Path]] = {
        "florence2": lambda path: tiny_models.save_florence2(path, ANSWER),
        "grounding_dino": tiny_models.save_grounding_dino,
        "sam2": tiny_models.save_sam2,
        "dinov2": tiny_models.save_dinov2,
    }

    def get(name: str) -> str:
        if name not in made:
            made[name] = str(makers[name](tmp_path_factory.mktemp(name)))
        return made[name]

    return get


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 255, (96, 128, 3)).astype(np.uint8)


def boxes_in(image: np.ndarray, count: int = 2) -> Detections:
    rows = np.array([[10, 10, 60, 60], [3.5, 4.2, 50, 90], [100, 80, 128, 96]], np.float32)[:count]
    return Detections(
        image.shape[1], image.shape[0], rows, np.full(count, 0.5, np.float32), ("a", "b", "c")[:count],
        ScoreKind.HUMAN, Origin("test"),
    )  # fmt: skip


def test_florence2_reads_boxes_and_their_probability_from_its_own_answer(folder: Folder, image: np.ndarray) -> None:
    detector = Florence2Detector(PretrainedSettings(folder("florence2"), batch=2))
    found, other = detector.detect([image, image], ("red cube",), 0.2)
    assert found.labels == ("red cube",)
    assert found.score_kind is ScoreKind.TOKEN_PROBABILITY
    expected = [(place + 0.5) / 1000 * side for place, side in zip(ANSWER, (128, 96, 128, 96), strict=True)]
    assert np.allclose(found.boxes[0], expected, atol=1e-3)
    # The model was taught this answer and nothing else: it is sure, and says so alike for the same picture.
    assert found.scores[0] > 0.5
    assert np.allclose(found.scores, other.scores, atol=1e-4)
    assert not len(detector.detect([image], ("red cube",), 1.0)[0])


def test_an_answer_is_read_token_by_token() -> None:
    locations = {10 + place: place for place in range(1000)}
    tokens = [1, 110, 210, 610, 710, 2, 110, 210, 310, 1, 510, 510, 510, 510, 20, 20, 30, 30, 40]
    logs = [-1.0, -0.1, -0.3, -0.2, -0.4, -3.0] + [-0.5] * 8 + [0.0] * 5
    found = read_answer(tokens, logs, locations, 1000, 500)
    # Three in a row are no box, nor is one without area; a rest after four is left out.
    assert [item.box for item in found] == [(100.5, 100.25, 600.5, 350.25), (10.5, 5.25, 20.5, 10.25)]
    assert found[0].score == pytest.approx(np.exp(-0.25))
    assert found[1].score == 1.0


def test_grounding_dino_gives_each_box_the_prompt_that_fits_best(folder: Folder, image: np.ndarray) -> None:
    detector = GroundingDinoDetector(PretrainedSettings(folder("grounding_dino"), batch=2))
    found = detector.detect([image, image[:80], image], ("Red cube", "blue box"), 0.0)
    assert [item.height for item in found] == [96, 80, 96]
    assert len(found[0]) > 0
    assert set(found[0].labels) <= {"Red cube", "blue box"}
    assert (np.diff(found[0].scores) <= 0).all()
    assert np.allclose(found[0].scores, found[2].scores, atol=1e-4)


def test_too_many_prompts_for_one_pass_are_refused(folder: Folder, image: np.ndarray) -> None:
    detector = GroundingDinoDetector(PretrainedSettings(folder("grounding_dino")))
    with pytest.raises(PromptError, match="ask for fewer"):
        detector.detect([image], [f"{word} {number}" for number in range(20) for word in ("red", "blue")], 0.0)


def test_tokens_belong_to_their_prompt() -> None:
    text, spans = joined_prompts(["Red cube", "blue.box"])
    assert text == "red cube. blue box."
    assert [text[low:high] for low, high in spans] == ["red cube", "blue box"]
    assert [token_owner(offset, spans) for offset in ((0, 3), (4, 8), (8, 9), (10, 14), (0, 0))] == [
        0,
        0,
        None,
        1,
        None,
    ]


def test_sam2_makes_a_mask_of_the_pictures_size_for_each_box(folder: Folder, image: np.ndarray) -> None:
    segmenter = Sam2Segmenter(PretrainedSettings(folder("sam2")))
    masks = segmenter.segment([image, image], [boxes_in(image, 3), boxes_in(image, 0)])
    assert [part.shape for part in masks] == [(3, 96, 128), (0, 96, 128)]
    # A box alone gives the mask that it gives among others.
    alone = segmenter.segment([image], [boxes_in(image, 1)])[0]
    assert np.array_equal(alone[0], masks[0][0])


def test_sam2_is_given_the_pixels_and_boxes_that_its_own_processor_gives(folder: Folder, image: np.ndarray) -> None:
    segmenter = Sam2Segmenter(PretrainedSettings(folder("sam2")))
    pixels = segmenter._pixels(np.full((50, 90, 3), 128, np.uint8))
    assert pixels.shape == (1, 3, 128, 128)
    grey = (128 / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
    assert np.allclose(pixels[0].mean(dim=(1, 2)).numpy(), grey, atol=1e-4)


def test_dinov2_gives_a_unit_vector_for_each_box_in_order(folder: Folder, image: np.ndarray) -> None:
    embedder = Dinov2Embedder(PretrainedSettings(folder("dinov2"), batch=2))
    vectors = embedder.embed([image, image, image], [boxes_in(image, 3), boxes_in(image, 0), boxes_in(image, 1)])
    assert [part.shape for part in vectors] == [(3, 24), (0, 24), (1, 24)]
    assert embedder.dimension == 24
    assert np.allclose(np.linalg.norm(vectors[0], axis=1), 1.0, atol=1e-5)
    assert np.allclose(vectors[0][0], vectors[2][0], atol=1e-5)
    assert not np.allclose(vectors[0][0], vectors[0][1], atol=1e-3)
    assert embedder.embed([], []) == []


def test_the_production_pipeline_runs_from_end_to_end(folder: Folder, image: np.ndarray) -> None:
    pipeline = make_pipeline(
        BackendSettings(
            "grounding_dino",
            detector_model=folder("grounding_dino"),
            segmenter_model=folder("sam2"),
            embedder_model=folder("dinov2"),
        )
    )
    result = pipeline.label([image], LabelRequest(("cube",), 0.0, synonyms={"cube": ("red cube",)}))[0]
    found = result.detections
    assert found.origin.model == "grounding_dino+sam2+dinov2"
    assert set(found.labels) <= {"cube"}
    assert found.masks is not None
    assert found.embeddings is not None
    assert result.times.segment > 0


def test_half_precision_loads(folder: Folder, image: np.ndarray) -> None:
    embedder = Dinov2Embedder(PretrainedSettings(folder("dinov2"), precision="bfloat16"))
    full = Dinov2Embedder(PretrainedSettings(folder("dinov2")))
    item = [boxes_in(image, 1)]
    assert float(embedder.embed([image], item)[0][0] @ full.embed([image], item)[0][0]) > 0.95


def test_another_models_file_is_refused_and_not_filled_with_noise(folder: Folder) -> None:
    with pytest.raises(ModelError) as caught:
        Sam2Segmenter(PretrainedSettings(folder("dinov2")))
    assert caught.value.code == "model_damaged"


@pytest.mark.parametrize("make", [Florence2Detector, GroundingDinoDetector, Sam2Segmenter, Dinov2Embedder])
def test_a_folder_that_is_not_there_is_named_with_a_remedy(make: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"absent does not exist.*compact") as caught:
        make(PretrainedSettings(str(tmp_path / "absent")))
    assert caught.value.code == "model_missing"


def test_open_vocabularies_want_a_prompt(folder: Folder, image: np.ndarray) -> None:
    detector = GroundingDinoDetector(PretrainedSettings(folder("grounding_dino")))
    with pytest.raises(PromptError) as caught:
        detector.detect([image], (), 0.5)
    assert caught.value.code == "prompt_missing"


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"source": " "}, "no model is named"),
        ({"source": "x", "precision": "int3"}, "int3"),
        ({"source": "x", "batch": 0}, "batch of 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused(values: dict[str, Any], text: str) -> None:
    with pytest.raises(ModelError, match=text):
        PretrainedSettings(**values)


@pytest.mark.parametrize("name", ["detector", "segmenter", "embedder"])
def test_an_unknown_backend_lists_the_known(name: str) -> None:
    with pytest.raises(ModelError, match=f"unknown {name} 'magic'; known: "):
        make_pipeline(BackendSettings(**{name: "magic"}))


def test_a_device_that_is_not_there_is_named(folder: Folder) -> None:
    with pytest.raises(ModelError, match="cuda:9"):
        Dinov2Embedder(PretrainedSettings(folder("dinov2"), device="cuda:9"))


def test_calibrated_scores_are_shares_of_correct_ones() -> None:
    rng = np.random.default_rng(1)
    scores = rng.uniform(0, 1, 4000)
    correct = rng.uniform(0, 1, 4000) < scores**2
    fitted = fit_calibration(scores, correct, ScoreKind.TOKEN_PROBABILITY, "1")
    given = fitted(np.array([0.2, 0.5, 0.9], np.float32))
    assert np.allclose(given, [0.04, 0.25, 0.81], atol=0.08)
    assert (np.diff(fitted.precisions) >= 0).all()
    least = fitted.threshold_for(0.8)
    assert least is not None
    assert 0.8 < least < 0.97
    assert fitted.threshold_for(1.1) is None


def test_a_calibration_survives_its_file_and_turns_scores(folder: Folder, image: np.ndarray, tmp_path: Path) -> None:
    detector = GroundingDinoDetector(PretrainedSettings(folder("grounding_dino")))
    raw = detector.detect([image], ("red cube",), 0.0)[0]
    fitted = ScoreCalibration((0.0, 1.0), (0.0, 0.5), ScoreKind.SIGMOID, detector.revision, 50)
    fitted.save(tmp_path / "c.json")
    calibrated = CalibratedDetector(detector, ScoreCalibration.load(tmp_path / "c.json"))
    found = calibrated.detect([image], ("red cube",), 0.25)[0]
    assert found.score_kind is ScoreKind.CALIBRATED
    assert np.allclose(found.scores, [0.5 * score for score in raw.scores if score >= 0.5], atol=1e-6)


def test_a_calibration_of_another_detector_is_refused(folder: Folder, tmp_path: Path) -> None:
    detector = GroundingDinoDetector(PretrainedSettings(folder("grounding_dino")))
    with pytest.raises(ModelError, match="fit it again"):
        CalibratedDetector(detector, ScoreCalibration((0.0,), (0.5,), ScoreKind.SIGMOID, "other", 50))
    with pytest.raises(ModelError, match="cannot be read"):
        ScoreCalibration.load(tmp_path / "absent.json")
    (tmp_path / "bad.json").write_text('{"format": 3}')
    with pytest.raises(ModelError, match="damaged"):
        ScoreCalibration.load(tmp_path / "bad.json")
    with pytest.raises(SettingError, match="at least 20"):
        fit_calibration([0.5] * 3, [True] * 3, ScoreKind.SIGMOID, "1")


def test_revisions_tell_weights_apart(folder: Folder) -> None:
    embedder = Dinov2Embedder(PretrainedSettings(folder("dinov2")))
    before = embedder.revision
    with torch.no_grad():
        next(embedder._model.parameters()).add_(1.0)
    from flow_rag_vla.labeling.pretrained import weights_revision

    assert weights_revision(embedder._model) != before


def test_code_that_comes_with_weights_is_never_run_and_nobody_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("builtins.input", lambda *_said: pytest.fail("somebody was asked whether it may run"))
    folder, ran = tmp_path / "foreign", tmp_path / "ran"
    folder.mkdir()
    (folder / "foreign.py").write_text(f"from pathlib import Path\n\nPath({str(ran)!r}).touch()\n")
    places = {"AutoConfig": "foreign.A", "AutoModel": "foreign.B", "AutoProcessor": "foreign.C"}
    (folder / "config.json").write_text(json.dumps({"model_type": "foreign", "auto_map": places}))
    settings = PretrainedSettings(str(folder))
    with pytest.raises(ModelError, match="does not load"):
        Dinov2Embedder(settings)
    with pytest.raises(ModelError, match="does not load"):
        load_processor("processor", settings)
    assert not ran.exists()
