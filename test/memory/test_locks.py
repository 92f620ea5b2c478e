# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Readers share the lock, a writer has it alone."""

from __future__ import annotations

import threading

import pytest

from flow_rag_vla.memory.locks import ReadWriteLock


def test_readers_do_not_wait_for_each_other_and_a_writer_waits_for_them():
    lock = ReadWriteLock()
    wrote = threading.Event()

    def write() -> None:
        with lock.write():
            wrote.set()

    writer = threading.Thread(target=write)
    inside = threading.Barrier(2, timeout=20)

    def read() -> None:
        with lock.read():
            inside.wait()

    reader = threading.Thread(target=read)
    with lock.read():
        reader.start()
        inside.wait()
        reader.join(timeout=20)
        writer.start()
        assert not wrote.is_set()
    writer.join(timeout=20)
    assert wrote.is_set()


def test_no_reader_sees_a_change_half_done():
    lock, values, torn = ReadWriteLock(), [0, 0], []

    def write() -> None:
        for number in range(1, 300):
            with lock.write():
                values[0] = number
                values[1] = number

    def read() -> None:
        for _ in range(300):
            with lock.read():
                if values[0] != values[1]:
                    torn.append(tuple(values))

    threads = [threading.Thread(target=work) for work in (write, write, read, read)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert torn == [] and values[0] == values[1]


@pytest.mark.parametrize("kind", ["read", "write"])
def test_an_error_inside_frees_the_lock(kind):
    lock = ReadWriteLock()
    with pytest.raises(RuntimeError), getattr(lock, kind)():
        raise RuntimeError
    with lock.write(), pytest.raises(RuntimeError):
        raise RuntimeError
    with lock.read(), lock.read():
        pass
