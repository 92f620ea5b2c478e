# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A page gets what is new to it, whatever it missed."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.core.action import TICK_NS, ActionChunk, CorrectionMode, Provenance
from flow_rag_vla.core.correction import Correction
from flow_rag_vla.gateway.live.board import EDGES_MS, HISTORY, Board, CommandSeen, Cursor, Picture, plain
from flow_rag_vla.gateway.live.geometry import StillCamera, looking_at


def command(tick, *, late_ms=0.0, chunk_id=7, row=1, **changes):
    stamp_ns = tick * TICK_NS + int(late_ms * 1e6)
    return CommandSeen(
        stamp_ns, tick, (0.001, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0), (0.5, 0.0, 0.2), "follow", "", 0, chunk_id, row, 30.0,
        **changes,
    )  # fmt: skip


def chunk(chunk_id=7, stamp_ns=100, committed=0, **provenance):
    actions = np.zeros((4, 7), dtype=np.float32)
    actions[:, 0] = 0.01
    return ActionChunk(chunk_id, stamp_ns, actions, "push", committed=committed, provenance=Provenance(**provenance))


@pytest.fixture
def board():
    return Board()


def test_each_page_gets_each_command_once(board):
    one, two = Cursor(), Cursor()
    board.add_commands([command(1), command(2)])
    assert len(board.frame(one)["commands"]["t"]) == 2
    board.add_commands([command(3)])
    assert board.frame(one)["commands"]["t"] == [3 * TICK_NS / 1e6]
    assert len(board.frame(two)["commands"]["t"]) == 3
    assert "commands" not in board.frame(one)


def test_a_slow_page_misses_what_is_gone_and_nothing_waits_for_it(board):
    cursor = Cursor()
    for tick in range(3 * HISTORY):
        board.add_commands([command(tick)])
    sent = board.frame(cursor)["commands"]["t"]
    assert len(sent) == HISTORY
    assert sent[-1] == (3 * HISTORY - 1) * TICK_NS / 1e6


def test_a_frame_is_of_bounded_size_however_long_a_page_stays_away(board):
    for tick in range(5 * HISTORY):
        board.add_commands([command(tick)])
        board.set_picture(Picture("front", tick, 4, 4, b"x" * 2000))
    assert len(json.dumps(board.frame(Cursor()))) < 200_000


def test_pictures_and_chunks_come_when_they_are_new(board):
    cursor = Cursor()
    board.set_picture(Picture("front", 1, 8, 4, b"jpeg"))
    board.set_chunk(chunk(), 3.5)
    frame = board.frame(cursor)
    assert frame["pictures"]["front"]["jpeg"] == "anBlZw=="
    assert frame["chunk"]["inference_ms"] == 3.5
    frame = board.frame(cursor)
    assert frame["pictures"] == {}
    assert "chunk" not in frame
    board.set_picture(Picture("front", 2, 8, 4, b"jpeg"))
    assert "pictures" not in board.frame(cursor, images=False)
    assert "front" in board.frame(cursor)["pictures"]


def test_slow_parts_come_once_for_each_change(board):
    cursor = Cursor()
    board.set_part("memory", {"cases": 3})
    assert board.frame(cursor)["memory"] == {"cases": 3}
    assert "memory" not in board.frame(cursor)
    board.set_part("memory", {"cases": 3})
    assert "memory" in board.frame(cursor)
    board.set_node("controller", {"level": 0})
    assert board.frame(cursor)["nodes"] == [{"name": "controller", "level": 0}]


def test_the_histogram_counts_intervals_of_neighbouring_ticks_only(board):
    board.set_part("loop", {})
    board.add_commands([command(1), command(2, late_ms=0.3), command(3)])
    board.add_commands([command(4, late_ms=30.0), command(9)])
    counts = board.frame(Cursor())["histogram"]["counts"]
    assert sum(counts) == 3
    assert counts[EDGES_MS.index(0.25)] == 2
    assert counts[-1] == 1


