# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures of a situation: small, checked, and where the case is."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from flow_rag_vla.memory.case import CaseError
from flow_rag_vla.memory.images import LONGEST_SIDE, MOST_BYTES, CaseImage, encoded, thinned


@settings(max_examples=30)
@given(st.integers(1, 300), st.integers(1, 300), st.integers(0, 2**32 - 1))
def test_an_encoded_picture_is_small_and_shows_the_same_to_any_decoder(height, width, seed):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    image = encoded("front", pixels)
    assert len(image.data) <= MOST_BYTES
    shown = np.asarray(Image.open(io.BytesIO(image.data)))
    assert max(shown.shape[:2]) <= LONGEST_SIDE
    step = -(-max(height, width) // LONGEST_SIDE)
    np.testing.assert_array_equal(shown, pixels[::step, ::step])
    kept = thinned("front", pixels)
    assert kept.base is None and encoded("front", kept) == image


@pytest.mark.parametrize(
    ("name", "kind", "data", "text"),
    [
        ("front", "gif", b"GIF89a", "expected png or jpeg"),
        ("", "png", b"\x89PNG\r\n\x1a\n", "no name"),
        ("front", "png", b"\xff\xd8\xff", "does not begin like one"),
        ("front", "jpeg", b"\xff\xd8\xff" + bytes(MOST_BYTES), "expected at most 65536"),
        ("front", "png", b"", "does not begin like one"),
    ],
)
def test_what_is_no_small_picture_is_refused(name, kind, data, text):
    with pytest.raises(CaseError, match=text):
        CaseImage(name, kind, data)


def test_what_is_no_colour_image_is_not_encoded():
    for pixels in (np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)):
        with pytest.raises(CaseError, match="expected"):
            encoded("front", pixels)


def test_pictures_are_stored_with_their_case_and_go_with_it(make, open_memory):
    memory = open_memory()
    picture = encoded("front", np.zeros((8, 8, 3), np.uint8))
    case_id = memory.add(make.case(1), (picture,)).case_id
    assert memory.ledger.images(case_id) == (picture,)
    memory.edit(case_id, note="still there")
    assert memory.ledger.images(case_id) == (picture,)
    other = encoded("wrist", np.zeros((8, 8, 3), np.uint8))
    memory.ledger.put_images({case_id: (picture, other), 999: (picture,)})
    assert [item.name for item in memory.ledger.images(case_id)] == ["front", "wrist"]
    with pytest.raises(CaseError, match="two images have one name"):
        memory.ledger.put_images({case_id: (picture, picture)})
    with memory.store.transaction() as connection:
        connection.execute("UPDATE images SET data = x'00' WHERE name = 'front'")
    assert [item.name for item in memory.ledger.images(case_id)] == ["wrist"]
    memory.store.add([], [case_id])
    assert memory.ledger.images(case_id) == ()


def test_a_case_with_too_many_pictures_is_refused_whole(make, open_memory):
    memory = open_memory()
    pictures = tuple(encoded(f"camera {number}", np.zeros((8, 8, 3), np.uint8)) for number in range(5))
    with pytest.raises(CaseError, match="5 images, expected at most 4"):
        memory.add(make.case(1), pictures)
    assert memory.statistics().cases == 0
