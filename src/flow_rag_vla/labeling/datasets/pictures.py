# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The pictures of registered images as files of a dataset: copied, or taken out of videos and bags in one pass each."""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from flow_rag_vla.data.bag import BagError
from flow_rag_vla.labeling.datasets.errors import DatasetError, disk_checked
from flow_rag_vla.labeling.pipeline.errors import LabelingError
from flow_rag_vla.labeling.pipeline.images import Image as Pixels
from flow_rag_vla.labeling.pipeline.images import read_image
from flow_rag_vla.labeling.registry.values import Image, Source, SourceKind
from flow_rag_vla.labeling.video.frames import bag_frames, open_bag
from flow_rag_vla.labeling.video.sent import kept_frames

COPIED = (".png", ".jpg", ".jpeg", ".webp", ".bmp")
"""Kinds of files that every reader takes; others are written anew as PNG."""
_ONE_FILE = (SourceKind.IMAGE, SourceKind.UPLOAD)
_ORIENTATION = 0x0112
_UPRIGHT = 1

Done = Callable[[str], None]
"""Called with the name of each file that is there."""


def place_pictures(
    source: Source, images: Sequence[Image], folder: Path, done: Done, *, link: bool = False
) -> Mapping[str, str]:
    """Put the pictures of a source into a folder, each under its id.

    Args:
        source: whose they are.
        images: registered pictures of it.
        folder: where to; must exist.
        done: called after each.
        link: symbolic links to files that need no change.

    Returns:
        Names of the files by image id.

    Raises:
        DatasetError: ``image_missing``, ``image_mismatch`` (of another size than registered), ``image_corrupt``,
            ``disk_full``.
    """
    if source.kind is SourceKind.BAG:
        return _of_bag(source, images, folder, done)
    if source.kind is SourceKind.VIDEO:
        return _of_video(source, images, folder, done)
    files = {}
    for image in images:
        path = Path(source.path) if source.kind in _ONE_FILE else Path(source.path) / image.name
        files[image.image_id] = _of_file(path, image, folder, link)
        done(files[image.image_id])
    return files


def _of_file(path: Path, image: Image, folder: Path, link: bool) -> str:
    from PIL import Image as Pillow

    if not path.is_file():
        raise _missing(image, str(path))
    try:
        with Pillow.open(path) as opened:
            size, turned = opened.size, opened.getexif().get(_ORIENTATION, _UPRIGHT) != _UPRIGHT
    except Exception as error:  # Pillow's decoders raise whatever the bytes lead them to
        raise DatasetError(
            f"image {image.image_id}: {path} is no readable picture ({error}): copy it back", "image_corrupt"
        ) from error
    suffix = path.suffix.lower()
    if turned or suffix not in COPIED:
        # Boxes count the pixels of the upright picture, and not every reader turns it.
        return _write(_read(path, image), image, folder)
    _check_size(image, size[0], size[1], str(path))
    name = f"{image.image_id}{suffix}"
    with disk_checked(folder):
        if link:
            (folder / name).symlink_to(path.resolve())
        else:
            shutil.copyfile(path, folder / name)
    return name


def _read(path: Path, image: Image) -> Pixels:
    try:
        return read_image(path)
    except LabelingError as error:
        raise DatasetError(f"image {image.image_id}: {error}", "image_corrupt") from error


def _of_video(source: Source, images: Sequence[Image], folder: Path, done: Done) -> dict[str, str]:
    wanted: dict[int, list[Image]] = {}
    for image in images:
        wanted.setdefault(image.stamp_ns, []).append(image)
    files: dict[str, str] = {}
    try:
        for frame in kept_frames(Path(source.path)):
            for image in wanted.pop(frame.stamp_ns or 0, ()):
                files[image.image_id] = _write(frame.load(), image, folder)
                done(files[image.image_id])
            if not wanted:
                return files
    except DatasetError:
        raise
    except LabelingError as error:
        raise DatasetError(f"source {source.source_id}: {error}", "image_missing") from error
    raise _missing(next(iter(wanted.values()))[0], source.path)


def _of_bag(source: Source, images: Sequence[Image], folder: Path, done: Done) -> dict[str, str]:
    files: dict[str, str] = {}
    wanted: dict[tuple[str, int], list[Image]] = {}
    try:
        bag = open_bag(source.path)
        for image in images:
            topic = bag.find(image.name)
            if topic is None:
                raise _missing(image, source.path)
            wanted.setdefault((topic, image.stamp_ns), []).append(image)
        for frame in bag_frames(bag, sorted({topic for topic, _ in wanted})):
            for image in wanted.pop((frame.topic, frame.stamp_ns), ()):
                files[image.image_id] = _write(frame.source().load(), image, folder)
                done(files[image.image_id])
            if not wanted:
                return files
    except DatasetError:
        raise
    except (LabelingError, BagError) as error:
        raise DatasetError(f"source {source.source_id}: {error}", "image_missing") from error
    raise _missing(next(iter(wanted.values()))[0], source.path)


def _write(pixels: Pixels, image: Image, folder: Path) -> str:
    from PIL import Image as Pillow

    _check_size(image, pixels.shape[1], pixels.shape[0], image.name)
    buffer = io.BytesIO()
    Pillow.fromarray(pixels).save(buffer, "PNG", compress_level=1)
    name = f"{image.image_id}.png"
    with disk_checked(folder):
        (folder / name).write_bytes(buffer.getvalue())
    return name


def _check_size(image: Image, width: int, height: int, place: str) -> None:
    if (width, height) != (image.width, image.height):
        raise DatasetError(
            f"image {image.image_id}: {place} is {width} x {height} pixels, it was labelled at {image.width} x "
            f"{image.height}: bring the old picture back, or register the new one",
            "image_mismatch",
        )


def _missing(image: Image, place: str) -> DatasetError:
    return DatasetError(
        f"image {image.image_id} ({image.name}, frame {image.frame}) is not in {place}: copy it back to where it was "
        "registered",
        "image_missing",
    )
