# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.evaluate.intervals import Pairs
from flow_rag_vla.evaluate.trials.analysis import check_plain, compare, plain, reduction, running_share, summarise
from flow_rag_vla.evaluate.trials.protocol import EXACT, FRESH, ONLINE, TrialError


def only_group(results):
    (group,) = summarise(results, {}, draws=50).groups
    return group


def by_name(group):
    return {item.variant: item for item in group.variants}


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=40))
def test_outcomes_are_counted_as_pairs(make_result, outcomes) -> None:
    results = []
    for seed, (old, new) in enumerate(outcomes):
        results += [make_result("guide", seed, new, shaped=3), make_result("off", seed, old)]
    found = by_name(only_group(results))
    (comparison,) = found["guide"].comparisons
    assert comparison.pairs == Pairs.of(outcomes)
    assert found["off"].success.successes == comparison.pairs.first
    assert found["guide"].success.successes == comparison.pairs.second
    assert comparison.difference.value == pytest.approx(
        (comparison.pairs.second - comparison.pairs.first) / len(outcomes)
    )
    assert comparison.helped == comparison.pairs.fixed
    assert comparison.hurt == comparison.pairs.broken
    assert comparison.unexplained == 0
    assert found["guide"].failure.successes == len(outcomes) - found["guide"].success.successes


def test_starts_that_a_variant_has_not_met_are_left_out_and_counted(make_result) -> None:
    results = [make_result("off", seed, False) for seed in range(10)]
    results += [make_result("guide", seed, True) for seed in range(6)]
    group = only_group(results)
    assert (group.starts, group.incomplete) == (6, 4)
    assert by_name(group)["off"].success.trials == 6


def test_what_changed_without_the_memory_doing_anything_is_told_apart(make_result) -> None:
    results = [make_result("off", seed, False) for seed in range(4)]
    results += [make_result("guide", seed, True, shaped=seed % 2) for seed in range(4)]
    (comparison,) = by_name(only_group(results))["guide"].comparisons
    assert (comparison.helped, comparison.hurt, comparison.unexplained) == (2, 0, 2)


def test_methods_that_change_every_episode_are_answerable_for_every_change(make_result) -> None:
    results = [make_result("off", seed, True) for seed in range(4)]
    results += [make_result("sequential", seed, seed > 0) for seed in range(4)]
    summary = by_name(only_group(results))["sequential"]
    assert summary.touched == 4
    assert (summary.comparisons[0].hurt, summary.comparisons[0].unexplained) == (1, 0)


def test_a_question_that_names_its_variants_orders_them(make_result) -> None:
    names = ("off", "dispatch", "rag_only", "sequential")
    results = [make_result(name, seed) for name in names for seed in range(2)]
    labels = {"off": "flow only", "rag_only": "RAG only", "sequential": "sequential", "dispatch": "parallel"}
    (group,) = summarise(results, {"labels": labels}, draws=50).groups
    assert [item.variant for item in group.variants] == list(labels)


def test_a_memory_is_compared_with_each_control_and_controls_with_nothing_but_off(make_result) -> None:
    names = ("off", "guide", "guide:50", "shuffled+guide", "shuffled+dispatch", "retry", "blend")
    found = by_name(only_group([make_result(name, seed) for name in names for seed in range(3)]))
    assert [item.against for item in found["guide"].comparisons] == ["off", "retry", "blend", "shuffled+guide"]
    assert [item.against for item in found["guide:50"].comparisons] == ["off"]
    assert [item.against for item in found["shuffled+guide"].comparisons] == ["off"]
    assert [item.against for item in found["retry"].comparisons] == ["off"]
    assert found["off"].comparisons == ()
    assert next(iter(found)) == "off"


def test_checkpoints_are_pooled_as_clusters_and_tasks_beside_each_other(make_result) -> None:
    results = [
        make_result(name, seed, task=task, policy=policy)
        for name in ("off", "guide")
        for seed in range(4)
        for task in ("push", "stack")
        for policy in ("a@1", "b@2", "c@3")
    ]
    groups = summarise(results, {}, draws=50).groups
    assert [(group.task, group.starts) for group in groups] == [("all", 24), ("push", 12), ("stack", 12)]
    assert {by_name(group)["guide"].comparisons[0].clusters for group in groups} == {3}


def test_blocks_are_kept_apart(make_result) -> None:
    results = [
        make_result(name, seed, block=block) for name in ("off", "on") for seed in (1, 2) for block in (EXACT, FRESH)
    ]
    assert [group.block for group in summarise(results, {}, draws=50).groups] == [FRESH, EXACT]


def test_variants_of_different_starts_are_not_compared(make_result) -> None:
    with pytest.raises(ValueError, match="same starts"):
        compare([make_result(seed=1)], [make_result("guide", seed=2)])


def test_a_repeat_rate_falls_by_the_share_of_failures_that_went_away(make_result) -> None:
    results = [make_result("off", seed, seed < 2, failures=["drop"] * 2, block=EXACT) for seed in range(10)]
    results += [make_result("guide", seed, seed >= 2, failures=["drop"], block=EXACT) for seed in range(10)]
    (comparison,) = by_name(only_group(results))["guide"].comparisons
    assert comparison.failures.value == pytest.approx(1 - 2 / 8)
    assert comparison.events.value == pytest.approx(0.5)
    assert comparison.events.low == comparison.events.high == pytest.approx(0.5)


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), max_size=20))
def test_a_reduction_lies_in_its_interval_or_is_not_known(counts) -> None:
    found = reduction(counts, np.random.default_rng(0), draws=400)
    if sum(before for before, _ in counts) == 0:
        assert found.value is None
    else:
        assert found.value is not None and found.low is not None and found.high is not None
        assert found.low <= found.high <= 1.0


def test_a_learning_curve_has_every_place(make_result) -> None:
    results = [
        make_result(name, 5 + place, name != "off", block=ONLINE, place=place, cases=place)
        for name in ("off", "online+guide")
        for place in range(4)
    ]
    found = by_name(only_group(results))
    assert found["online+guide"].curve == ((1, 1, 0.0), (1, 1, 1.0), (1, 1, 2.0), (1, 1, 3.0))
    assert found["off"].curve[-1] == (0, 1, 3.0)


def test_a_running_share_looks_back_over_its_window() -> None:
    curve = [(0, 1, 0.0), (1, 1, 0.0), (0, 0, 0.0), (1, 1, 0.0)]
    assert running_share(curve, 2) == [0.0, 0.5, 1.0, 1.0]
    assert running_share([(0, 0, 0.0)], 3) == [None]
    with pytest.raises(ValueError, match="window is 0"):
        running_share(curve, 0)


def test_a_summary_is_plain_json_and_the_same_each_time(make_result) -> None:
    results = [make_result(name, seed, seed % 2 == 0) for name in ("off", "guide") for seed in range(9)]
    first, second = (
        json.dumps(plain(summarise(results, {"a": float("nan")}, draws=50)), allow_nan=False) for _ in "ab"
    )
    assert first == second
    assert check_plain(json.loads(first))["about"] == {"a": None}
    for content in ({"format": 99, "groups": []}, {"groups": []}, []):
        with pytest.raises(TrialError, match="summarise the trials again"):
            check_plain(content)


def test_nothing_is_summarised_from_nothing() -> None:
    assert summarise([], {}).groups == ()
