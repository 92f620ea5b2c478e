# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Asks the deliberation node one command after the other, for runs that watch what a long time does to it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from rclpy.action import ActionClient
from rclpy.task import Future

from flow_rag_vla.bringup import topics
from flow_rag_vla.nodes.goals import GoalLostError, send_goal
from flow_rag_vla.nodes.graph_client import GraphClient
from flow_rag_vla_interfaces.action import DeliberateTask
from flow_rag_vla_interfaces.msg import SceneObject

PERIOD_S = 2.0
COMMANDS = (
    "put the red cube in the bin",
    "서랍을 열고 빨간 큐브를 통에 넣어줘",
    "don't open the drawer",
    "stack the red cube on the blue box",
    "make me a sandwich",
    "",
)
"""What can be done, what must be refused, and nothing at all."""

LOST = "lost"
"""A deliberation whose node was started again meanwhile."""


class WordsClient(GraphClient):
    """One command at a time; see the module."""

    def __init__(self, commands: Sequence[str] = COMMANDS, period: float = PERIOD_S) -> None:
        super().__init__("words_client")
        self.outcomes: Counter[str] = Counter()
        """Deliberations by how they ended; ``refused as a goal`` where the node took none."""
        self._commands, self._number, self._waiting = commands, 0, False
        self._goals = ActionClient(self._node, DeliberateTask, topics.DELIBERATE_TASK)
        self._node.create_timer(period, self._ask)

    def _free(self) -> None:
        self._goals.destroy()

    def _ask(self) -> None:
        if self._waiting or not self._goals.server_is_ready():
            return
        self._waiting = True
        words = self._commands[self._number % len(self._commands)]
        self._number += 1
        things = [SceneObject(name=name, certainty=0.9, source="soak") for name in ("red cube", "blue box", "bin")]
        goal = DeliberateTask.Goal(instruction=words, deadline=10.0, scene_known=self._number % 2 == 0, scene=things)
        send_goal(self._node, self._goals, goal).add_done_callback(self._on_accepted)

    def _on_accepted(self, sent: Future[Any]) -> None:
        handle = sent.result()
        if handle is None or not handle.accepted:
            self._waiting = False
            self.outcomes["refused as a goal"] += 1
            return
        handle.get_result_async().add_done_callback(self._on_result)

    def _on_result(self, done: Future[Any]) -> None:
        self._waiting = False
        if isinstance(done.exception(), GoalLostError):
            self.outcomes[LOST] += 1
            return
        answer: Any = done.result()
        self.outcomes[answer.result.outcome] += 1
