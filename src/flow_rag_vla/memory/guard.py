# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Tries a new case on what is known to work before it may act: a regression test for the memory.

Three questions, the cheapest first. Is the correction a motion that the robot may make (length of each step, rotation,
gripper)? Does it, followed from where the tool was, stay in the workspace? And would the case have come up in
situations of episodes that succeeded, and changed what was done there? The last is the worst case: guidance is taken
to lead all the way to the correction, and a case that only knows what failed is taken to forbid what it resembles.
What a case says of a misread target is looked at in ``misreadings``: it may be left out, and the case still act.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.control.integrator import MotionLimits
from flow_rag_vla.memory.case import Array, CaseError, FailureCase, action_distance
from flow_rag_vla.memory.ledger import Successes
from flow_rag_vla.memory.misreadings import MisreadingSettings

TOLERANCE = 1e-3
"""Share by which a step may exceed its limit, and metres by which a path may leave the workspace: float32 rounding."""

STOPPED = "stopped by the guard"
"""How the reason begins for which a case is retired that the guard stopped."""

ToolPosition = Callable[[Array], "NDArray[np.floating] | None"]
"""(P,) proprioception of a case to (3,) metres in the base frame; None if it is not known."""


class GuardError(CaseError):
    """A case that the guard stops; the text names what it would change and the remedy."""


class GuardReason(str, Enum):
    """Why a case was stopped."""

    LIMITS = "limits"
    WORKSPACE = "workspace"
    SUCCESS = "success"


@dataclass(frozen=True, slots=True)
class GuardSettings:
    """How much a case may change.

    distance: of chunks (see ``action_distance``) above which a success counts as changed; a gripper that does the
        opposite throughout is at 0.378
    same_actions: distance below which a success did what a case without a correction says had failed
    share: of the stored successes of its task and phase that a case may change; the retrieval gate itself lets through
        a few per cent of them
    limits: of motion; those of the controller
    misreading: when one that arrives is believed
    tool_position: where the tool was; None leaves the workspace unchecked
    """

    distance: float = 0.35
    same_actions: float = 0.15
    share: float = 0.02
    limits: MotionLimits = field(default_factory=MotionLimits)
    tool_position: ToolPosition | None = None
    misreading: MisreadingSettings = field(default_factory=MisreadingSettings)


@dataclass(frozen=True, slots=True)
class GuardRefusal:
    """Why a case was stopped, in one sentence with the remedy."""

    reason: GuardReason
    text: str


class Guard:
    """The questions of the module, asked of one case after another against one sample of successes."""

    def __init__(self, settings: GuardSettings, successes: Successes, threshold: float) -> None:
        """Ask with these settings.

        Args:
            settings: how much may change.
            successes: the sample, of the cases' encoder.
            threshold: cosine similarity from which a case is credible.
        """
        self._settings, self._threshold, self._successes = settings, threshold, successes

    def refusal(self, case: FailureCase) -> GuardRefusal | None:
        """Why a case may not act; None if it may."""
        return self.unsafe(case) or self.changes_success(case)

    def unsafe(self, case: FailureCase) -> GuardRefusal | None:
        """Why its correction is no motion for this robot; None if it is one, or there is none."""
        if case.correction is None:
            return None
        limits = self._settings.limits
        problem = beyond_limits(case.correction, limits)
        if problem is not None:
            return GuardRefusal(GuardReason.LIMITS, f"correction: {problem}")
        where = self._settings.tool_position
        position = where(case.proprioception) if where is not None else None
        if position is not None:
            problem = leaves_workspace(case.correction, position, limits)
            if problem is not None:
                return GuardRefusal(GuardReason.WORKSPACE, f"correction: {problem}")
        return None

    def unplaced(self, case: FailureCase) -> GuardRefusal | None:
        """Why the correction of a case from elsewhere cannot be followed through the workspace; None if it can.

        To leave out where the tool was would be a way past that question. What the robot learned itself while it did
        not know its own state is left to the controller's limits.
        """
        where = self._settings.tool_position
        if case.correction is None or where is None or where(case.proprioception) is not None:
            return None
        text = (
            f"correction: the case does not say where the tool was ({case.proprioception.size} numbers of "
            "proprioception), so whether it stays in the workspace cannot be told; learn it again where robot states "
            "are heard, or forget the correction at its source: flow_rag_vla memory edit ID --forget-correction"
        )
        return GuardRefusal(GuardReason.WORKSPACE, text)

    def changes_success(self, case: FailureCase) -> GuardRefusal | None:
        """Which successes it would have changed, if they are too many."""
        place = self._successes.get((case.task, case.phase))
        if place is None or place.situations[0].stamp != case.stamp:
            return None
        known = place.situations
        similarities = place.vectors @ case.embedding
        changed: list[tuple[float, int]] = []
        for row in np.flatnonzero(similarities >= self._threshold).tolist():
            done = known[row].actions
            if case.correction is not None:
                distance = action_distance(done, case.correction)
                if distance > self._settings.distance:
                    changed.append((distance, row))
            elif (distance := action_distance(done, case.failed_actions)) < self._settings.same_actions:
                changed.append((-distance, row))
        if len(changed) <= self._settings.share * len(known):
            return None
        distance, row = max(changed)
        which, similarity = known[row], float(similarities[row])
        found = f"it comes up in {len(changed)} of {len(known)} stored successes of {case.task}/{case.phase}"
        if case.correction is None:
            what = (
                f"{found} that did what it says failed: {which} is alike to {similarity:.3f} (gate "
                f"{self._threshold:.3f}) and its actions differ by {-distance:.3f}, less than "
                f"{self._settings.same_actions:g}; give it a correction, or raise the threshold"
            )
        else:
            what = (
                f"{found} and changes them: {which} is alike to {similarity:.3f} (gate {self._threshold:.3f}) and its "
                f"actions differ from the correction by {distance:.3f}, allowed is {self._settings.distance:g}; mend "
                "the correction, or raise guard_distance or guard_share if those successes do not need protection"
            )
        return GuardRefusal(GuardReason.SUCCESS, what)


