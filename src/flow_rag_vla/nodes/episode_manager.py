"""Runs episodes on request: resets, starts, watches, stops, scores and writes down what happened.

One thread does it all. The goal is a coroutine that waits for one future; service replies, topics, timer and cancel
requests are ordinary callbacks of the same executor, and whichever of them ends the episode sets that future. So no
callback ever blocks, a cancel is taken at any moment, and no lock is needed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.task import Future
from std_msgs.msg import Bool
from std_srvs.srv import SetBool

from flow_rag_vla.bringup import topics
from flow_rag_vla.bringup.parameters.episode_manager import EpisodeManagerParameters
from flow_rag_vla.core.action import CorrectionMode
from flow_rag_vla.core.goal import Goal, UnknownTaskError, parse_instruction
from flow_rag_vla.data.episode_record import last_episode_id, record_path, write_record
from flow_rag_vla.data.message_values import MessageError, robot_state
from flow_rag_vla.deliberation.care import Care, care_of
from flow_rag_vla.evaluate.episode import EpisodeState, EpisodeTracker, LoopSample, Outcome, Verdict, requested_goal
from flow_rag_vla.failure.phase import PhaseTracker
from flow_rag_vla.nodes import qos
from flow_rag_vla.nodes.diagnostics import OK, WARN, Diagnostics, Health
from flow_rag_vla.nodes.episode_messages import failure_record, loop_sample, status_message
from flow_rag_vla.nodes.free_text import FreeText
from flow_rag_vla.nodes.parameters import NodeParameters
from flow_rag_vla.nodes.permission import permitted, permitted_goals
from flow_rag_vla.nodes.polling import PolledSubscription
from flow_rag_vla.nodes.runtime import StartError, run
from flow_rag_vla.nodes.stamps import to_ns
from flow_rag_vla_interfaces.action import ExecuteTask
from flow_rag_vla_interfaces.msg import (
    ControlCommand,
    EpisodeStatus,
    FailureEvent,
    LoopStatistics,
    RobotState,
    SceneState,
)
from flow_rag_vla_interfaces.srv import ResetSimulation

POLL_PERIOD_S = 0.05
TURNS_PER_STATUS = 2
"""Status and feedback go out 10 times a second, and on each change."""
ACCEPTANCE_NS = 1_000_000_000


class EpisodeManager(Node):
    """Serves ``execute_task``, one goal at a time; a second is rejected while one runs."""

    def __init__(self) -> None:
        super().__init__("episode_manager")
        self._settings = NodeParameters(self, EpisodeManagerParameters)
        settings = self._settings.value
        self._results = Path(settings.results_dir).expanduser()
        try:
            self._results.mkdir(parents=True, exist_ok=True)
            self._last_id = last_episode_id(self._results)
        except OSError as error:
            raise StartError(
                f"results_dir {str(self._results)!r} cannot be used ({error.strerror}); "
                "name a folder that can be written"
            ) from error
        self._episode: EpisodeTracker | None = None
        self._reserved_until_ns = 0
        self._done: Future[None] | None = None
        self._handle: ServerGoalHandle[Any, Any, Any] | None = None
        self._scoring_until_ns = 0
        self._reset_reply: Future[Any] | None = None
        self._reset_request: ResetSimulation.Request | None = None
        self._asked_timeout = 0.0
        self._care = Care()
        self._phases = PhaseTracker()
        self._gripper_command = math.nan
        self._loop: LoopSample | None = None
        self._emergency_stop = False
        self._reset_count = -1
        self._result_file = ""
        self._finished = self._succeeded = self._refused = self._write_errors = 0
        self._last_refusal = ""
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._deadline_ns = 0
        self._heard: dict[str, int] = {}
        self._turn = 0

        self._status_publisher = self.create_publisher(EpisodeStatus, topics.EPISODE_STATUS, qos.STATE)
        # What comes 40 times a second is looked at 20 times a second: waking for each costs a tenth of a core.
        self._states = PolledSubscription(self, RobotState, topics.ROBOT_STATE, qos.SENSOR)
        self._commands = PolledSubscription(self, ControlCommand, topics.COMMAND, qos.PLAN)
        self._scenes = PolledSubscription(self, SceneState, topics.GROUND_TRUTH, qos.SENSOR)
        # Volatile, so that any publisher fits; whether a stop was latched before is said by the commands.
        self.create_subscription(Bool, topics.EMERGENCY_STOP, self._on_emergency_stop, qos.PLAN)
        self.create_subscription(FailureEvent, topics.FAILURE_EVENT, self._on_failure, qos.EVENT)
        self.create_subscription(LoopStatistics, topics.LOOP_STATISTICS, self._on_loop, qos.STATE)
        if settings.scoring == "person":
            self.create_service(SetBool, "~/score", permitted(self, self._on_score))
        self._reset_client = self.create_client(ResetSimulation, topics.RESET_SIMULATION)
        self._free_text = FreeText(self)
        self._action = ActionServer(
            self,
            ExecuteTask,
            topics.EXECUTE_TASK,
            self._execute,
            goal_callback=permitted_goals(self, self._on_goal),
            cancel_callback=self._on_cancel,
        )
        # Steady: it watches for silence, which a stopped clock must not hide.
        self.create_timer(POLL_PERIOD_S, self._on_timer, clock=self._steady)
        self._diagnostics = Diagnostics(self, "episodes", self._health)
        self._publish_status()

    def destroy_node(self) -> None:
        """End a running episode as canceled, write its record, then destroy the node."""
        if self._active:
            self._finish(Verdict(Outcome.CANCELED, "interrupted", "the episode manager was stopped"))
        elif self._scoring_until_ns:
            self._conclude()
        self._action.destroy()
        super().destroy_node()

    def _on_goal(self, request: ExecuteTask.Goal) -> GoalResponse:
        reading = self._free_text.asking
        if reading or self._active or self._scoring_until_ns or self._steady_ns() < self._reserved_until_ns:
            running = self._episode
            number = f"episode {running.episode_id}" if running is not None else "an episode"
            self._refused += 1
            self._last_refusal = f"{number} is running; cancel it or wait for its end"
            self.get_logger().warning(f"goal {request.instruction or request.task!r} rejected: {self._last_refusal}")
            return GoalResponse.REJECT
        # Accepting and executing are two turns of the executor: another goal may come in between. A limit, because a
        # client that is gone before it gets the answer leaves a goal that is never executed.
        self._reserved_until_ns = self._steady_ns() + ACCEPTANCE_NS
        return GoalResponse.ACCEPT

    def _on_cancel(self, _handle: ServerGoalHandle[Any, Any, Any]) -> CancelResponse:
        # The goal handle changes to CANCELING after this returns; the coroutine resumes later and finds it so.
        if self._free_text.asking:
            self._free_text.cancel()
        elif self._active:
            self._finish(Verdict(Outcome.CANCELED, "canceled", "canceled on request"))
        elif self._scoring_until_ns:
            self._conclude()
        return CancelResponse.ACCEPT

    async def _execute(self, handle: ServerGoalHandle[Any, Any, Any]) -> ExecuteTask.Result:
        self._reserved_until_ns = 0
        request: ExecuteTask.Goal = handle.request
        result = ExecuteTask.Result()
        try:
            # Of the words as they were said: what is made of them has no tone.
            self._care = care_of(float(request.speed_scale), request.instruction)
            if self._free_text.reads(request.instruction):
                step = await self._free_text.step(request.instruction)
                request.instruction = step.goal.instruction
                self._care = self._care.lowered(step.speed_scale, "the plan made of it")
            goal = self._checked_goal(request)
        except ValueError as error:
            if handle.is_cancel_requested:
                result.outcome, result.reason = ExecuteTask.Result.OUTCOME_CANCELED, "canceled on request"
                handle.canceled()
                return result
            self.get_logger().error(f"goal aborted: {error}")
            result.outcome, result.reason = ExecuteTask.Result.OUTCOME_ABORTED, str(error)
            handle.abort()
            return result
        done: Future[None] = Future()
        self._begin(request, goal, done, handle)
        await done
        episode = self._episode
        assert episode is not None and episode.verdict is not None
        verdict = episode.verdict
        result.outcome, result.reason = int(verdict.outcome), verdict.reason
        result.episode_id, result.duration = episode.episode_id, episode.elapsed(episode.ended_ns)
        result.failures, result.corrections = episode.failures, episode.corrected_chunks
        result.result_file, result.intervened = self._result_file, episode.intervened
        result.speed_scale, result.speed_reason = episode.pace, episode.pace_reason
        if verdict.outcome is Outcome.CANCELED and handle.is_cancel_requested:
            handle.canceled()
        elif verdict.outcome in (Outcome.SUCCESS, Outcome.FAILURE):
            # The episode was run and scored, whichever way it went: the action did what it was asked to do.
            handle.succeed()
        else:
            handle.abort()
        return result

    def _checked_goal(self, request: ExecuteTask.Goal) -> Goal | None:
        goal = requested_goal(request.instruction, request.task)
        if not math.isfinite(request.timeout) or request.timeout < 0.0:
            raise ValueError(f"timeout is {request.timeout}, expected 0 (the task's own) or seconds above 0")
        if request.seed >= 2**32:
            raise ValueError(f"seed is {request.seed}, expected 0 to {2**32 - 1}")
        if goal is None and self._settings.value.reset == "none":
            raise UnknownTaskError(
                f"task {request.task!r} has several targets and there is no simulator to draw one; give an instruction"
            )
        if self._emergency_stop:
            raise ValueError(
                f"the emergency stop is latched; release it through {topics.EMERGENCY_STOP_RESET_SERVICE} first"
            )
        return goal

    def _begin(
        self, request: ExecuteTask.Goal, goal: Goal | None, done: Future[None], handle: ServerGoalHandle[Any, Any, Any]
    ) -> None:
        settings = self._settings.value
        self._last_id += 1
        self._done, self._handle = done, handle
        self._result_file = ""
        self._asked_timeout = float(request.timeout)
        self._episode = EpisodeTracker(
            self._last_id,
            goal.task if goal is not None else request.task,
            request.variant or "plain",
            int(request.seed),
            goal.instruction if goal is not None else "",
            settings.success_hold,
            self._care.pace,
            self._care.reason,
        )
        self._phases.reset()
        self._deadline_ns = self._steady_ns() + int(settings.reset_timeout * 1e9)
        self._reset_reply = None
        self._reset_request = None
        # A cancel may have come between acceptance and this turn; the episode exists, so that it is on record.
        if handle.is_cancel_requested:
            self._finish(Verdict(Outcome.CANCELED, "canceled", "canceled on request before the start"))
            return
        self.get_logger().info(
            f"episode {self._last_id}: {self._episode.instruction or self._episode.task} "
            f"({self._episode.variant}, seed {self._episode.seed})"
        )
        if settings.reset == "none":
            self._run(self._asked_timeout or settings.timeout / self._care.pace)
            return
        self._reset_request = ResetSimulation.Request(
            task=self._episode.task,
            variant=self._episode.variant,
            seed=self._episode.seed,
            instruction=self._episode.instruction,
        )
        self._publish_status()
        self._request_reset()

    def _request_reset(self) -> None:
        """Send the request once the service is there; until then the timer comes back here."""
        if self._reset_request is None or self._reset_reply is not None or not self._reset_client.service_is_ready():
            return
        reply = self._reset_client.call_async(self._reset_request)
        self._reset_reply = reply
        reply.add_done_callback(self._on_reset)

    def _on_reset(self, reply: Future[Any]) -> None:
        # A reply to an episode that was canceled or timed out meanwhile is of no concern.
        if reply is not self._reset_reply or self._episode is None or self._episode.state is not EpisodeState.RESETTING:
            return
        self._reset_reply = None
        self._reset_request = None
        response: ResetSimulation.Response = reply.result()
        if not response.ok:
            self._finish(Verdict(Outcome.ABORTED, "aborted", f"reset refused: {response.message}"))
            return
        try:
            self._episode.task = parse_instruction(response.instruction).task
        except UnknownTaskError as error:
            self._finish(Verdict(Outcome.ABORTED, "aborted", f"the simulator answered the reset with: {error}"))
            return
        # What is done slower may take longer.
        usual = float(response.time_limit) or self._settings.value.timeout
        limit = self._asked_timeout or usual / self._episode.pace
        self._run(limit, response.instruction)

    def _run(self, timeout: float, instruction: str = "") -> None:
        assert self._episode is not None
        now = self._steady_ns()
        self._heard = {"the controller": now, "the robot": now}
        if self._settings.value.scoring == "ground_truth":
            self._heard["the simulator's ground truth"] = now
        self._episode.run(self._now_ns(), timeout, instruction, self._loop)
        self._publish_status()

    def _on_robot_state(self, message: RobotState) -> None:
        self._heard["the robot"] = self._steady_ns()
        episode = self._episode
        if episode is None or episode.state is not EpisodeState.RUNNING:
            return
        try:
            phase = self._phases.update(robot_state(message), self._gripper_command, episode.task)
        except MessageError as error:
            self.get_logger().error(str(error), throttle_duration_sec=1.0)
            return
        if episode.observe_phase(self._now_ns(), phase.value):
            self._publish_status()

    def _on_command(self, message: ControlCommand) -> None:
        self._heard["the controller"] = self._steady_ns()
        self._gripper_command = float(message.action[6])
        self._emergency_stop = message.mode == ControlCommand.MODE_EMERGENCY_STOP
        if self._emergency_stop:
            self._abort_for_emergency_stop(message.reason_text)
        episode = self._episode
        if episode is None or not episode.active:
            return
        if message.mode == ControlCommand.MODE_TAKEOVER and episode.observe_takeover():
            self.get_logger().info(f"episode {episode.episode_id}: {message.reason_text}")
            self._publish_status()
        source = message.provenance
        if message.mode == ControlCommand.MODE_FOLLOW and source.correction in set(CorrectionMode):
            episode.observe_command(
                to_ns(message.header.stamp),
                int(message.chunk_id),
                CorrectionMode(source.correction),
                float(source.correction_strength),
                tuple(int(case) for case in source.case_ids),
            )

    def _on_emergency_stop(self, message: Bool) -> None:
        # Whether it is latched is said by the controller's commands; this ends the episode without waiting for one.
        if message.data:
            self._abort_for_emergency_stop("")

    def _abort_for_emergency_stop(self, reason: str) -> None:
        if self._active:
            sentence = "emergency stop during the episode" + (f": {reason}" if reason else "")
            self._finish(Verdict(Outcome.ABORTED, "emergency_stop", sentence))

    def _on_failure(self, message: FailureEvent) -> None:
        episode = self._episode
        if episode is None or not episode.started_ns or not (episode.active or self._scoring_until_ns):
            return
        # An event that names another episode is late; 0 is from a detector that does not know.
        if message.episode_id not in (0, episode.episode_id):
            return
        episode.observe_failure(failure_record(message, episode.elapsed(to_ns(message.header.stamp))))
        self._publish_status()

    def _on_loop(self, message: LoopStatistics) -> None:
        self._loop = loop_sample(message)
        if self._episode is not None:
            self._episode.observe_loop(self._loop)

    def _on_scene(self, message: SceneState) -> None:
        episode = self._episode
        if episode is None or episode.state is not EpisodeState.RUNNING:
            # Once the reset is asked for, the count that comes may be the new scene's, ahead of the reply.
            if self._reset_reply is None:
                self._reset_count = int(message.reset_count)
            return
        if "the simulator's ground truth" in self._heard:
            self._heard["the simulator's ground truth"] = self._steady_ns()
        if self._settings.value.scoring != "ground_truth":
            return
        # Reply and ground truth travel on their own ways: what shows the scene before the reset must not score.
        if self._settings.value.reset == "simulator" and message.reset_count == self._reset_count:
            return
        now = self._now_ns()
        episode.observe_success(now, bool(message.success))
        self._judge(now)

    def _on_score(self, request: SetBool.Request, response: SetBool.Response) -> SetBool.Response:
        episode = self._episode
        if episode is None or episode.state is not EpisodeState.RUNNING:
            response.message = "no episode is running"
            return response
        outcome = Outcome.SUCCESS if request.data else Outcome.FAILURE
        self._finish(Verdict(outcome, outcome.word, "scored by a person"))
        response.success, response.message = True, f"episode {episode.episode_id}: {outcome.word}"
        return response

    def _on_timer(self) -> None:
        self._turn += 1
        for command, _ in self._commands.take():
            self._on_command(command)
        for state, _ in self._states.take():
            self._on_robot_state(state)
        for scene, _ in self._scenes.take():
            self._on_scene(scene)
        episode = self._episode
        if episode is not None and episode.state is EpisodeState.RESETTING and episode.active:
            self._request_reset()
            if self._steady_ns() > self._deadline_ns:
                self._finish(Verdict(Outcome.ABORTED, "aborted", self._reset_complaint()))
        elif self._scoring_until_ns and self._steady_ns() >= self._scoring_until_ns:
            self._conclude()
        elif episode is not None and episode.state is EpisodeState.RUNNING:
            self._watch()
            if episode.active:
                self._judge(self._now_ns())
        if self._turn % TURNS_PER_STATUS:
            return
        if self._active and self._episode is not None:
            self._publish_feedback(self._episode)
        self._publish_status()

    def _watch(self) -> None:
        limit = self._settings.value.silence_limit
        now = self._steady_ns()
        for name, heard in self._heard.items():
            if (now - heard) * 1e-9 > limit:
                reason = f"{name} has been silent for {limit:g} s; see whether its node runs"
                self._finish(Verdict(Outcome.ABORTED, "aborted", reason))
                return

    def _judge(self, now_ns: int) -> None:
        verdict = self._episode.judge(now_ns) if self._episode is not None else None
        if verdict is not None:
            self._finish(verdict)

    def _finish(self, verdict: Verdict) -> None:
        """Reach a verdict and stop the controller by the status; what was run to its end is scored before it ends."""
        episode = self._episode
        assert episode is not None
        self._reset_reply = None
        self._reset_request = None
        episode.decide(self._now_ns(), verdict)
        self._finished += 1
        self._succeeded += verdict.outcome is Outcome.SUCCESS
        self._publish_status()
        wait = self._settings.value.scoring_time
        if verdict.outcome in (Outcome.SUCCESS, Outcome.FAILURE) and wait > 0.0:
            # The detector sees a timeout at the same moment as this node; its event is on its way.
            self._scoring_until_ns = self._steady_ns() + int(wait * 1e9)
        else:
            self._conclude()

    def _conclude(self) -> None:
        """Write the record and let the goal's coroutine go on."""
        episode = self._episode
        assert episode is not None and episode.verdict is not None and self._done is not None
        self._scoring_until_ns = 0
        record = episode.record()
        path = record_path(self._results, episode.episode_id)
        try:
            write_record(path, record)
            self._result_file = str(path.resolve())
        except OSError as error:
            self._write_errors += 1
            self.get_logger().error(f"result of episode {episode.episode_id} not written to {path}: {error}")
        self.get_logger().info(f"episode {episode.episode_id}: {episode.verdict.word} after {record.duration:.1f} s")
        self._done.set_result(None)

    @property
    def _active(self) -> bool:
        return self._episode is not None and self._episode.active

    def _reset_complaint(self) -> str:
        limit = self._settings.value.reset_timeout
        name = self._reset_client.srv_name
        if self._reset_reply is None:
            return f"{name} did not appear within {limit:g} s; start the simulator or set reset to none"
        return f"{name} did not answer within {limit:g} s"

    def _publish_status(self) -> None:
        stamp = self.get_clock().now()
        self._status_publisher.publish(
            status_message(self._episode, stamp.nanoseconds, self._finished, self._succeeded)
        )

    def _publish_feedback(self, episode: EpisodeTracker) -> None:
        running = episode.state is EpisodeState.RUNNING
        assert self._handle is not None
        self._handle.publish_feedback(
            ExecuteTask.Feedback(
                phase=episode.phase,
                elapsed=episode.elapsed(self._now_ns()),
                progress=episode.progress,
                failures=episode.failures,
                message=episode.instruction if running else "waiting for the simulator's reset",
            )
        )

    def _health(self) -> Health:
        figures: dict[str, object] = {
            "episodes_finished": self._finished,
            "episodes_succeeded": self._succeeded,
            "goals_rejected": self._refused,
            "last_rejection": self._last_refusal,
            "results_dir": str(self._results),
            "results_not_written": self._write_errors,
        }
        if self._write_errors:
            return WARN, "some results could not be written; see the log and the disk", figures
        return OK, "running an episode" if self._active else "idle", figures

    def _now_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    def _steady_ns(self) -> int:
        return int(self._steady.now().nanoseconds)


def main(args: Sequence[str] | None = None) -> int:
    """Run the episode manager node."""
    return run(EpisodeManager, None if args is None else list(args), shared_memory=False)


if __name__ == "__main__":
    raise SystemExit(main())
