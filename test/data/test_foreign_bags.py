# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Bags of other recorders: SQLite and MCAP, split, compressed, without definitions, of other versions, cut off."""

from __future__ import annotations

import shutil
import sqlite3
import struct
import tempfile
from pathlib import Path

import numpy as np
import pytest
from backports import zstd
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from flow_rag_vla.data import sqlite_scan
from flow_rag_vla.data.bag import Bag, BagError, bag_files
from flow_rag_vla.data.definitions import Definitions
from flow_rag_vla.data.mcap_scan import McapChannel, scan_mcap
from flow_rag_vla.data.playlist import playlist
from flow_rag_vla.data.transcode import TranscodeError, transcoding

START = 1_700_000_000_000_000_000
STRING = "std_msgs/msg/String"
JOINTS = "sensor_msgs/msg/JointState"


@pytest.fixture(scope="module")
def definitions() -> Definitions:
    return Definitions()


def latched() -> Qos:
    zero = QosTime(0, 0)
    return Qos(
        QosHistory.KEEP_LAST, 1, QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL, zero, zero,
        QosLiveliness.AUTOMATIC, zero, False,
    )  # fmt: skip


def write(
    folder: Path,
    definitions: Definitions,
    storage: StoragePlugin,
    mode: CompressionMode = CompressionMode.NONE,
    count: int = 40,
    version: int = 9,
) -> Path:
    writer = Writer(folder, version=version, storage_plugin=storage)  # type: ignore[arg-type]
    if mode is not CompressionMode.NONE:
        writer.set_compression(mode, CompressionFormat.ZSTD)
    with writer:
        text, digest = definitions.definition(STRING)
        notes = writer.add_connection("/notes", STRING, msgdef=text, rihs01=digest, offered_qos_profiles=(latched(),))
        other = writer.add_connection("/joint_states", JOINTS, typestore=definitions.store)
        for index in range(count):
            message = definitions.message(STRING, data=f"note {index}")
            writer.write(notes, START + index * 10_000_000, definitions.serialize(message, STRING))
            joints = definitions.message(JOINTS, name=["a"], position=np.array([float(index)]))
            writer.write(other, START + index * 10_000_000 + 5, definitions.serialize(joints, JOINTS))
    return folder


MODES = [
    (StoragePlugin.SQLITE3, CompressionMode.NONE, 9),
    (StoragePlugin.SQLITE3, CompressionMode.FILE, 9),
    (StoragePlugin.SQLITE3, CompressionMode.MESSAGE, 9),
    (StoragePlugin.SQLITE3, CompressionMode.NONE, 8),
    (StoragePlugin.MCAP, CompressionMode.NONE, 8),
    (StoragePlugin.MCAP, CompressionMode.FILE, 9),
    (StoragePlugin.MCAP, CompressionMode.STORAGE, 9),
]


@pytest.mark.parametrize(("storage", "mode", "version"), MODES)
def test_every_storage_and_compression_gives_the_same_messages_in_time_order(
    tmp_path, definitions, storage, mode, version
):
    bag = Bag(write(tmp_path / "bag", definitions, storage, mode, version=version))
    assert bag.complete
    assert [entry.message.data for entry in bag.messages(["notes"])] == [f"note {index}" for index in range(40)]
    stamps = [stamp for _, stamp, _ in bag.raw()]
    assert len(stamps) == 80 and stamps == sorted(stamps)
    assert (bag.start_ns, bag.end_ns) == (START, START + 39 * 10_000_000 + 5)
    channel = next(item for item in bag.channels if item.topic == "/notes")
    assert [item.durability for item in channel.qos] == [QosDurability.TRANSIENT_LOCAL]
    window = [stamp for _, stamp, _ in bag.raw({"/notes"}, START + 10_000_000, START + 30_000_000)]
    assert window == [START + 10_000_000, START + 20_000_000]


def test_a_sqlite_bag_without_definitions_uses_the_installed_ones(tmp_path, definitions):
    folder = write(tmp_path / "bag", definitions, StoragePlugin.SQLITE3)
    with sqlite3.connect(next(folder.glob("*.db3"))) as connection:
        connection.execute("DROP TABLE message_definitions")
    assert len(list(Bag(folder).messages(["joint_states"]))) == 40


def test_a_damaged_sqlite_bag_gives_what_is_whole_and_says_so(tmp_path, definitions):
    folder = write(tmp_path / "bag", definitions, StoragePlugin.SQLITE3, count=2000)
    file = next(folder.glob("*.db3"))
    data = bytearray(file.read_bytes())
    start = int(len(data) * 0.6) // 4096 * 4096
    data[start : start + 8192] = b"\xff" * 8192
    file.write_bytes(data)
    try:
        bag = Bag(folder)
    except BagError as error:
        assert "not readable" in str(error)
        return
    notes = [entry.message.data for entry in bag.messages(["notes"])]
    assert not bag.complete or len(notes) == 2000
    assert all(text.startswith("note ") for text in notes)


