# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Decides what an arm is told: the controller's targets inside every limit, or a hold that says why.

All of it is a function of what is handed in and of a steady clock that the caller reads, so it is tested without ROS.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.state import CartesianTarget
from flow_rag_vla.robot.arm import Arm
from flow_rag_vla.robot.hold import BLIND, TARGETS, Hold, Problem
from flow_rag_vla.robot.joint_feedback import JointFeedback
from flow_rag_vla.robot.profile import RobotProfile
from flow_rag_vla.robot.tool_target import ToolTarget, in_reach, shortened, turn_between
from flow_rag_vla.robot.tracker import Tracker
from flow_rag_vla.robot.tracking_watch import STUCK_AFTER, TrackingWatch

__all__ = ["Follower", "Hold", "Output"]

Array = NDArray[np.float64]

_POSITION_TOLERANCE = 2e-3
_ORIENTATION_TOLERANCE = 0.02
"""How far, in metres and radians, a solution may be from its target."""
_COMMANDS_IN_A_ROW = 3
"""Commands, after a silence of theirs, before the arm moves again: single ones would move it in starts and stops."""
_MOVED = 0.5
"""Share of ``reach_time`` that a held tool must be away from the pose that it was told before it counts as moved by
others. One that sags a little under its load stays below that: it must be held where it was told, or it would sink for
as long as it is held. The same share is by how much less, or more, than it was told a tool that is told speeds may have
moved."""
_OTHERS_NS = 500_000_000
"""For how long nobody else must have commanded the arm before it is commanded."""
_REST_TOLD = 3
"""How often an arm at rest is told to stay before nothing is sent any more: the last message may be lost."""

_RELEASE = "release it by the controller's service; a controller that knows of none is to be stopped once and released"


@dataclass(frozen=True, slots=True)
class Output:
    """What the arm is told now.

    Arrays are None where the profile's mode has no use for them; all of them are, and nothing is to be sent, until an
    arm and a first command that can be followed are there.

    joints: (J,) radians; position: (3,) metres and orientation: (4,) x y z w; twist: (6,) m/s and rad/s, base frame
    gripper_width: metres, None before the first one that was asked for
    hold: None while following, else the reason; text: the same for people, with values
    """

    joints: Array | None
    position: Array | None
    orientation: Array | None
    twist: Array | None
    gripper_width: float | None
    hold: Hold | None
    text: str


