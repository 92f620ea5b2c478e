# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What the deliberation node sees and feels at present, and vectors of words: for comparing failures of the past.

Both are asked for in threads that compute; the node's own thread, which alone touches the graph, is asked by them.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from rclpy.node import Node
from rclpy.task import Future

from flow_rag_vla.bringup import topics
from flow_rag_vla.data.message_values import MessageError, robot_state
from flow_rag_vla.deliberation.likeness import LikenessError, Present
from flow_rag_vla.llm.embedding.base import EmbedderStamp
from flow_rag_vla.memory.case import CaseError, EncoderStamp, unit_embedding
from flow_rag_vla.nodes import qos
from flow_rag_vla.nodes.event_loop import EventLoopThread
from flow_rag_vla.nodes.polling import PolledSubscription
from flow_rag_vla.nodes.stamps import to_ns
from flow_rag_vla.policy.observation import proprioception
from flow_rag_vla_interfaces import msg
from flow_rag_vla_interfaces.srv import EmbedText

T = TypeVar("T")

PRESENT_S = 2.0
"""Age beyond which what was seen is not the present."""

STATE_S = 0.5
"""How far the robot's state may be from what was seen."""


class PresentSituation:
    """The newest embedding and robot state. ``look`` belongs to any thread but the executor's."""

    def __init__(self, node: Node, loop: EventLoopThread) -> None:
        self._node, self._loop = node, loop
        self._embeddings = PolledSubscription(node, msg.Embedding, topics.EMBEDDING, qos.NEWEST)
        self._states = PolledSubscription(node, msg.RobotState, topics.ROBOT_STATE, qos.NEWEST)
        self._statuses = PolledSubscription(node, msg.EpisodeStatus, topics.EPISODE_STATUS, qos.STATE)
        self._embedding: msg.Embedding | None = None
        self._state: msg.RobotState | None = None
        self._status: msg.EpisodeStatus | None = None

    def look(self, seconds: float) -> Present:
        """What is seen and felt, in so many seconds.

        Raises:
            LikenessError: if nothing is, or it makes no sense.
        """

        def tell(answer: Callable[[Present], None]) -> None:
            answer(self._present())

        return asked(self._loop, tell, seconds, "the node is busy")

    def instruction(self) -> str:
        """The running episode's command; on the executor's thread."""
        self._take()
        status = self._status
        running = status is not None and status.state == msg.EpisodeStatus.STATE_RUNNING
        return str(status.instruction) if running and status is not None else ""

    def _take(self) -> None:
        for embedding, _ in self._embeddings.take()[-1:]:
            self._embedding = embedding
        for state, _ in self._states.take()[-1:]:
            self._state = state
        for status, _ in self._statuses.take()[-1:]:
            self._status = status

    def _present(self) -> Present:
        self._take()
        seen, felt = self._embedding, self._state
        if seen is None:
            raise LikenessError(f"nothing came on {topics.EMBEDDING} yet")
        stamp_ns = to_ns(seen.header.stamp)
        age = (self._node.get_clock().now().nanoseconds - stamp_ns) / 1e9
        # A stamp from the future is of another clock: how old it is, is not known.
        if not -0.1 <= age <= PRESENT_S:
            raise LikenessError(f"what came last on {topics.EMBEDDING} is {age:.1f} s old, at most {PRESENT_S:g} count")
        try:
            values = unit_embedding(seen.values)
            known = felt is not None and abs(to_ns(felt.header.stamp) - stamp_ns) <= STATE_S * 1e9
            feels = proprioception(robot_state(felt)) if known else None
        except (CaseError, MessageError, ValueError) as error:
            raise LikenessError(str(error)) from None
        return Present(values, EncoderStamp(seen.encoder, seen.revision, len(values)), feels, max(age, 0.0))


class TextVectors:
    """Vectors of words by the language model's node. Calls belong to any thread but the executor's."""

    def __init__(self, node: Node, loop: EventLoopThread) -> None:
        self._loop, self._client = loop, node.create_client(EmbedText, topics.EMBED_TEXT)

    def __call__(self, texts: Sequence[str], seconds: float) -> NDArray[np.float32]:
        """(N, D) float32 unit vectors, in so many seconds.

        Raises:
            LikenessError: if there are none.
        """
        return self.stamped(texts, seconds)[1]

    def stamped(self, texts: Sequence[str], seconds: float) -> tuple[EmbedderStamp, NDArray[np.float32]]:
        """Who made them, and the vectors; see above."""
        calls: list[Future[Any]] = []

        def send(answer: Callable[[Any], None]) -> None:
            if not self._client.service_is_ready():
                raise LikenessError(f"{self._client.srv_name} does not answer")
            calls.append(self._client.call_async(EmbedText.Request(texts=list(texts))))
            calls[0].add_done_callback(lambda done: answer(done.result()))

        def forget() -> None:
            for call in calls:
                self._client.remove_pending_request(call)

        try:
            response: EmbedText.Response = asked(self._loop, send, seconds, f"{topics.EMBED_TEXT} took too long")
        except LikenessError:
            self._loop.post(forget)
            raise
        if not response.ok:
            raise LikenessError(f"no vectors of words: {response.message}")
        values = np.array(response.values, dtype=np.float32)
        if values.size != len(texts) * response.dimension:
            raise LikenessError(f"{values.size} numbers came for {len(texts)} texts of {response.dimension}")
        stamp = EmbedderStamp(response.embedder, response.revision, int(response.dimension))
        return stamp, values.reshape(len(texts), response.dimension)


def asked(loop: EventLoopThread, ask: Callable[[Callable[[T], None]], None], seconds: float, late: str) -> T:
    """What the executor's thread answers to ``ask``, which it calls with a function that takes the answer.

    Raises:
        LikenessError: what ``ask`` raises, or ``late`` after so many seconds.
    """
    came = threading.Event()
    answers: list[T] = []
    errors: list[LikenessError] = []

    def answer(value: T) -> None:
        answers.append(value)
        came.set()

    def on_executor() -> None:
        try:
            ask(answer)
        except LikenessError as error:
            errors.append(error)
            came.set()

    loop.post(on_executor)
    if not came.wait(seconds):
        raise LikenessError(late)
    if errors:
        raise errors[0]
    return answers[0]
