# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What the live page asks of the graph, as service calls and actions that the gateway's event loop awaits.

Calls are made from the gateway's thread; their answers come on the executor's and are handed over. Nothing here waits
on the executor's thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from action_msgs.srv import CancelGoal
from rclpy.action import ActionClient
from rclpy.client import Client
from rclpy.node import Node
from rclpy.task import Future
from std_msgs.msg import Bool
from std_srvs.srv import SetBool, Trigger

from flow_rag_vla.bringup import topics
from flow_rag_vla.bringup.security.permission import SCORE_EPISODE
from flow_rag_vla.gateway.errors import GatewayError, conflict, not_found, unavailable
from flow_rag_vla.gateway.live.board import Board
from flow_rag_vla.gateway.live.graph import CaseEdit, CaseQuery, Order
from flow_rag_vla.nodes import qos
from flow_rag_vla.nodes.dashboard_views import case_view
from flow_rag_vla.nodes.goals import GoalLostError, send_goal
from flow_rag_vla.nodes.operator import OUTCOMES
from flow_rag_vla_interfaces import srv
from flow_rag_vla_interfaces.action import ExecuteTask

T = TypeVar("T")

PATIENCE_S = 10.0
INSIST_S = 0.5
"""How often a request that must not be lost is made again."""

RELEASE_TRIES = 20
RELEASE_PAUSE_S = 0.05


class GraphCalls:
    """Implements ``gateway.live.graph.Graph`` on a node."""

    def __init__(self, node: Node, board: Board) -> None:
        self._node, self._board = node, board
        self._stop = node.create_publisher(Bool, topics.EMERGENCY_STOP, qos.STATE)
        self._latch = node.create_client(Trigger, topics.EMERGENCY_STOP_SERVICE)
        self._reset = node.create_client(Trigger, topics.EMERGENCY_STOP_RESET_SERVICE)
        self._list = node.create_client(srv.ListFailureCases, topics.LIST_CASES)
        self._get = node.create_client(srv.GetFailureCase, topics.GET_CASE)
        self._edit = node.create_client(srv.EditFailureCase, topics.EDIT_CASE)
        self._retire = node.create_client(srv.RetireFailureCase, topics.RETIRE_CASE)
        self._export = node.create_client(srv.ExportFailureCases, topics.EXPORT_CASES)
        self._approve = node.create_client(srv.ApprovePlan, topics.APPROVE_PLAN)
        self._score = node.create_client(SetBool, SCORE_EPISODE)
        self._task = ActionClient(node, ExecuteTask, topics.EXECUTE_TASK)
        self._cancel = node.create_client(CancelGoal, f"{topics.EXECUTE_TASK}/_action/cancel_goal")

    def destroy(self) -> None:
        """Give the action client back; the node does the rest."""
        self._task.destroy()

    def publish_stop(self) -> None:
        """Latch the emergency stop on its topic: no service, no executor, no lock between the button and the wire."""
        self._stop.publish(Bool(data=True))

    async def confirm_stop(self) -> str:
        """Have the controller say that it is stopped."""
        return str((await _call(self._latch, Trigger.Request(), "controller")).message)

    async def release(self) -> str:
        """Release the emergency stop."""
        _ready(self._reset, "controller")
        self._stop.publish(Bool(data=False))
        for _ in range(RELEASE_TRIES):
            answer = await _call(self._reset, Trigger.Request(), "controller")
            if answer.success:
                return str(answer.message)
            # The service may overtake the topic by a tick.
            await asyncio.sleep(RELEASE_PAUSE_S)
        raise conflict("still_stopped", str(answer.message), "somebody else holds the stop; release it there")

    async def start(self, order: Order) -> str:
        """Begin an episode."""
        if not self._task.server_is_ready():
            raise _down("episode_manager")
        goal = ExecuteTask.Goal(
            instruction=order.instruction,
            task=order.task,
            variant=order.variant,
            seed=order.seed,
            timeout=order.timeout,
        )
        what = order.instruction or order.task
        sent = send_goal(self._node, self._task, goal)
        try:
            handle = await _answer(sent, "episode_manager")
        except GatewayError:
            # Who was told that there is no answer must not see the arm begin later.
            sent.cancel()
            raise
        if not handle.accepted:
            raise conflict(
                "refused",
                f"the episode manager refused {what!r}: an episode runs, a plan waits, or an emergency stop is latched",
                "stop the running episode or answer the plan first; /diagnostics names the reason under last_rejection",
            )
        self._board.set_part("task", {"asked": what, "outcome": "", "reason": ""})
        handle.get_result_async().add_done_callback(lambda done: self._ended(what, done))
        return f"accepted: {what}"

    def _ended(self, what: str, done: Future[Any]) -> None:
        error = done.exception()
        if isinstance(error, GoalLostError):
            self._board.set_part("task", {"asked": what, "outcome": "aborted", "reason": str(error)})
            return
        answer = None if error is not None else done.result()
        if answer is None:
            return
        result = answer.result
        outcome = OUTCOMES.get(result.outcome, str(result.outcome))
        self._board.set_part("task", {"asked": what, "outcome": outcome, "reason": result.reason})

    async def stop(self) -> str:
        """Cancel every goal; a request without an id means all of them (action_msgs/srv/CancelGoal).

        It is made until it is answered: an episode manager that is just being started again goes on with its episode,
        and never hears of a request that was made before it was there.
        """
        answer, asked = await _insisted(self._cancel, CancelGoal.Request(), "episode_manager")
        # An earlier request may have done it, and only its answer got lost.
        if not answer.goals_canceling and asked == 1:
            raise conflict("nothing_runs", "no episode is running that could be stopped", "start one first")
        return "stopping"

    @property
    def scored_by_people(self) -> bool:
        """Whether somebody takes a person's judgement of an episode."""
        return self._score.service_is_ready()

    async def answer(self, plan: str, approved: bool, person: str, reason: str) -> str:
        """Say yes or no to a plan that waits."""
        request = srv.ApprovePlan.Request(deliberation_id=plan, approved=approved, person=person, reason=reason)
        answer = await _call(self._approve, request, "deliberation")
        if not answer.ok:
            raise conflict("not_waiting", answer.message, "answer a plan that waits now; the page shows them")
        return str(answer.message)

    async def score(self, success: bool) -> str:
        """Judge the running episode."""
        answer = await _call(self._score, SetBool.Request(data=success), "an episode_manager that people score for")
        if not answer.success:
            raise conflict("not_scored", answer.message, "judge an episode while it runs")
        return str(answer.message)

    async def cases(self, query: CaseQuery) -> Mapping[str, Any]:
        """A page of cases."""
        answer = await _call(
            self._list,
            srv.ListFailureCases.Request(
                task=query.task,
                phase=query.phase,
                failure_types=list(query.failure_types),
                include_retired=query.include_retired,
                offset=query.offset,
                limit=query.limit,
            ),
            "failure_memory",
        )
        if answer.message:
            raise _refused(answer.message)
        return {"total": answer.total, "cases": [case_view(item) for item in answer.cases]}

    async def case(self, case_id: int) -> Mapping[str, Any]:
        """One case, whole."""
        answer = await _call(self._get, srv.GetFailureCase.Request(case_id=case_id), "failure_memory")
        if not answer.found:
            raise not_found("no_case", answer.message or f"there is no case {case_id}", "list the cases")
        return case_view(answer.failure_case, whole=True)

    async def edit(self, case_id: int, edit: CaseEdit) -> None:
        """Change a case."""
        request = srv.EditFailureCase.Request(
            case_id=case_id,
            set_note=edit.note is not None,
            note=edit.note or "",
            set_failure_type=edit.failure_type is not None,
            failure_type=edit.failure_type or 0,
            set_correction=edit.forget_correction,
        )
        answer = await _call(self._edit, request, "failure_memory")
        if not answer.ok:
            raise _refused(answer.message)

    async def retire(self, case_id: int, retired: bool, reason: str) -> None:
        """Take a case out of searches, or back in."""
        request = srv.RetireFailureCase.Request(case_id=case_id, retired=retired, reason=reason)
        answer = await _call(self._retire, request, "failure_memory")
        if not answer.ok:
            raise _refused(answer.message)

    async def export(self, path: Path, include_retired: bool) -> int:
        """Write cases to a file."""
        request = srv.ExportFailureCases.Request(path=str(path), include_retired=include_retired)
        answer = await _call(self._export, request, "failure_memory")
        if not answer.ok:
            raise _refused(answer.message)
        return int(answer.exported)


