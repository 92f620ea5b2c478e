# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A poisoned export: cases that push toward collision are stopped by the guard, and at the latest by the clamps."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from flow_rag_vla.bringup.memory_settings import memory_settings
from flow_rag_vla.bringup.parameters.failure_memory import FailureMemoryParameters
from flow_rag_vla.control.integrator import Clamp
from flow_rag_vla.control.ladder import Mode
from flow_rag_vla.control.loop import ControlLoop, Episode
from flow_rag_vla.core.action import TICK_NS, ActionChunk, CorrectionMode
from flow_rag_vla.core.correction import Correction
from flow_rag_vla.core.goal import parse_instruction
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.memory.case import CaseError, FailureCase
from flow_rag_vla.memory.consensus import ConsensusMemory
from flow_rag_vla.memory.corrector import CredibleCase, make_corrector
from flow_rag_vla.memory.exchange import export_cases, import_cases
from flow_rag_vla.memory.guard import GuardError
from flow_rag_vla.memory.index import NumpyIndex
from flow_rag_vla.memory.ledger import SuccessSituation
from flow_rag_vla.memory.memory import FailureMemory
from flow_rag_vla.memory.store import CaseFilter
from flow_rag_vla.policy.observation import CENTRE, proprioception
from flow_rag_vla.policy.policy import FlowPolicy

HORIZON = 16


def moving(*step: float, gripper: float = 1.0) -> np.ndarray:
    rows = np.zeros((HORIZON, 7), dtype=np.float32)
    rows[:, :3], rows[:, 6] = step, gripper
    return rows


def feeling(*position: float) -> np.ndarray:
    return proprioception(RobotState(0, np.array(position), np.array([1.0, 0.0, 0.0, 0.0])))


def poison(make, seed: int, correction: np.ndarray, position: tuple[float, ...], **fields) -> FailureCase:
    return make.case(
        seed,
        failed_actions=moving(0.002, 0, 0),
        correction=correction,
        correction_source="expert",
        proprioception=feeling(*position),
        uses=1000,
        successes=1000,
        origin="mallory",
        **fields,
    )


@pytest.fixture
def robot_memory(tmp_path: Path):
    memory, _ = FailureMemory.open(tmp_path / "robot.db", memory_settings(FailureMemoryParameters()), NumpyIndex)
    yield memory
    memory.close()


def test_a_poisoned_export_is_refused_row_by_row_and_the_good_case_in_it_is_taken(
    make, open_memory, robot_memory, tmp_path
):
    good = poison(make, 1, moving(0.0, 0.004, 0.002), (0.5, 0.0, 0.2))
    robot_memory.observe_done(
        [SuccessSituation("push", "reach", good.stamp, make.unit(5), moving(0.0, 0.01, 0), 3, "this robot")]
    )
    mallory = open_memory(tmp_path / "mallory.db")
    mallory.add_all(
        [
            good,
            poison(make, 2, moving(0.0, 0.0, -0.012), (0.5, 0.0, 0.10)),  # into the table
            poison(make, 3, moving(0.012, 0.0, 0.0), (0.70, 0.0, 0.2)),  # out of the workspace, into whatever is there
            poison(make, 4, moving(0.0, 0.0, -0.2), (0.5, 0.0, 0.5)),  # faster than the robot may move
            poison(make, 5, moving(0.0, -0.012, 0.0), (0.5, 0.0, 0.2)),  # away from what succeeds in this situation
            poison(make, 6, moving(0.0, 0.0, 0.0, gripper=40.0), (0.5, 0.0, 0.2)),  # no gripper opens so far
        ]
    )
    export_cases(mallory, tmp_path / "gift.npz")
    report = import_cases(robot_memory, tmp_path / "gift.npz")
    assert report.imported == 1 == robot_memory.page(CaseFilter(include_retired=True))[0]
    said = {item.place: item.text for item in report.refused}
    for row, words in {
        1: "below the table's edge",
        2: "leaves the workspace",
        3: "translation of 0.2000 m",
        4: "success situation 1 (push/reach, episode 3 of this robot)",
        5: "opens the gripper to 40.000",
    }.items():
        assert words in said[f"case {row} of 6"]


