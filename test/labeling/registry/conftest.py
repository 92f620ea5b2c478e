# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A registry and objects for the tests of this folder."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import sqlalchemy as sa

from flow_rag_vla.labeling.detections import Origin, ScoreKind
from flow_rag_vla.labeling.registry.registry import Registry
from flow_rag_vla.labeling.registry.values import Embedder, Image, ImageDraft, ObjectDraft, SourceDraft, SourceKind

WIDTH, HEIGHT = 64, 48
EMBEDDER = Embedder("tiny", "v1", 8)


class Maker:
    """Makes sources, images, vectors, masks and objects."""

    embedder = EMBEDDER

    @staticmethod
    def unit(seed: int, dimension: int = EMBEDDER.dimension) -> np.ndarray:
        """A random unit vector."""
        values = np.random.default_rng(seed).normal(size=dimension)
        return (values / np.linalg.norm(values)).astype(np.float32)

    @staticmethod
    def mask(left: int = 4, top: int = 4, right: int = 20, bottom: int = 16) -> np.ndarray:
        """A rectangle."""
        mask = np.zeros((HEIGHT, WIDTH), np.bool_)
        mask[top:bottom, left:right] = True
        return mask

    @staticmethod
    def image(registry: Registry, path: str = "/data/run", frame: int = 0, **source: object) -> Image:
        """An image of a source, both registered if they are new."""
        found = registry.add_source(SourceDraft(SourceKind.VIDEO, path, **source))  # type: ignore[arg-type]
        draft = ImageDraft("camera", WIDTH, HEIGHT, frame=frame, stamp_ns=1_000 + frame)
        return registry.add_images(found.source_id, [draft])[0]

    @staticmethod
    def draft(image: Image | str, category: str = "cup", **fields: object) -> ObjectDraft:
        """A sound object."""
        values: dict[str, object] = {
            "image_id": image if isinstance(image, str) else image.image_id,
            "category": category,
            "box": (4.0, 4.0, 20.0, 16.0),
            "score": 0.5,
            "score_kind": ScoreKind.SIGMOID,
            "origin": Origin("detector", "r1", "a cup", 0.3),
            **fields,
        }
        if "embedding" in fields:
            values.setdefault("embedder", EMBEDDER)
        return ObjectDraft(**values)  # type: ignore[arg-type]


@pytest.fixture(scope="session")
def make() -> Maker:
    """``make.image(registry)``, ``make.draft(image, "cup", score=0.9)``, ``make.unit(3)``, ``make.mask()``."""
    return Maker()


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A new registry's database, made once: the migrations cost more than most tests."""
    folder = tmp_path_factory.mktemp("registry")
    Registry(folder).close()
    return folder / "registry.db"


@pytest.fixture
def folder(tmp_path: Path, empty: Path) -> Path:
    """A folder with an empty registry of its own."""
    made = tmp_path / "registry"
    made.mkdir()
    (made / "registry.db").write_bytes(empty.read_bytes())
    return made


@pytest.fixture
def registry(folder: Path) -> Iterator[Registry]:
    """An open empty registry."""
    with Registry(folder) as opened:
        yield opened


@pytest.fixture
def image(registry: Registry, make: Maker) -> Image:
    """An image of 64 x 48 pixels in it."""
    return make.image(registry)


@pytest.fixture(scope="session")
def postgres_template(postgres: str, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Name of a database with an empty registry, to be copied: the migrations cost more than most tests."""
    name = f"registry_template_{secrets.token_hex(4)}"
    url = sa.make_url(postgres)
    server = sa.create_engine(url.set(drivername="postgresql+psycopg"), isolation_level="AUTOCOMMIT")
    with server.connect() as connection:
        connection.exec_driver_sql(f"CREATE DATABASE {name}")
    server.dispose()
    files = tmp_path_factory.mktemp("template")
    Registry(url.set(database=name).render_as_string(hide_password=False), files=files).close()
    return name
