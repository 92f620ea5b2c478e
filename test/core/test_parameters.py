# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Parameter tables: what they accept, and what they say when they do not."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.core.parameters import ParameterError, load_parameters, parameter, parameter_table


@dataclass(frozen=True)
class Example:
    rate: float = parameter(40.0, "Rate", unit="Hz", minimum=1.0, maximum=100.0, live=True)
    steps: int = parameter(6, "Steps", minimum=1)
    solver: str = parameter("euler", "Solver", choices=("euler", "heun"))
    on: bool = parameter(True, "On")
    weights: tuple[float, ...] = parameter((1.0, 2.0), "Weights", minimum=0.0)


def test_what_is_not_named_keeps_its_default():
    assert load_parameters(Example, {}) == Example()


def test_a_whole_number_is_taken_for_a_float():
    assert load_parameters(Example, {"rate": 20}).rate == 20.0


def test_a_word_that_yaml_takes_for_false_is_the_choice_that_was_meant():
    @dataclass(frozen=True)
    class Corrected:
        corrector: str = parameter("consensus", "Corrector", choices=("consensus", "off"))

    assert load_parameters(Corrected, {"corrector": False}).corrector == "off"


def test_a_list_becomes_a_tuple():
    assert load_parameters(Example, {"weights": [1, 2.5]}).weights == (1.0, 2.5)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"rate": 0.5}, r"rate: 0.5 is outside \[1, 100\] Hz"),
        ({"rate": float("nan")}, "not finite"),
        ({"rate": "fast"}, "expected float"),
        ({"rate": True}, "expected float"),
        ({"steps": 0}, r"outside \[1, inf\]"),
        ({"steps": 1.5}, "expected int"),
        ({"steps": False}, "expected int"),
        ({"solver": "rk4"}, "not one of euler, heun"),
        ({"solver": True}, r"solver: True is no text; YAML reads the words on, yes, true as that: write '\"on\"'"),
        ({"on": 1}, "expected bool"),
        ({"weights": "1 2"}, "no list of float"),
        ({"weights": 1.0}, "no list of float"),
        ({"weights": [1.0, -1.0]}, "outside"),
        ({"speed": 1}, "unknown parameter 'speed'; known: rate, steps"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name_and_what_would_be_right(values, said):
    with pytest.raises(ParameterError, match=said):
        load_parameters(Example, values)


names = st.sampled_from(["rate", "steps", "solver", "on", "weights", "x"])
anything = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.lists(st.floats())


@given(st.dictionaries(names, anything))
def test_any_value_is_either_in_range_or_refused(values):
    try:
        loaded = load_parameters(Example, values)
    except ParameterError:
        return
    assert 1.0 <= loaded.rate <= 100.0
    assert loaded.steps >= 1
    assert loaded.solver in ("euler", "heun")
    assert all(weight >= 0 for weight in loaded.weights)


def test_a_table_lists_every_field_in_order():
    table = parameter_table(Example)
    assert [info.name for info in table] == ["rate", "steps", "solver", "on", "weights"]
    assert table[0].live and not table[1].live
    assert table[4].is_list and table[4].type is float


def test_a_field_that_is_not_declared_as_a_parameter_is_a_programming_error():
    @dataclass
    class Bare:
        rate: float = 1.0

    with pytest.raises(TypeError, match=r"Bare\.rate"):
        parameter_table(Bare)