@pytest.mark.parametrize("numbers", [0, 3])
def test_a_correction_from_elsewhere_that_hides_where_the_tool_was_is_refused(
    make, open_memory, robot_memory, tmp_path, numbers
):
    """Nobody could follow it to the table. What the robot finds out itself is its own, as is a case that only warns."""
    hidden = {"proprioception": np.zeros(numbers, dtype=np.float32)}
    down = moving(0.0, 0.0, -0.012)
    own = robot_memory.add(make.case(4, failed_actions=moving(0.002, 0, 0), correction=down, correction_source="human"))
    learns = robot_memory.add(make.case(5, failed_actions=moving(0.002, 0, 0)))
    mallory = open_memory(tmp_path / "mallory.db")
    mallory.add_all(
        [
            dataclasses.replace(poison(make, 2, down, (0.5, 0.0, 0.1)), **hidden),
            dataclasses.replace(
                poison(make, 3, down, (0.5, 0.0, 0.1)), correction=None, correction_source="", **hidden
            ),
            # The same failure as one that the robot knows without a correction, and without its own place.
            poison(make, 5, down, (0.5, 0.0, 0.5)),
        ]
    )
    export_cases(mallory, tmp_path / "gift.npz")
    report = import_cases(robot_memory, tmp_path / "gift.npz")
    assert own.accepted and report.imported == 1 and [item.place for item in report.refused] == [
        "case 0 of 3", "case 2 of 3"
    ]  # fmt: skip
    assert f"where the tool was ({numbers} numbers" in report.refused[0].text
    assert "its correction for case" in report.refused[1].text and "where the tool was (0 numbers" in str(
        report.refused[1]
    )
    assert robot_memory.get(learns.case_id).correction is None
    corrected = [case for case in robot_memory.page(CaseFilter())[1] if case.correction is not None]
    assert [case.case_id for case in corrected] == [own.case_id]


def test_poison_that_arrives_retired_cannot_be_taken_back_into_the_searches(make, open_memory, robot_memory, tmp_path):
    mallory = open_memory(tmp_path / "mallory.db")
    mallory.add_all(
        [
            poison(make, 2, moving(0.0, 0.0, -0.012), (0.5, 0.0, 0.10)),
            poison(make, 4, moving(0.0, 0.0, -0.2), (0.5, 0.0, 0.5)),
            poison(make, 5, moving(0.0, 0.004, 0.0), (0.5, 0.0, 0.2)),
            dataclasses.replace(
                poison(make, 6, moving(0.0, 0.0, -0.012), (0.5, 0.0, 0.10)), proprioception=np.zeros(0, np.float32)
            ),
        ]
    )
    for case in mallory.page(CaseFilter())[1]:
        mallory.retire(case.case_id, True, "worn gripper")
    export_cases(mallory, tmp_path / "gift.npz", include_retired=True)
    assert import_cases(robot_memory, tmp_path / "gift.npz").imported == 4
    tables, fast, harmless, hidden = (
        case.case_id for case in reversed(robot_memory.page(CaseFilter(include_retired=True))[1])
    )
    with pytest.raises(GuardError, match=f"case {tables} stays retired: .*below the table's edge"):
        robot_memory.retire(tables, False)
    with pytest.raises(GuardError, match=r"translation of 0\.2000 m"):
        robot_memory.retire(fast, False)
    with pytest.raises(GuardError, match="does not say where the tool was"):
        robot_memory.retire(hidden, False)
    robot_memory.retire(harmless, False)
    assert [case.case_id for case in robot_memory.page(CaseFilter())[1]] == [harmless]


def obey(
    loop: ControlLoop, correction: Correction, start: np.ndarray, ticks: int = 200
) -> list[tuple[np.ndarray, int]]:
    """Run the loop with a chunk and the correction of it every 8 ticks; give targets and clamps."""
    now = steady = 1_000_000_000_000
    position, done = start.copy(), []
    loop.set_episode(Episode(1, True, False, "push", now - 1), now, steady)
    for tick in range(ticks):
        now, steady = now + TICK_NS, steady + TICK_NS
        loop.offer_state(RobotState(now, position, np.array([1.0, 0.0, 0.0, 0.0])), now, steady)
        if tick % 8 == 0:
            loop.offer_chunk(ActionChunk(tick + 1, now, moving(0.002, 0, 0), "push"), now, steady)
            answer = Correction(
                now, correction.mode, 1.0, correction.actions, correction.failed_actions, correction.case_ids
            )
            assert loop.offer_correction(answer, now, steady) is None
        command = loop.tick(now, steady)
        assert command.mode is Mode.FOLLOW and command.target is not None
        position = command.target.position
        done.append((position, int(command.clamps)))
    return done


