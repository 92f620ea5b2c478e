# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Back to a checkpoint after a failure, again and away from what failed, then a person is asked."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.core.action import (
    MAX_ROTATION_PER_TICK,
    MAX_TRANSLATION_PER_TICK,
    TICK_NS,
    ActionChunk,
    CorrectionMode,
    invalid_actions,
)
from flow_rag_vla.core.correction import Correction
from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.memory.case import EncoderStamp, FailureCase
from flow_rag_vla.memory.episode import EpisodeMemory, Failure, SeenEmbedding
from flow_rag_vla.memory.rewind import ARRIVED, PATIENCE_NS, Rewind, RewindSettings, Stage, arrived, way_back

SECOND = 1_000_000_000
ROWS = 16
REPLAN = 4


def felt(x: float, z: float, opened: bool = True, yaw: float = 0.0) -> np.ndarray:
    return np.array([x, 0.0, z, math.cos(yaw), math.sin(yaw), 0.0, not opened, opened, 0.0], dtype=np.float32)


class Arm:
    """An episode in which the hand comes down, closes on nothing and is told so."""

    def __init__(self, **settings: object) -> None:
        self.episode = EpisodeMemory(60 * SECOND)
        self.episode.begin(1, "push", 0)
        self.rewind = Rewind(self.episode, RewindSettings(**{"attempts": 1, **settings}))  # type: ignore[arg-type]
        self.at = 0
        self.pose = felt(0.0, 0.2)
        self.failed_chunk = np.full((ROWS, 7), 0.001, dtype=np.float32)

    def move(self, pose: np.ndarray, seconds: float) -> None:
        start, ticks = self.pose, round(seconds * SECOND / TICK_NS)
        for tick in range(1, ticks + 1):
            self.at += TICK_NS
            self.pose = start + (pose - start) * np.float32(tick / ticks)
            self.episode.proprioception.append(self.at, lambda now=self.pose: now)

    def fail(self) -> None:
        self.episode.chunks.append(self.at - TICK_NS, ActionChunk(1, self.at - TICK_NS, self.failed_chunk))
        self.episode.failed(Failure(self.at, self.at, FailureType.GRASP_FAILURE, "push", "grasp"), None)

    def ask(self, known: CorrectionMode = CorrectionMode.NONE) -> Correction:
        return self.rewind.correct(self.at, Correction(self.at, known))

    def follow(self, correction: Correction) -> None:
        assert correction.actions is not None
        for row in correction.actions[:REPLAN]:
            pose = self.pose.copy()
            pose[:3] += row[:3]
            pose[6:8] = (0.0, 1.0) if row[6] > 0.5 else (1.0, 0.0)
            self.move(pose, TICK_NS / SECOND)

    def come_down(self) -> None:
        self.move(felt(0.05, 0.2), 1.0)
        self.move(felt(0.1, 0.0), 1.0)
        self.move(felt(0.1, 0.0, opened=False), 0.5)

    def go_back(self) -> int:
        for count in range(200):
            found = self.ask()
            if self.rewind.stage is not Stage.BACK:
                return count
            assert (found.mode, found.strength, found.until) == (CorrectionMode.GUIDANCE, 1.0, 1.0)
            assert invalid_actions(found.actions) is None
            self.follow(found)
        raise AssertionError("it never arrived")


def test_after_a_failure_the_hand_opens_and_goes_back_to_where_it_was_higher_and_open() -> None:
    arm = Arm()
    arm.come_down()
    assert arm.ask(CorrectionMode.RESIDUAL).mode is CorrectionMode.RESIDUAL
    arm.fail()
    first = arm.ask(CorrectionMode.GUIDANCE)
    assert first.mode is CorrectionMode.GUIDANCE
    # The hand opens before the arm moves, which then rises before it goes across.
    assert not first.actions[:3, :3].any() and (first.actions[:, 6] == 1.0).all()
    assert arm.go_back() < 60
    checkpoint = arm.pose
    assert checkpoint[2] > 0.02 and checkpoint[7] > 0.5
    assert (arm.rewind.attempts, arm.rewind.stage) == (1, Stage.AWAY)


def test_the_failed_chunk_is_avoided_for_a_while_unless_the_memory_knows_better() -> None:
    arm = Arm()
    arm.come_down()
    arm.fail()
    arm.go_back()
    away = arm.ask()
    assert away.mode is CorrectionMode.NEGATIVE
    np.testing.assert_array_equal(away.failed_actions, arm.failed_chunk[np.newaxis])
    assert arm.ask(CorrectionMode.GUIDANCE).mode is CorrectionMode.GUIDANCE
    arm.move(arm.pose, arm.rewind.settings.away_ns / SECOND + 0.1)
    assert arm.ask().mode is CorrectionMode.NONE


