"""Commands in free words for the episode manager: what they mean is asked of the language model's node, where it runs.

An instruction that is exactly one of the known ones needs nobody. Any other is read by the language model and checked
again by the grammar; only one clear step is done. Where the node does not run, the caller's own grammar stands alone.
"""

from __future__ import annotations

from typing import Any

from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.task import Future

from flow_rag_vla.bringup import topics
from flow_rag_vla.core.goal import GOALS, UnknownTaskError
from flow_rag_vla.deliberation.reading import second_reading
from flow_rag_vla.llm.schemas import PlanStep
from flow_rag_vla.nodes.deliberation_messages import plan_of
from flow_rag_vla_interfaces.srv import Ask

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
            await done
        finally:
            self._done = None
            self._node.destroy_timer(timer)
        if not reply.done():
            self._client.remove_pending_request(reply)
            raise UnknownTaskError(f"what {instruction!r:.200} means was not answered in time or was withdrawn")
        return _step(instruction, reply.result())


def _step(instruction: str, answer: Any) -> PlanStep:
    if not answer.ok:
        raise UnknownTaskError(f"the language model does not say what {instruction!r:.200} means: {answer.message}")
    try:
        plan = plan_of(answer.plan)
    except ValueError as error:
        raise UnknownTaskError(f"the language model gave no plan for {instruction!r:.200}: {error}") from None
    if not plan.accepted:
        raise UnknownTaskError(f"instruction {instruction!r:.200} is refused ({plan.refusal}): {plan.reason}")
    if len(plan.goals) != 1:
        steps = "; then ".join(goal.instruction for goal in plan.goals)
        raise UnknownTaskError(
            f"instruction {instruction!r:.200} is {len(plan.goals)} tasks ({steps}) and an episode is one; ask for "
            "them one by one, or use flow_rag_vla ask --run"
        )
    doubts = second_reading(instruction, plan)
    if doubts:
        raise UnknownTaskError(
            f"instruction {instruction!r:.200} needs a person's look ({doubts[0]}); use the action deliberate_task"
        )
    return plan.steps[0]
