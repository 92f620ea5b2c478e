# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math
from dataclasses import fields, replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flow_rag_vla.core.goal import GOALS, Goal, UnknownTaskError, task_names
from flow_rag_vla.sim.scene import (
    PLAIN_X,
    STRIP_X,
    VARIANTS,
    SceneSpec,
    UnknownVariantError,
    sample_scene,
)

seeds = st.integers(0, 2**64 - 1)
tasks = st.sampled_from(task_names())
quick = settings(max_examples=40, deadline=None)


def changed_fields(one: SceneSpec, other: SceneSpec) -> set[str]:
    return {entry.name for entry in fields(one) if getattr(one, entry.name) != getattr(other, entry.name)}


@quick
@given(tasks, st.sampled_from(tuple(VARIANTS)), seeds)
def test_the_same_arguments_give_the_same_scene(task: str, variant: str, seed: int) -> None:
    assert sample_scene(task, variant, seed) == sample_scene(task, variant, seed)


@quick
@given(tasks, seeds)
def test_naming_the_goal_that_was_drawn_changes_nothing(task: str, seed: int) -> None:
    drawn = sample_scene(task, "plain", seed)
    assert sample_scene(task, "plain", seed, drawn.goal) == drawn


@quick
@given(st.sampled_from(GOALS), seeds)
def test_the_layout_does_not_depend_on_the_goal(goal: Goal, seed: int) -> None:
    assert changed_fields(sample_scene(goal.task, "plain", seed, goal), sample_scene(goal.task, "plain", seed)) <= {
        "goal"
    }


def test_seeds_give_different_scenes() -> None:
    for task in task_names():
        assert len({sample_scene(task, "plain", seed) for seed in range(50)}) == 50


def test_every_target_is_drawn() -> None:
    drawn = {sample_scene("pick_and_place", "plain", seed).goal.target for seed in range(40)}
    assert drawn == {"red_cube", "blue_box", "yellow_cylinder"}


@quick
@given(tasks, st.sampled_from(tuple(VARIANTS)), seeds)
def test_objects_stand_on_the_table_apart_from_each_other(task: str, variant: str, seed: int) -> None:
    spec = sample_scene(task, variant, seed)
    for i, entry in enumerate(spec.objects):
        assert entry.position[2] == pytest.approx(entry.size[2] / 2)
        assert 0.30 <= entry.position[0] <= 0.65
        assert abs(entry.position[1]) <= 0.30
        assert abs(entry.yaw) <= math.pi / 4
        for other in spec.objects[:i]:
            assert math.dist(entry.position[:2], other.position[:2]) >= 0.07
        if spec.bin:
            assert spec.bin.position[1] - entry.position[1] > 0.15


@quick
@given(tasks, seeds)
def test_the_strip_is_never_used_by_plain(task: str, seed: int) -> None:
    plain, held_out = sample_scene(task, "plain", seed), sample_scene(task, "held_out_strip", seed)
    if plain.drawer and held_out.drawer:
        assert held_out.drawer.position[0] < 0.57 <= plain.drawer.position[0]
        assert replace(held_out.drawer, position=plain.drawer.position) == plain.drawer
        assert changed_fields(plain, held_out) == {"variant", "drawer"}
        return
    target = held_out.object(held_out.goal.target)
    assert STRIP_X[0] <= target.position[0] <= STRIP_X[1]
    assert all(PLAIN_X[0] <= entry.position[0] <= PLAIN_X[1] for entry in plain.objects)
    for before, after in zip(plain.objects, held_out.objects, strict=True):
        if after is target:
            assert replace(after, position=before.position) == before
        else:
            assert after == before
    assert changed_fields(plain, held_out) == {"variant", "objects"}


@quick
@given(tasks, seeds)
def test_object_size_changes_sizes_only(task: str, seed: int) -> None:
    plain, sized = sample_scene(task, "plain", seed), sample_scene(task, "object_size", seed)
    assert changed_fields(plain, sized) == {"variant", "drawer" if plain.drawer else "objects"}
    for before, after in zip(plain.objects, sized.objects, strict=True):
        ratio = after.size[0] / before.size[0]
        assert 0.75 <= ratio <= 0.85 or 1.10 <= ratio <= 1.18
        assert max(after.size[1], min(after.size[:2])) < 0.075
        assert replace(after, size=before.size, position=before.position) == before
        assert after.position[:2] == before.position[:2]
    if plain.drawer and sized.drawer:
        assert replace(sized.drawer, scale=1.0) == plain.drawer
        assert sized.drawer.scale != 1.0


@quick
@given(tasks, seeds)
def test_friction_changes_friction_and_mass_only(task: str, seed: int) -> None:
    plain, slippery = sample_scene(task, "plain", seed), sample_scene(task, "friction", seed)
    assert changed_fields(plain, slippery) == {"variant", "drawer" if plain.drawer else "objects"}
    for before, after in zip(plain.objects, slippery.objects, strict=True):
        assert after.friction < 0.5 * before.friction
        assert replace(after, friction=before.friction, mass=before.mass) == before
    if plain.drawer and slippery.drawer:
        assert slippery.drawer.friction == 2 * plain.drawer.friction
        assert slippery.drawer.handle_friction < plain.drawer.handle_friction


@quick
@given(tasks, seeds)
def test_camera_shift_moves_cameras_only(task: str, seed: int) -> None:
    plain, shifted = sample_scene(task, "plain", seed), sample_scene(task, "camera_shift", seed)
    assert changed_fields(plain, shifted) == {"variant", "camera_offsets"}
    for name in ("front", "wrist"):
        offset = shifted.camera_offset(name)
        assert 0.0149 <= math.hypot(*offset.translation) <= 0.0301
        assert math.radians(1.9) <= math.hypot(*offset.rotation) <= math.radians(4.1)
        assert plain.camera_offset(name).translation == (0.0, 0.0, 0.0)


def test_an_unknown_variant_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UnknownVariantError, match=r"'windy'.*plain, held_out_strip"):
        sample_scene("push", "windy", 0)


def test_an_unknown_task_is_refused() -> None:
    with pytest.raises(UnknownTaskError, match="'juggle'"):
        sample_scene("juggle", "plain", 0)


def test_a_negative_seed_is_refused() -> None:
    with pytest.raises(ValueError, match="-1"):
        sample_scene("push", "plain", -1)


def test_a_goal_of_another_task_is_refused() -> None:
    with pytest.raises(ValueError, match="red_cube"):
        sample_scene("push", "plain", 0, Goal("stack", "red_cube"))


def test_an_object_that_a_scene_lacks_is_named_with_those_it_has() -> None:
    with pytest.raises(KeyError, match=r"teapot.*yellow_cylinder"):
        sample_scene("push", "plain", 0).object("teapot")
