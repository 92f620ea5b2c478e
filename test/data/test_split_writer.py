# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A bag in parts is one bag to whoever reads it."""

from __future__ import annotations

from pathlib import Path

import pytest
from rosbags.rosbag2 import Reader

from flow_rag_vla.data.bag import Bag, bag_files
from flow_rag_vla.data.definitions import installed_definitions
from flow_rag_vla.data.recording import Recording
from flow_rag_vla.data.split_writer import SplitBagWriter

STRING = "std_msgs/msg/String"
START = 1_700_000_000_000_000_000


def fill(writer: SplitBagWriter, count: int, size: int = 10) -> None:
    definitions = installed_definitions()
    writer.add_topic("/notes", STRING)
    for index in range(count):
        text = f"{index:06d}".ljust(size, "x")
        writer.write_message("/notes", START + index * 100_000_000, definitions.message(STRING, data=text))
        if index % 10 == 9:
            writer.checkpoint()


def notes(folder: Path) -> list[int]:
    return [int(entry.message.data[:6]) for entry in Bag(folder).messages(["notes"])]


def test_parts_by_time_are_read_as_one_bag_here_and_by_other_readers(tmp_path):
    with SplitBagWriter(tmp_path / "bag", split_ns=1_000_000_000) as writer:
        fill(writer, 45)
        assert writer.parts == 5
    assert [path.name for path in bag_files(tmp_path / "bag")] == [f"bag_{index}.mcap" for index in range(5)]
    assert notes(tmp_path / "bag") == list(range(45))
    assert sorted(path.name for path in (tmp_path / "bag").iterdir())[-1] == "metadata.yaml"
    with Reader(tmp_path / "bag") as reader:
        assert reader.message_count == 45
        assert len(list(reader.messages())) == 45
        assert reader.duration == 4_400_000_000 + 1


def test_parts_by_size_stay_near_it(tmp_path):
    with SplitBagWriter(tmp_path / "bag", split_bytes=20_000, compress=False) as writer:
        fill(writer, 200, 1000)
        size = writer.size
    files = bag_files(tmp_path / "bag")
    assert len(files) >= 8 and all(path.stat().st_size < 60_000 for path in files)
    assert size >= 200_000 and notes(tmp_path / "bag") == list(range(200))


def test_a_killed_writer_leaves_its_parts_and_what_was_checkpointed_of_the_last(tmp_path):
    writer = SplitBagWriter(tmp_path / "bag", split_ns=1_000_000_000)
    fill(writer, 35)
    # Nothing is closed: as after a kill.
    bag = Bag(tmp_path / "bag")
    assert not bag.complete and "bag_3.mcap" in bag.problems[0]
    assert notes(tmp_path / "bag") == list(range(30))
    writer.close()
    assert Bag(tmp_path / "bag").complete and notes(tmp_path / "bag") == list(range(35))


def test_the_recording_thread_writes_parts_too(tmp_path):
    definitions = installed_definitions()
    recording = Recording(SplitBagWriter(tmp_path / "bag", split_ns=1_000_000_000), queue_bytes=1_000_000)
    recording.add_topic("/notes", STRING)
    for index in range(25):
        data = definitions.serialize(definitions.message(STRING, data=f"{index:06d}"), STRING)
        assert recording.put("/notes", START + index * 100_000_000, data)
    figures = recording.close()
    assert figures.messages == 25 and not figures.problem
    assert len(bag_files(tmp_path / "bag")) == 3 and notes(tmp_path / "bag") == list(range(25))


def test_an_existing_folder_is_not_touched(tmp_path):
    (tmp_path / "bag").mkdir()
    with pytest.raises(FileExistsError, match="choose another"):
        SplitBagWriter(tmp_path / "bag", split_ns=1)
