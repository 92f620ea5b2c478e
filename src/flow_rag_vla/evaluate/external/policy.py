# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A small flow-matching policy over a vector of observations, and its checkpoint.

The flow, the velocity network and the sampler are the robot's own (``policy.flow``, ``policy.velocity``,
``policy.sampler``); only the dimensions differ.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from flow_rag_vla.core.files import file_revision, replaced_file, write_text
from flow_rag_vla.evaluate.external.environment import ExternalError
from flow_rag_vla.policy.sampler import Attraction, Draw, Prefix, Repulsion, draw
from flow_rag_vla.policy.velocity import VelocityConfig, VelocityNetwork

CONFIG_FILE = "policy.json"
WEIGHTS_FILE = "policy.safetensors"
CONSTANT_BELOW = 1e-4
"""Standard deviation below which a number does not vary in the demonstrations; it is left out."""
LEAST_SHARE = 0.25
"""Of the median deviation: a number that hardly varies in the demonstrations must not be blown up. An object that
always lay flat there lies on its side after a failure: tens of its own deviations away."""
LARGEST_SITUATION = 5.0
"""Standard deviations: what is farther away says no more than that it is far."""
_FORMAT = "flow_rag_vla.external_policy/1"


@dataclass(frozen=True, slots=True)
class ExternalPolicyConfig:
    """What a checkpoint says beside its weights. training: plain values for the reader, not used."""

    task: str
    observation: str
    velocity: VelocityConfig
    training: Mapping[str, Any] = field(default_factory=dict)


class ExternalNetwork(nn.Module):
    """Standardisation of observations and the velocity network."""

    mean: torch.Tensor
    scale: torch.Tensor

    def __init__(self, config: VelocityConfig) -> None:
        super().__init__()
        self.velocity = VelocityNetwork(config)
        self.register_buffer("mean", torch.zeros(config.condition_dim))
        self.register_buffer("scale", torch.ones(config.condition_dim))

    def fit(self, observations: torch.Tensor) -> None:
        """Take mean and deviation from observations (N, D)."""
        deviation = observations.std(dim=0, correction=0)
        self.mean.copy_(observations.mean(dim=0))
        varies = deviation >= CONSTANT_BELOW
        floor = LEAST_SHARE * float(deviation[varies].median()) if bool(varies.any()) else 1.0
        self.scale.copy_(torch.where(varies, 1.0 / deviation.clamp(min=floor), 0.0))

    def situation(self, observations: torch.Tensor) -> torch.Tensor:
        """(B, D) to standardised (B, D); 0 where the demonstrations never vary."""
        return ((observations - self.mean) * self.scale).clamp(-LARGEST_SITUATION, LARGEST_SITUATION)


class ChunkPolicy:
    """Draws chunks of actions. Not safe for use by two threads at once."""

    def __init__(
        self, network: ExternalNetwork, config: ExternalPolicyConfig, *, steps: int = 6, samples: int = 4
    ) -> None:
        """Take a network over; ``steps`` of integration, ``samples`` drawn at once."""
        self.network = network.eval().requires_grad_(False)
        self.config = config
        self.steps = steps
        self.samples = samples

    @property
    def horizon(self) -> int:
        """Rows H of a chunk."""
        return self.config.velocity.horizon

    def situation(self, observation: NDArray[np.floating]) -> NDArray[np.float32]:
        """(D,) observation to (D,) standardised."""
        with torch.inference_mode():
            row = torch.as_tensor(observation, dtype=torch.float32)[None]
            return np.asarray(self.network.situation(row)[0].numpy(), dtype=np.float32)

    @torch.inference_mode()
    def draw(
        self,
        situation: NDArray[np.float32],
        seed: int,
        *,
        prefix: Prefix | None = None,
        attraction: Attraction | None = None,
        repulsion: Repulsion | None = None,
    ) -> Draw:
        """Draw chunks (H, A) for a standardised situation (D,); a seed gives the same noise whatever guides it."""
        embedded = self.network.velocity.embed(torch.from_numpy(situation)[None])

        def velocity(chunk: torch.Tensor, time: torch.Tensor) -> torch.Tensor:
            return self.network.velocity.velocity(chunk, time, embedded)

        return draw(
            velocity,
            (self.horizon, self.config.velocity.action_dim),
            torch.Generator().manual_seed(seed),
            samples=self.samples,
            steps=self.steps,
            prefix=prefix,
            attraction=attraction,
            repulsion=repulsion,
        )


def save_policy(network: ExternalNetwork, config: ExternalPolicyConfig, folder: str | Path) -> str:
    """Write a policy to a folder, each file as a whole; give its revision."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with replaced_file(folder / WEIGHTS_FILE) as temporary:
        save_file({key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}, temporary)
    values = {"format": _FORMAT, **asdict(config), "training": dict(config.training)}
    write_text(folder / CONFIG_FILE, json.dumps(values, indent=2) + "\n")
    return file_revision(folder / CONFIG_FILE, folder / WEIGHTS_FILE)


def load_policy(folder: str | Path) -> tuple[ExternalNetwork, ExternalPolicyConfig, str]:
    """Read a policy: network, configuration, revision.

    Raises:
        ExternalError: when files are missing, damaged, of another version, or hold numbers that are not finite.
    """
    folder = Path(folder)
    try:
        values = json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8"))
        if values.pop("format", None) != _FORMAT:
            raise ExternalError(f"{folder / CONFIG_FILE} is not of format {_FORMAT!r}; train anew")
        velocity = VelocityConfig(**values.pop("velocity"))
        config = ExternalPolicyConfig(velocity=velocity, **values)
        network = ExternalNetwork(velocity)
        network.load_state_dict(load_file(folder / WEIGHTS_FILE))
    except ExternalError:
        raise
    except (OSError, json.JSONDecodeError, KeyError, TypeError, AttributeError, RuntimeError, SafetensorError) as error:
        raise ExternalError(
            f"no policy can be read from {folder} ({type(error).__name__}: {error}); train it anew"
        ) from error
    if not all(bool(torch.isfinite(value).all()) for value in network.state_dict().values()):
        raise ExternalError(f"the weights in {folder / WEIGHTS_FILE} are not all finite; train anew")
    return network, config, file_revision(folder / CONFIG_FILE, folder / WEIGHTS_FILE)
