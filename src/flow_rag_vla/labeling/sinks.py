# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Where labels go: JSON lines, overlay pictures, the registry, a bag."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np

from flow_rag_vla.core.files import write_text
from flow_rag_vla.labeling.datasets.folders import file_digest
from flow_rag_vla.labeling.overlay import overlay
from flow_rag_vla.labeling.pipeline.errors import LabelingError
from flow_rag_vla.labeling.pipeline.pipeline import LabelingPipeline
from flow_rag_vla.labeling.pipeline.request import LabelRequest
from flow_rag_vla.labeling.registration import TrackNames, embedder_of, register_once, request_key
from flow_rag_vla.labeling.registry.errors import RegistryError
from flow_rag_vla.labeling.registry.registry import Registry
from flow_rag_vla.labeling.registry.values import (
    DEFAULT_PROJECT,
    Image,
    ImageDraft,
    SourceDraft,
    SourceKind,
)
from flow_rag_vla.labeling.run_lengths import mask_counts
from flow_rag_vla.labeling.runs import BAG, FOLDER, VIDEO, LabelledFrame, LabelSource
from flow_rag_vla.labeling.video.bags import LabelledBagWriter
from flow_rag_vla.labeling.video.tracks import Track

LABELS_FILE = "labels.jsonl"
TRACKS_FILE = "tracks.json"
OVERLAY_FOLDER = "overlays"


def frame_record(frame: LabelledFrame, *, masks: bool = True) -> dict[str, Any]:
    """One picture's labels as JSON; boxes are left, top, right, bottom in pixels."""
    about: dict[str, Any] = {"image": frame.name, "frame": frame.frame, "stamp_ns": frame.stamp_ns}
    if frame.topic:
        about["topic"] = frame.topic
    if frame.error is not None:
        return {**about, "error": frame.error.code, "message": str(frame.error)}
    found = frame.detections
    assert found is not None
    objects = []
    for row, (box, score, label) in enumerate(zip(found.boxes, found.scores, found.labels, strict=True)):
        item: dict[str, Any] = {
            "label": label,
            "score": round(float(score), 4),
            "box": [round(float(value), 2) for value in box],
        }
        if frame.tracks:
            item["track"] = frame.tracks[row]
        if masks and found.masks is not None:
            item["mask"] = {"size": [found.height, found.width], "counts": mask_counts(found.masks[row])}
        objects.append(item)
    origin = {
        "model": found.origin.model,
        "revision": found.origin.revision,
        "prompt": found.origin.prompt,
        "threshold": found.origin.threshold,
        "score_kind": found.score_kind.value,
    }
    return {**about, "width": found.width, "height": found.height, **origin, "objects": objects}


class JsonLinesSink:
    """``labels.jsonl``: one line a picture, written as it is labelled; ``tracks.json`` at the end."""

    def __init__(self, folder: str | Path, *, masks: bool = True) -> None:
        """Begin the file anew.

        Raises:
            OSError: if it cannot be written.
        """
        self._folder = Path(folder)
        self._folder.mkdir(parents=True, exist_ok=True)
        self._masks = masks
        self._stream: IO[str] = (self._folder / LABELS_FILE).open("w", encoding="utf-8")

    def write(self, frame: LabelledFrame) -> None:
        """Add a line; a picture that could not be labelled says why."""
        self._stream.write(json.dumps(frame_record(frame, masks=self._masks), ensure_ascii=False) + "\n")
        self._stream.flush()

    def close(self, tracks: Sequence[tuple[str, Track]]) -> None:
        """Write the tracks, if things were followed."""
        self._stream.close()
        if tracks:
            rows = [track_record(topic, track) for topic, track in tracks]
            write_text(self._folder / TRACKS_FILE, json.dumps(rows, indent=1, ensure_ascii=False) + "\n")


def track_record(topic: str, track: Track) -> dict[str, Any]:
    """A track as JSON: what, from when to when, how sure, in which frames."""
    about: dict[str, Any] = {"topic": topic} if topic else {}
    boxes = [[round(float(value), 2) for value in item.box] for item in track.sightings]
    return {
        **about,
        "track": str(track.track_id),
        "label": track.label,
        "start_frame": track.start_frame,
        "end_frame": track.end_frame,
        "start_ns": track.start_ns,
        "end_ns": track.end_ns,
        "mean_confidence": round(track.mean_confidence, 4),
        "frames": [item.frame for item in track.sightings],
        "stamps_ns": [item.stamp_ns for item in track.sightings],
        "boxes": boxes,
    }


