# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Where things are in a data set, what its columns are called, and which libraries it takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flow_rag_vla.core.action import ACTION_DIM, CONTROL_RATE_HZ
from flow_rag_vla.data.demonstrations import STATE_DIM

VERSION = "v3.0"
FPS = int(CONTROL_RATE_HZ)
CHUNK_SIZE = 1000
DATA_MB, VIDEO_MB = 100, 200
"""Sizes from which on another file is begun; LeRobot's defaults."""

_PATH = "chunk-{chunk_index:03d}/file-{file_index:03d}"
DATA_PATH = f"data/{_PATH}.parquet"
VIDEO_PATH = f"videos/{{video_key}}/{_PATH}.mp4"
EPISODES_PATH = f"meta/episodes/{_PATH}.parquet"

STATE_NAMES = ("x", "y", "z", "qx", "qy", "qz", "qw", "gripper_width", "gripper_effort")
WRENCH = "observation.wrench"
WRENCH_NAMES = ("fx", "fy", "fz", "tx", "ty", "tz")
ACTION_NAMES = ("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper")
PICTURE_IS_NEW = "picture_is_new"
"""LeRobot reads names. What begins with ``observation`` is an input of its policies, whose training a bool ends; what
has ``image`` in it is a picture to its tools that merge, split and shorten data sets, which end at other statistics."""

CODECS = ("libsvtav1", "mpeg4")
"""Tried in this order; neither is under the GPL."""


class DatasetError(RuntimeError):
    """A data set that cannot be written or read; the text names the file and the remedy."""


def arrow() -> tuple[Any, Any]:
    """The modules pyarrow and pyarrow.parquet.

    Raises:
        DatasetError: if they are not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DatasetError(f"data sets need pyarrow and av ({error}); install them: pip install pyarrow av") from error
    return pyarrow, pyarrow.parquet


def codec() -> str:
    """The video codec that this machine writes.

    Raises:
        DatasetError: if PyAV is not installed.
    """
    try:
        import av
    except ImportError as error:
        raise DatasetError(f"videos need av ({error}); install it (pip install av) or leave --video out") from error
    return next((name for name in CODECS if name in av.codecs_available), CODECS[-1])


def image_key(camera: str) -> str:
    """Column of a camera."""
    return f"observation.images.{camera}"


def features_of(
    shapes: Mapping[str, tuple[int, ...]], video: bool, wrench_frame: str | None = None
) -> dict[str, dict[str, Any]]:
    """Columns and what is in them, as info.json says it.

    Args:
        shapes: (height, width, 3) of each camera's pictures.
        video: whether pictures are in videos.
        wrench_frame: whose axes the wrenches are of; None if there are none.
    """

    def one(dtype: str) -> dict[str, Any]:
        return {"dtype": dtype, "shape": [1], "names": None}

    features: dict[str, dict[str, Any]] = {
        "observation.state": {"dtype": "float32", "shape": [STATE_DIM], "names": list(STATE_NAMES)},
        "action": {"dtype": "float32", "shape": [ACTION_DIM], "names": list(ACTION_NAMES)},
    }
    if wrench_frame is not None:
        features[WRENCH] = {
            "dtype": "float32",
            "shape": [len(WRENCH_NAMES)],
            "names": list(WRENCH_NAMES),
            "info": {"frame": wrench_frame, "units": ["N", "N", "N", "Nm", "Nm", "Nm"]},
        }
    for camera, shape in sorted(shapes.items()):
        features[image_key(camera)] = {
            "dtype": "video" if video else "image",
            "shape": list(shape),
            "names": ["height", "width", "channels"],
        }
        if video:
            features[image_key(camera)]["info"] = {
                "video.height": shape[0], "video.width": shape[1], "video.channels": 3, "video.fps": FPS,
                "video.codec": "av1" if codec() == "libsvtav1" else codec(), "video.pix_fmt": "yuv420p",
                "video.is_depth_map": False, "has_audio": False,
            }  # fmt: skip
    features |= {
        PICTURE_IS_NEW: one("bool"),
        "phase": one("string"),
        "failure_type": one("int64"),
        "intervention": one("int64"),
        "stamp_ns": one("int64"),
        "next.done": one("bool"),
        "next.success": one("bool"),
        "timestamp": one("float32"),
        "frame_index": one("int64"),
        "episode_index": one("int64"),
        "index": one("int64"),
        "task_index": one("int64"),
    }
    return features
