# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Lessons wait while the database is held or its disk is full, and each step of them is written once."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow_rag_vla.core.action import CorrectionMode
from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.memory import database as database_module
from flow_rag_vla.memory.backlog import Backlog
from flow_rag_vla.memory.case import CaseError
from flow_rag_vla.memory.credit import CaseUse, UseResult
from flow_rag_vla.memory.episode import EpisodeLesson, EpisodeMemory, Failure, PendingFailure
from flow_rag_vla.memory.learning import Learner, LearningSettings
from flow_rag_vla.memory.memory import FailureMemory
from flow_rag_vla.memory.store import StoreUnavailableError


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """A held file is given up at once."""
    monkeypatch.setattr(database_module, "BUSY_TIMEOUT_S", 0.01)


@contextmanager
def held(path: Path) -> Iterator[None]:
    """Another program writes to the database."""
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("ROLLBACK")


def learner(memory: FailureMemory) -> tuple[Learner, list[str]]:
    said: list[str] = []
    return Learner(memory, EpisodeMemory(10**10), LearningSettings(), lambda what, warn: said.append(what)), said


def failed(make, seeds: tuple[int, ...]) -> list[PendingFailure]:
    failure = Failure(10, 5, FailureType.GRASP_FAILURE, "push", "reach")
    return [PendingFailure(failure, make.case(seed)) for seed in seeds]


def test_a_failure_is_stored_once_the_database_is_let_go(open_memory, make, database):
    memory, backlog = open_memory(), Backlog()
    learns, said = learner(memory)
    first, second = failed(make, (1, 2)), failed(make, (3,))
    with held(database):
        with pytest.raises(
            StoreUnavailableError, match=r"another program holds it.*; 1 lesson is kept and tried again"
        ):
            backlog.write(learns.remembering(first, tuple))
        with pytest.raises(StoreUnavailableError, match=r"holds it.*; 2 lessons are kept and tried again"):
            backlog.write(learns.remembering(second, tuple))
        with pytest.raises(StoreUnavailableError, match="2 lessons are kept"):
            backlog.retry()
        assert (backlog.waiting, memory.statistics().cases, said) == (2, 0, [])
        assert str(database) in backlog.reason
    assert backlog.retry() == 2
    assert (backlog.waiting, backlog.reason, memory.statistics().cases) == (0, "", 3)
    assert [item.case_id for item in (*first, *second)] == [1, 2, 3]
    assert len(said) == 2
    assert backlog.retry() == 0


def test_a_lesson_that_was_interrupted_goes_on_where_it_stopped(open_memory, make, database):
    memory, backlog = open_memory(), Backlog()
    learns, said = learner(memory)
    pending = failed(make, (1, 2, 3))
    steps = learns.remembering(pending, tuple)
    other = sqlite3.connect(database, isolation_level=None)

    def first() -> None:
        steps[0]()
        other.execute("BEGIN IMMEDIATE")

    with closing(other):
        with pytest.raises(StoreUnavailableError):
            backlog.write([first, *steps[1:]])
        assert memory.statistics().cases == 1
    assert backlog.retry() == 1
    assert memory.statistics().cases == 3
    assert "2 of 2 more situations of it are cases too" in said[0], "none of them was taken for one that is known"


def test_an_episode_is_credited_once_however_often_it_is_tried(open_memory, make, database):
    memory, backlog = open_memory(), Backlog()
    learns, _ = learner(memory)
    case_id = memory.add(make.case(1)).case_id
    use = CaseUse(case_id, CorrectionMode.GUIDANCE, 1.0, 3)
    seen = (("push", "reach", make.unit(8)),)
    lesson = EpisodeLesson(True, (case_id,), situations=seen, uses=(use,), task="push", episode_id=4)
    steps = learns.learning(lesson, UseResult.SUCCESS)
    other = sqlite3.connect(database, isolation_level=None)

    def credit() -> None:
        steps[0]()
        other.execute("BEGIN IMMEDIATE")

    with closing(other):
        with pytest.raises(StoreUnavailableError):
            backlog.write([credit, *steps[1:]])
        with pytest.raises(StoreUnavailableError):
            backlog.retry()
    assert backlog.retry() == 1
    assert (memory.get(case_id).uses, len(memory.ledger.uses(case_id))) == (1, 1)
    assert len(memory.store.situations(memory.stamp.dimension)) == 1


def test_a_correction_waits_for_the_case_that_it_is_of(open_memory, make, database):
    memory, backlog = open_memory(), Backlog()
    learns, _ = learner(memory)
    pending = failed(make, (1,))
    with held(database):
        with pytest.raises(StoreUnavailableError):
            backlog.write(learns.remembering(pending, tuple))
        right = make.motion(0.004)
        with pytest.raises(StoreUnavailableError):
            backlog.write([lambda: learns._correct(pending[0].case_id, right, "human", "by ada")])
    assert backlog.retry() == 2
    assert memory.get(1).correction_source == "human"


def test_what_would_fail_again_is_dropped_and_the_next_goes_on():
    backlog, done = Backlog(), []
    calls = iter([StoreUnavailableError("held"), None])

    def busy() -> None:
        if error := next(calls):
            raise error

    def wrong() -> None:
        raise CaseError("no such chunk")

    with pytest.raises(StoreUnavailableError):
        backlog.write([busy])
    for steps in ([wrong, lambda: done.append("never")], [lambda: done.append("next")]):
        with pytest.raises(StoreUnavailableError):
            backlog.write(steps)
    with pytest.raises(CaseError):
        backlog.retry()
    assert (backlog.retry(), done, backlog.waiting) == (1, ["next"], 0)


def test_more_lessons_than_may_wait_are_refused_and_those_that_wait_stay():
    backlog, done, free = Backlog(limit=2), [], False

    def step(number: int) -> Callable[[], None]:
        def write() -> None:
            if not free:
                raise StoreUnavailableError("disk is full")
            done.append(number)

        return write

    for number in range(4):
        with pytest.raises(
            StoreUnavailableError, match="kept" if number < 2 else "2 lessons wait.* lost: disk is full"
        ):
            backlog.write([step(number)])
    free = True
    assert (backlog.retry(), done) == (2, [0, 1])


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 3), min_size=1, max_size=4), max_size=8))
def test_every_step_is_done_once_and_in_order_whatever_is_refused(refusals: list[list[int]]):
    """refusals: how often each step of each lesson is refused before it is taken."""
    backlog, done = Backlog(), []

    def step(name: tuple[int, int], left: list[int]) -> Callable[[], None]:
        def write() -> None:
            if left[0]:
                left[0] -= 1
                raise StoreUnavailableError("held")
            done.append(name)

        return write

    for row, lesson in enumerate(refusals):
        try:
            backlog.write([step((row, place), [count]) for place, count in enumerate(lesson)])
        except StoreUnavailableError:
            assert backlog.waiting
    for _ in range(sum(map(sum, refusals)) + 1):
        try:
            backlog.retry()
        except StoreUnavailableError:
            continue
    assert done == [(row, place) for row, lesson in enumerate(refusals) for place in range(len(lesson))]
