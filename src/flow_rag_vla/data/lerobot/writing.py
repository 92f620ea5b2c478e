# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Episodes to a data set."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.files import write_text
from flow_rag_vla.data.lerobot.files import DataFiles, VideoFiles, tasks_table, write_table
from flow_rag_vla.data.lerobot.layout import (
    CHUNK_SIZE,
    DATA_MB,
    DATA_PATH,
    EPISODES_PATH,
    FPS,
    PICTURE_IS_NEW,
    VERSION,
    VIDEO_MB,
    VIDEO_PATH,
    WRENCH,
    DatasetError,
    arrow,
    features_of,
    image_key,
)
from flow_rag_vla.data.lerobot.statistics import episode_statistics, joined_statistics
from flow_rag_vla.data.recorded_episode import HELD, RecordedEpisode


@dataclass(frozen=True, slots=True)
class DatasetSummary:
    """What was written. left_out: sentences on what the episodes hold and the data set does not."""

    folder: Path
    episodes: int
    frames: int
    tasks: tuple[str, ...]
    cameras: tuple[str, ...]
    bytes: int
    left_out: tuple[str, ...] = ()


def write_dataset(
    folder: str | Path, episodes: Sequence[RecordedEpisode], *, video: bool = False, robot: str = "panda"
) -> DatasetSummary:
    """Write episodes as a data set.

    Args:
        folder: to be made; must not exist.
        episodes: all with the same cameras and picture sizes. Wrenches are written if all have one of the same frame.
        video: MP4 files (small, lossy) instead of PNG in the tables (exact).
        robot: what info.json calls the robot.

    Raises:
        DatasetError: if there is nothing to write, cameras differ, or a library is missing.
        FileExistsError: if the folder exists.
    """
    pa, pq = arrow()
    root = Path(folder)
    if not episodes:
        raise DatasetError("there are no episodes to write; a bag needs episode_status, command and robot_state")
    cameras = tuple(sorted(episodes[0].images))
    shapes = {camera: episodes[0].images[camera].shape[1:] for camera in cameras}
    for episode in episodes:
        found = {camera: pictures.shape[1:] for camera, pictures in episode.images.items()}
        if found != shapes:
            raise DatasetError(
                f"episode {episode.episode_id} has pictures {found}, the first one {shapes}; export them apart"
            )
    if root.exists():
        raise FileExistsError(f"{root} exists already; choose another folder")
    (root / "meta").mkdir(parents=True)
    tasks = tuple(dict.fromkeys(_task_text(episode) for episode in episodes))
    wrench_frame, left_out = _wrench_frame(episodes)
    features = features_of(shapes, video, wrench_frame)
    rows: list[dict[str, Any]] = []
    totals: list[dict[str, dict[str, Any]]] = []
    videos = {camera: VideoFiles(root, image_key(camera)) for camera in cameras} if video else {}
    tables = DataFiles(root, pa, pq, features)
    start = 0
    try:
        for index, episode in enumerate(episodes):
            columns = _columns(episode, index, start, tasks.index(_task_text(episode)), cameras if not video else ())
            if wrench_frame is not None:
                columns[WRENCH] = np.asarray(episode.wrenches)
            data_chunk, data_file = tables.add(columns)
            row: dict[str, Any] = {
                "episode_index": index,
                "tasks": [_task_text(episode)],
                "length": episode.ticks,
                "data/chunk_index": data_chunk,
                "data/file_index": data_file,
                "dataset_from_index": start,
                "dataset_to_index": start + episode.ticks,
                "meta/episodes/chunk_index": 0,
                "meta/episodes/file_index": 0,
                **_about(episode),
            }
            for camera, files in videos.items():
                row |= files.add(_repeated(episode, camera))
            found_stats = episode_statistics(columns, episode, cameras)
            totals.append(found_stats)
            for name, values in found_stats.items():
                row |= {f"stats/{name}/{key}": value for key, value in values.items()}
            rows.append(row)
            start += episode.ticks
    finally:
        tables.close()
        for files in videos.values():
            files.close()
    write_table(pq, root / EPISODES_PATH.format(chunk_index=0, file_index=0), pa.Table.from_pylist(rows))
    write_table(pq, root / "meta/tasks.parquet", tasks_table(pa, tasks))
    write_text(root / "meta/stats.json", json.dumps(joined_statistics(totals), indent=4) + "\n")
    write_text(root / "meta/info.json", json.dumps(_info(features, rows, tasks, robot, video), indent=4) + "\n")
    size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    return DatasetSummary(root, len(episodes), start, tasks, cameras, size, left_out)


