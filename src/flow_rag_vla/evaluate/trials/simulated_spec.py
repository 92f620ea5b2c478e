# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A bench of the simulated robot as it is described, compared and sent to worker processes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from flow_rag_vla.evaluate.rollout import RolloutSettings
from flow_rag_vla.evaluate.trials.bank import open_bank
from flow_rag_vla.evaluate.trials.lessons import PRACTISED, SOURCES
from flow_rag_vla.evaluate.trials.protocol import TrialError
from flow_rag_vla.evaluate.trials.simulated import SimulatedBench
from flow_rag_vla.evaluate.trials.simulated_description import SimulatedDescription, policy_name


@dataclass(frozen=True, slots=True)
class SimulatedSpec(SimulatedDescription):
    """A description that builds its bench in the worker to which it travels; see ``protocol.BenchSpec``."""

    def build(self) -> SimulatedBench:
        """The bench; models are loaded once a process and checkpoint."""
        return SimulatedBench(self)


def simulated_spec(
    task: str,
    scene: str,
    *,
    checkpoint: str | Path | None = None,
    encoder: str = "compact",
    settings: RolloutSettings | None = None,
    cases: str | Path | None = None,
    dagger: str | Path | None = None,
    workspace: str | Path | None = None,
    source: str = "expert",
) -> SimulatedSpec:
    """Describe a bench, after a look at the folders.

    Raises:
        CheckpointError: if a checkpoint cannot be loaded.
        TrialError: if the bank cannot, or nobody is called ``source``.
    """
    if source not in SOURCES and source not in PRACTISED:
        known = ", ".join((*SOURCES, *PRACTISED))
        raise TrialError(f"source of corrections {source!r} is not known; known: {known}")
    return SimulatedSpec(
        task,
        scene,
        policy_name(checkpoint),
        None if checkpoint is None else str(checkpoint),
        encoder,
        settings or RolloutSettings(),
        None if cases is None else str(cases),
        "" if cases is None else open_bank(cases).revision,
        None if dagger is None else str(dagger),
        "" if dagger is None else policy_name(dagger),
        None if workspace is None else str(workspace),
        source,
    )
