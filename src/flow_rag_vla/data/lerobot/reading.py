# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A data set to episodes."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.action import ACTION_DIM
from flow_rag_vla.data.demonstrations import STATE_DIM
from flow_rag_vla.data.lerobot.layout import PICTURE_IS_NEW, WRENCH, DatasetError, arrow, codec
from flow_rag_vla.data.recorded_episode import WRENCH_DIM, RecordedEpisode

_CALLED_BEFORE = "observation.image_is_new"
"""What the column was called in data sets that were written before."""


def read_dataset(folder: str | Path) -> Iterator[RecordedEpisode]:
    """The episodes of a data set, one after the other.

    Data sets of other robots are refused by the shape of their state and action; columns that are not there take their
    defaults (no failure, no intervention, no phase).

    Raises:
        DatasetError: if it is no data set of this version, or its features do not fit.
    """
    _, pq = arrow()
    root = Path(folder)
    info = _read_info(root)
    _check_features(root, info["features"])
    episodes = [row for path in sorted((root / "meta/episodes").glob("*/*.parquet")) for row in _rows(pq, path)]
    if not episodes:
        raise DatasetError(f"{root} holds no meta/episodes/*/*.parquet; is the copy complete?")
    episodes.sort(key=lambda row: row["episode_index"])
    keys = [name for name, feature in info["features"].items() if feature["dtype"] in ("image", "video")]
    cache: tuple[Path, Any] | None = None
    for row in episodes:
        path = root / info["data_path"].format(chunk_index=row["data/chunk_index"], file_index=row["data/file_index"])
        if cache is None or cache[0] != path:
            cache = path, _table(pq, path)
        table = cache[1]
        indices = np.asarray(table.column("episode_index").to_numpy())
        places = np.flatnonzero(indices == row["episode_index"])
        if not len(places):
            raise DatasetError(f"{path} holds no row of episode {row['episode_index']}; is the copy complete?")
        part = table.slice(int(places[0]), len(places))
        yield _episode(root, info, row, part, keys)


def _read_info(root: Path) -> dict[str, Any]:
    path = root / "meta/info.json"
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read ({error}); give the folder of a LeRobot data set") from error
    version = str(info.get("codebase_version", ""))
    if not version.startswith("v3."):
        raise DatasetError(f"{root} is of version {version or 'unknown'}, expected v3.0; convert it with LeRobot first")
    return dict(info)


def _check_features(root: Path, features: Mapping[str, Any]) -> None:
    for name, size in (("observation.state", STATE_DIM), ("action", ACTION_DIM)):
        feature = features.get(name)
        if feature is None or list(feature["shape"]) != [size]:
            shape = "nothing" if feature is None else feature["shape"]
            raise DatasetError(f"{root}: {name} has shape {shape}, expected [{size}]: it is of another robot")


def _table(pq: Any, path: Path) -> Any:
    try:
        return pq.read_table(path)
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path} cannot be read ({error}); is the copy complete?") from error


def _rows(pq: Any, path: Path) -> list[dict[str, Any]]:
    table = _table(pq, path)
    return list(table.select([name for name in table.column_names if not name.startswith("stats/")]).to_pylist())


def _episode(
    root: Path, info: Mapping[str, Any], row: Mapping[str, Any], part: Any, keys: list[str]
) -> RecordedEpisode:
    ticks = part.num_rows

    def column(name: str, default: Any, dtype: Any) -> NDArray[Any]:
        if name not in part.column_names:
            return np.full(ticks, default, dtype=dtype)
        return np.asarray(part.column(name).to_pylist(), dtype=dtype)

    told = next((name for name in (PICTURE_IS_NEW, _CALLED_BEFORE) if name in part.column_names), PICTURE_IS_NEW)
    new = column(told, True, np.bool_)
    frames = np.flatnonzero(new).astype(np.int32) if keys else np.zeros(0, dtype=np.int32)
    images = {}
    for key in keys:
        camera = key.removeprefix("observation.images.")
        images[camera] = (
            _video(root, info, row, key, frames)
            if key not in part.column_names
            else _unpacked(part.column(key), frames)
        )
    text = (row.get("tasks") or [""])[0]
    stamps = column("stamp_ns", 0, np.int64)
    if not stamps.any():
        # Another recorder: its timestamps, on a clock of ours, one episode a minute behind the other.
        base = 1_000_000_000_000_000_000 + int(row["episode_index"]) * 60_000_000_000
        stamps = base + np.round(column("timestamp", 0.0, np.float64) * 1e9).astype(np.int64)
    phases = part.column("phase").to_pylist() if "phase" in part.column_names else [""] * ticks
    wrench = info["features"].get(WRENCH)
    if wrench is not None and list(wrench["shape"]) != [WRENCH_DIM]:
        # Another recorder's, of another meaning.
        wrench = None
    # LeRobot's tools that split and shorten data sets leave out what an episode's row has beside the columns they know.
    success = row["success"] if "success" in row else True if column("next.success", False, np.bool_).any() else None
    return RecordedEpisode(
        int(row.get("source_episode_id") or row["episode_index"] + 1),
        str(row.get("task_name") or ""),
        text,
        str(row.get("variant") or "plain"),
        int(row.get("seed") or 0),
        None if success is None else bool(success),
        stamps,
        column("observation.state", 0.0, np.float32),
        column("action", 0.0, np.float32),
        column("failure_type", -1, np.int64),
        column("intervention", 0, np.int64),
        tuple(phases),
        frames,
        images,
        wrenches=column(WRENCH, 0.0, np.float32) if wrench is not None else None,
        wrench_frame=str((wrench.get("info") or {}).get("frame") or "") if wrench is not None else "",
    )


def _unpacked(column: Any, frames: NDArray[np.int32]) -> NDArray[np.uint8]:
    from PIL import Image

    pictures = [
        np.asarray(Image.open(io.BytesIO(column[int(place)].as_py()["bytes"])).convert("RGB")) for place in frames
    ]
    return np.stack(pictures) if pictures else np.zeros((0, 0, 0, 3), dtype=np.uint8)


def _video(
    root: Path, info: Mapping[str, Any], row: Mapping[str, Any], key: str, frames: NDArray[np.int32]
) -> NDArray[np.uint8]:
    codec()
    import av

    path = root / str(info["video_path"]).format(
        video_key=key, chunk_index=row[f"videos/{key}/chunk_index"], file_index=row[f"videos/{key}/file_index"]
    )
    first = round(float(row[f"videos/{key}/from_timestamp"]) * info["fps"])
    wanted = {first + int(place) for place in frames}
    found = []
    try:
        with av.open(str(path)) as container:
            for number, frame in enumerate(container.decode(video=0)):
                if number in wanted:
                    found.append(frame.to_ndarray(format="rgb24"))
                if wanted and number >= max(wanted):
                    break
    except (OSError, av.FFmpegError) as error:
        raise DatasetError(f"{path} cannot be decoded ({error}); is the copy complete?") from error
    if len(found) != len(wanted):
        raise DatasetError(f"{path} holds {len(found)} of the {len(wanted)} pictures of an episode; is it complete?")
    return np.stack(found) if found else np.zeros((0, 0, 0, 3), dtype=np.uint8)
