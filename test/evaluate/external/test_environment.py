# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.evaluate.external.environment import BoxEnvironment, ExternalError, Outcome, success_rule


def outcome(**values):
    known = {"reward": 0.0, "total_reward": 0.0, "terminated": False, "truncated": False, "info": {}, "step": 1}
    return Outcome(**{**known, **values})


def wrapped(environment, **options):
    return BoxEnvironment(
        environment, **{"name": "test", "success": success_rule("terminated"), "step_limit": 9, **options}
    )


def test_observations_of_a_dict_are_joined_in_the_order_of_its_keys(environment, point):
    observation = environment.reset(3)
    assert environment.observation_dim == 4
    np.testing.assert_allclose(observation, [*point.goal, *point.point], rtol=1e-6)
    assert observation.dtype == np.float32


def test_a_seed_gives_the_same_start_again(environment):
    first = environment.reset(3)
    for _ in range(5):
        environment.step(np.ones(2))
    np.testing.assert_array_equal(environment.reset(3), first)
    assert not np.array_equal(environment.reset(4), first)


@given(st.lists(st.floats(-3.0, 3.0, width=32), min_size=2, max_size=2))
def test_actions_are_given_in_shares_of_their_range_and_cut_to_it(values):
    class Recorder(gymnasium.Env):
        action_space = spaces.Box(np.float32([0.0, -10.0]), np.float32([4.0, 30.0]))
        observation_space = spaces.Box(-1.0, 1.0, (1,))

        def reset(self, *, seed=None, options=None):
            return np.zeros(1), {}

        def step(self, action):
            self.seen = action
            return np.zeros(1), 0.0, False, False, {}

    core = Recorder()
    environment = wrapped(core)
    environment.reset(0)
    environment.step(np.array(values))
    assert core.action_space.contains(core.seen)
    cut = np.clip(values, -1.0, 1.0)
    np.testing.assert_allclose(core.seen, [2.0 + 2.0 * cut[0], 10.0 + 20.0 * cut[1]], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(environment.normalised(core.seen), cut, atol=1e-5)


def test_a_discrete_action_space_is_refused_with_the_remedy():
    with pytest.raises(ExternalError, match=r"CartPole has the action space Discrete\(2\).*ActionWrapper"):
        wrapped(gymnasium.make("CartPole-v1"), name="CartPole")


def test_an_action_without_bounds_is_refused(point):
    point.action_space = spaces.Box(-np.inf, np.inf, (2,))
    with pytest.raises(ExternalError, match="RescaleAction"):
        wrapped(point)


def test_pictures_as_the_state_are_refused_with_the_option_that_takes_them(point):
    point.observation_space = spaces.Box(0, 255, (8, 8, 3), np.uint8)
    with pytest.raises(ExternalError, match="observation=pixels"):
        wrapped(point)


def test_an_observation_of_words_is_refused(point):
    point.observation_space = spaces.Text(5)
    with pytest.raises(ExternalError, match="ObservationWrapper"):
        wrapped(point)


def test_a_number_that_is_none_is_named_with_its_place_and_step(environment, point):
    environment.reset(0)
    point.breaks_after = 2
    environment.step(np.zeros(2))
    with pytest.raises(ExternalError, match=r"observation\[2\] of test/point is nan after step 2"):
        environment.step(np.zeros(2))


@pytest.mark.parametrize("action", [np.array([np.nan, 0.0]), np.zeros(3)])
def test_an_action_that_makes_no_sense_never_reaches_the_environment(environment, point, action):
    environment.reset(0)
    with pytest.raises(ExternalError, match="expected 2 finite numbers"):
        environment.step(action)
    assert point.steps == 0


def test_an_episode_ends_at_the_step_limit(environment, point):
    environment.reset(0)
    point.goal = np.array([2.0, 2.0])
    ends = [environment.step(-np.ones(2)).ended for _ in range(environment.step_limit)]
    assert ends == [False] * 59 + [True]


def test_success_ends_an_episode(environment, point):
    environment.reset(0)
    point.goal = point.point.copy()
    step = environment.step(np.zeros(2))
    assert step.success and step.ended


@pytest.mark.parametrize("make", ["point", "MountainCarContinuous-v0", "Pendulum-v1"])
def test_a_restored_moment_goes_on_as_it_did(make, point):
    environment = wrapped(point if make == "point" else gymnasium.make(make), step_limit=100)
    environment.reset(5)
    actions = np.random.default_rng(0).uniform(-1.0, 1.0, (20, environment.action_dim))
    for action in actions[:6]:
        environment.step(action)
    moment = environment.snapshot()
    first = [environment.step(action) for action in actions]
    environment.restore(moment)
    assert environment.steps == 6
    again = [environment.step(action) for action in actions]
    for one, other in zip(first, again, strict=True):
        np.testing.assert_array_equal(one.observation, other.observation)
        assert (one.reward, one.success, one.ended) == (other.reward, other.success, other.ended)


def test_success_can_be_said_in_words():
    assert success_rule("info:is_success")(outcome(info={"is_success": True}))
    assert not success_rule("info:success")(outcome(info={"success": 0.0}))
    assert success_rule("terminated")(outcome(terminated=True))
    assert success_rule("return>=-200")(outcome(total_reward=-150.0))
    assert not success_rule("return>=-200")(outcome(total_reward=-250.0))
    assert success_rule("steps>=3")(outcome(step=3))
    assert not success_rule("steps>=3")(outcome(step=3, terminated=True))


def test_a_missing_key_names_those_that_are_there():
    with pytest.raises(ExternalError, match="no key 'won'; there are: done, score"):
        success_rule("info:won")(outcome(info={"score": 1, "done": 0}))


@pytest.mark.parametrize("words", ["", "info:", "return>=", "return>=nan", "won", "reward>=3"])
def test_other_words_for_success_are_refused(words):
    with pytest.raises(ExternalError, match="is not understood"):
        success_rule(words)


def test_an_environment_that_renders_nothing_says_how_to_make_it(environment):
    environment.reset(0)
    with pytest.raises(ExternalError, match="render_mode='rgb_array'"):
        environment.frame()


def test_time_is_taken_from_what_the_environment_says(environment, point):
    assert environment.step_seconds == pytest.approx(0.1)
    point.metadata = {}
    assert environment.step_seconds == 1.0
