# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Bags: what is written is read again, whole or cut off anywhere."""

from __future__ import annotations

import resource
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from rosbags.interfaces import Qos, QosDurability, QosHistory, QosLiveliness, QosReliability, QosTime
from rosbags.rosbag2 import Reader, StoragePlugin, Writer

from flow_rag_vla.data.bag import Bag, BagError, image_near, images, read_bag
from flow_rag_vla.data.bag_writer import BagWriteError, BagWriter
from flow_rag_vla.data.definitions import Definitions, UnknownTypeError, installed_definitions
from flow_rag_vla.data.mcap_scan import McapError, scan_mcap
from flow_rag_vla.data.message_values import image_pixels, stamp_ns

COMMAND = "flow_rag_vla_interfaces/msg/ControlCommand"
IMAGE = "sensor_msgs/msg/Image"
START = 1_700_000_000_000_000_000


@pytest.fixture(scope="module")
def definitions() -> Definitions:
    return Definitions()


def image(definitions: Definitions, pixels: Any, encoding: str = "rgb8", step: int = 0) -> Any:
    return definitions.message(
        IMAGE, height=pixels.shape[0], width=pixels.shape[1], encoding=encoding,
        step=step or pixels.shape[1] * pixels.shape[2], data=np.ascontiguousarray(pixels).ravel(),
    )  # fmt: skip


def write(
    folder: Path, definitions: Definitions, count: int = 50, every: int = 10, close: bool = True, compress: bool = True
) -> BagWriter:
    writer = BagWriter(folder, definitions, compress=compress)
    writer.add_topic("/command", COMMAND, [_latched()])
    writer.add_topic("/robot_1/command", COMMAND)
    writer.add_topic("/camera/front/image_raw", IMAGE)
    for index in range(count):
        stamp = START + index * 25_000_000
        writer.write_message("/command", stamp, definitions.message(COMMAND, tick=index))
        pixels = np.full((8, 6, 3), index % 256, np.uint8)
        writer.write_message("/camera/front/image_raw", stamp + 1000, image(definitions, pixels))
        if index % every == every - 1:
            writer.checkpoint()
    if close:
        writer.close()
    return writer


def test_messages_come_back_typed_and_in_order(tmp_path: Path, definitions: Definitions) -> None:
    write(tmp_path / "bag", definitions)
    bag = Bag(tmp_path / "bag")
    assert bag.complete and bag.problems == ()
    assert [entry.message.tick for entry in bag.messages(["command"])] == list(range(50))
    assert bag.topics["/command"].count == 50
    assert (bag.start_ns, bag.end_ns) == (START, START + 49 * 25_000_000 + 1000)
    window = bag.messages(["/command"], START + 25_000_000, START + 3 * 25_000_000)
    assert [entry.message.tick for entry in window] == [1, 2]
    assert sum(1 for _ in read_bag(tmp_path / "bag")) == 100
    assert list(bag.messages(["nobody"])) == []


def test_other_readers_of_the_format_read_it(tmp_path: Path, definitions: Definitions) -> None:
    write(tmp_path / "bag", definitions)
    with Reader(tmp_path / "bag") as reader:
        assert reader.message_count == 100
        assert {connection.topic: connection.msgcount for connection in reader.connections}["/command"] == 50


def test_a_relative_name_finds_the_topic_and_the_root_namespace_wins(tmp_path: Path, definitions: Definitions) -> None:
    write(tmp_path / "bag", definitions)
    bag = Bag(tmp_path / "bag")
    assert bag.find("command") == "/command"
    assert bag.find("front/image_raw") == "/camera/front/image_raw"
    assert bag.find("raw") is None


def test_a_bag_without_its_end_is_read_up_to_the_last_checkpoint(tmp_path: Path, definitions: Definitions) -> None:
    write(tmp_path / "bag", definitions, count=55, every=10, close=False)
    bag = Bag(tmp_path / "bag")
    assert not bag.complete
    assert [entry.message.tick for entry in bag.messages(["command"])] == list(range(50))


