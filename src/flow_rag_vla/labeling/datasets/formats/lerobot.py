# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""LeRobot annotations: what is seen in each frame, in the column ``language_events`` of a data set of format v3.

A frame's row holds a question and its answer (style ``vqa``), the answer as LeRobot's own annotation pipeline writes
it: ``{"detections": [{"label": ..., "bbox_format": "xyxy", "bbox": [...]}]}`` in pixels, with further fields. Pictures
lie in the tables as PNG or JPEG. An episode is what the dataset calls one, else a source.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flow_rag_vla.data.lerobot.files import tasks_table
from flow_rag_vla.data.lerobot.statistics import chosen_pictures, picture_statistics, thinned
from flow_rag_vla.labeling.datasets import parsing
from flow_rag_vla.labeling.datasets.coco_json import segmentation_json, segmentation_of
from flow_rag_vla.labeling.datasets.dataset import Annotation, DatasetItem, LabelDataset, Split, check_file
from flow_rag_vla.labeling.datasets.details import (
    annotation_details,
    annotation_fields,
    edges_or,
    item_details,
    item_fields,
)
from flow_rag_vla.labeling.datasets.errors import DatasetError, disk_checked
from flow_rag_vla.labeling.datasets.formats.base import Format, Imported, check_size
from flow_rag_vla.learn.progress import Progress

CAMERA = "observation.images.camera"
QUESTION = "What is where in the picture?"
_DATA = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
_FPS = 10
"""Nominal: labelled frames are picked here and there. When each was taken is in ``stamp_ns``."""
_ROWS_AT_ONCE = 500


def write(dataset: LabelDataset, folder: Path, progress: Progress) -> None:
    """Fill a folder.

    Raises:
        DatasetError: pictures of several sizes: a LeRobot camera has one; ``image_corrupt`` or ``image_mismatch`` for a
            picture of the statistics that is damaged; or ``extra_missing`` without pyarrow.
    """
    pa, pq = _arrow()
    sizes = {(item.width, item.height) for item in dataset.items}
    if len(sizes) > 1:
        listed = ", ".join(f"{width} x {height}" for width, height in sorted(sizes)[:5])
        raise DatasetError(f"the pictures are {listed} pixels: a LeRobot camera has one size; export them apart")
    episodes = _episodes(dataset)
    schema = _schema(pa)
    (folder / "meta/episodes/chunk-000").mkdir(parents=True)
    (folder / "data/chunk-000").mkdir(parents=True)
    count = 0
    with pq.ParquetWriter(folder / _DATA.format(chunk_index=0, file_index=0), schema) as table:
        waiting: list[dict[str, Any]] = []
        for number, items in enumerate(episodes.values()):
            for frame, item in enumerate(items):
                waiting.append(_row(dataset, item, number, frame, count))
                count += 1
                progress(count, len(dataset.items), item.file)
                if len(waiting) == _ROWS_AT_ONCE:
                    table.write_table(pa.Table.from_pylist(waiting, schema=schema))
                    waiting = []
        if waiting:
            table.write_table(pa.Table.from_pylist(waiting, schema=schema))
    start, rows = 0, []
    for number, ((_, name), items) in enumerate(episodes.items()):
        rows.append(
            {
                "episode_index": number,
                "tasks": [QUESTION],
                "length": len(items),
                "data/chunk_index": 0,
                "data/file_index": 0,
                "dataset_from_index": start,
                "dataset_to_index": start + len(items),
                "meta/episodes/chunk_index": 0,
                "meta/episodes/file_index": 0,
                "name": name,
            }
        )
        start += len(items)
    pq.write_table(pa.Table.from_pylist(rows), folder / "meta/episodes/chunk-000/file-000.parquet")
    pq.write_table(tasks_table(pa, [QUESTION]), folder / "meta/tasks.parquet")
    info = _info(dataset, episodes, next(iter(sizes), (0, 0)))
    (folder / "meta/info.json").write_text(json.dumps(info, indent=4, ensure_ascii=False) + "\n", encoding="utf-8")
    (folder / "meta/stats.json").write_text(json.dumps(_statistics(dataset), indent=4) + "\n", encoding="utf-8")


