# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What practice is done with: one policy with its encoder and key, and one simulated world."""

from __future__ import annotations

from flow_rag_vla.evaluate.trials.simulated_description import SimulatedDescription, policy_folder
from flow_rag_vla.policy.encoders import make_encoder
from flow_rag_vla.policy.policy import FlowPolicy
from flow_rag_vla.policy.situation import SituationKey
from flow_rag_vla.sim.world import World


class Rig:
    """Loaded once for all episodes of a practice."""

    def __init__(self, spec: SimulatedDescription) -> None:
        """Load what a bench names.

        Raises:
            CheckpointError: if the checkpoint cannot be loaded.
            SituationKeyError: if it holds no readout.
        """
        import torch

        torch.set_num_threads(1)
        self.spec = spec
        self.policy = FlowPolicy.load(spec.checkpoint)
        self.policy.configure(solver=spec.settings.solver, steps=spec.settings.steps, samples=spec.settings.samples)
        self.encoder = make_encoder(spec.encoder)
        self.key = SituationKey.load(policy_folder(spec.checkpoint))
        self.world = World()
        self._copies: World | None = None

    @property
    def copies(self) -> World:
        """A second world, for what is only supposed."""
        if self._copies is None:
            self._copies = World()
        return self._copies

    def close(self) -> None:
        """Free the worlds."""
        self.world.close()
        if self._copies is not None:
            self._copies.close()
