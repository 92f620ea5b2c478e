# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The person's side of the graph: waits until it is up, asks for tasks, and knows how it is doing.

A plain client: what it does, any other program can do over the same topics and the same action.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray, DiagnosticStatus
from rclpy.action import ActionClient
from rclpy.task import Future

from flow_rag_vla.bringup import topics
from flow_rag_vla.nodes import qos
from flow_rag_vla.nodes.diagnostics import ACTIVE, STATE_FIGURE
from flow_rag_vla.nodes.goals import GoalLostError, Handle, send_goal
from flow_rag_vla.nodes.graph_client import GraphClient
from flow_rag_vla_interfaces.action import ExecuteTask
from flow_rag_vla_interfaces.msg import EpisodeStatus, FailureEvent, LoopStatistics, MemoryStatistics

CANCEL_S, LASTING_CANCEL_S = 2.0, 20.0
"""Seconds that the end of a canceled goal is waited for: in a graph that ends with the caller, and in one that does not
and whose episode manager may just be starting again."""


WITHDRAWAL_S = 0.3


class OperatorError(RuntimeError):
    """The graph did not do what was asked; the message names who and what."""


@dataclass(frozen=True, slots=True)
class GraphView:
    """The newest that the graph said about itself."""

    task: str = ""
    phase: str = "idle"
    elapsed: float = 0.0
    rate_hz: float = 0.0
    late_ticks: int = 0
    skipped_ticks: int = 0
    tick_error_p99_ms: float = 0.0
    failures: int = 0
    last_failure: str = ""
    memory_cases: int = 0
    corrections: int = 0


@dataclass(frozen=True, slots=True)
class TaskResult:
    """How one ExecuteTask ended."""

    outcome: str
    reason: str
    episode_id: int
    duration: float
    failures: int
    corrections: int

    @property
    def success(self) -> bool:
        """Whether the task was done."""
        return self.outcome == "success"


OUTCOMES = {
    ExecuteTask.Result.OUTCOME_SUCCESS: "success",
    ExecuteTask.Result.OUTCOME_FAILURE: "failure",
    ExecuteTask.Result.OUTCOME_CANCELED: "canceled",
    ExecuteTask.Result.OUTCOME_ABORTED: "aborted",
}


