# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Which remembered failures are told of a plan: the most alike to what is seen, and by what, or why only the newest."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.core.goal import GOALS, Goal, parse_instruction
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.deliberation.likeness import (
    EMBEDDING,
    NEWEST,
    SITUATION,
    WORDS,
    Likeness,
    LikenessError,
    Present,
    Sought,
    text_of,
)
from flow_rag_vla.deliberation.planners import MOST_SIMILAR, FolderRecall
from flow_rag_vla.memory.case import EncoderStamp
from flow_rag_vla.memory.memory import FailureMemory
from flow_rag_vla.policy.observation import (
    CENTRE,
    ENTITIES,
    ENTITY_DIM,
    ENTITY_INDEX,
    POSITION_SCALE,
    PROPRIOCEPTION_DIM,
    READING_DIM,
    proprioception,
    relative_reading,
)
from flow_rag_vla.policy.situation import FEATURES, SituationKey, reading_from

PUSH = parse_instruction("push the yellow cylinder to the green zone")
D = 3 * len(ENTITIES) + 1
HOME = np.array([0.35, 0.0, 0.35])
UNITS = np.zeros(FEATURES, dtype=np.float32), np.full(FEATURES, 0.2, dtype=np.float32)
"""Mean and deviation of the features: 20 cm are one unit."""


def readout() -> SituationKey:
    """A readout without error: an embedding of ``seen`` holds where things are."""
    weight = np.zeros((READING_DIM, D + PROPRIOCEPTION_DIM), dtype=np.float32)
    for entity in range(len(ENTITIES)):
        for axis in range(3):
            weight[entity * ENTITY_DIM + axis, 3 * entity + axis] = 10.0 / math.sqrt(D)
            weight[entity * ENTITY_DIM + axis, D + axis] = -1.0 / POSITION_SCALE
    return SituationKey([(weight, np.zeros(READING_DIM, dtype=np.float32))], *UNITS, "e1")


KEY = readout()
STAMP = EncoderStamp("compact", "e1", D)


def seen(cylinder, zone=(0.6, 0.1, 0.0)) -> np.ndarray:
    """What a camera shows of a cylinder and a zone, at places in the base frame."""
    values = np.zeros(D, dtype=np.float32)
    for name, place in (("yellow_cylinder", cylinder), ("zone", zone)):
        index = 3 * ENTITY_INDEX[name]
        values[index : index + 3] = (np.array(place) - CENTRE) / 10.0
    values[-1] = math.sqrt(1.0 - float(values @ values))
    return values


def state(place, yaw=0.0) -> RobotState:
    turn = np.array([0.0, 0.0, math.sin(yaw / 2.0), math.cos(yaw / 2.0)])
    return RobotState(0, np.array(place, dtype=float), turn)


def felt(place) -> np.ndarray:
    return proprioception(state(place))


@pytest.fixture
def failed(case):
    """``failed((x, y, z), hand)``: a case of a push that failed with the cylinder and the hand there."""

    def make(cylinder, hand=(0.5, 0.0, 0.05), goal: Goal = PUSH, **fields):
        there = felt(hand)
        values = {"encoder": SITUATION, "encoder_revision": KEY.revision, "task": goal.task}
        values |= {"embedding": KEY(seen(cylinder), there, goal), "proprioception": there, **fields}
        return case(**values)

    return make


def looking(cylinder, hand=HOME, **fields):
    return lambda seconds: Present(seen(cylinder), fields.pop("stamp", STAMP), felt(hand), **fields)


NEAR, MIDDLE, FAR = (0.50, 0.10, 0.03), (0.51, 0.11, 0.03), (0.60, -0.20, 0.03)


def test_a_plans_cases_are_those_that_failed_with_things_where_they_are_now(failed):
    # The newest first: it failed elsewhere; and with the hand elsewhere each time.
    cases = [failed(FAR), failed(MIDDLE, hand=(0.51, 0.11, 0.2)), failed(NEAR, hand=(0.45, 0.1, 0.08))]
    ranked = Likeness(looking(NEAR), lambda: KEY).rank(cases, Sought((PUSH,)), 5)
    assert ranked.measure == SITUATION and ranked.why == ""
    (first, same), (second, close) = ranked.cases
    # As alike as can be, though the hand is not there yet; what failed far off is not alike at all.
    assert first is cases[2] and same == pytest.approx(1.0, abs=1e-4)
    assert second is cases[1] and 0.3 < close < 0.95


def test_a_failure_is_compared_with_the_hand_where_it_is(failed):
    cases = [failed(NEAR, hand=(0.45, 0.1, 0.25)), failed(NEAR, hand=(0.5, 0.1, 0.05))]
    sought = Sought((PUSH,), phase="grasp")
    ranked = Likeness(looking(NEAR, hand=(0.5, 0.1, 0.05)), lambda: KEY).rank(cases, sought, 5)
    assert [item for item, _ in ranked.cases] == [cases[1]]


def test_failures_of_another_target_are_not_alike(failed):
    mine, other = (goal for goal in GOALS if goal.task == "pick_and_place" and goal.target != "red_cube")
    assert Likeness(looking(NEAR), lambda: KEY).rank([failed(NEAR, goal=mine)], Sought((mine,)), 5).cases
    ranked = Likeness(looking(NEAR), lambda: KEY).rank([failed(NEAR, goal=mine)], Sought((other,)), 5)
    assert ranked.measure == NEWEST and "no case is alike" in ranked.why


def nobody(seconds):
    raise LikenessError("no embedding came within 2 s")


