# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The policy of another machine in the flow policy's place: images, state and words out, action chunks in.

The server speaks openpi's protocol. Nothing here waits for it: a connection has a thread of its own, one request is
under way at a time, and the next is sent so early that its answer is there before the steps to be followed are over.
What cannot be followed is refused and named; chunks then run dry, and the controller's ladder holds the robot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from sensor_msgs.msg import Image

from flow_rag_vla.bringup import topics
from flow_rag_vla.bringup.parameters.remote_policy import RemotePolicyParameters
from flow_rag_vla.bringup.resources import policies_folder, robots_folder
from flow_rag_vla.control.pace import pace_of
from flow_rag_vla.core.action import TICK_NS, ActionChunk, Provenance
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.data.message_values import MessageError, image_pixels
from flow_rag_vla.nodes import conversions, qos
from flow_rag_vla.nodes.complaints import Complaints
from flow_rag_vla.nodes.diagnostics import ERROR, OK, WARN, Health
from flow_rag_vla.nodes.lifecycle import RUNNING, ManagedNode, run_managed
from flow_rag_vla.nodes.parameters import NodeParameters
from flow_rag_vla.nodes.polling import PolledSubscription
from flow_rag_vla.nodes.recent_states import RecentStates
from flow_rag_vla.nodes.runtime import StartError
from flow_rag_vla.nodes.stamps import to_ns
from flow_rag_vla.policy.remote.actions import Forward, Pose, answered_actions, chunk_rows, tool_path
from flow_rag_vla.policy.remote.connection import Answer, Limits, PolicyConnection, Standing, checked_url
from flow_rag_vla.policy.remote.contract import Contract, find_contract, load_contract
from flow_rag_vla.policy.remote.errors import ActionError, ObservationError, RemotePolicyError
from flow_rag_vla.policy.remote.observation import request
from flow_rag_vla.policy.remote.schedule import Schedule
from flow_rag_vla.robot.arm import Arm
from flow_rag_vla.robot.fields import ProfileError
from flow_rag_vla.robot.profile import find_profile, load_profile
from flow_rag_vla_interfaces import msg

IMAGE_TOPICS = {"front": topics.FRONT_IMAGE, "wrist": topics.WRIST_IMAGE}

WARM_UP_WORDS = "hold still"
"""Instruction of the request before the first episode; its answer is not followed."""


@dataclass(frozen=True, slots=True)
class Asked:
    """What a request was about; ``episode`` 0: only to warm the server up."""

    stamp_ns: int
    state: RobotState
    episode: int
    task: str
    sent_ns: int


