# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""YOLO: ``images/train``, ``labels/train`` and ``data.yaml``; boxes, or outlines. Numbers are shares of the size."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from flow_rag_vla.core.yaml_text import plain_yaml
from flow_rag_vla.labeling.datasets import parsing
from flow_rag_vla.labeling.datasets.dataset import Annotation, DatasetItem, LabelDataset, Split
from flow_rag_vla.labeling.datasets.errors import DatasetError
from flow_rag_vla.labeling.datasets.formats.base import (
    IMAGES,
    Format,
    Imported,
    by_id,
    copy_images,
    found_below,
    image_size,
    plain_names,
)
from flow_rag_vla.labeling.datasets.outlines import bounds, joined, rings_of
from flow_rag_vla.labeling.pipeline.images import SUFFIXES
from flow_rag_vla.learn.progress import Progress

LABELS, CONFIG = "labels", "data.yaml"
_KEYS = {"train": Split.TRAIN, "val": Split.VAL, "valid": Split.VAL, "test": Split.TEST}
_DIGITS = 12
"""Of a share: a ten-thousandth of a pixel of the largest picture is found again."""


def write(outlines: bool, dataset: LabelDataset, folder: Path, progress: Progress) -> None:
    """Fill a folder."""
    import yaml

    copy_images(dataset, folder, lambda item: f"{IMAGES}/{item.split.value}/{by_id(item)}", progress)
    numbers = {name: place for place, name in enumerate(dataset.categories)}
    for item in dataset.items:
        lines = [f"{numbers[one.category]} {_shares(one, item, outlines)}\n" for one in item.annotations]
        path = folder / LABELS / item.split.value / f"{item.image_id}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(lines), encoding="ascii")
    config: dict[str, Any] = {"path": "."}
    config |= {split.value: f"{IMAGES}/{split.value}" for split in Split if dataset.of_split(split)}
    config |= {"nc": len(dataset.categories), "names": dict(enumerate(dataset.categories))}
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    (folder / CONFIG).write_text(f"# {dataset.label}\n{text}", encoding="utf-8")


def _shares(annotation: Annotation, item: DatasetItem, outlines: bool) -> str:
    left, top, right, bottom = annotation.box
    values: tuple[float, ...]
    if not outlines:
        values = ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
    else:
        rings = rings_of(annotation, item)
        values = joined(rings) if rings else (left, top, right, top, right, bottom, left, bottom)
    sizes = (item.width, item.height)
    return " ".join(_share(value / sizes[place % 2]) for place, value in enumerate(values))


def _share(value: float) -> str:
    return f"{value:.{_DIGITS}f}".rstrip("0").rstrip(".") or "0"


def read(path: Path, name: str) -> Imported:
    """A folder with ``data.yaml``, or that file. A line of five numbers is a box, a longer one an outline.

    Raises:
        DatasetError: as ``Format`` says.
    """
    import yaml

    file = found_below(path, CONFIG)
    try:
        config = parsing.mapping(plain_yaml(parsing.read_text(file)), str(file))
    except yaml.YAMLError as error:
        raise parsing.corrupt(file, f"it is no YAML ({str(error)[:200]})") from error
    categories = _categories(config, file)
    pictures: list[tuple[Split, Path, Path]] = []
    for key, split in _KEYS.items():
        if config.get(key) is not None and not (key == "valid" and config.get("val") is not None):
            for folder in _folders(config, key, file):
                pictures += [(split, folder, one) for one in _pictures(folder)]
    if not pictures:
        raise DatasetError(f"{file} names no folder with pictures: is the copy complete?", "dataset_empty")
    plain = plain_names([str(one) for _, _, one in pictures])
    taken: set[str] = set()
    items, files = [], {}
    for split, folder, picture in pictures:
        stem = Path(plain[str(picture)]).stem
        image_id = stem if stem not in taken else f"{split.value}_{len(taken)}"
        taken.add(image_id)
        width, height = image_size(picture, f"picture of {file}")
        labels = _labels_file(folder, picture)
        if labels.is_file() and not labels.resolve().is_relative_to(file.parent.resolve()):
            raise DatasetError(
                f"{labels} is a link that leads out of {file.parent}: copy the file there", "unsafe_path"
            )
        annotations = _annotations(labels, image_id, width, height, categories) if labels.is_file() else ()
        items.append(DatasetItem(image_id, plain[str(picture)], width, height, split, annotations=annotations))
        files[image_id] = picture
    return Imported(LabelDataset(name, categories, tuple(items)), files)


