# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import numpy as np
import pytest

from flow_rag_vla.evaluate.external.demonstrations import collect, load_demonstrations, save_demonstrations
from flow_rag_vla.evaluate.external.environment import ExternalError


@pytest.fixture
def shown(environment, point_module):
    return collect(environment, point_module.straight_to_the_goal, range(4))


def test_only_successes_are_kept_and_the_others_named(environment, point_module):
    def gives_up_far_away(state):
        near = np.linalg.norm(state["goal"] - state["point"]) < 1.0
        return point_module.straight_to_the_goal(state) if near else np.full(2, 2.0)

    found = collect(environment, gives_up_far_away, range(12))
    assert 0 < len(found.episodes) < 12
    assert sorted([episode.seed for episode in found.episodes] + list(found.refused)) == list(range(12))


def test_an_expert_that_never_succeeds_is_an_error(environment):
    with pytest.raises(ExternalError, match="succeeded at none of 2 seeds"):
        collect(environment, lambda state: np.full(2, 2.0), range(2))


def test_what_is_recorded_is_what_the_expert_wanted_not_the_noise(environment, point_module):
    (episode,) = collect(environment, point_module.straight_to_the_goal, [1], noise=0.3).episodes
    for observation, action in zip(episode.observations, episode.actions, strict=True):
        state = {"goal": observation[:2], "point": observation[2:]}
        wanted = environment.normalised(point_module.straight_to_the_goal(state))
        np.testing.assert_allclose(action, wanted, atol=1e-4)


def test_each_moment_is_a_sample_and_the_last_action_repeats(shown):
    situations, chunks = shown.windows(6)
    first = shown.episodes[0]
    assert len(situations) == len(chunks) == sum(len(episode.actions) for episode in shown.episodes)
    np.testing.assert_array_equal(chunks[0], first.actions[:6])
    np.testing.assert_array_equal(chunks[len(first.actions) - 1], np.repeat(first.actions[-1:], 6, axis=0))


def test_a_file_comes_back_as_it_was(shown, tmp_path):
    save_demonstrations(shown, tmp_path / "shown.npz")
    found = load_demonstrations(tmp_path / "shown.npz")
    assert (found.task, found.observation, found.refused) == (shown.task, shown.observation, shown.refused)
    for one, other in zip(found.episodes, shown.episodes, strict=True):
        assert one.seed == other.seed
        np.testing.assert_array_equal(one.observations, other.observations)
        np.testing.assert_array_equal(one.actions, other.actions)


@pytest.mark.parametrize("damage", ["missing", "cut", "other", "nan", "lengths"])
def test_a_damaged_file_is_refused(shown, tmp_path, damage):
    path = tmp_path / "shown.npz"
    save_demonstrations(shown, path)
    with np.load(path) as stored:
        arrays = dict(stored)
    if damage == "missing":
        path.unlink()
    elif damage == "cut":
        path.write_bytes(path.read_bytes()[:200])
    else:
        if damage == "other":
            del arrays["actions"]
        elif damage == "nan":
            arrays["actions"][3] = np.nan
        else:
            arrays["lengths"][0] += 1
        np.savez(path, **arrays)
    with pytest.raises(ExternalError, match="collect anew"):
        load_demonstrations(path)
