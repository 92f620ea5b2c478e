# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The 40 Hz loop: whatever comes in, each tick gives exactly one command inside every limit.

One thread owns a loop: offers and ticks are called one after the other, never at the same time. Nothing here waits,
allocates without bound, or raises because of what came in.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.control.account import Account
from flow_rag_vla.control.arbiter import Arbiter, CorrectionRefusal
from flow_rag_vla.control.clock import ClockWatch, TickSchedule
from flow_rag_vla.control.command import Command, Episode
from flow_rag_vla.control.integrator import Clamp, TargetIntegrator
from flow_rag_vla.control.ladder import STARVED, Mode, Reason, SafetyLadder
from flow_rag_vla.control.measurement import Measurement, StateRefusal
from flow_rag_vla.control.pace import Pace, invalid_pace, played
from flow_rag_vla.control.queue import ChunkQueue, ChunkRefusal, HeldChunk, Refused
from flow_rag_vla.control.settings import LoopSettings
from flow_rag_vla.control.statistics import LoopStatistics
from flow_rag_vla.control.takeover import Takeover, TakeoverRefusal, TakeoverRequest
from flow_rag_vla.core.action import ACTION_DIM, GRIPPER, ROTATION, TICK_NS, TRANSLATION, ActionChunk
from flow_rag_vla.core.correction import Correction
from flow_rag_vla.core.rotation import quaternion_conjugate, quaternion_multiply, rotation_vector_from_quaternion
from flow_rag_vla.core.state import CartesianTarget, RobotState

__all__ = ["SQUEEZE_N", "Command", "ControlLoop", "Episode", "LoopSettings"]

SQUEEZE_N = 1.0
"""Effort above which a gripper is taken to hold something."""

_LET_GO = " and must let go of the controls, which were deflected when the emergency stop was reset"
_LONGEST_S = 1e9
"""Keeps an absurd time limit inside the range of integer nanoseconds."""


