# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Policy checkpoints: weights as safetensors, everything else as JSON, both named by one hash."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from flow_rag_vla.core.files import file_revision, replaced_file, write_text
from flow_rag_vla.core.goal import GOALS
from flow_rag_vla.policy.encoders.registry import SHIPPED
from flow_rag_vla.policy.network import PolicyNetwork
from flow_rag_vla.policy.readout import ReadoutConfig
from flow_rag_vla.policy.velocity import VelocityConfig

CONFIG_FILE = "policy.json"
WEIGHTS_FILE = "policy.safetensors"
SHIPPED_POLICY = SHIPPED / "policy"
_FORMAT = "flow_rag_vla.flow_policy/1"


class CheckpointError(ValueError):
    """A checkpoint is missing, damaged, or made for another encoder; the message says what to do."""


@dataclass(frozen=True, slots=True)
class EncoderIdentity:
    """The encoder whose embeddings a policy was trained on."""

    name: str
    revision: str
    dimension: int


@dataclass(frozen=True, slots=True)
class PolicyConfig:
    """What a checkpoint says beside its weights. training: plain values for the reader, not used."""

    encoder: EncoderIdentity
    velocity: VelocityConfig
    readout: ReadoutConfig
    name: str = "flow"
    training: Mapping[str, Any] = field(default_factory=dict)


def save_checkpoint(network: PolicyNetwork, config: PolicyConfig, folder: str | Path) -> str:
    """Write a policy to a folder; give its revision."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    with replaced_file(folder / WEIGHTS_FILE) as temporary:
        save_file({key: value.detach().cpu().contiguous() for key, value in network.state_dict().items()}, temporary)
    values = {
        "format": _FORMAT,
        "goals": [goal.instruction for goal in GOALS],
        "name": config.name,
        "encoder": asdict(config.encoder),
        "velocity": asdict(config.velocity),
        "readout": asdict(config.readout),
        "training": dict(config.training),
    }
    write_text(folder / CONFIG_FILE, json.dumps(values, indent=2) + "\n")
    return file_revision(folder / CONFIG_FILE, folder / WEIGHTS_FILE)


def load_checkpoint(
    folder: str | Path | None = None, device: str | torch.device = "cpu"
) -> tuple[PolicyNetwork, PolicyConfig, str]:
    """Read a policy: its network in evaluation mode, its configuration, its revision.

    Args:
        folder: where ``save_checkpoint`` wrote; None takes the one that ships.
        device: where the network is put.

    Raises:
        CheckpointError: when files are missing, damaged, or of another version.
    """
    folder = SHIPPED_POLICY if folder is None else Path(folder).expanduser()
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise CheckpointError(
                f"no {name} in {folder}; give a folder with a policy checkpoint, or train one: flow_rag_vla train"
            )
    config = _read_config(folder / CONFIG_FILE)
    network = PolicyNetwork(config.velocity, config.readout)
    try:
        network.load_state_dict(load_file(folder / WEIGHTS_FILE))
    except (SafetensorError, RuntimeError, OSError) as error:
        raise CheckpointError(
            f"the weights in {folder / WEIGHTS_FILE} do not load ({error}); copy them again or retrain"
        ) from error
    if not all(bool(torch.isfinite(value).all()) for value in network.state_dict().values()):
        raise CheckpointError(f"the weights in {folder / WEIGHTS_FILE} are not all finite; copy them again or retrain")
    revision = file_revision(folder / CONFIG_FILE, folder / WEIGHTS_FILE)
    return network.to(device).eval().requires_grad_(False), config, revision


def _read_config(path: Path) -> PolicyConfig:
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
        if values.get("format") != _FORMAT:
            raise CheckpointError(f"{path} is of format {values.get('format')!r}, expected {_FORMAT!r}; retrain")
        goals = [goal.instruction for goal in GOALS]
        if values["goals"] != goals:
            raise CheckpointError(f"{path} knows the goals {values['goals']}, this version {goals}; retrain")
        return PolicyConfig(
            encoder=EncoderIdentity(**values["encoder"]),
            velocity=VelocityConfig(**values["velocity"]),
            readout=ReadoutConfig(**values["readout"]),
            name=str(values["name"]),
            training=values.get("training", {}),
        )
    except (json.JSONDecodeError, KeyError, TypeError, AttributeError, UnicodeDecodeError) as error:
        problem = f"{type(error).__name__}: {error}"
        raise CheckpointError(f"{path} is damaged ({problem}); copy it again or retrain") from error
