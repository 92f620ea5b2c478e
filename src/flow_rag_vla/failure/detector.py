# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Runs the rules and the monitor over one episode and tells each failure once."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.action import TICK_NS, ActionChunk
from flow_rag_vla.core.failure import Evidence, FailureType
from flow_rag_vla.core.phase import Phase
from flow_rag_vla.core.rotation import (
    quaternion_conjugate,
    quaternion_multiply,
    rotation_vector_from_quaternion,
)
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.failure.before_after import NAME as BEFORE_AFTER
from flow_rag_vla.failure.frame import Frame, hand_yaw
from flow_rag_vla.failure.grip import Grip, GripLimits
from flow_rag_vla.failure.monitor import Monitor, Reading
from flow_rag_vla.failure.phase import PhaseTracker
from flow_rag_vla.failure.rules import force_limit, make_rules
from flow_rag_vla.failure.sample import Command, Episode, FailureReport, Sample
from flow_rag_vla.failure.thresholds import RuleThresholds

MAX_GAP_S = 1.0
"""States farther apart than this do not belong to one stretch of time: the clock jumped, or the driver paused."""

HISTORY_S = 20.0
"""How far back the phase of an onset can be told."""

STATES_KEPT = 60
"""Robot states, 1.5 s of them, among which an embedding finds the one of its own stamp."""

COMMANDS_KEPT = 8
"""Commands among which a state finds the one that the robot has had time to follow."""

_CONTACT = frozenset({FailureType.COLLISION, FailureType.MISALIGNMENT})


