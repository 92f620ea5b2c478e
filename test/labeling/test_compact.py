# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The shipped detector: what it finds, what it refuses, and how it loads."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from flow_rag_vla.labeling.compact.baseline import ColourDetector
from flow_rag_vla.labeling.compact.categories import CATEGORIES, WORDS, asked_categories, categories_of, category_of
from flow_rag_vla.labeling.compact.grouping import group_things
from flow_rag_vla.labeling.compact.held_out import score_detector
from flow_rag_vla.labeling.compact.model import CONFIG_FILE, SHIPPED, WEIGHTS_FILE, CompactModel, save_compact
from flow_rag_vla.labeling.compact.network import CompactConfig, CompactNetwork, working_size
from flow_rag_vla.labeling.compact.training import (
    IGNORED,
    CompactTraining,
    centre_votes,
    collect,
    covered_entropy,
    train_compact,
)
from flow_rag_vla.labeling.compact.truth import TruthFrame, TruthRenderer
from flow_rag_vla.labeling.detectors.compact import CompactDetector
from flow_rag_vla.labeling.embedders.compact import CompactEmbedder
from flow_rag_vla.labeling.pipeline import LabelingPipeline, LabelRequest, ModelError, PromptError
from flow_rag_vla.sim.camera import FRONT, SceneRenderer
from flow_rag_vla.sim.scene import sample_scene


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("red cube", ("red cube",)),
        ("the Red Cubes", ("red cube",)),
        ("cube", ("red cube",)),
        ("blocks", ("red cube", "blue box")),
        ("objects", ("red cube", "blue box", "yellow cylinder")),
        ("robot_arm", ("robot arm",)),
        ("robot", ("robot arm", "gripper")),
        ("빨간 큐브", ("red cube",)),
        ("파란 상자", ("blue box",)),
        ("노란 원기둥", ("yellow cylinder",)),
        ("초록 구역", ("green zone",)),
        ("통", ("bin",)),
        ("서랍", ("drawer",)),
        ("로봇 팔", ("robot arm",)),
        ("그리퍼", ("gripper",)),
    ],
)
def test_words_in_both_languages_mean_categories(prompt: str, expected: tuple[str, ...]) -> None:
    assert categories_of(prompt) == expected


@pytest.mark.parametrize("prompt", ["elephant", "red cylinder", "빨간 상자", "red elephant"])
def test_a_prompt_outside_the_vocabulary_lists_what_is_known(prompt: str) -> None:
    with pytest.raises(PromptError) as caught:
        categories_of(prompt)
    assert caught.value.code == "prompt_unknown"
    assert all(name in str(caught.value) for name in (*CATEGORIES, "큐브"))


def test_an_empty_prompt_is_refused() -> None:
    with pytest.raises(PromptError) as caught:
        asked_categories(["red cube", " the "])
    assert caught.value.code == "prompt_empty"


def test_every_word_means_something() -> None:
    assert all(set(meant) <= set(CATEGORIES) and meant for meant in WORDS.values())
    assert category_of("yellow_cylinder_3") == "yellow cylinder"
    assert category_of("stranger_2") is None


def test_the_truth_is_that_of_the_picture_that_the_simulator_draws() -> None:
    spec = sample_scene("pick_and_place", "plain", 3)
    with TruthRenderer() as truth, SceneRenderer(spec) as renderer:
        truth.reset(spec)
        frame = truth.render(FRONT)
        assert np.abs(frame.image.astype(int) - renderer.render(FRONT)).max() <= 1
    found, names = frame.things()
    assert set(names) == {"red_cube", "blue_box", "yellow_cylinder", "bin", "robot_arm", "gripper"}
    assert found.masks is not None
    red = frame.image[found.masks[names.index("red_cube")]].astype(int).mean(axis=0)
    assert red[0] > 2 * red[1]


def test_the_zone_that_is_painted_on_the_ground_is_in_the_truth() -> None:
    with TruthRenderer() as truth:
        truth.reset(sample_scene("push", "plain", 3))
        frame = truth.render(FRONT)
    found, names = frame.things()
    assert found.masks is not None
    green = frame.image[found.masks[names.index("green_zone")]]
    assert (green[:, 1] > green[:, 0]).all()


def test_it_is_better_than_colours_on_scenes_that_it_never_saw(
    compact_model: CompactModel, held_out: list[TruthFrame]
) -> None:
    score = score_detector(CompactDetector(compact_model), held_out)
    baseline = score_detector(ColourDetector(), held_out)
    assert score.map50 > baseline.map50 + 0.2
    assert score.miou > baseline.miou + 0.2
    loose = ("red cube", "blue box", "yellow cylinder")
    assert all(score.average_precision[name] > 0.75 for name in loose if score.things.get(name, 0) > 3)


