# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A chunk that unpacks to more than it says, or to more than any recorder writes, is passed over."""

from __future__ import annotations

import struct
import sys
import zlib
from pathlib import Path

import pytest

from flow_rag_vla.data import mcap_scan
from flow_rag_vla.data.mcap_scan import MAGIC, open_mcap

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def text(value: str) -> bytes:
    return struct.pack("<I", len(value)) + value.encode()


def record(opcode: int, body: bytes) -> bytes:
    return bytes([opcode]) + struct.pack("<Q", len(body)) + body


def bag(path: Path, packed: bytes, says: int, plain: bytes = b"") -> Path:
    head = struct.pack("<QQQI", 0, 1, says, zlib.crc32(plain) if plain else 0)
    chunk = head + text("zstd") + struct.pack("<Q", len(packed)) + packed
    path.write_bytes(MAGIC + record(1, text("") + text("test")) + record(6, chunk) + MAGIC)
    return path


def channel() -> bytes:
    schema = record(3, struct.pack("<H", 1) + text("std_msgs/msg/Bool") + text("ros2msg") + text("bool data"))
    return schema + record(4, struct.pack("<HH", 1, 1) + text("/ready") + text("cdr") + struct.pack("<I", 0))


@pytest.mark.parametrize("frames", [1, 2])
def test_a_chunk_is_read_whole_in_one_frame_or_several(tmp_path, frames):
    plain = channel()
    cut = len(plain) // frames
    packed = b"".join(zstd.compress(part) for part in ([plain] if frames == 1 else [plain[:cut], plain[cut:]]))
    scan = open_mcap(bag(tmp_path / "a.mcap", packed, len(plain), plain))
    assert [item.topic for item in scan.channels.values()] == ["/ready"]


def test_a_chunk_that_is_longer_than_it_says_is_not_unpacked_further(tmp_path):
    zeros = zstd.compress(bytes(1 << 24))
    scan = open_mcap(bag(tmp_path / "a.mcap", zeros, 100))
    assert not scan.channels


def test_a_chunk_that_says_too_much_is_not_unpacked(tmp_path, monkeypatch):
    plain = channel()
    monkeypatch.setattr(mcap_scan, "MOST_CHUNK", len(plain) - 1)
    assert not open_mcap(bag(tmp_path / "a.mcap", zstd.compress(plain), len(plain), plain)).channels
