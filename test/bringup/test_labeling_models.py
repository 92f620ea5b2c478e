# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Models that label take turns in a memory that does not hold them all, with the results of models that stay."""

from __future__ import annotations

import numpy as np
import pytest

from flow_rag_vla.bringup.labeling_models import LabelingModels
from flow_rag_vla.labeling.backends import BackendSettings, make_pipeline
from flow_rag_vla.labeling.compact.model import CompactModel
from flow_rag_vla.labeling.pipeline.errors import ModelError
from flow_rag_vla.residency.torch_adapter import module_bytes

SETTINGS = BackendSettings(embedder="compact")


def picture() -> np.ndarray:
    image = np.full((120, 160, 3), 180, dtype=np.uint8)
    image[50:80, 60:90] = (200, 30, 30)
    return image


def test_two_models_in_the_memory_of_one_find_what_both_find_together():
    size = module_bytes([CompactModel.load(None, "cpu").network])
    memory = LabelingModels("cpu", host_bytes=int(1.5 * size))
    pipeline, whole = make_pipeline(SETTINGS, memory), make_pipeline(SETTINGS)
    assert (pipeline.name, pipeline.revision) == (whole.name, whole.revision)
    assert pipeline.detector.vocabulary == whole.detector.vocabulary
    for _ in range(2):
        ours, theirs = (one.label([picture()])[0].detections for one in (pipeline, whole))
        assert len(ours) == len(theirs)
        np.testing.assert_array_equal(ours.embeddings, theirs.embeddings)
    counts = memory._manager.snapshot().counts
    assert counts["evictions"] >= 2 and counts["loads"] >= 4, "they took turns"
    states = {name: state for name, state in memory.figures().items() if name.startswith("model/")}
    assert sorted(states.values()) == ["cold", "resident"]


def test_what_fits_is_loaded_once():
    memory = LabelingModels()
    pipeline = make_pipeline(SETTINGS, memory)
    for _ in range(3):
        pipeline.label([picture()])
    assert memory._manager.snapshot().counts["loads"] == 2


def test_a_model_that_can_never_fit_and_one_that_is_missing_are_told_with_the_remedy(tmp_path):
    with pytest.raises(ModelError, match="host_memory") as told:
        make_pipeline(SETTINGS, LabelingModels("cpu", host_bytes=1000))
    assert told.value.code == "model_too_large"
    with pytest.raises(ModelError) as told:
        make_pipeline(BackendSettings(detector_model=str(tmp_path / "none")), LabelingModels())
    assert str(tmp_path / "none") in str(told.value), "the loader's own error comes through"
    with pytest.raises(ModelError, match="unknown segmenter"):
        make_pipeline(BackendSettings(segmenter="scissors"), LabelingModels())
