# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Writers take turns in the order in which they asked, and nobody waits for ever."""

from __future__ import annotations

import fcntl
import os
import sqlite3
import subprocess
import sys
import threading

import pytest
import sqlalchemy as sa

from flow_rag_vla.labeling.registry import turn
from flow_rag_vla.labeling.registry.database import Database
from flow_rag_vla.labeling.registry.errors import BusyError, ErrorCode
from flow_rag_vla.labeling.registry.turn import WritingTurn

LONG_S = 60.0
WRITERS = 6


@pytest.fixture
def queueing(monkeypatch):
    """Waits until one more thread stands in the kernel's queue."""
    standing = threading.Semaphore(0)
    seen: list[threading.Thread] = []
    real = fcntl.flock

    def noted(descriptor, how):
        if how == fcntl.LOCK_EX and threading.current_thread() not in seen:
            seen.append(threading.current_thread())
            standing.release()
        return real(descriptor, how)

    monkeypatch.setattr(turn.fcntl, "flock", noted)

    def wait():
        assert standing.acquire(timeout=LONG_S)
        # Between what is noted and the queue itself nothing can be seen from here.
        threading.Event().wait(0.05)

    return wait


def test_writers_write_in_the_order_in_which_they_asked(folder, queueing):
    """Each with a connection of its own, as processes have: SQLite alone would let any of them go first."""
    databases = [Database(f"sqlite:///{folder}/registry.db", busy_timeout_s=LONG_S) for _ in range(WRITERS + 1)]
    order: list[int] = []

    def write(number: int) -> None:
        with databases[number].write():
            order.append(number)

    threads = [threading.Thread(target=write, args=(number,)) for number in range(WRITERS)]
    with databases[WRITERS].write():
        for thread in threads:
            thread.start()
            queueing()
    for thread in threads:
        thread.join()
    assert order == list(range(WRITERS))
    for database in databases:
        database.close()


def test_a_thread_behind_another_of_its_own_program_is_refused_in_time_too(folder):
    database = Database(f"sqlite:///{folder}/registry.db", busy_timeout_s=0.1)
    errors: list[BusyError] = []

    def write() -> None:
        try:
            with database.write():
                pytest.fail("two wrote at once")
        except BusyError as error:
            errors.append(error)

    thread = threading.Thread(target=write, daemon=True)
    with database.write():
        thread.start()
        thread.join(LONG_S)
        assert not thread.is_alive(), "it waits for ever"
    (error,) = errors
    assert (error.code, error.http_status) == (ErrorCode.BUSY, 503)
    assert "others wrote for more than 0.1 s" in error.message and error.remedy.startswith("send the request again")
    with database.write():
        pass
    database.close()


def test_who_stands_still_in_the_queue_costs_the_others_a_wait_and_no_more(folder):
    database = Database(f"sqlite:///{folder}/registry.db", busy_timeout_s=0.2)
    with WritingTurn(folder).taken(LONG_S) as held, database.write() as connection:
        assert held
        connection.exec_driver_sql("CREATE TABLE written (number INTEGER)")
    with database.read() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM written")).scalar() == 0
    database.close()


def test_a_turn_that_was_given_up_is_let_go_when_it_comes(tmp_path, queueing):
    with WritingTurn(tmp_path).taken(LONG_S) as first:
        with WritingTurn(tmp_path).taken(0.05) as second:
            assert first and not second
        queueing()
    with WritingTurn(tmp_path).taken(LONG_S) as third:
        assert third


def test_who_lets_the_turn_go_and_asks_again_does_not_get_in_before_who_stands_there(tmp_path, monkeypatch):
    """The next one is not awake yet when the turn is free: a writer that never rests would always be there first."""
    standing, awake, real = threading.Event(), threading.Event(), fcntl.flock

    def asleep(descriptor, how):
        if how == fcntl.LOCK_EX and _leads_to(str(descriptor), tmp_path):
            standing.set()
            assert awake.wait(LONG_S)
        return real(descriptor, how)

    monkeypatch.setattr(turn.fcntl, "flock", asleep)
    reached: list[bool] = []

    def wait() -> None:
        with WritingTurn(tmp_path).taken(LONG_S) as held:
            reached.append(held)

    thread = threading.Thread(target=wait)
    restless = WritingTurn(tmp_path)
    with restless.taken(LONG_S) as first:
        thread.start()
        assert first and standing.wait(LONG_S)
    with restless.taken(0.05) as again:
        assert not again
    awake.set()
    thread.join()
    assert reached == [True]
    with restless.taken(LONG_S) as again:
        assert again


