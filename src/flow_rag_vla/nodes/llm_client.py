# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The language model node's ``Ask``, awaited on an asyncio loop beside the executor."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from diagnostic_msgs.msg import DiagnosticArray
from rclpy.node import Node
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.task import Future

from flow_rag_vla.bringup import topics
from flow_rag_vla.deliberation.stages import Planned
from flow_rag_vla.llm.request import Message
from flow_rag_vla.nodes.asking import Meeting
from flow_rag_vla.nodes.deliberation_messages import plan_of
from flow_rag_vla.nodes.event_loop import EventLoopThread
from flow_rag_vla.nodes.polling import PolledSubscription
from flow_rag_vla_interfaces.msg import QuotedText
from flow_rag_vla_interfaces.srv import Ask

APPEARANCE_S = 3.0
"""How long the service is looked for: a node that was just started is not seen at once."""

_PAUSE_S = 0.05


LLM = "llm"
"""The language model node's name."""

REPORTS = QoSProfile(history=HistoryPolicy.KEEP_LAST, depth=64, reliability=ReliabilityPolicy.BEST_EFFORT)
"""Some seconds of all nodes' reports, of which the language model node gives one a second."""


class AskError(RuntimeError):
    """The language model node gave no answer; kind: as in Ask; provider, model: in use there, empty if it is gone."""

    def __init__(self, kind: str, text: str, provider: str = "", model: str = "") -> None:
        super().__init__(f"{kind}: {text}")
        self.kind, self.provider, self.model = kind, provider, model


class ProviderInUse:
    """Which provider the language model node of this namespace has in use, by its reports; on the executor's thread."""

    def __init__(self, node: Node) -> None:
        self._name = f"{node.get_namespace()}/{LLM}".lstrip("/")
        self._reports = PolledSubscription(node, DiagnosticArray, topics.DIAGNOSTICS, REPORTS)

    def newest(self) -> tuple[str, str] | None:
        """Provider and model of the newest report since the last call; None if there was none."""
        for report, _ in reversed(self._reports.take()):
            for status in report.status:
                if status.name == self._name:
                    figures = {item.key: item.value for item in status.values}
                    return figures.get("provider", ""), figures.get("model", "")
        return None


class LlmClient:
    """Asks the language model node. ``ask`` and ``plan`` belong to the event loop's thread."""

    def __init__(self, node: Node, loop: EventLoopThread) -> None:
        self._client = node.create_client(Ask, topics.ASK)
        self._meeting = Meeting(node, LLM)
        self._executor = loop

    async def ask(self, request: Ask.Request) -> Ask.Response:
        """The node's answer.

        Raises:
            AskError: if there is no such node, or it has none.
        """
        loop = asyncio.get_running_loop()
        ends = loop.time() + min(APPEARANCE_S, max(float(request.deadline), _PAUSE_S))
        while not self._client.service_is_ready():
            if loop.time() >= ends:
                raise AskError(
                    "provider_down", f"{self._client.srv_name} does not answer; start the node llm (argument llm:=true)"
                )
            await asyncio.sleep(_PAUSE_S)
        await self._meet()
        answer: asyncio.Future[Any] = loop.create_future()
        calls: list[Future[Any]] = []

        def settle(response: Any) -> None:
            if not answer.done():
                answer.set_result(response)

        def came(reply: Future[Any]) -> None:
            loop.call_soon_threadsafe(settle, reply.result())

        def send() -> None:
            if answer.done():
                return
            calls.append(self._client.call_async(request))
            calls[0].add_done_callback(came)

        def forget() -> None:
            for call in calls:
                self._client.remove_pending_request(call)

        self._executor.post(send)
        try:
            response: Ask.Response = await answer
        except asyncio.CancelledError:
            self._executor.post(forget)
            raise
        if not response.ok:
            raise AskError(response.kind, response.message, response.provider, response.model)
        return response

    async def _meet(self) -> None:
        loop = asyncio.get_running_loop()
        met: asyncio.Future[None] = loop.create_future()

        def settle() -> None:
            if not met.done():
                met.set_result(None)

        def look() -> None:
            if self._meeting.is_over():
                come()

        def come() -> None:
            loop.call_soon_threadsafe(settle)

        self._executor.post(lambda: self._meeting.begin(come))
        while not met.done():
            self._executor.post(look)
            await asyncio.wait([met], timeout=_PAUSE_S)

    async def plan(self, instruction: str, data: Sequence[Message], deadline: float) -> Planned:
        """See ``deliberation.stages.Planner``.

        Raises:
            AskError: as ``ask``.
            ValueError: if what came is no plan.
        """
        quoted = [QuotedText(text=message.text, source=message.source) for message in data]
        request = Ask.Request(question=instruction, schema="TaskPlan", data=quoted, deadline=float(deadline))
        response = await self.ask(request)
        return Planned(plan_of(response.plan), response.provider, response.model)
