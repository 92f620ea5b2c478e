# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The deliberation node: words to checked plans, questions to people, and explanations of failures. It moves nothing.

Threads. The executor takes goals, answers and events. Deliberations live on an asyncio loop of their own thread, which
waits for the language model and for people; what computes runs in the pipeline's threads. No callback blocks.
"""

from __future__ import annotations

import asyncio
import math
import time
import uuid
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node

from flow_rag_vla.bringup import topics
from flow_rag_vla.bringup.deliberation import FAILURE_DIAGNOSIS, PLAN_REVIEW
from flow_rag_vla.bringup.parameters.deliberation import DeliberationParameters
from flow_rag_vla.deliberation.checks import CheckSettings
from flow_rag_vla.deliberation.deliberation import Deliberation, DeliberationSettings
from flow_rag_vla.deliberation.diagnosis import (
    TEMPLATE,
    Diagnosed,
    FailureSeen,
    Unable,
    by_template,
    check_cited,
    diagnosis_data,
    sought_by,
)
from flow_rag_vla.deliberation.likeness import Likeness, LikenessError
from flow_rag_vla.deliberation.limits import RobotLimits, profile_limits, simulated_limits
from flow_rag_vla.deliberation.planners import FolderRecall
from flow_rag_vla.deliberation.scene import Scene, SceneError
from flow_rag_vla.deliberation.score import ScoreSettings
from flow_rag_vla.deliberation.stages import STAGES, Approval, Decision, Outcome, Question, Scored, SimilarFailure
from flow_rag_vla.llm.errors import BadRequestError, LlmError, UnsupportedSchemaError
from flow_rag_vla.llm.schemas import DIAGNOSIS_QUESTION, FailureDiagnosis
from flow_rag_vla.llm.structured import parse
from flow_rag_vla.nodes import deliberation_messages as messages
from flow_rag_vla.nodes import qos
from flow_rag_vla.nodes.case_cameras import CaseCameras, Pictures, encoded_pictures
from flow_rag_vla.nodes.complaints import Complaints
from flow_rag_vla.nodes.deliberation_present import PresentSituation, TextVectors
from flow_rag_vla.nodes.diagnostics import OK, WARN, Diagnostics, Health
from flow_rag_vla.nodes.event_loop import EventLoopThread
from flow_rag_vla.nodes.llm_client import AskError, LlmClient, ProviderInUse
from flow_rag_vla.nodes.manuals import Manuals
from flow_rag_vla.nodes.parameters import NodeParameters
from flow_rag_vla.nodes.permission import permitted
from flow_rag_vla.nodes.polling import PolledSubscription
from flow_rag_vla.nodes.runtime import StartError, run
from flow_rag_vla.nodes.scene_labels import SceneLabels
from flow_rag_vla.nodes.stamps import to_ns
from flow_rag_vla.policy.situation import SituationKey
from flow_rag_vla.robot.fields import ProfileError
from flow_rag_vla.robot.profile import load_profile
from flow_rag_vla_interfaces import msg
from flow_rag_vla_interfaces.action import DeliberateTask
from flow_rag_vla_interfaces.srv import ApprovePlan, Ask

PICTURE_NS = 1_000_000_000
"""How far from the time of a failure a picture may be that is to show it."""

LABELS_WAIT_S = 2.0
"""How long a goal waits for fresh labels where some are published, just after a start, say; a fifth of its deadline at
most."""

_LOOK_S = 0.1


class DeliberationNode(Node):
    """Serves ``deliberate_task``; see the module."""

    def __init__(self) -> None:
        super().__init__("deliberation")
        self._complain = Complaints(self.get_logger())
        self._node_parameters = NodeParameters(self, DeliberationParameters)
        settings = self._node_parameters.value
        try:
            self._robot = _robot(settings)
            chosen = _settings(settings)
            self._labels = SceneLabels(self, settings) if settings.labels else None
        except (ProfileError, ValueError) as error:
            raise StartError(f"parameters profile, stop_distance, ask_distance or front_camera: {error}") from error
        self._loop = EventLoopThread(self, "deliberation")
        self._present = PresentSituation(self, self._loop)
        vectors = TextVectors(self, self._loop)
        likeness = Likeness(self._present.look, lambda: SituationKey.load(settings.policy_checkpoint), vectors)
        self._recall = FolderRecall(settings.logs, settings.memory_database or None, likeness=likeness)
        self._llm = LlmClient(self, self._loop)
        self._deliberation = Deliberation(self._llm, recall=self._recall, approver=self, settings=chosen)
        self._tasks: dict[bytes, asyncio.Task[Any]] = {}
        self._canceled: set[bytes] = set()
        self._deadlines: dict[str, float] = {}
        self._waiting: dict[str, asyncio.Future[Approval]] = {}
        self._handles: dict[str, ServerGoalHandle[Any, Any, Any]] = {}
        self._asyncio: asyncio.AbstractEventLoop | None = None
        self._under_way = 0
        self._outcomes = dict.fromkeys(Outcome, 0)
        self._last = ""
        self._diagnoses = self._diagnosing = 0

        self._reviews = self.create_publisher(msg.PlanReview, PLAN_REVIEW, qos.STATE)
        group = ReentrantCallbackGroup()
        self.create_service(ApprovePlan, topics.APPROVE_PLAN, permitted(self, self._on_approve), callback_group=group)
        self._action = ActionServer(
            self,
            DeliberateTask,
            topics.DELIBERATE_TASK,
            self._on_deliberate,
            callback_group=group,
            goal_callback=self._on_goal,
            cancel_callback=self._on_cancel,
        )
        if settings.diagnose:
            self._diagnosis_publisher = self.create_publisher(msg.FailureDiagnosis, FAILURE_DIAGNOSIS, qos.EVENT)
            self._states = PolledSubscription(self, msg.RobotState, topics.ROBOT_STATE, qos.SENSOR)
            self._cameras = CaseCameras(self) if settings.diagnose_images else None
            self._provider, self._unable = ProviderInUse(self), Unable()
            self._manuals = Manuals(settings.manuals, vectors) if settings.manuals else None
            self.create_subscription(msg.FailureEvent, topics.FAILURE_EVENT, self._on_failure, qos.EVENT)
        self._diagnostics = Diagnostics(self, "deliberation", self._health)
        self.get_logger().info(f"plans are checked against the {self._robot.name}")

    def destroy_node(self) -> None:
        """Withdraw what is under way, then end."""
        if hasattr(self, "_action"):
            self._loop.close()
            self._action.destroy()
        super().destroy_node()

    # Deliberations.

    def _on_goal(self, request: DeliberateTask.Goal) -> GoalResponse:
        limit = self._node_parameters.value.concurrency
        if self._under_way >= limit:
            self._complain(f"goal {request.instruction!r:.80} refused: {limit} deliberations are under way")
            return GoalResponse.REJECT
        self._under_way += 1
        return GoalResponse.ACCEPT

    def _on_cancel(self, handle: ServerGoalHandle[Any, Any, Any]) -> CancelResponse:
        key = bytes(handle.goal_id.uuid)
        self._canceled.add(key)
        task = self._tasks.get(key)
        if task is not None and self._asyncio is not None:
            self._asyncio.call_soon_threadsafe(task.cancel)
        return CancelResponse.ACCEPT

    async def _on_deliberate(self, handle: ServerGoalHandle[Any, Any, Any]) -> DeliberateTask.Result:
        key = bytes(handle.goal_id.uuid)
        try:
            decision = await self._decided(handle, key)
        finally:
            self._under_way -= 1
            self._tasks.pop(key, None)
            self._canceled.discard(key)
        self._outcomes[decision.outcome] += 1
        self._last = decision.summary or decision.reason
        self.get_logger().info(f"deliberation {decision.deliberation_id}: {decision.outcome.value}: {decision.reason}")
        if decision.outcome is Outcome.CANCELED and handle.is_cancel_requested:
            handle.canceled()
        elif decision.outcome is Outcome.HELD:
            handle.abort()
        else:
            handle.succeed()
        return messages.result_message(decision)

    async def _decided(self, handle: ServerGoalHandle[Any, Any, Any], key: bytes) -> Decision:
        goal: DeliberateTask.Goal = handle.request
        name = uuid.uuid4().hex[:12]
        deadline = float(goal.deadline) or self._node_parameters.value.deadline
        try:
            scene, waited = await self._scene_in_time(goal, handle, min(LABELS_WAIT_S, deadline / 5.0))
        except SceneError as error:
            return Decision(name, Outcome.HELD, str(error), STAGES[0], summary=f"held: {error}.")
        deadline -= waited
        question = Question(name, goal.instruction, self._robot, scene, deadline)

        def on_stage(stage: str, sentence: str) -> None:
            self._feed(handle, stage, sentence)

        async def decide() -> Decision:
            loop = asyncio.get_running_loop()
            task = asyncio.current_task()
            assert task is not None
            self._asyncio, self._tasks[key] = loop, task
            self._handles[name] = handle
            self._deadlines[name] = loop.time() + (deadline if math.isfinite(deadline) else 0.0)
            try:
                # A cancel that came before there was a task found none.
                if key in self._canceled:
                    raise asyncio.CancelledError
                return await self._deliberation.decide(question, on_stage)
            except asyncio.CancelledError:
                # The executor's coroutines know no cancellation: it is a result like the others.
                return Decision(name, Outcome.CANCELED, "withdrawn on request", STAGES[0], summary="withdrawn.")
            finally:
                self._deadlines.pop(name, None)
                self._handles.pop(name, None)

        decided: Decision = await self._loop.submit(decide())
        return decided

    async def _scene_in_time(
        self, goal: DeliberateTask.Goal, handle: ServerGoalHandle[Any, Any, Any], seconds: float
    ) -> tuple[Scene | None, float]:
        """The scene, and the seconds that were waited for it: at most so many, where labels are on their way.

        Raises:
            SceneError: for a scene that makes no sense.
        """
        began = time.monotonic()
        scene = self._scene(goal)
        waited = 0.0
        while scene is None and self._labels is not None and self._labels.awaited and waited < seconds:
            if handle.is_cancel_requested:
                break
            await self._loop.submit(asyncio.sleep(_LOOK_S))
            scene, waited = self._scene(goal), time.monotonic() - began
        return scene, waited

    def _scene(self, goal: DeliberateTask.Goal) -> Scene | None:
        if goal.scene_known:
            return messages.scene_of(goal.scene)
        return None if self._labels is None else self._labels.scene()

    def _feed(
        self, handle: ServerGoalHandle[Any, Any, Any], stage: str, sentence: str, *, waiting: bool = False
    ) -> None:
        feedback = DeliberateTask.Feedback(
            stage=stage,
            number=STAGES.index(stage) + 1,
            stages=len(STAGES),
            message=sentence,
            waiting_for_person=waiting,
        )

        def publish() -> None:
            if handle.is_active:
                handle.publish_feedback(feedback)

        self._loop.post(publish)

    # People.

    async def approve(self, scored: Scored) -> Approval:
        """Publish a plan for review and wait for a person's word; on the loop's thread."""
        question = scored.checked.recalled.interpreted.perceived.question
        name = question.deliberation_id
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Approval] = loop.create_future()
        left = max(self._deadlines.get(name, loop.time()) - loop.time(), 0.0)
        self._waiting[name] = answer
        self._review(name, scored, left, is_open=True)
        self._feed(self._handles[name], "approve", f"a person is asked: {scored.questions[0]}", waiting=True)
        try:
            return await answer
        finally:
            self._waiting.pop(name, None)
            self._review(name, scored, 0.0, is_open=False)

    def _review(self, name: str, scored: Scored, left: float, *, is_open: bool) -> None:
        message = messages.review_message(name, scored, left, is_open=is_open)

        def publish() -> None:
            message.header.stamp = self.get_clock().now().to_msg()
            self._reviews.publish(message)

        self._loop.post(publish)

    def _on_approve(self, request: ApprovePlan.Request, response: ApprovePlan.Response) -> ApprovePlan.Response:
        waiting, loop = self._waiting.get(request.deliberation_id), self._asyncio
        if not request.person.strip():
            response.message = "person is empty; say who approves"
        elif waiting is None or loop is None:
            known = ", ".join(self._waiting) or "none"
            response.message = f"no plan {request.deliberation_id!r} waits for a person; waiting: {known}"
        else:
            approval = Approval(bool(request.approved), request.person.strip()[:80], request.reason[:400])

            def settle() -> None:
                if not waiting.done():
                    waiting.set_result(approval)

            loop.call_soon_threadsafe(settle)
            response.ok = True
            verb = "approved" if request.approved else "rejected"
            response.message = f"{verb} by {approval.by}"
            self.get_logger().info(f"deliberation {request.deliberation_id}: {response.message}")
        return response

    # Failures.

    def _on_failure(self, event: msg.FailureEvent) -> None:
        if self._diagnosing >= self._node_parameters.value.concurrency:
            self._complain(f"failure event {event.event_id} is not explained: too many are at once")
            return
        self._diagnosing += 1
        newest = self._states.take()
        in_use = self._provider.newest()
        if in_use is not None:
            self._unable.in_use(*in_use)
        wrench: tuple[float, ...] = ()
        if newest:
            force, torque = newest[-1][0].wrench.force, newest[-1][0].wrench.torque
            wrench = (force.x, force.y, force.z, torque.x, torque.y, torque.z)
        seen = messages.failure_seen(event, wrench)
        pictures = () if self._cameras is None else self._cameras.near(to_ns(event.header.stamp), PICTURE_NS)
        diagnosed = self._loop.submit(self._diagnose(seen, pictures, self._present.instruction()))
        diagnosed.add_done_callback(lambda done: self._diagnosed(event, done))

    def _diagnosed(self, event: msg.FailureEvent, done: Any) -> None:
        self._diagnosing -= 1
        error = done.exception()
        if error is not None:
            self._complain(f"failure event {event.event_id} is not explained: {error}")
            return
        self._diagnoses += 1
        self._diagnosis_publisher.publish(messages.diagnosis_message(event, done.result()))

    async def _diagnose(self, seen: FailureSeen, pictures: Pictures, instruction: str) -> Diagnosed:
        loop = asyncio.get_running_loop()
        past = await loop.run_in_executor(None, self._recall, (seen.task,), sought_by(seen, instruction))
        shots = await loop.run_in_executor(None, encoded_pictures, pictures)
        return await self._explained(replace(seen, pictures=messages.failure_pictures(shots)), past.similar)

    async def _explained(self, seen: FailureSeen, similar: Sequence[SimilarFailure]) -> Diagnosed:
        ends = asyncio.get_running_loop().time() + self._node_parameters.value.deadline
        note = self._unable.note
        if note:
            return Diagnosed(by_template(seen, similar), TEMPLATE, note)
        seen = await self._with_manuals(seen)
        try:
            try:
                response = await self._asked(seen, similar, ends)
            except AskError as error:
                if not seen.pictures or error.kind != BadRequestError.kind:
                    raise
                # Servers with a model that reads text alone refuse a question that has pictures.
                text = f"a failure is explained without its pictures: {error}"
                self._loop.post(lambda: self._complain(text))
                response = await self._asked(replace(seen, pictures=()), similar, ends)
            found = parse(response.text, FailureDiagnosis)
            check_cited(found, similar)
        except (AskError, LlmError, asyncio.TimeoutError) as error:
            if isinstance(error, AskError) and error.kind == UnsupportedSchemaError.kind:
                self._ask_no_more(error)
            return Diagnosed(by_template(seen, similar), TEMPLATE, str(error))
        return Diagnosed(found, f"{response.provider} {response.model}")

    async def _with_manuals(self, seen: FailureSeen) -> FailureSeen:
        """A failure with what manuals say that may be about it; without, and said so, where they cannot be read."""
        if self._manuals is None:
            return seen
        try:
            found = await asyncio.get_running_loop().run_in_executor(None, self._manuals, seen)
        except (LlmError, LikenessError) as error:
            text = f"a failure is explained without manuals: {error}"
            self._loop.post(lambda: self._complain(text))
            return seen
        return replace(seen, manuals=found)

    def _ask_no_more(self, error: AskError) -> None:
        if not self._unable.said(error.provider, error.model):
            return
        text = f"failures are explained by a template until another provider is set: {self._unable.note}"

        def tell() -> None:
            self.get_logger().info(text)

        self._loop.post(tell)

    async def _asked(self, seen: FailureSeen, similar: Sequence[SimilarFailure], ends: float) -> Ask.Response:
        left = ends - asyncio.get_running_loop().time()
        quoted = [msg.QuotedText(text=item.text, source=item.source) for item in diagnosis_data(seen, similar)]
        images = [messages.image_message(picture) for picture in seen.pictures]
        request = Ask.Request(
            question=DIAGNOSIS_QUESTION, schema="FailureDiagnosis", data=quoted, images=images, deadline=left
        )
        return await asyncio.wait_for(self._llm.ask(request), left)

    def _health(self) -> Health:
        figures: dict[str, object] = {
            "under_way": self._under_way,
            "waiting_for_a_person": ", ".join(self._waiting),
            "deliberated": sum(self._outcomes.values()),
            **{outcome.value: count for outcome, count in self._outcomes.items()},
            "diagnoses": self._diagnoses,
            "diagnosing": self._diagnosing,
            "last": self._last,
        }
        if self._waiting:
            waiting = len(self._waiting)
            told = "1 plan waits" if waiting == 1 else f"{waiting} plans wait"
            return WARN, f"{told} for a person; see {PLAN_REVIEW}", figures
        return OK, "deliberating" if self._under_way else "idle", figures


def _robot(settings: DeliberationParameters) -> RobotLimits:
    return profile_limits(load_profile(settings.profile)) if settings.profile else simulated_limits()


def _settings(settings: DeliberationParameters) -> DeliberationSettings:
    checks = CheckSettings(
        settings.most_steps,
        settings.longest,
        settings.margin,
        settings.least_certainty,
        settings.stop_distance,
        settings.ask_distance,
        settings.require_scene,
    )
    score = ScoreSettings(certainty_floor=settings.certainty_floor)
    log = Path(settings.log).expanduser() if settings.log else None
    return DeliberationSettings(checks, score, settings.ask_below, log)


def main(args: Sequence[str] | None = None) -> int:
    """Run the deliberation node."""
    return run(DeliberationNode, None if args is None else list(args))


if __name__ == "__main__":
    raise SystemExit(main())