def test_the_way_back_is_not_learned_as_what_went_well_later() -> None:
    arm, stamp = Arm(), EncoderStamp("compact", "abc", 4)
    same = np.array([1.0, 0.0, 0.0, 0.0], dtype=np.float32)
    arm.come_down()
    case = FailureCase(FailureType.GRASP_FAILURE, "push", "", "compact", "abc", same, arm.failed_chunk)
    arm.fail()
    failure = arm.episode.failures[-1]
    arm.episode.failed(failure, case)
    begun = arm.at
    way = arm.ask().actions
    # The situation right after the failure is the failure's, and the way back is what is followed there.
    arm.episode.embeddings.append(begun + TICK_NS, SeenEmbedding(same, stamp))
    arm.episode.chunks.append(begun + TICK_NS, ActionChunk(2, begun + TICK_NS, way))
    arm.go_back()
    arm.at += SECOND
    right = np.full((ROWS, 7), -0.004, dtype=np.float32)
    arm.episode.embeddings.append(arm.at, SeenEmbedding(same, stamp))
    arm.episode.chunks.append(arm.at, ActionChunk(3, arm.at, right))
    (later,) = arm.episode.end(True, arm.at + SECOND, 0.9, 60 * SECOND).corrections
    np.testing.assert_array_equal(later.actions, right)


def test_rewinds_are_bounded_then_a_person_is_asked_and_their_takeover_answers() -> None:
    arm = Arm(attempts=2)
    for number in (1, 2):
        arm.come_down()
        arm.fail()
        arm.go_back()
        assert arm.rewind.attempts == number
    arm.come_down()
    arm.fail()
    assert arm.ask(CorrectionMode.GUIDANCE).mode is CorrectionMode.HOLD
    assert "grasp_failure in push after 2 rewinds" in arm.rewind.request
    arm.move(arm.pose, 30.0)
    assert arm.ask().mode is CorrectionMode.HOLD
    arm.episode.intervene()
    assert (arm.ask().mode, arm.rewind.request, arm.rewind.attempts) == (CorrectionMode.NONE, "", 0)


def test_the_next_episode_begins_anew_and_nothing_is_done_between_episodes() -> None:
    arm = Arm(attempts=1)
    for _ in range(2):
        arm.come_down()
        arm.fail()
        arm.ask()
        arm.rewind.stage = Stage.NONE if arm.rewind.stage is Stage.BACK else arm.rewind.stage
    assert arm.ask().mode is CorrectionMode.HOLD
    arm.episode.cancel()
    assert arm.ask().mode is CorrectionMode.NONE
    arm.episode.begin(2, "push", arm.at)
    assert (arm.ask().mode, arm.rewind.attempts, arm.rewind.request) == (CorrectionMode.NONE, 0, "")


def test_who_cannot_arrive_tries_from_where_the_arm_is_and_a_failure_on_the_way_is_the_same_one() -> None:
    arm = Arm()
    arm.come_down()
    arm.fail()
    assert arm.ask().mode is CorrectionMode.GUIDANCE
    arm.fail()
    arm.move(arm.pose, PATIENCE_NS / SECOND)
    assert arm.ask().mode is CorrectionMode.GUIDANCE
    arm.move(arm.pose, 0.1)
    assert (arm.ask().mode, arm.rewind.attempts) == (CorrectionMode.NEGATIVE, 1)


@pytest.mark.parametrize("settings", [{"attempts": 0}, {"attempts": 0, "ask": False}])
def test_without_rewinds_the_memory_answers_as_before(settings: dict[str, object]) -> None:
    arm = Arm(**settings)
    arm.come_down()
    arm.fail()
    assert arm.ask(CorrectionMode.RESIDUAL).mode is CorrectionMode.RESIDUAL


def test_a_failure_of_which_nothing_was_felt_or_done_moves_nothing() -> None:
    arm = Arm()
    arm.at = 5 * SECOND
    arm.episode.failed(Failure(arm.at, arm.at, FailureType.DROP, "push", "grasp"), None)
    assert arm.ask().mode is CorrectionMode.NONE


def test_settings_below_nothing_are_refused() -> None:
    with pytest.raises(ValueError, match="attempts is -1"):
        replace(RewindSettings(), attempts=-1)


@given(
    st.tuples(*[st.floats(-0.3, 0.3)] * 6),
    st.floats(-3.0, 3.0),
    st.floats(-3.0, 3.0),
    st.booleans(),
    st.integers(1, 32),
)
def test_every_way_back_stays_within_the_largest_steps_and_ends_at_its_checkpoint(
    places, yaw, other, opened, rows
) -> None:
    now, goal = felt(0.0, 0.0, opened, yaw), felt(0.0, 0.0, True, other)
    now[:3], goal[:3] = places[:3], places[3:]
    for _ in range(400):
        actions = way_back(now, goal, rows)
        assert actions.shape == (rows, 7)
        assert np.linalg.norm(actions[:, :3], axis=1).max() <= MAX_TRANSLATION_PER_TICK + 1e-6
        assert np.abs(actions[:, 5]).max() <= MAX_ROTATION_PER_TICK
        if arrived(now, goal):
            break
        # As much of it as a policy that plans anew every few ticks follows; the hand opens meanwhile.
        now[:3] += actions[:REPLAN, :3].sum(axis=0)
        now[7] = 1.0
    assert float(np.linalg.norm(now[:3] - goal[:3])) < ARRIVED
