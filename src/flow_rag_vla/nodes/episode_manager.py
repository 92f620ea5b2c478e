# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Runs episodes on request: resets, starts, watches, stops, scores and writes down what happened.

One thread does it all. The goal is a coroutine that waits for one future; service replies, topics, timer and cancel
requests are ordinary callbacks of the same executor, and whichever of them ends the episode sets that future. So no
callback ever blocks, a cancel is taken at any moment, and no lock is needed.

How far the episode is stands in a file. A manager that is started after one that was killed goes on with its episode
where controller and scene are still the ones of before, and ends it with the reason where they are not. It says nothing
about episodes until that is decided: what the controller was told last stays in force so long.
"""

from __future__ import annotations

from collections.abc import Sequence

from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.task import Future
from std_srvs.srv import SetBool

from flow_rag_vla.bringup import topics
from flow_rag_vla.bringup.parameters.episode_manager import EpisodeManagerParameters
from flow_rag_vla.control.clock import ClockWatch
from flow_rag_vla.core.goal import UnknownTaskError, parse_instruction
from flow_rag_vla.data.running_episode import Asked, RunningEpisode, absence, still_there, too_late
from flow_rag_vla.evaluate.episode import EpisodeState, EpisodeTracker, Outcome, Verdict
from flow_rag_vla.nodes import qos
from flow_rag_vla.nodes.complaints import remember
from flow_rag_vla.nodes.diagnostics import OK, WARN, Diagnostics, Health
from flow_rag_vla.nodes.episode_action import Concluded, EpisodeAction, Wanted
from flow_rag_vla.nodes.episode_keeper import EpisodeKeeper
from flow_rag_vla.nodes.episode_messages import status_message
from flow_rag_vla.nodes.episode_reset import SceneReset
from flow_rag_vla.nodes.episode_results import EpisodeResults
from flow_rag_vla.nodes.episode_witness import EpisodeWitness
from flow_rag_vla.nodes.parameters import NodeParameters
from flow_rag_vla.nodes.permission import permitted
from flow_rag_vla.nodes.runtime import run
from flow_rag_vla_interfaces.action import ExecuteTask
from flow_rag_vla_interfaces.msg import EpisodeStatus
from flow_rag_vla_interfaces.srv import ResetSimulation

POLL_PERIOD_S = 0.05
TURNS_PER_STATUS = 2
"""Status and feedback go out 10 times a second, and on each change."""

TURNS_PER_KEEPING = 10
"""The running episode is kept twice a second, and on each change of its state."""

RESULT_KEPT_S = 60.0
"""For how long whoever asked is told by a manager that is started again of an episode that was over before."""

CLOCK_SET_NS = 200_000_000
"""By how much the node's clock must have left the steady one, since it was read last, to count as set."""

_AGAIN = "the episode manager was started again and does not go on with its episode"