def _episodes(dataset: LabelDataset) -> dict[tuple[Split, str], list[DatasetItem]]:
    """Frames by episode in the order of time, those of one split side by side."""
    found: dict[tuple[Split, str], list[DatasetItem]] = {}
    for split in Split:
        for item in dataset.of_split(split):
            found.setdefault((split, item.episode or item.source_id or item.source), []).append(item)
    return {key: sorted(items, key=lambda item: (item.stamp_ns, item.frame)) for key, items in found.items()}


def _statistics(dataset: LabelDataset) -> dict[str, Any]:
    """Of the pictures alone; LeRobot merges no data set that has none."""
    from PIL import Image as Pillow

    if not dataset.items:
        return {}
    pictures = []
    for place in chosen_pictures(len(dataset.items)).tolist():
        item = dataset.items[place]
        path = dataset.image_path(item)
        check_size(path, item.width, item.height, f"image {item.image_id}")
        try:
            with Pillow.open(path) as opened:
                pictures.append(thinned(np.asarray(opened.convert("RGB"))))
        except Exception as error:  # Pillow's decoders raise whatever the bytes lead them to
            text = f"image {item.image_id}: {path} cannot be decoded ({error}): copy it again"
            raise DatasetError(text, "image_corrupt") from error
    return {CAMERA: picture_statistics(np.stack(pictures))}


def _row(dataset: LabelDataset, item: DatasetItem, episode: int, frame: int, index: int) -> dict[str, Any]:
    path = dataset.image_path(item)
    if not path.is_file():
        raise DatasetError(f"image {item.image_id}: there is no {path}: copy it back", "image_missing")
    with disk_checked(path):
        data = path.read_bytes()
    answer = {"detections": [_detection(one, item) for one in item.annotations]}
    content = json.dumps(answer, ensure_ascii=False, allow_nan=False)
    said = {"style": "vqa", "camera": CAMERA, "tool_calls": None}
    return {
        CAMERA: {"bytes": data, "path": item.file},
        "language_events": [
            {"role": "user", "content": QUESTION, **said},
            {"role": "assistant", "content": content, **said},
        ],
        "label.image": json.dumps(item_details(item), ensure_ascii=False),
        "stamp_ns": item.stamp_ns,
        "timestamp": frame / _FPS,
        "frame_index": frame,
        "episode_index": episode,
        "index": index,
        "task_index": 0,
    }


def _detection(annotation: Annotation, item: DatasetItem) -> dict[str, Any]:
    segmentation = segmentation_json(annotation, item)
    return {
        "label": annotation.category,
        "bbox_format": "xyxy",
        "bbox": list(annotation.box),
        **({"segmentation": segmentation} if segmentation else {}),
        **annotation_details(annotation),
    }


def _schema(pa: Any) -> Any:
    # Nested fields as LeRobot declares them for this column; it reads tool_calls as text where Arrow has no JSON.
    said = [pa.field("role", pa.string(), nullable=False)]
    said += [pa.field(name, pa.string()) for name in ("content", "style", "camera")]
    said.append(pa.field("tool_calls", pa.list_(pa.string())))
    whole = ("stamp_ns", "frame_index", "episode_index", "index", "task_index")
    return pa.schema(
        [
            pa.field(CAMERA, pa.struct([("bytes", pa.binary()), ("path", pa.string())])),
            pa.field("language_events", pa.list_(pa.struct(said))),
            pa.field("label.image", pa.string()),
            pa.field("timestamp", pa.float32()),
            *(pa.field(name, pa.int64()) for name in whole),
        ]
    )


