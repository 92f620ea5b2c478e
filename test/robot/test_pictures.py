# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures as cameras compress them: what is whole is decoded, and nothing else gets further than a refusal."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flow_rag_vla.robot.pictures import MOST_PIXELS, PictureError, decoded, encoded, encoded_size


def picture(width: int = 64, height: int = 48) -> np.ndarray:
    """(height, width, 3) uint8: a slope in each colour."""
    rows, columns = np.mgrid[0:height, 0:width]
    return np.stack([rows * 3 % 256, columns * 2 % 256, (rows + columns) % 256], axis=2).astype(np.uint8)


def file(kind: str, pixels: np.ndarray, *options: int) -> bytes:
    """The picture as OpenCV writes it."""
    return bytes(cv2.imencode(kind, cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), list(options))[1])


def png_head(width: int, height: int) -> bytes:
    """A PNG that says it is so large, and holds next to nothing."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(99))) + chunk(b"IEND", b"")


def jpeg_head(width: int, height: int) -> bytes:
    """A JPEG whose frame header says another size than it has."""
    data = file(".jpg", picture())
    place = data.index(b"\xff\xc0")
    return data[: place + 5] + struct.pack(">HH", height, width) + data[place + 9 :]


def test_colours_come_back_in_their_order():
    assert np.array_equal(decoded(file(".png", picture())), picture())
    again = decoded(memoryview(encoded(picture())))
    assert again.shape == picture().shape and again.dtype == np.uint8
    # JPEG halves the resolution of colours.
    assert np.abs(again.astype(int) - picture()).mean() < 6


@given(
    st.integers(1, 300),
    st.integers(1, 300),
    st.sampled_from([(".png",), (".jpg",), (".jpg", int(cv2.IMWRITE_JPEG_PROGRESSIVE), 1)]),
)
def test_the_size_is_read_from_the_head_alone(width, height, how):
    data = file(how[0], picture(width, height), *how[1:])
    assert encoded_size(data) == (width, height)
    # What follows a marker's filling is the marker.
    assert how[0] == ".png" or encoded_size(data[:2] + b"\xff\xff" + data[2:]) == (width, height)


@given(st.sampled_from([".png", ".jpg"]), st.data())
def test_a_damaged_picture_is_decoded_or_refused_and_nothing_else(kind, data):
    whole = file(kind, picture())
    cut = data.draw(st.integers(0, len(whole)))
    place = data.draw(st.integers(0, len(whole)))
    damaged = (whole[:place] + data.draw(st.binary(max_size=8)) + whole[place + 4 :])[:cut]
    try:
        pixels = decoded(damaged)
    except PictureError as error:
        assert str(error)
    else:
        assert pixels.ndim == 3 and pixels.shape[2] == 3 and pixels.size <= 3 * MOST_PIXELS


@given(st.binary(max_size=200), st.sampled_from([b"", b"\xff\xd8", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"]))
def test_what_is_no_picture_is_refused(data, begin):
    with pytest.raises(PictureError):
        decoded(begin + data)


@pytest.mark.parametrize("head", [png_head, jpeg_head])
@pytest.mark.parametrize(("width", "height"), [(60_000, 60_000), (65_535, 513), (0, 480)])
def test_a_size_that_no_camera_has_is_refused_by_name_before_it_takes_memory(head, width, height):
    with pytest.raises(PictureError, match=f"{width} x {height} pixels"):
        decoded(head(width, height))


def test_a_picture_that_is_cut_off_is_refused():
    for kind in (".png", ".jpg"):
        with pytest.raises(PictureError, match="damaged or cut off"):
            decoded(file(kind, picture())[:-40])
