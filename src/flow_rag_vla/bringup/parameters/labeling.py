# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Parameters of the labeling node."""

from __future__ import annotations

from dataclasses import dataclass

from flow_rag_vla.core.parameters import parameter


@dataclass(frozen=True, slots=True)
class LabelingParameters:
    """What labels, where the labels go, and when it makes way for the control loop."""

    registry: str = parameter(
        "~/.ros/flow_rag_vla/labels", "Folder of the registry of labels, or a PostgreSQL URL; made if it is not there"
    )
    registry_files: str = parameter("", "Folder for masks and pictures where the registry is a URL")
    trainings: str = parameter(
        "~/.ros/flow_rag_vla/trainings", "Folder of the trainings and evaluations of detectors, a folder each"
    )
    detector: str = parameter("compact", "Detector: compact (shipped), florence2, grounding_dino or detr (trained)")
    segmenter: str = parameter("auto", "Segmenter: sam2, none, or auto, which takes the detector's own if it has one")
    embedder: str = parameter("auto", "Embedder: compact, dinov2, none, or auto, which takes the detector's own")
    detector_model: str = parameter("", "The detector's folder or hub id; empty: its usual one")
    segmenter_model: str = parameter("", "The segmenter's folder or hub id; empty: its usual one")
    embedder_model: str = parameter("", "The embedder's folder or hub id; empty: its usual one")
    device: str = parameter("auto", "Where models run; auto takes a GPU", choices=("auto", "cpu", "cuda"))
    precision: str = parameter(
        "float32", "Numbers that models other than compact compute with", choices=("float32", "bfloat16", "float16")
    )
    calibration: str = parameter("", "JSON file that turns the detector's scores to shares of correct ones")
    threads: int = parameter(1, "CPU threads of the models", minimum=1, maximum=64)
    host_memory: float = parameter(
        0.0,
        "Memory that the models may take together on the CPU; an idle one leaves when another needs its room; "
        "0: the machine's",
        unit="MB",
        minimum=0.0,
        maximum=1e7,
    )
    gpu_memory: float = parameter(0.0, "The same on the GPU; 0: the GPU's", unit="MB", minimum=0.0, maximum=1e7)
    niceness: int = parameter(
        10, "How much processor time is left to others: 0 as any, 19 only what is idle", minimum=0, maximum=19
    )
    threshold: float = parameter(
        0.5, "Least score that is kept where a request names none", minimum=0.0, maximum=1.0, live=True
    )
    publish: bool = parameter(
        False, "Publish what is seen on image_topic as detections, and as overlay while someone listens", live=True
    )
    image_topic: str = parameter("camera/front/image_raw", "Images whose detections are published")
    rate: float = parameter(
        2.0, "Most images of a topic that are labelled a second", unit="Hz", minimum=0.01, maximum=60.0, live=True
    )
    late_ticks: int = parameter(
        1,
        "Late and skipped ticks of the control loop between two of its reports from which labeling pauses; 0: never",
        minimum=0,
        maximum=1_000_000,
        live=True,
    )
    pause: float = parameter(
        5.0, "How long it pauses after the last such report", unit="s", minimum=0.1, maximum=3600.0, live=True
    )
