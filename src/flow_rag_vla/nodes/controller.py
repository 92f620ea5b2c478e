# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The 40 Hz controller: one command a tick, from the newest valid chunk, whatever else happens.

One thread does everything. At each tick it takes what has arrived (a bounded number of messages), decides, publishes
the command, and only then logs, publishes figures and collects garbage. No service of another node is ever called.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Sequence
from functools import partial

from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.node import Node

from flow_rag_vla.bringup import topics
from flow_rag_vla.bringup.loop_settings import check_limits, loop_settings
from flow_rag_vla.bringup.parameters.controller import ControllerParameters
from flow_rag_vla.control.ladder import Mode, Reason
from flow_rag_vla.control.loop import Command, ControlLoop
from flow_rag_vla.control.measurement import StateRefusal, invalid_state
from flow_rag_vla.control.queue import ChunkRefusal
from flow_rag_vla.core.action import TICK_NS, TICK_S
from flow_rag_vla.data import message_values
from flow_rag_vla.data.message_values import MessageError
from flow_rag_vla.nodes import qos
from flow_rag_vla.nodes.answers import PatientAnswers
from flow_rag_vla.nodes.complaints import DeferredComplaints
from flow_rag_vla.nodes.controller_messages import CommandMessage, episode_of, loop_figures, statistics_message
from flow_rag_vla.nodes.diagnostics import ERROR, OK, WARN, Diagnostics, Health
from flow_rag_vla.nodes.emergency_stop import EmergencyStop
from flow_rag_vla.nodes.parameters import NodeParameters
from flow_rag_vla.nodes.polling import PolledSubscription
from flow_rag_vla.nodes.priority import RaisedPriority
from flow_rag_vla.nodes.runtime import run
from flow_rag_vla.nodes.stamps import to_ns
from flow_rag_vla.nodes.tick_inputs import TickInputsRecord
from flow_rag_vla.nodes.wire import robot_state_from_wire
from flow_rag_vla_interfaces import msg, srv

_SILENT = frozenset({ChunkRefusal.DUPLICATE, ChunkRefusal.OLDER, ChunkRefusal.NO_EPISODE})
"""Refusals that are everyday: they are counted, not logged."""

_UNDER_WAY = frozenset({ChunkRefusal.OTHER_EPISODE, ChunkRefusal.DISPLACED})
"""Everyday too, if the chunk is young: it was on its way while the episode began."""

_YOUNG_NS = 500_000_000

LISTENING_NS = 500_000_000
"""From its first tick, for so long the loop only listens whether anybody asks for an emergency stop: who said so while
no controller was there is heard once each end knows of the other, and our nodes announce themselves every 250 ms."""


