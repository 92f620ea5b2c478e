# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Corrections that nobody said: a copy that looks the same, what succeeds in it, and then in fact."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.core.goal import GOALS, Goal
from flow_rag_vla.core.state import CartesianTarget
from flow_rag_vla.evaluate.trials.bank import SETTINGS, CaseBank
from flow_rag_vla.evaluate.trials.copies import supposed_scene
from flow_rag_vla.evaluate.trials.fitting import PLACE, Sight, changed, changes, fit
from flow_rag_vla.evaluate.trials.labelled import Keeper
from flow_rag_vla.evaluate.trials.practised import PractisedLessons
from flow_rag_vla.evaluate.trials.protocol import ONLINE, Start, Trial, TrialError
from flow_rag_vla.evaluate.trials.rehearsal import (
    REHEARSALS,
    Rehearsal,
    RehearsalSettings,
    Rehearsed,
    believed,
    otherwise,
    read_rehearsals,
)
from flow_rag_vla.evaluate.trials.rig import Rig
from flow_rag_vla.evaluate.trials.scenes import scene_of
from flow_rag_vla.evaluate.trials.simulated_spec import SimulatedSpec, simulated_spec
from flow_rag_vla.memory.memory import FailureMemory
from flow_rag_vla.memory.store import FailureStore
from flow_rag_vla.policy.observation import DESTINATIONS, ENTITY_DIM, ENTITY_INDEX
from flow_rag_vla.sim.camera import FRONT, WRIST, SceneRenderer
from flow_rag_vla.sim.places import places
from flow_rag_vla.sim.scene import SceneSpec, sample_scene

FAILS = 51_000
"""A start with a large cabinet at which the shipped policy is not done in time."""

HELPS = (0.00965, 0.00365, -0.01298, -0.02312)
"""What a search in the copy of that start came to after eleven tries."""


@pytest.fixture(scope="module")
def spec() -> SimulatedSpec:
    return simulated_spec("open_drawer", "object_size")


@pytest.fixture(scope="module")
def rig(spec: SimulatedSpec) -> Iterator[Rig]:
    found = Rig(spec)
    yield found
    found.close()


@pytest.fixture
def keeper(rig: Rig, tmp_path: Path) -> Iterator[Keeper]:
    memory = FailureMemory(FailureStore(tmp_path / "memory.db"), SETTINGS)
    yield Keeper(memory, rig.key)
    memory.close()


# -- the copy --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("goal", GOALS, ids=lambda goal: f"{goal.task}-{goal.target}")
def test_what_a_goal_is_about_is_moved_and_resized_and_nothing_else(goal: Goal) -> None:
    scene = sample_scene(goal.task, "plain", 51_000, goal)
    count = changes(scene, goal)
    assert changed(scene, goal, np.zeros(count)) == scene
    moved = changed(scene, goal, np.ones(count))
    about = (goal.target, DESTINATIONS[goal.task])
    for one, other in zip(moved.objects, scene.objects, strict=True):
        if one.name not in about:
            assert one == other
            continue
        assert np.allclose(np.subtract(one.position[:2], other.position[:2]), PLACE)
        assert np.allclose(one.size, 1.05 * np.array(other.size)) and one.position[2] == one.size[2] / 2
    if scene.drawer is not None and moved.drawer is not None:
        assert moved.drawer.scale == pytest.approx(1.05 * scene.drawer.scale)
        assert moved.drawer.position[2] == scene.drawer.position[2]
    assert moved.start_joints == scene.start_joints


def test_a_copy_is_found_by_how_it_looks_where_the_policy_misreads_it(rig: Rig) -> None:
    scene = scene_of("open_drawer", "object_size", Start(FAILS, FAILS))
    state = rig.world.reset(scene)
    sights = []
    for _ in range(3):
        pictures = {"front": rig.world.render(FRONT), "wrist": rig.world.render(WRIST)}
        sights.append(Sight(rig.encoder.encode(pictures), state))
        for _ in range(6):
            down = state.position + np.array([0.006, 0.0, -0.008])
            state = rig.world.step(CartesianTarget(down, state.orientation, 0.08))
    supposed = supposed_scene(scene.goal, rig.policy.reading(sights[0].embedding, sights[0].state), sights[0].state)
    with SceneRenderer(supposed) as renderer:
        found = fit(renderer, rig.encoder, supposed, sights)
        with pytest.raises(ValueError, match="no sights"):
            fit(renderer, rig.encoder, supposed, [])
    assert scene.drawer is not None and found.scene.drawer is not None and supposed.drawer is not None
    there, read, true = (np.array(one.position) for one in (found.scene.drawer, supposed.drawer, scene.drawer))
    # The reading takes a cabinet of another size to be elsewhere.
    assert np.linalg.norm(read - true) > 0.02
    assert np.linalg.norm(there - true) < 0.3 * np.linalg.norm(read - true)
    assert abs(found.scene.drawer.scale - scene.drawer.scale) < 0.3 * abs(1.0 - scene.drawer.scale)


@pytest.fixture(scope="module")
def drawer(rig: Rig) -> SceneSpec:
    """The scene that the rig's second world holds."""
    scene = sample_scene("open_drawer", "plain", 51_000)
    rig.copies.reset(scene)
    return scene