class FailureDetector:
    """Watches one episode at a time. Not safe for several threads."""

    def __init__(
        self,
        thresholds: RuleThresholds | None = None,
        monitor: Monitor | None = None,
    ) -> None:
        """Make a detector.

        Args:
            thresholds: of the rules.
            monitor: None: rules alone.
        """
        self.monitor = monitor
        self._episode: Episode | None = None
        self._commands: deque[Command] = deque(maxlen=COMMANDS_KEPT)
        self.configure(thresholds or RuleThresholds())

    def configure(self, thresholds: RuleThresholds) -> None:
        """Take new thresholds; the present episode is watched on with fresh rules."""
        self.thresholds = thresholds
        self._rules = make_rules(thresholds)
        self._tracker = PhaseTracker(
            grip_limits=GripLimits(
                thresholds.grasp_empty_width, thresholds.grasp_hold_effort, thresholds.grasp_settle_time
            )
        )
        self._forget()

    def _forget(self) -> None:
        for rule in self._rules:
            rule.reset()
        self._tracker.reset()
        self._phases: deque[tuple[int, Phase]] = deque()
        self._stamp_ns = 0
        self._states: deque[tuple[RobotState, float]] = deque(maxlen=STATES_KEPT)
        self._grip_command_ns = -1
        self._grip_onset_ns = 0
        self._held_from: tuple[int, NDArray[np.float64]] | None = None
        self._carried = 0.0
        self._told: dict[FailureType, int] = {}
        self._pending: Frame | None = None
        self._seen_ns = -1
        self._strain = self._evidence = 0.0
        if self.monitor is not None:
            self.monitor.start()

    @property
    def episode(self) -> Episode | None:
        """The episode that is watched; None between episodes."""
        return self._episode

    @property
    def phase(self) -> Phase:
        """The present phase; IDLE between episodes."""
        return self._tracker.phase

    def start(self, episode: Episode) -> None:
        """Watch a new episode; nothing of the one before is kept."""
        self._episode = episode
        self._commands.clear()
        self._forget()

    def stop(self) -> None:
        """The episode is over: be silent until the next one."""
        self._episode = None
        self._forget()

    def offer_command(self, command: Command) -> None:
        """Take the command that was just given to the robot."""
        self._commands.append(command)

    def update(self, state: RobotState) -> tuple[FailureReport, ...]:
        """Take one robot state in; what it shows, usually nothing.

        A stamp that goes back, or ahead by more than MAX_GAP_S, begins the episode anew. A state seen twice is ignored.

        Raises:
            ValueError: if a number is not finite. Nothing of such a state is used.
        """
        _check_finite(state)
        if self._episode is None:
            return ()
        stamp_ns = state.stamp_ns
        if self._states:
            gap = (stamp_ns - self._stamp_ns) * 1e-9
            if gap == 0.0:
                return ()
            if gap < 0.0 or gap > MAX_GAP_S:
                self._episode = replace(self._episode, start_ns=stamp_ns)
                self._commands.clear()
                self._forget()
        self._stamp_ns = stamp_ns
        sample = self._sample(state, self._episode)
        self._strain = max(self._strain, self._strain_of(sample))
        reports = []
        for rule in self._rules:
            report = rule.update(sample)
            if report is not None and not self._is_told(report):
                reports.append(replace(report, phase=self._phase_at(report.onset_ns)))
                # Time that has run out says that it failed, not that it will.
                if report.failure_type is not FailureType.TIMEOUT:
                    self._evidence += report.confidence
                self._told[report.failure_type] = stamp_ns
            if rule.active and rule.failure_type in self._told:
                # A situation that lasts keeps what it causes merged with it.
                self._told[rule.failure_type] = stamp_ns
        return tuple(reports)

    def offer_embedding(self, stamp_ns: int, embedding: NDArray[np.float32]) -> Frame | None:
        """Take one embedding in: (D,) float32, unit length, captured at ``stamp_ns``.

        A frame is complete with the chunk that was made of its embedding. Returned is the frame before if its chunk
        has never come; usually None. An embedding that is not newer than the last is ignored.
        """
        if self._episode is None or not self._states or stamp_ns <= self._seen_ns:
            return None
        before, self._seen_ns = self._pending, stamp_ns
        episode = self._episode
        state, opening = min(self._states, key=lambda entry: abs(entry[0].stamp_ns - stamp_ns))
        self._pending = Frame(
            stamp_ns=stamp_ns,
            elapsed=episode.pace * (stamp_ns - episode.start_ns) * 1e-9,
            task=episode.task,
            goal=episode.goal,
            phase=self._tracker.phase,
            phase_elapsed=episode.pace * max(0.0, (stamp_ns - self._tracker.since_ns) * 1e-9),
            embedding=embedding,
            position=state.position,
            yaw=hand_yaw(state.orientation),
            gripper_width=state.gripper_width,
            opening=opening,
            strain=self._strain,
            evidence=self._evidence,
            pace=episode.pace,
        )
        self._strain = 0.0
        return before

    def offer_chunk(self, chunk: ActionChunk) -> Frame | None:
        """Take one chunk in; the frame that it completes, None if it was made of another embedding than the last."""
        pending = self._pending
        if pending is None or pending.stamp_ns != chunk.stamp_ns:
            return None
        self._pending = None
        return replace(pending, chunk=chunk)

    def judge(self, frame: Frame) -> tuple[Reading | None, FailureReport | None]:
        """What the monitor says about a frame; and an event when it is the one at which the episode leaves the band.

        Nothing without a monitor, without an episode, or for a task that the calibration does not know.
        """
        if self.monitor is None or self._episode is None:
            return None, None
        reading = self.monitor.update(frame)
        if reading is None or not reading.raised:
            return reading, None
        # A rule names the type and the reason; where one has just spoken the monitor has nothing to add.
        window_ns = int(self.thresholds.merge_time * 1e9)
        if any(reading.stamp_ns - told <= window_ns for told in self._told.values()):
            return reading, None
        self._told[FailureType.UNKNOWN] = reading.stamp_ns
        evidence = [Evidence("fused_score", reading.score, reading.band), reading.evidence(reading.leading)]
        if BEFORE_AFTER in reading.names and reading.leading != BEFORE_AFTER:
            beside = reading.evidence(BEFORE_AFTER)
            # Without a band, or while it says nothing, it is none.
            evidence += [beside] if math.isfinite(beside.value) and math.isfinite(beside.threshold) else []
        evidence.append(Evidence("p_value", reading.p_value, self.monitor.calibration.rate))
        return reading, FailureReport(
            FailureType.UNKNOWN,
            reading.stamp_ns,
            reading.onset_ns,
            self._phase_at(reading.onset_ns),
            1.0 - reading.p_value,
            "monitor",
            f"unlike success: {reading.reason}",
            tuple(evidence),
        )

    def _sample(self, state: RobotState, episode: Episode) -> Sample:
        command = self._commands[-1] if self._commands else None
        phase = self._tracker.update(state, math.nan if command is None else command.opening, episode.task)
        grip = self._tracker.grip
        assert grip is not None  # the tracker has just seen a sample
        if grip.command_ns != self._grip_command_ns:
            self._grip_command_ns = grip.command_ns
            self._grip_onset_ns = state.stamp_ns
            if command is not None and 0 < command.observation_stamp_ns <= state.stamp_ns:
                self._grip_onset_ns = command.observation_stamp_ns
        self._states.append((state, 0.0 if grip.closing else 1.0))
        if not self._phases or self._phases[-1][1] is not phase:
            self._phases.append((state.stamp_ns, phase))
        while len(self._phases) > 1 and (state.stamp_ns - self._phases[1][0]) * 1e-9 > HISTORY_S:
            self._phases.popleft()
        error, angle = self._tracking(state)
        since_ns = self._tracker.since_ns
        self._follow_hold(state, grip)
        return Sample(state, command, episode, phase, since_ns, grip, error, angle, self._grip_onset_ns, self._carried)

    def _follow_hold(self, state: RobotState, grip: Grip) -> None:
        """How far the tool has moved while the present or lost hold was firm."""
        if not grip.hold_ns:
            self._held_from, self._carried = None, 0.0
        elif self._held_from is None or self._held_from[0] != grip.hold_ns:
            self._held_from, self._carried = (grip.hold_ns, state.position), 0.0
        elif grip.holding and grip.firm_ns == state.stamp_ns:
            # The phase also says that something is carried while fingers that have lost their hold are still closing.
            x, y, z = (float(value) for value in state.position - self._held_from[1])
            self._carried = math.sqrt(x * x + y * y + z * z)

    def _strain_of(self, sample: Sample) -> float:
        """The strongest of what rules look at that never stands still, as a share of its threshold."""
        limits = self.thresholds
        x, y, z = (float(value) for value in sample.state.wrench[:3])
        if sample.command is None or not sample.command.following:
            # Targets and forces left over from before say nothing about what the robot is told to do now.
            return 0.0
        force = math.sqrt(x * x + y * y + z * z) / force_limit(limits, sample.episode.task, sample.phase)
        distance = sample.tracking_error / limits.misalignment_distance
        return max(force, distance, sample.tracking_angle / limits.misalignment_angle)

    def _tracking(self, state: RobotState) -> tuple[float, float]:
        """Metres and radians between the tool and the newest target that it has had one tick to follow."""
        if not self._commands:
            return 0.0, 0.0
        due_ns = state.stamp_ns - TICK_NS
        target = next((item for item in reversed(self._commands) if item.stamp_ns <= due_ns), self._commands[0]).target
        x, y, z = (float(value) for value in target.position - state.position)
        turn = quaternion_multiply(target.orientation, quaternion_conjugate(state.orientation))
        rx, ry, rz = (float(value) for value in rotation_vector_from_quaternion(turn))
        return math.sqrt(x * x + y * y + z * z), math.sqrt(rx * rx + ry * ry + rz * rz)

    def _is_told(self, report: FailureReport) -> bool:
        if report.failure_type is FailureType.GRASP_FAILURE:
            # One closing of the hand fails once, whichever rule saw it first.
            return self._told.get(FailureType.GRASP_FAILURE, -1) > report.onset_ns
        if report.failure_type not in _CONTACT:
            return False
        merge_ns = int(self.thresholds.merge_time * 1e9)
        return any(report.stamp_ns - self._told[kind] <= merge_ns for kind in _CONTACT if kind in self._told)

    def _phase_at(self, stamp_ns: int) -> Phase:
        found = self._phases[0][1] if self._phases else Phase.IDLE
        for since_ns, phase in self._phases:
            if since_ns > stamp_ns:
                break
            found = phase
        return found


def _check_finite(state: RobotState) -> None:
    fields = {
        "position": state.position.tolist(),
        "orientation": state.orientation.tolist(),
        "wrench": state.wrench.tolist(),
        "gripper_width": [state.gripper_width],
        "gripper_effort": [state.gripper_effort],
    }
    for name, values in fields.items():
        if not all(map(math.isfinite, values)):
            raise ValueError(f"robot state: {name} is {values}, expected finite numbers; check the robot driver")
