# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The bench, sized down: the same scenes each time, so the same figures."""

from __future__ import annotations

import json

import pytest

from flow_rag_vla.labeling.curation.benchmark import balanced_accuracy, measure_curation


def test_the_queue_beats_random_and_planted_mistakes_and_doubles_are_found():
    figures = measure_curation(scenes=8, runs=3, budgets=(8, 16, 32))
    curves = figures.curves
    assert curves["queue"].mean > curves["random"].mean > curves["lowest score"].mean
    assert curves["random"].difference.value == pytest.approx(curves["queue"].mean - curves["random"].mean)
    for noise in (figures.random_noise, figures.systematic_noise, figures.own_errors):
        assert noise.both > 1.5 * noise.random and noise.mistakes > 0
    recall, precision = figures.duplicates.both
    assert recall > 0.5 and precision > 0.9
    assert sum(figures.classes.values()) > 100 and "nothing" in figures.classes
    json.dumps(figures.values(), allow_nan=False)


def test_budgets_that_make_no_sense_or_are_too_great_are_refused():
    with pytest.raises(ValueError, match="multiples of 8"):
        measure_curation(scenes=1, runs=1, budgets=(8, 12))
    with pytest.raises(ValueError, match="give more scenes"):
        measure_curation(scenes=1, runs=1, budgets=(800,))
    assert balanced_accuracy(["a", "a", "a", "b"], ["a", "a", "a", "a"]) == 0.5