def _task_text(episode: RecordedEpisode) -> str:
    return episode.instruction or episode.task


def _wrench_frame(episodes: Sequence[RecordedEpisode]) -> tuple[str | None, tuple[str, ...]]:
    """The frame of the wrenches, None if no column of them can be made; and why not, where there are some."""
    frames = {episode.wrench_frame for episode in episodes if episode.wrenches is not None}
    without = sum(episode.wrenches is None for episode in episodes)
    if len(frames) == 1 and not without:
        return frames.pop(), ()
    if not frames:
        return None, ()
    why = (
        f"{without} of {len(episodes)} episodes have none"
        if without
        else f"they are of the frames {', '.join(sorted(name or 'without a name' for name in frames))}"
    )
    return None, (f"{WRENCH} is left out: {why}; export them apart",)


def _columns(
    episode: RecordedEpisode, index: int, start: int, task: int, cameras: Sequence[str]
) -> dict[str, NDArray[Any] | list[Any]]:
    ticks = episode.ticks
    new = np.zeros(ticks, dtype=np.bool_)
    new[episode.frame_ticks] = True
    done = np.zeros(ticks, dtype=np.bool_)
    done[-1] = True
    columns: dict[str, NDArray[Any] | list[Any]] = {
        "observation.state": episode.states,
        "action": episode.actions,
    }
    for camera in cameras:
        columns[image_key(camera)] = _pngs(episode, camera, index)
    columns |= {
        PICTURE_IS_NEW: new,
        "phase": list(episode.phases),
        "failure_type": episode.failures,
        "intervention": episode.interventions,
        "stamp_ns": episode.stamps_ns,
        "next.done": done,
        "next.success": done & bool(episode.success),
        "timestamp": (np.arange(ticks) / FPS).astype(np.float32),
        "frame_index": np.arange(ticks, dtype=np.int64),
        "episode_index": np.full(ticks, index, dtype=np.int64),
        "index": np.arange(start, start + ticks, dtype=np.int64),
        "task_index": np.full(ticks, task, dtype=np.int64),
    }
    return columns


def _about(episode: RecordedEpisode) -> dict[str, Any]:
    """What is known of an episode beside its rows."""
    return {
        "success": episode.success,
        "task_name": episode.task,
        "variant": episode.variant,
        "seed": episode.seed,
        "source_episode_id": episode.episode_id,
        "failure_events": int((episode.failures >= 0).sum()),
        "interventions": int(((episode.interventions > 0) & (episode.interventions != HELD)).sum()),
    }


def _shown(episode: RecordedEpisode) -> NDArray[np.int64]:
    """(T,) which frame is shown at each tick; before the first one, the first one."""
    places = np.searchsorted(episode.frame_ticks, np.arange(episode.ticks), side="right") - 1
    return np.asarray(np.clip(places, 0, None), dtype=np.int64)


def _repeated(episode: RecordedEpisode, camera: str) -> Iterator[NDArray[np.uint8]]:
    for place in _shown(episode).tolist():
        yield episode.images[camera][place]


def _pngs(episode: RecordedEpisode, camera: str, index: int) -> list[dict[str, Any]]:
    from PIL import Image

    packed = []
    for pixels in episode.images[camera]:
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
        packed.append(buffer.getvalue())
    return [
        {"bytes": packed[place], "path": f"{image_key(camera)}-episode-{index:06d}-frame-{tick:06d}.png"}
        for tick, place in enumerate(_shown(episode).tolist())
    ]


def _info(
    features: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], tasks: Sequence[str], robot: str, video: bool
) -> dict[str, Any]:
    return {
        "codebase_version": VERSION,
        "robot_type": robot,
        "total_episodes": len(rows),
        "total_frames": int(rows[-1]["dataset_to_index"]),
        "total_tasks": len(tasks),
        "chunks_size": CHUNK_SIZE,
        "data_files_size_in_mb": DATA_MB,
        "video_files_size_in_mb": VIDEO_MB,
        "fps": FPS,
        "splits": {"train": f"0:{len(rows)}"},
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH if video else None,
        "features": features,
    }