class OverlaySink:
    """``overlays/``: each picture with its labels drawn over it, as PNG."""

    def __init__(self, folder: str | Path, most: int = 0) -> None:
        """Make the folder. most: pictures after which no more are drawn; 0: all."""
        self._folder = Path(folder) / OVERLAY_FOLDER
        self._folder.mkdir(parents=True, exist_ok=True)
        self._most = most
        self._count = 0

    def write(self, frame: LabelledFrame) -> None:
        """Draw one picture."""
        if frame.image is None or frame.detections is None or (self._most and self._count >= self._most):
            return
        from PIL import Image as Pillow

        topic = frame.topic.strip("/").replace("/", "_")
        stem = topic or Path(frame.name.rpartition("#")[0] or frame.name).stem
        drawn = overlay(frame.image, frame.detections, frame.tracks)
        Pillow.fromarray(drawn).save(self._folder / f"{frame.frame:06d}_{stem}.png")
        self._count += 1

    def close(self, tracks: Sequence[tuple[str, Track]]) -> None:
        """Nothing is left to do."""


class RegistrySink:
    """Into a registry: the source, its pictures, and what was found in each, with tracks and embeddings.

    Labelling the same pictures again in the same way adds nothing, wherever they lie: each picture's batch has a key of
    its own, and a file is known by its SHA-256. Another model, or another revision, adds further labels to what is
    there; see ``registration``.
    """

    def __init__(
        self,
        registry: Registry,
        source: LabelSource,
        pipeline: LabelingPipeline,
        *,
        who: str,
        project: str = DEFAULT_PROJECT,
        request: LabelRequest | None = None,
        licence: str = "",
        captured_ns: int = 0,
    ) -> None:
        """Nothing is stored yet.

        Args:
            registry: where.
            source: what is labelled.
            pipeline: what labels it.
            who: who registers.
            project: of the registry.
            request: what the run asks for; default: that of a run without one.
            licence: under which the source stands, SPDX id or text; "" says nothing, and leaves what was said before.
            captured_ns: when what is labelled was taken (a video: began), UTC; 0 says nothing either.

        Raises:
            RegistryError: there is no such project.
        """
        registry.categories(project)
        kinds = {FOLDER: SourceKind.FOLDER, VIDEO: SourceKind.VIDEO, BAG: SourceKind.BAG}
        path = source.path.resolve()
        single = source.kind == FOLDER and path.is_file()
        kind = SourceKind.IMAGE if single else kinds[source.kind]
        self._base = path.parent if single else path
        self._registry, self._pipeline = registry, pipeline
        self._who, self._project = who, project
        self._request = request or LabelRequest()
        self._licence, self._captured_ns = licence, captured_ns
        self._source = SourceDraft(kind, str(path), project)
        self._source_id = ""
        self.source_ids: tuple[str, ...] = ()
        """Sources that the pictures so far are of: of a copy, those of the pictures that it is a copy of."""
        self._followed = source.kind != FOLDER
        self._names: TrackNames | None = None
        self.objects = 0
        """Found so far, and in the registry."""
        self.new = 0
        """Of them, those that are new objects."""
        self.labelled = 0
        """Of them, those that gave an object that was there a further label."""

    @property
    def source_id(self) -> str:
        """That of what is labelled, registered when it is first asked for: a copy of pictures that are there is none.

        Raises:
            RegistryError: as ``Registry.add_source``.
        """
        if not self._source_id:
            self._source_id = self._registry.add_source(self._source).source_id
        return self._source_id

    def write(self, frame: LabelledFrame) -> None:
        """Register one picture and its objects.

        Raises:
            LabelingError: what the registry refuses, with its code.
        """
        found = frame.detections
        if found is None:
            return
        try:
            draft = self._draft(frame)
            image = self._known_image(draft) or self._registry.add_images(self.source_id, [draft])[0]
            moved = frame.stamp_ns is not None and image.stamp_ns != draft.stamp_ns
            if moved or (draft.digest and image.digest != draft.digest):
                raise LabelingError(
                    f"{frame.name} shows something else than when it was registered: give it another name",
                    "image_changed",
                )
            # Each topic counts its tracks from 1, and a source has one list of names.
            tracks = [f"{frame.topic}#{track}" if frame.topic else track for track in frame.tracks]
            done = register_once(
                self._registry,
                image,
                self._project,
                found,
                who=self._who,
                embedder=embedder_of(self._pipeline, found),
                tracks=partial(self._track_names().of, tracks),
                key=request_key(image, draft.digest or _shown(frame), found, self._request),
            )
            if image.source_id not in self.source_ids:
                self._describe(image.source_id)
                self.source_ids = (*self.source_ids, image.source_id)
        except RegistryError as error:
            raise LabelingError(str(error), error.code.value) from error
        self.objects += len(found)
        self.new += done.new
        self.labelled += done.labelled

    def close(self, tracks: Sequence[tuple[str, Track]]) -> None:
        """Nothing is left to do: every picture was stored when it came."""

    def _describe(self, source_id: str) -> None:
        """Note what was said of the source; pictures that are copies of another one's say nothing of that one."""
        source = self._registry.source(source_id)
        licence = self._licence or source.licence
        captured_ns = self._captured_ns or source.captured_ns
        if source.path == self._source.path and (licence, captured_ns) != (source.licence, source.captured_ns):
            self._registry.describe_source(source_id, licence=licence, captured_ns=captured_ns)

    def _track_names(self) -> TrackNames:
        if self._names is None:
            tracks = self._registry.tracks(self.source_id) if self._followed else ()
            self._names = TrackNames({one.track_id: one.name for one in tracks})
        return self._names

    def _draft(self, frame: LabelledFrame) -> ImageDraft:
        assert frame.detections is not None
        if frame.topic:
            name = frame.topic.strip("/")
        elif "#" in frame.name and self._base.is_file():
            name = self._base.name
        else:
            path = Path(frame.name).resolve()
            name = path.relative_to(self._base).as_posix() if path.is_relative_to(self._base) else path.name
        found = frame.detections
        if frame.stamp_ns is None:
            file = Path(frame.name)
            return ImageDraft(name, found.width, found.height, digest=file_digest(file) if file.is_file() else "")
        # Its place among all frames: a run that takes fewer of them means the same ones.
        place = frame.name.rpartition("#")[2]
        number = frame.frame if frame.bag_frame is None else frame.bag_frame.number
        if frame.bag_frame is None and place.isdigit():
            number = int(place)
        return ImageDraft(name, found.width, found.height, number, max(0, frame.stamp_ns))

    def _known_image(self, draft: ImageDraft) -> Image | None:
        """The same file where it was registered before, if it is still there; frames are known by their place alone."""
        known = self._registry.images_of_digest(draft.digest, self._project) if draft.digest else ()
        sources = [(self._registry.source(image.source_id), image) for image in known]
        for source, image in sorted(sources, key=lambda one: one[0].path != self._source.path):
            place = Path(source.path)
            if (place / image.name if source.kind is SourceKind.FOLDER else place).is_file():
                return image
        return None


def _shown(frame: LabelledFrame) -> str:
    """SHA-256 of a frame's pixels: a video that was put in the place of another one is another one."""
    return "" if frame.image is None else hashlib.sha256(np.ascontiguousarray(frame.image).data).hexdigest()


class BagSink:
    """Into a copy of the bag, on a topic beside each topic of pictures."""

    def __init__(self, source: LabelSource, folder: str | Path) -> None:
        """Create the bag.

        Raises:
            LabelingError: if the source is no bag, or the folder exists.
        """
        if source.bag is None:
            raise LabelingError(f"{source.path} is no bag: labels go back only into bags", "source_kind")
        self._writer = LabelledBagWriter(source.bag, folder, source.topics)

    @property
    def left_out(self) -> tuple[str, ...]:
        """Topics that could not be copied: nobody knows their definitions."""
        return self._writer.left_out

    def write(self, frame: LabelledFrame) -> None:
        """Keep one picture's labels."""
        if frame.detections is not None and frame.bag_frame is not None:
            self._writer.add(frame.bag_frame, frame.detections, frame.tracks)

    def close(self, tracks: Sequence[tuple[str, Track]]) -> None:
        """Write the copy."""
        self._writer.close()
