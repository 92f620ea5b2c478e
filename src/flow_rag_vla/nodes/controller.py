# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The 40 Hz controller: one command a tick, from the newest valid chunk, whatever else happens.

One thread does everything. At each tick it takes what has arrived (a bounded number of messages), decides, publishes
the command, and only then logs, publishes figures and collects garbage. No service of another node is ever called.
"""

from __future__ import annotations

import array
import gc
import os
import time
from collections.abc import Sequence

from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.event_handler import PublisherEventCallbacks
from rclpy.node import Node
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from flow_rag_vla.bringup import topics
from flow_rag_vla.bringup.loop_settings import check_limits, loop_settings
from flow_rag_vla.bringup.parameters.controller import ControllerParameters
from flow_rag_vla.control.ladder import Mode, Reason
from flow_rag_vla.control.latch import StopLatch, latch_file
from flow_rag_vla.control.loop import Command, ControlLoop, Episode
from flow_rag_vla.control.measurement import StateRefusal, invalid_state
from flow_rag_vla.control.queue import ChunkRefusal
from flow_rag_vla.control.statistics import Summary
from flow_rag_vla.core.action import TICK_NS, TICK_S, Provenance
from flow_rag_vla.data import message_values
from flow_rag_vla.data.message_values import MessageError
from flow_rag_vla.nodes import conversions, qos
from flow_rag_vla.nodes.complaints import remember
from flow_rag_vla.nodes.diagnostics import ERROR, OK, WARN, Diagnostics, Health
from flow_rag_vla.nodes.parameters import NodeParameters
from flow_rag_vla.nodes.permission import permitted
from flow_rag_vla.nodes.polling import PolledSubscription
from flow_rag_vla.nodes.priority import RaisedPriority
from flow_rag_vla.nodes.runtime import run
from flow_rag_vla.nodes.stamps import to_ns
from flow_rag_vla.nodes.wire import robot_state_from_wire
from flow_rag_vla_interfaces import msg, srv

_COMPLAINT_EVERY_NS = 1_000_000_000
_LONGEST_COMPLAINT = 1000
"""A refusal names what came, which may be a string of any length."""
_SILENT = frozenset({ChunkRefusal.DUPLICATE, ChunkRefusal.OLDER, ChunkRefusal.NO_EPISODE})
"""Refusals that are everyday: they are counted, not logged."""

_UNDER_WAY = frozenset({ChunkRefusal.OTHER_EPISODE, ChunkRefusal.DISPLACED})
"""Everyday too, if the chunk is young: it was on its way while the episode began."""

_YOUNG_NS = 500_000_000

_BY_SERVICE = 2
"""Key in TickInputs of an emergency stop, or of its reset, that a service call asked for."""

_ASKED_BY_TOPIC = f"asked for on topic {topics.EMERGENCY_STOP}"
_ASKED_BY_SERVICE = "asked for by a service call"


class Controller(Node):
    """Robot state, chunks and corrections in; one command every 25 ms out."""

    def __init__(self) -> None:
        super().__init__("controller")
        self._settings = NodeParameters(self, ControllerParameters, self._configure, check=check_limits)
        self._loop = ControlLoop(loop_settings(self._settings.value))
        self._sim_time = bool(self.get_parameter("use_sim_time").value)
        self._states = PolledSubscription(self, msg.RobotState, topics.ROBOT_STATE, qos.SENSOR)
        self._chunks = PolledSubscription(self, msg.ActionChunk, topics.ACTION_CHUNK, qos.PLAN)
        self._corrections = PolledSubscription(self, msg.Correction, topics.CORRECTION, qos.PLAN)
        self._episodes = PolledSubscription(self, msg.EpisodeStatus, topics.EPISODE_STATUS, qos.STATE)
        # Best effort, so that any teleoperation's publisher fits.
        self._takeovers = PolledSubscription(self, msg.Takeover, topics.TAKEOVER, qos.SENSOR)
        # A stop must arrive from a latched publisher that spoke before this node was there, and from one that does
        # not latch; a latched subscription would refuse the second. And one stop must not drown among those who say
        # at a high rate that they ask for none.
        self._stops = [
            PolledSubscription(self, Bool, topics.EMERGENCY_STOP, profile) for profile in (qos.STATE, qos.EVENT)
        ]
        self._stop_said = False
        self._stop_sayers: set[bytes] = set()
        """Publishers whose last word on the topic was true; some may be gone."""
        # Handlers of publisher events are looked at by the executor at every wake-up: a fifth of what the loop costs.
        # Subscribers with other quality of service still hear of it: their own side warns.
        quiet = PublisherEventCallbacks(use_default_callbacks=False)
        self._inputs = self.create_publisher(msg.TickInputs, topics.TICK_INPUTS, qos.EVENT, event_callbacks=quiet)
        self._taken: list[tuple[int, int, int]] = []
        """What came in since the last tick's record was published: kind, key and detail of TickInputs."""
        self._commands = self.create_publisher(
            msg.ControlCommand, topics.COMMAND, qos.command_profile(TICK_S), event_callbacks=quiet
        )
        self._figures = self.create_publisher(
            msg.LoopStatistics, topics.LOOP_STATISTICS, qos.STATE, event_callbacks=quiet
        )
        self.create_service(Trigger, topics.EMERGENCY_STOP_SERVICE, self._on_emergency_stop)
        self.create_service(Trigger, topics.EMERGENCY_STOP_RESET_SERVICE, permitted(self, self._on_reset))
        self.create_service(srv.GetLoopStatistics, topics.LOOP_STATISTICS_SERVICE, self._on_statistics)
        self._diagnostics = Diagnostics(self, "control loop", self._health, own_timer=self._sim_time)
        self._message = _empty_command()
        self._provenance: Provenance | None = None
        self._complaints: dict[str, tuple[int, int]] = {}
        self._pending: list[tuple[str, str]] = []
        self._reported: tuple[Mode, Reason] = (Mode.IDLE, Reason.NONE)
        self._late_reported = 0
        self._figures_due_ns = 0
        self._priority = RaisedPriority(self._settings.value.niceness, self._settings.value.realtime_priority)
        clock_name = "simulated" if self._sim_time else "steady"
        self.get_logger().info(f"40 Hz loop, {self._priority.outcome}, {clock_name} clock")
        file = self._settings.value.emergency_stop_file
        self._latch = StopLatch(latch_file(file, os.environ.get("ROS_DOMAIN_ID", ""), self.get_namespace()))
        self._restore_emergency_stop()
        clock = self.get_clock() if self._sim_time else Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = self.create_timer(TICK_S, self._tick, clock=clock)

    def _tick(self) -> None:
        started = time.thread_time_ns()
        now_ns, steady_ns = self._clocks()
        loop = self._loop
        try:
            self._take(now_ns, steady_ns)
        except Exception as error:  # Whatever came, a command leaves at every tick.
            self._complain("input", f"internal error, what came was dropped: {type(error).__name__}: {error}")
        command = loop.tick(now_ns, steady_ns)
        self._commands.publish(self._filled(command))
        loop.statistics.record_cpu(time.thread_time_ns() - started)
        self._record_inputs(command, steady_ns)
        self._after(command, steady_ns)

    def _clocks(self) -> tuple[int, int]:
        if not self._sim_time:
            return time.time_ns(), time.monotonic_ns()
        # A simulated robot moves in simulated time, so its safety is measured in that.
        now_ns = self.get_clock().now().nanoseconds
        return now_ns, now_ns

    def _take(self, now_ns: int, steady_ns: int) -> None:
        """Offer the loop what has arrived since the last tick."""
        for stops in self._stops:
            for stop, sender in stops.take_with_sender():
                self._taken.append((msg.TickInputs.KIND_EMERGENCY_STOP, int(stop.data), 0))
                self._stop_said = bool(stop.data)
                (self._stop_sayers.add if stop.data else self._stop_sayers.discard)(sender)
                if stop.data:
                    self._loop.emergency_stop(_ASKED_BY_TOPIC, steady_ns)
                    self._unkept = _ASKED_BY_TOPIC
        for status, _ in self._episodes.take():
            self._taken.append((msg.TickInputs.KIND_EPISODE, to_ns(status.header.stamp), int(status.state)))
            problem = self._loop.set_episode(_episode(status), now_ns, steady_ns)
            if problem is not None:
                self._complain("pace", f"episode {status.episode_id} is not followed: {problem}")
        for state, received_ns in self._states.take_serialized():
            self._on_state(state, now_ns, steady_ns, self._waited(now_ns, received_ns))
        for request, received_ns in self._takeovers.take():
            self._on_takeover(request, now_ns, steady_ns, self._waited(now_ns, received_ns))
        for chunk, received_ns in self._chunks.take():
            self._on_chunk(chunk, now_ns, steady_ns, self._waited(now_ns, received_ns))
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
        self._taken.append((msg.TickInputs.KIND_STATE, state.stamp_ns, waited_ns))
        refusal = self._loop.offer_state(state, now_ns - waited_ns, steady_ns - waited_ns)
        if refusal is StateRefusal.INVALID:
            self._complain("state", f"robot state refused: {invalid_state(state)}; check the robot driver")
        elif refusal is StateRefusal.FUTURE:
            ahead = (state.stamp_ns - now_ns) / 1e9
            self._complain("state", f"robot state is stamped {ahead:.3f} s in the future; synchronise the clocks")

    def _on_chunk(self, message: msg.ActionChunk, now_ns: int, steady_ns: int, waited_ns: int) -> None:
        self._taken.append((msg.TickInputs.KIND_CHUNK, to_ns(message.header.stamp), waited_ns))
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
        self._taken.append((msg.TickInputs.KIND_CORRECTION, to_ns(message.header.stamp), waited_ns))
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
        self._taken.append((msg.TickInputs.KIND_TAKEOVER, to_ns(message.header.stamp), waited_ns))
        request = message_values.takeover_request(message)
        refused = self._loop.offer_takeover(request, now_ns - waited_ns, steady_ns - waited_ns)
        if refused is not None:
            self._complain(f"takeover {refused[0].value}", f"takeover refused: {refused[1]}")

    def _filled(self, command: Command) -> msg.ControlCommand:
        message = self._message
        stamp = message.header.stamp
        stamp.sec, stamp.nanosec = divmod(command.stamp_ns, 1_000_000_000)
        message.tick = command.tick
        message.action = command.action
        target = command.target
        if target is not None:
            position, orientation = message.target.position, message.target.orientation
            position.x, position.y, position.z = target.position.tolist()
            orientation.x, orientation.y, orientation.z, orientation.w = target.orientation.tolist()
            message.gripper_width = float(target.gripper_width)
        message.mode, message.reason = int(command.mode), int(command.reason)
        message.reason_text = command.reason_text
        message.clamps = int(command.clamps)
        message.chunk_id, message.chunk_index = command.chunk_id, command.chunk_index
        message.observation_age_ms = command.observation_age_ms
        message.slowdown = 1.0 - command.pace
        if command.provenance is not self._provenance:
            self._provenance = command.provenance
            message.provenance = conversions.provenance_message(command.provenance)
        return message

    def _record_inputs(self, command: Command, steady_ns: int) -> None:
        """Say what this tick took in, for whoever records; a service call's detail is still its steady time."""
        taken, self._taken = self._taken, []
        if not self._inputs.get_subscription_count():
            return
        message = msg.TickInputs(tick=command.tick, steady=steady_ns, scheduled=self._loop.scheduled_ns)
        message.header.stamp = self._message.header.stamp
        message.kinds = array.array("B", [kind for kind, _, _ in taken])
        message.keys = array.array("Q", [max(key, 0) for _, key, _ in taken])
        message.details = array.array("I", [_detail(item, steady_ns) for item in taken])
        self._inputs.publish(message)

    def _complain(self, key: str, text: str) -> None:
        """Log after the command has left; once a second for each key, with the number left out since."""
        self._pending.append((key, text[:_LONGEST_COMPLAINT]))

    def _after(self, command: Command, steady_ns: int) -> None:
        """What can wait until the command is out."""
        if self._unkept:
            self._keep_emergency_stop(self._unkept)
        late = self._loop.statistics.watch.late
        if late != self._late_reported:
            self._complain("late", f"tick {command.tick} started more than half a period late; {late} so far")
            self._late_reported = late
        if self._loop.internal_errors and command.reason is Reason.INVALID_ACTION:
            self._complain("internal", f"internal error {self._loop.internal_errors}: {self._loop.last_error}")
        if (command.mode, command.reason) != self._reported:
            self._report(command)
        if self._pending:
            self._log()
        if steady_ns >= self._figures_due_ns or steady_ns < self._figures_due_ns - 2_000_000_000:
            self._figures_due_ns = steady_ns + 1_000_000_000 - TICK_NS // 2
            self._figures.publish(self._statistics())
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

    def _log(self) -> None:
        now = time.monotonic_ns()
        for key, text in self._pending:
            remember(self.get_logger().name, text)
            due, left_out = self._complaints.get(key, (0, 0))
            if now < due:
                self._complaints[key] = due, left_out + 1
                continue
            self._complaints[key] = now + _COMPLAINT_EVERY_NS, 0
            self.get_logger().warning(f"{text} ({left_out} more like this)" if left_out else text)
        self._pending.clear()

    def _restore_emergency_stop(self) -> None:
        """Begin with the emergency stop that the controller before this one had, if it was not released."""
        self._unkept = ""
        reason = self._latch.read()
        if reason is None:
            return
        steady_ns = self._clocks()[1]
        self._loop.emergency_stop(reason, steady_ns)
        # As it was asked for the first time, so that a replay of what this controller takes in says the same.
        key, detail = (1, 0) if reason == _ASKED_BY_TOPIC else (_BY_SERVICE, steady_ns)
        self._taken.append((msg.TickInputs.KIND_EMERGENCY_STOP, key, detail))
        self.get_logger().warning(
            f"the emergency stop was latched before this controller started ({reason}); release it with "
            f"{topics.EMERGENCY_STOP_RESET_SERVICE}"
        )

    def _keep_emergency_stop(self, reason: str) -> None:
        self._unkept = ""
        self._latch.keep(reason)
        if self._latch.problem:
            self._complain("latch", self._latch.problem)

    def _on_emergency_stop(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        steady_ns = self._clocks()[1]
        self._loop.emergency_stop(_ASKED_BY_SERVICE, steady_ns)
        self._taken.append((msg.TickInputs.KIND_EMERGENCY_STOP, _BY_SERVICE, steady_ns))
        self._keep_emergency_stop(_ASKED_BY_SERVICE)
        response.success, response.message = True, f"latched; release it with {topics.EMERGENCY_STOP_RESET_SERVICE}"
        if self._latch.problem:
            response.message += f" ({self._latch.problem})"
        return response

    def _on_reset(self, _request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        if self._stop_said:
            response.success = False
            response.message = f"topic {topics.EMERGENCY_STOP} still says true; publish false on it first"
            return response
        # One that is gone cannot take its word back; that of one that is there is not another's to take back.
        there = self._stops[0].publishers()
        self._stop_sayers &= there.keys()
        if self._stop_sayers:
            names = ", ".join(sorted({there[sayer] for sayer in self._stop_sayers}))
            response.success = False
            response.message = (
                f"{names} still says true on topic {topics.EMERGENCY_STOP}; publish false from there, or end it"
            )
            return response
        steady_ns = self._clocks()[1]
        latched = self._loop.reset_emergency_stop(steady_ns)
        self._taken.append((msg.TickInputs.KIND_EMERGENCY_STOP_RESET, _BY_SERVICE, steady_ns))
        self._unkept = ""
        self._latch.remove()
        if self._latch.problem:
            self._complain("latch", self._latch.problem)
        response.success = True
        response.message = (
            "released; an episode that it met is over for the controller: begin another"
            if latched
            else "there was no emergency stop"
        )
        return response

    def _on_statistics(
        self, _request: srv.GetLoopStatistics.Request, response: srv.GetLoopStatistics.Response
    ) -> srv.GetLoopStatistics.Response:
        response.statistics = self._statistics()
        return response

    def _statistics(self) -> msg.LoopStatistics:
        loop = self._loop
        figures = loop.statistics.figures()
        message = msg.LoopStatistics(
            window=figures.window_s,
            rate_hz=figures.rate_hz,
            tick_error_p50_ms=figures.tick_error.p50,
            tick_error_p99_ms=figures.tick_error.p99,
            tick_error_max_ms=figures.tick_error.maximum,
            cpu_mean_ms=figures.cpu.mean,
            cpu_max_ms=figures.cpu.maximum,
            ticks=figures.ticks,
            late_ticks=figures.late,
            skipped_ticks=figures.skipped,
            starved_ticks=figures.starved,
            chunks_accepted=loop.queue.accepted,
            chunks_rejected=loop.queue.refusals,
            corrections_applied=loop.arbiter.applied,
            corrections_timed_out=loop.arbiter.timed_out,
            mode=int(loop.mode),
            stages=[_stage(name, summary) for name, summary in figures.stages],
        )
        message.header.stamp = self.get_clock().now().to_msg()
        return message

    def _health(self) -> Health:
        loop = self._loop
        figures = loop.statistics.figures()
        last = self._message
        values: dict[str, object] = {
            "mode": loop.mode.name.lower(),
            "reason": last.reason_text,
            "rate_hz": round(figures.rate_hz, 2),
            "tick_error_p99_ms": round(figures.tick_error.p99, 3),
            "cpu_mean_ms": round(figures.cpu.mean, 3),
            "ticks": figures.ticks,
            "late_ticks": figures.late,
            "skipped_ticks": figures.skipped,
            "starved_ticks": figures.starved,
            "chunks_accepted": loop.queue.accepted,
            "corrections_applied": loop.arbiter.applied,
            "corrections_timed_out": loop.arbiter.timed_out,
            "takeovers": loop.takeover.taken,
            "speed_scale": round(loop.pace.value, 3),
            "clock_jumps": loop.clock_jumps,
            "internal_errors": loop.internal_errors,
        }
        values |= {f"chunks refused: {why.value}": count for why, count in loop.queue.refused.items()}
        values |= {f"takeovers refused: {why.value}": count for why, count in loop.takeover.refused.items()}
        values |= {f"states refused: {why.value}": count for why, count in loop.measurement.refused.items()}
        if loop.mode in (Mode.STOP, Mode.EMERGENCY_STOP) or loop.internal_errors:
            return ERROR, last.reason_text or loop.last_error, values
        if loop.mode in (Mode.HOLD, Mode.DECELERATE):
            return WARN, last.reason_text, values
        if loop.mode is Mode.TAKEOVER:
            return OK, f"{loop.takeover.person} has the robot", values
        return OK, "following" if loop.mode is Mode.FOLLOW else "idle", values

    def _configure(self, parameters: ControllerParameters) -> None:
        self._loop.configure(loop_settings(parameters))


def _detail(item: tuple[int, int, int], steady_ns: int) -> int:
    """Detail of one input as it is published."""
    kind, key, detail = item
    by_service = key == _BY_SERVICE and kind in (
        msg.TickInputs.KIND_EMERGENCY_STOP,
        msg.TickInputs.KIND_EMERGENCY_STOP_RESET,
    )
    return min(max(steady_ns - detail if by_service else detail, 0), 2**32 - 1)


def _empty_command() -> msg.ControlCommand:
    message = msg.ControlCommand()
    message.header.frame_id = topics.BASE_FRAME
    # Until a robot state has arrived no pose is safe to name; a quaternion of length 0 tells every receiver so.
    message.target.orientation.w = 0.0
    return message


def _episode(status: msg.EpisodeStatus) -> Episode:
    running = status.state == msg.EpisodeStatus.STATE_RUNNING
    remaining = float(status.timeout - status.elapsed) if status.timeout > 0.0 else None
    return Episode(
        int(status.episode_id),
        running,
        status.state == msg.EpisodeStatus.STATE_RESETTING,
        status.task,
        to_ns(status.header.stamp),
        remaining,
        1.0 - float(status.slowdown),
    )


def _stage(name: str, summary: Summary) -> msg.StageLatency:
    return msg.StageLatency(
        stage=name, count=summary.count, p50_ms=summary.p50, p99_ms=summary.p99, max_ms=summary.maximum
    )


def main(args: Sequence[str] | None = None) -> int:
    """Run the controller node."""

    def make() -> Controller:
        node = Controller()
        # From here on garbage is collected by hand, after a command has left; what exists now is never looked at again.
        gc.collect()
        gc.freeze()
        gc.disable()
        return node

    return run(make, None if args is None else list(args), shared_memory=False)


if __name__ == "__main__":
    raise SystemExit(main())