def test_poison_that_got_past_the_guard_is_held_at_the_wall_by_the_clamps(make, robot_memory):
    loop = ControlLoop()
    limits = loop.settings.limits
    start = CENTRE + np.array([0.0, 0.0, -0.1])
    cases = [poison(make, seed, moving(0.0, 0.0, -0.5), tuple(start)) for seed in range(3)]
    # Straight into the store, as someone with the database file could.
    ids = robot_memory.store.add(cases)
    credible = [CredibleCase(robot_memory.get(case_id), 1.0) for case_id in ids]
    correction = make_corrector("dispatch").correct(0, credible, 0.9)
    assert correction.case_ids
    pushed = Correction(0, CorrectionMode.RESIDUAL, 1.0, cases[0].correction, None, correction.case_ids)
    targets = obey(loop, pushed, start)
    heights = np.array([position[2] for position, _ in targets])
    assert heights.min() >= limits.workspace_low[2] - 1e-9
    assert heights[-1] == pytest.approx(limits.workspace_low[2], abs=1e-3)
    steps = np.linalg.norm(np.diff([position for position, _ in targets], axis=0), axis=1)
    assert steps.max() <= limits.translation + 1e-9
    assert targets[-1][1] & Clamp.WORKSPACE


def test_poisoned_misreadings_move_the_target_a_little_way_and_the_clamps_hold(make, robot_memory):
    with pytest.raises(CaseError, match="longer than"):
        make.case(1, misreading=np.array([0.0, 0.0, -0.2]))
    for seed in range(4):
        # Learned by the robot itself nothing doubts them: what stands between such cases and the table is what follows.
        down = make.case(embedding=make.turned(make.unit(1), 0.9, seed), misreading=np.array([0.0, 0.0, -0.149]))
        assert robot_memory.add(down).accepted
    case = robot_memory.get(1)
    answer = ConsensusMemory(robot_memory).answer(
        make.unit(1), stamp=case.stamp, task="push", phase="reach", stamp_ns=0
    )
    correction = answer.correction
    assert correction.mode is CorrectionMode.SHIFT and -0.15 < correction.shift[2] < -0.05
    policy, loop = FlowPolicy.load(), ControlLoop()
    limits, goal = loop.settings.limits, parse_instruction("push the yellow cylinder to the green zone")
    position, now = CENTRE - np.array([0.0, 0.0, 0.1]), 1_000_000_000_000
    loop.set_episode(Episode(1, True, False, "push", now - 1), now, now)
    seen, heights = make.unit(7, policy.embedding_dimension), []
    for tick in range(120):
        now += TICK_NS
        state = RobotState(now, position, np.array([1.0, 0.0, 0.0, 0.0]))
        loop.offer_state(state, now, now)
        if tick % 8 == 0:
            chunk = policy.act(seen, state, goal, seed=tick, correction=correction)
            assert chunk.provenance.correction is CorrectionMode.SHIFT
            loop.offer_chunk(chunk, now, now)
        command = loop.tick(now, now)
        assert command.target is not None
        assert np.linalg.norm(command.target.position - position) <= limits.translation + 1e-9
        position = command.target.position
        heights.append(position[2])
    assert min(heights) >= limits.workspace_low[2] - 1e-9


@settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from([CorrectionMode.RESIDUAL, CorrectionMode.BLEND]),
    st.lists(st.floats(-1e3, 1e3), min_size=7, max_size=7),
    st.tuples(st.floats(0.26, 0.74), st.floats(-0.39, 0.39), st.floats(0.01, 0.59)),
)
def test_no_correction_whatever_it_holds_leads_a_target_past_a_limit(mode, row, place):
    loop = ControlLoop()
    limits = loop.settings.limits
    rows = np.tile(np.array(row, dtype=np.float32), (HORIZON, 1))
    before = np.array(place)
    for position, _ in obey(loop, Correction(0, mode, 1.0, rows, None, (1,)), before, 40):
        assert (position >= np.array(limits.workspace_low) - 1e-9).all()
        assert (position <= np.array(limits.workspace_high) + 1e-9).all()
        assert np.linalg.norm(position - before) <= limits.translation + 1e-9
        before = position
    assert loop.internal_errors == 0
