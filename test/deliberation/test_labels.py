# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What a detector saw becomes a scene: names as they are, places where the simulator has them, nobody placed."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tabletop import plan_of

from flow_rag_vla.deliberation.checks import check_plan
from flow_rag_vla.deliberation.labels import HALF_HEIGHT, Label, LabelCamera, labelled_scene
from flow_rag_vla.deliberation.scene import FARTHEST, SceneError, simulated_scene
from flow_rag_vla.gateway.live.geometry import StillCamera, looking_at, project
from flow_rag_vla.labeling.detectors.compact import CompactDetector
from flow_rag_vla.sim.camera import FRONT, SceneRenderer
from flow_rag_vla.sim.scene import sample_scene

EYE = np.array(FRONT.eye)
AXES = looking_at(EYE, np.array(FRONT.look_at))
CAMERA = LabelCamera(FRONT.intrinsics(), EYE, AXES)


@given(st.floats(0.2, 0.7), st.floats(-0.4, 0.4), st.floats(-0.1, 0.1))
def test_a_point_on_the_table_is_found_again_from_its_pixel(x, y, height):
    still = StillCamera(FRONT.intrinsics(), EYE, AXES, FRONT.width, FRONT.height)
    ((u, v),) = project(np.array([[x, y, height]]), still) * [FRONT.width, FRONT.height]
    assert CAMERA.on_table((u, v), height) == pytest.approx((x, y, height), abs=1e-6)


def test_the_shipped_detector_places_what_the_simulator_has_on_the_table(robot):
    spec = sample_scene("pick_and_place", "plain", 12)
    with SceneRenderer(spec) as renderer:
        found = CompactDetector().detect([renderer.render(FRONT)], (), 0.5)[0]
    labels = [
        Label(name, float(score), (float(box[0] + box[2]) / 2.0, float(box[1] + box[3]) / 2.0))
        for name, score, box in zip(found.labels, found.scores, found.boxes, strict=True)
    ]
    scene, truth = labelled_scene(labels, CAMERA), simulated_scene(spec)
    for name in ("red_cube", "bin"):
        (seen,), (there,) = scene.named(name), truth.named(name)
        assert math.dist(seen.position[:2], there.position[:2]) < 0.04, (seen, there)
    report = check_plan(plan_of(("pick_and_place", "red_cube")), scene, robot)
    assert report.passed and not report.questions
    # Without the camera's pose the names are known, and a person is asked where they are.
    blind = check_plan(plan_of(("pick_and_place", "red_cube")), labelled_scene(labels), robot)
    assert blind.passed and len(blind.questions) == 2 and "is not known" in blind.questions[0]
    assert not check_plan(plan_of(("open_drawer", "drawer")), scene, robot).passed


def test_somebody_is_never_placed_by_a_picture_and_asks(robot):
    labels = [Label("red cube", 0.9, (64.0, 64.0)), Label("bin", 0.9, (80.0, 60.0)), Label("person", 0.6, (20.0, 60.0))]
    scene = labelled_scene(labels, CAMERA)
    assert [thing.position for thing in scene.people] == [None]
    report = check_plan(plan_of(("pick_and_place", "red_cube")), scene, robot)
    assert "somebody is there; how near is not known" in report.questions


@given(st.floats(-1e6, 1e6), st.floats(-1e6, 1e6))
def test_whatever_the_pixel_a_place_is_on_the_table_within_reach_of_sense_or_unknown(u, v):
    (thing,) = labelled_scene([Label("cup", 0.5, (u, v))], CAMERA).things
    if thing.position is not None:
        assert thing.position[2] == pytest.approx(HALF_HEIGHT, abs=1e-6)
        assert math.hypot(*thing.position) <= FARTHEST


@pytest.mark.parametrize(
    ("label", "said"),
    [
        (Label("cup", math.nan, (1.0, 1.0)), "certainty of 'cup' is nan"),
        (Label("cup", 0.5, (math.nan, 1.0)), "box of 'cup'"),
        (Label(" ", 0.5, (1.0, 1.0)), "no name"),
    ],
)
def test_labels_that_make_no_sense_are_refused_by_name(label, said):
    with pytest.raises(SceneError, match=said):
        labelled_scene([label], CAMERA)
