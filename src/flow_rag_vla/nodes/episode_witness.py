# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What the graph says while an episode runs, told to the episode: phases, memory's part, failures, success, silence."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace

from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from std_msgs.msg import Bool

from flow_rag_vla.bringup import topics
from flow_rag_vla.bringup.parameters.episode_manager import EpisodeManagerParameters
from flow_rag_vla.core.action import GRIPPER, CorrectionMode
from flow_rag_vla.data.message_values import MessageError, robot_state
from flow_rag_vla.data.running_episode import Marks
from flow_rag_vla.evaluate.episode import EpisodeState, EpisodeTracker, LoopSample
from flow_rag_vla.failure.phase import PhaseTracker
from flow_rag_vla.nodes import qos
from flow_rag_vla.nodes.episode_messages import failure_record, loop_sample
from flow_rag_vla.nodes.episode_reset import SceneReset
from flow_rag_vla.nodes.polling import PolledSubscription
from flow_rag_vla.nodes.stamps import to_ns
from flow_rag_vla_interfaces.msg import ControlCommand, FailureEvent, LoopStatistics, RobotState, SceneState

_SETTLED_NS = 1_000_000_000
"""How long a scene from before the reset may still be under way to one who saw none before."""

_ROBOT, _CONTROLLER, _TRUTH = "the robot", "the controller", "the simulator's ground truth"


