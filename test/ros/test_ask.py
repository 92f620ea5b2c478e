# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""``flow_rag_vla ask --run``: a plan done step by step, in a graph that runs or in one of its own."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.action import ActionServer

from flow_rag_vla.bringup import topics
from flow_rag_vla.bringup.graph import NODES
from flow_rag_vla_interfaces.action import ExecuteTask


@pytest.fixture
def ask(tmp_path: Path) -> Iterator[object]:
    started: list[subprocess.Popen] = []

    def start(*arguments: str) -> subprocess.Popen:
        command = [sys.executable, "-m", "flow_rag_vla.cli.main", "ask", *arguments, "--runs", str(tmp_path / "runs")]
        environment = {**os.environ, "LLM_PROVIDER": "", "COLUMNS": "200"}
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env=environment,
            start_new_session=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


class Graph:
    """What ``ask`` sees of a running graph: reports of health, and the action that does a task."""

    def __init__(self, node, outcomes: list[int]) -> None:
        self.goals: list[ExecuteTask.Goal] = []
        self._outcomes = outcomes
        self._publisher = node.create_publisher(DiagnosticArray, topics.DIAGNOSTICS, 10)
        self._server = ActionServer(node, ExecuteTask, topics.EXECUTE_TASK, self._execute)
        self._timer = node.create_timer(0.2, self._report)

    def close(self) -> None:
        """Be no graph any more."""
        self._timer.destroy()
        self._server.destroy()

    def _report(self) -> None:
        names = [spec.name for spec in NODES]
        self._publisher.publish(DiagnosticArray(status=[DiagnosticStatus(name=name) for name in names]))

    def _execute(self, handle):
        self.goals.append(handle.request)
        outcome = self._outcomes[len(self.goals) - 1]
        handle.succeed()
        return ExecuteTask.Result(outcome=outcome, reason="because")


DONE, FAILED = ExecuteTask.Result.OUTCOME_SUCCESS, ExecuteTask.Result.OUTCOME_FAILURE
COMMAND = "slowly open the drawer, then put the red cube in the bin and the blue box too"


@pytest.mark.parametrize(
    ("outcomes", "code", "done"), [([DONE, DONE, DONE], 0, 3), ([DONE, FAILED, DONE], 1, 2)], ids=["all", "one fails"]
)
def test_steps_are_done_in_order_and_a_failed_one_ends_the_plan(ask, ros_node, spin_until, outcomes, code, done):
    graph = Graph(ros_node, outcomes)
    process = ask(COMMAND, "--run", "--seed", "7")
    spin_until(lambda: process.poll() is not None, 60.0, "the end of the command")
    output = process.stdout.read()
    assert process.returncode == code, output
    instructions = ["open the drawer", "put the red cube in the bin", "put the blue box in the bin"]
    assert [goal.instruction for goal in graph.goals] == instructions[:done]
    assert [goal.seed for goal in graph.goals] == [7, 8, 9][:done]
    assert [goal.speed_scale for goal in graph.goals] == [0.5, 1.0, 1.0][:done]
    assert "doing it in the graph that runs" in output
    graph.close()
    assert ("1 steps are left out" in output) is (code == 1)


def test_a_refused_command_moves_nothing(ask, ros_node, spin_until):
    graph = Graph(ros_node, [])
    process = ask("don't open the drawer", "--run")
    spin_until(lambda: process.poll() is not None, 60.0, "the end of the command")
    assert process.returncode == 1 and graph.goals == []
    graph.close()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_without_a_graph_one_is_started_for_the_plan_and_ended_after_it(ask, tmp_path):
    process = ask("서랍을 열어줘", "--run")
    output = process.communicate(timeout=240)[0]
    # On a busy machine the policy may miss its time limit; that is then said, and is the exit code.
    assert ("✓ step 1/1  open the drawer" in output) is (process.returncode == 0), output
    assert "step 1/1" in output and "Traceback" not in output
    assert len(list((tmp_path / "runs").iterdir())) == 1