def beyond_limits(actions: Array, limits: MotionLimits) -> str | None:
    """Say which row of a correction (H, 7) passes a limit of motion, or None."""
    for name, columns, limit, unit in (
        ("translation", slice(0, 3), limits.translation, "m"),
        ("rotation", slice(3, 6), limits.rotation, "rad"),
    ):
        lengths = np.linalg.norm(actions[:, columns].astype(np.float64), axis=1)
        row = int(np.argmax(lengths))
        if lengths[row] > limit * (1.0 + TOLERANCE):
            return f"row {row} has a {name} of {lengths[row]:.4f} {unit}, allowed is {limit:g} {unit} a tick; scale it"
    grip = actions[:, 6]
    row = int(np.argmax(np.abs(grip - 0.5)))
    if not -TOLERANCE <= grip[row] <= 1.0 + TOLERANCE:
        return f"row {row} opens the gripper to {grip[row]:.3f}, expected 0 to 1"
    return None


def leaves_workspace(actions: Array, position: NDArray[np.floating], limits: MotionLimits) -> str | None:
    """Say where a correction (H, 7) leads a tool out of the workspace, the table among its walls; None if it does not.

    A tool that starts outside may come closer, as in the controller's integrator.

    Args:
        actions: the correction.
        position: (3,) metres, base frame: where the tool was.
        limits: of motion.
    """
    start = np.asarray(position, dtype=np.float64)
    path = start + np.cumsum(actions[:, :3].astype(np.float64), axis=0)
    low = np.minimum(np.array(limits.workspace_low), start) - TOLERANCE
    high = np.maximum(np.array(limits.workspace_high), start) + TOLERANCE
    outside = (path < low) | (path > high)
    if not outside.any():
        return None
    row, axis = (int(index) for index in np.argwhere(outside)[0])
    edge = limits.workspace_low[axis] if path[row, axis] < low[axis] else limits.workspace_high[axis]
    where = "below the table's edge of the workspace" if axis == 2 and path[row, axis] < low[axis] else "out of it"
    return (
        f"from the tool at {np.round(start, 3).tolist()} m it leaves the workspace in row {row}: {'xyz'[axis]} "
        f"{path[row, axis]:.3f} m, limit {edge:g} m, {where}; shorten or redirect it"
    )


def within_limits(actions: Array, limits: MotionLimits) -> Array:
    """A chunk (H, 7) whose rows were cut to the limits, as the controller would; for what was asked of it before."""
    cut = np.array(actions, dtype=np.float32)
    for columns, limit in ((slice(0, 3), limits.translation), (slice(3, 6), limits.rotation)):
        lengths = np.linalg.norm(cut[:, columns], axis=1, keepdims=True)
        cut[:, columns] *= np.minimum(1.0, limit / np.maximum(lengths, 1e-9))
    cut[:, 6] = np.clip(cut[:, 6], 0.0, 1.0)
    return cut
