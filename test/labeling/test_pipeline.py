# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The stages in a row, with the colour detector as a real one that costs nothing."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from flow_rag_vla.labeling.compact.baseline import ColourDetector
from flow_rag_vla.labeling.detections import Detections, Masks, Vectors
from flow_rag_vla.labeling.pipeline import (
    Image,
    ImageError,
    ImageSource,
    LabelingPipeline,
    LabelRequest,
    PromptError,
    SettingError,
    Tiling,
)
from flow_rag_vla.labeling.pipeline.request import parse_synonyms
from flow_rag_vla.labeling.pipeline.tiles import windows

RED, BLUE = (217, 33, 31), (31, 77, 209)


def picture(width: int = 160, height: int = 120, **things: tuple[int, int, int, int]) -> Image:
    image = np.full((height, width, 3), 210, np.uint8)
    for name, (left, top, right, bottom) in things.items():
        image[top:bottom, left:right] = RED if name.startswith("red") else BLUE
    return image


class WholeBoxSegmenter:
    """Marks the left half of each box."""

    name, revision = "half", "1"

    def segment(self, images: Sequence[Image], found: Sequence[Detections]) -> list[Masks]:
        results = []
        for item in found:
            masks = np.zeros((len(item), item.height, item.width), np.bool_)
            for row, (left, top, right, bottom) in enumerate(item.boxes.astype(int)):
                masks[row, top:bottom, left : (left + right) // 2] = True
            results.append(masks)
        return results


class MeanColourEmbedder:
    """The mean colour of a box, of unit length."""

    name, revision, dimension = "mean", "2", 3

    def embed(self, images: Sequence[Image], found: Sequence[Detections]) -> list[Vectors]:
        results = []
        for image, item in zip(images, found, strict=True):
            rows = [image[int(b[1]) : int(b[3]), int(b[0]) : int(b[2])].mean(axis=(0, 1)) for b in item.boxes]
            vectors = np.asarray(rows, np.float32).reshape(-1, 3)
            results.append(vectors / np.linalg.norm(vectors, axis=1, keepdims=True))
        return results


def test_a_detector_that_segments_needs_no_segmenter() -> None:
    image = picture(red=(10, 10, 30, 30))
    found = LabelingPipeline(ColourDetector()).label([image])[0].detections
    assert found.labels == ("red cube",)
    assert found.boxes.tolist() == [[10, 10, 30, 30]]
    assert found.masks is not None
    assert found.masks[0].sum() == 400


def test_boxes_are_tightened_to_the_segmenters_masks_and_everything_is_named() -> None:
    pipeline = LabelingPipeline(ColourDetector(), WholeBoxSegmenter(), MeanColourEmbedder())
    found = pipeline.label([picture(red=(10, 10, 30, 30), blue=(60, 40, 100, 80))])[0].detections
    assert sorted(found.boxes.tolist()) == [[10, 10, 20, 30], [60, 40, 80, 80]]
    assert found.origin.model == "colour+half+mean"
    assert found.origin.revision == "1+1+2"
    assert found.embeddings is not None
    assert found.embeddings.shape == (2, 3)
    # Embedded after tightening, row by row: red is most of the red one.
    red = found.labels.index("red cube")
    assert found.embeddings[red].argmax() == 0


def test_two_words_for_one_thing_are_one_object_also_where_only_its_mask_says_so() -> None:
    class Wordy(ColourDetector):
        """Sees a thing under two words, the second time in a box that is so loose that the boxes part."""

        def detect(self, images: Sequence[Image], prompts: Sequence[str], threshold: float) -> list[Detections]:
            found = [replace(item, masks=None) for item in super().detect(images, (), threshold)]
            grown = [item.boxes + np.float32([-12, -12, 12, 12]) for item in found]
            return [
                replace(
                    item,
                    boxes=np.concatenate([item.boxes, loose]),
                    scores=np.concatenate([item.scores, item.scores * np.float32(0.9)]),
                    labels=(*("cup" for _ in item.labels), *("mug" for _ in item.labels)),
                )
                for item, loose in zip(found, grown, strict=True)
            ]

    class ColourSegmenter:
        """Marks what is red in each box."""

        name, revision = "red", "1"

        def segment(self, images: Sequence[Image], found: Sequence[Detections]) -> list[Masks]:
            return [
                np.repeat((image == RED).all(axis=2)[None], len(item), axis=0)
                for image, item in zip(images, found, strict=True)
            ]

    image = picture(red=(40, 30, 60, 60))
    assert len(LabelingPipeline(Wordy()).label([image])[0].detections) == 2, "boxes alone part them"
    found = LabelingPipeline(Wordy(), ColourSegmenter()).label([image])[0].detections
    assert (found.labels, found.boxes.tolist()) == (("cup",), [[40, 30, 60, 60]])


def test_pictures_of_different_sizes_go_through_as_one_batch_in_order() -> None:
    images = [picture(red=(10, 10, 30, 30)), picture(80, 200, blue=(5, 5, 40, 40)), picture()]
    results = LabelingPipeline(ColourDetector()).label(images)
    assert [item.detections.labels for item in results] == [("red cube",), ("blue box",), ()]
    assert all(item.times.total > 0 for item in results)


def test_a_synonym_is_asked_for_and_the_category_is_the_label() -> None:
    class Renaming(ColourDetector):
        """Answers under the words that it was asked with, as open vocabularies do."""

        def detect(self, images: Sequence[Image], prompts: Sequence[str], threshold: float) -> list[Detections]:
            assert set(prompts) == {"block", "red cube", "toy"}
            found = super().detect(images, (), threshold)
            return [replace(item, labels=tuple("toy" for _ in item.labels)) for item in found]

    request = LabelRequest(synonyms=parse_synonyms(["block=red cube,toy"]))
    found = LabelingPipeline(Renaming()).label([picture(red=(10, 10, 30, 30))], request)[0].detections
    assert found.labels == ("block",)


def test_only_the_synonyms_of_what_is_asked_for_are_used() -> None:
    request = LabelRequest(("mug",), synonyms={"mug": ("cup",), "fork": ("spoon",)})
    assert request.phrases() == {"mug": "mug", "cup": "mug"}


@pytest.mark.parametrize(
    ("values", "error", "code"),
    [
        ({"prompts": ("red", " ")}, PromptError, "prompt_empty"),
        ({"synonyms": {"mug": ("",)}}, PromptError, "prompt_empty"),
        ({"threshold": float("nan")}, SettingError, "setting_out_of_range"),
        ({"threshold": 1.1}, SettingError, "setting_out_of_range"),
        ({"overlap": -0.1}, SettingError, "setting_out_of_range"),
    ],
)
def test_a_request_that_makes_no_sense_is_refused(values: dict[str, object], error: type, code: str) -> None:
    with pytest.raises(error) as caught:
        LabelRequest(**values)  # type: ignore[arg-type]
    assert caught.value.code == code


@pytest.mark.parametrize("entry", ["mug", "=cup", "mug=", "mug=cup,,beaker"])
def test_synonyms_of_another_form_are_refused(entry: str) -> None:
    with pytest.raises(PromptError, match="category=word,word"):
        parse_synonyms([entry])


def test_an_unknown_prompt_lists_what_is_known() -> None:
    with pytest.raises(PromptError, match="red cube, blue box"):
        LabelingPipeline(ColourDetector()).label([picture()], LabelRequest(("elephant",)))


def test_one_bad_picture_does_not_end_a_run() -> None:
    def broken() -> Image:
        raise ImageError("b.png is no readable picture")

    sources = [
        ImageSource("a.png", lambda: picture(red=(10, 10, 30, 30))),
        ImageSource("b.png", broken),
        ImageSource("c.png", lambda: np.zeros((50, 50, 4), np.uint8)),
        ImageSource("d.png", lambda: picture(blue=(10, 10, 40, 40))),
    ]
    outcomes = list(LabelingPipeline(ColourDetector()).run(sources, batch=3))
    assert [item.source.name for item in outcomes] == ["a.png", "b.png", "c.png", "d.png"]
    assert [None if item.error is None else item.error.code for item in outcomes] == [
        None, "image_corrupt", "image_shape", None,
    ]  # fmt: skip
    assert outcomes[3].labelled is not None
    assert outcomes[3].labelled.detections.labels == ("blue box",)


def test_pictures_are_read_only_when_their_turn_comes() -> None:
    read = []

    def source(number: int) -> ImageSource:
        def load() -> Image:
            read.append(number)
            return picture()

        return ImageSource(str(number), load)

    run = LabelingPipeline(ColourDetector()).run((source(number) for number in range(100)), batch=2)
    next(run)
    assert read == [0, 1]


def test_tiles_find_what_the_whole_picture_hides_and_count_it_once() -> None:
    class NearSighted(ColourDetector):
        """Sees nothing smaller than a sixtieth of a picture: as a network that scales down."""

        def _found(self, image: Image, asked: Sequence[str], threshold: float) -> Detections:
            from flow_rag_vla.labeling.pipeline.boxes import areas, select

            found = super()._found(image, asked, threshold)
            return select(found, areas(found.boxes) >= image.shape[0] * image.shape[1] / 60)

    image = picture(400, 300, red=(90, 90, 110, 112), blue=(150, 100, 350, 290))
    pipeline = LabelingPipeline(NearSighted())
    assert pipeline.label([image])[0].detections.labels == ("blue box",)
    found = pipeline.label([image], LabelRequest(tiling=Tiling(128, 96, 0.3)))[0].detections
    assert sorted(found.labels) == ["blue box", "red cube"]
    assert found.boxes[found.labels.index("red cube")].tolist() == [90, 90, 110, 112]
    assert found.boxes[found.labels.index("blue box")].tolist() == [150, 100, 350, 290]


@pytest.mark.parametrize(("width", "height"), [(640, 480), (641, 481), (2000, 300), (100, 100)])
def test_tiles_cover_a_picture_and_stay_inside(width: int, height: int) -> None:
    covered = np.zeros((height, width), np.bool_)
    for left, top, right, bottom in windows(width, height, Tiling()):
        assert 0 <= left < right <= width
        assert 0 <= top < bottom <= height
        covered[top:bottom, left:right] = True
    assert covered.all()


def test_tiles_out_of_range_are_refused() -> None:
    with pytest.raises(SettingError, match="20 x 480"):
        Tiling(20, 480)
    with pytest.raises(SettingError, match=r"0\.95"):
        Tiling(overlap=0.95)
