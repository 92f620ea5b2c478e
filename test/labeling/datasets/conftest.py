# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Datasets with real pictures, and a registry that holds some."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image as Pillow

from flow_rag_vla.labeling.datasets.dataset import Annotation, DatasetItem, LabelDataset, Split
from flow_rag_vla.labeling.detections import Origin, ScoreKind
from flow_rag_vla.labeling.registry.registry import Registry
from flow_rag_vla.labeling.registry.values import (
    ImageDraft,
    ObjectChange,
    ObjectDraft,
    ReviewState,
    SourceDraft,
    SourceKind,
)
from flow_rag_vla.labeling.run_lengths import mask_counts

WIDTH, HEIGHT = 48, 36
SPLITS = (Split.TRAIN, Split.TRAIN, Split.VAL, Split.TEST)


def picture(path: Path, seed: int, size: tuple[int, int] = (WIDTH, HEIGHT)) -> Path:
    """A picture of noise."""
    pixels = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), np.uint8)
    Pillow.fromarray(pixels).save(path)
    return path


def ring_mask() -> np.ndarray:
    """A mask of two parts, one of them with a hole, that touch at a corner."""
    mask = np.zeros((HEIGHT, WIDTH), np.bool_)
    mask[5:20, 8:30] = True
    mask[9:12, 14:20] = False
    mask[20:25, 30:36] = True
    return mask


def annotations(number: int) -> tuple[Annotation, ...]:
    """A box, a mask with a hole, an outline, each with all that can be said of it."""
    origin = Origin("detector", "r1", 'a <cup> & "saucer"', 0.25)
    common = {"score_kind": ScoreKind.SIGMOID, "origin": origin, "version": 3}
    return (
        Annotation(f"box{number}", "red cup", (1.25, 2.0, 20.0625, 30.5), confidence=0.75, **common),
        Annotation(
            f"mask{number}",
            "그릇",
            (7.5, 4.0, 37.0, 26.0),
            rle=tuple(mask_counts(ring_mask())),
            confidence=0.5,
            validated=True,
            validated_by="anna",
            track=f"track{number}",
            **common,
        ),
        Annotation(
            f"ring{number}",
            "red cup",
            (2.0, 3.5, 30.25, 20.0),
            polygons=((2.0, 3.5, 30.25, 4.0, 22.125, 20.0),),
            confidence=0.1,
            validated=True,
            validated_by="ben",
            **common,
        ),
    )


def make_dataset(folder: Path) -> LabelDataset:
    """Four pictures, the last without annotations."""
    folder.mkdir(parents=True, exist_ok=True)
    items = []
    for number, split in enumerate(SPLITS):
        name = f"img{number}"
        picture(folder / f"{name}.png", number)
        items.append(
            DatasetItem(
                image_id=name,
                file=f"{name}.png",
                width=WIDTH,
                height=HEIGHT,
                split=split,
                source_id=f"source{number}",
                source=f"/data/run {number}",
                episode=f"episode{number}",
                frame=number,
                stamp_ns=1_000 + number,
                licence="CC-BY-4.0",
                annotations=annotations(number) if number < 3 else (),
            )
        )
    return LabelDataset("cups", ("red cup", "그릇", "nothing"), tuple(items), images=folder)


@pytest.fixture
def dataset(tmp_path: Path) -> LabelDataset:
    """See ``make_dataset``."""
    return make_dataset(tmp_path / "pictures")


@pytest.fixture(scope="session")
def _empty_registry(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("empty")
    Registry(folder).close()
    return (folder / "registry.db").read_bytes()


@pytest.fixture
def registry(tmp_path: Path, _empty_registry: bytes):
    """Four sources of two pictures each; in each a red cup (0.9), a bowl with a mask (0.6) and a rejected one."""
    folder = tmp_path / "labels"
    folder.mkdir()
    (folder / "registry.db").write_bytes(_empty_registry)
    with Registry(folder) as opened:
        for number in range(4):
            media = tmp_path / "media" / str(number)
            media.mkdir(parents=True)
            fill(opened, media, number)
        yield opened


def fill(opened: Registry, media: Path, number: int) -> None:
    """Register a source of two pictures."""
    draft = SourceDraft(SourceKind.FOLDER, str(media), episode=f"episode{number}", licence="MIT")
    source = opened.add_source(draft)
    drafts = []
    for frame in range(2):
        picture(media / f"{frame}.png", 10 * number + frame)
        image = opened.add_images(source.source_id, [ImageDraft(f"{frame}.png", WIDTH, HEIGHT, frame, 1_000 + frame)])[
            0
        ]
        about = {"image_id": image.image_id, "score_kind": ScoreKind.SIGMOID, "origin": Origin("detector", "r1")}
        drafts += [
            ObjectDraft(category="red cup", box=(1.00004, 2, 20, 30.5), score=0.9, track=f"t{number}", **about),
            ObjectDraft(category="bowl", box=(8, 5, 36, 25), score=0.6, mask=ring_mask(), **about),
            ObjectDraft(category="red cup", box=(1, 1, 5, 5), score=0.2, **about),
        ]
    ids = opened.register(drafts, who="detector").object_ids
    opened.update(ids[0], ObjectChange(state=ReviewState.ACCEPTED), who="anna")
    for rejected in ids[2::3]:
        opened.update(rejected, ObjectChange(state=ReviewState.REJECTED), who="anna")


@pytest.fixture
def without():
    """``without(dataset, "track", "origin")``: the annotations without these fields (their defaults)."""

    def stripped(dataset: LabelDataset, *fields: str) -> LabelDataset:
        plain = Annotation("x", "x", (0.0, 0.0, 1.0, 1.0))
        defaults = {field: getattr(plain, field) for field in fields}
        items = [
            replace(item, annotations=tuple(replace(one, **defaults) for one in item.annotations))
            for item in dataset.items
        ]
        return replace(dataset, items=tuple(items))

    return stripped
