# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import sys

import numpy as np
import pytest

from flow_rag_vla.evaluate.external.demonstrations import collect, demonstrate
from flow_rag_vla.evaluate.external.environment import ExternalError
from flow_rag_vla.evaluate.external.tasks import METAWORLD_TASKS, external_task


@pytest.mark.parametrize("name", ["push", "", "metaworld/", "gym", "atari/Pong"])
def test_a_name_that_is_none_is_refused_with_how_names_are_written(name):
    with pytest.raises(ExternalError, match="give metaworld/<task> or gym/<environment id>"):
        external_task(name)


def test_an_unknown_environment_is_refused_by_name():
    with pytest.raises(ExternalError, match="NoSuchThing-v9"):
        external_task("gym/NoSuchThing-v9")
    with pytest.raises(ExternalError, match=r"fold-laundry.*it knows.*drawer-open-v3"):
        external_task("metaworld/fold-laundry")


@pytest.mark.parametrize(
    ("module", "name", "extra"),
    [("gymnasium", "gym/Pendulum-v1", "gymnasium"), ("metaworld.env_dict", "metaworld/push-v3", "metaworld")],
)
def test_a_package_that_is_not_installed_names_its_extra(monkeypatch, module, name, extra):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ExternalError, match=rf"pip install 'flow_rag_vla\[{extra}\]'"):
        external_task(name)


def test_an_environment_of_gymnasium_runs_by_its_id():
    task = external_task("gym/MountainCarContinuous-v0")
    with task.make("state") as environment:
        assert (environment.observation_dim, environment.action_dim, environment.step_limit) == (2, 1, 999)
        shown = collect(environment, task.expert(), range(3))
    assert len(shown.episodes) == 3
    assert all(len(episode.actions) < 200 for episode in shown.episodes)


def test_an_environment_without_an_end_of_its_own_is_judged_by_words():
    task = external_task("gym/Pendulum-v1", success="return>=-300", step_limit=20)
    assert task.expert is None
    with task.make("state") as environment:
        environment.reset(0)
        steps = [environment.step(np.zeros(1)) for _ in range(20)]
    assert steps[-1].ended


@pytest.mark.parametrize("name", METAWORLD_TASKS)
def test_metaworld_starts_alike_for_a_seed_and_its_expert_succeeds(name):
    task = external_task(f"metaworld/{name}")
    with task.make("state") as environment:
        first = environment.reset(5)
        shown = demonstrate(environment, task.expert(), 6)
        np.testing.assert_array_equal(environment.reset(5), first)
        assert shown is not None
        assert (environment.observation_dim, environment.action_dim) == (39, 4)
        assert not np.array_equal(shown.observations[0], first)
        # The goal is observed: Meta-World hides it with zeros otherwise.
        assert np.abs(first[-3:]).max() > 0.0


def test_a_restored_moment_of_metaworld_goes_on_as_it_did():
    task = external_task("metaworld/drawer-open-v3")
    with task.make("state") as environment:
        expert = task.expert()
        environment.reset(2)
        for _ in range(30):
            environment.step(environment.normalised(expert(environment.state)))
        moment = environment.snapshot()
        runs = []
        for _ in range(2):
            environment.restore(moment)
            runs.append(
                [environment.step(environment.normalised(expert(environment.state))).observation for _ in range(15)]
            )
    np.testing.assert_array_equal(runs[0], runs[1])


def test_the_way_home_brings_the_hand_back_and_opens_it():
    task = external_task("metaworld/push-v3")
    with task.make("state") as environment:
        first = environment.reset(1)
        home = task.home(environment.state)
        for _ in range(20):
            environment.step(np.array([1.0, -1.0, 0.5, 1.0]))
        away = np.linalg.norm(environment.state[:3] - first[:3])
        for _ in range(30):
            environment.step(np.clip(home(environment.state), -1.0, 1.0))
        assert np.linalg.norm(environment.state[:3] - first[:3]) < 0.02 < 0.1 < away
        assert environment.state[3] > 0.9
