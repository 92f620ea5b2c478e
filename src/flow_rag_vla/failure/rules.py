# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""One small class for each kind of failure, on what a robot can sense.

A rule speaks once for each situation and is armed again after the situation has ended. Rules know nothing of
each other; the detector merges what two of them say about one failure.
"""

from __future__ import annotations

import math

from flow_rag_vla.core.failure import Evidence, FailureType
from flow_rag_vla.core.phase import Phase
from flow_rag_vla.failure.phase import PUSH_TASKS
from flow_rag_vla.failure.sample import FailureReport, Rule, Sample
from flow_rag_vla.failure.thresholds import RuleThresholds

PULL_TASKS = frozenset({"open_drawer"})
"""Tasks that move furniture: the hand works against friction and end stops."""

LOST = 0.95
"""Confidence that something left the hand, whatever that is called."""


class Persistence:
    """Turns a condition into one moment: when it has held long enough, once until it has been absent long enough."""

    def __init__(self, hold_s: float, release_s: float) -> None:
        self._hold_ns = int(hold_s * 1e9)
        self._release_ns = int(release_s * 1e9)
        self.reset()

    def reset(self) -> None:
        """Arm anew."""
        self._since_ns: int | None = None
        self._last_ns = 0
        self._spoken = False

    @property
    def active(self) -> bool:
        """Whether the condition was told and has not ended since."""
        return self._spoken

    def update(self, stamp_ns: int, condition: bool) -> int | None:
        """Take one sample in; the stamp at which the condition began, on the one sample that makes it an event."""
        if not condition:
            self._since_ns = None
            if self._spoken and stamp_ns - self._last_ns >= self._release_ns:
                self._spoken = False
            return None
        if self._since_ns is None:
            self._since_ns = stamp_ns
        self._last_ns = stamp_ns
        if self._spoken or stamp_ns - self._since_ns < self._hold_ns:
            return None
        self._spoken = True
        return self._since_ns


def _was_held(sample: Sample, limits: RuleThresholds) -> bool:
    """Whether what the hand lost had been held: for a while with something moving with it, or for long."""
    grip = sample.grip
    moved = sample.carried >= limits.carry_distance and grip.held_s >= limits.drop_min_carry
    return grip.lost and (moved or grip.held_s >= limits.drop_min_hold)


def _report(
    rule: Rule,
    sample: Sample,
    text: str,
    evidence: tuple[Evidence, ...],
    *,
    onset_ns: int,
    confidence: float,
    phase: Phase | None = None,
) -> FailureReport:
    """What a rule says on the sample that shows a failure; None: in the sample's own phase."""
    return FailureReport(
        failure_type=rule.failure_type,
        stamp_ns=sample.stamp_ns,
        onset_ns=onset_ns,
        phase=sample.phase if phase is None else phase,
        confidence=confidence,
        detector=rule.name,
        description=text,
        evidence=evidence,
    )


class GraspFailureRule:
    """The hand was told to close, its fingers stand still, and there is nothing between them.

    What they pressed for an instant and lost is told when it is lost, as a drop is: it was never held.
    """

    name = "grasp_failure"
    failure_type = FailureType.GRASP_FAILURE

    def __init__(self, thresholds: RuleThresholds) -> None:
        self._limits = thresholds
        self._confirm_ns = int(thresholds.grasp_confirm_time * 1e9)
        self.reset()

    def reset(self) -> None:
        """Forget the present episode."""
        self._told_ns = -1
        self._active = False
        self._empty_ns: int | None = None

    @property
    def active(self) -> bool:
        """Whether the hand that was reported is still closed on nothing."""
        return self._active

    def update(self, sample: Sample) -> FailureReport | None:
        """Take one sample in."""
        grip, stamp_ns = sample.grip, sample.stamp_ns
        if sample.episode.task in PUSH_TASKS:
            return None
        empty = grip.closing and grip.settled and not grip.holding and not _was_held(sample, self._limits)
        if not empty:
            self._empty_ns, self._active = None, False
            return None
        if self._empty_ns is None:
            self._empty_ns = stamp_ns
        waited = grip.lost or stamp_ns - self._empty_ns >= self._confirm_ns
        if grip.command_ns == self._told_ns or not waited:
            return None
        self._told_ns, self._active = grip.command_ns, True
        limits = self._limits
        width = Evidence("gripper_width", grip.width, limits.grasp_empty_width, "m")
        effort = Evidence("gripper_effort", grip.effort, limits.grasp_hold_effort, "N")
        if grip.lost:
            return self._slipped(sample, (width, effort))
        if grip.width < limits.grasp_empty_width:
            text = f"the hand closed to {grip.width * 1e3:.0f} mm: there is nothing between the fingers"
            confidence = 1.0 - 0.5 * max(grip.width, 0.0) / limits.grasp_empty_width
        else:
            text = f"the fingers stopped at {grip.width * 1e3:.0f} mm with {grip.effort:.1f} N: nothing is held"
            confidence = 0.6
        return _report(self, sample, text, (width, effort), onset_ns=sample.grip_onset_ns, confidence=confidence)

    def _slipped(self, sample: Sample, evidence: tuple[Evidence, ...]) -> FailureReport:
        grip, limits = sample.grip, self._limits
        held = Evidence("hold_time", grip.held_s, limits.drop_min_carry, "s")
        carried = Evidence("carried", sample.carried, limits.carry_distance, "m")
        text = (
            f"what the fingers pressed at {grip.hold_width * 1e3:.0f} mm for {grip.held_s:.2f} s, over "
            f"{sample.carried * 1e3:.0f} mm, slipped out: that was no hold yet"
        )
        onset = sample.grip_onset_ns
        return _report(self, sample, text, (*evidence, held, carried), onset_ns=onset, confidence=LOST)