class EpisodeManager(Node):
    """Serves ``execute_task``, one goal at a time; a second is rejected while one runs."""

    def __init__(self) -> None:
        super().__init__("episode_manager")
        self._settings = NodeParameters(self, EpisodeManagerParameters)
        settings = self._settings.value
        self._results = EpisodeResults(settings.results_dir)
        self._keeper = EpisodeKeeper(self, self._results.folder)
        self._asked: Asked | None = None
        self._left: RunningEpisode | None = None
        """What the process before this one left, while it is looked at whether the world is still the one."""
        self._left_until_ns = 0
        self._taken_up = 0
        self._episode: EpisodeTracker | None = None
        self._done: Future[Concluded] | None = None
        self._asked_timeout = 0.0
        self._scoring_until_ns = 0
        self._finished = self._succeeded = 0
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._simulated_time = bool(self.get_parameter("use_sim_time").value)
        self._clock_watch = ClockWatch(CLOCK_SET_NS)
        self._turn = 0

        self._status_publisher = self.create_publisher(EpisodeStatus, topics.EPISODE_STATUS, qos.STATE)
        self._reset = SceneReset(self, self._on_reset)
        self._witness = EpisodeWitness(
            self,
            settings,
            self._reset,
            self._now_ns,
            on_change=self._publish_status,
            on_stop=self._on_emergency_stop,
            on_truth=self._judge,
            on_displaced=self._abort,
        )
        if settings.scoring == "person":
            self.create_service(SetBool, "~/score", permitted(self, self._on_score))
        self._action = EpisodeAction(
            self,
            self,
            resets=settings.reset != "none",
            plan_deadline=lambda: self._settings.value.plan_deadline,
        )
        # Steady: it watches for silence, which a stopped clock must not hide.
        self.create_timer(POLL_PERIOD_S, self._on_timer, clock=self._steady)
        self._diagnostics = Diagnostics(self, "episodes", self._health)
        if self._keeper.found is not None:
            self._look_at(self._keeper.found)
        self._publish_status()

    def destroy_node(self) -> None:
        """End a running episode as canceled, write its record, then destroy the node."""
        if self._active:
            self._finish(Verdict(Outcome.CANCELED, "interrupted", "the episode manager was stopped"))
        elif self._scoring_until_ns:
            self._conclude()
        self._action.destroy()
        super().destroy_node()

    # For the action.

    def running(self) -> str:
        """The episode that is not over yet, in words; empty if there is none."""
        episode = self._episode
        if episode is None or not (episode.active or self._scoring_until_ns):
            return ""
        return f"episode {episode.episode_id}"

    def stopped(self) -> str:
        """Why no episode may begin now, in words; empty if one may."""
        if not self._witness.emergency_stop:
            return ""
        return f"the emergency stop is latched; release it through {topics.EMERGENCY_STOP_RESET_SERVICE} first"

    def asked(self, asked: Asked) -> None:
        """A request was admitted; it is kept, so that whoever asked is answered whatever becomes of this process."""
        self._asked = asked
        self._keeper.keep(asked, self._witness.marks, None)

    def dismiss(self) -> None:
        """Nothing came of the request."""
        self._asked = None
        self._keeper.forget()

    def begin(self, wanted: Wanted, *, canceled: bool) -> Future[Concluded]:
        """Begin an episode; the future is done when it is over and on record."""
        # What has come is of the scene before the reset: taken afterwards, it would be a scene of its own.
        self._witness.listen()
        settings, care = self._settings.value, wanted.care
        done: Future[Concluded] = Future()
        self._done = done
        self._asked_timeout = wanted.timeout
        self._episode = episode = EpisodeTracker(
            self._results.next_id(),
            wanted.task,
            wanted.variant,
            wanted.seed,
            wanted.goal.instruction if wanted.goal is not None else "",
            settings.success_hold,
            care.pace,
            care.reason,
        )
        self._witness.follow(episode)
        if canceled:
            self._finish(Verdict(Outcome.CANCELED, "canceled", "canceled on request before the start"))
            return done
        what = episode.instruction or episode.task
        self.get_logger().info(f"episode {episode.episode_id}: {what} ({episode.variant}, seed {episode.seed})")
        if settings.reset == "none":
            self._run(self._asked_timeout or settings.timeout / care.pace)
            return done
        self._ask_for_scene(episode)
        return done

    def _ask_for_scene(self, episode: EpisodeTracker) -> None:
        self._keep()
        self._publish_status()
        scene = ResetSimulation.Request(
            task=episode.task, variant=episode.variant, seed=episode.seed, instruction=episode.instruction
        )
        self._reset.ask(scene, self._settings.value.reset_timeout)

    def cancel(self) -> None:
        """End the episode, if one is running, or its scoring."""
        if self._active:
            self._finish(Verdict(Outcome.CANCELED, "canceled", "canceled on request"))
        elif self._scoring_until_ns:
            self._conclude()

    # An episode that ran before this process did.

    def _look_at(self, left: RunningEpisode) -> None:
        """Answer for a goal that the process before this one accepted: go on with its episode, or say why not."""
        settings, course = self._settings.value, left.course
        recorded = left.over and bool(left.result_file)
        late = too_late(left.moment, self._keeper.now(), RESULT_KEPT_S if recorded else settings.take_up_limit)
        if late and recorded:
            return
        done: Future[Concluded] = Future()
        try:
            episode = None if course is None else EpisodeTracker.of(course, settings.success_hold)
            self._action.take_up(left.asked, done)
        except (TypeError, ValueError) as error:
            problem = f"{_AGAIN}: what was kept of it makes no sense: {error}"
            self.get_logger().error(remember(self.get_logger().name, problem))
            self._keeper.forget()
            return
        if episode is None:
            said = left.asked.instruction or left.asked.task
            done.set_exception(
                UnknownTaskError(f"the episode manager was started again before {said!r} was understood; ask again")
            )
            self._keeper.forget()
            return
        self._asked, self._done, self._asked_timeout = left.asked, done, left.asked.timeout
        self._episode = episode
        self._results.keep_free(episode.episode_id)
        if recorded:
            done.set_result(Concluded(episode, left.result_file))
        elif left.over:
            self._conclude()
        elif late:
            # Nothing is known of what came after: it ended when it was last watched.
            self._finish(Verdict(Outcome.ABORTED, "aborted", f"{_AGAIN}: {late}"), left.moment.stamp_ns)
        else:
            self._left = left
            self._left_until_ns = self._steady_ns() + int(settings.silence_limit * 1e9)

    def _go_on(self, left: RunningEpisode) -> None:
        """Go on with the episode once it is clear that the world is still the one, and end it if it is not."""
        episode, settings = self._episode, self._settings.value
        assert episode is not None
        running = episode.state is EpisodeState.RUNNING
        simulated = running and (settings.reset == "simulator" or settings.scoring == "ground_truth")
        problem = still_there(left.marks, self._witness.seen, simulated=simulated)
        if problem == "" and running and self._witness.resting:
            # Told anew that it runs, the controller would set the arm going again.
            problem = f"the controller does not follow it any more: {self._witness.resting}"
        now = self._keeper.now()
        # A simulated clock says nothing until it is heard.
        if problem is None or (not problem and not (self._witness.robot_heard and now.stamp_ns)):
            if self._steady_ns() < self._left_until_ns:
                return
            whom = "controller, robot and simulator were" if simulated else "controller and robot were"
            problem = f"{whom} not all heard within {settings.silence_limit:g} s"
        away = absence(left.moment, now) or 0.0
        # Simulated time stands still, or runs faster, while nobody watches.
        passed = (now.stamp_ns - left.moment.stamp_ns) * 1e-9 if self._simulated_time else away
        if not problem and passed < 0.0:
            problem = f"the clock was set back by {-passed:.1f} s meanwhile"
        elapsed = (left.moment.stamp_ns - episode.started_ns) * 1e-9 + passed
        if not problem and running and elapsed >= episode.timeout:
            # Nobody saw whether it was done in time; that is neither a success nor a failure.
            problem = f"its time limit of {episode.timeout:g} s passed meanwhile"
        if problem:
            self._abort(f"{_AGAIN}: {problem}")
            return
        self._left = None
        self._taken_up += 1
        self.get_logger().warning(f"episode {episode.episode_id}: taken up again after {away:.1f} s without a manager")
        if not running:
            self._witness.follow(episode)
            self._ask_for_scene(episode)
            return
        episode.resume(now.stamp_ns, elapsed, away)
        self._witness.follow_on(episode, left.marks)
        self._witness.expect()
        self._publish_status()
        self._keep()

    def _keep(self, file: str = "", *, synced: bool = True) -> None:
        if self._asked is not None and self._episode is not None:
            course = self._episode.course()
            self._keeper.keep(self._asked, self._witness.marks, course, result_file=file, synced=synced)

    # What comes from the graph.

    def _on_reset(self, response: ResetSimulation.Response) -> None:
        episode = self._episode
        if episode is None or episode.state is not EpisodeState.RESETTING:
            return
        if not response.ok:
            self._abort(f"reset refused: {response.message}")
            return
        try:
            episode.task = parse_instruction(response.instruction).task
        except UnknownTaskError as error:
            self._abort(f"the simulator answered the reset with: {error}")
            return
        # What is done slower may take longer.
        usual = float(response.time_limit) or self._settings.value.timeout
        self._run(self._asked_timeout or usual / episode.pace, response.instruction)

    def _run(self, timeout: float, instruction: str = "") -> None:
        assert self._episode is not None
        self._witness.expect()
        self._episode.run(self._now_ns(), timeout, instruction, self._witness.loop)
        self._publish_status()
        self._keep()

    def _on_emergency_stop(self, reason: str) -> None:
        if self._active:
            sentence = "emergency stop during the episode" + (f": {reason}" if reason else "")
            self._finish(Verdict(Outcome.ABORTED, "emergency_stop", sentence))

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
        # A clock that is set is noticed at every turn, also where nothing of this turn asks for the time.
        self._now_ns()
        self._action.turn()
        self._witness.listen()
        episode = self._episode
        if self._left is not None:
            self._go_on(self._left)
        elif episode is not None and episode.state is EpisodeState.RESETTING and episode.active:
            self._abort(self._reset.turn())
        elif self._scoring_until_ns and self._steady_ns() >= self._scoring_until_ns:
            self._conclude()
        elif episode is not None and episode.state is EpisodeState.RUNNING:
            self._abort(self._witness.silence(self._settings.value.silence_limit))
            if episode.active:
                self._judge()
        if self._turn % TURNS_PER_STATUS:
            return
        if self._active and self._episode is not None:
            self._tell(self._episode)
            if self._left is None and self._turn % TURNS_PER_KEEPING == 0:
                # A process that dies loses nothing of it; the disk is waited for when its state changes.
                self._keep(synced=False)
        self._publish_status()

    # Verdicts.

    def _abort(self, complaint: str) -> None:
        if complaint:
            self._finish(Verdict(Outcome.ABORTED, "aborted", complaint))

    def _judge(self) -> None:
        if self._left is not None:
            return
        verdict = self._episode.judge(self._now_ns()) if self._episode is not None else None
        if verdict is not None:
            self._finish(verdict)

    def _finish(self, verdict: Verdict, at_ns: int | None = None) -> None:
        """Reach a verdict and stop the controller by the status; what was run to its end is scored before it ends.

        at_ns: when it ended, if not now.
        """
        episode = self._episode
        assert episode is not None
        self._left = None
        self._reset.forget()
        episode.decide(self._now_ns() if at_ns is None else at_ns, verdict)
        self._finished += 1
        self._succeeded += verdict.outcome is Outcome.SUCCESS
        # Before it is told: one that is started after a process that dies in between must not go on with it.
        self._keep(synced=False)
        self._publish_status()
        wait = self._settings.value.scoring_time
        if verdict.outcome in (Outcome.SUCCESS, Outcome.FAILURE) and wait > 0.0:
            # The detector sees a timeout at the same moment as this node; its event is on its way.
            self._scoring_until_ns = self._steady_ns() + int(wait * 1e9)
        else:
            self._conclude()

    def _conclude(self) -> None:
        """Write the record and let the action go on."""
        episode = self._episode
        assert episode is not None and episode.verdict is not None and self._done is not None
        self._scoring_until_ns = 0
        self._witness.leave()
        record, file = episode.record(), ""
        try:
            file = str(self._results.write(record))
        except OSError as error:
            folder = self._results.folder
            problem = f"result of episode {episode.episode_id} not written to {folder}: {error}"
            self.get_logger().error(remember(self.get_logger().name, problem))
        self.get_logger().info(f"episode {episode.episode_id}: {episode.verdict.word} after {record.duration:.1f} s")
        self._keep(file)
        self._done.set_result(Concluded(episode, file))

    @property
    def _active(self) -> bool:
        return self._episode is not None and self._episode.active

    # What it says itself.

    def _publish_status(self) -> None:
        if self._left is not None:
            # Whoever follows the episode goes on with what it was told last.
            return
        self._status_publisher.publish(status_message(self._episode, self._now_ns(), self._finished, self._succeeded))

    def _tell(self, episode: EpisodeTracker) -> None:
        running = episode.state is EpisodeState.RUNNING
        self._action.tell(
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
            "goals_rejected": self._action.refused,
            "last_rejection": self._action.last_refusal,
            "results_dir": str(self._results.folder),
            "results_not_written": self._results.not_written,
            "episodes_taken_up": self._taken_up,
            "running_episode_not_kept": self._keeper.not_written,
        }
        if self._results.not_written:
            return WARN, "some results could not be written; see the log and the disk", figures
        return OK, "running an episode" if self._active else "idle", figures

    def _now_ns(self) -> int:
        """The present stamp. Where the system clock was set since the last one, the running episode's time goes on.

        Whatever an episode counts from is read here, so that it is always of the same clock as what it counts to.
        """
        now_ns = self._clock_ns()
        # Simulated time is the episode's own, however it runs.
        set_ns = 0 if self._simulated_time else self._clock_watch.observe(now_ns, self._steady_ns())
        # One that is being taken up is counted anew once it is.
        if set_ns and self._active and self._left is None and self._episode is not None:
            self._episode.clock_set(set_ns)
            self.get_logger().warning(
                f"episode {self._episode.episode_id}: the clock was set by {set_ns * 1e-9:+.3f} s; its time goes on"
            )
        return now_ns

    def _clock_ns(self) -> int:
        return int(self.get_clock().now().nanoseconds)

    def _steady_ns(self) -> int:
        return int(self._steady.now().nanoseconds)


def main(args: Sequence[str] | None = None) -> int:
    """Run the episode manager node."""
    return run(EpisodeManager, None if args is None else list(args))


if __name__ == "__main__":
    raise SystemExit(main())