class Follower:
    """Follows commanded tool poses with one arm. Times are integer nanoseconds of a steady clock."""

    def __init__(self, profile: RobotProfile, arm: Arm) -> None:
        self._profile, self._arm = profile, arm
        self._period = 1.0 / profile.command_rate
        self._low, self._high = profile.limits("low"), profile.limits("high")
        self._speed = profile.limits("velocity")
        self._joint_mode = profile.mode in ("joint_trajectory", "joint_position")
        self._feedback = JointFeedback(profile)
        self._target: CartesianTarget | None = None
        self._target_ns = 0
        self._awaited = 0
        self._command_fault: Problem | None = None
        self._refused: Problem | None = None
        self._gripper: float | None = None
        self._grips = False
        self._joints: Tracker | None = None
        self._goal: Array | None = None
        self._tool: ToolTarget | None = None
        self._ticked_ns = 0
        self._held = self._ended = False
        self._watch = TrackingWatch(1 if profile.mode == "cartesian_twist" else STUCK_AFTER)
        self._lead: tuple[Array, Array] | None = None
        """Where a held tool was moved by others: the pose that it is told is led there."""
        self._owed = np.zeros(6)
        """Metres and radians, base axes, that a tool was told by speeds and has not moved yet."""
        self._seen: tuple[Array, Array] | None = None
        """The measured pose at the tick before."""
        self._others_heard: tuple[int, str] | None = None
        self._yielded = False
        self._rests = 0
        self._box: tuple[Array, Array] | None = None
        """Between which corners, (3,) metres each, the target may be: the workspace, and a way back into it."""

    @property
    def measured(self) -> Array | None:
        """(J,) radians: the newest joint state that made sense."""
        return self._feedback.measured

    def sense(self, names: Sequence[str], positions: Sequence[float], now_ns: int) -> Array | None:
        """Take a joint state in any order of names; (J,) radians in the profile's, or None if it is not believed.

        See ``JointFeedback.sense``; while joint states are not believed the arm is held.
        """
        return self._feedback.sense(names, positions, now_ns)

    def contested(self, who: str, now_ns: int) -> None:
        """Take note that somebody else, ``who``, has just commanded the arm.

        Two who command one arm pull it to and fro. An arm that was not yet moved is left to them. One that was comes to
        rest, and is then left to them until a person has pressed and reset the emergency stop, or commands have fallen
        silent: two bridges that both gave way must not both begin again by themselves.
        """
        self._others_heard = now_ns, who
        self._yielded = self._yielded or self._joints is not None

    def command(self, target: CartesianTarget, now_ns: int, grips: bool = True) -> None:
        """Take the controller's newest target. One that makes no sense holds the arm until the next.

        After a silence some in a row must come before the arm moves again.

        grips: whether its gripper width was asked for; if not, the gripper stays as it was told, or left alone
        """
        if self._target_ns and now_ns - self._target_ns > self._profile.command_timeout * 1e9:
            self._awaited, self._yielded = _COMMANDS_IN_A_ROW, False
            self._watch.freed()
        self._awaited = max(0, self._awaited - 1)
        numbers = np.concatenate([target.position, target.orientation, [target.gripper_width]])
        length = float(np.linalg.norm(target.orientation))
        self._target_ns = now_ns
        self._command_fault, self._refused = None, None
        if not np.isfinite(numbers).all() or abs(length - 1.0) > 1e-2:
            self._target = None
            text = f"{numbers.round(4).tolist()}, expected finite numbers and a unit quaternion"
            self._command_fault = Hold.COMMAND_INVALID, text
            return
        self._target = CartesianTarget(target.position, target.orientation / length, target.gripper_width)
        self._grips = grips

    def stop(self) -> None:
        """Hold for the emergency stop, until the next command."""
        self._target, self._command_fault = None, (Hold.EMERGENCY_STOP, _RELEASE)
        self._yielded = False
        self._watch.freed()

    def end(self) -> None:
        """Come to rest, whatever is commanded after it: the last of what is told must not be a motion."""
        self._ended = True

    @property
    def at_rest(self) -> bool:
        """Whether what is told stands still, or nothing was told yet."""
        moving = self._joints if self._joint_mode else self._tool
        return moving is None or moving.at_rest

    def tick(self, now_ns: int) -> Output:
        """What to tell the arm now; while nothing is to be sent, the reason alone. Call it at the command rate."""
        elapsed = (now_ns - self._ticked_ns) / 1e9 if self._ticked_ns else self._period
        self._ticked_ns = now_ns
        problem = self._problem(now_ns)
        if self._joints is None:
            # Nothing is sent before an arm and a command are there: whoever has the arm until then keeps it.
            measured = self._feedback.measured
            if measured is None or problem is not None:
                self._box = None
                return self._output(problem)
            self._joints = Tracker(
                np.clip(measured, self._low, self._high), self._speed, self._profile.limits("acceleration"),
                self._period,
            )  # fmt: skip
            self._tool = ToolTarget(self._profile, *self._arm.pose(measured))
            self._watch.freed()
            self._forget_lag()
        elif problem is not None and problem[0] is Hold.OTHER_COMMANDS and self.at_rest:
            self._rests += 1
            if self._rests > _REST_TOLD:
                self._joints, self._goal, self._held = None, None, True
                return self._output(problem)
        else:
            self._rests = 0
        output = self._joint_output(problem, elapsed) if self._joint_mode else self._tool_output(problem, elapsed)
        self._held = output.hold is not None
        if output.hold is not None and output.hold not in TARGETS:
            # It may be moved by others meanwhile: where it is found then is where it starts.
            self._box = None
        return output

    def _problem(self, now_ns: int) -> Problem | None:
        """Why the arm is to be held, as far as that is known without its kinematics; None if it may follow."""
        if problem := self._feedback.problem(now_ns):
            return problem
        if self._ended:
            return Hold.NO_COMMAND, "the bridge ends"
        if self._others_heard is not None:
            heard_ns, who = self._others_heard
            if self._yielded:
                return Hold.OTHER_COMMANDS, f"{who}; end it, then press and reset the emergency stop"
            if now_ns - heard_ns < _OTHERS_NS:
                return Hold.OTHER_COMMANDS, f"{who}; end it, or leave the arm to it"
            self._others_heard = None
        if self._command_fault is not None:
            return self._command_fault
        if self._target is None:
            return Hold.NO_COMMAND, "none arrived yet"
        age, limit = (now_ns - self._target_ns) / 1e9, self._profile.command_timeout
        if age > limit:
            return Hold.NO_COMMAND, f"the last is {age:.3f} s old, limit {limit:g} s"
        if self._awaited:
            return Hold.NO_COMMAND, f"they begin anew: {self._awaited} more in a row are awaited"
        return self._refused or self._outside(self._target)

    def _outside(self, target: CartesianTarget) -> Problem | None:
        """Whether a target is outside the workspace, or further outside than the tool is already."""
        profile, measured = self._profile, self._feedback.measured
        if measured is None:
            return None
        here, _ = self._arm.pose(measured)
        low, high = np.minimum(profile.workspace_low, here), np.maximum(profile.workspace_high, here)
        if self._box is not None:
            # A tool that starts outside may come back in. What it has come in by it may not go out again: the
            # tolerance of a millimetre would otherwise let it creep outwards step by step.
            low, high = np.maximum(low, self._box[0]), np.minimum(high, self._box[1])
        self._box = low, high
        for axis, name in enumerate("xyz"):
            if not low[axis] - 1e-3 <= target.position[axis] <= high[axis] + 1e-3:
                return (
                    Hold.OUTSIDE_WORKSPACE,
                    f"{name} is {target.position[axis]:.3f} m, limits {low[axis]:.3f} to {high[axis]:.3f}",
                )
        return None

    def _joint_output(self, problem: Problem | None, elapsed: float) -> Output:
        joints, measured = self._joints, self._feedback.measured
        assert joints is not None and measured is not None
        goal: Array | None = None
        if problem is None or problem[0] not in BLIND:
            lag = np.abs(joints.value - measured)
            worst, limit = int(lag.argmax()), self._profile.tracking
            name = self._profile.joint_names[worst]
            said = f"{name} is {lag[worst]:.3f} rad from what it was told, limit {limit:g} rad"
            lost = self._watch.problem(float(lag[worst]) / limit, said, self._ticked_ns)
            if lost is not None:
                problem = problem or (Hold.NOT_TRACKING, lost)
                if lag.max() > 0.5 * self._profile.tracking:
                    # What it is told comes back to where it is, so that nothing leaps when it moves again.
                    goal = np.clip(measured, self._low, self._high)
        else:
            self._forget_lag()
        if problem is None:
            problem, goal = self._solved(joints.value)
        if problem is not None:
            self._goal = None
        joints.step(goal, elapsed, None if goal is None else self._share(joints.value))
        joints.limit(self._low, self._high)
        return self._output(problem, joints=joints.value.copy())

    def _share(self, here: Array) -> Callable[[Array], float]:
        """A function of joint velocities (J,), rad/s: the share of them that keeps the tool inside its own speeds.

        The controller's targets keep within these by themselves. This limits how fast the joints catch up after a leap.
        """
        jacobian, profile = self._arm.jacobian(here), self._profile

        def share(velocities: Array) -> float:
            twist = jacobian @ velocities
            linear, angular = float(np.linalg.norm(twist[:3])), float(np.linalg.norm(twist[3:]))
            return min(1.0, profile.tool_speed / max(linear, 1e-9), profile.turn_speed / max(angular, 1e-9))

        return share

    def _forget_lag(self) -> None:
        """Where the arm is, and so how far it lags, is not known now."""
        self._owed, self._seen, self._lead = np.zeros(6), None, None
        self._watch.forget()

    def _solved(self, here: Array) -> tuple[Problem | None, Array | None]:
        """Joint angles (J,), radians, for the target, from those told last, ``here``; else why it may not be followed.

        A refusal stands until the next command: one target is not solved for again and again.
        """
        target, profile = self._target, self._profile
        assert target is not None
        start = here if self._goal is None else self._goal
        solution = self._arm.solve(target.position, target.orientation, start)
        turned = profile.orientation == "exact" and solution.orientation_error > _ORIENTATION_TOLERANCE
        if solution.position_error > _POSITION_TOLERANCE or turned:
            self._refused = (
                Hold.UNREACHABLE,
                (
                    f"{target.position.round(3).tolist()} is met to {1e3 * solution.position_error:.1f} mm and "
                    f"{solution.orientation_error:.3f} rad (smallest singular value "
                    f"{solution.smallest_singular_value:.3f})"
                ),
            )
            return self._refused, None
        share = np.abs(solution.joints - here) / (self._speed * profile.reach_time)
        worst = int(share.argmax())
        if share[worst] > 1.0:
            self._refused = (
                Hold.JUMP,
                (
                    f"{profile.joint_names[worst]} would need {share[worst] * profile.reach_time:.2f} s at its "
                    f"velocity limit, limit {profile.reach_time:g} s"
                ),
            )
            return self._refused, None
        self._goal = solution.joints
        return None, solution.joints

    def _tool_output(self, problem: Problem | None, elapsed: float) -> Output:
        tool, target, profile, joints = self._tool, self._target, self._profile, self._feedback.measured
        assert tool is not None and joints is not None
        measured, facing = self._arm.pose(joints)
        if problem is None or problem[0] not in BLIND:
            self._take_up(tool, measured, facing)
            lost = self._not_moved(tool, measured, facing)
            problem = problem or lost
        else:
            self._forget_lag()
        if problem is None:
            assert target is not None
            far = tool.far(target.position, target.orientation)
            if far > 1.0:
                text = (
                    f"it is {far * profile.reach_time:.2f} s away at the tool's limits, limit {profile.reach_time:g} s"
                )
                problem = self._refused = Hold.JUMP, text
        before = tool.position
        goal = (target.position, target.orientation) if problem is None and target is not None else self._lead
        tool.step(goal, elapsed)
        if profile.mode == "cartesian_pose":
            return self._output(problem, position=tool.position.copy(), orientation=tool.orientation.copy())
        step = max(min(elapsed, self._period), 1e-4)
        if problem is not None:
            return self._moving_output(problem, tool.velocity, tool.turning, step)
        # What the arm did not follow so far is made up for in half a second, inside the limits.
        linear = (tool.position - before) / step + 2.0 * (tool.position - measured)
        angular = tool.turning + 2.0 * turn_between(facing, tool.orientation)
        return self._moving_output(
            None, shortened(linear, profile.tool_speed), shortened(angular, profile.turn_speed), step
        )

    def _moving_output(self, problem: Problem | None, linear: Array, angular: Array, elapsed: float) -> Output:
        twist = np.concatenate([linear, angular])
        self._owed = self._owed + twist * elapsed
        return self._output(problem, twist=twist)

    def _not_moved(self, tool: ToolTarget, measured: Array, facing: Array) -> Problem | None:
        """Why a tool is held fast: it is not where it was told, or did not move by the speeds that it was told.

        Joint states that stay the same, though the arm moves, would otherwise let it be told to move for ever. The
        motion that speeds asked for and that was not seen yet is forgotten with distance, not with time: an arm may
        always be a little slower than told, but with one that does not move at all it grows and grows.
        """
        if self._profile.mode == "cartesian_pose":
            share = tool.far(measured, facing)
            said = f"it is {share * self._profile.reach_time:.2f} s from what it was told, at the tool's limits"
        else:
            before, self._seen = self._seen or (measured, facing), (measured, facing)
            moved = np.concatenate([measured - before[0], turn_between(before[1], facing)])
            self._owed = (self._owed - moved) * max(0.0, 1.0 - in_reach(self._profile, moved))
            share = in_reach(self._profile, self._owed) / _MOVED
            said = (
                f"it moved {1e3 * np.linalg.norm(self._owed[:3]):.0f} mm and {np.linalg.norm(self._owed[3:]):.2f} rad "
                "otherwise than it was told"
            )
        lost = self._watch.problem(share, said, self._ticked_ns)
        return None if lost is None else (Hold.NOT_TRACKING, lost)

    def _take_up(self, tool: ToolTarget, measured: Array, facing: Array) -> None:
        """Begin from a measured pose, (3,) metres and (4,) x y z w, if others moved the arm while it was held.

        A tool that is told poses is led there inside its limits: if the measurement were wrong, it would leap there.
        """
        if not self._held:
            self._lead = None
        elif tool.at_rest:
            if self._profile.mode == "cartesian_twist":
                tool.put(measured, facing)
                self._owed = np.zeros(6)
            else:
                self._lead = (measured.copy(), facing) if tool.far(measured, facing) > _MOVED else None

    def _output(
        self,
        problem: Problem | None,
        *,
        joints: Array | None = None,
        position: Array | None = None,
        orientation: Array | None = None,
        twist: Array | None = None,
    ) -> Output:
        if problem is None and self._target is not None and self._grips:
            # Kept in every hold: what is grasped is not dropped.
            self._gripper = self._target.gripper_width
        hold, text = problem if problem is not None else (None, "")
        if hold is not None:
            text = f"{hold.name}: {hold.value}: {text}"
        return Output(joints, position, orientation, twist, self._gripper, hold, text)
