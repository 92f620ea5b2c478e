# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Detections as messages and back, and when labeling makes way; no node is started."""

from __future__ import annotations

import threading
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from std_msgs.msg import Header

from flow_rag_vla.bringup.parameters.labeling import LabelingParameters
from flow_rag_vla.data.message_values import MessageError
from flow_rag_vla.labeling.backends import BackendSettings
from flow_rag_vla.labeling.detections import Detections, Origin, ScoreKind
from flow_rag_vla.nodes.labeling import _backends
from flow_rag_vla.nodes.labeling_messages import boxes_of, detections_message, detections_of
from flow_rag_vla.nodes.labeling_pace import LoopWatch
from flow_rag_vla_interfaces import msg

WIDTH, HEIGHT = 64, 48


@st.composite
def detections(draw):
    count = draw(st.integers(0, 4))
    generator = np.random.default_rng(draw(st.integers(0, 2**32)))
    low = generator.uniform(0.0, [WIDTH - 2, HEIGHT - 2], (count, 2))
    high = low + generator.uniform(1.0, 1.0 + np.array([WIDTH - 2, HEIGHT - 2]) - low)
    boxes = np.minimum(np.hstack([low, high]), [WIDTH, HEIGHT] * 2).astype(np.float32).reshape(-1, 4)
    masks = np.zeros((count, HEIGHT, WIDTH), np.bool_)
    for row, box in enumerate(boxes):
        rows, columns = slice(int(box[1]), int(np.ceil(box[3]))), slice(int(box[0]), int(np.ceil(box[2])))
        masks[row, rows, columns] = generator.random(masks[row, rows, columns].shape) < 0.5
    vectors = generator.normal(size=(count, 5))
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    kind = draw(st.sampled_from(list(ScoreKind))) if count else ScoreKind.HUMAN
    scores = generator.random(count).astype(np.float32)
    labels = tuple(draw(st.lists(st.sampled_from(["cup", "빨간 큐브"]), min_size=count, max_size=count)))
    whole = draw(st.booleans())
    return Detections(
        WIDTH, HEIGHT, boxes, scores, labels, kind, Origin("m", "r", "p", 0.25),
        masks if whole else None, vectors.astype(np.float32) if whole else None,
    )  # fmt: skip


@given(detections())
def test_detections_come_back_as_they_were_sent(found):
    back = detections_of(detections_message(found, Header()))
    # Corners travel as centre and size.
    np.testing.assert_allclose(back.boxes, found.boxes, atol=1e-4)
    np.testing.assert_array_equal(back.scores, found.scores)
    assert (back.labels, back.score_kind, back.origin) == (found.labels, found.score_kind, found.origin)
    if found.masks is not None and len(found):
        assert back.embeddings is not None
        np.testing.assert_array_equal(back.embeddings, found.embeddings)


def test_masks_come_back_in_their_place():
    boxes = np.array([[3.0, 5.0, 20.0, 30.0], [0.0, 0.0, 64.0, 48.0]], np.float32)
    masks = np.zeros((2, HEIGHT, WIDTH), np.bool_)
    masks[0, 6:29, 4:18] = True
    masks[1, ::3, ::5] = True
    scores = np.ones(2, np.float32)
    found = Detections(WIDTH, HEIGHT, boxes, scores, ("a", "b"), ScoreKind.SOFTMAX, Origin("m"), masks)
    np.testing.assert_array_equal(detections_of(detections_message(found, Header())).masks, masks)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"score": float("nan")}, "score 0"),
        ({"size_x": 0.0}, "no area"),
        ({"center_x": 1e9}, "box 0"),
        ({"class_id": " "}, "label 0"),
        ({"score_kind": 77}, "score_kind is 77"),
        ({"mask": b"no png"}, "mask 0"),
        ({"embedding": [1.0, 1.0]}, "embedding 0"),
    ],
)
def test_a_detection_that_makes_no_sense_is_refused_by_name(change, said):
    fields = {"class_id": "cup", "score": 0.5, "score_kind": 1, "center_x": 9.0, "center_y": 9.0}
    item = msg.Detection(**{**fields, "size_x": 4.0, "size_y": 4.0, **change})
    with pytest.raises(MessageError, match=said):
        detections_of(msg.DetectionArray(width=WIDTH, height=HEIGHT, detections=[item]))


@pytest.mark.parametrize("values", [[], [1.0] * 5, [0.0, 0.0, 65.0, 9.0], [float("nan")] * 4])
def test_boxes_that_are_none_are_refused(values):
    with pytest.raises(MessageError):
        boxes_of(values, WIDTH, HEIGHT)


def test_labeling_pauses_after_late_ticks_and_not_for_a_loop_that_starts_anew():
    now = [0.0]
    watch = LoopWatch(lambda: now[0])
    watch.report(50, 1, 5.0)
    assert not watch.paused, "nobody knows yet how many of them are new"
    watch.report(50, 1, 5.0)
    assert not watch.paused
    watch.report(52, 3, 5.0)
    assert not watch.paused, "two are tolerated"
    watch.report(55, 3, 5.0)
    assert watch.paused and watch.pauses == 1
    now[0] = 4.0
    watch.report(60, 3, 5.0)
    now[0] = 8.0
    assert watch.paused and watch.pauses == 1, "one pause that grew"
    now[0] = 9.0
    assert not watch.paused
    watch.report(2, 1, 5.0)
    assert not watch.paused, "the loop was started anew"
    watch.report(9, 0, 5.0)
    assert not watch.paused, "told never to pause"


def test_who_waits_for_the_loop_is_let_go_when_it_is_withdrawn():
    watch, ended = LoopWatch(), threading.Event()
    watch.report(0, 1, 3600.0)
    watch.report(9, 1, 3600.0)
    thread = threading.Thread(target=watch.wait, args=(ended,))
    thread.start()
    assert watch.paused
    ended.set()
    thread.join(60.0)
    assert not thread.is_alive()


def test_every_setting_of_a_model_is_a_parameter_of_the_node():
    names = [item.name for item in fields(BackendSettings)]
    values = {name: f"its {name}" for name in names} | {"device": "auto", "precision": "bfloat16", "batch": 4}
    known = {name: value for name, value in values.items() if name in LabelingParameters.__dataclass_fields__}
    # How many go through at once is up to each run.
    assert set(names) - set(known) == {"batch"}
    chosen = _backends(LabelingParameters(**known), "cpu")
    assert {name: getattr(chosen, name) for name in names} == values | {"device": "cpu"}
