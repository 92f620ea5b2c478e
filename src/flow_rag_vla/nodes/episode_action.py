# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The action ``execute_task``: admits one goal at a time, understands it, and answers once its episode is over."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from action_msgs.msg import GoalInfo
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.task import Future
from unique_identifier_msgs.msg import UUID

from flow_rag_vla.bringup import topics
from flow_rag_vla.core.goal import Goal, UnknownTaskError
from flow_rag_vla.data.running_episode import Asked
from flow_rag_vla.deliberation.care import Care, care_of
from flow_rag_vla.evaluate.episode import EpisodeTracker, Outcome, requested_goal
from flow_rag_vla.nodes.free_text import FreeText
from flow_rag_vla.nodes.permission import permitted_goals
from flow_rag_vla_interfaces.action import ExecuteTask

ACCEPTANCE_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Wanted:
    """A request that was understood.

    goal: what is to be done; None if the simulator is to draw the target of ``task``
    timeout: seconds; 0 for the task's own
    """

    goal: Goal | None
    task: str
    variant: str
    seed: int
    timeout: float
    care: Care


@dataclass(frozen=True, slots=True)
class Concluded:
    """An episode with its verdict. file: where its record is; empty if it could not be written."""

    episode: EpisodeTracker
    file: str


class Episodes(Protocol):
    """Whoever runs the episodes."""

    def running(self) -> str:
        """The episode that is not over yet, in words; empty if another may begin."""

    def stopped(self) -> str:
        """Why none may begin now, in words; empty if one may."""

    def asked(self, asked: Asked) -> None:
        """A request was admitted, and what it means is looked at; ``begin`` or ``dismiss`` follows."""

    def dismiss(self) -> None:
        """Nothing came of the request."""

    def begin(self, wanted: Wanted, *, canceled: bool) -> Future[Concluded]:
        """Begin an episode; canceled: only to put it on record as such."""

    def cancel(self) -> None:
        """End the episode, if one is running, or its scoring."""


