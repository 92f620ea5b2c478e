# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from flow_rag_vla.core.goal import task_names
from flow_rag_vla.sim.camera import CAMERAS, FRONT, VIEW, WRIST, SceneRenderer, camera_pose
from flow_rag_vla.sim.ground import CameraModel, paint_ground
from flow_rag_vla.sim.scene import CameraOffset, sample_scene
from flow_rag_vla.sim.world import World

NO_HAND = (np.zeros(3), np.array([0.0, 0.0, 0.0, 1.0]))


@pytest.fixture(scope="module")
def renderer() -> Iterator[SceneRenderer]:
    with SceneRenderer(sample_scene("push", "plain", 0)) as made:
        yield made


def pixel(camera: CameraModel, point: np.ndarray, pose: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    eye, axes = pose
    image = camera.intrinsics() @ (axes.T @ (point - eye))
    return image[:2] / image[2]


def middle_of(picture: np.ndarray, colour: str) -> np.ndarray:
    red, green, blue = (picture[..., i].astype(int) for i in range(3))
    masks = {
        "red": (red > 2 * green) & (red > 2 * blue),
        "blue": (blue > 2 * red) & (blue > green + 40),
        "green": (green > red + 50) & (green > blue + 40),
    }
    rows, columns = np.nonzero(masks[colour])
    assert rows.size > 8, f"nothing {colour} in the picture"
    return np.array([columns.mean() + 0.5, rows.mean() + 0.5])


@pytest.mark.parametrize("task", task_names())
@pytest.mark.parametrize("variant", ["plain", "camera_shift"])
def test_mirrored_state_gives_the_same_picture(
    world: World, renderer: SceneRenderer, drive: Any, task: str, variant: str
) -> None:
    spec = sample_scene(task, variant, 8)
    renderer.reset(spec)
    drive(world, spec, ticks=45)
    renderer.update(world.scene_state())
    for camera in CAMERAS:
        assert np.array_equal(renderer.render(camera), world.render(camera)), camera.name


def test_rendering_does_not_disturb_the_world(world: World, drive: Any) -> None:
    spec = sample_scene("stack", "plain", 3)

    def look(tick: int, action: np.ndarray) -> np.ndarray:
        world.render(WRIST)
        return action

    assert np.array_equal(drive(world, spec, 50, interfere=look).states, drive(world, spec, 50).states)


@pytest.mark.parametrize("camera", CAMERAS, ids=lambda camera: camera.name)
def test_a_picture_has_the_size_and_type_that_its_camera_declares(world: World, camera: CameraModel) -> None:
    world.reset(sample_scene("stack", "plain", 3))
    picture = world.render(camera)
    assert picture.shape == (camera.height, camera.width, 3)
    assert picture.dtype == np.uint8
    assert picture.flags.c_contiguous


@pytest.mark.parametrize("camera", [FRONT, VIEW], ids=lambda camera: camera.name)
@pytest.mark.parametrize(("name", "colour"), [("red_cube", "red"), ("blue_box", "blue")])
def test_objects_appear_where_the_camera_matrix_says(world: World, camera: CameraModel, name: str, colour: str) -> None:
    spec = sample_scene("pick_and_place", "plain", 5)
    world.reset(spec)
    expected = pixel(camera, np.array(spec.object(name).position), camera_pose(camera, CameraOffset("x"), NO_HAND))
    assert middle_of(world.render(camera), colour) == pytest.approx(expected, abs=0.015 * camera.width)


def test_the_painted_zone_appears_where_the_camera_matrix_says(world: World) -> None:
    spec = sample_scene("push", "plain", 0)
    assert spec.zone is not None
    world.reset(spec)
    expected = pixel(VIEW, np.array(spec.zone.position), camera_pose(VIEW, CameraOffset("x"), NO_HAND))
    assert middle_of(world.render(VIEW), "green") == pytest.approx(expected, abs=6.0)


def test_the_front_camera_sees_the_whole_workspace() -> None:
    pose = camera_pose(FRONT, CameraOffset("front"), NO_HAND)
    for x in (0.30, 0.62):
        for y in (-0.29, 0.29):
            at = pixel(FRONT, np.array([x, y, 0.02]), pose)
            assert (at > 0).all(), (x, y)
            assert (at < FRONT.width).all(), (x, y)


def test_the_wrist_camera_sees_between_the_fingertips() -> None:
    tool = np.array([0.0, 0.0, 0.1034])
    at = pixel(WRIST, tool, camera_pose(WRIST, CameraOffset("wrist"), NO_HAND))
    assert 0.4 * WRIST.width < at[0] < 0.6 * WRIST.width
    assert 0.5 * WRIST.height < at[1] < 0.95 * WRIST.height


def test_a_shifted_camera_sees_another_picture(world: World) -> None:
    world.reset(sample_scene("stack", "plain", 3))
    plain = [world.render(camera) for camera in (FRONT, WRIST)]
    world.reset(sample_scene("stack", "camera_shift", 3))
    for before, camera in zip(plain, (FRONT, WRIST), strict=True):
        assert not np.array_equal(before, world.render(camera))


def test_an_offset_moves_and_turns_a_camera_by_what_it_says() -> None:
    offset = CameraOffset("front", (0.01, -0.02, 0.0), (0.0, 0.0, 0.05))
    eye, axes = camera_pose(FRONT, CameraOffset("front"), NO_HAND)
    moved, turned = camera_pose(FRONT, offset, NO_HAND)
    assert moved - eye == pytest.approx([0.01, -0.02, 0.0])
    assert np.arccos((np.trace(turned @ axes.T) - 1) / 2) == pytest.approx(0.05)
    assert turned.T @ turned == pytest.approx(np.eye(3), abs=1e-12)


def test_under_the_table_there_is_only_floor() -> None:
    eye, axes = camera_pose(FRONT, CameraOffset("front"), NO_HAND)
    above = paint_ground(FRONT, eye, axes, None)
    below = paint_ground(FRONT, np.array([eye[0], eye[1], -0.1]), axes, None)
    table = above[FRONT.height // 2, FRONT.width // 2]
    assert not (below == table).all(axis=-1).any()


def test_a_camera_that_looks_up_sees_sky_only() -> None:
    upward = replace(FRONT, eye=(0.5, 0.0, 0.5), look_at=(0.5, 0.1, 2.0))
    eye, axes = camera_pose(upward, CameraOffset("front"), NO_HAND)
    assert len(np.unique(paint_ground(upward, eye, axes, None).reshape(-1, 3), axis=0)) == 1


def test_state_of_another_scene_is_refused(world: World, renderer: SceneRenderer) -> None:
    renderer.reset(sample_scene("push", "plain", 0))
    for task in ("stack", "open_drawer"):
        world.reset(sample_scene(task, "plain", 0))
        with pytest.raises(ValueError, match="reset the renderer"):
            renderer.update(world.scene_state())
    world.reset(sample_scene("push", "plain", 0))
    with pytest.raises(ValueError, match="joints of shape"):
        renderer.update(replace(world.scene_state(), joint_positions=np.zeros(7)))


def test_closing_a_renderer_twice_is_harmless() -> None:
    made = SceneRenderer(sample_scene("push", "plain", 0))
    made.close()
    made.close()
