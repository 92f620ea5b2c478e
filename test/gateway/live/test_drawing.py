# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Plans as pixels."""

import numpy as np
import pytest

from flow_rag_vla.gateway.live.drawing import COMMITTED, CORRECTION, PLAN, with_plan

GREY = np.full((96, 128, 3), 90, dtype=np.uint8)
PATH = np.array([[0.25, 0.5], [0.5, 0.5], [0.75, 0.5]])


def places(pixels, colour):
    """(N, 2) x, y of the pixels of a colour."""
    return np.argwhere((pixels == colour).all(axis=2))[:, ::-1]


def test_a_path_is_drawn_where_it_is_in_the_picture_and_the_picture_stays_as_it_was():
    drawn = with_plan(GREY, {"path": PATH})
    assert (GREY == 90).all() and drawn.shape == GREY.shape and drawn.dtype == np.uint8
    found = places(drawn, PLAN)
    assert found[:, 0].min() == pytest.approx(32, abs=2) and found[:, 0].max() == pytest.approx(96, abs=2)
    assert np.ptp(found[:, 1]) <= 2 and found[:, 1].mean() == pytest.approx(48, abs=1)
    assert not len(places(drawn, COMMITTED)) and not len(places(drawn, CORRECTION))


def test_the_committed_part_lies_over_the_path_and_the_target_over_both():
    lines = {"path": PATH, "committed": PATH[:2], "correction": PATH - [0.0, 0.25], "target": PATH[0]}
    drawn = with_plan(GREY, lines)
    assert places(drawn, COMMITTED)[:, 0].max() == pytest.approx(64, abs=2)
    assert places(drawn, PLAN)[:, 0].max() == pytest.approx(96, abs=2)
    assert places(drawn, CORRECTION)[:, 1].mean() == pytest.approx(24, abs=1)
    assert drawn[48, 32].tolist() == [255, 255, 255], "the ring's middle"


def test_what_is_out_of_sight_is_left_out_and_ends_no_line_elsewhere():
    assert np.array_equal(with_plan(GREY, {}), GREY)
    nowhere = np.full((3, 2), np.nan)
    assert np.array_equal(with_plan(GREY, {"path": nowhere, "target": nowhere[0]}), GREY)
    broken = np.array([[0.1, 0.1], [0.2, 0.1], [np.nan, np.nan], [0.1, 0.9], [0.2, 0.9]])
    rows = places(with_plan(GREY, {"path": broken}), PLAN)[:, 1]
    assert (rows < 15).any() and (rows > 80).any() and not ((rows > 15) & (rows < 80)).any()
    beside = np.array([[0.1, 0.1], [0.2, 0.1], [1e9, 1e9]])
    assert places(with_plan(GREY, {"path": beside}), PLAN)[:, 0].max() < 30


def test_a_picture_that_is_a_view_of_another_can_be_drawn_into():
    view = np.zeros((96, 256, 3), dtype=np.uint8)[:, ::2]
    view.flags.writeable = False
    assert len(places(with_plan(view, {"path": PATH}), PLAN))
