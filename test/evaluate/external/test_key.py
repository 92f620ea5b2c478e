# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0

from __future__ import annotations

import numpy as np
import pytest

from flow_rag_vla.evaluate.external.key import FREQUENCIES, KernelKey


def test_a_key_has_length_one():
    key = KernelKey(6, 2.0)
    vectors = np.random.default_rng(0).normal(size=(20, 6)) * 100.0
    np.testing.assert_allclose([np.linalg.norm(key(vector)) for vector in vectors], 1.0, atol=1e-5)
    assert key.dimension == len(key(vectors[0]))


@pytest.mark.parametrize("scale", [1.0, 3.0])
def test_the_cosine_of_two_keys_is_the_gaussian_kernel_of_the_situations(scale):
    key = KernelKey(5, scale)
    generator = np.random.default_rng(1)
    for distance in (0.0, 0.1, 0.5, 1.0, 2.0):
        step = generator.normal(size=(40, 5))
        step *= distance * scale / np.linalg.norm(step, axis=1, keepdims=True)
        starts = generator.normal(size=(40, 5))
        cosines = np.array([key(one) @ key(one + move) for one, move in zip(starts, step, strict=True)])
        kernel = np.exp(-(distance**2) / 2.0)
        # Four times the standard deviation that the module states.
        allowed = 4.0 * (1.0 - kernel**2) / np.sqrt(2.0 * FREQUENCIES) + 1e-5
        np.testing.assert_allclose(cosines, kernel, atol=allowed)


def test_keys_of_other_settings_have_another_revision():
    assert KernelKey(5, 1.0).revision == KernelKey(5, 1.0).revision
    assert len({KernelKey(5, 1.0).revision, KernelKey(5, 2.0).revision, KernelKey(5, 1.0, seed=1).revision}) == 3


def test_a_length_scale_of_nothing_is_refused():
    with pytest.raises(ValueError, match="length_scale is 0"):
        KernelKey(5, 0.0)
