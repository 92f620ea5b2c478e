# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Causes from logs: which variables there are, how they become states, and what is chosen among them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.deliberation.causes import causes_page, find_causes, ranked, summary
from flow_rag_vla.deliberation.history import EpisodeFact
from flow_rag_vla.deliberation.surd import TooFewError
from flow_rag_vla.deliberation.variables import VariableError, episode_table, most_telling, states_of
from flow_rag_vla.sim.scene import sample_scene


def drawers(episodes: int, variant: str = "object_size") -> list[EpisodeFact]:
    """Drawers of which the large ones stay shut, as nine in ten of the logs say."""
    rng = np.random.default_rng(1)
    facts = []
    for seed in range(episodes):
        drawer = sample_scene("open_drawer", variant, seed).drawer
        assert drawer is not None
        success = (drawer.scale < 1.0) ^ (rng.random() < 0.1)
        facts.append(EpisodeFact("open_drawer", bool(success), 5.0, variant=variant, seed=seed, method="off"))
    return facts


def test_the_variables_of_an_episode_are_those_of_its_start():
    table = episode_table(drawers(20))
    # What is the same in all of them says nothing: task, variant, method, target.
    assert set(table.columns) == {"scale", "friction", "stiffness", "x", "y", "yaw"}
    drawer = sample_scene("open_drawer", "object_size", 7).drawer
    assert table.columns["scale"][7] == drawer.scale and table.columns["y"][7] == drawer.position[1]
    loose = episode_table([EpisodeFact("push", True, 1.0, variant="friction", seed=seed) for seed in range(3)])
    assert {"width", "mass", "friction", "way"} <= set(loose.columns)


def test_an_environment_without_our_scenes_has_its_logs_fields():
    facts = [EpisodeFact("metaworld/push-v3", True, 1.0, variant="state", method=name) for name in ("off", "retry")]
    assert set(episode_table(facts).columns) == {"method"}


def test_the_cause_in_a_log_is_found_by_itself():
    found = find_causes(drawers(400))
    assert found.selected and found.says_something
    assert str(ranked(found.decomposition)[0]) == "unique scale"
    assert "unique scale" in summary(found)
    assert found.cells[0].failures.rate > 0.8 > 0.2 > found.cells[-1].failures.rate
    named = find_causes(drawers(400), ["yaw"])
    assert not named.selected and not named.says_something and "chance" in summary(named)


def test_halves_share_no_start_and_lose_no_episode():
    facts = drawers(50) * 3
    first, second = episode_table(facts).halves()
    assert not set(first.starts) & set(second.starts) and first.episodes + second.episodes == 150


def test_too_few_episodes_and_unknown_variables_are_refused():
    with pytest.raises(TooFewError, match="too few to choose"):
        find_causes(drawers(20))
    with pytest.raises(TooFewError, match="states need"):
        find_causes(drawers(30), ["scale", "yaw", "x"])
    with pytest.raises(VariableError, match="they have: scale"):
        find_causes(drawers(30), ["colour"])
    with pytest.raises(VariableError, match="nothing differs"):
        most_telling(episode_table([EpisodeFact("elsewhere", True, 1.0)] * 3), 2)


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60) | st.lists(st.text(max_size=3), min_size=1, max_size=60),
    st.integers(2, 5),
)
def test_states_are_numbered_without_gaps_and_named_one_by_one(values, bins):
    found = states_of(values, bins)
    assert set(found.labels.tolist()) == set(range(len(found.names)))
    for one, other in zip(values, found.labels, strict=True):
        assert {found.labels[place] for place, value in enumerate(values) if value == one} == {other}


def test_the_page_shows_every_part_and_state_and_no_markup_of_a_log():
    found = find_causes(drawers(200), ["scale"])
    page = causes_page(found, "runs/<script>")
    assert "<script>" not in page and "unique scale" in page
    assert all(cell.states[0] in page for cell in found.cells)
