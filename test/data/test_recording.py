# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The queue between reception and the disk."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest

from flow_rag_vla.data.bag import Bag
from flow_rag_vla.data.bag_writer import BagWriter
from flow_rag_vla.data.definitions import Definitions
from flow_rag_vla.data.recording import Recording, free_folder

NOTE = "std_msgs/msg/String"


class SlowWriter(BagWriter):
    """A bag on a disk that does not answer until it is let go."""

    gate: threading.Event

    def write(self, topic: str, stamp_ns: int, data: bytes | memoryview) -> None:
        self.gate.wait()
        super().write(topic, stamp_ns, data)


@pytest.fixture
def note() -> bytes:
    definitions = Definitions()
    return definitions.serialize(definitions.message(NOTE, data="x" * 100), NOTE)


def test_what_is_put_is_in_the_bag_after_close(tmp_path: Path, note: bytes) -> None:
    recording = Recording(BagWriter(tmp_path / "bag"), queue_bytes=1_000_000)
    recording.add_topic("/note", NOTE)
    for index in range(500):
        assert recording.put("/note", index, note)
    figures = recording.close()
    assert (figures.messages, figures.dropped, figures.queued_bytes, figures.topics) == (500, 0, 0, 1)
    assert figures.written_bytes == 500 * len(note)
    assert recording.close() == figures
    assert recording.folder == tmp_path / "bag"
    assert Bag(tmp_path / "bag").topics["/note"].count == 500
    assert not recording.put("/note", 1, note)


def test_a_disk_that_hangs_never_blocks_reception_and_drops_are_counted(tmp_path: Path, note: bytes) -> None:
    writer = SlowWriter(tmp_path / "bag")
    writer.gate = threading.Event()
    recording = Recording(writer, queue_bytes=len(note) * 10)
    recording.add_topic("/note", NOTE)
    taken = [recording.put("/note", index, note) for index in range(100)]
    # Room is given back only for what was written, and nothing is: exactly ten fit, wherever the thread is.
    assert sum(taken) == 10
    assert recording.figures().dropped == 90
    writer.gate.set()
    figures = recording.close()
    assert (figures.messages, figures.dropped) == (10, 90)
    assert Bag(tmp_path / "bag").topics["/note"].count == 10


def test_a_type_that_nobody_defines_costs_only_its_own_topic(tmp_path: Path, note: bytes) -> None:
    said: list[str] = []
    recording = Recording(BagWriter(tmp_path / "bag"), queue_bytes=1_000_000, on_problem=said.append)
    recording.add_topic("/odd", "nowhere/msg/Odd")
    recording.add_topic("/note", NOTE)
    recording.put("/odd", 1, b"1234")
    recording.put("/note", 1, note)
    figures = recording.close()
    assert (figures.messages, figures.dropped, figures.problem) == (1, 1, "")
    assert "/odd is not recorded" in said[0]


def test_little_free_space_closes_the_bag_while_there_is_room(tmp_path: Path, note: bytes) -> None:
    ended = threading.Event()
    said: list[str] = []

    def tell(sentence: str) -> None:
        said.append(sentence)
        ended.set()

    recording = Recording(
        BagWriter(tmp_path / "bag"), queue_bytes=1_000_000, checkpoint_period_s=0.1, minimum_free_bytes=10**9,
        on_problem=tell, free_bytes=lambda _folder: 10**8,
    )  # fmt: skip
    recording.add_topic("/note", NOTE)
    recording.put("/note", 1, note)
    assert ended.wait(20.0)
    assert "100 MB are free" in said[0]
    assert not recording.put("/note", 2, note)
    figures = recording.close()
    assert "recording has ended" in figures.problem
    assert figures.dropped >= 1
    assert Bag(tmp_path / "bag").complete


def test_a_write_error_ends_the_recording_and_is_said(tmp_path: Path, note: bytes) -> None:
    class FullWriter(BagWriter):
        def checkpoint(self) -> None:
            raise self._give_up(OSError(28, "No space left on device"))

    ended = threading.Event()
    recording = Recording(
        FullWriter(tmp_path / "bag"), queue_bytes=1_000_000, checkpoint_period_s=0.1,
        on_problem=lambda _sentence: ended.set(),
    )  # fmt: skip
    recording.add_topic("/note", NOTE)
    recording.put("/note", 1, note)
    assert ended.wait(20.0)
    assert "No space left" in recording.close().problem


def test_a_free_folder_is_found_beside_a_taken_one(tmp_path: Path) -> None:
    assert free_folder(tmp_path / "bag") == tmp_path / "bag"
    (tmp_path / "bag").mkdir()
    (tmp_path / "bag_2").mkdir()
    assert free_folder(tmp_path / "bag") == tmp_path / "bag_3"


def test_queued_messages_lost_to_a_full_disk_are_counted(tmp_path: Path, note: bytes) -> None:
    class Full(BagWriter):
        def write(self, topic: str, stamp_ns: int, data: Any) -> None:
            raise self._give_up(OSError(28, "No space left on device"))

    ended = threading.Event()
    recording = Recording(Full(tmp_path / "bag"), queue_bytes=1_000_000, on_problem=lambda _sentence: ended.set())
    recording.add_topic("/note", NOTE)
    sent = 5
    for index in range(sent):
        recording.put("/note", index, note)
    assert ended.wait(20.0)
    figures = recording.close()
    assert (figures.messages, figures.dropped, figures.queued_bytes) == (0, sent, 0)