def test_masks_fill_their_boxes_and_vectors_are_of_unit_length(
    compact_model: CompactModel, held_out: list[TruthFrame]
) -> None:
    for frame, found in zip(
        held_out, CompactDetector(compact_model).detect([f.image for f in held_out], (), 0.4), strict=True
    ):
        assert found.masks is not None
        assert found.embeddings is not None
        assert found.embeddings.shape == (len(found), compact_model.dimension)
        assert (found.width, found.height) == frame.image.shape[1::-1]
        for mask, box in zip(found.masks, found.boxes.astype(int), strict=True):
            rows, columns = np.nonzero(mask)
            assert [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] == box.tolist()
        assert (np.diff(found.scores) <= 0).all()


def test_only_what_is_asked_for_is_found_under_the_words_that_asked(
    compact_model: CompactModel, held_out: list[TruthFrame]
) -> None:
    images = [frame.image for frame in held_out]
    everything = CompactDetector(compact_model).detect(images, (), 0.5)
    some = CompactDetector(compact_model).detect(images, ("큐브", "bin"), 0.5)
    for all_of_it, part in zip(everything, some, strict=True):
        expected = [{"red cube": "큐브"}.get(name, name) for name in all_of_it.labels if name in ("red cube", "bin")]
        assert list(part.labels) == expected
    assert any(len(part) for part in some)


def test_a_picture_alone_and_in_a_batch_gives_the_same(compact_model: CompactModel, held_out: list[TruthFrame]) -> None:
    detector = CompactDetector(compact_model)
    images = [held_out[0].image, held_out[1].image[:200], held_out[2].image]
    together = detector.detect(images, (), 0.5)
    for image, expected in zip(images, together, strict=True):
        alone = detector.detect([image], (), 0.5)[0]
        assert alone.labels == expected.labels
        assert np.allclose(alone.scores, expected.scores, atol=1e-3)


def test_the_embedder_gives_the_vectors_of_the_detector(
    compact_model: CompactModel, held_out: list[TruthFrame]
) -> None:
    image = held_out[0].image
    found = CompactDetector(compact_model).detect([image], (), 0.5)[0]
    assert found.embeddings is not None
    again = CompactEmbedder(compact_model).embed([image], [found])[0]
    # Masks were scaled up and down again in between.
    assert (np.sum(again * found.embeddings, axis=1) > 0.9).all()


def test_alike_things_have_alike_vectors(compact_model: CompactModel, held_out: list[TruthFrame]) -> None:
    embedder = CompactEmbedder(compact_model)
    labels, vectors = [], []
    for frame in held_out:
        truth, _ = frame.things(60)
        labels += list(truth.labels)
        vectors.append(embedder.embed([frame.image], [truth])[0])
    rows = np.concatenate(vectors)
    cosine = rows @ rows.T
    np.fill_diagonal(cosine, -1.0)
    nearest = cosine.argmax(axis=1)
    right = np.mean([labels[row] == labels[best] for row, best in enumerate(nearest)])
    assert right > 0.8


def test_two_things_side_by_side_are_two_and_one_behind_a_bar_is_one() -> None:
    height, width = 64, 96
    instances = np.zeros((height, width), np.uint8)
    instances[10:30, 10:30] = 1
    instances[10:30, 30:50] = 2
    instances[40:60, 10:50] = 3
    instances[40:60, 27:33] = 0
    classes = (instances > 0).astype(np.uint8)
    votes, _ = centre_votes(instances, classes)
    probabilities = np.zeros((1 + len(CATEGORIES), height, width), np.float32)
    probabilities[0] = instances == 0
    probabilities[1] = instances > 0
    groups = group_things(probabilities, votes, tuple(False for _ in CATEGORIES))
    assert len(groups) == 3
    for group in groups:
        own = instances[group.mask]
        assert (own == own[0]).all()
        # Votes are at half size: a pixel beside the bar may read the bar's.
        assert np.count_nonzero(group.mask) >= 0.95 * np.count_nonzero(instances == own[0])


@pytest.mark.parametrize(("width", "height"), [(640, 480), (128, 128), (96, 96), (3000, 200), (9, 4000)])
def test_any_picture_has_a_working_size(width: int, height: int, compact_model: CompactModel) -> None:
    columns, rows = working_size(width, height, 320 * 240)
    assert columns % 16 == 0
    assert rows % 16 == 0
    assert working_size(width, height, 320 * 240, 2) == (2 * columns, 2 * rows)
    image = np.full((height, width, 3), 200, np.uint8)
    if min(width, height) >= 8:
        assert CompactDetector(compact_model).detect([image], (), 0.99)[0].width == width


def test_saved_and_loaded_it_is_the_same(
    compact_model: CompactModel, held_out: list[TruthFrame], tmp_path: Path
) -> None:
    revision = save_compact(compact_model.network, tmp_path)
    again = CompactModel.load(tmp_path)
    assert again.revision == revision
    image = held_out[0].image
    first, second = compact_model.find([image], CATEGORIES, 0.5)[0], again.find([image], CATEGORIES, 0.5)[0]
    assert np.array_equal(first.boxes, second.boxes)


