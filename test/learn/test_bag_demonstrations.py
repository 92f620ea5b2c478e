# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A recorded run becomes training data; what led into a failure is not to be learned."""

from __future__ import annotations

import numpy as np

from flow_rag_vla.data.demonstrations import read_shard, write_shard
from flow_rag_vla.data.recorded_episode import HELD, PERSON, RecordedEpisode
from flow_rag_vla.learn.bag_demonstrations import FAILURE_LEAD_TICKS, FAILURE_TAIL_TICKS, demonstrations


def recorded(success: bool | None, failure_at: int = -1, instruction: str = "put the red cube into the bin"):
    ticks = 120
    failures = np.full(ticks, -1, dtype=np.int64)
    if failure_at >= 0:
        failures[failure_at] = 1
    states = np.zeros((ticks, 9), dtype=np.float32)
    states[:, 3] = 1.0
    return RecordedEpisode(
        1, "pick_and_place", instruction, "plain", 7, success, np.arange(ticks, dtype=np.int64) * 25_000_000, states,
        np.zeros((ticks, 7), dtype=np.float32), failures, np.zeros(ticks, dtype=np.int64), ("reach",) * ticks,
        np.arange(0, ticks, 4, dtype=np.int32), {"front": np.zeros((30, 8, 8, 3), dtype=np.uint8)},
    )  # fmt: skip


def test_successes_become_demonstrations_that_a_shard_keeps(tmp_path):
    from flow_rag_vla.core.goal import GOALS

    words = GOALS[0].instruction
    found = list(demonstrations([recorded(True, instruction=words), recorded(False, instruction=words)]))
    assert len(found) == 1 and found[0].goal == GOALS[0]
    assert len(list(demonstrations([recorded(False, instruction=words)], only_successes=False))) == 1
    write_shard(tmp_path / "recorded.npz", found)
    read = read_shard(tmp_path / "recorded.npz")[0]
    assert read.goal == GOALS[0] and read.usable.all() and np.isnan(read.poses).all()
    assert read.chunk(100, 16) is not None


def test_what_led_into_a_failure_is_not_usable():
    from flow_rag_vla.core.goal import GOALS

    found = next(demonstrations([recorded(True, failure_at=60, instruction=GOALS[0].instruction)]))
    assert not found.usable[60 - FAILURE_LEAD_TICKS : 60 + FAILURE_TAIL_TICKS].any()
    assert found.usable[: 60 - FAILURE_LEAD_TICKS].all() and found.usable[60 + FAILURE_TAIL_TICKS :].all()


def test_standing_still_for_want_of_a_chunk_is_not_usable():
    from flow_rag_vla.core.goal import GOALS

    episode = recorded(True, instruction=GOALS[0].instruction)
    episode.interventions[:3], episode.interventions[50:60] = HELD, PERSON
    found = next(demonstrations([episode]))
    assert not found.usable[:3].any() and found.usable[3:].all()


def test_an_instruction_that_nobody_knows_is_left_out():
    assert not list(demonstrations([recorded(True, instruction="make coffee")]))