class ControlLoop:
    """Chunk queue, arbiter, safety ladder and target integrator behind one tick.

    Wherever they are asked for, ``now_ns`` is the moment on the node's clock, on which stamps are made, and
    ``steady_ns`` the same moment on a clock that never jumps. On simulated time both are the simulated one.
    """

    def __init__(self, settings: LoopSettings | None = None) -> None:
        self.settings = settings or LoopSettings()
        values = self.settings
        self.pace = Pace()
        """The pace in force: the least that was asked for in the running episode, 1 without one."""
        self.queue = ChunkQueue(values.max_observation_age_ns, values.future_tolerance_ns, self.pace)
        self.arbiter = Arbiter(values.arbiter)
        self.ladder = SafetyLadder(values.ladder)
        self.measurement = Measurement(values.future_tolerance_ns, values.state_jump_m)
        self.takeover = Takeover(values.max_takeover_age_ns, values.future_tolerance_ns)
        self.statistics = LoopStatistics(values.statistics_window_ticks)
        self.anchors = 0
        """How often the target was put anew where the tool is (start, reset, robot moved by others)."""
        self.clock_jumps = 0
        self.internal_errors = 0
        """Ticks whose command had to be replaced by the last resort; anything but 0 is a defect."""
        self.last_error = ""
        self._integrator = TargetIntegrator(values.limits)
        self._clock = ClockWatch(values.clock_jump_ns)
        self._schedule = TickSchedule()
        self._episode = Episode()
        self._expires_ns: int | None = None
        self._stopped_episode: int | None = None
        """The episode that an emergency stop ended, for as long as it is said to run."""
        self._tick = 0
        self._opening: float | None = None
        self._rest: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None
        self._target: CartesianTarget | None = None
        self._displacements = 0
        self._reset_ended_ns: int | None = None
        self._account = Account(self.measurement, self.takeover)

    @property
    def mode(self) -> Mode:
        """Mode of the last tick."""
        return self.ladder.mode

    @property
    def episode(self) -> Episode:
        """The episode last told of."""
        return self._episode

    def configure(self, settings: LoopSettings) -> None:
        """Take other settings from the next tick on; the statistics window stays as it was."""
        self.settings = settings
        self.queue.max_age_ns = settings.max_observation_age_ns
        self.queue.future_tolerance_ns = self.measurement.future_tolerance_ns = settings.future_tolerance_ns
        self.measurement.jump_m = settings.state_jump_m
        self.takeover.max_age_ns = settings.max_takeover_age_ns
        self.takeover.future_tolerance_ns = settings.future_tolerance_ns
        self.arbiter.settings, self.ladder.times = settings.arbiter, settings.ladder
        self._integrator.limits, self._clock.tolerance_ns = settings.limits, settings.clock_jump_ns

    @property
    def scheduled_ns(self) -> int:
        """Moment, on the node's clock, that the last tick stood for; 0 before the first."""
        return self._schedule.scheduled_ns or 0

    def resume(self, command: Command) -> None:
        """Continue after a command that was given before: for a replay that begins in the middle of a recording.

        What a command does not tell (times spent in a mode, corrections that wait) begins anew.
        """
        self._tick, self._target, self._opening = command.tick, command.target, float(command.action[GRIPPER])
        if command.target is not None:
            self._opening = command.target.gripper_width / self.settings.limits.gripper_width
            self._integrator.resume(
                command.target.position, command.target.orientation, command.action[TRANSLATION].astype(np.float64)
            )

    def expect(self, tick: int, scheduled_ns: int) -> None:
        """Number the next tick, and say for which moment (node clock) it stands: for a replay, tick by tick."""
        self._tick = tick - 1
        self._schedule.expect(scheduled_ns)

    def offer_chunk(self, chunk: ActionChunk, now_ns: int, steady_ns: int) -> Refused | None:
        """Follow this chunk from the next tick on (None), or say why not."""
        refused = self.queue.offer(chunk, now_ns, steady_ns)
        if refused is not None:
            if refused.refusal is ChunkRefusal.INVALID:
                self._account.invalid = refused.text
            return refused
        self._account.jump_ns, self._account.invalid = None, ""
        self.statistics.record_stage("capture_to_chunk", now_ns - chunk.stamp_ns)
        held = self.queue.held
        if held is not None:
            self.arbiter.on_chunk(held, self._first_row(held, now_ns))
        return None

    def refuse_chunk(self, text: str) -> None:
        """Count a chunk that was too malformed to become an ActionChunk."""
        self.queue.refused[ChunkRefusal.INVALID] += 1
        self._account.invalid = text

    def offer_state(self, state: RobotState, now_ns: int, steady_ns: int) -> StateRefusal | None:
        """Take this state as the present one (None), or say why not."""
        return self.measurement.offer(state, now_ns, steady_ns)

    def offer_correction(
        self, correction: Correction, now_ns: int, steady_ns: int
    ) -> tuple[CorrectionRefusal, str] | None:
        """Apply this correction to its chunk, now or when that comes; say why if it is ignored."""
        held = self.queue.held
        first_row = 0 if held is None else self._first_row(held, now_ns)
        return self.arbiter.offer(correction, held, first_row, steady_ns)

    def offer_takeover(
        self, request: TakeoverRequest, now_ns: int, steady_ns: int
    ) -> tuple[TakeoverRefusal, str] | None:
        """Follow a person from the next tick on, or the policy again if the robot is released; say why not."""
        had = self.takeover.held
        refused = self.takeover.offer(request, now_ns, steady_ns)
        if refused is None and request.active:
            self._account.jump_ns = None
        if refused is None and had != self.takeover.held:
            self.arbiter.clear()
            if had:
                # What was planned while a person moved the robot is not what the policy wants now.
                self.queue.drop(now_ns, ChunkRefusal.TAKEOVER)
        return refused

    def set_episode(self, episode: Episode, now_ns: int, steady_ns: int) -> str | None:
        """Take note of where the episode stands. The beginning and the end of one drop every chunk from before.

        The pace can only fall while the episode runs. An episode whose pace makes no sense is not followed; what is
        wrong with it is given back. One during which the emergency stop was pressed is not followed again, whoever
        says that it runs.
        """
        if not (episode.running and episode.episode_id == self._stopped_episode):
            self._stopped_episode = None
        problem = invalid_pace(episode.pace) if episode.running else None
        self._account.pace = problem or ""
        if problem is not None:
            episode = replace(episode, running=False, pace=1.0)
        before, self._episode = self._episode, episode
        self._end_by_stop()
        self.measurement.trusting = episode.resetting
        if before.resetting and not episode.resetting:
            self._reset_ended_ns = steady_ns
        self._keep_pace(before, episode, now_ns)
        if episode.running and not (before.running and before.episode_id == episode.episode_id):
            started = min(now_ns, episode.stamp_ns) if episode.stamp_ns > 0 else now_ns
            self.queue.open(episode.task, started)
            self.arbiter.clear()
            self._account.invalid = ""
        elif not episode.running:
            self.queue.close()
            self.arbiter.clear()
        self._expires_ns = None
        if episode.running and episode.remaining_s is not None and math.isfinite(episode.remaining_s):
            remaining_s = min(max(episode.remaining_s, -_LONGEST_S), _LONGEST_S)
            self._expires_ns = steady_ns + int(remaining_s * 1e9) + self.settings.episode_grace_ns
        return problem

    def _keep_pace(self, before: Episode, episode: Episode, now_ns: int) -> None:
        pace = self.pace
        if episode.running and before.running and before.episode_id == episode.episode_id:
            pace.lower(episode.pace, now_ns)
        else:
            pace.begin(episode.pace if episode.running else 1.0)
        self._integrator.pace = pace.value

    def emergency_stop(self, reason: str, steady_ns: int) -> None:
        """Latch the emergency stop; it holds until it is reset. The episode that runs is not followed again."""
        if not self.ladder.emergency:
            self._account.emergency = reason
        self.ladder.emergency_stop(steady_ns)
        self._end_by_stop()

    def _end_by_stop(self) -> None:
        # The episode manager ends this episode. Until it has, releasing the stop must not set the arm going again.
        if self.ladder.emergency and self._episode.running:
            self._stopped_episode = self._episode.episode_id
        self._account.ended = self._stopped_episode is not None

    def reset_emergency_stop(self, steady_ns: int) -> bool:
        """Release the latch into STOP; give whether there was one."""
        latched = self.ladder.emergency
        self.ladder.reset_emergency_stop(steady_ns)
        if latched:
            self._account.stopped = (Reason.EMERGENCY_STOP, "emergency stop was reset")
            self.takeover.wait_for_rest()
        return latched

    def tick(self, now_ns: int, steady_ns: int) -> Command:
        """Give the command of this tick; never raises."""
        self._tick += 1
        jump = self._clock.observe(now_ns, steady_ns)
        if jump:
            self._on_clock_jump(jump, now_ns, steady_ns)
        self.statistics.record_tick(steady_ns)
        try:
            command = self._command(now_ns, steady_ns)
        except Exception as error:  # A command must leave whatever is wrong in here; the count tells on it.
            command = self._last_resort(error, now_ns, steady_ns)
        self._target = command.target
        return command

    def _on_clock_jump(self, jump_ns: int, now_ns: int, steady_ns: int) -> None:
        self.clock_jumps += 1
        self._account.jump_ns = jump_ns
        self.queue.drop(now_ns)
        self.measurement.clear()
        self.arbiter.clear()
        self.takeover.clock_jumped()
        self.ladder.clock_jumped(steady_ns)
        self._schedule.restart()
        # When the pace fell is told by the clock that jumped; rows from before the jump are not played any more.
        self.pace.begin(self.pace.value)
        self.statistics.watch.restart()
        # Moments on the steady clock stay what they are when the node's clock is set; simulated time takes them along.
        if back_ns := self._clock.steady_back_ns:
            if self._expires_ns is not None:
                self._expires_ns = max(steady_ns, self._expires_ns - back_ns)
            if self._reset_ended_ns is not None:
                self._reset_ended_ns -= back_ns

    def _command(self, now_ns: int, steady_ns: int) -> Command:
        scheduled_ns = self._schedule.at(now_ns)
        fresh = self.measurement.state
        if fresh is not None and self.measurement.age_ns(steady_ns) > self.settings.max_state_age_ns:
            fresh = None
        self._anchor(fresh)
        # While the robot is put into its start nobody moves it.
        if self.takeover.held and not self._episode.resetting:
            return self._taken_over(fresh, now_ns, steady_ns)
        row = self.queue.row(scheduled_ns)
        reason = self._reason(fresh, row, steady_ns)
        held = self.queue.held
        mode = self.ladder.step(
            Reason.EPISODE_INACTIVE if self._inactive(steady_ns) else reason,
            steady_ns,
            None if held is None else held.arrival_steady_ns,
            None if fresh is None else self.measurement.arrival_steady_ns,
        )
        if mode not in (Mode.DECELERATE, Mode.EMERGENCY_STOP):
            self._rest = None
        if mode is Mode.FOLLOW and held is not None and row is not None and fresh is not None:
            return self._follow(held, row, fresh, now_ns, steady_ns)
        return self._stay(mode, reason, fresh, now_ns, steady_ns)

    def _taken_over(self, fresh: RobotState | None, now_ns: int, steady_ns: int) -> Command:
        takeover = self.takeover
        reason = Reason.NONE if takeover.heard(steady_ns) else Reason.TAKEOVER_LOST
        if fresh is None:
            reason = self._stateless()
        mode = self.ladder.step(
            reason,
            steady_ns,
            takeover.arrival_steady_ns,
            None if fresh is None else self.measurement.arrival_steady_ns,
            Mode.TAKEOVER,
        )
        if mode not in (Mode.DECELERATE, Mode.EMERGENCY_STOP):
            self._rest = None
        if mode is not Mode.TAKEOVER or fresh is None:
            return self._stay(mode, reason, fresh, now_ns, steady_ns)
        opening = self._opening if self._opening is not None else 0.0
        target, sent, clamps = self._advance(takeover.action(opening), fresh)
        self._opening = float(sent[GRIPPER])
        return Command(
            tick=self._tick,
            stamp_ns=now_ns,
            action=sent,
            target=target,
            mode=mode,
            reason=Reason.TAKEOVER,
            reason_text=f"{takeover.person} has the robot{_LET_GO if takeover.to_let_go else ''}",
            clamps=clamps,
            observation_age_ms=takeover.age_ns(steady_ns) / 1e6,
            provenance=takeover.provenance,
            pace=self.pace.value,
        )

    def _follow(self, held: HeldChunk, row: float, state: RobotState, now_ns: int, steady_ns: int) -> Command:
        chunk, age_ns = held.chunk, held.age_ns(steady_ns)
        target, sent, clamps = self._advance(played(chunk.actions, row, self.pace.value), state)
        self._opening = float(sent[GRIPPER])
        if not held.used:
            held.used = True
            self.statistics.record_stage("chunk_to_command", steady_ns - held.arrival_steady_ns)
            self.statistics.record_stage("capture_to_command", age_ns)
        return Command(
            tick=self._tick,
            stamp_ns=now_ns,
            action=sent,
            target=target,
            mode=Mode.FOLLOW,
            clamps=clamps,
            chunk_id=chunk.chunk_id,
            chunk_index=int(row),
            observation_age_ms=age_ns / 1e6,
            provenance=chunk.provenance,
            pace=self.pace.value,
        )

    def _stay(self, mode: Mode, reason: Reason, fresh: RobotState | None, now_ns: int, steady_ns: int) -> Command:
        held = self.queue.held
        reason, text = self._account.told(mode, reason, self._episode, held, steady_ns)
        if reason in STARVED and mode is not Mode.IDLE and self._episode.running:
            self.statistics.starved += 1
        pose = self._integrator.pose
        state = fresh
        if state is None and pose is not None:
            # Nobody knows where the tool is: the target rests where it is, whatever an old measurement says.
            state = RobotState(now_ns, pose[0], pose[1])
        if state is None:
            sent = np.zeros(ACTION_DIM, dtype=np.float32)
            return Command(self._tick, now_ns, sent, None, mode, reason, text, pace=self.pace.value)
        target, sent, clamps = self._advance(self._resting(fresh, steady_ns), state)
        command = Command(self._tick, now_ns, sent, target, mode, reason, text, clamps, pace=self.pace.value)
        if reason is not Reason.MEMORY_HOLD or held is None:
            return command
        chunk, age_ms = held.chunk, held.age_ns(steady_ns) / 1e6
        return replace(command, chunk_id=chunk.chunk_id, observation_age_ms=age_ms, provenance=chunk.provenance)

    def _resting(self, fresh: RobotState | None, steady_ns: int) -> NDArray[np.float64]:
        """Action (7,) of a tick that follows nothing: none, or the way back to where the tool was measured."""
        action = np.zeros(ACTION_DIM)
        action[GRIPPER] = self._opening if self._opening is not None else 0.0
        pose = self._integrator.pose
        ticks = self.ladder.release_ticks(steady_ns, TICK_NS)
        if ticks is None or pose is None:
            return action
        if self._rest is None and fresh is not None:
            self._rest = fresh.position, fresh.orientation
        if self._rest is not None:
            action[TRANSLATION] = (self._rest[0] - pose[0]) / ticks
            turn = quaternion_multiply(self._rest[1], quaternion_conjugate(pose[1]))
            action[ROTATION] = rotation_vector_from_quaternion(turn) / ticks
        return action

    def _advance(
        self, action: NDArray[np.floating], state: RobotState
    ) -> tuple[CartesianTarget, NDArray[np.float32], Clamp]:
        target, sent, clamps = self._integrator.advance(action, state)
        total = float(target.position.sum() + target.orientation.sum() + sent.sum()) + target.gripper_width
        if not math.isfinite(total):
            raise ArithmeticError(f"target {target} is not finite")
        return target, sent, clamps

    def _anchor(self, fresh: RobotState | None) -> None:
        """Put the target where the tool is, when the robot was moved by others than this loop."""
        if fresh is None:
            return
        measured_opening = min(max(fresh.gripper_width / self.settings.limits.gripper_width, 0.0), 1.0)
        if self._opening is None:
            # A hand that squeezes something stands where that stops it: told to be there, it would let go.
            self._opening = 0.0 if fresh.gripper_effort > SQUEEZE_N else measured_opening
        moved = self.measurement.displacements != self._displacements
        if moved:
            self._displacements = self.measurement.displacements
            self.queue.drop(fresh.stamp_ns, ChunkRefusal.DISPLACED)
        # What a reset did may be seen only after it has ended, and may be less than a displacement.
        awaited = self._reset_ended_ns is not None
        if self._reset_ended_ns is not None and self.measurement.arrival_steady_ns > self._reset_ended_ns:
            self._reset_ended_ns = None
        if moved or awaited or self._episode.resetting:
            self._integrator.reset()
            self._rest = None
            # A gripper that squeezes keeps what it holds; one that others have opened stays open.
            if not fresh.gripper_effort > SQUEEZE_N:
                self._opening = measured_opening
        if self._integrator.pose is None:
            self.anchors += 1

    def _inactive(self, steady_ns: int) -> bool:
        expired = self._expires_ns is not None and steady_ns > self._expires_ns
        return not self._episode.running or self._stopped_episode is not None or expired

    def _reason(self, fresh: RobotState | None, row: float | None, steady_ns: int) -> Reason:
        """Why the chunk held cannot be followed at this tick; NONE if it can."""
        if fresh is None:
            return self._stateless()
        held = self.queue.held
        if held is None:
            if self._account.jump_ns is not None:
                return Reason.CLOCK_JUMP
            return Reason.INVALID_ACTION if self._account.invalid else Reason.NO_CHUNK
        if row is None:
            return Reason.INVALID_ACTION if self._account.invalid else Reason.CHUNK_EXHAUSTED
        if held.age_ns(steady_ns) > self.settings.max_observation_age_ns:
            return Reason.INVALID_ACTION if self._account.invalid else Reason.CHUNK_TOO_OLD
        return Reason.MEMORY_HOLD if held.hold else Reason.NONE

    def _stateless(self) -> Reason:
        """Why there is no fresh state."""
        if self.measurement.state is not None:
            return Reason.STATE_TOO_OLD
        # A clock jump drops the state from before it.
        return Reason.STATE_MISSING if self._account.jump_ns is None else Reason.CLOCK_JUMP

    def _first_row(self, held: HeldChunk, now_ns: int) -> int:
        """The row that the next command will use; those before it are history."""
        return int(self.pace.rows(held.chunk.stamp_ns, now_ns))

    def _last_resort(self, error: Exception, now_ns: int, steady_ns: int) -> Command:
        self.internal_errors += 1
        self.last_error = f"{type(error).__name__}: {error}"
        self.ladder.stop(steady_ns)
        text = f"internal error, stopped: {self.last_error}"
        self._account.stopped = Reason.INVALID_ACTION, text
        action = np.zeros(ACTION_DIM, dtype=np.float32)
        action[GRIPPER] = self._opening or 0.0
        mode, pace = self.ladder.mode, self.pace.value
        return Command(self._tick, now_ns, action, self._target, mode, Reason.INVALID_ACTION, text, pace=pace)
