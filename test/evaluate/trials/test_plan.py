# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.evaluate.trials.plan import fresh_starts, make_plan, preset, repeat_starts, words
from flow_rag_vla.evaluate.trials.protocol import EXACT, FRESH, NEARBY, ONLINE, Start, TrialError
from flow_rag_vla.evaluate.trials.simulated_spec import SimulatedSpec
from flow_rag_vla.evaluate.trials.variants import parse_all

SPECS = (SimulatedSpec("push", "plain", "a@1"), SimulatedSpec("push", "plain", "b@2"))


@given(st.sets(st.integers(0, 10**6), max_size=20), st.integers(1, 4))
def test_failed_starts_come_again_with_noise_that_was_never_used(seeds: set[int], repeats: int) -> None:
    failed = [Start(seed, seed) for seed in sorted(seeds)]
    exact = repeat_starts(failed, repeats, nearby=False)
    nearby = repeat_starts(failed, repeats, nearby=True)
    everything = [*failed, *exact, *nearby]
    assert len(exact) == len(nearby) == repeats * len(failed)
    assert len({(start.seed, start.noise) for start in everything}) == len(everything)
    assert all(start.displaced == 0 for start in exact)
    assert all(start.displaced > 0 for start in nearby)
    assert {start.seed for start in nearby} == seeds


def test_every_variant_meets_the_same_starts_on_every_bench() -> None:
    plan = make_plan(SPECS, parse_all("off"), episodes=3, first_seed=50)
    assert [(item.bench, item.start.seed, item.start.noise) for item in plan.trials] == [
        (spec.key, seed, seed) for seed in (50, 51, 52) for spec in SPECS
    ]
    assert {item.block for item in plan.trials} == {FRESH}


def test_presets_hold_the_controls_that_they_promise() -> None:
    assert [str(item) for item in preset("controls", "guide", dagger=True).variants] == [
        "off", "retry", "blend", "shuffled+guide", "dagger", "guide:50", "guide:100", "guide",
    ]  # fmt: skip
    assert preset("controls").repeats == 1
    small = {str(item) for item in preset("controls", "guide", bank_episodes=100).variants}
    assert "guide:50" in small
    assert "guide:100" not in small
    ablation = preset("ablation")
    assert list(ablation.labels.values()) == ["flow only", "RAG only", "sequential", "parallel"]
    assert {str(item) for item in ablation.variants} == set(ablation.labels)
    # Whatever on means: an ablation that was run before is the same one now.
    assert ablation.labels["dispatch"] == "parallel"
    assert str(preset("controls").variants[-1]) == "dispatch"
    online = preset("online", "guide")
    assert online.online
    assert [str(item) for item in online.variants] == ["off", "online+guide"]


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (lambda: preset("all"), "known: ablation"),
        (lambda: preset("controls", "retry"), "uses cases"),
        (lambda: preset("online", "guide:50"), "uses cases"),
        (lambda: fresh_starts(0, 1), "at least 1"),
        (lambda: make_plan(SPECS[:1] * 2, (), episodes=1, first_seed=0), "two benches"),
        (lambda: make_plan(SPECS, parse_all("guide"), episodes=1, first_seed=0), "--cases"),
        (lambda: make_plan(SPECS, parse_all("dagger"), episodes=1, first_seed=0), "--dagger"),
        (lambda: make_plan(SPECS, parse_all("online"), episodes=1, first_seed=0), "--preset online"),
        (lambda: make_plan(SPECS, parse_all("online"), episodes=1, first_seed=0, online=True), "--output"),
    ],
)
def test_a_plan_that_cannot_be_run_is_refused_with_the_remedy(call, reason: str) -> None:
    with pytest.raises(TrialError, match=reason):
        call()


class Remembering(SimulatedSpec):
    """A bench whose memory was built from seed 7."""

    __slots__ = ()

    def failed_starts(self) -> tuple[Start, ...]:
        return (Start(7, 7),)


def test_seeds_that_the_memory_was_built_from_are_not_fresh() -> None:
    spec = Remembering("push", "plain", "a@1")
    with pytest.raises(TrialError, match="seed 7"):
        make_plan([spec], (), episodes=5, first_seed=5)
    plan = make_plan([spec], (), episodes=1, first_seed=8, repeats=2)
    assert [item.block for item in plan.trials] == [FRESH, EXACT, EXACT, NEARBY, NEARBY]
    ordered = make_plan([spec], (), episodes=2, first_seed=8, online=True)
    assert [(item.block, item.place) for item in ordered.trials] == [(ONLINE, 0), (ONLINE, 1)]


def test_lists_with_commas_and_repeated_options_are_one_list() -> None:
    assert words(["push, stack", "plain"]) == ["push", "stack", "plain"]
    assert words(None) == []