def _info(
    dataset: LabelDataset, episodes: Mapping[tuple[Split, str], Sequence[DatasetItem]], size: tuple[int, int]
) -> dict[str, Any]:
    def one(dtype: str) -> dict[str, Any]:
        return {"dtype": dtype, "shape": [1], "names": None}

    splits, start = {}, 0
    for split in Split:
        count = sum(1 for key in episodes if key[0] is split)
        if count:
            splits[split.value] = f"{start}:{start + count}"
        start += count
    width, height = size
    return {
        "codebase_version": "v3.0",
        "robot_type": None,
        "total_episodes": len(episodes),
        "total_frames": len(dataset.items),
        "total_tasks": 1,
        "chunks_size": 1000,
        "data_files_size_in_mb": 100,
        "video_files_size_in_mb": 200,
        "fps": _FPS,
        "splits": splits,
        "data_path": _DATA,
        "video_path": None,
        "features": {
            CAMERA: {"dtype": "image", "shape": [height, width, 3], "names": ["height", "width", "channels"]},
            "language_events": {"dtype": "language", "shape": [1], "names": None},
            "label.image": one("string"),
            "timestamp": one("float32"),
            **{name: one("int64") for name in ("stamp_ns", "frame_index", "episode_index", "index", "task_index")},
        },
        "label_categories": list(dataset.categories),
    }


def read(path: Path, name: str) -> Imported:
    """A folder whose tables hold pictures and such answers.

    The pictures are unpacked into a folder of temporary files, which goes with the answer.

    Raises:
        DatasetError: as ``Format`` says.
    """
    _, pq = _arrow()
    root = path.expanduser()
    info = parsing.mapping(parsing.read_json(root / "meta/info.json"), str(root / "meta/info.json"))
    tables = sorted((root / "data").glob("*/*.parquet"))
    if not tables:
        raise DatasetError(f"{root} holds no data/*/*.parquet: is the copy complete?", "dataset_missing")
    with disk_checked(tempfile.gettempdir()):
        kept = tempfile.TemporaryDirectory(prefix="flow_rag_vla_pictures_")
    unpacked = Path(kept.name)
    items: list[DatasetItem] = []
    files: dict[str, Path] = {}
    for table in tables:
        for number, row in enumerate(_rows(pq, table)):
            for camera, content in _answers(row, f"{table}, row {number}"):
                item = _item(row, camera, content, f"{table}, row {number}", unpacked, len(items), info)
                items.append(item)
                files[item.image_id] = unpacked / item.file
    if not items:
        raise DatasetError(f"{root} holds no answers with detections in language_events", "dataset_empty")
    named = [
        parsing.text(one, "label_categories", 200)
        for one in parsing.sequence(info.get("label_categories", []), f"{root}, label_categories")
    ]
    used = sorted({one.category for item in items for one in item.annotations} - set(named))
    return Imported(LabelDataset(name, (*named, *used), tuple(items)), files, kept)


def _rows(pq: Any, path: Path) -> Any:
    try:
        with disk_checked(path), pq.ParquetFile(path) as opened:
            if "language_events" not in opened.schema_arrow.names:
                raise DatasetError(f"{path} has no column language_events: it was not annotated", "dataset_empty")
            for batch in opened.iter_batches(_ROWS_AT_ONCE):
                yield from batch.to_pylist()
    except (DatasetError, GeneratorExit):
        raise
    except Exception as error:  # Arrow raises its own errors, KeyError, ValueError, whatever the bytes lead it to
        raise parsing.corrupt(path, f"it is no table ({error})") from error


def _answers(row: Mapping[str, Any], place: str) -> list[tuple[str, Mapping[str, Any]]]:
    found = []
    for event in row.get("language_events") or ():
        event = parsing.mapping(event, f"{place}, language_events")
        if event.get("style") != "vqa" or event.get("role") != "assistant":
            continue
        try:
            content = json.loads(parsing.text(event.get("content"), f"{place}, content", 1 << 26))
        except (DatasetError, ValueError, RecursionError) as error:
            raise parsing.corrupt(f"{place}, content", f"it is no JSON ({error})") from error
        # Other questions are about counts, points, relations.
        if isinstance(content, Mapping) and "detections" in content:
            found.append((parsing.text(event.get("camera"), f"{place}, camera", 200), content))
    return found


