# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What the chaos suite asks of the running graph: an episode that goes on, the emergency stop, cases, the relay."""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
from rcl_interfaces.srv import SetParameters
from rclpy.action import ActionClient
from rclpy.parameter import Parameter
from rclpy.task import Future
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from flow_rag_vla.bringup import topics
from flow_rag_vla.nodes import qos
from flow_rag_vla.nodes.goals import GoalLostError, send_goal
from flow_rag_vla.nodes.graph_client import GraphClient
from flow_rag_vla.nodes.operator import OUTCOMES
from flow_rag_vla_interfaces.action import ExecuteTask
from flow_rag_vla_interfaces.msg import EpisodeStatus, FailureCase, LoopStatistics, MemoryStatistics
from flow_rag_vla_interfaces.srv import AddFailureCase, GetFailureCase, ListFailureCases

INSTRUCTION = "put the red cube in the bin"
_LIMIT_S = 3600.0
_GOAL_PATIENCE_S = 2.0
_POLL_S = 0.1


LOST = "lost"
"""In an outcome's place: the episode manager knew nothing of the goal any more."""


@dataclass(frozen=True, slots=True)
class Told:
    """How an episode ended, as whoever asked for it was told."""

    episode_id: int
    outcome: str
    reason: str


class ChaosClient(GraphClient):
    """Use as a context manager. Its node spins in a thread of its own; the methods belong to the caller's."""

    def __init__(self) -> None:
        super().__init__("chaos_client")
        self._status = EpisodeStatus.STATE_IDLE
        self._now: tuple[int, int, bool] = (0, 0, False)
        self.told: list[Told] = []
        """Of the episodes that are over, in the order in which they ended."""
        self._asked_s = 0.0
        self._paused = False
        self.episodes = 0
        """Goals that were accepted."""
        node = self._node
        node.create_subscription(EpisodeStatus, topics.EPISODE_STATUS, self._on_status, qos.STATE)
        node.create_subscription(LoopStatistics, topics.LOOP_STATISTICS, self._on_figures, qos.STATE)
        self._figures: LoopStatistics | None = None
        node.create_subscription(MemoryStatistics, topics.MEMORY_STATISTICS, self._on_memory, qos.STATE)
        self.cases = 0
        """How many the memory said that it has."""
        self._goals = ActionClient(node, ExecuteTask, topics.EXECUTE_TASK)
        self._stops = node.create_publisher(Bool, topics.EMERGENCY_STOP, qos.STATE)
        self._release = node.create_client(Trigger, topics.EMERGENCY_STOP_RESET_SERVICE)
        self._add = node.create_client(AddFailureCase, topics.ADD_CASE)
        self._get = node.create_client(GetFailureCase, topics.GET_CASE)
        self._list = node.create_client(ListFailureCases, topics.LIST_CASES)
        self._relay = node.create_client(SetParameters, "chaos_relay/set_parameters")
        node.create_timer(_POLL_S, self._keep_running)

    def _free(self) -> None:
        self._goals.destroy()

    @property
    def running(self) -> int:
        """The episode that runs, as far as the graph said; 0 if none does."""
        _, number, runs = self._now
        return number if runs else 0

    def heard_since(self, steady_ns: int) -> bool:
        """Whether a status of the episode manager came after this steady time."""
        return self._now[0] > steady_ns

    def told_of(self, episode_id: int) -> Told | None:
        """How an episode ended; None while that was not told."""
        return next((told for told in reversed(self.told) if told.episode_id == episode_id), None)

    def emergency_stop(self) -> None:
        """Publish the emergency stop."""
        self._paused = True
        self._stops.publish(Bool(data=True))

    def release(self, timeout_s: float) -> bool:
        """Take the stop back and release the latch; whether it was released in time."""
        self._stops.publish(Bool(data=False))
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline:
            answer = self._call(self._release, Trigger.Request(), 2.0)
            if answer is not None and answer.success:
                self._paused = False
                return True
            time.sleep(0.02)
        return False

    def disturb(self, timeout_s: float = 10.0, **values: str | float) -> bool:
        """Set parameters of the relay; whether it took them."""
        names: dict[str, str | float] = {"topic": "", "delay": 0.0, "drop": 0.0, "duplicate": 0.0, "reorder": 0.0}
        names |= values
        request = SetParameters.Request(
            parameters=[Parameter(name, value=value).to_parameter_msg() for name, value in names.items()]
        )
        answer = self._call(self._relay, request, timeout_s)
        return answer is not None and all(result.successful for result in answer.results)

    def pattern(self, timeout_s: float) -> FailureCase | None:
        """A case of the memory, whole; None if it has none or does not answer."""
        listed = self._call(self._list, ListFailureCases.Request(limit=1), timeout_s)
        if listed is None or not listed.cases:
            return None
        answer = self._call(self._get, GetFailureCase.Request(case_id=listed.cases[0].case_id), timeout_s)
        return answer.failure_case if answer is not None and answer.found else None

    def add_case(self, pattern: FailureCase, random: np.random.Generator, timeout_s: float) -> int | None:
        """Store a case unlike any other; its number once the memory has acknowledged it, else None."""
        embedding = random.normal(size=len(pattern.embedding))
        case = FailureCase(
            failure_type=pattern.failure_type,
            task=pattern.task,
            phase=pattern.phase,
            encoder=pattern.encoder,
            encoder_revision=pattern.encoder_revision,
            embedding=(embedding / np.linalg.norm(embedding)).astype(np.float32),
            proprioception=pattern.proprioception,
            horizon=pattern.horizon,
            failed_actions=(0.003 * random.normal(size=len(pattern.failed_actions))).astype(np.float32),
            note="chaos",
        )
        answer = self._call(self._add, AddFailureCase.Request(failure_case=case), timeout_s)
        return int(answer.case_id) if answer is not None and answer.accepted else None

    def has_case(self, number: int, timeout_s: float) -> bool | None:
        """Whether the memory has the case; None if it does not answer."""
        answer = self._call(self._get, GetFailureCase.Request(case_id=number), timeout_s)
        return None if answer is None else bool(answer.found)

    def latency(self) -> tuple[float, float] | None:
        """From picture to command over the loop's last window: median and 99th percentile in ms; None if unknown."""
        figures, self._figures = self._figures, None
        if figures is None:
            return None
        stages = [stage for stage in figures.stages if stage.stage == "capture_to_command" and stage.count]
        return (float(stages[0].p50_ms), float(stages[0].p99_ms)) if stages else None

    def _call(self, client: Any, request: Any, timeout_s: float) -> Any:
        if not client.wait_for_service(timeout_sec=timeout_s):
            return None
        return self._wait(client.call_async(request), timeout_s)

    @staticmethod
    def _wait(future: Future[Any], timeout_s: float) -> Any:
        done = threading.Event()
        future.add_done_callback(lambda _future: done.set())
        return future.result() if done.wait(timeout_s) else None

    def _on_status(self, status: EpisodeStatus) -> None:
        self._status = status.state
        runs = status.state == EpisodeStatus.STATE_RUNNING
        self._now = time.monotonic_ns(), int(status.episode_id), runs

    def _on_figures(self, figures: LoopStatistics) -> None:
        self._figures = figures

    def _on_memory(self, statistics: MemoryStatistics) -> None:
        self.cases = int(statistics.cases)

    def _keep_running(self) -> None:
        """Ask for the task whenever no episode runs: after an emergency stop, or a manager that is new."""
        now = time.monotonic()
        busy = self._status in (EpisodeStatus.STATE_RUNNING, EpisodeStatus.STATE_RESETTING)
        if self._paused or busy or now - self._asked_s < _GOAL_PATIENCE_S or not self._goals.server_is_ready():
            return
        self._asked_s = now
        # Of a simulated scene another each time; an arm is not set up by anybody.
        goal = ExecuteTask.Goal(instruction=INSTRUCTION, timeout=_LIMIT_S, seed=self.episodes)
        send_goal(self._node, self._goals, goal).add_done_callback(self._on_answer)

    def _on_answer(self, answer: Future[Any]) -> None:
        with suppress(Exception):
            handle: Any = answer.result()
            if handle.accepted:
                self.episodes += 1
                handle.get_result_async().add_done_callback(self._on_result)

    def _on_result(self, done: Future[Any]) -> None:
        with suppress(Exception):
            if isinstance(done.exception(), GoalLostError):
                self.told.append(Told(0, LOST, str(done.exception())))
                return
            answer: Any = done.result()
            result = answer.result
            self.told.append(Told(int(result.episode_id), OUTCOMES[result.outcome], result.reason))