class EpisodeWitness:
    """Listens for the episode that it follows. Every method and callback on the executor's thread.

    now_ns: gives the present stamp, of the clock that the episode counts on
    on_change: the episode changed in a way that is worth telling at once
    on_stop: the emergency stop is pressed; with the controller's sentence, or empty
    on_truth: the simulator said whether the goal is reached
    on_displaced: the scene is no longer the episode's; with a sentence that says why
    """

    def __init__(
        self,
        node: Node,
        settings: EpisodeManagerParameters,
        reset: SceneReset,
        now_ns: Callable[[], int],
        *,
        on_change: Callable[[], None],
        on_stop: Callable[[str], None],
        on_truth: Callable[[], None],
        on_displaced: Callable[[str], None],
    ) -> None:
        self._node = node
        self._scored_by_truth = settings.scoring == "ground_truth"
        self._resets = settings.reset == "simulator"
        self._reset, self._now_ns = reset, now_ns
        self._on_change, self._on_stop, self._on_truth = on_change, on_stop, on_truth
        self._on_displaced = on_displaced
        self._episode: EpisodeTracker | None = None
        self._phases = PhaseTracker()
        self._gripper_command = math.nan
        self._heard: dict[str, int] = {}
        self._steady = Clock(clock_type=ClockType.STEADY_TIME)
        self.emergency_stop = False
        """Whether the controller said in its last command that the stop is latched."""
        self.resting = ""
        """Why the controller follows no episode, as its last command said; empty if it follows one."""
        self.loop: LoopSample | None = None
        """The loop's newest figures."""
        self.scene = -1
        """Number of the scene that was shown before the reset."""
        self._own: tuple[str, int] | None = None
        """The episode's scene: whose it is, by the simulator's id in the graph, and its number."""
        self._began_ns = 0
        self._seen = Marks()
        # What comes 40 times a second is looked at 20 times a second: waking for each costs a tenth of a core.
        self._states = PolledSubscription(node, RobotState, topics.ROBOT_STATE, qos.SENSOR)
        self._commands = PolledSubscription(node, ControlCommand, topics.COMMAND, qos.PLAN)
        self._scenes = PolledSubscription(node, SceneState, topics.GROUND_TRUTH, qos.SENSOR)
        # Volatile, so that any publisher fits; whether a stop was latched before is said by the commands.
        node.create_subscription(Bool, topics.EMERGENCY_STOP, self._on_emergency_stop, qos.PLAN)
        node.create_subscription(FailureEvent, topics.FAILURE_EVENT, self._on_failure, qos.EVENT)
        node.create_subscription(LoopStatistics, topics.LOOP_STATISTICS, self._on_loop, qos.STATE)

    def follow(self, episode: EpisodeTracker) -> None:
        """Tell this episode what is heard."""
        self._episode = episode
        self._phases.reset()
        self._own = None

    def follow_on(self, episode: EpisodeTracker, marks: Marks) -> None:
        """Tell what is heard to an episode that ran before this process did, in the scene that these marks name."""
        self.follow(episode)
        self.scene = marks.scene_before
        if marks.scene >= 0:
            self._own = marks.simulator, marks.scene

    @property
    def seen(self) -> Marks:
        """The newest that was heard; nothing of an episode."""
        return self._seen

    @property
    def robot_heard(self) -> bool:
        """Whether the robot has said where it is."""
        return _ROBOT in self._heard

    @property
    def marks(self) -> Marks:
        """By which the episode's world is known again."""
        # The scene after a reset may not have been shown yet; whose it will be is known.
        seen, own = self._seen, self._own or (self._seen.simulator, -1)
        return Marks(seen.controller, seen.tick, own[0], own[1], self.scene)

    def expect(self) -> None:
        """The episode runs: from now on silence counts."""
        now = self._began_ns = self._steady_ns()
        self._heard = {_CONTROLLER: now, _ROBOT: now}
        if self._scored_by_truth:
            self._heard[_TRUTH] = now

    def leave(self) -> None:
        """The episode is over, its scoring too."""
        self._episode = None

    def listen(self) -> None:
        """Take what has come."""
        for command, sender in self._commands.take_with_sender():
            self._seen = replace(self._seen, controller=sender.hex(), tick=int(command.tick))
            self._on_command(command)
        for state, _ in self._states.take():
            self._on_robot_state(state)
        for scene, sender in self._scenes.take_with_sender():
            self._seen = replace(self._seen, simulator=sender.hex(), scene=int(scene.reset_count))
            self._on_scene(scene)

    def silence(self, limit_s: float) -> str:
        """A sentence that names who has been silent for longer than this; empty if nobody has."""
        now = self._steady_ns()
        for name, heard in self._heard.items():
            if (now - heard) * 1e-9 > limit_s:
                return f"{name} has been silent for {limit_s:g} s; see whether its node runs"
        return ""

    def _on_robot_state(self, message: RobotState) -> None:
        self._heard[_ROBOT] = self._steady_ns()
        episode = self._episode
        if episode is None or episode.state is not EpisodeState.RUNNING:
            return
        try:
            phase = self._phases.update(robot_state(message), self._gripper_command, episode.task)
        except MessageError as error:
            self._node.get_logger().error(str(error), throttle_duration_sec=1.0)
            return
        if episode.observe_phase(self._now_ns(), phase.value):
            self._on_change()

    def _on_command(self, message: ControlCommand) -> None:
        self._heard[_CONTROLLER] = self._steady_ns()
        self._gripper_command = float(message.action[GRIPPER])
        self.emergency_stop = message.mode == ControlCommand.MODE_EMERGENCY_STOP
        inactive = message.reason == ControlCommand.REASON_EPISODE_INACTIVE
        self.resting = (message.reason_text or "no episode is running") if inactive else ""
        if self.emergency_stop:
            self._on_stop(message.reason_text)
        episode = self._episode
        if episode is None or not episode.active:
            return
        if message.mode == ControlCommand.MODE_TAKEOVER and episode.observe_takeover():
            self._node.get_logger().info(f"episode {episode.episode_id}: {message.reason_text}")
            self._on_change()
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
            self._on_stop("")

    def _on_failure(self, message: FailureEvent) -> None:
        episode = self._episode
        if episode is None or not episode.started_ns:
            return
        # An event that names another episode is late; 0 is from a detector that does not know.
        if message.episode_id not in (0, episode.episode_id):
            return
        episode.observe_failure(failure_record(message, episode.elapsed(to_ns(message.header.stamp))))
        self._on_change()

    def _on_loop(self, message: LoopStatistics) -> None:
        self.loop = loop_sample(message)
        if self._episode is not None:
            self._episode.observe_loop(self.loop)

    def _on_scene(self, message: SceneState) -> None:
        episode = self._episode
        if episode is None or episode.state is not EpisodeState.RUNNING:
            # Once the reset is asked for, the count that comes may be the new scene's, ahead of the reply.
            if not self._reset.under_way:
                self.scene = int(message.reset_count)
            return
        if _TRUTH in self._heard:
            self._heard[_TRUTH] = self._steady_ns()
        if self._resets:
            shown = self._seen.simulator, self._seen.scene
            if self._own is None:
                # Reply and ground truth travel on their own ways: what shows the scene before the reset must not score.
                if message.reset_count == self.scene:
                    return
                self._own = shown
            elif shown != self._own and not self._was_before_the_reset(*self._own):
                anew = shown[0] != self._own[0]
                self._on_displaced(
                    "the simulator was started anew while the episode ran: its scene is gone"
                    if anew
                    else "the simulator's scene was reset while the episode ran"
                )
                return
            self._own = shown
        if not self._scored_by_truth:
            return
        episode.observe_success(self._now_ns(), bool(message.success))
        self._on_truth()

    def _was_before_the_reset(self, simulator: str, number: int) -> bool:
        """Whether a scene that was taken for the episode's was the one before: where none had been seen until then."""
        young = self._steady_ns() - self._began_ns < _SETTLED_NS
        return self.scene < 0 and young and (simulator, number + 1) == (self._seen.simulator, self._seen.scene)

    def _steady_ns(self) -> int:
        return int(self._steady.now().nanoseconds)