class Operator(GraphClient):
    """Use as a context manager. The executor spins in a thread of its own; the methods belong to the caller's."""

    def __init__(self, namespace: str = "") -> None:
        super().__init__("operator", namespace)
        self._view = GraphView()
        self._heard: set[str] = set()
        self._failed: dict[str, str] = {}
        """Managed nodes that could not be brought up, and why."""
        self._changed = threading.Condition()
        self._client = ActionClient(self._node, ExecuteTask, topics.EXECUTE_TASK)
        subscribe = self._node.create_subscription
        subscribe(DiagnosticArray, topics.DIAGNOSTICS, self._on_diagnostics, 50)
        subscribe(EpisodeStatus, topics.EPISODE_STATUS, self._on_episode, qos.STATE)
        subscribe(LoopStatistics, topics.LOOP_STATISTICS, self._on_loop, qos.STATE)
        subscribe(MemoryStatistics, topics.MEMORY_STATISTICS, self._on_memory, qos.STATE)
        subscribe(FailureEvent, topics.FAILURE_EVENT, self._on_failure, qos.EVENT)

    def _free(self) -> None:
        self._client.destroy()

    @property
    def view(self) -> GraphView:
        """The newest state of the graph."""
        return self._view

    def sees_a_graph(self, nodes: Collection[str], timeout_s: float) -> bool:
        """Whether one of these nodes reports on /diagnostics before the time is over.

        Only what is said counts: the middleware knows processes that were killed for another twenty seconds.
        """
        deadline = time.monotonic() + timeout_s
        while not self._heard & set(nodes):
            if time.monotonic() > deadline:
                return False
            with self._changed:
                self._changed.wait(0.1)
        return True

    def wait_until_up(self, nodes: Collection[str], timeout_s: float, check: Callable[[], None]) -> None:
        """Return when every node has reported on /diagnostics, the managed ones as active, and the task action answers.

        ``check`` is called often and may raise.

        Raises:
            OperatorError: when a managed node cannot be brought up, with its reason; after the time, naming what is
                missing.
        """
        deadline = time.monotonic() + timeout_s
        while True:
            missing = sorted(set(nodes) - self._heard)
            if not missing and self._client.server_is_ready():
                return
            check()
            failed = sorted(set(nodes) & set(self._failed))
            if failed:
                raise OperatorError(f"{failed[0]} cannot start: {self._failed[failed[0]]}")
            if time.monotonic() > deadline:
                what = ", ".join(missing) or "the execute_task action"
                raise OperatorError(f"not up after {timeout_s:g} s: {what}; see their logs")
            with self._changed:
                self._changed.wait(0.1)

    def execute(
        self,
        goal: ExecuteTask.Goal,
        check: Callable[[], None],
        *,
        lasting: bool = False,
    ) -> TaskResult:
        """Send one goal and wait for its result. An exception from ``check`` cancels the goal first.

        An episode manager that dies meanwhile goes on with the episode once it is there again, or aborts it with the
        reason; one that knows nothing of it any more counts as having aborted it too.

        Args:
            goal: what is to be done.
            check: called often; may raise.
            lasting: whether the graph goes on without the caller. An interrupt then waits longer until the episode is
                canceled: an episode manager that is just being started again must be asked once it is there.

        Raises:
            OperatorError: if the goal is refused; if nobody answered the request to cancel it in a lasting graph.
        """
        sent = send_goal(self._node, self._client, goal)
        try:
            handle: Handle = self._wait(sent, check)
        except BaseException:
            sent.cancel()
            # It is withdrawn on the executor's thread, which ends with the caller.
            time.sleep(WITHDRAWAL_S)
            raise
        if not handle.accepted:
            raise OperatorError(f"the episode manager refused {goal.instruction or goal.task!r}; its log says why")
        outcome: Future[Any] = handle.get_result_async()
        try:
            result = self._wait(outcome, check).result
        except GoalLostError as error:
            return TaskResult("aborted", str(error), 0, 0.0, 0, 0)
        except BaseException as error:
            handle.cancel_goal_async()
            canceled = self._settle(outcome, LASTING_CANCEL_S if lasting else CANCEL_S)
            if lasting and not canceled:
                raise OperatorError(
                    f"the episode manager did not answer the request to cancel for {LASTING_CANCEL_S:g} s; the robot "
                    "may go on: press the emergency stop"
                ) from error
            raise
        return TaskResult(
            OUTCOMES.get(result.outcome, str(result.outcome)),
            result.reason,
            int(result.episode_id),
            float(result.duration),
            int(result.failures),
            int(result.corrections),
        )

    def _wait(self, future: Future[Any], check: Callable[[], None]) -> Any:
        done = threading.Event()
        future.add_done_callback(lambda _future: done.set())
        while not done.wait(0.1):
            check()
        return future.result()

    @staticmethod
    def _settle(future: Future[Any], timeout_s: float) -> bool:
        done = threading.Event()
        future.add_done_callback(lambda _future: done.set())
        return done.wait(timeout_s)

    def _update(self, **changes: object) -> None:
        with self._changed:
            self._view = replace(self._view, **changes)  # type: ignore[arg-type]
            self._changed.notify_all()

    def _on_diagnostics(self, message: DiagnosticArray) -> None:
        namespace = self._node.get_namespace().strip("/")
        with self._changed:
            for status in message.status:
                folder, _, name = status.name.rpartition("/")
                if folder != namespace:
                    continue
                # Only managed nodes tell a state.
                state = next((item.value for item in status.values if item.key == STATE_FIGURE), ACTIVE)
                if state == ACTIVE:
                    self._heard.add(name)
                    self._failed.pop(name, None)
                elif status.level == DiagnosticStatus.ERROR:
                    self._failed[name] = status.message.removeprefix(f"{state}: ")
            self._changed.notify_all()

    def _on_episode(self, status: EpisodeStatus) -> None:
        self._update(task=status.task, phase=status.phase, elapsed=float(status.elapsed))

    def _on_loop(self, statistics: LoopStatistics) -> None:
        self._update(
            rate_hz=float(statistics.rate_hz),
            late_ticks=int(statistics.late_ticks),
            skipped_ticks=int(statistics.skipped_ticks),
            tick_error_p99_ms=float(statistics.tick_error_p99_ms),
        )

    def _on_memory(self, statistics: MemoryStatistics) -> None:
        self._update(memory_cases=int(statistics.cases), corrections=int(statistics.corrections))

    def _on_failure(self, event: FailureEvent) -> None:
        self._update(failures=self._view.failures + 1, last_failure=event.description)
