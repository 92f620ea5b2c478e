# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What labeling is asked for, from messages; no node is started."""

from __future__ import annotations

from dataclasses import fields
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
from builtin_interfaces.msg import Time

from flow_rag_vla.data.message_values import MessageError
from flow_rag_vla.gateway.labeling.models import Models
from flow_rag_vla.labeling.compact.baseline import ColourDetector
from flow_rag_vla.labeling.datasets.store import DatasetOrder
from flow_rag_vla.labeling.detections import Detections, Origin, ScoreKind
from flow_rag_vla.labeling.pipeline import (
    ImageSource,
    LabelingPipeline,
    LabelRequest,
    PromptError,
    SettingError,
    Tiling,
)
from flow_rag_vla.labeling.registry.errors import InvalidInputError
from flow_rag_vla.labeling.registry.queries import ObjectFilter, Order, Statistics, parse_attributes
from flow_rag_vla.labeling.registry.values import BoxConvention, Embedder, LabelledObject, ObjectChange, ReviewState
from flow_rag_vla.labeling.runs import VIDEO
from flow_rag_vla.labeling.training.orders import EvaluateOrder
from flow_rag_vla.labeling.training.settings import DetectorTraining
from flow_rag_vla.nodes.labeling_datasets import build_request
from flow_rag_vla.nodes.labeling_messages import object_message, tell_statistics
from flow_rag_vla.nodes.labeling_pace import LoopWatch
from flow_rag_vla.nodes.labeling_requests import (
    embedder_named,
    evaluate_order,
    label_request,
    object_change,
    search_filter,
    search_order,
    seconds_between,
    training_settings,
)
from flow_rag_vla.nodes.labeling_runs import Inbox, Run, SharedPipeline, TopicSource
from flow_rag_vla.nodes.stamps import to_ns
from flow_rag_vla_interfaces import msg, srv
from flow_rag_vla_interfaces.action import AutoLabel, BuildDataset, EvaluateDetector, LabelBag, TrainDetector

ASKING = (srv.Detect.Request, AutoLabel.Goal, LabelBag.Goal)
NAN = float("nan")
SECOND = 1_000_000_000


@pytest.mark.parametrize("kind", ASKING)
def test_models_are_asked_with_other_words_and_in_tiles(kind):
    assert label_request(kind(), 0.4) == LabelRequest((), 0.4)
    asked = kind(prompts=["mug"], threshold=0.5, synonyms=["mug=cup, beaker"], tile_width=640, tile_height=480)
    wanted = LabelRequest(("mug",), 0.5, synonyms={"mug": ("cup", "beaker")}, tiling=Tiling(640, 480))
    assert label_request(asked, 0.4) == wanted
    with pytest.raises(PromptError):
        label_request(kind(synonyms=["cup"]), 0.4)
    for sides in ({"tile_width": 640}, {"tile_height": 480}, {"tile_width": 31, "tile_height": 32}):
        with pytest.raises(SettingError, match="tile"):
            label_request(kind(**sides), 0.4)


@pytest.mark.parametrize("kind", ASKING)
def test_a_threshold_is_the_one_that_a_command_would_have_asked_for(kind):
    # It crossed the wire as float32; registered as it came, the same request would be another one.
    assert label_request(kind(threshold=float(np.float32(0.6))), 0.4).threshold == 0.6
    assert label_request(kind(threshold=1e-5), 0.4).threshold == 1e-5


@pytest.mark.parametrize("make", [SharedPipeline, lambda pipeline: Models(lambda: pipeline).shared()])
def test_of_many_pictures_one_with_too_many_tiles_is_named_and_the_others_are_labelled(make):
    shared = make(LabelingPipeline(ColourDetector()))
    sizes = {"small": (240, 320), "large": (960, 1280), "last": (240, 320)}
    sources = [ImageSource(name, partial(np.zeros, (*size, 3), np.uint8)) for name, size in sizes.items()]
    done = {made.source.name: made for made in shared.run(sources, LabelRequest(tiling=Tiling(96, 96)))}
    assert [name for name, made in done.items() if made.labelled is not None] == ["small", "last"]
    assert done["large"].error.code == "too_many_tiles"


