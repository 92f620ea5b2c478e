# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Decides what an arm is told: the controller's targets inside every limit, or a hold that says why.

All of it is a function of what is handed in and of a steady clock that the caller reads, so it is tested without ROS.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.rotation import (
    quaternion_conjugate,
    quaternion_from_rotation_vector,
    quaternion_multiply,
    rotation_vector_from_quaternion,
)
from flow_rag_vla.core.state import CartesianTarget
from flow_rag_vla.robot.arm import Arm
from flow_rag_vla.robot.profile import RobotProfile
from flow_rag_vla.robot.tracker import Tracker, fastest

Array = NDArray[np.float64]

_POSITION_TOLERANCE = 2e-3
_ORIENTATION_TOLERANCE = 0.02
"""How far, in metres and radians, a solution may be from its target."""
_GOOD_IN_A_ROW = 3
"""Joint states that make them believable, at first and after a silence: a driver's first may be what it began with, not
what it measured. As many commands, after a silence of theirs: single ones would move the arm in starts and stops."""
_SETTLED_NS = 500_000_000
"""How long nothing else was seen until the arm moves again after joint states that made no sense, or after it did not
go where it was told. Without it, what is wrong now and then would move the arm in starts and stops."""
_STUCK_AFTER, _STUCK_WITHIN_NS = 3, 10_000_000_000
"""So many times in so many nanoseconds that the arm did not go where it was told are a case for a person. Once is,
where it is told speeds: nothing leads it back, and what it is told would go on while nobody sees that it moves."""
_MEASURED_MARGIN = 0.02
"""Radians by which a measured joint may be outside its limits: calibration and noise. Half of it ends the hold."""
_MOVED = 0.5
"""Share of ``reach_time`` by which a tool that is told poses must be off from them, in a hold, to count as moved by
others. What sags a little under its load must be held where it was told, or it would sink for as long as it is held.
By as much a tool that is told speeds may have moved less, or more, than these would have moved it."""
_OTHERS_NS = 500_000_000
"""How long nobody else was heard to command the arm until it is commanded."""
_REST_TOLD = 3
"""How often an arm at rest is told to stay before nothing is sent any more, as the last word may be lost."""


class Hold(Enum):
    """Why the arm is held instead of following."""

    NO_JOINT_STATES = "no joint state arrived yet"
    JOINT_STATES_STALE = "joint states stopped"
    JOINT_STATES_INVALID = "a joint state makes no sense"
    JOINTS_OUTSIDE_LIMITS = "a joint is outside its limits"
    NO_COMMAND = "no command arrives"
    COMMAND_INVALID = "a command makes no sense"
    EMERGENCY_STOP = "the emergency stop is latched"
    OUTSIDE_WORKSPACE = "the target is outside the workspace"
    JUMP = "the target is too far to reach in time"
    UNREACHABLE = "no joint angles inside the limits reach the target"
    NOT_TRACKING = "the arm does not go where it is told"
    OTHER_COMMANDS = "somebody else commands the arm"


_NOTHING = np.zeros(0)

_BLIND = (Hold.NO_JOINT_STATES, Hold.JOINT_STATES_STALE, Hold.JOINT_STATES_INVALID)
"""Holds in which nobody knows where the arm is."""