def test_plans_and_corrections_are_drawn_into_the_picture_of_the_known_camera(board):
    eye = np.array([1.5, 0.0, 0.8])
    matrix = np.array([[100.0, 0.0, 50.0], [0.0, 100.0, 50.0], [0.0, 0.0, 1.0]])
    board.set_camera("front", StillCamera(matrix, eye, looking_at(eye, np.array([0.5, 0.0, 0.2])), 100, 100))
    board.set_picture(Picture("front", 1, 100, 100, b""))
    board.set_picture(Picture("wrist", 1, 100, 100, b""))
    board.add_commands([command(1)])
    board.set_chunk(chunk(), 1.0)
    board.set_correction(Correction(TICK_NS, CorrectionMode.GUIDANCE, 1.0, chunk().actions), [0.9])
    pictures = board.frame(Cursor())["pictures"]
    front = pictures["front"]
    assert front["target"] == pytest.approx([0.5, 0.5], abs=1e-6)
    assert len(front["path"]) == 3
    assert len(front["correction"]) == 5
    assert "path" not in pictures["wrist"]


def test_a_chunk_that_is_not_followed_yet_is_no_path(board):
    eye = np.array([1.5, 0.0, 0.8])
    board.set_camera("front", StillCamera(np.eye(3), eye, looking_at(eye, np.zeros(3)), 10, 10))
    board.set_picture(Picture("front", 1, 10, 10, b""))
    board.add_commands([command(1, chunk_id=7)])
    board.set_chunk(chunk(chunk_id=8), 1.0)
    assert "path" not in board.frame(Cursor())["pictures"]["front"]


@pytest.mark.parametrize(("committed", "points"), [(0, 1), (2, 1), (3, 2), (4, 3)])
def test_for_pictures_of_others_the_committed_part_is_told_from_the_path(board, committed, points):
    assert board.drawn("front") == {}
    eye = np.array([1.5, 0.0, 0.8])
    board.set_camera("front", StillCamera(np.eye(3), eye, looking_at(eye, np.zeros(3)), 10, 10))
    board.add_commands([command(1, row=1)])
    assert set(board.drawn("front")) == {"target"}
    board.set_chunk(chunk(committed=committed), 1.0)
    drawn = board.drawn("front")
    # The target that row 1 led to, and where rows 2 and 3 lead; of those the committed ones.
    assert len(drawn["path"]) == 3 and np.array_equal(drawn["committed"], drawn["path"][:points])
    assert board.drawn("wrist") == {}


def test_the_answer_to_a_failure_is_read_from_the_provenance_of_chunks_and_commands(board):
    board.set_part("episode", {"id": 1})
    board.set_chunk(chunk(correction=CorrectionMode.GUIDANCE, correction_strength=0.5, case_ids=(4,)), 1.0)
    board.add_commands([command(1, correction=CorrectionMode.HOLD, strength=1.0, case_ids=(5,))])
    assert [entry["cases"] for entry in board.frame(Cursor())["timeline"]] == [[5], [4]]


def test_what_moved_is_forgotten_when_nobody_looks_and_what_happened_is_kept(board):
    board.add_commands([command(1, correction=CorrectionMode.HOLD, case_ids=(5,))])
    board.set_picture(Picture("front", 1, 1, 1, b""))
    board.forget_motion()
    frame = board.frame(Cursor())
    assert "commands" not in frame
    assert frame["pictures"] == {}
    assert frame["timeline"]


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)


@given(JSON)
def test_whatever_is_on_the_board_a_browser_can_read_it(value):
    json.dumps(plain(value), allow_nan=False)


def test_arrays_and_their_numbers_become_plain():
    assert plain({"a": np.array([[1.0, np.nan]], dtype=np.float32), "b": np.float64(2.0), "c": (np.int64(3),)}) == {
        "a": [[1.0, None]],
        "b": 2.0,
        "c": [3],
    }
