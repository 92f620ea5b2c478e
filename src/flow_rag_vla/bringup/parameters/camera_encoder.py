# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Parameters of the camera encoder."""

from __future__ import annotations

from dataclasses import dataclass

from flow_rag_vla.bringup.parameters.controller import deciding_priority
from flow_rag_vla.core.parameters import parameter


@dataclass(frozen=True, slots=True)
class CameraEncoderParameters:
    """Images in, one unit-length embedding out."""

    autostart: bool = parameter(
        True, "Configure and activate at start; false: wait for a lifecycle manager (ros2 lifecycle set)"
    )
    encoder: str = parameter(
        "compact",
        "compact (shipped), dinov2, mobilenet, or a folder or hub id of any Hugging Face vision backbone",
    )
    device: str = parameter("auto", "Where it runs; auto takes a GPU if there is one", choices=("auto", "cpu", "cuda"))
    threads: int = parameter(1, "CPU threads of the encoder", minimum=1, maximum=64)
    realtime_priority: int = deciding_priority()
    model_memory: float = parameter(
        0.0,
        "Memory that the model's weights may take where it runs, one that needs more is not loaded; 0: all there is",
        unit="MB",
        minimum=0.0,
        maximum=1e7,
    )
    pairing_tolerance: float = parameter(
        0.02,
        "Images of different cameras no further apart than this are one observation",
        unit="s",
        minimum=0.0,
        maximum=1.0,
        live=True,
    )
    max_image_age: float = parameter(
        0.5,
        "Images older than this, or further in the future, are not encoded",
        unit="s",
        minimum=0.02,
        maximum=10.0,
        live=True,
    )
