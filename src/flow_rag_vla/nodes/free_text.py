"""Commands in free words for the episode manager: what they mean is asked of the language model's node, where it runs.

An instruction that is exactly one of the known ones needs nobody. Any other is read by the language model and checked
again by the grammar; only one clear step is done. Where the node does not run, the caller's own grammar stands alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.task import Future

from flow_rag_vla.bringup import topics
from flow_rag_vla.core.goal import GOALS, UnknownTaskError
from flow_rag_vla_interfaces.srv import Ask

if TYPE_CHECKING:
    from flow_rag_vla.llm.schemas import PlanStep

DEADLINE_S = 10.0
"""Seconds for the language model."""

_GRACE_S = 1.0
_KNOWN = frozenset(goal.instruction for goal in GOALS)


class FreeText:
    """Asks one question at a time; every method on the executor's thread."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._client = node.create_client(Ask, topics.ASK)
        self._done: Future[None] | None = None

    def reads(self, instruction: str) -> bool:
        """Whether an instruction is in free words and there is a language model to read it."""
        said = instruction.strip()
        return bool(said) and said not in _KNOWN and bool(self._client.service_is_ready())

    @property
    def asking(self) -> bool:
        """Whether an answer is waited for."""
        return self._done is not None

    def cancel(self) -> None:
        """Wait no longer."""
        if self._done is not None and not self._done.done():
            self._done.set_result(None)

    async def step(self, instruction: str) -> PlanStep:
        """What an instruction means, and at what share of the speed.

        Raises:
            UnknownTaskError: if it is refused, is more than one step, is read in two ways, or is not answered in time.
        """
        done: Future[None] = Future()
        self._done = done
        reply = self._client.call_async(Ask.Request(question=instruction, schema="TaskPlan", deadline=DEADLINE_S))
        reply.add_done_callback(lambda _reply: self.cancel())
        # Its own deadline ends a slow answer; this one a node that is gone.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        timer = self._node.create_timer(DEADLINE_S + _GRACE_S, self.cancel, clock=steady)
        try:
            # While the language model thinks. A manager that is not asked in free words does without: it would be part
            # of the time for which it is away when it died.
            from flow_rag_vla.nodes.free_text_answer import step_of

            await done
        finally:
            self._done = None
            self._node.destroy_timer(timer)
        if not reply.done():
            self._client.remove_pending_request(reply)
            raise UnknownTaskError(f"what {instruction!r:.200} means was not answered in time or was withdrawn")
        return step_of(instruction, reply.result())