@given(share=st.floats(0.0, 1.0), flip=st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_file_cut_or_damaged_anywhere_gives_a_prefix_or_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, definitions: Definitions, share: float, flip: bool
) -> None:
    source = _reference(tmp_path_factory, definitions)
    data = bytearray(source.read_bytes())
    place = min(len(data) - 1, int(share * len(data)))
    if flip:
        data[place] ^= 0xFF
    else:
        del data[place:]
    path = tmp_path_factory.mktemp("cut") / "bag.mcap"
    path.write_bytes(data)
    try:
        scan = scan_mcap(path)
    except McapError as error:
        assert str(path) in str(error)
        return
    ticks = [definitions.deserialize(raw, COMMAND).tick for _, _, raw in scan.messages({"/command"})]
    # A flipped bit may cost its chunk, a cut all that follows; nothing wrong is ever given for a message.
    assert ticks == sorted(set(ticks)) and set(ticks) <= set(range(50))
    assert flip or (ticks == list(range(len(ticks))) and not scan.complete)


@given(place=st.integers(0, 10**9), value=st.integers(0, 255), tail=st.booleans(), compress=st.booleans())
def test_a_bag_with_any_wrong_byte_opens_or_says_why_not(
    tmp_path_factory: pytest.TempPathFactory,
    definitions: Definitions,
    place: int,
    value: int,
    tail: bool,
    compress: bool,
) -> None:
    source = _reference(tmp_path_factory, definitions, compress)
    data = bytearray(source.read_bytes())
    # Half of the time in the index, which is parsed by another hand than the messages.
    data[-1 - place % 3000 if tail else place % len(data)] = value
    path = tmp_path_factory.mktemp("wrong") / "bag.mcap"
    path.write_bytes(data)
    try:
        bag = Bag(path)
    except BagError as error:
        assert str(path) in str(error)
        return
    assert sum(1 for _ in bag.messages()) <= 100


def test_a_damaged_index_costs_no_message(tmp_path: Path, definitions: Definitions) -> None:
    write(tmp_path / "bag", definitions)
    path = tmp_path / "bag" / "bag.mcap"
    data = bytearray(path.read_bytes())
    place = data.rindex(b"liveliness_lease_duration")
    data[place : place + 4] = b"dead"
    path.write_bytes(data)
    bag = Bag(tmp_path / "bag")
    assert "damaged index" in bag.problems[0]
    assert [entry.message.tick for entry in bag.messages(["command"])] == list(range(50))


def test_in_place_of_a_damaged_definition_the_installed_one_serves(
    tmp_path: Path, definitions: Definitions, monkeypatch: pytest.MonkeyPatch
) -> None:
    with BagWriter(tmp_path / "bag", definitions, compress=False) as writer:
        writer.add_topic("/command", COMMAND)
        writer.add_topic("/camera", IMAGE)
        writer.write_message("/command", START, definitions.message(COMMAND))
        writer.write_message("/camera", START, image(definitions, np.zeros((2, 2, 3), np.uint8)))
    path = tmp_path / "bag" / "bag.mcap"
    path.write_bytes(path.read_bytes().replace(b"uint64 tick", b"uint64 ti?k"))
    assert [entry.topic for entry in Bag(tmp_path / "bag").messages()] == ["/command", "/camera"]

    # Nowhere installed: its topic cannot be read, the others can.
    def unknown(_self: Definitions, msgtype: str) -> Path:
        raise UnknownTypeError(msgtype)

    monkeypatch.setattr(Definitions, "_find", unknown)
    bag = Bag(tmp_path / "bag")
    assert [entry.topic for entry in bag.messages()] == ["/camera"]
    assert bag.unreadable == ("/command",)


def _reference(factory: pytest.TempPathFactory, definitions: Definitions, compress: bool = True) -> Path:
    folder = factory.getbasetemp() / f"reference_{compress}"
    if not folder.exists():
        write(folder, definitions, compress=compress)
    return folder / f"{folder.name}.mcap"