class DropRule:
    """Something was held, and is not any more, though nobody told the hand to open."""

    name = "drop"
    failure_type = FailureType.DROP

    def __init__(self, thresholds: RuleThresholds) -> None:
        self._limits = thresholds
        self.reset()

    def reset(self) -> None:
        """Forget the present episode."""
        self._told_ns = -1
        self._active = False

    @property
    def active(self) -> bool:
        """Whether the hand that lost something is still closed."""
        return self._active

    def update(self, sample: Sample) -> FailureReport | None:
        """Take one sample in."""
        grip, limits = sample.grip, self._limits
        self._active = self._active and grip.lost
        if sample.episode.task in PUSH_TASKS or grip.hold_ns == self._told_ns or not _was_held(sample, limits):
            return None
        self._told_ns, self._active = grip.hold_ns, True
        evidence = (
            Evidence("gripper_width", grip.width, limits.grasp_empty_width, "m"),
            Evidence("gripper_effort", grip.effort, limits.grasp_hold_effort, "N"),
            Evidence("hold_time", grip.held_s, limits.drop_min_carry, "s"),
            Evidence("carried", sample.carried, limits.carry_distance, "m"),
        )
        text = (
            f"what was held at {grip.hold_width * 1e3:.0f} mm for {grip.held_s:.2f} s left the hand: "
            f"the fingers are {grip.width * 1e3:.0f} mm apart and press with {grip.effort:.1f} N"
        )
        return _report(self, sample, text, evidence, onset_ns=grip.firm_ns, confidence=LOST)


class AbandonedGraspRule:
    """The hand was closed for a while and opened again, and nothing has moved with it."""

    name = "abandoned_grasp"
    failure_type = FailureType.GRASP_FAILURE
    active = False

    def __init__(self, thresholds: RuleThresholds) -> None:
        self._limits = thresholds
        self._before: Sample | None = None

    def reset(self) -> None:
        """Forget the present episode."""
        self._before = None

    def update(self, sample: Sample) -> FailureReport | None:
        """Take one sample in."""
        before, self._before = self._before, sample
        if before is None or sample.grip.closing or not before.grip.closing or before.phase is not Phase.GRASP:
            return None
        closed = (sample.stamp_ns - before.grip.command_ns) * 1e-9
        if closed < self._limits.grasp_abandon_time:
            return None
        evidence = (
            Evidence("closed_time", closed, self._limits.grasp_abandon_time, "s"),
            Evidence("gripper_width", before.grip.width, self._limits.grasp_empty_width, "m"),
        )
        text = f"the hand was closed for {closed:.1f} s and opened again without having carried anything"
        return _report(self, sample, text, evidence, onset_ns=before.grip_onset_ns, confidence=0.7, phase=before.phase)