@given(st.tuples(*[st.floats(-0.05, 0.05)] * 4))
def test_an_offset_moves_what_is_believed_in_the_frame_of_the_target(
    rig: Rig, drawer: SceneSpec, offset: tuple[float, ...]
) -> None:
    state, goal = rig.copies.robot_state(), drawer.goal
    plain, moved = (believed(rig.copies, state, goal, np.array(one)).astype(np.float64) for one in ((0.0,) * 4, offset))
    heading = places(drawer, rig.copies.scene_state())["drawer"][1]
    turn = np.array([[math.cos(heading), -math.sin(heading)], [math.sin(heading), math.cos(heading)]])
    for name, expected in (("drawer", offset[:3]), ("cabinet", (offset[3], 0.0, 0.0))):
        place = slice(ENTITY_INDEX[name] * ENTITY_DIM, ENTITY_INDEX[name] * ENTITY_DIM + 3)
        difference = moved[place] - plain[place]
        assert np.allclose(difference[:2], turn @ np.array(expected[:2]), atol=1e-5)
        assert difference[2] == pytest.approx(expected[2], abs=1e-5)


# -- what is kept ----------------------------------------------------------------------------------------------------


def test_small_differences_of_one_policy_are_another_action_and_none_is_none() -> None:
    planned = np.full((16, 7), 0.002, dtype=np.float32)
    other, closing = planned.copy(), planned.copy()
    other[:, 0] += 0.003
    closing[3:12, 6] = 1.0
    assert not otherwise(planned, planned)
    assert otherwise(planned, other) and otherwise(planned, closing)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_what_succeeds_in_the_copy_is_done_in_fact_becomes_cases_and_does_so_again(rig: Rig, tmp_path: Path) -> None:
    known = Rehearsed(0, 0.01, 1.16, 0.4, 11, 1.3, HELPS, (0,), False, True)
    corrections: list[list[bytes]] = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / REHEARSALS).write_text(json.dumps(asdict(known)) + "\n")
        memory = FailureMemory(FailureStore(folder / "memory.db"), SETTINGS)
        lessons = PractisedLessons(memory, rig, "rehearsal", folder, Start(FAILS, FAILS))
        lessons.begin(2, scene_of("open_drawer", "object_size", Start(FAILS, FAILS)), 0)
        # The trial failed, so its start is practised.
        lessons.end(False, ())
        before, found = read_rehearsals(folder)
        assert before == known
        # What was found before is tried first, and was enough.
        assert (found.place, found.tries, found.found, found.reset) == (1, 1, HELPS, True)
        assert found.unlike < 1.0 and abs(found.size - 1.166) < 0.05
        assert len(lessons.cases) == found.cases > 5
        cases = [memory.get(case_id) for case_id in lessons.cases]
        memory.close()
        assert {case.correction_source for case in cases} == {"search"}
        assert all(case.correction is not None and otherwise(case.failed_actions, case.correction) for case in cases)
        corrections.append([case.correction.tobytes() for case in cases if case.correction is not None])
    assert corrections[0] == corrections[1]


def test_where_nothing_succeeds_nothing_is_kept(rig: Rig, keeper: Keeper) -> None:
    rehearsal = Rehearsal(rig, keeper, RehearsalSettings(tries=1, moments=1, attempt_s=0.3, copy_s=0.3))
    assert rehearsal.episode(0, Start(FAILS, FAILS)).cases == ()
    (found,) = rehearsal.rehearsals
    assert (found.found, found.in_place, found.reset, found.labels) == (None, None, None, 0)
    assert keeper.memory.statistics().cases == 0


@pytest.mark.parametrize(
    "given_settings, problem",
    [
        ({"tries": 0}, "tries is 0"), ({"moments": 0}, "moments is 0"), ({"copy_s": 0.0}, "copy_s is 0"),
        ({"in_place": False, "reset": False}, "both false"), ({"spread": (0.1, 0.1, 0.1, -1.0)}, "spread is -1"),
    ],
)  # fmt: skip
def test_settings_that_make_no_sense_are_refused(given_settings: dict[str, object], problem: str) -> None:
    with pytest.raises(ValueError, match=problem):
        RehearsalSettings(**given_settings)  # type: ignore[arg-type]


def test_rehearsals_are_read_as_they_were_written_and_damage_is_named(rig: Rig, keeper: Keeper, tmp_path: Path) -> None:
    lines = [
        Rehearsed(0, 0.01, 1.2, 0.4, 3, 0.7, None),
        Rehearsed(4, 0.02, 0.8, 0.4, 3, 1.2, HELPS, (0, 3), False, True, 9, 1, 5, 0),
    ]
    Rehearsal(rig, keeper, known=lines).finish(tmp_path)
    assert read_rehearsals(tmp_path) == lines
    assert read_rehearsals(tmp_path, before=4) == lines[:1]
    assert read_rehearsals(tmp_path / "nobody") == []
    for text in ("{", json.dumps({"place": 1}), json.dumps({"found": None, "sound": [], "what": 2})):
        (tmp_path / REHEARSALS).write_text(text)
        with pytest.raises(TrialError, match="no list of rehearsals"):
            read_rehearsals(tmp_path)


# -- in the course of trials -----------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_a_memory_that_grows_by_practice_helps_the_next_time(tmp_path: Path) -> None:
    made = simulated_spec("open_drawer", "object_size", workspace=tmp_path, source="takeover")
    bench = made.build()
    try:
        start = Start(FAILS, FAILS)
        first = bench.run(Trial(made.key, "online+consensus", start, ONLINE, 0))
        assert (first.cases, first.corrected) == (0, 0)
        second = bench.run(Trial(made.key, "online+consensus", start, ONLINE, 1))
        assert not first.success
        assert second.cases > 0 and second.corrected > 0
        again = bench.run(Trial(made.key, "online+consensus", start, ONLINE, 1))
        assert again.repeatable == second.repeatable
    finally:
        bench.close()
    bank = CaseBank(tmp_path / made.key.replace("/", "_") / "online+consensus")
    assert [item.success for item in bank.episodes] == [first.success, second.success]
