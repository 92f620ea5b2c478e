# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures of the simulator with its own segmentation as truth, in place of a dataset."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np

from flow_rag_vla.labeling.compact.held_out import POSES, smallest_things
from flow_rag_vla.labeling.compact.scenes import TEST_SEEDS, TRAINING_SEEDS, labelled_frames
from flow_rag_vla.labeling.compact.truth import TruthFrame
from flow_rag_vla.labeling.detections import Masks
from flow_rag_vla.labeling.evaluation.pictures import TruePicture
from flow_rag_vla.labeling.pipeline.images import Image
from flow_rag_vla.learn.progress import Progress, silent

SIZE = (320, 240)
FIRST_SEEDS = {"train": TRAINING_SEEDS + 800_000, "val": TRAINING_SEEDS + 900_000, "test": TEST_SEEDS + 800_000}
"""Of each part; no scene is in two of them."""


def simulated_pictures(
    part: str, scenes: int, size: tuple[int, int] = SIZE, progress: Progress = silent
) -> list[TruePicture]:
    """``POSES`` pictures of each of some scenes: any task, camera, light, strangers, the arm in front.

    Things of less than 0.015 % of a picture are left out of the truth.

    Args:
        part: "train", "val" or "test".
        scenes: how many.
        size: width and height, pixels.
        progress: told of the pictures.
    """
    pictures = []
    total = scenes * POSES
    for place, frame in enumerate(labelled_frames(FIRST_SEEDS[part], scenes, frames_a_scene=POSES, size=size)):
        pictures.append(_picture(f"{part}_{place // POSES:04}_{place % POSES}", frame))
        progress(place + 1, total)
    return pictures


def _picture(name: str, frame: TruthFrame) -> TruePicture:
    truth, _ = frame.things(smallest_things(frame))
    assert truth.masks is not None
    packed = np.packbits(truth.masks, axis=None)
    return TruePicture(
        name,
        partial(_given, frame.image),
        replace(truth, masks=None),
        partial(_unpacked, packed, truth.masks.shape),
    )


def _given(image: Image) -> Image:
    return image


def _unpacked(packed: np.ndarray, shape: tuple[int, ...]) -> Masks:
    return np.unpackbits(packed, count=int(np.prod(shape))).astype(np.bool_).reshape(shape)