class RegraspRule:
    """What was carried was let go, and the hand closes once more: it was not where it should be."""

    name = "regrasp"
    failure_type = FailureType.DROP
    active = False

    def __init__(self, thresholds: RuleThresholds) -> None:
        self._limits = thresholds
        self.reset()

    def reset(self) -> None:
        """Forget the present episode."""
        self._before: Sample | None = None
        self._release_ns: int | None = None

    def update(self, sample: Sample) -> FailureReport | None:
        """Take one sample in."""
        before, self._before = self._before, sample
        if before is not None and before.grip.holding and before.phase is Phase.TRANSPORT and not sample.grip.closing:
            self._release_ns = sample.grip_onset_ns
        if self._release_ns is None or not sample.grip.closing:
            return None
        closed = (sample.stamp_ns - sample.grip.command_ns) * 1e-9
        if closed < self._limits.grasp_abandon_time:
            return None
        onset, self._release_ns = self._release_ns, None
        text = "the hand closes again after it let go of what it carried: that had not reached its goal"
        evidence = (Evidence("closed_time", closed, self._limits.grasp_abandon_time, "s"),)
        return _report(self, sample, text, evidence, onset_ns=onset, confidence=0.7)


def force_limit(limits: RuleThresholds, task: str, phase: Phase) -> float:
    """Newtons that a task may need in a phase."""
    if task in PULL_TASKS:
        return limits.collision_force_pull
    free = phase in (Phase.IDLE, Phase.REACH) and task not in PUSH_TASKS
    return limits.collision_force_free if free else limits.collision_force_contact


class CollisionRule:
    """The tool meets more force than this stretch of this task needs."""

    name = "collision"
    failure_type = FailureType.COLLISION

    def __init__(self, thresholds: RuleThresholds) -> None:
        self._limits = thresholds
        self._persistence = Persistence(thresholds.collision_time, thresholds.rearm_time)
        self._peak = 0.0

    def reset(self) -> None:
        """Forget the present episode."""
        self._persistence.reset()
        self._peak = 0.0

    @property
    def active(self) -> bool:
        """Whether a collision was told and lasts."""
        return self._persistence.active

    def update(self, sample: Sample) -> FailureReport | None:
        """Take one sample in."""
        x, y, z = (float(value) for value in sample.state.wrench[:3])
        force = math.sqrt(x * x + y * y + z * z)
        limit = force_limit(self._limits, sample.episode.task, sample.phase)
        above = force > limit
        self._peak = max(self._peak, force) if above else 0.0
        onset = self._persistence.update(sample.stamp_ns, above)
        if onset is None:
            return None
        evidence = (
            Evidence("external_force", force, limit, "N"),
            Evidence("peak_force", self._peak, limit, "N"),
            Evidence("duration", (sample.stamp_ns - onset) * 1e-9, self._limits.collision_time, "s"),
        )
        axis = max((abs(x), "x"), (abs(y), "y"), (abs(z), "z"))[1]
        text = f"the tool meets {force:.0f} N, mostly along {axis}; this phase needs less than {limit:.0f} N"
        confidence = min(1.0, 0.5 + 0.5 * (self._peak / limit - 1.0))
        return _report(self, sample, text, evidence, onset_ns=onset, confidence=confidence)


class MisalignmentRule:
    """The tool stays apart from where it is told to be."""

    name = "misalignment"
    failure_type = FailureType.MISALIGNMENT

    def __init__(self, thresholds: RuleThresholds) -> None:
        self._limits = thresholds
        self._persistence = Persistence(thresholds.misalignment_time, thresholds.rearm_time)

    def reset(self) -> None:
        """Forget the present episode."""
        self._persistence.reset()

    @property
    def active(self) -> bool:
        """Whether a misalignment was told and lasts."""
        return self._persistence.active

    def update(self, sample: Sample) -> FailureReport | None:
        """Take one sample in."""
        limits = self._limits
        distance, angle = sample.tracking_error, sample.tracking_angle
        apart = distance > limits.misalignment_distance or angle > limits.misalignment_angle
        onset = self._persistence.update(sample.stamp_ns, apart)
        if onset is None:
            return None
        excess = max(distance / limits.misalignment_distance, angle / limits.misalignment_angle)
        lasted = (sample.stamp_ns - onset) * 1e-9
        evidence = (
            Evidence("tracking_error", distance, limits.misalignment_distance, "m"),
            Evidence("tracking_angle", angle, limits.misalignment_angle, "rad"),
            Evidence("duration", lasted, limits.misalignment_time, "s"),
        )
        text = (
            f"the tool has been {distance * 1e3:.0f} mm and {angle:.2f} rad away from its target for {lasted:.1f} s: "
            "something blocks or turns it"
        )
        confidence = min(1.0, 0.6 + 0.4 * (excess - 1.0))
        return _report(self, sample, text, evidence, onset_ns=onset, confidence=confidence)


