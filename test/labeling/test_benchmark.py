# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla bench labeling``, sized down: scores of the same few scenes each time, and what is said of them."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from flow_rag_vla.cli import bench
from flow_rag_vla.labeling.benchmark import LabelingFigures, figures_table, measure_labeling, missed


@pytest.fixture(scope="module")
def figures() -> LabelingFigures:
    """Two scenes of each size, one short video, two pictures timed."""
    return measure_labeling(scenes=2, videos=1, timed=2, ticks=80)


def test_the_shipped_labeller_reaches_its_scores_and_beats_its_baselines(figures: LabelingFigures) -> None:
    assert figures.large.map50 > 0.9 > figures.colour.map50
    # The robot's own pictures are of 128 x 128: six of them say less.
    assert figures.robot.map50 > 0.85
    assert min(figures.large.miou, figures.robot.miou) > 0.8 > figures.colour.miou
    assert figures.tracks.f1 > 0.9
    assert figures.tracks.f1 > figures.plain_tracks.f1
    assert figures.hota.hota > figures.plain_hota.hota
    assert (figures.pictures, figures.videos) == (6, 1)


def test_the_table_has_each_figure_beside_its_baseline_and_target(figures: LabelingFigures) -> None:
    text = figures_table(figures)
    for part in ("mAP@50", "mIoU of masks", "IDF1", "HOTA", "colour", "overlap", "target 300", "target below 1.10"):
        assert part in text
    assert json.loads(json.dumps(figures.values(), allow_nan=False))["large"]["map50"] == figures.large.map50


def test_a_target_that_is_missed_is_named(figures: LabelingFigures) -> None:
    quick = replace(
        figures,
        large=replace(figures.large, average_precision={"bin": 0.95}, mask_overlap={"bin": 0.9}),
        robot=replace(figures.robot, average_precision={"bin": 0.95}, mask_overlap={"bin": 0.9}),
        times=replace(figures.times, detect=0.1, segment=0.0, embed=0.0, rest=0.001),
        register=0.01,
        batch_rate=300.0,
        square_mean=0.1,
        square_p95=0.2,
    )
    assert missed(quick) == []
    slow = replace(quick, batch_rate=100.0, square_p95=6.0, times=replace(quick.times, rest=0.02), register=0.2)
    assert [line.split(":")[0] for line in missed(slow)] == [
        "pictures a minute in batches",
        "milliseconds a picture of 640 x 480",
        "pipeline / the model calls within it",
        "the same, p95",
    ]
    poor = replace(quick, robot=figures.colour, tracks=replace(figures.tracks, f1=float("nan")))
    assert [line.split(":")[0] for line in missed(poor)] == ["mAP@50 at 128 x 128", "mIoU at 128 x 128", "IDF1"]


def test_it_is_among_the_benchmarks_that_run_where_none_is_named() -> None:
    assert not bench.BENCHMARKS["labeling"].on_request