def _categories(config: Mapping[str, Any], file: Path) -> tuple[str, ...]:
    names = config.get("names")
    if isinstance(names, Mapping):
        numbers = [parsing.whole(one, f"{file}, names") for one in names]
        if sorted(numbers) != list(range(len(numbers))):
            raise parsing.corrupt(file, "names are not numbered 0, 1, 2, ... without a gap")
        names = [names[one] for one in sorted(names)]
    listed = parsing.sequence(names, f"{file}, names")
    # YAML reads the name 2 as a number.
    plain = [str(one) if isinstance(one, (int, float)) else one for one in listed]
    return tuple(parsing.text(one, f"{file}, names", 200) for one in plain)


def _folders(config: Mapping[str, Any], key: str, file: Path) -> list[Path]:
    given = config[key] if isinstance(config[key], list) else [config[key]]
    base = parsing.text(config.get("path") or ".", f"{file}, path", 1_000)
    root = file.parent.resolve()
    found = []
    for one in given:
        text = parsing.text(one, f"{file}, {key}", 1_000)
        if text.endswith(".txt"):
            raise DatasetError(f"{file}, {key}: lists of pictures ({text}) are not read: name their folder")
        # A path of the machine on which it was written means nothing here; Roboflow writes ../train/images.
        tried = [base if Path(base).is_absolute() else root / base, root]
        spots = [Path(start) / part for start in tried for part in (text, text.removeprefix("../"))]
        inside = [spot.resolve() for spot in spots if spot.resolve().is_relative_to(root)]
        if not inside:
            raise DatasetError(f"{file}, {key}: {text[:120]!r} leads out of {root}: move it there", "unsafe_path")
        folder = next((spot for spot in inside if spot.is_dir()), None)
        if folder is None:
            raise DatasetError(f"{file}, {key}: there is no folder {text[:120]!r}: copy it there", "dataset_missing")
        found.append(folder)
    return found


def _pictures(folder: Path) -> list[Path]:
    found = sorted(one for one in folder.rglob("*") if one.suffix.lower() in SUFFIXES and one.is_file())
    for one in found:
        if not one.resolve().is_relative_to(folder.resolve()):
            raise DatasetError(f"{one} is a link that leads out of {folder}: copy the picture there", "unsafe_path")
    return found


def _labels_file(folder: Path, picture: Path) -> Path:
    """The same path with ``labels`` in place of the last ``images``."""
    parts = list(picture.parts)
    for place in range(len(parts) - 2, -1, -1):
        if parts[place] == IMAGES:
            parts[place] = LABELS
            break
    return Path(*parts).with_suffix(".txt")


def _annotations(
    path: Path, image_id: str, width: int, height: int, categories: tuple[str, ...]
) -> tuple[Annotation, ...]:
    found = []
    for number, line in enumerate(parsing.read_text(path).splitlines(), 1):
        words = line.split()
        if not words:
            continue
        place = f"{path}, line {number}"
        category = parsing.whole(parsing.decimal(words[0], place), place)
        if category >= len(categories):
            listed = ", ".join(f"{at} {name}" for at, name in enumerate(categories[:50])) or "none"
            raise DatasetError(f"{place}: there is no category {category}; known: {listed}", "unknown_category")
        sizes = (width, height)
        values = [parsing.decimal(word, place) for word in words[1:]]
        values = [round(value * sizes[at % 2], parsing.DECIMALS) for at, value in enumerate(values)]
        name = f"{image_id}_{number}"
        if len(values) == 4:
            x, y, across, down = values
            corners = (x - across / 2, y - down / 2, x + across / 2, y + down / 2)
            left, top, right, bottom = (round(value, parsing.DECIMALS) for value in corners)
            box = parsing.inside_box((left, top, right, bottom), width, height, place)
            found.append(Annotation(name, categories[category], box))
            continue
        ring = parsing.inside_ring(values, width, height, place)
        box = parsing.inside_box(bounds([ring]), width, height, place)
        found.append(Annotation(name, categories[category], box, polygons=(ring,)))
    return tuple(found)


_LOSES = "confidence, who validated, tracks, origins, sources, licences"
YOLO = Format("yolo", "YOLO with boxes", f"masks, {_LOSES}", partial(write, False), read)
YOLO_SEG = Format(
    "yolo-seg",
    "YOLO with outlines; what has no mask becomes the outline of its box",
    f"the box where its mask is smaller, {_LOSES}",
    partial(write, True),
    read,
)
