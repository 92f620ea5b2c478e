# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""One thing keeps one number."""

import math

import numpy as np
import pytest

from flow_rag_vla.labeling.compact.scoring import score_detections, score_identities
from flow_rag_vla.labeling.detections import Detections, Origin, ScoreKind
from flow_rag_vla.labeling.pipeline import SettingError
from flow_rag_vla.labeling.video.tracked import query_tracks
from flow_rag_vla.labeling.video.tracks import Tracker, TrackerSettings

FRAME_NS = 100_000_000


def seen(*things: tuple[str, float, float], looks: list[int] | None = None, score: float = 0.8) -> Detections:
    boxes = [[x, y, x + 20, y + 20] for _, x, y in things]
    vectors = None if looks is None else np.eye(8, dtype=np.float32)[looks].reshape(-1, 8)
    return Detections(
        400, 300, np.array(boxes, np.float32).reshape(-1, 4), np.full(len(things), score, np.float32),
        tuple(name for name, _, _ in things), ScoreKind.SOFTMAX, Origin("test"), None, vectors,
    )  # fmt: skip


def test_things_that_cross_keep_their_numbers() -> None:
    tracker = Tracker()
    ids = []
    for step in range(21):
        x = 10.0 * step
        ids.append(tracker.update(seen(("cube", x, 100), ("cube", 200 - x, 104), looks=[0, 1]), step * FRAME_NS))
    assert set(ids) == {(1, 2)}


def test_a_thing_that_comes_back_elsewhere_is_known_by_its_looks() -> None:
    tracker = Tracker()
    for step in range(4):
        tracker.update(seen(("cube", 50, 50), ("cube", 200, 50), looks=[0, 1]), step * FRAME_NS)
    for step in range(4, 12):
        tracker.update(seen(("cube", 200, 50), looks=[1]), step * FRAME_NS)
    ids = tracker.update(seen(("cube", 90, 60), ("cube", 200, 50), looks=[0, 1]), 12 * FRAME_NS)
    assert ids == (1, 2)


def test_a_stranger_in_a_lost_things_place_is_new() -> None:
    tracker = Tracker()
    for step in range(4):
        tracker.update(seen(("cube", 50, 50), looks=[0]), step * FRAME_NS)
    for step in range(4, 8):
        tracker.update(seen(), step * FRAME_NS)
    assert tracker.update(seen(("cube", 95, 50), looks=[3]), 8 * FRAME_NS) == (2,)


def test_what_is_gone_for_longer_than_memory_is_new() -> None:
    tracker = Tracker(TrackerSettings(memory_s=0.5))
    tracker.update(seen(("cube", 50, 50), looks=[0]), 0)
    tracker.update(seen(), FRAME_NS)
    assert tracker.update(seen(("cube", 50, 50), looks=[0]), 10 * FRAME_NS) == (2,)


def test_new_things_do_not_change_the_numbers_of_the_others() -> None:
    tracker = Tracker()
    tracker.update(seen(("cube", 50, 50), ("bin", 200, 50)), 0)
    ids = tracker.update(seen(("box", 120, 50), ("bin", 203, 50), ("cube", 53, 50)), FRAME_NS)
    assert ids == (3, 2, 1)


def test_tracks_say_from_when_to_when_and_how_sure_in_the_order_of_time() -> None:
    tracker = Tracker()
    for step in range(6):
        things = [("cube", 50.0, 50.0)] if step < 4 else []
        if step >= 2:
            things.append(("bin", 200.0, 50.0))
        tracker.update(seen(*things, score=0.5 + 0.1 * step), step * FRAME_NS)
    tracker.update(seen(("speck", 300, 200)), 6 * FRAME_NS)
    cube, box = tracker.tracks()
    assert (cube.label, cube.start_frame, cube.end_frame, cube.end_ns) == ("cube", 0, 3, 3 * FRAME_NS)
    assert math.isclose(cube.mean_confidence, 0.65, rel_tol=1e-5)
    assert [item.frame for item in box.sightings] == [2, 3, 4, 5]
    # A single sighting is taken for an error.
    assert query_tracks([box, cube]) == [cube, box]
    assert query_tracks([cube, box], label="bin") == [box]
    assert query_tracks([cube, box], start_ns=4 * FRAME_NS) == [box]
    assert query_tracks([cube, box], end_ns=FRAME_NS) == [cube]
    assert query_tracks([cube, box], least_confidence=0.7) == [box]


def test_frames_out_of_order_are_refused() -> None:
    tracker = Tracker()
    tracker.update(seen(), 5)
    with pytest.raises(SettingError, match="time order"):
        tracker.update(seen(), 4)


@pytest.mark.parametrize("values", [{"overlap": 0.0}, {"appearance": 2.0}, {"memory_s": -1.0}, {"confirm": 0}])
def test_settings_out_of_range_are_refused(values: dict[str, float]) -> None:
    with pytest.raises(SettingError):
        TrackerSettings(**values)  # type: ignore[arg-type]


def _row(ids: list[str], names: list[str]) -> tuple[np.ndarray, list[str], np.ndarray, list[str]]:
    def boxes(count: int) -> np.ndarray:
        return np.array([[30 * n, 0, 30 * n + 20, 20] for n in range(count)], np.float32).reshape(-1, 4)

    return boxes(len(ids)), ids, boxes(len(names)), names


def test_identity_scores_of_a_hand_counted_run() -> None:
    rows = [_row(["1"], ["a"])] * 6 + [_row(["2"], ["a"])] * 4
    score = score_identities(rows)
    # One truth of 10 boxes gets the longer track: 6 right of 10 found and 10 true.
    assert (score.precision, score.recall, score.f1) == (0.6, 0.6, 0.6)
    assert score_identities([_row(["1", "2"], ["a", "b"])] * 3).f1 == 1.0
    assert score_identities([_row([], ["a"])]).f1 == 0.0


def test_average_precision_of_a_hand_counted_run() -> None:
    truth = seen(("cube", 50, 50), ("cube", 150, 50))
    found = seen(("cube", 52, 50), ("cube", 250, 50), ("cube", 150, 52))
    sure = np.array([0.9, 0.8, 0.7], np.float32)
    from dataclasses import replace

    score = score_detections([(replace(found, scores=sure), truth)])
    # Precision 1 up to a recall of 0.5 (51 of 101 points), then 2/3.
    assert math.isclose(score.average_precision["cube"], (51 + 50 * 2 / 3) / 101)
    # A doubtful one that was ignored counts neither way.
    ignored = [seen(("cube", 250, 50))]
    assert score_detections([(replace(found, scores=sure), truth)], ignored).average_precision["cube"] == 1.0
