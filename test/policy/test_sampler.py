# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.policy.flow import integrate
from flow_rag_vla.policy.sampler import (
    Attraction,
    Prefix,
    Repulsion,
    draw,
    guided,
    prefix_gain,
    prefix_weights,
)

HORIZON, COLUMNS = 8, 2
MIXING = torch.tensor([[1.0, 0.6], [0.6, 1.0]])


def two_modes(spread: float = 0.15):
    """The exact velocity of an equal mixture of two narrow Gaussians around +1 and -1 in every element."""
    centres = torch.stack([torch.ones(HORIZON, COLUMNS), -torch.ones(HORIZON, COLUMNS)])

    def velocity(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        now = t.reshape(-1, 1, 1)
        variance = (1 - now) ** 2 + (spread * now) ** 2
        distance = ((x[:, None] - now[:, None] * centres) ** 2).sum(dim=(2, 3)) / (2 * variance.reshape(-1, 1))
        share = torch.softmax(-distance, dim=1)[..., None, None]
        ends = centres + (spread**2 * now / variance)[:, None] * (x[:, None] - now[:, None] * centres)
        return ((share * ends).sum(dim=1) - x) / (1 - now)

    return velocity


def correlated(mean: torch.Tensor):
    """The exact velocity of a Gaussian whose columns are correlated: its Jacobian is no multiple of the identity."""

    def velocity(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        now = float(t[0])
        gain = now * MIXING @ torch.linalg.inv((1 - now) ** 2 * torch.eye(COLUMNS) + now**2 * MIXING)
        end = mean + (x - now * mean) @ gain.T
        return (end - x) / (1 - now)

    return velocity


def sample(velocity, **guidance):
    return draw(velocity, (HORIZON, COLUMNS), torch.Generator().manual_seed(5), samples=8, steps=12, **guidance)


@given(horizon=st.integers(1, 32), delay=st.integers(-3, 40), overlap=st.integers(-3, 40))
def test_prefix_weights_start_at_one_never_rise_and_end_at_zero(horizon: int, delay: int, overlap: int) -> None:
    weights = prefix_weights(horizon, delay, overlap)
    used = max(0, min(overlap, horizon))
    frozen = max(0, min(delay, used))
    assert weights.shape == (horizon,)
    assert bool((weights[:frozen] == 1).all())
    assert bool((weights[used:] == 0).all())
    assert bool((weights[:-1] >= weights[1:]).all())
    assert bool(((weights[frozen:used] > 0) & (weights[frozen:used] < 1)).all())


@given(time=st.floats(0.0, 1.0), steps=st.integers(1, 50))
def test_one_guided_step_never_overshoots(time: float, steps: int) -> None:
    gain = prefix_gain(time, 1.0 / steps)
    assert 0.0 < gain / steps <= 1.0 + 1e-6
    assert math.isfinite(gain)


def test_the_same_seed_gives_the_same_chunk_and_another_seed_another() -> None:
    def one(seed: int) -> torch.Tensor:
        return draw(two_modes(), (HORIZON, COLUMNS), torch.Generator().manual_seed(seed), samples=3, steps=5).chosen

    assert torch.equal(one(1), one(1))
    assert not torch.equal(one(1), one(2))


def test_the_chosen_chunk_lies_in_a_mode_and_not_between_two() -> None:
    drawn = sample(two_modes())
    assert set(drawn.samples.mean(dim=(1, 2)).sign().tolist()) == {1.0, -1.0}
    assert float(drawn.chosen.abs().mean()) == pytest.approx(1.0, abs=0.2)


def test_spread_is_large_where_samples_disagree_and_zero_for_one_sample() -> None:
    assert float(sample(two_modes()).spread.min()) > 0.5
    alone = draw(two_modes(), (HORIZON, COLUMNS), torch.Generator().manual_seed(0), samples=1, steps=4)
    assert float(alone.spread.abs().max()) == 0.0


def test_a_prefix_decides_the_mode_and_the_rows_after_it_follow() -> None:
    for sign in (1.0, -1.0):
        rows = torch.full((HORIZON, COLUMNS), sign)
        drawn = sample(two_modes(), prefix=Prefix(rows, prefix_weights(HORIZON, 3, 6)))
        assert bool((drawn.samples[:, :3].mean(dim=(1, 2)).sign() == sign).all())
        assert bool((drawn.samples[:, 6:].mean(dim=(1, 2)).sign() == sign).all())


def test_identity_guidance_meets_the_prefix_as_the_exact_jacobian_does() -> None:
    mean = torch.zeros(HORIZON, COLUMNS)
    velocity, steps = correlated(mean), 20
    prefix = Prefix(torch.full((HORIZON, COLUMNS), 0.8), prefix_weights(HORIZON, 4, 4))

    def exact(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            point = x.detach().requires_grad_()
            slope = velocity(point, t)
            end = point + (1 - float(t[0])) * slope
            error = (prefix.rows - end.detach()) * prefix.weights[None, :, None]
            (pulled,) = torch.autograd.grad(end, point, error)
        return slope.detach() + prefix_gain(float(t[0]), 1.0 / steps) * pulled

    noise = torch.randn((16, HORIZON, COLUMNS), generator=torch.Generator().manual_seed(2))
    plain = integrate(velocity, noise, steps=steps)
    identity = integrate(guided(velocity, step=1.0 / steps, prefix=prefix), noise, steps=steps)
    jacobian = integrate(exact, noise, steps=steps)

    def miss(chunks: torch.Tensor) -> float:
        return float((chunks[:, :4] - prefix.rows[:4]).abs().mean())

    assert miss(identity) < 0.15 * miss(plain)
    assert miss(jacobian) < 0.15 * miss(plain)
    # Rows that the prefix does not reach are not touched by either: rows are independent here.
    assert torch.allclose(identity[:, 4:], plain[:, 4:], atol=1e-5)
    assert torch.allclose(jacobian[:, 4:], plain[:, 4:], atol=1e-5)


def test_full_attraction_picks_the_mode_of_the_correction() -> None:
    weights = torch.ones(HORIZON)
    for sign in (1.0, -1.0):
        wanted = Attraction(torch.full((HORIZON, COLUMNS), sign), weights, 1.0)
        drawn = sample(two_modes(), attraction=wanted)
        assert bool((drawn.samples.mean(dim=(1, 2)).sign() == sign).all())


def test_attraction_to_the_middle_of_two_modes_still_ends_in_one() -> None:
    drawn = sample(two_modes(), attraction=Attraction(torch.zeros(HORIZON, COLUMNS), torch.ones(HORIZON), 0.5))
    assert float(drawn.samples.mean(dim=(1, 2)).abs().min()) > 0.7


def test_rows_of_weight_zero_are_not_attracted() -> None:
    weights = torch.zeros(HORIZON)
    wanted = Attraction(torch.ones(HORIZON, COLUMNS), weights, 1.0)
    assert torch.equal(sample(two_modes(), attraction=wanted).samples, sample(two_modes()).samples)


def test_a_failed_mode_is_avoided() -> None:
    for sign in (1.0, -1.0):
        failed = Repulsion(torch.full((1, HORIZON, COLUMNS), sign), 1.0)
        assert float(sample(two_modes(), repulsion=failed).chosen.mean()) * sign < -0.7


def test_repulsion_pushes_away_from_where_it_failed() -> None:
    velocity = correlated(torch.zeros(HORIZON, COLUMNS))
    failed = Repulsion(torch.zeros(1, HORIZON, COLUMNS), 1.0)
    near, far = sample(velocity).samples, sample(velocity, repulsion=failed).samples
    assert float(far.pow(2).mean()) > float(near.pow(2).mean())


def test_no_sample_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="samples is 0"):
        draw(two_modes(), (HORIZON, COLUMNS), torch.Generator(), samples=0, steps=2)