def test_a_wait_that_is_interrupted_gives_its_place_up(tmp_path, monkeypatch):
    """Ctrl-C in a program that goes on, such as a notebook: nobody would ever let that turn go."""

    class Interrupted(threading.Event):
        def wait(self, timeout=None):
            if timeout is None:  # a thread that is started is waited for
                return super().wait()
            raise KeyboardInterrupt

    with WritingTurn(tmp_path).taken(LONG_S) as first:
        assert first
        waiting = WritingTurn(tmp_path)
        with monkeypatch.context() as patch:
            patch.setattr(turn.threading, "Event", Interrupted)
            with pytest.raises(KeyboardInterrupt), waiting.taken(LONG_S):
                pass
    for thread in _standing():
        thread.join(LONG_S)
    with WritingTurn(tmp_path).taken(LONG_S / 6) as later:
        assert later


def test_who_waits_in_vain_again_and_again_has_one_place(tmp_path):
    """Behind a program that was stopped with its turn, each write would leave a thread and its files there."""
    before = len(_standing())
    with WritingTurn(tmp_path).taken(LONG_S) as first:
        assert first
        waiting = WritingTurn(tmp_path)
        for _ in range(5):
            with waiting.taken(0.01) as held:
                assert not held
        assert len(_standing()) == before + 1
        assert len([name for name in os.listdir("/proc/self/fd") if _leads_to(name, tmp_path)]) == 2
    with waiting.taken(LONG_S) as held:
        assert held


def _standing() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "registry turn"]


def test_where_no_thread_can_be_started_the_database_is_asked_at_once(tmp_path, monkeypatch):
    def refused(_thread):
        raise RuntimeError("can't start new thread")

    with WritingTurn(tmp_path).taken(LONG_S) as held:
        monkeypatch.setattr(threading.Thread, "start", refused)
        with WritingTurn(tmp_path).taken(LONG_S) as second:
            assert held and not second
        monkeypatch.undo()
        assert len([name for name in os.listdir("/proc/self/fd") if _leads_to(name, tmp_path)]) == 1


HOLDER = """
import sys, time
from pathlib import Path
from flow_rag_vla.labeling.registry.turn import WritingTurn
with WritingTurn(Path(sys.argv[1])).taken(60.0) as held:
    print(held, flush=True)
    time.sleep(600.0)
"""


def test_the_turn_of_a_process_that_is_killed_is_the_next_ones(tmp_path):
    command = [sys.executable, "-c", HOLDER, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=os.environ)
    assert process.stdout is not None and process.stdout.readline().strip() == "True"
    with WritingTurn(tmp_path).taken(0.05) as held:
        assert not held
    process.kill()
    process.wait()
    with WritingTurn(tmp_path).taken(LONG_S) as held:
        assert held


def test_a_child_that_was_forked_meanwhile_does_not_keep_the_turn(tmp_path):
    with WritingTurn(tmp_path).taken(LONG_S):
        # A child has every descriptor of ours; a copy of it stands for the child.
        (ours,) = [int(name) for name in os.listdir("/proc/self/fd") if _leads_to(name, tmp_path)]
        inherited = os.dup(ours)
    with WritingTurn(tmp_path).taken(0.05) as held:
        assert held
    os.close(inherited)


def _leads_to(name: str, folder: os.PathLike[str]) -> bool:
    try:
        return os.readlink(f"/proc/self/fd/{name}") == str(folder)
    except OSError:
        return False


def test_a_program_that_does_not_queue_is_waited_for_and_told(folder):
    """Such as an older version, or the command sqlite3."""
    outside = sqlite3.connect(folder / "registry.db", isolation_level=None, check_same_thread=False)
    outside.execute("BEGIN IMMEDIATE")
    hasty = Database(f"sqlite:///{folder}/registry.db", busy_timeout_s=0.1)
    with pytest.raises(BusyError, match="end the program that holds a transaction open"), hasty.write():
        pass
    patient = Database(f"sqlite:///{folder}/registry.db", busy_timeout_s=LONG_S)
    timer = threading.Timer(0.1, lambda: outside.execute("ROLLBACK"))
    timer.start()
    with patient.write() as connection:
        # What is left of a wait is not the patience of the next one.
        assert connection.exec_driver_sql("PRAGMA busy_timeout").scalar() == 1000 * LONG_S
    timer.join()
    for closing in (hasty, patient, outside):
        closing.close()


def test_a_program_without_a_free_connection_is_busy(folder, monkeypatch):
    database = Database(f"sqlite:///{folder}/registry.db")

    def none_left():
        raise sa.exc.TimeoutError("QueuePool limit of size 5 overflow 10 reached")

    monkeypatch.setattr(database.engine, "connect", none_left)
    with pytest.raises(BusyError, match="every connection of this program is in use") as error, database.read():
        pass
    assert error.value.code is ErrorCode.BUSY
    database.close()
