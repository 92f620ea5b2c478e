# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Commands in free words for the episode manager: what they mean is asked of the nodes deliberation and llm.

An instruction that is exactly one of the known ones needs nobody. Any other is decided about by the deliberation node
where it runs: a plan that passed its checks, and a person where it is risky. Else it is read by the language model and
checked again by the grammar. Only one clear step is done. Where neither runs, the grammar stands alone: it refuses what
it does not know, a negation above all.

Fail closed. Once the deliberation node was seen, nothing is read without it: a node that died must not make the robot
less careful. What is not decided in time, withdrawn or lost is refused, and the deliberation withdrawn with it.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.task import Future

from flow_rag_vla.bringup import topics
from flow_rag_vla.core.goal import GOALS, UnknownTaskError
from flow_rag_vla.nodes.asking import Meeting
from flow_rag_vla_interfaces.srv import Ask

if TYPE_CHECKING:
    from rclpy.action import ActionClient

    from flow_rag_vla.llm.schemas import PlanStep

DEADLINE_S = 10.0
"""Seconds for the language model, where it is asked alone."""

PLAN_DEADLINE_S = 30.0
"""Seconds for a deliberation, a person's answer included, where nothing else is said."""

_APPEARANCE_S = 5.0
"""How long the action's parts may take to find each other, and a goal to be taken."""

_GRACE_S = 1.0
_LOOK_S = 0.05
_KNOWN = frozenset(goal.instruction for goal in GOALS)
_LANGUAGE_MODEL = topics.ASK.partition("/")[0]
_SEND_GOAL = f"{topics.DELIBERATE_TASK}/_action/send_goal"

Tell = Callable[[str], None]
"""Takes one sentence on how far it is."""


