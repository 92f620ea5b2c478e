# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures that no training has seen, and how a detector does on them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from flow_rag_vla.labeling.compact.scenes import TEST_SEEDS, labelled_frames
from flow_rag_vla.labeling.compact.scoring import DetectionScore, score_detections
from flow_rag_vla.labeling.compact.truth import TruthFrame
from flow_rag_vla.labeling.pipeline.boxes import select
from flow_rag_vla.labeling.pipeline.stages import Detector

SMALLEST_SHARE = 1.5e-4
"""Of a picture's pixels (46 of 640 x 480); finding a smaller patch of something is neither right nor wrong."""
SCORING_THRESHOLD = 0.05
"""Average precision needs the unsure ones too."""
LARGE_SIZE = (640, 480)
ROBOT_SIZE = (128, 128)
"""(width, height): of a usual camera, and of the simulated robot's own."""
POSES = 3
"""Pictures of each scene."""


def held_out_frames(scenes: int, size: tuple[int, int], first_seed: int = TEST_SEEDS) -> list[TruthFrame]:
    """``POSES`` pictures of each of some held-out scenes: any task, camera, light, strangers, the arm in front."""
    # Each size has scenes of its own.
    offset = 0 if size == LARGE_SIZE else 100_000
    return list(labelled_frames(first_seed + offset, scenes, frames_a_scene=POSES, size=size))


def smallest_things(frame: TruthFrame) -> int:
    """Pixels below which a thing in this picture does not count."""
    return max(1, round(SMALLEST_SHARE * frame.classes.size))


def score_detector(detector: Detector, frames: Sequence[TruthFrame]) -> DetectionScore:
    """Average precision and overlap of masks; what is too small is neither right nor wrong."""
    pairs, ignored = [], []
    for frame in frames:
        everything, _ = frame.things()
        assert everything.masks is not None
        large = np.count_nonzero(everything.masks, axis=(1, 2)) >= smallest_things(frame)
        pairs.append((detector.detect([frame.image], (), SCORING_THRESHOLD)[0], select(everything, large)))
        ignored.append(replace(select(everything, ~large), masks=None))
    return score_detections(pairs, ignored)