def test_a_disk_that_fills_up_keeps_what_is_whole(tmp_path: Path, definitions: Definitions) -> None:
    writer = BagWriter(tmp_path / "bag", definitions, compress=False)
    writer.add_topic("/camera/front/image_raw", IMAGE)
    pixels = np.zeros((64, 64, 3), np.uint8)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The kernel then ends a write that goes beyond it in the middle, as a full disk does.
    resource.setrlimit(resource.RLIMIT_FSIZE, (2_500_000, hard))
    written = 0
    try:
        with pytest.raises(BagWriteError, match="messages lost"):
            for index in range(1000):
                writer.write_message("/camera/front/image_raw", START + index, image(definitions, pixels))
                written = index
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert writer.closed
    bag = Bag(tmp_path / "bag")
    count = bag.topics["/camera/front/image_raw"].count
    assert bag.complete and count == writer.messages
    assert 0 < count <= written
    assert sum(1 for _ in images(bag, "camera/front/image_raw")) == count
    with pytest.raises(ValueError, match="is closed"):
        writer.write("/camera/front/image_raw", START, b"")


def test_no_room_for_the_index_leaves_the_messages_readable(tmp_path: Path, definitions: Definitions) -> None:
    writer = write(tmp_path / "bag", definitions, close=False)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (writer.size + 10, hard))
    try:
        with pytest.raises(BagWriteError, match="no room for the index"):
            writer.close()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    bag = Bag(tmp_path / "bag")
    assert not bag.complete
    assert sum(1 for _ in bag.messages(["command"])) == 50


def test_a_writer_is_careful_with_its_folder_and_its_topics(tmp_path: Path, definitions: Definitions) -> None:
    with BagWriter(tmp_path / "bag", definitions) as writer:
        writer.add_topic("/command", COMMAND, [_latched()])
        writer.add_topic("/command", COMMAND)
        assert writer.topics == ("/command",)
        with pytest.raises(ValueError, match="is recorded as"):
            writer.add_topic("/command", IMAGE)
        with pytest.raises(UnknownTypeError, match="no definition"):
            writer.add_topic("/other", "nowhere/msg/Nothing")
        with pytest.raises(KeyError):
            writer.write("/unknown", START, b"")
        writer.checkpoint()
    writer.close()
    with pytest.raises(FileExistsError, match="choose another"):
        BagWriter(tmp_path / "bag", definitions)
    assert Bag(tmp_path / "bag").start_ns == 0


def _latched() -> Qos:
    zero = QosTime(0, 0)
    return Qos(
        QosHistory.KEEP_LAST, 1, QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL, zero, zero,
        QosLiveliness.AUTOMATIC, zero, False,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["missing", "empty", "wrong"])
def test_what_is_no_bag_is_named(tmp_path: Path, name: str) -> None:
    if name != "missing":
        (tmp_path / name).mkdir()
    if name == "wrong":
        (tmp_path / name / "a.mcap").write_text("not a bag", encoding="utf-8")
    with pytest.raises(BagError, match=name):
        Bag(tmp_path / name)


def test_a_message_that_does_not_fit_its_definition_is_passed_over(tmp_path: Path, definitions: Definitions) -> None:
    writer = BagWriter(tmp_path / "bag", definitions)
    writer.add_topic("/command", COMMAND)
    writer.write("/command", START, b"\x00\x01\x00\x00short")
    writer.write_message("/command", START + 1, definitions.message(COMMAND, tick=5))
    writer.close()
    bag = Bag(tmp_path / "bag")
    assert [entry.message.tick for entry in bag.messages()] == [5]
    assert bag.unreadable == ("/command",)