def test_a_file_that_is_no_bag_is_named(tmp_path):
    (tmp_path / "a.db3").write_bytes(b"SQLite format 3\x00" + b"\x00" * 200)
    with pytest.raises(BagError, match=r"a\.db3"):
        Bag(tmp_path)


def test_parts_are_read_in_the_order_of_their_numbers(tmp_path, definitions):
    folder = tmp_path / "bag"
    folder.mkdir()
    for number in (10, 9, 2):
        part = write(tmp_path / f"part_{number}", definitions, StoragePlugin.MCAP, count=3)
        shutil.copy(next(part.glob("*.mcap")), folder / f"bag_{number}.mcap")
    assert [path.name for path in bag_files(folder)] == ["bag_2.mcap", "bag_9.mcap", "bag_10.mcap"]
    (folder / "metadata.yaml").write_text(
        "rosbag2_bagfile_information:\n  relative_file_paths: [bag_10.mcap, bag_9.mcap]\n"
    )
    assert [path.name for path in bag_files(folder)] == ["bag_10.mcap", "bag_9.mcap", "bag_2.mcap"]
    assert Bag(folder).topics["/notes"].count == 9


def unchunked(source: Path, target: Path, cut: int = 0) -> None:
    """The same messages outside chunks and without an index, as the fastest preset of a recorder writes them."""
    scan = scan_mcap(source)

    def record(opcode: int, body: bytes) -> bytes:
        return bytes([opcode]) + struct.pack("<Q", len(body)) + body

    def text(value: str) -> bytes:
        return struct.pack("<I", len(value.encode())) + value.encode()

    out = [b"\x89MCAP0\r\n", record(1, text("ros2") + text("test"))]
    for key, channel in scan.channels.items():
        body = struct.pack("<H", key) + text(channel.msgtype) + text("ros2msg") + text(channel.definition)
        out.append(record(3, body))
        out.append(record(4, struct.pack("<HH", key, key) + text(channel.topic) + text("cdr") + struct.pack("<I", 0)))
    keys = {channel.topic: key for key, channel in scan.channels.items()}
    for channel, stamp, data in scan.messages():
        out.append(record(5, struct.pack("<HIQQ", keys[channel.topic], 0, stamp, stamp) + data))
    whole = b"".join(out)
    if cut:
        target.write_bytes(whole[:-cut])
    else:
        target.write_bytes(whole + record(0x0F, struct.pack("<I", 0)) + record(2, bytes(20)) + b"\x89MCAP0\r\n")


def test_messages_outside_chunks_are_read_whole_and_cut_off(tmp_path, definitions):
    source = next(write(tmp_path / "bag", definitions, StoragePlugin.MCAP).glob("*.mcap"))
    unchunked(source, tmp_path / "plain.mcap")
    bag = Bag(tmp_path / "plain.mcap")
    assert bag.complete
    assert [entry.message.data for entry in bag.messages(["notes"])] == [f"note {index}" for index in range(40)]
    unchunked(source, tmp_path / "cut.mcap", cut=30)
    bag = Bag(tmp_path / "cut.mcap")
    assert not bag.complete and "breaks off" in bag.problems[0]
    assert len(list(bag.raw())) == 79


def test_a_truncated_compressed_file_gives_what_can_be_unpacked(tmp_path, definitions):
    source = next(write(tmp_path / "bag", definitions, StoragePlugin.MCAP, count=4000).glob("*.mcap"))
    packed = zstd.compress(source.read_bytes())
    target = tmp_path / "cut.mcap.zstd"
    target.write_bytes(packed[: int(len(packed) * 0.8)])
    try:
        bag = Bag(target)
    except BagError as error:
        assert "cut.mcap.zstd" in str(error)
        return
    assert not bag.complete