class FreeText:
    """Asks one question at a time; every method on the executor's thread."""

    def __init__(self, node: Node, plan_deadline: Callable[[], float] = lambda: PLAN_DEADLINE_S) -> None:
        """Ask through this node.

        Args:
            node: gets the clients.
            plan_deadline: seconds for a deliberation, a person's answer included; asked anew for each.
        """
        self._node, self._plan_deadline = node, plan_deadline
        self._client = node.create_client(Ask, topics.ASK)
        self._meeting = Meeting(node, _LANGUAGE_MODEL)
        self._actions: ActionClient[Any, Any, Any] | None = None
        self._sent: Future[Any] | None = None
        self._done: Future[None] | None = None
        self._turn: Future[None] | None = None
        self._deliberated = False
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)

    def reads(self, instruction: str) -> bool:
        """Whether an instruction is in free words."""
        said = instruction.strip()
        return bool(said) and said not in _KNOWN

    @property
    def has_language_model(self) -> bool:
        """Whether the node llm is there."""
        return bool(self._client.service_is_ready())

    @property
    def deliberates(self) -> bool:
        """Whether free words go through the deliberation node: it runs, or it did when words were to be read."""
        # A look at the graph: a client of the action would wake this node for all that others ask of it.
        self._deliberated = self._deliberated or self._node.count_services(_SEND_GOAL) > 0
        return self._deliberated

    @property
    def asking(self) -> bool:
        """Whether an answer is waited for."""
        return self._done is not None

    def cancel(self) -> None:
        """Wait no longer."""
        if self._done is not None and not self._done.done():
            self._done.set_result(None)
            self._look()

    def destroy(self) -> None:
        """Ask no more, and withdraw what is asked."""
        self._withdraw()
        if self._actions is not None:
            self._actions.destroy()

    async def step(self, instruction: str, tell: Tell = lambda _sentence: None) -> PlanStep:
        """What an instruction means, and at what share of the speed.

        Raises:
            UnknownTaskError: if it is refused, held or rejected, is more than one step, is read in two ways, or is not
                answered in time.
        """
        self._done = Future()
        try:
            if self.deliberates:
                return await self._decided(instruction, self._done, tell)
            if self.has_language_model:
                return await self._read(instruction, self._done)
            from flow_rag_vla.nodes.free_text_answer import grammar_step

            return grammar_step(instruction)
        finally:
            self._done = None

    async def _read(self, instruction: str, done: Future[None]) -> PlanStep:
        """By the language model and the grammar."""
        self._meeting.begin(self._look)
        timer = self._timer(_LOOK_S, self._look)
        try:
            await self._until(self._meeting.is_over, done, _APPEARANCE_S, f"{self._client.srv_name} does not answer")
        finally:
            self._node.destroy_timer(timer)
        reply = self._client.call_async(Ask.Request(question=instruction, schema="TaskPlan", deadline=DEADLINE_S))
        reply.add_done_callback(lambda _reply: self.cancel())
        # Its own deadline ends a slow answer; this one a node that is gone.
        timer = self._timer(DEADLINE_S + _GRACE_S, self.cancel)
        try:
            # While the language model thinks. A manager that is not asked in free words does without: it would be part
            # of the time for which it is away when it died.
            from flow_rag_vla.nodes.free_text_answer import step_of

            await done
        finally:
            self._node.destroy_timer(timer)
        if not reply.done():
            self._client.remove_pending_request(reply)
            raise UnknownTaskError(f"what {instruction!r:.200} means was not answered in time or was withdrawn")
        return step_of(instruction, reply.result())

    async def _decided(self, instruction: str, done: Future[None], tell: Tell) -> PlanStep:
        """By a deliberation."""
        # As above: a manager that is not asked in free words does without these.
        from rclpy.action import ActionClient

        from flow_rag_vla.nodes.free_text_answer import decided_step
        from flow_rag_vla.nodes.goals import GoalLostError, send_goal
        from flow_rag_vla_interfaces.action import DeliberateTask

        client = self._actions = self._actions or ActionClient(self._node, DeliberateTask, topics.DELIBERATE_TASK)
        said, who = f"{instruction!r:.200}", f"{topics.DELIBERATE_TASK}, which decides about free words,"
        remedy = "start the node deliberation, or start this node anew to do without it"
        seconds = self._plan_deadline()

        def on_feedback(message: Any) -> None:
            feedback = message.feedback
            asked = (
                f"; say yes or no with flow_rag_vla approve, or through {topics.APPROVE_PLAN}"
                if feedback.waiting_for_person
                else ""
            )
            tell(f"deliberation: {feedback.message}{asked}")

        timer = self._timer(_LOOK_S, self._look)
        result: Future[Any] = Future()
        try:
            late = f"instruction {said} is held: {who} does not answer; {remedy}"
            await self._until(client.server_is_ready, done, _APPEARANCE_S, late)
            goal = DeliberateTask.Goal(instruction=instruction, deadline=seconds)
            sent = self._sent = send_goal(self._node, client, goal, on_feedback)
            await self._until(sent.done, done, _APPEARANCE_S, late)
            handle: Any = sent.result()
            if not handle.accepted:
                raise UnknownTaskError(
                    f"instruction {said} is held: {who} is busy with other commands; ask again when it is done"
                )
            result = handle.get_result_async()

            def answered() -> bool:
                if not result.done() and not client.server_is_ready():
                    raise UnknownTaskError(f"instruction {said} is held: {who} is gone; {remedy}")
                return bool(result.done())

            # Its own deadline ends a slow decision with the reason; this one a node that hangs.
            late = f"instruction {said} is held: {who} gave no decision within {seconds:g} s"
            await self._until(answered, done, seconds + _GRACE_S, late)
            self._sent = None
        finally:
            self._node.destroy_timer(timer)
            self._withdraw()
            if not result.done():
                # Else it would be looked for as long as this node lives, where nobody is there to say it.
                result.cancel()
        if isinstance(result.exception(), GoalLostError):
            raise UnknownTaskError(f"instruction {said} is held: {who} was started again meanwhile; ask again")
        decided: Any = result.result()
        return decided_step(instruction, decided.result)

    async def _until(self, found: Callable[[], bool], done: Future[None], seconds: float, late: str) -> None:
        """Wait until something is found; the executor goes on meanwhile.

        Raises:
            UnknownTaskError: ``late`` after so many seconds, or that it was withdrawn; whatever ``found`` raises.
        """
        ends = self._steady_ns() + int(seconds * 1e9)
        while not found():
            if done.done():
                raise UnknownTaskError("what the instruction means was withdrawn")
            if self._steady_ns() >= ends:
                raise UnknownTaskError(late)
            self._turn = Future()
            await self._turn

    def _look(self) -> None:
        if self._turn is not None and not self._turn.done():
            self._turn.set_result(None)

    def _withdraw(self) -> None:
        """Cancel a deliberation that nobody waits for any more: no person is to approve it later."""
        sent, self._sent = self._sent, None
        if sent is None:
            return
        if not sent.done():
            sent.cancel()
            return
        with suppress(Exception):
            handle = sent.result()
            if handle is not None and handle.accepted:
                handle.cancel_goal_async()

    def _timer(self, seconds: float, callback: Callable[[], None]) -> Any:
        return self._node.create_timer(seconds, callback, clock=self._steady)

    def _steady_ns(self) -> int:
        return int(self._steady.now().nanoseconds)
