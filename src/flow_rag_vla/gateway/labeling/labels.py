# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What every route here works on: the registry, the pictures and the models."""

from __future__ import annotations

import base64
import binascii
import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from flow_rag_vla.gateway.access import Person
from flow_rag_vla.gateway.errors import GatewayError
from flow_rag_vla.gateway.labeling.models import Models
from flow_rag_vla.gateway.labeling.pictures import Pictures, kept_file
from flow_rag_vla.gateway.labeling.places import Places
from flow_rag_vla.gateway.labeling.schemas import ObjectSent
from flow_rag_vla.gateway.labeling.uploads import MOST_PIXELS, Picture
from flow_rag_vla.labeling.detections import Origin
from flow_rag_vla.labeling.registry.queries import ObjectFilter
from flow_rag_vla.labeling.registry.registry import Registry
from flow_rag_vla.labeling.registry.values import (
    Box,
    Embedder,
    Image,
    ImageDraft,
    ObjectDraft,
    Source,
    SourceDraft,
    SourceKind,
    Vector,
)


@dataclass(frozen=True, slots=True)
class Labels:
    """One registry behind this server."""

    registry: Registry
    pictures: Pictures
    models: Models

    @property
    def places(self) -> Places:
        """How paths of this machine are told over HTTP."""
        return Places([*self.pictures.roots, self.registry.folder])

    def picture_of(self, image_id: str) -> tuple[Source, Image]:
        """A registered picture with its source.

        Raises:
            UnknownError: it is not registered.
        """
        image = self.registry.image(image_id)
        return self.registry.source(image.source_id), image


def batch_key(person: Person, key: str | None) -> str:
    """An idempotency key, apart from the same word of somebody else; empty: none."""
    return "" if key is None else f"{person.name}/{key}"


def box_of(numbers: Sequence[float]) -> Box:
    """Four numbers as the registry takes them."""
    first, second, third, fourth = numbers
    return float(first), float(second), float(third), float(fourth)


def draft_of(sent: ObjectSent, image_id: str, person: Person) -> ObjectDraft:
    """An object that somebody sent.

    Raises:
        GatewayError: 422 for a mask or a vector that is none.
    """
    embedding, embedder = None, None
    if sent.embedding is not None:
        if sent.embedder is None:
            raise _invalid_embedding("embedding came without embedder", "send embedder: name@revision")
        embedding, embedder = vector_of(sent.embedding, sent.embedder)
    return ObjectDraft(
        image_id=image_id,
        category=sent.category,
        box=box_of(sent.bbox),
        score=sent.confidence,
        score_kind=sent.score_kind,
        origin=Origin(sent.model or person.name, sent.revision),
        convention=sent.convention,
        mask=None if sent.mask is None else mask_of(sent.mask),
        embedding=embedding,
        embedder=embedder,
        track=sent.track,
        quality=sent.quality_score,
        attributes=sent.attributes,
    )


def kept_upload(registry: Registry, picture: Picture, project: str) -> tuple[Source, Image]:
    """A picture without a place of its own, kept and registered; the same picture twice is one source.

    Raises:
        RegistryError: no space is left, or there is no such project.
    """
    folder = registry.image_folder.resolve()
    path = folder / kept_file(folder, picture.data, picture.suffix)
    height, width = picture.pixels.shape[:2]
    draft = SourceDraft(SourceKind.UPLOAD, str(path), project=project, width=width, height=height)
    source = registry.add_source(draft)
    digest = hashlib.sha256(picture.data).hexdigest()
    return source, registry.add_images(source.source_id, [ImageDraft(path.name, width, height, digest=digest)])[0]


def mask_of(text: str) -> NDArray[np.bool_]:
    """(H, W) bool of a base64 PNG.

    Raises:
        GatewayError: 422 ``invalid_mask``.
    """
    try:
        data = base64.b64decode(text, validate=True)
        with Pillow.open(io.BytesIO(data), formats=("PNG",)) as image:
            if image.width * image.height > MOST_PIXELS:
                raise GatewayError(
                    413, "mask_too_large", f"a mask has {image.size} pixels", "send it in the size of its picture"
                )
            return np.asarray(image.convert("L")) > 127
    except (binascii.Error, OSError, SyntaxError, ValueError, Pillow.DecompressionBombError) as error:
        raise GatewayError(422, "invalid_mask", f"mask: {error}", "send base64 of a PNG file, 0 or 255") from None


def vector_of(numbers: Sequence[float], embedder: str) -> tuple[Vector, Embedder]:
    """A vector, scaled to unit length, and who made it: ``name@revision``.

    Raises:
        GatewayError: 422 ``invalid_embedding``.
    """
    vector = np.asarray(numbers, np.float64)
    length = float(np.linalg.norm(vector))
    if not length > 0.0:
        raise _invalid_embedding("embedding has the length 0", "send a vector that points somewhere")
    name, _, revision = embedder.partition("@")
    return np.asarray(vector / length, np.float32), Embedder(name, revision, len(numbers))


def searched_vector(
    registry: Registry, numbers: Sequence[float], embedder: str | None, project: str = ""
) -> tuple[Vector, Embedder]:
    """A vector to search with; without an embedder, it is taken for one of the embedder whose vectors are searched.

    Args:
        registry: what is searched.
        numbers: the vector.
        embedder: ``name@revision``; None: nothing was said.
        project: in which is searched; "" for all.

    Raises:
        GatewayError: 422 ``invalid_embedding`` or ``wrong_dimension``.
        UnknownError: there is no such project.
    """
    if embedder is not None:
        return vector_of(numbers, embedder)
    anyone = registry.list_objects(ObjectFilter(project=project, has_embedding=True), limit=1).objects
    if not anyone or anyone[0].embedder is None:
        return vector_of(numbers, "unknown@unknown")
    held = anyone[0].embedder
    if len(numbers) != held.dimension:
        raise GatewayError(422, "wrong_dimension", f"embedding has {len(numbers)} numbers", f"send one of {held}")
    return vector_of(numbers, f"{held.name}@{held.revision}")


def _invalid_embedding(message: str, remedy: str) -> GatewayError:
    return GatewayError(422, "invalid_embedding", message, remedy)
