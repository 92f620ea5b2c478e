# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.policy.flow import flow_matching_loss, integrate, path_point


@given(time=st.floats(0.0, 1.0))
def test_the_path_is_straight_from_noise_to_data(time: float) -> None:
    noise, data = torch.tensor([[1.0, -2.0]]), torch.tensor([[3.0, 4.0]])
    point, velocity = path_point(noise, data, torch.tensor([time]))
    assert torch.allclose(point, noise + time * (data - noise), atol=1e-5)
    assert torch.equal(velocity, data - noise)


def test_a_constant_velocity_is_integrated_exactly_by_both_methods() -> None:
    noise = torch.zeros(2, 3)
    for method in ("euler", "heun"):
        end = integrate(lambda x, t: torch.full_like(x, 2.0), noise, steps=7, method=method)
        assert torch.allclose(end, torch.full_like(noise, 2.0), atol=1e-6)


def test_heun_is_nearer_to_the_solution_than_euler_at_the_same_steps() -> None:
    start = torch.ones(1, 1)
    exact = torch.exp(torch.tensor(1.0))
    errors = {
        method: abs(float(integrate(lambda x, t: x, start, steps=8, method=method)) - float(exact))
        for method in ("euler", "heun")
    }
    assert errors["heun"] < 0.5 * errors["euler"]


def test_more_steps_bring_euler_nearer_to_the_solution() -> None:
    errors = [
        abs(float(integrate(lambda x, t: -3 * x, torch.ones(1, 1), steps=steps)) - float(torch.exp(torch.tensor(-3.0))))
        for steps in (4, 16, 64)
    ]
    assert errors[0] > errors[1] > errors[2]


@pytest.mark.parametrize(("steps", "method", "words"), [(0, "euler", "steps is 0"), (3, "rk4", "rk4")])
def test_impossible_settings_are_refused_by_name(steps: int, method: str, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        integrate(lambda x, t: x, torch.zeros(1, 1), steps=steps, method=method)  # type: ignore[arg-type]


def test_the_true_velocity_has_no_loss_and_a_wrong_one_has() -> None:
    data = torch.full((64, 3), 2.0)

    def true(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        return (2.0 - x) / (1.0 - t[:, None])

    loss = flow_matching_loss(true, data, torch.Generator().manual_seed(0))
    wrong = flow_matching_loss(lambda x, t: true(x, t) + 1.0, data, torch.Generator().manual_seed(0))
    assert float(loss) < 1e-6
    assert float(wrong) == pytest.approx(1.0, rel=1e-3)


def test_elements_of_weight_zero_do_not_count() -> None:
    data = torch.zeros(8, 2)
    weights = torch.tensor([[1.0, 0.0]])

    def spoiled(x: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        slope = -x / (1.0 - t[:, None])
        slope[:, 1] = 1e3
        return slope

    loss = flow_matching_loss(spoiled, data, torch.Generator().manual_seed(1), weights=weights)
    assert float(loss) < 1e-6
