# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Real node processes for the ROS tests."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rcl_interfaces.srv import GetParameters
from rclpy.task import Future


class NodeProcess:
    """One node as a process of its own, with its log."""

    def __init__(self, name: str, log: Path, parameters: dict[str, object]) -> None:
        self.name = name
        self.log = log
        if name == "controller":
            # Its latch is this test's, not that of a person's robot; controllers of one test share it.
            parameters = {"emergency_stop_file": str(log.parent / "emergency_stop"), **parameters}
        if name == "failure_detector":
            # So are its counts.
            parameters = {"false_alarms_file": str(log.parent / "false_alarms.json"), **parameters}
        command = [sys.executable, "-m", f"flow_rag_vla.nodes.{name}", "--ros-args"]
        for key, value in parameters.items():
            command += ["-p", f"{key}:={json.dumps(value)}"]
        with log.open("wb") as stream:
            self.popen = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT, start_new_session=True
            )

    @property
    def text(self) -> str:
        """What the node said so far."""
        return self.log.read_text(errors="replace")

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self.popen.poll() is None

    def said(self, words: str) -> bool:
        """Whether it said so; fails the test if it died without."""
        if words in self.text:
            return True
        if not self.alive:
            pytest.fail(f"{self.name} ended with {self.popen.returncode}:\n{self.text}")
        return False

    def wait(self, timeout: float = 30.0) -> int:
        """Exit code, once it ended by itself."""
        return self.popen.wait(timeout)

    def stop(self, number: int = signal.SIGINT, timeout: float = 20.0) -> int:
        """End it with a signal; its exit code."""
        if self.alive:
            self.popen.send_signal(number)
        return self.popen.wait(timeout)


@pytest.fixture
def start_node(tmp_path: Path) -> Iterator[Callable[..., NodeProcess]]:
    """``start_node("controller", rate=40.0)`` starts the real node; every one is ended after the test."""
    started: list[NodeProcess] = []

    def start(node: str, **parameters: object) -> NodeProcess:
        process = NodeProcess(node, tmp_path / f"{node}_{len(started)}.log", parameters)
        started.append(process)
        return process

    yield start
    for process in started:
        # pytest shows it when the test fails.
        print(f"--- {process.name}, {'alive' if process.alive else process.popen.returncode}\n{process.text[-4000:]}")
        if process.alive:
            os.killpg(process.popen.pid, signal.SIGKILL)
            process.popen.wait()


@pytest.fixture
def call(ros_node, spin_until):
    """``call(Trigger, "name", field=value)`` waits for the service and gives its answer."""

    def call_service(kind, name, **fields):
        client = ros_node.create_client(kind, name)
        spin_until(client.service_is_ready, what=f"service {name}")
        future = client.call_async(kind.Request(**fields))
        spin_until(future.done, what=f"answer of {name}")
        return future.result()

    return call_service


@pytest.fixture
def known_by(ros_node, spin_until):
    """``known_by("controller")`` waits until that node knows every publisher that the test has made so far.

    A publisher that counts a subscription knows it; that the subscription knows the publisher is another message, and
    one that takes what comes, such as the clock's, misses what is published between the two. A node hears of a process'
    writers in the order in which they were made, so one that answers a later client knows them all.
    """

    def wait(node: str) -> None:
        client = ros_node.create_client(GetParameters, f"{node}/get_parameters")
        spin_until(client.service_is_ready, what=f"parameters of {node}")
        asked: list[tuple[float, Future]] = []

        def answered() -> bool:
            # A question can be missed for the same reason: it is asked again.
            if not asked or asked[-1][0] < time.monotonic() - 2.0:
                asked.append((time.monotonic(), client.call_async(GetParameters.Request())))
            return any(future.done() for _, future in asked)

        spin_until(answered, what=f"an answer of {node}")

    return wait
