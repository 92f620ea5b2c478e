"""Turns the memory of a running graph off and on, and counts what became of its answers: for paired live trials."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

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
        self._client = AsyncParameterClient(self._node, "failure_memory")
        self._lock = threading.Lock()
        self._chunks: Counter[str] = Counter()
        self._node.create_subscription(ActionChunk, topics.ACTION_CHUNK, self._on_chunk, qos.PLAN)

    def set(self, corrector: str, *, learn: bool, check: Callable[[], None]) -> None:
        """Have the memory answer by a corrector, and learn or not. ``check`` is called often and may raise.

        Raises:
            OperatorError: if the node does not answer, or refuses.
        """
        if not self._client.wait_for_services(timeout_sec=TIMEOUT_S):
            raise OperatorError(f"failure_memory has not answered for {TIMEOUT_S:g} s; see its log")
        values = [Parameter("corrector", value=corrector), Parameter("learn", value=learn)]
        done = threading.Event()
        answer = self._client.set_parameters(values)
        answer.add_done_callback(lambda _answer: done.set())
        waited = 0.0
        while not done.wait(0.1):
            check()
            waited += 0.1
            if waited > TIMEOUT_S:
                raise OperatorError(f"failure_memory has not answered for {TIMEOUT_S:g} s; see its log")
        replied = answer.result()
        refused = [] if replied is None else [item.reason for item in replied.results if not item.successful]
        if refused:
            raise OperatorError(f"failure_memory refuses: {'; '.join(refused)}")

    def chunks(self) -> dict[str, int]:
        """Chunks since the last call, by the mode in which the memory shaped them; ``timeout``: it came too late."""
        with self._lock:
            found, self._chunks = dict(self._chunks), Counter()
        return found

    def _on_chunk(self, message: ActionChunk) -> None:
        with self._lock:
            self._chunks[CorrectionMode(message.provenance.correction).name.lower()] += 1
