# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Turns the memory of a running graph off and on, and counts what became of its answers: for paired live trials."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Mapping

from rclpy.parameter import Parameter
from rclpy.parameter_client import AsyncParameterClient

from flow_rag_vla.bringup import topics
from flow_rag_vla.core.action import CorrectionMode
from flow_rag_vla.nodes import qos
from flow_rag_vla.nodes.graph_client import GraphClient
from flow_rag_vla.nodes.operator import OperatorError
from flow_rag_vla_interfaces.msg import ActionChunk

TIMEOUT_S = 60.0
"""A node that does not answer for so long is gone; a busy machine may well take ten seconds."""


class MemorySwitch(GraphClient):
    """Use as a context manager. The executor spins in a thread of its own; the methods belong to the caller's."""

    def __init__(self, namespace: str = "") -> None:
        """Look at the graph of a namespace."""
        super().__init__("memory_switch", namespace)
        self._lock = threading.Lock()
        self._chunks: Counter[str] = Counter()
        self._waits: list[float] = []
        self._node.create_subscription(ActionChunk, topics.ACTION_CHUNK, self._on_chunk, qos.PLAN)

    def set(self, corrector: str, *, learn: bool, check: Callable[[], None]) -> None:
        """Have the memory answer by a corrector, and learn or not. ``check`` is called often and may raise.

        Raises:
            OperatorError: if the node does not answer, or refuses.
        """
        self._set("failure_memory", {"corrector": corrector, "learn": learn}, check)

    def allow(self, budget_s: float, check: Callable[[], None]) -> None:
        """Have the policy wait for an answer this long at most, in seconds.

        Raises:
            OperatorError: as ``set``.
        """
        self._set("flow_policy", {"correction_budget": budget_s}, check)

    def _set(self, node: str, values: Mapping[str, object], check: Callable[[], None]) -> None:
        client = AsyncParameterClient(self._node, node)
        if not client.wait_for_services(timeout_sec=TIMEOUT_S):
            raise OperatorError(f"{node} has not answered for {TIMEOUT_S:g} s; see its log")
        done = threading.Event()
        answer = client.set_parameters([Parameter(name, value=value) for name, value in values.items()])
        answer.add_done_callback(lambda _answer: done.set())
        waited = 0.0
        while not done.wait(0.1):
            check()
            waited += 0.1
            if waited > TIMEOUT_S:
                raise OperatorError(f"{node} has not answered for {TIMEOUT_S:g} s; see its log")
        replied = answer.result()
        refused = [] if replied is None else [item.reason for item in replied.results if not item.successful]
        if refused:
            raise OperatorError(f"{node} refuses: {'; '.join(refused)}")

    def chunks(self) -> tuple[dict[str, int], tuple[float, ...]]:
        """Chunks since the last call: by the mode in which the memory shaped them, and each one's wait for it in ms.

        ``timeout`` is the mode of those whose answer came too late.
        """
        with self._lock:
            found, self._chunks = dict(self._chunks), Counter()
            waits, self._waits = tuple(self._waits), []
        return found, waits

    def _on_chunk(self, message: ActionChunk) -> None:
        with self._lock:
            self._chunks[CorrectionMode(message.provenance.correction).name.lower()] += 1
            self._waits.append(round(float(message.correction_wait_ms), 3))