@pytest.fixture
def temporary(tmp_path, monkeypatch):
    """The folder that temporary folders are made in."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


def test_a_whole_compressed_file_leaves_nothing_behind(tmp_path, definitions, temporary):
    source = next(write(tmp_path / "bag", definitions, StoragePlugin.MCAP).glob("*.mcap"))
    packed = tmp_path / "whole.mcap.zstd"
    packed.write_bytes(zstd.compress(source.read_bytes()))
    bag = Bag(packed)
    assert bag.complete and len(list(bag.raw())) == len(list(Bag(source).raw()))
    assert list(temporary.iterdir())
    del bag
    assert not list(temporary.iterdir())


def test_a_few_bytes_that_unpack_to_gigabytes_are_refused_and_leave_nothing_on_the_disk(tmp_path, temporary):
    bomb = tmp_path / "bomb.mcap.zstd"
    # One frame after the other, so that not even this test holds them at once.
    frame = zstd.compress(bytes(32 << 20))
    bomb.write_bytes(frame * 64)
    assert bomb.stat().st_size < 256 << 10
    with pytest.raises(BagError, match=r"bomb\.mcap\.zstd holds more than 268 MB in 0\.\d MB.*zstd -d bomb"):
        Bag(bomb)
    assert not list(temporary.iterdir())


def test_what_would_fill_the_disk_is_refused_before_it_does(tmp_path, definitions, temporary, monkeypatch):
    source = next(write(tmp_path / "bag", definitions, StoragePlugin.MCAP, count=4000).glob("*.mcap"))
    packed = tmp_path / "large.mcap.zstd"
    packed.write_bytes(zstd.compress(source.read_bytes()))
    usage = shutil.disk_usage(tmp_path)._replace(free=(1 << 30) + 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage)
    with pytest.raises(BagError, match=r"large\.mcap\.zstd does not fit into .*TMPDIR"):
        Bag(packed)
    assert not list(temporary.iterdir())


def test_a_message_that_unpacks_to_too_much_is_left_out_and_the_others_are_read(tmp_path, definitions, monkeypatch):
    bag = write(tmp_path / "bag", definitions, StoragePlugin.SQLITE3, CompressionMode.MESSAGE)
    monkeypatch.setattr(sqlite_scan, "MOST_MESSAGE", 1 << 20)
    with sqlite3.connect(next(bag.glob("*.db3"))) as connection:
        for number, data in ((1, zstd.compress(bytes((1 << 20) + 1))), (2, b"no frame"), (3, zstd.compress(b"a") * 2)):
            connection.execute("UPDATE messages SET data = ? WHERE id = ?", (data, number))
    assert len(list(Bag(bag).raw())) == 80 - 3


def test_a_type_of_another_version_is_converted_by_field_names(definitions):
    old = "string name\nfloat64 value\nint32 gone\nfloat64[] old_list\n"
    channel = McapChannel("/evidence", "flow_rag_vla_interfaces/msg/Evidence", old, "ros2msg")
    before = Definitions()
    before.register_text(channel.msgtype, old)
    message = before.message(channel.msgtype, name="force", value=3.5, gone=7)
    convert = transcoding(channel, definitions)
    assert convert is not None
    after = definitions.deserialize(convert(before.serialize(message, channel.msgtype)), channel.msgtype)
    assert (after.name, after.value, after.threshold, after.unit) == ("force", 3.5, 0.0, "")


def test_the_same_version_is_not_touched_and_text_that_is_none_is_refused(definitions):
    text, _ = definitions.definition("flow_rag_vla_interfaces/msg/Evidence")
    same = McapChannel("/evidence", "flow_rag_vla_interfaces/msg/Evidence", text, "ros2msg")
    assert transcoding(same, definitions) is None
    assert transcoding(McapChannel("/evidence", same.msgtype, "", ""), definitions) is None
    with pytest.raises(TranscodeError, match="not understood"):
        transcoding(McapChannel("/evidence", same.msgtype, "???", "ros2msg"), definitions)


def test_a_message_that_ends_with_meaningless_bytes_is_read(definitions):
    message = definitions.message(JOINTS, name=["a"], position=np.array([1.0]))
    data = definitions.serialize(message, JOINTS) + b"\x01\x02\x03\x04\x05\x06\x07\x08"
    assert definitions.deserialize(data, JOINTS).position[0] == 1.0


def test_a_playlist_mutes_selects_and_renames(tmp_path, definitions):
    bag = Bag(write(tmp_path / "bag", definitions, StoragePlugin.MCAP))
    assert playlist(bag).names == {"/joint_states": "/joint_states", "/notes": "/notes"}
    assert playlist(bag, mute=["notes"]).names == {"/joint_states": "/joint_states"}
    assert playlist(bag, topics=["notes"], remap=["notes:=/left/notes"]).names == {"/notes": "/left/notes"}
    assert playlist(bag, mute=["images"]).muted == ()
    for arguments in ({"topics": ["none"]}, {"mute": ["none"]}, {"remap": ["notes"]}, {"remap": ["none:=x"]}):
        with pytest.raises(ValueError, match=r"none|old:=new"):
            playlist(bag, **arguments)