def test_a_bag_of_another_writer_uses_its_own_definitions(tmp_path: Path) -> None:
    definitions = Definitions()
    with Writer(tmp_path / "other", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        text, digest = definitions.definition("flow_rag_vla_interfaces/msg/Evidence")
        connection = writer.add_connection(
            "/evidence", "flow_rag_vla_interfaces/msg/Evidence", msgdef=text, rihs01=digest
        )
        message = definitions.message("flow_rag_vla_interfaces/msg/Evidence", name="force", value=3.0)
        writer.write(connection, START, definitions.serialize(message, "flow_rag_vla_interfaces/msg/Evidence"))
    entry = next(iter(read_bag(tmp_path / "other" / "other.mcap")))
    assert (entry.message.name, entry.message.value) == ("force", 3.0)


@pytest.mark.parametrize(
    ("encoding", "channels", "order"),
    [("rgb8", 3, (0, 1, 2)), ("bgr8", 3, (2, 1, 0)), ("rgba8", 4, (0, 1, 2)), ("bgra8", 4, (2, 1, 0)),
     ("mono8", 1, (0, 0, 0))],
)  # fmt: skip
def test_pixels_of_every_encoding_with_padded_rows(
    definitions: Definitions, encoding: str, channels: int, order: tuple[int, ...]
) -> None:
    pixels = np.random.default_rng(1).integers(0, 255, (4, 5, channels), dtype=np.uint8)
    rows = np.zeros((4, 5 * channels + 3), np.uint8)
    rows[:, : 5 * channels] = pixels.reshape(4, -1)
    message = definitions.message(IMAGE, height=4, width=5, encoding=encoding, step=rows.shape[1], data=rows.ravel())
    assert np.array_equal(image_pixels(message), pixels[:, :, list(order)])


@pytest.mark.parametrize("fields", [{"encoding": "yuv422"}, {"height": 0}, {"step": 2}, {"height": 99}])
def test_a_malformed_image_is_refused_and_passed_over(
    tmp_path: Path, definitions: Definitions, fields: dict[str, Any]
) -> None:
    good = image(definitions, np.zeros((2, 2, 3), np.uint8))
    values = {"height": 2, "width": 2, "encoding": "rgb8", "step": 6, "data": good.data} | fields
    bad = definitions.message(IMAGE, **values)
    with pytest.raises(ValueError, match="image"):
        image_pixels(bad)
    writer = BagWriter(tmp_path / "bag", definitions)
    writer.add_topic("/camera", IMAGE)
    writer.write_message("/camera", START, bad)
    writer.write_message("/camera", START + 10, good)
    writer.close()
    assert [stamp for stamp, _ in images(Bag(tmp_path / "bag"), "camera")] == [START + 10]


def test_the_image_nearest_to_a_moment(tmp_path: Path, definitions: Definitions) -> None:
    write(tmp_path / "bag", definitions)
    bag = Bag(tmp_path / "bag")
    near = image_near(bag, "camera/front/image_raw", START + 7 * 25_000_000)
    assert near is not None and near[0, 0, 0] == 7
    assert image_near(bag, "camera/front/image_raw", START + 10**12) is None


def test_stamps_of_times_and_headers(definitions: Definitions) -> None:
    time = definitions.message("builtin_interfaces/msg/Time", sec=3, nanosec=5)
    header = definitions.message("std_msgs/msg/Header", stamp=time)
    assert stamp_ns(time) == stamp_ns(header) == 3_000_000_005


def test_every_message_of_the_graph_has_a_definition_and_round_trips(definitions: Definitions) -> None:
    folder = Path(__file__).resolve().parents[2] / "src" / "flow_rag_vla_interfaces" / "msg"
    names = [f"flow_rag_vla_interfaces/msg/{path.stem}" for path in sorted(folder.glob("*.msg"))]
    assert len(names) > 10
    for name in names:
        text, digest = definitions.definition(name)
        assert digest.startswith("RIHS01_") and text
        data = definitions.serialize(definitions.message(name), name)
        assert definitions.serialize(definitions.deserialize(data, name), name) == data


def test_definitions_name_what_is_wrong(tmp_path: Path, definitions: Definitions) -> None:
    with pytest.raises(AttributeError, match="no field 'speed'"):
        definitions.message(COMMAND, speed=1)
    with pytest.raises(UnknownTypeError, match="no definition of 'Command'"):
        definitions.ensure("Command")
    (tmp_path / "share" / "odd" / "msg").mkdir(parents=True)
    (tmp_path / "share" / "odd" / "msg" / "Odd.msg").write_text("???", encoding="utf-8")
    with pytest.raises(UnknownTypeError, match="not understood"):
        Definitions([tmp_path]).ensure("odd/msg/Odd")
    assert installed_definitions() is installed_definitions()


def test_two_files_of_one_bag_are_read_together(tmp_path: Path, definitions: Definitions) -> None:
    write(tmp_path / "a", definitions)
    write(tmp_path / "b", definitions, count=20)
    shutil.copy(tmp_path / "b" / "b.mcap", tmp_path / "a" / "b.mcap")
    (tmp_path / "a" / "c.mcap").write_bytes(b"")
    bag = Bag(tmp_path / "a")
    assert bag.topics["/command"].count == 70
    assert "c.mcap" in bag.problems[0]