class Segmenter:
    """Marks one place."""

    name, revision = "place", "1"

    def segment(self, images, found):
        masks = [np.zeros((len(each), *image.shape[:2]), np.bool_) for image, each in zip(images, found, strict=True)]
        for mask in masks:
            mask[:, 10:14, 10:16] = True
        return masks


def test_a_picture_that_is_looked_at_is_cut_out_by_the_segmenter_on_demand():
    image = np.full((48, 64, 3), 210, np.uint8)
    image[8:24, 8:24] = (217, 33, 31)
    shared = SharedPipeline(LabelingPipeline(ColourDetector(), Segmenter()))
    plain, _ = shared.look(image, LabelRequest(), masks=False)
    cut, seconds = shared.look(image, LabelRequest(), masks=True)
    assert len(plain) == len(cut) == 1 and seconds > 0.0
    assert (plain.origin.model, cut.origin.model) == ("colour", "colour+place")
    assert plain.boxes.tolist() == [[8, 8, 24, 24]] and cut.boxes.tolist() == [[10, 10, 16, 14]]
    with pytest.raises(SettingError) as error:
        shared.look(image, LabelRequest(tiling=Tiling(32, 32, 0.9)), masks=False)
    assert error.value.code == "too_many_tiles"


def test_a_rate_is_a_number_of_images():
    assert [seconds_between(rate) for rate in (0.0, 0.5, 4.0)] == [0.0, 2.0, 0.25]
    for rate in (-1.0, NAN, float("inf")):
        with pytest.raises(SettingError, match="rate"):
            seconds_between(rate)