def _spoil(folder: Path, how: str) -> None:
    if how == "no weights":
        (folder / WEIGHTS_FILE).unlink()
    elif how == "cut weights":
        (folder / WEIGHTS_FILE).write_bytes((folder / WEIGHTS_FILE).read_bytes()[:1000])
    elif how == "no json":
        (folder / CONFIG_FILE).write_text("{")
    elif how == "other format":
        (folder / CONFIG_FILE).write_text('{"format": "else"}')
    else:
        values = json.loads((folder / CONFIG_FILE).read_text())
        (folder / CONFIG_FILE).write_text(json.dumps({**values, "channels": [8, 8, 8, 8]}))


@pytest.mark.parametrize("how", ["no weights", "cut weights", "no json", "other format", "other shape"])
def test_a_damaged_folder_is_refused_with_its_path_and_a_remedy(how: str, tmp_path: Path) -> None:
    folder = tmp_path / "detector"
    shutil.copytree(SHIPPED, folder)
    _spoil(folder, how)
    with pytest.raises(ModelError, match=r"detector.*(retrain|train-compact)"):
        CompactModel.load(folder)


def test_the_model_card_is_that_of_the_weights(compact_model: CompactModel) -> None:
    assert compact_model.revision in (SHIPPED / "MODEL_CARD.md").read_text(encoding="utf-8")


def test_training_learns_and_repeats_itself() -> None:
    training = CompactTraining(scenes=2, iterations=24, batch=4, crop=48)
    config = CompactConfig(CATEGORIES, channels=(8, 8, 8, 8), pixels=160 * 112, fine=4)
    frames = collect(training)
    losses: list[str] = []
    first = train_compact(frames, config, training, progress=lambda done, total, note="": losses.append(note))
    second = train_compact(frames, config, training)
    for one, other in zip(first.state_dict().values(), second.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    assert len(losses) == 24
    values = [float(note.split()[1].rstrip(",")) for note in losses]
    assert values[-1] < values[0]


def test_a_network_that_gets_fine_maps_finds_what_it_found(held_out: list[TruthFrame]) -> None:
    torch.manual_seed(0)
    plain = CompactNetwork(CompactConfig(CATEGORIES, channels=(8, 8, 8, 8), pixels=160 * 112)).eval()
    finer = plain.refined(4).eval()
    planes = torch.rand(1, 3, 224, 320)
    with torch.inference_mode():
        before = plain(torch.nn.functional.avg_pool2d(planes, 2))
        after = finer(planes)
    assert torch.allclose(before[0], after[0], atol=1e-5)
    assert torch.allclose(before[1], after[1], atol=1e-5)
    with pytest.raises(ValueError, match="begin with a network of none"):
        finer.refined(4)


def test_the_loss_is_least_where_a_pixel_has_the_shares_that_it_covers() -> None:
    classes = torch.tensor([[[1, 1], [1, 0]]])
    weights = torch.ones(3)

    def loss(share: float) -> float:
        likelihoods = torch.tensor([1.0 - share - 1e-6, share, 1e-6]).log()
        return float(covered_entropy(likelihoods.reshape(1, 3, 1, 1), classes, weights))

    assert min((0.25, 0.5, 0.7, 0.75, 0.8, 0.99), key=loss) == 0.75
    plain = torch.randn(2, 3, 4, 4)
    labels = torch.randint(0, 3, (2, 4, 4))
    expected = torch.nn.functional.cross_entropy(plain, labels, weight=torch.tensor([1.0, 3.0, 1.5]))
    assert torch.isclose(covered_entropy(plain, labels, torch.tensor([1.0, 3.0, 1.5])), expected)
    labels[0] = IGNORED
    expected = torch.nn.functional.cross_entropy(plain[1:], labels[1:])
    assert torch.isclose(covered_entropy(plain, labels, weights), expected)


def test_training_without_pictures_is_refused() -> None:
    with pytest.raises(ValueError, match="no frames"):
        train_compact([])


def test_the_network_takes_no_more_than_a_few_megabytes() -> None:
    assert (SHIPPED / WEIGHTS_FILE).stat().st_size < 4_000_000
    assert sum(p.numel() for p in CompactNetwork(CompactConfig(CATEGORIES)).parameters()) < 1_000_000


def test_the_pipeline_labels_with_it_by_default(compact_model: CompactModel, held_out: list[TruthFrame]) -> None:
    found = LabelingPipeline(CompactDetector(compact_model)).label([held_out[0].image], LabelRequest())[0].detections
    assert found.origin.model == "compact"
    assert found.origin.revision == compact_model.revision
    assert set(found.labels) <= set(CATEGORIES)