def _ready(client: Client[Any, Any], server: str) -> None:
    if not client.service_is_ready():
        raise _down(server)


async def _call(client: Client[Any, Any], request: Any, server: str) -> Any:
    _ready(client, server)
    return await _once(client, request, server, PATIENCE_S)


async def _insisted(client: Client[Any, Any], request: Any, server: str) -> tuple[Any, int]:
    """The answer to a request that may be made more than once, and how often it was made."""
    _ready(client, server)
    tries = round(PATIENCE_S / INSIST_S)
    for asked in range(1, tries):
        with suppress(GatewayError):
            return await _once(client, request, server, INSIST_S), asked
    return await _once(client, request, server, INSIST_S), tries


async def _once(client: Client[Any, Any], request: Any, server: str, patience_s: float) -> Any:
    future = client.call_async(request)
    try:
        return await _answer(future, server, patience_s)
    except GatewayError:
        client.remove_pending_request(future)
        raise


async def _answer(future: Future[T], server: str, patience_s: float = PATIENCE_S) -> T:
    loop = asyncio.get_running_loop()
    waiting: asyncio.Future[T] = loop.create_future()

    def hand_over(done: Future[T]) -> None:
        error = done.exception()
        if waiting.done():
            return
        if error is not None:
            waiting.set_exception(error)
        else:
            waiting.set_result(done.result())  # type: ignore[arg-type]

    def answered(done: Future[T]) -> None:
        # The page, and with it the loop, may end while a call is under way.
        if not loop.is_closed():
            loop.call_soon_threadsafe(hand_over, done)

    future.add_done_callback(answered)
    try:
        return await asyncio.wait_for(waiting, patience_s)
    except asyncio.TimeoutError:
        raise unavailable(
            "no_answer", f"{server} did not answer within {PATIENCE_S:g} s", "look at its log and at the node list"
        ) from None


def _down(server: str) -> GatewayError:
    return unavailable("node_down", f"{server} is not running, or not in this namespace", f"start {server}")


def _refused(message: str) -> GatewayError:
    if message.startswith("no failure case has id"):
        return not_found("no_case", message, "list the cases")
    return conflict("refused", message, "change what the message names")