def test_a_topic_is_looked_at_as_often_as_was_asked():
    run = Run(LoopWatch())
    # The fourth is of a clock that was set back.
    stamps = iter([10 * SECOND, 10 * SECOND + 1, 12 * SECOND, 3 * SECOND, 4 * SECOND, 5 * SECOND])

    class Given(Inbox):
        def images(self, topic, run):
            for stamp in stamps:
                yield SimpleNamespace(stamp_ns=stamp)

    source = TopicSource(VIDEO, "x", None, ("x",), 2.0, inbox=Given(), run=run)
    assert [frame.stamp_ns // SECOND for frame, _ in source.frames()] == [10, 12, 3, 5]


def test_a_search_that_names_nothing_is_for_everything():
    assert search_filter(srv.SearchObjects.Request()) == ObjectFilter()
    assert search_order("") is Order.LOWEST_SCORE


def test_a_search_has_every_condition_of_the_registry():
    one, two = "a" * 32, "b" * 32
    asked = srv.SearchObjects.Request(
        project="kitchen", category="cup", source_id=one, minimum_confidence=float(np.float32(0.6)),
        maximum_confidence=0.9, only_validated=True, minimum_area=100.5, maximum_area=2e8 + 1,
        attributes=["look=3", 'pose="3"'],
        categories=["mug"], source_ids=[two], image_ids=[one], track_ids=[two], episodes=["e7"], models=["detr"],
        score_kinds=[msg.Detection.SCORE_SIGMOID], statuses=[msg.LabelledObject.STATUS_RELABELLED],
        validated_by="ada", with_mask=srv.SearchObjects.Request.WITH, with_embedding=srv.SearchObjects.Request.WITHOUT,
        captured_from=Time(sec=1), captured_until=Time(sec=2), created_from=Time(sec=3), created_until=Time(sec=4),
    )  # fmt: skip
    where = search_filter(asked)
    assert where == ObjectFilter(
        project="kitchen", categories=("cup", "mug"), source_ids=(one, two), image_ids=(one,), track_ids=(two,),
        episodes=("e7",), states=(ReviewState.RELABELLED,), validated=True, validated_by="ada", models=("detr",),
        score_kinds=(ScoreKind.SIGMOID,), min_score=0.6, max_score=0.9 + 1e-6, captured_from_ns=SECOND,
        captured_until_ns=2 * SECOND, created_from_ns=3 * SECOND, created_until_ns=4 * SECOND, has_mask=True,
        has_embedding=False, min_area=100.5, max_area=2e8 + 1, attributes={"look": 3, "pose": "3"},
    )  # fmt: skip
    usual = ObjectFilter()
    same = [item.name for item in fields(ObjectFilter) if getattr(where, item.name) == getattr(usual, item.name)]
    assert not same, "a condition of the registry that no request can name"
    assert search_filter(srv.SearchObjects.Request(only_unreviewed=True)).states == (ReviewState.UNREVIEWED,)
    assert {search_order(order.value) for order in Order} == set(Order)


@pytest.mark.parametrize(
    ("said", "error"),
    [
        ({"only_validated": True, "only_unreviewed": True}, MessageError),
        ({"only_unreviewed": True, "statuses": [1]}, MessageError),
        ({"statuses": [9]}, MessageError),
        ({"score_kinds": [0]}, MessageError),
        ({"with_mask": 3}, MessageError),
        ({"attributes": ["look"]}, InvalidInputError),
    ],
)
def test_conditions_that_make_no_sense_are_refused(said, error):
    with pytest.raises(error):
        search_filter(srv.SearchObjects.Request(**said))


def test_an_order_that_there_is_not_is_refused():
    with pytest.raises(MessageError, match="lowest_quality"):
        search_order("best")


def test_a_change_names_what_is_set_and_nothing_else():
    assert object_change(srv.UpdateObject.Request(quality=0.5, track_id="x", attributes=["a=1"])) == ObjectChange()
    asked = srv.UpdateObject.Request(
        set_quality=True, quality=0.5, set_track=True, set_attributes=True, attributes=["a=1", "b=x"]
    )
    assert object_change(asked) == ObjectChange(quality=0.5, track_id="", attributes={"a": 1, "b": "x"})
    assert object_change(srv.UpdateObject.Request(set_attributes=True)) == ObjectChange(attributes={})


def test_an_object_is_told_with_all_that_the_registry_holds():
    item = LabelledObject(
        object_id="a" * 32, project="default", category="cup", image_id="b" * 32, source_id="c" * 32,
        box=(1.0, 2.0, 11.0, 22.0), convention=BoxConvention.LTRB, area=200.0, score=0.5, score_kind=ScoreKind.SOFTMAX,
        origin=Origin("detr", "r", "a cup", 0.25), state=ReviewState.ACCEPTED, validated_by="ada",
        validated_ns=5 * SECOND, quality=0.75, mask_path="", embedder=Embedder("dinov2", "1", 8), track_id="",
        attributes={"look": 3, "name": "3"}, stamp_ns=SECOND, frame=7, created_ns=2 * SECOND, updated_ns=3 * SECOND,
        version=4, deleted=True,
    )  # fmt: skip
    told = object_message(item)
    assert (told.area, told.quality, told.embedder, told.frame, told.deleted) == (200.0, 0.75, "dinov2@1", 7, True)
    assert (told.prompt, told.threshold) == ("a cup", 0.25)
    assert parse_attributes(told.attributes) == item.attributes
    assert [to_ns(stamp) // SECOND for stamp in (told.validated, told.created, told.updated)] == [5, 2, 3]


def test_counts_are_told_by_state_category_and_model():
    states = {state.value: place for place, state in enumerate(ReviewState, start=1)}
    counts = Statistics(10, 2, 3, 4, 5, 6, {"cup": 7, "bin": 3}, states, {"detr": 10}, 0.5, 0.25)
    told = srv.GetLabelStatistics.Response()
    tell_statistics(counts, told)
    assert (told.objects, told.sources, told.images, told.tracks, told.with_mask) == (10, 2, 3, 4, 5)
    assert (told.with_embedding, told.mean_confidence, told.validated_share) == (6, 0.5, 0.25)
    assert {state.value: getattr(told, state.value) for state in ReviewState} == states
    assert (told.categories, list(told.category_counts)) == (["cup", "bin"], [7, 3])
    assert (told.models, list(told.model_counts)) == (["detr"], [10])


def test_who_made_vectors_is_who_is_named_or_who_found_them():
    boxes, scores = np.array([[0, 0, 4, 4]], np.float32), np.ones(1, np.float32)
    vectors = np.array([[0.6, 0.8]], np.float32)
    found = Detections(8, 8, boxes, scores, ("a",), ScoreKind.SOFTMAX, Origin("detr+dinov2", "1+2"), None, vectors)
    assert embedder_named("", found) == Embedder("detr+dinov2", "1+2", 2)
    assert embedder_named("dinov2@2", found) == Embedder("dinov2", "2", 2)
    bare = Detections(8, 8, boxes, scores, ("a",), ScoreKind.SOFTMAX, Origin("detr"))
    assert embedder_named("dinov2@2", bare) is None


def test_a_data_set_is_ordered_as_on_the_command_line():
    assert build_request(BuildDataset.Goal(name="cups"), "node").order == DatasetOrder("cups")
    goal = BuildDataset.Goal(
        name="cups", apart=True, afresh=True, link=True, minimum_area=4.0, maximum_area=9.0, attributes=["look=3"],
        models=["detr"], statuses=[msg.LabelledObject.STATUS_REJECTED, msg.LabelledObject.STATUS_ACCEPTED],
    )  # fmt: skip
    where = ObjectFilter(
        min_area=4.0, max_area=9.0, attributes={"look": 3}, models=("detr",),
        states=(ReviewState.REJECTED, ReviewState.ACCEPTED),
    )  # fmt: skip
    assert build_request(goal, "node").order == DatasetOrder("cups", where, keep=False, link=True, apart=True)
    with pytest.raises(MessageError):
        build_request(BuildDataset.Goal(name="cups", statuses=[9]), "node")
    with pytest.raises(InvalidInputError):
        build_request(BuildDataset.Goal(name="cups", attributes=["look"]), "node")


def test_a_training_is_ordered_by_fields_and_further_settings():
    assert training_settings(TrainDetector.Goal()) == DetectorTraining()
    asked = TrainDetector.Goal(
        architecture="d_fine", size="tiny", model="x", width=64, height=96, epochs=3, batch=2, rate=0.25, seed=7,
        settings=["augment=false", "patience=0", "average=0", "device=cpu"],
    )  # fmt: skip
    assert training_settings(asked) == DetectorTraining(
        "d_fine", "tiny", "x", 64, 96, 3, 2, 0.25, seed=7, augment=False, patience=0, average=0.0, device="cpu"
    )
    for settings in (["evry=1"], ["every=x"], ["batch=1"], ["seed=0"], ["rate=1"]):
        with pytest.raises(SettingError):
            training_settings(TrainDetector.Goal(settings=settings))
    with pytest.raises(SettingError, match="rate"):
        training_settings(TrainDetector.Goal(rate=-1.0))


def test_a_measurement_is_ordered_as_usual_but_for_what_is_named():
    assert evaluate_order(EvaluateDetector.Goal(), "cups@v1") == EvaluateOrder("cups@v1")
    goal = EvaluateDetector.Goal(part="val", detector="detr", model="m", threshold=0.25, max_images=9, device="cuda:1")
    assert evaluate_order(goal, "cups") == EvaluateOrder("cups", "val", "detr", "m", 0.25, 9, "cuda:1")
