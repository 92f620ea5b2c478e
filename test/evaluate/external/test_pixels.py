# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import numpy as np
import pytest

from flow_rag_vla.evaluate.external.environment import ExternalError
from flow_rag_vla.evaluate.external.pixels import KEYPOINTS, PixelObserver
from flow_rag_vla.evaluate.external.tasks import external_task


def test_pictures_are_observed_and_tell_where_things_are(point_module):
    task = point_module.point_task()
    with task.make("pixels") as environment:
        assert environment.observation_dim == 3 * KEYPOINTS
        start = environment.reset(1)
        np.testing.assert_array_equal(environment.reset(1), start)
        moved = environment.step(np.ones(2)).observation
        for _ in range(5):
            moved = environment.step(np.ones(2)).observation
        assert environment.frame().shape == (32, 32, 3)
    assert np.abs(moved - start).max() > 1e-3


def test_what_is_felt_stands_beside_the_pictures(point_module):
    core = point_module.PointMass("rgb_array")
    core.reset(seed=0)
    observer = PixelObserver("test", {"one": lambda env: env.render(), "two": lambda env: env.render()}, felt=2)
    seen = observer.observe(core, np.array([0.25, -0.5, 9.0]))
    assert seen.shape == (observer.dimension,) == (6 * KEYPOINTS + 2,)
    np.testing.assert_array_equal(seen[-2:], [0.25, -0.5])
    np.testing.assert_array_equal(seen[: 3 * KEYPOINTS], seen[3 * KEYPOINTS : -2])


def test_an_environment_that_does_not_render_is_refused(point_module):
    core = point_module.PointMass(None)
    core.reset(seed=0)
    with pytest.raises(ExternalError, match="rgb_array"):
        PixelObserver("test").observe(core, np.zeros(4))


def test_metaworld_renders_without_a_display():
    task = external_task("metaworld/drawer-open-v3")
    with task.make("pixels") as environment:
        try:
            first = environment.reset(3)
        except ExternalError as error:
            pytest.skip(f"this machine has no EGL: {error}")
        other = environment.reset(4)
    assert first.shape == (3 * KEYPOINTS + 4,)
    assert np.abs(first - other)[: 3 * KEYPOINTS].max() > 1e-3


def test_pictures_are_rendered_only_where_the_policy_looks(point_module, prepared_folder):
    rendered = []

    class Watched(point_module.PointMass):
        def render(self):
            rendered.append(self.steps)
            return super().render()

    def task(observation):
        made = point_module.task_of("test/point", lambda: Watched("rgb_array"), success="info:success", step_limit=20)
        return made.make(observation)

    with task("pixels") as environment:
        first = environment.reset(0)
        assert rendered == [0]
        unseen = environment.step(np.ones(2), look=False)
        np.testing.assert_array_equal(unseen.observation, first)
        assert rendered == [0]
        environment.step(np.ones(2))
        assert rendered == [0, 2]
    with task("state") as environment:
        first = environment.reset(0)
        assert np.abs(environment.step(np.ones(2), look=False).observation - first).max() > 0.0
