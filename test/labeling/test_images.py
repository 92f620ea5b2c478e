# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Pictures from files that lie."""

import io
import struct
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image as Pillow

from flow_rag_vla.labeling.pipeline import ImageError, check_image, decode_image, read_image


def _png(mode: str, pixels: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    Pillow.fromarray(pixels).convert(mode).save(buffer, "PNG")
    return buffer.getvalue()


def _bomb(width: int, height: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("mode", ["L", "P", "RGBA", "1", "RGB"])
def test_any_mode_becomes_rgb(mode: str) -> None:
    assert decode_image(_png(mode, np.full((20, 30, 3), 200, np.uint8))).shape == (20, 30, 3)


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    buffer = io.BytesIO()
    Pillow.fromarray(np.full((16, 16), 128 << 8, np.uint16)).save(buffer, "PNG")
    assert int(decode_image(buffer.getvalue())[0, 0, 0]) == 128


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "image_empty"),
        (b"no picture", "image_corrupt"),
        (_png("RGB", np.zeros((40, 40, 3), np.uint8))[:60], "image_corrupt"),
        (_bomb(60_000, 60_000), "image_too_large"),
        (_bomb(9_000, 6_000), "image_too_large"),
        (_png("RGB", np.zeros((4, 40, 3), np.uint8)), "image_empty"),
    ],
)
def test_a_file_that_lies_is_refused_with_its_name(data: bytes, code: str, tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=r"picture\.png") as caught:
        read_image(path)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("image", "code"),
    [
        (np.zeros((20, 20), np.uint8), "image_shape"),
        (np.zeros((20, 20, 4), np.uint8), "image_shape"),
        (np.zeros((20, 20, 3), np.float32), "image_dtype"),
        (np.zeros((0, 20, 3), np.uint8), "image_empty"),
        ("a path", "image_shape"),
    ],
)
def test_an_array_that_is_no_picture_is_refused(image: object, code: str) -> None:
    with pytest.raises(ImageError) as caught:
        check_image(image, "front")
    assert caught.value.code == code
    assert "front" in str(caught.value)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ImageError, match="absent") as caught:
        read_image(tmp_path / "absent.png")
    assert caught.value.code == "image_missing"


@given(st.binary(max_size=300), st.integers(0, 200))
def test_any_bytes_are_a_picture_or_an_error_of_ours(noise: bytes, place: int) -> None:
    whole = _png("RGB", np.zeros((24, 24, 3), np.uint8))
    with suppress(ImageError):
        decode_image(whole[:place] + noise + whole[place + len(noise) :])