class TimeoutRule:
    """Nothing comes of it: the episode, its phase, or the standing still has lasted too long."""

    name = "timeout"
    failure_type = FailureType.TIMEOUT

    def __init__(self, thresholds: RuleThresholds) -> None:
        self._limits = thresholds
        self._allowed = {
            Phase.REACH: thresholds.timeout_reach,
            Phase.GRASP: thresholds.timeout_grasp,
            Phase.TRANSPORT: thresholds.timeout_transport,
            Phase.RELEASE: thresholds.timeout_release,
        }
        self.reset()

    def reset(self) -> None:
        """Forget the present episode."""
        self._begun_ns: int | None = None
        self._episode_told = False
        self._phase_told_ns = -1
        self._phase_told = False
        self._anchor: tuple[float, float, float] | None = None
        self._anchor_ns = 0
        self._anchor_closing = False
        self._stall_told = False

    @property
    def active(self) -> bool:
        """Whether time that was reported as over is still spent the same way."""
        return self._episode_told or self._stall_told or self._phase_told

    def update(self, sample: Sample) -> FailureReport | None:
        """Take one sample in."""
        if self._begun_ns is None and sample.command is not None and sample.command.following:
            self._begun_ns = sample.stamp_ns
        for check in (self._episode, self._phase, self._stall):
            report = check(sample)
            if report is not None:
                return report
        return None

    def _episode(self, sample: Sample) -> FailureReport | None:
        episode = sample.episode
        elapsed = (sample.stamp_ns - episode.start_ns) * 1e-9
        if self._episode_told or episode.timeout <= 0.0 or elapsed < episode.timeout:
            return None
        self._episode_told = True
        text = f"the episode has lasted {elapsed:.1f} s, of {episode.timeout:.1f} s allowed"
        onset = self._anchor_ns if self._anchor is not None else sample.stamp_ns
        evidence = (Evidence("episode_time", elapsed, episode.timeout, "s"),)
        return _report(self, sample, text, evidence, onset_ns=onset, confidence=1.0)

    def _phase(self, sample: Sample) -> FailureReport | None:
        allowed = self._allowed.get(sample.phase)
        if allowed is not None:
            allowed /= sample.episode.pace
        self._phase_told = self._phase_told and sample.phase_since_ns == self._phase_told_ns
        if self._begun_ns is None or allowed is None or sample.phase_since_ns == self._phase_told_ns:
            return None
        # Time before the first chunk is the policy's warm-up, not a lack of progress.
        since_ns = max(sample.phase_since_ns, self._begun_ns)
        lasted = (sample.stamp_ns - since_ns) * 1e-9
        if lasted < allowed:
            return None
        self._phase_told_ns, self._phase_told = sample.phase_since_ns, True
        text = f"{sample.phase.value} has lasted {lasted:.1f} s, of {allowed:.1f} s allowed"
        evidence = (Evidence("phase_time", lasted, allowed, "s"),)
        return _report(self, sample, text, evidence, onset_ns=since_ns, confidence=0.8)

    def _stall(self, sample: Sample) -> FailureReport | None:
        if self._begun_ns is None:
            return None
        x, y, z = (float(value) for value in sample.state.position)
        closing = sample.grip.closing
        moved = self._anchor is None or closing != self._anchor_closing
        if self._anchor is not None:
            ax, ay, az = self._anchor
            moved = moved or (x - ax) ** 2 + (y - ay) ** 2 + (z - az) ** 2 > self._limits.stall_distance**2
        if moved:
            self._anchor, self._anchor_ns, self._anchor_closing = (x, y, z), sample.stamp_ns, closing
            self._stall_told = False
            return None
        still = (sample.stamp_ns - self._anchor_ns) * 1e-9
        if self._stall_told or still < self._limits.stall_time:
            return None
        self._stall_told = True
        text = f"the tool has not moved {self._limits.stall_distance * 1e3:.0f} mm for {still:.1f} s"
        evidence = (Evidence("still_time", still, self._limits.stall_time, "s"),)
        return _report(self, sample, text, evidence, onset_ns=self._anchor_ns, confidence=0.8)


def make_rules(thresholds: RuleThresholds) -> tuple[Rule, ...]:
    """Every rule, in the order in which they are asked."""
    return (
        GraspFailureRule(thresholds),
        AbandonedGraspRule(thresholds),
        DropRule(thresholds),
        RegraspRule(thresholds),
        CollisionRule(thresholds),
        MisalignmentRule(thresholds),
        TimeoutRule(thresholds),
    )