class EpisodeAction:
    """Serves the action for ``episodes``; every method and callback on the executor's thread.

    resets: whether there is a simulator, which resets a scene and draws what a task leaves open.
    plan_deadline: seconds for a decision about free words.
    """

    def __init__(self, node: Node, episodes: Episodes, *, resets: bool, plan_deadline: Callable[[], float]) -> None:
        self._node, self._episodes, self._resets = node, episodes, resets
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._reserved_until_ns = 0
        self._handle: ServerGoalHandle[Any, Any, Any] | None = None
        self._taken_up: list[tuple[ServerGoalHandle[Any, Any, Any], Future[Concluded]]] = []
        self.refused = 0
        """Goals that came while one was running."""
        self.last_refusal = ""
        self.free_text = FreeText(node, plan_deadline)
        self._server = ActionServer(
            node,
            ExecuteTask,
            topics.EXECUTE_TASK,
            self._execute,
            goal_callback=permitted_goals(node, self._on_goal),
            cancel_callback=self._on_cancel,
        )

    def tell(self, feedback: ExecuteTask.Feedback) -> None:
        """Tell whoever asked for the episode how it goes."""
        if self._handle is not None:
            self._handle.publish_feedback(feedback)

    def take_up(self, asked: Asked, over: Future[Concluded]) -> None:
        """Have a goal again that the process before this one had accepted, under its id.

        Whoever asked gets its result by asking for that again (``nodes.goals`` does), and anybody may cancel it.
        ``over`` is done when its episode is, or carries a ValueError that says why there is none. To be called before
        the node is spun: nobody is told then that the goal is not known.
        """
        goal_id = bytes.fromhex(asked.goal_id)
        request = ExecuteTask.Goal(
            instruction=asked.instruction,
            task=asked.task,
            variant=asked.variant,
            seed=asked.seed,
            timeout=asked.timeout,
            speed_scale=asked.speed_scale,
        )
        info = GoalInfo(goal_id=UUID(uuid=list(goal_id)), stamp=self._node.get_clock().now().to_msg())
        # As rclpy itself enters a goal that it accepts, in Jazzy and Kilted alike; it has no way to enter one that was
        # accepted elsewhere.
        server = self._server
        handle = ServerGoalHandle(server, info, request)
        server._goal_handles[goal_id] = handle
        result: Future[Any] = Future()
        server._result_futures[goal_id] = result
        server.add_future(result)
        self._handle = handle
        self._taken_up.append((handle, over))

    def turn(self) -> None:
        """To be called now and then by the executor: it goes on with what was taken up before there was one."""
        taken_up, self._taken_up = self._taken_up, []
        for handle, over in taken_up:

            async def go_on(
                handle: ServerGoalHandle[Any, Any, Any], over: Future[Concluded] = over
            ) -> ExecuteTask.Result:
                try:
                    return await self._answer(handle, over)
                except ValueError as error:
                    return self._refuse(handle, error)

            handle.execute(go_on)

    def destroy(self) -> None:
        """Serve no more."""
        self.free_text.destroy()
        self._server.destroy()

    def _on_goal(self, request: ExecuteTask.Goal) -> GoalResponse:
        running = self._episodes.running()
        reserved = self._steady_ns() < self._reserved_until_ns
        if running or reserved or self.free_text.asking:
            self.refused += 1
            if not running and self.free_text.asking:
                self.last_refusal = "what another command means is being decided; wait for that, or cancel it"
            else:
                self.last_refusal = f"{running or 'an episode'} is running; cancel it or wait for its end"
            self._node.get_logger().warning(
                f"goal {request.instruction or request.task!r} rejected: {self.last_refusal}"
            )
            return GoalResponse.REJECT
        # Accepting and executing are two turns of the executor: another goal may come in between. A limit, because a
        # client that is gone before it gets the answer leaves a goal that is never executed.
        self._reserved_until_ns = self._steady_ns() + ACCEPTANCE_NS
        return GoalResponse.ACCEPT

    def _on_cancel(self, _handle: ServerGoalHandle[Any, Any, Any]) -> CancelResponse:
        # The goal handle changes to CANCELING after this returns; the coroutine resumes later and finds it so.
        if self.free_text.asking:
            self.free_text.cancel()
        else:
            self._episodes.cancel()
        return CancelResponse.ACCEPT

    async def _execute(self, handle: ServerGoalHandle[Any, Any, Any]) -> ExecuteTask.Result:
        self._reserved_until_ns = 0
        self._episodes.asked(_asked(handle))
        try:
            wanted = await self._understood(handle)
        except ValueError as error:
            self._episodes.dismiss()
            return self._refuse(handle, error)
        self._handle = handle
        # A cancel may have come between acceptance and this turn; the episode exists, so that it is on record.
        return await self._answer(handle, self._episodes.begin(wanted, canceled=handle.is_cancel_requested))

    def _refuse(self, handle: ServerGoalHandle[Any, Any, Any], error: ValueError) -> ExecuteTask.Result:
        result = ExecuteTask.Result()
        if handle.is_cancel_requested:
            result.outcome, result.reason = ExecuteTask.Result.OUTCOME_CANCELED, "canceled on request"
            handle.canceled()
            return result
        self._node.get_logger().error(f"goal aborted: {error}")
        result.outcome, result.reason = ExecuteTask.Result.OUTCOME_ABORTED, str(error)
        handle.abort()
        return result

    async def _answer(self, handle: ServerGoalHandle[Any, Any, Any], over: Future[Concluded]) -> ExecuteTask.Result:
        concluded = await over
        assert concluded is not None, "an episode's future is never cancelled"
        result = ExecuteTask.Result()
        outcome = _fill(result, concluded)
        if outcome is Outcome.CANCELED and handle.is_cancel_requested:
            handle.canceled()
        elif outcome in (Outcome.SUCCESS, Outcome.FAILURE):
            # The episode was run and scored, whichever way it went: the action did what it was asked to do.
            handle.succeed()
        else:
            handle.abort()
        return result

    async def _understood(self, handle: ServerGoalHandle[Any, Any, Any]) -> Wanted:
        """What a request asks for.

        Raises:
            ValueError: for words that are not understood, a target that nobody draws, a number out of range, or while
                no episode may begin; with the remedy.
        """
        request: ExecuteTask.Goal = handle.request
        # Of the words as they were said: what is made of them has no tone.
        care = care_of(float(request.speed_scale), request.instruction)
        if self.free_text.reads(request.instruction):
            # Nobody is asked about a command that was withdrawn before its turn, or that may not begin anyway.
            if handle.is_cancel_requested:
                raise UnknownTaskError("canceled on request")
            self._check_free()

            def tell(sentence: str) -> None:
                if handle.is_active and not handle.is_cancel_requested:
                    handle.publish_feedback(ExecuteTask.Feedback(message=sentence))

            step = await self.free_text.step(request.instruction, tell)
            request.instruction = step.goal.instruction
            care = care.lowered(step.speed_scale, "the plan made of it")
        goal = requested_goal(request.instruction, request.task)
        if not math.isfinite(request.timeout) or request.timeout < 0.0:
            raise ValueError(f"timeout is {request.timeout}, expected 0 (the task's own) or seconds above 0")
        if request.seed >= 2**32:
            raise ValueError(f"seed is {request.seed}, expected 0 to {2**32 - 1}")
        if goal is None and not self._resets:
            raise UnknownTaskError(
                f"task {request.task!r} has several targets and there is no simulator to draw one; give an instruction"
            )
        self._check_free()
        task = goal.task if goal is not None else request.task
        return Wanted(goal, task, request.variant or "plain", int(request.seed), float(request.timeout), care)

    def _check_free(self) -> None:
        """Raise a ValueError while no episode may begin."""
        stopped = self._episodes.stopped()
        if stopped:
            raise ValueError(stopped)

    def _steady_ns(self) -> int:
        return int(self._steady.now().nanoseconds)


def _asked(handle: ServerGoalHandle[Any, Any, Any]) -> Asked:
    request: ExecuteTask.Goal = handle.request
    return Asked(
        bytes(handle.goal_id.uuid).hex(),
        request.instruction,
        request.task,
        request.variant,
        int(request.seed),
        float(request.timeout),
        float(request.speed_scale),
    )


def _fill(result: ExecuteTask.Result, concluded: Concluded) -> Outcome:
    episode = concluded.episode
    assert episode.verdict is not None
    result.outcome, result.reason = int(episode.verdict.outcome), episode.verdict.reason
    result.episode_id, result.duration = episode.episode_id, episode.elapsed(episode.ended_ns)
    result.failures, result.corrections = episode.failures, episode.corrected_chunks
    result.result_file, result.intervened = concluded.file, episode.intervened
    result.speed_scale, result.speed_reason = episode.pace, episode.pace_reason
    return episode.verdict.outcome
