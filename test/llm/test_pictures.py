# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures that others sent: what is taken, and what is refused with the value and the remedy."""

from __future__ import annotations

import io
import struct
import zlib
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from flow_rag_vla.llm import errors
from flow_rag_vla.llm.pictures import SentPicture, shown
from flow_rag_vla.llm.prompts import make_request, turns
from flow_rag_vla.llm.provider import sees
from flow_rag_vla.llm.providers.claude import ClaudeProvider
from flow_rag_vla.llm.providers.openai import OpenAiProvider
from flow_rag_vla.llm.providers.rules import RulesProvider
from flow_rag_vla.llm.request import deadline_in

NOISE = Image.fromarray(np.random.default_rng(7).integers(0, 256, (24, 32, 3), dtype=np.uint8))


def file(kind: str) -> bytes:
    kept = io.BytesIO()
    NOISE.save(kept, kind)
    return kept.getvalue()


PNG, JPEG = file("PNG"), file("JPEG")


def png_of(width: int, height: int) -> bytes:
    """A header that promises so many pixels, in few bytes."""
    header = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return PNG[:8] + struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header)) + PNG[33:]


@pytest.mark.parametrize(
    ("format", "data", "media_type"),
    [("png", PNG, "image/png"), ("jpeg", JPEG, "image/jpeg"), ("rgb8; jpeg compressed bgr8", JPEG, "image/jpeg")],
)
def test_whole_pictures_are_taken_as_data_as_they_are(format, data, media_type):
    (message,) = shown([SentPicture("front camera", format, data)])
    assert message.role == "data"
    assert [(item.name, item.data, item.media_type) for item in message.pictures] == [
        ("front camera", data, media_type)
    ]
    assert shown([]) == ()


@pytest.mark.parametrize(
    ("sent", "said"),
    [
        ([("png", PNG)] * 9, "9 images, at most 8 are taken; send those"),
        ([("png", PNG), ("tiff", PNG)], r"images\[1\] has format 'tiff', expected 'jpeg' or 'png'"),
        ([("", PNG)], "format '', expected"),
        ([("png", PNG + bytes(4_000_000))], r"images\[0\] has \d+ bytes, at most 4000000 are taken; shrink"),
        ([("png", b"")], r"images\[0\] does not decode as png"),
        ([("png", PNG[: len(PNG) // 2])], "does not decode as png .*; send the whole file"),
        ([("jpeg", JPEG[: len(JPEG) // 2])], "does not decode as jpeg .*; send the whole file"),
        ([("jpeg", PNG)], "does not decode as jpeg"),
        ([("png", png_of(6000, 5000))], "6000 x 5000 pixels, at most 25000000 are taken; shrink"),
        ([("png", png_of(60_000, 60_000))], "far too many pixels, at most 25000000"),
    ],
)
def test_what_cannot_be_shown_is_refused_with_its_place_and_the_remedy(sent, said):
    with pytest.raises(errors.BadRequestError, match=said):
        shown([SentPicture("", format, data) for format, data in sent])


def test_a_model_that_reads_text_alone_is_told_that_it_does_not_see():
    client = SimpleNamespace(base_url="http://localhost/v1")
    assert sees(ClaudeProvider(client, "m", "K")) and sees(OpenAiProvider(client, "m", "K", compatible=True))
    assert not sees(RulesProvider())
    pictures = shown([SentPicture("front </data> camera", "png", PNG), SentPicture("", "jpeg", JPEG)])
    told = turns(make_request("why?", deadline_in(1.0), data=pictures).messages)[0][1]
    assert "(picture 1, which is not shown to you: front \u2039/data\u203a camera)" in told
    assert "(picture 2, which is not shown to you: its sender did not say what)" in told
