"""LeRobot data sets, format v3.0, written and read with pyarrow and PyAV (extra ``dataset``).

Layout, as LeRobot documents it: ``meta/info.json``, ``meta/stats.json``, ``meta/tasks.parquet``,
``meta/episodes/chunk-000/file-000.parquet``, ``data/chunk-000/file-000.parquet`` and, with videos,
``videos/<camera>/chunk-000/file-000.mp4``. Many episodes share a file; offsets in the episodes table say where each is.

A row is one tick of 25 ms. Cameras are slower: their picture is repeated until the next one, and
``observation.image_is_new`` marks the rows at which it was taken.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.action import ACTION_DIM, CONTROL_RATE_HZ
from flow_rag_vla.core.files import write_text
from flow_rag_vla.data.demonstrations import STATE_DIM
from flow_rag_vla.data.recorded_episode import RecordedEpisode

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
ACTION_NAMES = ("dx", "dy", "dz", "droll", "dpitch", "dyaw", "gripper")
CODECS = ("libsvtav1", "mpeg4")
"""Tried in this order; neither is under the GPL."""


class DatasetError(RuntimeError):
    """A data set that cannot be written or read; the text names the file and the remedy."""


@dataclass(frozen=True, slots=True)
class DatasetSummary:
    """What was written."""

    folder: Path
    episodes: int
    frames: int
    tasks: tuple[str, ...]
    cameras: tuple[str, ...]
    bytes: int


def write_dataset(
    folder: str | Path, episodes: Sequence[RecordedEpisode], *, video: bool = False, robot: str = "panda"
) -> DatasetSummary:
    """Write episodes as a data set.

    Args:
        folder: to be made; must not exist.
        episodes: all with the same cameras and picture sizes.
        video: MP4 files (small, lossy) instead of PNG in the tables (exact).
        robot: what info.json calls the robot.

    Raises:
        DatasetError: if there is nothing to write, cameras differ, or a library is missing.
        FileExistsError: if the folder exists.
    """
    pa, pq = _arrow()
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
    features = _features(shapes, video)
    rows: list[dict[str, Any]] = []
    totals: list[dict[str, dict[str, Any]]] = []
    videos = {camera: _VideoFiles(root, _key(camera)) for camera in cameras} if video else {}
    tables = _DataFiles(root, pa, pq, features)
    start = 0
    try:
        for index, episode in enumerate(episodes):
            columns = _columns(episode, index, start, tasks.index(_task_text(episode)), cameras if not video else ())
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
            found_stats = _stats(columns, episode, cameras)
            totals.append(found_stats)
            for name, values in found_stats.items():
                row |= {f"stats/{name}/{key}": value for key, value in values.items()}
            rows.append(row)
            start += episode.ticks
    finally:
        tables.close()
        for files in videos.values():
            files.close()
    _write_table(pa, pq, root / EPISODES_PATH.format(chunk_index=0, file_index=0), pa.Table.from_pylist(rows))
    _write_table(pa, pq, root / "meta/tasks.parquet", _tasks_table(pa, tasks))
    write_text(root / "meta/stats.json", json.dumps(_joined(totals), indent=4) + "\n")
    write_text(root / "meta/info.json", json.dumps(_info(features, rows, tasks, robot, video), indent=4) + "\n")
    size = sum(path.stat().st_size for path in root.rglob("*") if path.is_file())
    return DatasetSummary(root, len(episodes), start, tasks, cameras, size)


def read_dataset(folder: str | Path) -> Iterator[RecordedEpisode]:
    """The episodes of a data set, one after the other.

    Data sets of other robots are refused by the shape of their state and action; columns that are not there take their
    defaults (no failure, no intervention, no phase).

    Raises:
        DatasetError: if it is no data set of this version, or its features do not fit.
    """
    _, pq = _arrow()
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


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DatasetError(f"data sets need pyarrow and av ({error}); install them: pip install pyarrow av") from error
    return pyarrow, pyarrow.parquet


def _key(camera: str) -> str:
    return f"observation.images.{camera}"


def _task_text(episode: RecordedEpisode) -> str:
    return episode.instruction or episode.task


def _features(shapes: Mapping[str, tuple[int, ...]], video: bool) -> dict[str, dict[str, Any]]:
    def one(dtype: str) -> dict[str, Any]:
        return {"dtype": dtype, "shape": [1], "names": None}

    features: dict[str, dict[str, Any]] = {
        "observation.state": {"dtype": "float32", "shape": [STATE_DIM], "names": list(STATE_NAMES)},
        "action": {"dtype": "float32", "shape": [ACTION_DIM], "names": list(ACTION_NAMES)},
    }
    for camera, shape in sorted(shapes.items()):
        features[_key(camera)] = {
            "dtype": "video" if video else "image",
            "shape": list(shape),
            "names": ["height", "width", "channels"],
        }
        if video:
            features[_key(camera)]["info"] = {
                "video.height": shape[0], "video.width": shape[1], "video.channels": 3, "video.fps": FPS,
                "video.codec": "av1" if _codec() == "libsvtav1" else _codec(), "video.pix_fmt": "yuv420p",
                "video.is_depth_map": False, "has_audio": False,
            }  # fmt: skip
    features |= {
        "observation.image_is_new": one("bool"),
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
        columns[_key(camera)] = _pngs(episode, camera, index)
    columns |= {
        "observation.image_is_new": new,
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
        "interventions": int((episode.interventions > 0).sum()),
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
        {"bytes": packed[place], "path": f"{_key(camera)}-episode-{index:06d}-frame-{tick:06d}.png"}
        for tick, place in enumerate(_shown(episode).tolist())
    ]


class _DataFiles:
    """Tables of rows, another file from DATA_MB on."""

    def __init__(self, root: Path, pa: Any, pq: Any, features: Mapping[str, Mapping[str, Any]]) -> None:
        self._root, self._pa, self._pq = root, pa, pq
        self._schema = _schema(pa, features)
        self._writer: Any = None
        self._number = -1
        self._bytes = 0

    def add(self, columns: Mapping[str, Any]) -> tuple[int, int]:
        """Append an episode; chunk and file that it went to."""
        pa = self._pa
        arrays = [_array(pa, columns[item.name], item.type) for item in self._schema]
        table = pa.Table.from_arrays(arrays, schema=self._schema)
        if self._writer is None or self._bytes > DATA_MB * 1_000_000:
            self.close()
            self._number += 1
            self._bytes = 0
            path = self._root / DATA_PATH.format(
                chunk_index=self._number // CHUNK_SIZE, file_index=self._number % CHUNK_SIZE
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            # A picture that is repeated is kept once: the dictionary holds it.
            self._writer = self._pq.ParquetWriter(path, self._schema, compression="snappy")
        self._writer.write_table(table)
        self._bytes += table.nbytes
        return self._number // CHUNK_SIZE, self._number % CHUNK_SIZE

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class _VideoFiles:
    """Pictures of one camera as MP4, another file from VIDEO_MB on."""

    def __init__(self, root: Path, key: str) -> None:
        self._root, self._key = root, key
        self._number = -1
        self._container: Any = None
        self._stream: Any = None
        self._path = Path()
        self._frames = 0

    def add(self, pictures: Iterator[NDArray[np.uint8]]) -> dict[str, Any]:
        """Append an episode; its columns in the episodes table."""
        import av

        # The file is there once its first packet is.
        written = self._path.stat().st_size if self._path.is_file() else 0
        if self._container is None or written > VIDEO_MB * 1_000_000:
            self.close()
            self._number += 1
            self._frames = 0
        begin = self._frames
        for pixels in pictures:
            if self._container is None:
                self._open(pixels)
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts = self._frames
            self._container.mux(self._stream.encode(frame))
            self._frames += 1
        prefix = f"videos/{self._key}"
        return {
            f"{prefix}/chunk_index": self._number // CHUNK_SIZE,
            f"{prefix}/file_index": self._number % CHUNK_SIZE,
            f"{prefix}/from_timestamp": begin / FPS,
            f"{prefix}/to_timestamp": self._frames / FPS,
        }

    def close(self) -> None:
        if self._container is not None:
            self._container.mux(self._stream.encode())
            self._container.close()
            self._container = None

    def _open(self, pixels: NDArray[np.uint8]) -> None:
        import av

        self._path = self._root / VIDEO_PATH.format(
            video_key=self._key, chunk_index=self._number // CHUNK_SIZE, file_index=self._number % CHUNK_SIZE
        )
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # The encoder would write its settings to the terminal, once a file.
        os.environ.setdefault("SVT_LOG", "1")
        self._container = av.open(str(self._path), "w")
        codec = _codec()
        # A key frame every other one, as LeRobot asks for: any frame is reached fast.
        options = {"g": "2", "crf": "30", "preset": "8"} if codec == "libsvtav1" else {"g": "2", "q:v": "2"}
        self._stream = self._container.add_stream(codec, rate=FPS, options=options)
        self._stream.height, self._stream.width = int(pixels.shape[0]), int(pixels.shape[1])
        self._stream.pix_fmt = "yuv420p"


def _codec() -> str:
    try:
        import av
    except ImportError as error:
        raise DatasetError(f"videos need av ({error}); install it (pip install av) or leave --video out") from error
    return next((name for name in CODECS if name in av.codecs_available), CODECS[-1])


def _schema(pa: Any, features: Mapping[str, Mapping[str, Any]]) -> Any:
    kinds = {"float32": pa.float32(), "int64": pa.int64(), "bool": pa.bool_(), "string": pa.string()}
    fields = []
    described: dict[str, Any] = {}
    for name, feature in features.items():
        if feature["dtype"] == "video":
            continue
        if feature["dtype"] == "image":
            fields.append(pa.field(name, pa.struct([("bytes", pa.binary()), ("path", pa.string())])))
            described[name] = {"_type": "Image"}
            continue
        kind, size = kinds[feature["dtype"]], feature["shape"][0]
        fields.append(pa.field(name, kind if size == 1 else pa.list_(kind, size)))
        value = {"dtype": feature["dtype"], "_type": "Value"}
        described[name] = value if size == 1 else {"feature": value, "length": size, "_type": "Sequence"}
    # What Hugging Face's datasets library reads to know that a struct is a picture.
    metadata = {"huggingface": json.dumps({"info": {"features": described}})}
    return pa.schema(fields, metadata=metadata)


def _array(pa: Any, values: Any, kind: Any) -> Any:
    if pa.types.is_fixed_size_list(kind):
        return pa.FixedSizeListArray.from_arrays(pa.array(np.ravel(values), kind.value_type), kind.list_size)
    return pa.array(values, kind)


def _tasks_table(pa: Any, tasks: Sequence[str]) -> Any:
    """The tasks as pandas would write them, with the text as index: that is how LeRobot looks a task up."""
    about = {
        "index_columns": ["task"],
        "column_indexes": [],
        "columns": [
            {"name": "task_index", "field_name": "task_index", "pandas_type": "int64", "numpy_type": "int64",
             "metadata": None},
            {"name": "task", "field_name": "task", "pandas_type": "unicode", "numpy_type": "object", "metadata": None},
        ],
        "pandas_version": "2.0.0",
    }  # fmt: skip
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), "task": pa.array(tasks, pa.string())})
    return table.replace_schema_metadata({"pandas": json.dumps(about)})


def _write_table(_pa: Any, pq: Any, path: Path, table: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="snappy")


def _stats(
    columns: Mapping[str, Any], episode: RecordedEpisode, cameras: Sequence[str]
) -> dict[str, dict[str, list[Any]]]:
    """Smallest, largest, mean, standard deviation and count of every number; pictures by channel, 0 to 1."""
    found: dict[str, dict[str, list[Any]]] = {}
    for name, values in columns.items():
        if isinstance(values, np.ndarray) and name != "stamp_ns":
            numbers = values.reshape(len(values), -1).astype(np.float64)
            found[name] = _moments(numbers, len(values))
    for camera in cameras:
        pictures = episode.images[camera]
        chosen = pictures[np.linspace(0, len(pictures) - 1, min(len(pictures), 50)).astype(int)]
        numbers = chosen.reshape(-1, 3).astype(np.float64) / 255.0
        by_channel = _moments(numbers, len(chosen))
        found[_key(camera)] = {
            key: value if key == "count" else [[[item]] for item in value] for key, value in by_channel.items()
        }
    return found


def _moments(numbers: NDArray[np.float64], count: int) -> dict[str, list[Any]]:
    return {
        "min": numbers.min(axis=0).tolist(),
        "max": numbers.max(axis=0).tolist(),
        "mean": numbers.mean(axis=0).tolist(),
        "std": numbers.std(axis=0).tolist(),
        "count": [count],
    }


def _joined(parts: Sequence[Mapping[str, Mapping[str, list[Any]]]]) -> dict[str, dict[str, Any]]:
    """Statistics of all episodes, of those of each: weights are the counts, variances add up (Chan et al. 1979)."""
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
        }
    return joined


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


# Reading.


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

    new = column("observation.image_is_new", True, np.bool_)
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
    success = row.get("success")
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
    _codec()
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