class RemotePolicyNode(ManagedNode):
    """Asks a policy server while an episode runs, and publishes what its answers mean."""

    def __init__(self) -> None:
        super().__init__("remote_policy")
        self._complain = Complaints(self.get_logger())
        self._params = NodeParameters(self, RemotePolicyParameters, self._configure, may_reload=self.may_reload)
        self._contract: Contract | None = None
        self._forward: Forward | None = None
        self._connection: PolicyConnection | None = None
        self._schedule = Schedule(self._params.value.margin)
        self._newest: dict[str, tuple[int, Image]] = {}
        self._states = RecentStates(self._complain)
        self._episode = (0, 0)
        self._task = self._words = ""
        self._pace = 1.0
        self._chunk: ActionChunk | None = None
        self._last_stamp_ns = -1
        self._chunks = self._asked = 0
        self._last_ms = 0.0
        self._told_problem = self._fault = ""
        self._warmed = 0
        # Made here, so that it outlives a connection whose thread still calls it.
        self._guard = self.create_guard_condition(self._on_change)
        self._publisher = self.create_lifecycle_publisher(msg.ActionChunk, topics.ACTION_CHUNK, qos.PLAN)

    # The managed node's part.

    def load(self) -> None:
        """Read what the server takes and gives; make the connection, which does not connect yet."""
        settings = self._params.value
        try:
            contract = load_contract(find_contract(settings.contract, policies_folder()))
            forward = _kinematics(settings.robot_profile) if contract.actions.kind == "joint_velocity" else None
            limits = Limits(
                settings.connect_timeout,
                settings.answer_timeout,
                settings.first_answer_timeout,
                int(settings.max_answer * 1e6),
            )
            self._connection = PolicyConnection(checked_url(settings.server), limits, self._guard.trigger)
        except RemotePolicyError as error:
            raise StartError(str(error)) from error
        except ProfileError as error:
            raise StartError(f"parameter robot_profile: {error}") from error
        self._contract, self._forward = contract, forward
        self._report.hardware_id = f"openpi:{contract.name} at {settings.server}"
        self.get_logger().info(f"policy server {settings.server}, contract {contract.name}")

    def free(self) -> None:
        """Forget server and contract."""
        self._connection = self._contract = self._forward = None

    def begin(self) -> None:
        """Connect, and take images."""
        contract, connection = self._contract, self._connection
        if contract is None or connection is None:
            raise StartError("it is not configured")
        self._states.subscribe(self)
        self._commands = PolledSubscription(self, msg.ControlCommand, topics.COMMAND, qos.NEWEST)
        self.create_subscription(msg.EpisodeStatus, topics.EPISODE_STATUS, self._on_episode, qos.STATE)
        for camera in contract.cameras:
            self.create_subscription(Image, IMAGE_TOPICS[camera], self._receiver(camera), qos.NEWEST)
        self._configure(self._params.value)
        connection.start()

    def rest(self) -> None:
        """Hang up, and forget the episode."""
        if self._connection is not None:
            self._connection.close()
        self._forget()
        self._fault = self._told_problem = ""
        self._warmed = 0
        self._episode, self._task, self._words = (0, 0), "", ""

    def _configure(self, settings: RemotePolicyParameters) -> None:
        # What is set before the node is active is taken when it becomes that.
        if self.lifecycle_state in RUNNING:
            self._schedule.margin_s = settings.margin

    # What comes in.

    def _on_episode(self, status: msg.EpisodeStatus) -> None:
        episode, pace = (int(status.episode_id), int(status.state)), pace_of(float(status.slowdown))
        if episode == self._episode:
            # As the controller has it: an episode that runs may be slowed down, and is never made faster.
            self._pace = min(self._pace, pace)
            return
        self._episode, self._pace = episode, pace
        self._chunk, self._task, self._words = None, status.task, status.instruction

    @property
    def _running(self) -> bool:
        return bool(self._episode[1] == msg.EpisodeStatus.STATE_RUNNING)

    def _receiver(self, camera: str) -> Callable[[Image], None]:
        return lambda image: self._on_image(camera, image)

    def _on_image(self, camera: str, image: Image) -> None:
        settings, contract = self._params.value, self._contract
        if contract is None:
            return
        stamp_ns, now_ns = to_ns(image.header.stamp), self._now_ns()
        age = (now_ns - stamp_ns) * 1e-9
        if abs(age) > settings.max_image_age:
            when = "old" if age > 0 else "in the future"
            limit = settings.max_image_age
            self._complain(f"image of camera {camera!r} is {abs(age):.3f} s {when}, limit {limit} s; check the clocks")
            return
        self._newest[camera] = stamp_ns, image
        stamps = [self._newest[name][0] for name in contract.cameras if name in self._newest]
        if len(stamps) < len(contract.cameras) or max(stamps) - min(stamps) > settings.pairing_tolerance * 1e9:
            return
        # The oldest image says how fresh the observation is: the stamp that the encoder's embedding of them has too.
        observed_ns = min(stamps)
        if observed_ns < self._last_stamp_ns - 1_000_000_000:
            # The clock went back (a bag looped, a simulation restarted).
            self._forget_plan()
        elif observed_ns <= self._last_stamp_ns:
            return
        self._last_stamp_ns = observed_ns
        self._consider(observed_ns, now_ns)

    # Asking.

    def _consider(self, stamp_ns: int, now_ns: int) -> None:
        contract, connection, settings = self._contract, self._connection, self._params.value
        if contract is None or connection is None:
            return
        standing = connection.standing
        if not standing.connected or standing.asking:
            return
        if self._running:
            follow_s = contract.actions.follow / contract.actions.rate
            if not self._schedule.due(self._chunk, follow_s, now_ns, self._pace):
                return
            words = settings.prompt or self._words
        elif settings.warm_up and self._warmed != standing.attempts:
            words = WARM_UP_WORDS
        else:
            return
        try:
            self._states.take()
            state = self._states.nearest(stamp_ns, settings.state_tolerance, "images")
            pixels = {name: image_pixels(self._newest[name][1]) for name in contract.cameras}
        except MessageError as error:
            self._complain(f"nothing can be asked: {error}")
            return
        episode = self._episode[0] if self._running else 0
        asked = Asked(stamp_ns, state, episode, self._task, now_ns)
        width = settings.gripper_width
        if connection.ask(asked, lambda: request(contract, pixels, state, words, width)):
            self._asked += 1
            self._warmed = standing.attempts

    # Answers.

    def _on_change(self) -> None:
        connection = self._connection
        if connection is None or self.lifecycle_state not in RUNNING:
            return
        problem = connection.standing.problem
        if problem and problem != self._told_problem:
            self._complain(f"policy server {connection.url}: {problem}")
        self._told_problem = problem
        for answer in connection.take():
            try:
                self._follow(answer, connection)
            except (ActionError, ObservationError) as error:
                self._fault = f"answer refused: {error}"
                self._complain(f"policy server {connection.url}: {self._fault}")

    def _follow(self, answer: Answer, connection: PolicyConnection) -> None:
        asked, contract = answer.asked, self._contract
        if contract is None or not isinstance(asked, Asked):
            return
        if answer.problem:
            self._fault = answer.problem
            self._complain(f"policy server {connection.url}: {answer.problem}")
            return
        self._last_ms = 1e3 * answer.seconds
        actions = answered_actions(answer.values, contract.actions)
        path = tool_path(actions, contract.actions, asked.state, self._forward)
        self._fault = ""
        if asked.episode == 0:
            self.get_logger().info(f"the server answers: {actions.shape[0]} steps after {answer.seconds:.2f} s")
            return
        now_ns = self._now_ns()
        self._schedule.answered((now_ns - asked.sent_ns) * 1e-9)
        if not self._running or asked.episode != self._episode[0]:
            return
        delay_ns = now_ns - asked.stamp_ns
        passed = max(0, int(delay_ns * self._pace / TICK_NS))
        if passed >= path.ticks:
            raise ActionError(
                f"its {actions.shape[0]} steps at {path.rate:g} Hz were over when it came, {delay_ns / 1e9:.2f} s "
                "after its images; a faster server or network is needed"
            )
        self._chunks += 1
        self._chunk = ActionChunk(
            self._chunks,
            asked.stamp_ns,
            chunk_rows(path, passed, self._target()),
            asked.task,
            provenance=Provenance(
                asked.stamp_ns,
                f"openpi:{contract.name}",
                self._params.value.revision or connection.standing.revision,
            ),
        )
        message = conversions.chunk_message(self._chunk, topics.BASE_FRAME)
        message.inference_ms = self._last_ms
        self._publisher.publish(message)

    def _target(self) -> Pose | None:
        """Where the controller has told the robot to be since the last chunk; None if it has named no pose."""
        pose: Pose | None = None
        for message, _ in self._commands.take():
            place, turned = message.target.position, message.target.orientation
            position = np.array([place.x, place.y, place.z])
            orientation = np.array([turned.x, turned.y, turned.z, turned.w])
            # A controller that was just started names none: its position is the base, its quaternion has no length.
            if np.isfinite(position).all() and abs(float(np.linalg.norm(orientation)) - 1.0) < 1e-2:
                pose = position, orientation
        return pose

    def _now_ns(self) -> int:
        return to_ns(self.get_clock().now().to_msg())

    def _forget_plan(self) -> None:
        self._chunk = None
        self._last_stamp_ns = -1

    def _forget(self) -> None:
        self._forget_plan()
        self._newest.clear()
        self._states.clear()

    def health(self) -> Health:
        """Whether the server is there, and answers what can be followed."""
        connection = self._connection
        if connection is None:
            return WARN, "not configured", {}
        standing = connection.standing
        figures = {
            "chunks": self._chunks,
            "asked": self._asked,
            "answers": standing.answers,
            "refused": self._complain.count,
            "connections": standing.attempts,
            "answer_ms": round(self._last_ms, 2),
            "answer_p95_ms": round(1e3 * self._schedule.p95_s, 1),
            "metadata": standing.revision,
            "last_problem": self._complain.last,
        }
        return (*self._verdict(connection, standing), figures)

    def _verdict(self, connection: PolicyConnection, standing: Standing) -> tuple[bytes, str]:
        level, where = ERROR if self._running else WARN, f"policy server {connection.url}"
        if not standing.connected:
            return level, f"no policy server at {connection.url}: {standing.problem or 'connecting'}"
        if standing.asking_s > self._params.value.answer_timeout:
            return level, f"{where} has not answered for {standing.asking_s:.1f} s; the first answer may take long"
        if self._fault:
            return level, f"{where}: {self._fault}"
        if standing.problem:
            return level, f"connected to {connection.url} again, no answer yet; before: {standing.problem}"
        if not self._running:
            return OK, "ready, no episode is running" if standing.answers else "connected, nothing asked yet"
        if self._chunk is None:
            return WARN, "waiting for the first answer of this episode"
        over_s = (self._now_ns() - self._chunk.end_ns) * 1e-9
        if over_s > self._params.value.max_image_age:
            return level, f"the last chunk has been over for {over_s:.1f} s; {self._complain.last or 'do images come?'}"
        return OK, "following the server"


def _kinematics(name: str) -> Forward:
    """Joints to tool pose, of a profile.

    Raises:
        ProfileError: if it is not named or cannot be used.
    """
    if not name:
        raise ProfileError(
            "it is empty, but the contract's actions are joint velocities; name a profile (docs/robot.md)"
        )
    return Arm(load_profile(find_profile(name, robots_folder()))).pose


def main(args: Sequence[str] | None = None) -> int:
    """Run the remote policy node."""
    return run_managed(RemotePolicyNode, args)


if __name__ == "__main__":
    raise SystemExit(main())
