# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Where and with how many threads a node's networks run."""

from __future__ import annotations

import gc

import torch

from flow_rag_vla.nodes.runtime import StartError


def prepare_torch(device: str, threads: int) -> str:
    """Set the process up for inference; return ``cpu`` or ``cuda``.

    One thread is the default on purpose: small networks gain nothing from more, and idle worker threads spinning
    on two cores cost the 40 Hz loop its regularity.

    Raises:
        StartError: if cuda is asked for and not there.
    """
    torch.set_num_threads(threads)
    torch.set_grad_enabled(False)
    gc.freeze()
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if device == "cuda" and not torch.cuda.is_available():
        raise StartError("parameter device is 'cuda', but torch finds no GPU; use auto or cpu, or install a CUDA build")
    return device
