# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Results and cases made by hand, for the logic of trials."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.evaluate.trials.protocol import FRESH, FailureSeen, Intervention, Start, Trial, TrialResult
from flow_rag_vla.memory.case import FailureCase

MakeResult = Callable[..., TrialResult]
MakeCase = Callable[..., FailureCase]


@pytest.fixture(scope="session")
def make_result() -> MakeResult:
    def make(
        variant: str = "off",
        seed: int = 1,
        success: bool = True,
        *,
        task: str = "push",
        scene: str = "plain",
        policy: str = "a@1",
        block: str = FRESH,
        place: int = 0,
        failures: Sequence[str] = (),
        shaped: int = 0,
        noise: int | None = None,
        displaced: int = 0,
        **more: object,
    ) -> TrialResult:
        start = Start(seed, seed if noise is None else noise, displaced)
        return TrialResult(
            Trial(f"hand/{task}/{scene}/{policy}", variant, start, block, place),
            task, scene, policy, success,
            duration=2.5 if success else 12.0,
            observations=20,
            failures=tuple(FailureSeen(kind, 1.5) for kind in failures),
            interventions=(Intervention("guidance", shaped, (3,)),) if shaped else (),
            **more,
        )  # fmt: skip

    return make


@pytest.fixture(scope="session")
def make_case() -> MakeCase:
    def make(number: int, *, task: str = "push", phase: str = "reach", correction: float | None = 0.0) -> FailureCase:
        embedding = np.random.default_rng(number).normal(size=8)
        actions = np.full((16, 7), 0.00002 * number, dtype=np.float32)
        return FailureCase(
            FailureType.COLLISION,
            task,
            phase,
            "hand",
            "1",
            (embedding / np.linalg.norm(embedding)).astype(np.float32),
            actions,
            None if correction is None else actions + np.float32(correction + 0.000001 * number),
            "" if correction is None else "expert",
        )

    return make