@pytest.mark.parametrize(
    ("look", "key", "why"),
    [
        (nobody, lambda: KEY, "no embedding came within 2 s"),
        (looking(NEAR, stamp=EncoderStamp("compact", "other", D)), lambda: KEY, "the encoder is compact@other"),
        (looking(NEAR), None, "no policy makes situation keys"),
        (
            looking(NEAR),
            lambda: SituationKey([(np.ones((READING_DIM, D + 9), np.float32), np.ones(35))], *UNITS, "e1"),
            "@",
        ),
        (lambda _seconds: Present(seen(NEAR), STAMP, None), lambda: KEY, "robot's state is not known"),
        (lambda _seconds: Present(seen(NEAR), STAMP, felt(HOME) * np.nan), lambda: KEY, "not finite"),
        (lambda _seconds: Present(np.ones(4, np.float32), STAMP, felt(HOME)), lambda: KEY, "expected (22,)"),
    ],
)
def test_what_cannot_be_compared_is_not_and_the_newest_are_told(failed, look, key, why):
    cases = [failed(FAR), failed(NEAR)]
    ranked = Likeness(look, key).rank(cases, Sought((PUSH,), "push it"), 1)
    assert ranked.measure == NEWEST and ranked.cases == ((cases[0], None),) and why in ranked.why


def test_embeddings_are_compared_with_those_of_the_same_encoder_only(case):
    stamp = EncoderStamp("compact", "abc", 8)
    cases = [case(phase="grasp"), case(phase="reach", embedding=np.eye(8, dtype=np.float32)[3])]
    likeness = Likeness(lambda _seconds: Present(np.eye(8, dtype=np.float32)[3], stamp))
    ranked = likeness.rank(cases, Sought((PUSH,)), 5)
    assert ranked.measure == EMBEDDING and ranked.cases == ((cases[1], 1.0), (cases[0], 0.0))
    # A failure in a phase has to do with failures in that phase.
    assert likeness.rank(cases, Sought((PUSH,), phase="grasp"), 5).cases == ((cases[0], 0.0),)
    other = Likeness(lambda _seconds: Present(np.eye(8, dtype=np.float32)[3], EncoderStamp("compact", "new", 8)))
    ranked = other.rank(cases, Sought((PUSH,)), 5)
    assert ranked.measure == NEWEST and "compact@new" in ranked.why and "compact@abc" in ranked.why


def vectors(texts, seconds):
    """A vector for each text: whether it speaks of slipping."""
    rows = [[1.0, 0.0] if "slip" in text else [0.0, 1.0] for text in texts]
    return np.array(rows, dtype=np.float32)


def test_without_a_picture_words_are_compared_in_the_time_that_is_left(case):
    cases = [case(note="it hit the bin"), case(note="the cube slipped")]
    sought = Sought((PUSH,), "it slips")
    ranked = Likeness(nobody, vectors=vectors).rank(cases, sought, 5)
    assert ranked.measure == WORDS and ranked.cases[0] == (cases[1], 1.0) and "no embedding" in ranked.why
    assert "slipped" in text_of(cases[1])
    late = Likeness(nobody, vectors=vectors).rank(cases, Sought((PUSH,), "it slips", ends=time.monotonic()), 5)
    assert late.measure == NEWEST and "no time is left" in late.why
    lying = Likeness(nobody, vectors=lambda texts, seconds: np.full((3, 2), np.nan, np.float32))
    assert lying.rank(cases, sought, 5).measure == NEWEST


def test_a_recall_tells_the_most_alike_of_many_with_their_similarity(tmp_path, failed):
    memory, _ = FailureMemory.open(tmp_path / "memory.db")
    rng = np.random.default_rng(3)
    near = memory.add(failed(NEAR, failed_actions=np.full((4, 7), 0.001, np.float32)))
    for _ in range(12):
        place = (0.65, rng.uniform(-0.3, -0.2), 0.03)
        assert memory.add(failed(place, failed_actions=rng.uniform(-0.01, 0.01, (4, 7)).astype(np.float32)))
    memory.close()
    recall = FolderRecall((), tmp_path / "memory.db", likeness=Likeness(looking(NEAR), lambda: KEY))
    past = recall(("push",), Sought((PUSH,)))
    assert [(item.case_id, item.measure) for item in past.similar] == [(near.case_id, SITUATION)]
    assert past.similar[0].similarity == pytest.approx(1.0, abs=1e-3) and past.newest == ""
    blind = FolderRecall((), tmp_path / "memory.db")(("push",), Sought((PUSH,)))
    assert len(blind.similar) == MOST_SIMILAR and near.case_id not in {item.case_id for item in blind.similar}
    assert {item.similarity for item in blind.similar} == {None} and "nobody says what is seen" in blind.newest


places = st.tuples(*[st.floats(-0.4, 0.4)] * 3)
yaws = st.floats(-3.0, 3.0)


@given(places, yaws, places, yaws, places, yaws, st.sampled_from(ENTITIES))
def test_a_reading_from_elsewhere_is_what_would_be_read_there(place, yaw, here, turned, there, other, name):
    entity = {name: (np.array(place), yaw)}
    one, _ = relative_reading(state(here, turned), entity)
    two, _ = relative_reading(state(there, other), entity)
    moved = reading_from(one, proprioception(state(here, turned)), proprioception(state(there, other)))
    columns = slice(ENTITY_INDEX[name] * ENTITY_DIM, (ENTITY_INDEX[name] + 1) * ENTITY_DIM)
    assert moved[columns] == pytest.approx(two[columns], abs=1e-4)
