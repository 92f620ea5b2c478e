# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Names of encoders, and how one is made."""

from __future__ import annotations

from pathlib import Path

import torch

from flow_rag_vla.policy.encoders.base import Encoder, EncoderError
from flow_rag_vla.policy.encoders.compact import CONFIG_FILE, CompactEncoder

SHIPPED = Path(__file__).resolve().parent.parent / "checkpoints"
"""Folder of the checkpoints that come with the package."""

HUB_NAMES = {
    "dinov2": "facebook/dinov2-small",
    "mobilenet": "google/mobilenet_v2_1.0_224",
}
"""Short names of Hugging Face backbones."""


def make_encoder(name_or_path: str, device: str | torch.device = "cpu") -> Encoder:
    """Make an encoder.

    Args:
        name_or_path: ``compact`` (shipped), a folder with a compact encoder, ``dinov2``, ``mobilenet``, a folder
            with any Hugging Face vision backbone, or its hub id (``owner/name``).
        device: where the network runs.

    Raises:
        EncoderError: when the weights are missing or damaged; the message says what to do.
    """
    if not name_or_path:
        raise EncoderError("the encoder's name is empty; use compact, dinov2, mobilenet, a folder or a hub id")
    if name_or_path == "compact":
        return CompactEncoder.load(SHIPPED / "compact", device)
    folder = Path(name_or_path).expanduser()
    if (folder / CONFIG_FILE).is_file():
        return CompactEncoder.load(folder, device)
    # Imported late: transformers takes seconds to load and the default encoder does not need it.
    from flow_rag_vla.policy.encoders.huggingface import HuggingFaceEncoder

    return HuggingFaceEncoder.load(HUB_NAMES.get(name_or_path, name_or_path), device, name=name_or_path)
