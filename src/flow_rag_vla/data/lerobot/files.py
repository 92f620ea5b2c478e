# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The tables and videos of a data set as they are written, another file from a size on."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.processes import own_scheduling
from flow_rag_vla.data.lerobot.layout import CHUNK_SIZE, DATA_MB, DATA_PATH, FPS, VIDEO_MB, VIDEO_PATH, codec


class DataFiles:
    """Tables of rows, another file from DATA_MB on."""

    def __init__(self, root: Path, pa: Any, pq: Any, features: Mapping[str, Mapping[str, Any]]) -> None:
        self._root, self._pa, self._pq = root, pa, pq
        self._schema = schema_of(pa, features)
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
        """End the file that is being written."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


class VideoFiles:
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
        """End the video that is being written."""
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
        name = codec()
        # A key frame every other one, as LeRobot asks for: any frame is reached fast.
        options = {"g": "2", "crf": "30", "preset": "8"} if name == "libsvtav1" else {"g": "2", "q:v": "2"}
        self._stream = self._container.add_stream(name, rate=FPS, options=options)
        self._stream.height, self._stream.width = int(pixels.shape[0]), int(pixels.shape[1])
        self._stream.pix_fmt = "yuv420p"
        with own_scheduling():
            self._container.start_encoding()


def tasks_table(pa: Any, tasks: Sequence[str]) -> Any:
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


def write_table(pq: Any, path: Path, table: Any) -> None:
    """One table in one file, whose folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(table, path, compression="snappy")


def schema_of(pa: Any, features: Mapping[str, Mapping[str, Any]]) -> Any:
    """The columns of features, with what Hugging Face's datasets library wants to know of them."""
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