_TARGETS = (Hold.OUTSIDE_WORKSPACE, Hold.JUMP, Hold.UNREACHABLE, Hold.COMMAND_INVALID)
"""Holds for what a controller asks for, which its next command may end."""


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
        self._names = profile.joint_names
        self._period = 1.0 / profile.command_rate
        self._low, self._high = profile.limits("low"), profile.limits("high")
        self._speed = profile.limits("velocity")
        self._joint_mode = profile.mode in ("joint_trajectory", "joint_position")
        self._measured: Array | None = None
        self._measured_ns = 0
        self._sample: tuple[Array, int] | None = None
        self._bad_sample = self._others = ""
        self._good_samples = 0
        self._bad_ns = 0
        self._beyond_limits = False
        self._target: CartesianTarget | None = None
        self._target_ns = 0
        self._awaited = 0
        self._command_fault: tuple[Hold, str] | None = None
        self._refused: tuple[Hold, str] | None = None
        self._gripper: float | None = None
        self._grips = False
        self._joints: Tracker | None = None
        self._goal: Array | None = None
        self._tool: Tracker | None = None
        self._facing = np.array([0.0, 0.0, 0.0, 1.0])
        self._turning = np.zeros(3)
        self._ticked_ns = 0
        self._held = self._ended = False
        self._lost: tuple[int, str] | None = None
        self._losses: tuple[int, ...] = ()
        self._stuck_after = 1 if profile.mode == "cartesian_twist" else _STUCK_AFTER
        self._lead: tuple[Array, Array] | None = None
        self._owed = np.zeros(6)
        self._seen: tuple[Array, Array] | None = None
        self._others_heard: tuple[int, str] | None = None
        self._yielded = False
        self._rests = 0
        self._box: tuple[Array, Array] | None = None

    @property
    def measured(self) -> Array | None:
        """(J,) radians: the newest joint state that made sense."""
        return self._measured

    def sense(self, names: Sequence[str], positions: Sequence[float], now_ns: int) -> Array | None:
        """Take a joint state in any order of names; (J,) radians in the profile's, or None if it makes no sense.

        One that names none of the arm's joints is another driver's and passed over, and the first two are not believed
        yet. After one that makes no sense, or that is further from the one before than the arm can have gone, the arm
        is held until some in a row do, and nothing else comes for half a second.
        """
        if names and set(names).isdisjoint(self._names):
            # Another driver's on the same topic: a gripper, a mobile base.
            self._others = f"; what comes names {', '.join(names)}: correct the profile's joint names"
            return None
        if self._sample is not None and now_ns - self._sample[1] > self._profile.state_timeout * 1e9:
            self._good_samples = 0
        values, problem = self._positions(names, positions)
        problem = problem or self._leap(values, now_ns)
        if problem:
            self._bad_sample, self._good_samples, self._bad_ns = problem, 0, now_ns
            return None
        self._good_samples += 1
        if self._good_samples < _GOOD_IN_A_ROW or (self._bad_sample and now_ns - self._bad_ns < _SETTLED_NS):
            return None
        self._bad_sample = ""
        self._measured, self._measured_ns = values, now_ns
        return values

    def _positions(self, names: Sequence[str], positions: Sequence[float]) -> tuple[Array, str]:
        """(J,) radians in the profile's order, and what is wrong with them; empty if nothing is."""
        if len(positions) < len(names) or len(set(names)) != len(names):
            return _NOTHING, f"{len(positions)} positions for the names {list(names)}"
        places = {name: index for index, name in enumerate(names)}
        missing = [name for name in self._names if name not in places]
        if missing:
            return _NOTHING, f"{', '.join(missing)} missing from {list(names)}; correct the profile's joint names"
        values = np.array([positions[places[name]] for name in self._names], dtype=np.float64)
        if not np.isfinite(values).all():
            return values, f"joint positions {values.round(4).tolist()} are not all finite; check the driver"
        return values, ""

    def _leap(self, values: Array, now_ns: int) -> str:
        """How positions (J,), radians, are further from the sample before than the arm can have gone; empty if not."""
        before, self._sample = self._sample, (values, now_ns)
        if before is None:
            return ""
        # Numbers of a driver gone wild may be further apart than any number: infinitely far says the same.
        with np.errstate(over="ignore"):
            away = np.abs(values - before[0])
        # A way that a lag would be held for, beside what its speed allows: samples may come bunched.
        beyond = away - self._speed * ((now_ns - before[1]) / 1e9) - self._profile.tracking
        worst = int(beyond.argmax())
        if beyond[worst] <= 0.0:
            return ""
        return (
            f"{self._names[worst]} leapt by {away[worst]:.3f} rad in {(now_ns - before[1]) / 1e6:.0f} ms; look at its "
            "encoder, or whether two drivers publish the same topic"
        )

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
            self._awaited, self._losses, self._yielded = _GOOD_IN_A_ROW, (), False
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
        self._target, self._command_fault = None, (Hold.EMERGENCY_STOP, "released by the controller's service")
        self._losses, self._yielded = (), False

    def end(self) -> None:
        """Come to rest, whatever is commanded after it: the last of what is told must not be a motion."""
        self._ended = True

    @property
    def at_rest(self) -> bool:
        """Whether what is told stands still, or nothing was told yet."""
        moving = self._joints if self._joint_mode else self._tool
        return moving is None or (moving.at_rest and not self._turning.any())

    def tick(self, now_ns: int) -> Output:
        """What to tell the arm now, at most a reason why nothing. Call it at the profile's command rate."""
        elapsed = (now_ns - self._ticked_ns) / 1e9 if self._ticked_ns else self._period
        self._ticked_ns = now_ns
        problem = self._problem(now_ns)
        if self._joints is None:
            # Nothing is sent before an arm and a command are there: whoever has the arm until then keeps it.
            if self._measured is None or problem is not None:
                self._box = None
                return self._output(problem)
            self._joints = Tracker(
                np.clip(self._measured, self._low, self._high), self._speed, self._profile.limits("acceleration"),
                self._period,
            )  # fmt: skip
            self._tool = self._tool_at(self._measured)
            self._losses = ()
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
        if output.hold is not None and output.hold not in _TARGETS:
            # It may be moved by others meanwhile: where it is found then is where it starts.
            self._box = None
        return output

    def _problem(self, now_ns: int) -> tuple[Hold, str] | None:
        profile = self._profile
        if self._bad_sample:
            return Hold.JOINT_STATES_INVALID, self._bad_sample
        if self._measured is None:
            few = f"; fewer than {_GOOD_IN_A_ROW} came within {profile.state_timeout:g} s of each other"
            seen = self._others if self._sample is None else few
            return Hold.NO_JOINT_STATES, f"expected on {profile.joint_states!r}{seen}"
        age = (now_ns - self._measured_ns) / 1e9
        if age > profile.state_timeout:
            return Hold.JOINT_STATES_STALE, f"the last is {age:.3f} s old, limit {profile.state_timeout:g} s"
        outside = np.maximum(self._low - self._measured, self._measured - self._high)
        worst = int(outside.argmax())
        self._beyond_limits = bool(outside[worst] > (0.5 if self._beyond_limits else 1.0) * _MEASURED_MARGIN)
        if self._beyond_limits:
            return Hold.JOINTS_OUTSIDE_LIMITS, (
                f"{self._names[worst]} is at {self._measured[worst]:.3f} rad, limits {self._low[worst]:g} to "
                f"{self._high[worst]:g}; move it back by hand or with the maker's tools"
            )
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
        age = (now_ns - self._target_ns) / 1e9
        if age > profile.command_timeout:
            return Hold.NO_COMMAND, f"the last is {age:.3f} s old, limit {profile.command_timeout:g} s"
        if self._awaited:
            return Hold.NO_COMMAND, f"they begin anew: {self._awaited} more in a row are awaited"
        return self._refused or self._outside(self._target)

    def _outside(self, target: CartesianTarget) -> tuple[Hold, str] | None:
        profile = self._profile
        if self._measured is None:
            return None
        here, _ = self._arm.pose(self._measured)
        low, high = np.minimum(profile.workspace_low, here), np.maximum(profile.workspace_high, here)
        if self._box is not None:
            # A tool that starts outside may come back in, and what it has come in by is lost to it: with room for a
            # little beyond where it is, it could go out in small steps.
            low, high = np.maximum(low, self._box[0]), np.minimum(high, self._box[1])
        self._box = low, high
        for axis, name in enumerate("xyz"):
            if not low[axis] - 1e-3 <= target.position[axis] <= high[axis] + 1e-3:
                return (
                    Hold.OUTSIDE_WORKSPACE,
                    f"{name} is {target.position[axis]:.3f} m, limits {low[axis]:.3f} to {high[axis]:.3f}",
                )
        return None

    def _joint_output(self, problem: tuple[Hold, str] | None, elapsed: float) -> Output:
        joints = self._joints
        assert joints is not None and self._measured is not None
        goal: Array | None = None
        if problem is None or problem[0] not in _BLIND:
            lag = np.abs(joints.value - self._measured)
            worst, limit = int(lag.argmax()), self._profile.tracking
            said = f"{self._names[worst]} is {lag[worst]:.3f} rad from what it was told, limit {limit:g} rad"
            lost = self._lost_at(float(lag[worst]) / limit, said)
            if lost is not None:
                problem = problem or (Hold.NOT_TRACKING, lost)
                if lag.max() > 0.5 * self._profile.tracking:
                    # What it is told comes back to where it is, so that nothing leaps when it moves again.
                    goal = np.clip(self._measured, self._low, self._high)
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
        """What gives, for joint velocities (J,), rad/s, the share of them that keeps the tool inside its own speeds.

        The controller's targets do. What the joints do to make up for a leap of them is theirs alone to limit.
        """
        jacobian, profile = self._arm.jacobian(here), self._profile

        def share(velocities: Array) -> float:
            twist = jacobian @ velocities
            linear, angular = float(np.linalg.norm(twist[:3])), float(np.linalg.norm(twist[3:]))
            return min(1.0, profile.tool_speed / max(linear, 1e-9), profile.turn_speed / max(angular, 1e-9))

        return share

    def _forget_lag(self) -> None:
        """Where the arm is, and so how far it lags, is not known now; that it is a case for a person stays so."""
        self._owed, self._seen, self._lead = np.zeros(6), None, None
        if len(self._losses) < self._stuck_after:
            self._lost = None

    def _lost_at(self, share: float, said: str) -> str | None:
        """Why an arm that is so far, as a share of its limit, from what it was told is held fast, or None.

        Until it was well inside for a while: a threshold alone would let the arm be pushed in small steps. Whoever
        or whatever holds it fast time and again is not pushed any more, until a person or a silence has ended it.
        """
        now_ns = self._ticked_ns
        if share > (1.0 if self._lost is None else 0.5):
            if self._lost is None:
                self._losses = (*(then for then in self._losses if now_ns - then < _STUCK_WITHIN_NS), now_ns)
            if len(self._losses) >= self._stuck_after:
                often = f"; that was so {len(self._losses)} times in {_STUCK_WITHIN_NS / 1e9:g} s"
                said += (often if self._stuck_after > 1 else "") + (
                    ": free the arm, then press and reset the emergency stop"
                )
            self._lost = now_ns, said
        elif self._lost is not None and now_ns - self._lost[0] >= _SETTLED_NS and len(self._losses) < self._stuck_after:
            self._lost = None
        return None if self._lost is None else self._lost[1]

    def _solved(self, here: Array) -> tuple[tuple[Hold, str] | None, Array | None]:
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
                    f"{self._names[worst]} would need {share[worst] * profile.reach_time:.2f} s at its velocity limit, "
                    f"limit {profile.reach_time:g} s"
                ),
            )
            return self._refused, None
        self._goal = solution.joints
        return None, solution.joints

    def _tool_output(self, problem: tuple[Hold, str] | None, elapsed: float) -> Output:
        tool, target, profile = self._tool, self._target, self._profile
        assert tool is not None and self._measured is not None
        measured, facing = self._arm.pose(self._measured)
        if problem is None or problem[0] not in _BLIND:
            self._take_up(measured, facing)
            lost = self._not_moved(measured, facing)
            problem = problem or lost
        else:
            self._forget_lag()
        if problem is None:
            assert target is not None
            far = self._far(target.position, target.orientation)
            if far > 1.0:
                text = (
                    f"it is {far * profile.reach_time:.2f} s away at the tool's limits, limit {profile.reach_time:g} s"
                )
                problem = self._refused = Hold.JUMP, text
        before = tool.value
        goal = (target.position, target.orientation) if problem is None and target is not None else self._lead
        tool.step(None if goal is None else goal[0], elapsed)
        self._turn(None if goal is None else goal[1], elapsed)
        if profile.mode == "cartesian_pose":
            return self._output(problem, position=tool.value.copy(), orientation=self._facing.copy())
        step = max(min(elapsed, self._period), 1e-4)
        if problem is not None:
            return self._moving_output(problem, tool.velocity, self._turning, step)
        # What the arm did not follow so far is made up for in half a second, inside the limits.
        linear = (tool.value - before) / step + 2.0 * (tool.value - measured)
        angular = self._turning + 2.0 * _turn_between(facing, self._facing)
        return self._moving_output(
            None, _shortened(linear, profile.tool_speed), _shortened(angular, profile.turn_speed), step
        )

    def _moving_output(self, problem: tuple[Hold, str] | None, linear: Array, angular: Array, elapsed: float) -> Output:
        twist = np.concatenate([linear, angular])
        self._owed = self._owed + twist * elapsed
        return self._output(problem, twist=twist)

    def _not_moved(self, measured: Array, facing: Array) -> tuple[Hold, str] | None:
        """Why a tool is held fast: it is not where it was told, or did not move by the speeds that it was told.

        Joint states that stay the same, though the arm moves, would otherwise let it be told to move for ever. What is
        owed to speeds is forgotten over a way, not over time: an arm may always be a little slower than told, and one
        that does not move at all owes ever more.
        """
        if self._profile.mode == "cartesian_pose":
            share = self._far(measured, facing)
            said = f"it is {share * self._profile.reach_time:.2f} s from what it was told, at the tool's limits"
        else:
            before, self._seen = self._seen or (measured, facing), (measured, facing)
            moved = np.concatenate([measured - before[0], _turn_between(before[1], facing)])
            self._owed = (self._owed - moved) * max(0.0, 1.0 - self._in_reach(moved))
            share = self._in_reach(self._owed) / _MOVED
            said = (
                f"it moved {1e3 * np.linalg.norm(self._owed[:3]):.0f} mm and {np.linalg.norm(self._owed[3:]):.2f} rad "
                "otherwise than it was told"
            )
        lost = self._lost_at(share, said)
        return None if lost is None else (Hold.NOT_TRACKING, lost)

    def _take_up(self, measured: Array, facing: Array) -> None:
        """Begin from a measured pose, (3,) metres and (4,) x y z w, if others moved the arm while it was held.

        What is told a pose is led there inside its limits: a measurement may be wrong, and the arm would leap to it.
        """
        tool = self._tool
        assert tool is not None
        if not self._held:
            self._lead = None
        elif tool.at_rest and not self._turning.any():
            if self._profile.mode == "cartesian_twist":
                tool.value, self._facing, self._owed = measured.copy(), facing, np.zeros(6)
            else:
                self._lead = (measured.copy(), facing) if self._far(measured, facing) > _MOVED else None

    def _far(self, position: Array, orientation: Array) -> float:
        """How far a pose is from the one that the arm was told, as a share of what is in reach in time."""
        tool = self._tool
        assert tool is not None
        return self._in_reach(np.concatenate([position - tool.value, _turn_between(self._facing, orientation)]))

    def _in_reach(self, motion: Array) -> float:
        """Share that a motion (6,), metres and radians, has of what is in reach in time."""
        profile = self._profile
        return max(
            float(np.linalg.norm(motion[:3])) / (profile.tool_speed * profile.reach_time),
            float(np.linalg.norm(motion[3:])) / (profile.turn_speed * profile.reach_time),
        )

    def _turn(self, goal: Array | None, elapsed: float) -> None:
        """Turn toward an orientation (4,) x y z w inside the limits, or come to rest without one."""
        profile, elapsed = self._profile, min(max(elapsed, 0.0), self._period)
        # It gathers its speed in the time in which the tool does.
        acceleration = profile.turn_speed * profile.tool_acceleration / profile.tool_speed
        wanted = np.zeros(3)
        if goal is not None:
            away = _turn_between(self._facing, goal)
            angle = float(np.linalg.norm(away))
            if angle > 1e-9:
                limits = np.array([profile.turn_speed]), np.array([acceleration])
                wanted = away * (fastest(np.array([angle]), *limits, self._period)[0] / angle)
        self._turning = self._turning + _shortened(wanted - self._turning, acceleration * elapsed)
        turned = quaternion_multiply(quaternion_from_rotation_vector(self._turning * elapsed), self._facing)
        self._facing = turned / np.linalg.norm(turned)

    def _tool_at(self, joints: Array) -> Tracker:
        profile = self._profile
        position, self._facing = self._arm.pose(joints)
        # An axis gets its share of the tool's limits, so that a diagonal keeps them too.
        share = 1.0 / math.sqrt(3.0)
        speed, acceleration = np.full(3, share * profile.tool_speed), np.full(3, share * profile.tool_acceleration)
        return Tracker(position, speed, acceleration, self._period)

    def _output(
        self,
        problem: tuple[Hold, str] | None,
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


def _turn_between(one: Array, other: Array) -> Array:
    """Rotation vector (3,), radians, that leads from one orientation (4,) x y z w to another, the shorter way."""
    return rotation_vector_from_quaternion(quaternion_multiply(other, quaternion_conjugate(one)))


def _shortened(vector: Array, longest: float) -> Array:
    return vector * min(1.0, longest / max(float(np.linalg.norm(vector)), 1e-9))
