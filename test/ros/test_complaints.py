# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Refusals in the log."""

from __future__ import annotations

from flow_rag_vla.nodes.complaints import Complaints, DeferredComplaints, newest


class Log:
    """A logger that keeps what it is told."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.name = "left.camera"

    def error(self, text: str) -> None:
        self.lines.append(text)

    warning = error


def test_one_kind_does_not_hide_another_and_numbers_do_not_make_a_kind():
    log = Log()
    complain = Complaints(log)
    complain("image is 3 pixels wide")
    complain("image is 4 pixels wide")
    complain("image is -1.5e3 pixels wide")
    complain("encoding 'x' is unknown")
    assert log.lines == ["image is 3 pixels wide", "encoding 'x' is unknown"]
    assert complain.count == 4 and complain.last == "encoding 'x' is unknown"
    assert newest("left.camera") == "encoding 'x' is unknown" and newest("right.camera") == ""


def test_a_flood_of_kinds_does_not_grow_the_book():
    log = Log()
    complain = Complaints(log)
    for letter in map(chr, range(0x4E00, 0x4E00 + 500)):
        complain(f"kind {letter}")
    assert len(log.lines) == 500 and complain.count == 500
    assert len(complain._kinds) <= 64


def test_what_a_loop_refused_is_logged_when_it_has_time_and_once_a_second_for_each_key():
    log = Log()
    complain = DeferredComplaints(log)
    for number in range(3):
        complain("chunk", f"chunk {number} refused")
    complain("state", "s" * 5000)
    assert log.lines == []
    complain.log()
    assert log.lines == ["chunk 0 refused", "s" * 1000]
    complain.log()
    assert len(log.lines) == 2 and newest("left.camera") == "s" * 1000