def _item(
    row: Mapping[str, Any],
    camera: str,
    content: Mapping[str, Any],
    place: str,
    folder: Path,
    number: int,
    info: Mapping[str, Any],
) -> DatasetItem:
    feature = parsing.mapping(parsing.mapping(info.get("features"), "features").get(camera), f"{place}, {camera}")
    if feature.get("dtype") != "image":
        raise DatasetError(f"{place}: {camera} is a {feature.get('dtype')}: write the pictures into the tables")
    height, width = (parsing.whole(one, f"{camera}, shape", 1, 1 << 16) for one in feature.get("shape", [])[:2])
    picture = parsing.mapping(row.get(camera), f"{place}, {camera}")
    data = picture.get("bytes")
    if not isinstance(data, bytes):
        raise DatasetError(f"{place}: {camera} holds no picture", "image_missing")
    unnamed = f"frame_{number:06d}"
    details: Any = {}
    if row.get("label.image"):
        try:
            details = json.loads(parsing.text(row["label.image"], f"{place}, label.image", 1 << 16))
        except ValueError as error:
            raise parsing.corrupt(f"{place}, label.image", f"it is no JSON ({error})") from error
    details = parsing.mapping(details, f"{place}, label.image")
    episode = f"episode_{parsing.whole(row.get('episode_index', 0), f'{place}, episode_index')}"
    defaults = {"episode": episode, "stamp_ns": row.get("stamp_ns") or 0, "frame": row.get("frame_index", 0)}
    fields = item_fields({**defaults, **details}, place, unnamed, Split.TRAIN)
    given = picture.get("path") if details else None
    file = check_file(parsing.text(given or f"{unnamed}.png", f"{place}, path", 200), unnamed)
    with disk_checked(folder / file):
        (folder / file).write_bytes(data)
    check_size(folder / file, width, height, place)
    detections = parsing.sequence(content["detections"], f"{place}, detections")
    annotations = tuple(
        _annotation(parsing.mapping(one, f"{place}, detection {which}"), f"{place}, detection {which}", width, height,
                    f"{fields['image_id']}_{which}")
        for which, one in enumerate(detections)
    )  # fmt: skip
    return DatasetItem(file=file, width=width, height=height, annotations=annotations, **fields)


def _annotation(row: Mapping[str, Any], place: str, width: int, height: int, unnamed: str) -> Annotation:
    if row.get("bbox_format", "xyxy") != "xyxy":
        raise DatasetError(f"{place}: bbox_format {str(row.get('bbox_format'))[:40]!r}, expected xyxy")
    numbers = [parsing.number(one, f"{place}, bbox") for one in parsing.sequence(row.get("bbox"), f"{place}, bbox")]
    if len(numbers) != 4:
        raise parsing.corrupt(f"{place}, bbox", f"{len(numbers)} numbers, expected 4")
    drawn = (numbers[0], numbers[1], numbers[2], numbers[3])
    rle, rings = segmentation_of(row.get("segmentation"), place, width, height)
    return Annotation(
        category=parsing.text(row.get("label"), f"{place}, label", 200),
        box=parsing.inside_box(edges_or(row, drawn, place), width, height, place),
        rle=rle,
        polygons=rings,
        **annotation_fields(row, place, unnamed),
    )


def _arrow() -> tuple[Any, Any]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise DatasetError(
            f"LeRobot data sets need pyarrow ({error}); install it: pip install 'flow_rag_vla[dataset]'",
            "extra_missing",
        ) from error
    return pyarrow, pyarrow.parquet


LEROBOT = Format("lerobot", "LeRobot v3 with detections in language_events, pictures of one size", "", write, read)
