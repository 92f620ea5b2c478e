# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What LeRobot normalises by: the spread of every number of an episode, and of all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.data.lerobot.layout import image_key
from flow_rag_vla.data.recorded_episode import RecordedEpisode

QUANTILES = {"q01": 0.01, "q10": 0.1, "q50": 0.5, "q90": 0.9, "q99": 0.99}
"""Those by which LeRobot's policies scale what has outliers."""

PICTURES = 50
"""So many pictures of an episode are looked at."""


def episode_statistics(
    columns: Mapping[str, Any], episode: RecordedEpisode, cameras: Sequence[str]
) -> dict[str, dict[str, list[Any]]]:
    """Smallest, largest, mean, standard deviation, quantiles and count of every number; pictures by channel, 0 to 1."""
    found: dict[str, dict[str, list[Any]]] = {}
    for name, values in columns.items():
        if isinstance(values, np.ndarray) and name != "stamp_ns":
            numbers = values.reshape(len(values), -1).astype(np.float64)
            found[name] = _moments(numbers, len(values))
    for camera in cameras:
        pictures = episode.images[camera]
        found[image_key(camera)] = picture_statistics(thinned(pictures[chosen_pictures(len(pictures))]))
    return found


def chosen_pictures(count: int) -> NDArray[np.int64]:
    """Which of so many pictures are looked at: 50 at most, evenly spread."""
    return np.linspace(0, count - 1, min(count, PICTURES)).astype(np.int64)


def thinned(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Every so manieth row and column of (..., H, W, 3) pictures, so that neither has more than 300."""
    step = -(-max(pixels.shape[-3:-1]) // 300)
    return pixels[..., ::step, ::step, :]


def picture_statistics(pictures: NDArray[np.uint8]) -> dict[str, list[Any]]:
    """The same of (N, H, W, 3) pictures, N at least 1: each value of shape (3, 1, 1)."""
    by_channel = _moments(pictures.reshape(-1, 3).astype(np.float64) / 255.0, len(pictures))
    return {key: value if key == "count" else [[[item]] for item in value] for key, value in by_channel.items()}


def joined_statistics(parts: Sequence[Mapping[str, Mapping[str, list[Any]]]]) -> dict[str, dict[str, Any]]:
    """Statistics of all episodes, of those of each: weights are the counts, variances add up (Chan et al. 1979).

    Quantiles are the weighted means of those of the episodes, which is near and not exact; LeRobot takes the same.
    """
    joined: dict[str, dict[str, Any]] = {}
    for name in parts[0]:
        counts = np.array([part[name]["count"][0] for part in parts], dtype=np.float64)
        weights = counts / counts.sum()
        means = np.array([part[name]["mean"] for part in parts])
        spreads = np.array([part[name]["std"] for part in parts])
        shaped = weights.reshape(-1, *([1] * (means.ndim - 1)))
        mean = (shaped * means).sum(axis=0)
        variance = (shaped * (np.square(spreads) + np.square(means - mean))).sum(axis=0)
        joined[name] = {
            "min": np.array([part[name]["min"] for part in parts]).min(axis=0).tolist(),
            "max": np.array([part[name]["max"] for part in parts]).max(axis=0).tolist(),
            "mean": mean.tolist(),
            "std": np.sqrt(variance).tolist(),
            "count": [int(counts.sum())],
            **{key: (shaped * np.array([part[name][key] for part in parts])).sum(axis=0).tolist() for key in QUANTILES},
        }
    return joined


def _moments(numbers: NDArray[np.float64], count: int) -> dict[str, list[Any]]:
    return {
        "min": numbers.min(axis=0).tolist(),
        "max": numbers.max(axis=0).tolist(),
        "mean": numbers.mean(axis=0).tolist(),
        "std": numbers.std(axis=0).tolist(),
        "count": [count],
        # Values that were there: between two grasps' widths lies none that the gripper ever had.
        **{
            key: np.quantile(numbers, share, axis=0, method="inverted_cdf").tolist() for key, share in QUANTILES.items()
        },
    }
