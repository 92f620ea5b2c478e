# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What a person did becomes the correction of the failure, from its situation on."""

from __future__ import annotations

import numpy as np
import pytest

from flow_rag_vla.memory.case import CaseError
from flow_rag_vla.memory.takeover import LONGEST, Takeover, TakeoverRecorder, correction_of

TICK_NS = 25_000_000
START_NS = 10_000_000_000


def recorded(count: int, lost: tuple[int, ...] = (), first_ns: int = START_NS) -> Takeover:
    """A person's commands whose x step is the number of the tick, some of them lost on the way."""
    recorder = TakeoverRecorder()
    for tick in range(count):
        if tick not in lost:
            action = np.array([tick * 1e-4, 0, 0, 0, 0, 0, 0.5], dtype=np.float32)
            recorder.add("ada", 100 + tick, first_ns + tick * TICK_NS, action)
    found = recorder.finish()
    assert found is not None and not recorder.running
    return found


def steps(actions: np.ndarray) -> list[int]:
    return [round(value * 1e4) for value in actions[:, 0].tolist()]


def test_it_begins_where_the_situation_is_that_of_the_failure(make):
    case = make.case(1, failed_actions=make.motion(0.001, 8))
    seen = [
        (START_NS + 5 * TICK_NS, make.turned(make.unit(1), 0.91)),
        (START_NS + 20 * TICK_NS, make.turned(make.unit(1), 0.99)),
        (START_NS + 30 * TICK_NS, make.unit(7)),
    ]
    actions = correction_of(recorded(60), case, START_NS - 9_000_000_000, seen, 0.9)
    assert steps(actions) == list(range(20, 28)) and actions.shape == (8, 7)


def test_of_a_scene_that_rests_the_first_moment_counts(make):
    case = make.case(1, failed_actions=make.motion(0.001, 8))
    seen = [(START_NS + tick * TICK_NS, make.turned(make.unit(1), 0.99, tick)) for tick in range(4, 40)]
    assert steps(correction_of(recorded(60), case, START_NS - 9_000_000_000, seen, 0.9)) == list(range(4, 12))


def test_a_takeover_right_at_the_onset_needs_no_embedding_and_a_late_one_elsewhere_is_refused(make):
    case = make.case(1, failed_actions=make.motion(0.001, 8))
    assert steps(correction_of(recorded(20), case, START_NS - 500_000_000, [], 0.9)) == list(range(8))
    for seen, words in (([], "nothing was seen"), ([(START_NS, make.unit(7))], "most alike moment")):
        with pytest.raises(CaseError, match=f"never stood in the situation.*{words}.*bring the robot back"):
            correction_of(recorded(20), case, START_NS - 5_000_000_000, seen, 0.9)


def test_a_short_takeover_rests_to_the_end_and_a_shorter_one_is_refused(make):
    case = make.case(1, failed_actions=make.motion(0.001, 8))
    actions = correction_of(recorded(5), case, START_NS, [], 0.9)
    assert steps(actions) == [0, 1, 2, 3, 4, 0, 0, 0] and set(actions[:, 6].tolist()) == {0.5}
    with pytest.raises(CaseError, match=r"3 commands in a row.*expected at least 4 of 8"):
        correction_of(recorded(3), case, START_NS, [], 0.9)


def test_a_command_lost_on_the_way_repeats_the_one_before_and_a_gap_ends_it(make):
    case = make.case(1, failed_actions=make.motion(0.001, 8))
    actions = correction_of(recorded(20, lost=(3, 4)), case, START_NS, [], 0.9)
    assert steps(actions) == [0, 1, 2, 2, 2, 5, 6, 7]
    with pytest.raises(CaseError, match="2 commands in a row"):
        correction_of(recorded(20, lost=(2, 3, 4)), case, START_NS, [], 0.9)


def test_a_clock_set_back_starts_the_record_anew_and_late_or_broken_commands_are_left_out():
    recorder = TakeoverRecorder()
    action = np.zeros(7, dtype=np.float32)
    recorder.add("ada", 5, START_NS, action)
    recorder.add("ada", 6, START_NS + TICK_NS, action)
    recorder.add("ada", 5, START_NS + TICK_NS, action)
    recorder.add("ada", 7, START_NS + 2 * TICK_NS, np.full(7, np.nan, dtype=np.float32))
    found = recorder.finish()
    assert found is not None and found.ticks.tolist() == [5, 6]
    recorder.add("ada", 5, START_NS, action)
    recorder.add("ada", 6, 1_000, action)
    found = recorder.finish()
    assert found is not None and found.stamps_ns.tolist() == [1_000]
    assert recorder.finish() is None


def test_the_record_is_bounded():
    recorder = TakeoverRecorder()
    for tick in range(LONGEST + 10):
        recorder.add("ada", tick, START_NS + tick, np.zeros(7, dtype=np.float32))
    found = recorder.finish()
    assert found is not None and len(found.ticks) == LONGEST
