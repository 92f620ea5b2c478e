# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A real registry with pictures of simple shapes, behind the real application."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from fastapi.testclient import TestClient
from PIL import Image, ImageDraw

from flow_rag_vla.gateway.access import Access, Role, new_token
from flow_rag_vla.gateway.app import make_app
from flow_rag_vla.gateway.labeling.labels import Labels
from flow_rag_vla.gateway.labeling.models import Models
from flow_rag_vla.gateway.labeling.pictures import Pictures
from flow_rag_vla.gateway.labeling.section import labeling_section
from flow_rag_vla.labeling.detections import Origin, ScoreKind
from flow_rag_vla.labeling.registry.registry import Registry
from flow_rag_vla.labeling.registry.values import (
    Embedder,
    ImageDraft,
    ObjectDraft,
    SourceDraft,
    SourceKind,
)

WIDTH, HEIGHT = 320, 240
EMBEDDER = Embedder("shapes", "1", 8)
COLOURS = {"red cube": (200, 40, 40), "bin": (60, 60, 160), "drawer": (150, 110, 60)}
API = "/api/labeling"


def png(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()


@dataclass
class Server:
    """The application over one registry, and a client for each role."""

    labels: Labels
    app: object
    secrets: dict[Role, str]

    @property
    def registry(self):
        return self.labels.registry

    def client(self, role):
        return TestClient(
            self.app,
            base_url="http://testserver",
            headers={"Authorization": f"Bearer {self.secrets[role]}"},
        )

    def ask(self, role, method, path, **options):
        with self.client(role) as client:
            return client.request(method, f"{API}/{path}", **options)


def fill(registry, folder: Path, pictures=3, project="default"):
    """Pictures of three things each, scores rising from 0.30; the ids in the order of the scores."""
    folder.mkdir(parents=True, exist_ok=True)
    source = registry.add_source(SourceDraft(SourceKind.FOLDER, str(folder.resolve()), project))
    generator = np.random.default_rng(3)
    made, score = [], 0.30
    for number in range(pictures):
        picture = Image.new("RGB", (WIDTH, HEIGHT), (90, 95, 100))
        draw = ImageDraw.Draw(picture)
        drafts = []
        image = registry.add_images(
            source.source_id, [ImageDraft(f"{number}.png", WIDTH, HEIGHT, number, number * 40_000_000)]
        )[0]
        for place, (name, colour) in enumerate(COLOURS.items()):
            box = (20 + 100 * place, 60 + 20 * number, 90 + 100 * place, 130 + 20 * number)
            draw.rectangle((box[0], box[1], box[2] - 1, box[3] - 1), fill=colour)
            mask = np.zeros((HEIGHT, WIDTH), bool)
            mask[box[1] : box[3], box[0] : box[2]] = True
            vector = np.eye(8)[place] + 0.1 * generator.normal(size=8)
            drafts.append(
                ObjectDraft(
                    image.image_id,
                    name,
                    box,
                    round(score, 2),
                    ScoreKind.SOFTMAX,
                    Origin("shapes", "1", "", 0.2),
                    mask=mask,
                    embedding=(vector / np.linalg.norm(vector)).astype(np.float32),
                    embedder=EMBEDDER,
                )
            )
            score += 0.05
        picture.save(folder / f"{number}.png")
        made += registry.register(drafts, who="shapes").object_ids
    return source, made


def kitchen_of(registry, folder: Path):
    """The project ``kitchen`` with one picture of a red cube, a cup and a drawer, whose vectors compare; their ids."""
    registry.add_project("kitchen")
    _, made = fill(registry, folder, pictures=1, project="kitchen")
    registry.rename_category("bin", "cup", project="kitchen")
    return made


def other_project(registry):
    """Two cups of the project ``kitchen``, whose vectors were made by another embedder; their ids."""
    registry.add_project("kitchen")
    source = registry.add_source(SourceDraft(SourceKind.FOLDER, "/kitchen", "kitchen"))
    (image,) = registry.add_images(source.source_id, [ImageDraft("a.png", WIDTH, HEIGHT)])
    drafts = [
        ObjectDraft(
            image.image_id,
            "cup",
            (0, 0, 9, 9),
            0.5,
            ScoreKind.SOFTMAX,
            Origin("other"),
            embedding=np.eye(4, dtype=np.float32)[n],
            embedder=Embedder("other", "1", 4),
        )
        for n in range(2)
    ]
    return registry.register(drafts, who="test").object_ids


@pytest.fixture
def server(tmp_path):
    """A filled registry behind the application, without models."""
    with Registry(tmp_path / "labels") as registry:
        pictures = Pictures([tmp_path / "media"])
        labels = Labels(registry, pictures, Models(None))
        tokens = {role: new_token(role.word, role) for role in Role}
        app = make_app(Access([token for token, _ in tokens.values()]), [labeling_section(labels)])
        yield Server(labels, app, {role: secret for role, (_, secret) in tokens.items()})


@pytest.fixture
def filled(server, tmp_path):
    """The server, a source of three pictures and their nine objects, least sure first."""
    source, ids = fill(server.registry, tmp_path / "media" / "shapes")
    return server, source, ids
