# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Labels back into a bag: all that was recorded, and beside each picture what was found in it, at the same time."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from flow_rag_vla.data.bag import Bag
from flow_rag_vla.data.bag_writer import BagWriter
from flow_rag_vla.data.definitions import Definitions, UnknownTypeError
from flow_rag_vla.labeling.detections import Detections, ScoreKind
from flow_rag_vla.labeling.pipeline.errors import SourceError
from flow_rag_vla.labeling.video.frames import BagFrame

ARRAY_TYPE = "flow_rag_vla_interfaces/msg/DetectionArray"
ITEM_TYPE = "flow_rag_vla_interfaces/msg/Detection"

SCORE_CODES = {
    ScoreKind.SOFTMAX: 1,
    ScoreKind.SIGMOID: 2,
    ScoreKind.TOKEN_PROBABILITY: 3,
    ScoreKind.CALIBRATED: 4,
    ScoreKind.GROUND_TRUTH: 5,
    ScoreKind.HUMAN: 6,
}
"""``SCORE_*`` of the message."""

_CHECKPOINT_NS = 10_000_000_000


def detections_topic(image_topic: str) -> str:
    """Where the labels of an image topic go: "/camera/front/image_raw" -> "/camera/front/detections"."""
    parent = image_topic.removesuffix("/compressed").rpartition("/")[0]
    return f"{parent}/detections"


def mask_png(mask: np.ndarray, box: np.ndarray) -> bytes:
    """PNG, one channel, 0 or 255, of a mask's pixels within its box (floor of the low to ceil of the high corner)."""
    from PIL import Image as Pillow

    left, top = (int(np.floor(value)) for value in box[:2])
    right, bottom = (int(np.ceil(value)) for value in box[2:])
    buffer = io.BytesIO()
    Pillow.fromarray(mask[top:bottom, left:right].astype(np.uint8) * 255).save(buffer, "PNG")
    return buffer.getvalue()


def detection_fields(found: Detections, ids: Sequence[str] = ()) -> list[dict[str, Any]]:
    """The fields of a ``Detection`` message for each row; ids: of tracks or registered objects, or none."""
    rows = []
    for row, (box, score, label) in enumerate(zip(found.boxes, found.scores, found.labels, strict=True)):
        left, top, right, bottom = (float(value) for value in box)
        mask = b"" if found.masks is None else mask_png(found.masks[row], box)
        rows.append(
            {
                "id": ids[row] if ids else "",
                "class_id": label,
                "score": float(score),
                "score_kind": SCORE_CODES[found.score_kind],
                "center_x": (left + right) / 2,
                "center_y": (top + bottom) / 2,
                "size_x": right - left,
                "size_y": bottom - top,
                "mask": np.frombuffer(mask, np.uint8),
                "embedding": np.zeros(0, np.float32) if found.embeddings is None else found.embeddings[row],
            }
        )
    return rows


class LabelledBagWriter:
    """A copy of a bag with a topic of labels beside each topic of pictures. Not safe for use by several threads.

    Labels are written as they come; ``close`` writes the rest of what was recorded. Log times and headers are those of
    the pictures, so what was received together stays together.
    """

    def __init__(self, source: Bag, folder: str | Path, image_topics: Sequence[str]) -> None:
        """Create the bag and declare its topics.

        Raises:
            SourceError: if the folder exists.
        """
        self._source = source
        self._definitions = Definitions()
        self._definitions.ensure(ARRAY_TYPE)
        self.left_out: tuple[str, ...] = ()
        """Topics whose definition nobody knows."""
        try:
            self._writer = BagWriter(folder, self._definitions)
        except FileExistsError as error:
            raise SourceError(str(error), "source_exists") from error
        left_out: list[str] = []
        for channel in source.channels:
            if channel.encoding == "ros2msg" and channel.definition:
                self._definitions.register_text(channel.msgtype, channel.definition)
            try:
                self._writer.add_topic(channel.topic, channel.msgtype, channel.qos)
            except UnknownTypeError:
                left_out.append(channel.topic)
        self.left_out = tuple(dict.fromkeys(left_out))
        for topic in image_topics:
            self._writer.add_topic(detections_topic(topic), ARRAY_TYPE, ())
        self._labels: list[_Label] = []

    def add(self, frame: BagFrame, found: Detections, ids: Sequence[str] = ()) -> None:
        """Keep the labels of one picture until ``close``."""
        items = [self._definitions.message(ITEM_TYPE, **values) for values in detection_fields(found, ids)]
        header_type, time_type = "std_msgs/msg/Header", "builtin_interfaces/msg/Time"
        stamp = self._definitions.message(
            time_type, sec=frame.stamp_ns // 1_000_000_000, nanosec=frame.stamp_ns % 1_000_000_000
        )
        message = self._definitions.message(
            ARRAY_TYPE,
            header=self._definitions.message(header_type, stamp=stamp, frame_id=frame.frame_id),
            width=found.width,
            height=found.height,
            model=found.origin.model,
            revision=found.origin.revision,
            prompt=found.origin.prompt,
            threshold=float(found.origin.threshold),
            detections=items,
        )
        data = self._definitions.serialize(message, ARRAY_TYPE)
        self._labels.append(_Label(frame.log_ns, len(self._labels), detections_topic(frame.topic), data))

    def close(self, progress: Callable[[int], None] | None = None) -> int:
        """Write everything in the order of log times; give the number of messages. A second call does nothing.

        progress: called with the number of messages so far, now and then

        Raises:
            BagWriteError: if the disk is full; the bag is then whole up to there.
        """
        if self._writer.closed:
            return self._writer.messages
        labels = sorted(self._labels, key=lambda item: (item.log_ns, item.number))
        place = 0
        left_out = set(self.left_out)
        last_ns: int | None = None
        for channel, log_ns, data in self._source.raw():
            while place < len(labels) and labels[place].log_ns < log_ns:
                self._writer.write(labels[place].topic, labels[place].log_ns, labels[place].data)
                place += 1
            if channel.topic not in left_out:
                self._writer.write(channel.topic, log_ns, data)
            if progress is not None and self._writer.messages % 100 == 0:
                progress(self._writer.messages)
            if last_ns is None or log_ns - last_ns > _CHECKPOINT_NS:
                self._writer.checkpoint()
                last_ns = log_ns
        for label in labels[place:]:
            self._writer.write(label.topic, label.log_ns, label.data)
        self._writer.close()
        return self._writer.messages

    def __enter__(self) -> LabelledBagWriter:
        """The writer itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the bag, also after an error: the labels so far are kept."""
        self.close()


@dataclass(frozen=True, slots=True)
class _Label:
    log_ns: int
    number: int
    topic: str
    data: bytes = field(repr=False)