class Controller(Node):
    """Robot state, chunks and corrections in; one command every 25 ms out."""

    def __init__(self) -> None:
        super().__init__("controller")
        self._complain = DeferredComplaints(self.get_logger())
        self._settings = NodeParameters(self, ControllerParameters, self._configure, check=check_limits)
        self._loop = ControlLoop(loop_settings(self._settings.value))
        self._sim_time = bool(self.get_parameter("use_sim_time").value)
        self._states = PolledSubscription(self, msg.RobotState, topics.ROBOT_STATE, qos.SENSOR)
        self._chunks = PolledSubscription(self, msg.ActionChunk, topics.ACTION_CHUNK, qos.PLAN)
        self._corrections = PolledSubscription(self, msg.Correction, topics.CORRECTION, qos.PLAN)
        self._episodes = PolledSubscription(self, msg.EpisodeStatus, topics.EPISODE_STATUS, qos.STATE)
        # Best effort, so that any teleoperation's publisher fits.
        self._takeovers = PolledSubscription(self, msg.Takeover, topics.TAKEOVER, qos.SENSOR)
        # Handlers of publisher events are looked at by the executor at every wake-up: a fifth of what the loop costs.
        # Subscribers with other quality of service still hear of it: their own side warns.
        quiet = PublisherEventCallbacks(use_default_callbacks=False)
        self._taken = TickInputsRecord(self, quiet)
        self._commands = self.create_publisher(
            msg.ControlCommand, topics.COMMAND, qos.command_profile(TICK_S), event_callbacks=quiet
        )
        self._figures = self.create_publisher(
            msg.LoopStatistics, topics.LOOP_STATISTICS, qos.STATE, event_callbacks=quiet
        )
        self._emergency_stop = EmergencyStop(
            self,
            self._loop,
            self._taken,
            self._settings.value.emergency_stop_file,
            complain=self._complain,
            steady_now_ns=lambda: self._clocks()[1],
        )
        self._takers = (
            self._emergency_stop.take,
            self._take_episodes,
            self._take_states,
            self._take_takeovers,
            self._take_chunks,
            self._take_corrections,
        )
        """What reads the topics, in this order: what may stop the robot comes first."""
        self._listening_takers = (self._emergency_stop.take, self._take_states)
        self.create_service(srv.GetLoopStatistics, topics.LOOP_STATISTICS_SERVICE, self._on_statistics)
        self._answers = PatientAnswers(self, partial(self._complain, "answer"))
        self._diagnostics = Diagnostics(self, "control loop", self._health, own_timer=self._sim_time)
        self._command = CommandMessage()
        self._reported: tuple[Mode, Reason] = (Mode.IDLE, Reason.NONE)
        self._late_reported = 0
        self._figures_due_ns = 0
        self._first_ns = 0
        self._listening = not self._sim_time
        self._priority = RaisedPriority(self._settings.value.niceness, self._settings.value.realtime_priority)
        clock_name = "simulated" if self._sim_time else "steady"
        self.get_logger().info(f"40 Hz loop, {self._priority.outcome}, {clock_name} clock")
        clock = self.get_clock() if self._sim_time else Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = self.create_timer(TICK_S, self._tick, clock=clock)

    def _tick(self) -> None:
        started = time.thread_time_ns()
        now_ns, steady_ns = self._clocks()
        loop = self._loop
        self._take(self._listening_takers if self._listens(steady_ns) else self._takers, now_ns, steady_ns)
        command = loop.tick(now_ns, steady_ns)
        message = self._command.filled(command)
        self._commands.publish(message)
        loop.statistics.record_cpu(time.thread_time_ns() - started)
        self._taken.publish(command.tick, message.header.stamp, steady_ns, loop.scheduled_ns)
        self._after(command, steady_ns)

    def _clocks(self) -> tuple[int, int]:
        """Now, nanoseconds: on the node's clock, and on the clock that ages are measured by."""
        if not self._sim_time:
            return time.time_ns(), time.monotonic_ns()
        # A simulated robot moves in simulated time, so its safety is measured in that.
        now_ns = self.get_clock().now().nanoseconds
        return now_ns, now_ns

    def _take(self, takers: Sequence[Callable[[int, int], None]], now_ns: int, steady_ns: int) -> None:
        """Offer the loop what has arrived since the last tick."""
        for take in takers:
            try:
                take(now_ns, steady_ns)
            except Exception as error:  # Whatever came on one topic: the others are read, and a command leaves.
                self._complain("input", f"internal error, what came was dropped: {type(error).__name__}: {error}")

    def _listens(self, steady_ns: int) -> bool:
        """Whether it is too early to follow anybody. A robot that is simulated in its own time endangers nobody."""
        if self._listening:
            self._first_ns = self._first_ns or steady_ns
            self._listening = steady_ns - self._first_ns < LISTENING_NS
        return self._listening

    def _take_episodes(self, now_ns: int, steady_ns: int) -> None:
        for status, _ in self._episodes.take():
            self._taken.note(msg.TickInputs.KIND_EPISODE, to_ns(status.header.stamp), int(status.state))
            problem = self._loop.set_episode(episode_of(status), now_ns, steady_ns)
            if problem is not None:
                self._complain("pace", f"episode {status.episode_id} is not followed: {problem}")

    def _take_states(self, now_ns: int, steady_ns: int) -> None:
        for state, received_ns in self._states.take_serialized():
            self._on_state(state, now_ns, steady_ns, self._waited(now_ns, received_ns))

    def _take_takeovers(self, now_ns: int, steady_ns: int) -> None:
        for request, received_ns in self._takeovers.take():
            self._on_takeover(request, now_ns, steady_ns, self._waited(now_ns, received_ns))

    def _take_chunks(self, now_ns: int, steady_ns: int) -> None:
        for chunk, received_ns in self._chunks.take():
            self._on_chunk(chunk, now_ns, steady_ns, self._waited(now_ns, received_ns))

    def _take_corrections(self, now_ns: int, steady_ns: int) -> None:
        for correction, received_ns in self._corrections.take():
            self._on_correction(correction, now_ns, steady_ns, self._waited(now_ns, received_ns))

    def _waited(self, now_ns: int, received_ns: int) -> int:
        """How long a message lay in its queue: it came then, not when this tick looked."""
        waited_ns = now_ns - received_ns
        # The middleware stamps with the system clock; a simulated clock, or one set in between, says nothing.
        return waited_ns if not self._sim_time and 0 < waited_ns < 1_000_000_000 else 0

    def _on_state(self, serialized: bytes, now_ns: int, steady_ns: int, waited_ns: int) -> None:
        try:
            state = robot_state_from_wire(serialized)
        except MessageError as error:
            self._loop.measurement.refused[StateRefusal.INVALID] += 1
            self._complain("state", f"{error}; the state before it stays in use until it is too old")
            return
        self._taken.note(msg.TickInputs.KIND_STATE, state.stamp_ns, waited_ns)
        refusal = self._loop.offer_state(state, now_ns - waited_ns, steady_ns - waited_ns)
        if refusal is StateRefusal.INVALID:
            self._complain("state", f"robot state refused: {invalid_state(state)}; check the robot driver")
        elif refusal is StateRefusal.FUTURE:
            ahead = (state.stamp_ns - now_ns) / 1e9
            self._complain("state", f"robot state is stamped {ahead:.3f} s in the future; synchronise the clocks")

    def _on_chunk(self, message: msg.ActionChunk, now_ns: int, steady_ns: int, waited_ns: int) -> None:
        self._taken.note(msg.TickInputs.KIND_CHUNK, to_ns(message.header.stamp), waited_ns)
        try:
            chunk = message_values.action_chunk(message)
        except MessageError as error:
            self._loop.refuse_chunk(str(error))
            self._complain("chunk", f"{error}; the chunk was refused")
            return
        refused = self._loop.offer_chunk(chunk, now_ns - waited_ns, steady_ns - waited_ns)
        if refused is None or refused.refusal in _SILENT:
            return
        if refused.refusal not in _UNDER_WAY or abs(now_ns - chunk.stamp_ns) > _YOUNG_NS:
            self._complain(f"chunk {refused.refusal.value}", f"chunk refused: {refused.text}")

    def _on_correction(self, message: msg.Correction, now_ns: int, steady_ns: int, waited_ns: int) -> None:
        self._taken.note(msg.TickInputs.KIND_CORRECTION, to_ns(message.header.stamp), waited_ns)
        try:
            correction = message_values.correction(message)
        except MessageError as error:
            self._loop.arbiter.invalid += 1
            self._complain("correction", f"{error}; the correction was ignored")
            return
        ignored = self._loop.offer_correction(correction, now_ns - waited_ns, steady_ns - waited_ns)
        if ignored is not None:
            self._complain(f"correction {ignored[0].value}", f"correction ignored: {ignored[1]}")

    def _on_takeover(self, message: msg.Takeover, now_ns: int, steady_ns: int, waited_ns: int) -> None:
        self._taken.note(msg.TickInputs.KIND_TAKEOVER, to_ns(message.header.stamp), waited_ns)
        request = message_values.takeover_request(message)
        refused = self._loop.offer_takeover(request, now_ns - waited_ns, steady_ns - waited_ns)
        if refused is not None:
            self._complain(f"takeover {refused[0].value}", f"takeover refused: {refused[1]}")

    def _after(self, command: Command, steady_ns: int) -> None:
        """What can wait until the command is out."""
        self._emergency_stop.keep()
        late = self._loop.statistics.watch.late
        if late != self._late_reported:
            self._complain("late", f"tick {command.tick} started more than half a period late; {late} so far")
            self._late_reported = late
        if self._loop.internal_errors and command.reason is Reason.INVALID_ACTION:
            self._complain("internal", f"internal error {self._loop.internal_errors}: {self._loop.last_error}")
        if (command.mode, command.reason) != self._reported:
            self._report(command)
        self._complain.log()
        if steady_ns >= self._figures_due_ns or steady_ns < self._figures_due_ns - 2_000_000_000:
            self._figures_due_ns = steady_ns + 1_000_000_000 - TICK_NS // 2
            self._figures.publish(statistics_message(self._loop, self.get_clock().now().to_msg()))
            if not self._sim_time:
                self._diagnostics.publish()
            if taken_back := self._priority.renew():
                self._complain("priority", taken_back)
            if not gc.isenabled():
                gc.collect()

    def _report(self, command: Command) -> None:
        before, self._reported = self._reported, (command.mode, command.reason)
        if command.mode in (Mode.STOP, Mode.EMERGENCY_STOP):
            self._complain(f"mode {command.mode}", f"{command.mode.name}: {command.reason_text}")
        elif command.mode is Mode.TAKEOVER and before[1] is not Reason.TAKEOVER_LOST:
            self.get_logger().info(command.reason_text)
        elif command.reason is Reason.TAKEOVER_LOST:
            self._complain("takeover lost", f"{command.mode.name}: {command.reason_text}")
        elif before[0] in (Mode.STOP, Mode.EMERGENCY_STOP):
            self.get_logger().info(f"{command.mode.name}: no longer stopped")

    def _on_statistics(
        self, _request: srv.GetLoopStatistics.Request, response: srv.GetLoopStatistics.Response
    ) -> srv.GetLoopStatistics.Response:
        response.statistics = statistics_message(self._loop, self.get_clock().now().to_msg())
        return response

    def _health(self) -> Health:
        loop, reason = self._loop, self._command.message.reason_text
        values = loop_figures(loop, reason)
        if loop.mode in (Mode.STOP, Mode.EMERGENCY_STOP) or loop.internal_errors:
            return ERROR, reason or loop.last_error, values
        if loop.mode in (Mode.HOLD, Mode.DECELERATE):
            return WARN, reason, values
        if loop.mode is Mode.TAKEOVER:
            return OK, f"{loop.takeover.person} has the robot", values
        if self._listening:
            return OK, "listening whether anybody asks for an emergency stop", values
        return OK, "following" if loop.mode is Mode.FOLLOW else "idle", values

    def _configure(self, parameters: ControllerParameters) -> None:
        self._loop.configure(loop_settings(parameters))


def main(args: Sequence[str] | None = None) -> int:
    """Run the controller node."""

    def make() -> Controller:
        node = Controller()
        # From here on garbage is collected by hand, after a command has left; what exists now is never looked at again.
        gc.collect()
        gc.freeze()
        gc.disable()
        return node

    return run(make, None if args is None else list(args))


if __name__ == "__main__":
    raise SystemExit(main())
