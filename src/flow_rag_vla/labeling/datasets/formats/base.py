# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What every format has in common: where pictures go, and how those of others are found."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from flow_rag_vla.labeling.datasets import parsing
from flow_rag_vla.labeling.datasets.dataset import DatasetItem, LabelDataset
from flow_rag_vla.labeling.datasets.errors import DatasetError, disk_checked
from flow_rag_vla.labeling.pipeline.images import MAX_PIXELS
from flow_rag_vla.learn.progress import Progress

IMAGES = "images"


@dataclass(frozen=True, slots=True)
class Imported:
    """A dataset that somebody wrote in some format. files: its pictures where they lie, by image id.

    kept: the folder of pictures that had to be unpacked, removed when it is closed or forgotten; else None
    """

    dataset: LabelDataset
    files: Mapping[str, Path]
    kept: tempfile.TemporaryDirectory[str] | None = None

    def close(self) -> None:
        """Remove what was unpacked."""
        if self.kept is not None:
            self.kept.cleanup()


@dataclass(frozen=True, slots=True)
class Format:
    """One format.

    about: what it is; loses: what of a dataset it cannot hold, "" nothing
    write: fills a folder; read: a folder or file that anybody wrote, and the name of the dataset
    """

    name: str
    about: str
    loses: str
    write: Callable[[LabelDataset, Path, Progress], None]
    read: Callable[[Path, str], Imported]


def copy_images(dataset: LabelDataset, folder: Path, name_of: Callable[[DatasetItem], str], progress: Progress) -> None:
    """Copy the pictures to where a format wants them; ``name_of``: the path in ``folder``."""
    for number, item in enumerate(dataset.items, 1):
        target = folder / name_of(item)
        target.parent.mkdir(parents=True, exist_ok=True)
        source = dataset.image_path(item)
        if not source.is_file():
            raise DatasetError(f"image {item.image_id}: there is no {source}: copy it back", "image_missing")
        shutil.copyfile(source, target)
        progress(number, len(dataset.items), item.file)


def by_id(item: DatasetItem) -> str:
    """A picture's file name by its id: names without their endings are unique too."""
    return f"{item.image_id}{PurePosixPath(item.file).suffix}"


def image_size(path: Path, place: str) -> tuple[int, int]:
    """Width and height of a picture, from its header.

    Raises:
        DatasetError: ``image_corrupt``.
    """
    from PIL import Image as Pillow

    with disk_checked(path):
        stream = path.open("rb")
    try:
        with stream, Pillow.open(stream) as opened:
            width, height = opened.size
    except Exception as error:  # Pillow's decoders raise whatever the bytes lead them to
        raise DatasetError(
            f"{place}: {path} is no readable picture ({error}): copy it again", "image_corrupt"
        ) from error
    if width * height > MAX_PIXELS:
        raise DatasetError(f"{place}: {path} is {width} x {height} pixels, more than {MAX_PIXELS}", "image_corrupt")
    return width, height


def check_size(path: Path, width: int, height: int, place: str) -> None:
    """Refuse a picture of another size than its annotations are for.

    Raises:
        DatasetError: ``image_mismatch`` or ``image_corrupt``.
    """
    found = image_size(path, place)
    if found != (width, height):
        raise DatasetError(
            f"{place}: {path} is {found[0]} x {found[1]} pixels, its annotations are for {width} x {height}: bring the "
            "right picture",
            "image_mismatch",
        )


def plain_names(names: Sequence[str]) -> dict[str, str]:
    """Plain unique names for the files of pictures, by the paths that a format gives."""
    taken: set[str] = set()
    return {name: parsing.plain_name(name, taken, number) for number, name in enumerate(dict.fromkeys(names), 1)}


def found_below(path: Path, name: str) -> Path:
    """The file ``name`` in a folder, or the file itself where a file was given.

    Raises:
        DatasetError: ``dataset_missing``.
    """
    path = path.expanduser()
    file = path / name if path.is_dir() else path
    if not file.is_file():
        raise DatasetError(f"there is no {file}: give the folder that holds {name}, or the file", "dataset_missing")
    return file
