# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What the rules look at, and what they say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from flow_rag_vla.core.failure import Evidence, FailureType
from flow_rag_vla.core.goal import Goal
from flow_rag_vla.core.phase import Phase
from flow_rag_vla.core.state import GRIPPER_MAX_WIDTH, CartesianTarget, RobotState
from flow_rag_vla.failure.grip import Grip


@dataclass(frozen=True, slots=True)
class Command:
    """The last command that the robot was given.

    opening: commanded opening of the hand, 0 (closed) to 1 (open)
    observation_stamp_ns: capture time of the images behind it; 0 if it came from none
    following: whether the controller was following a chunk (not holding, slowing down or stopped)
    """

    stamp_ns: int
    target: CartesianTarget
    observation_stamp_ns: int = 0
    following: bool = True

    @property
    def opening(self) -> float:
        """Commanded opening of the hand, 0 (closed) to 1 (open)."""
        return self.target.gripper_width / GRIPPER_MAX_WIDTH


@dataclass(frozen=True, slots=True)
class Episode:
    """The attempt that is being watched. ``timeout`` is in seconds; 0: none. ``goal``: None if it is not known.

    pace: share of the speed at which it is done, above 0 and at most 1
    """

    episode_id: int
    task: str
    start_ns: int
    timeout: float = 0.0
    goal: Goal | None = None
    pace: float = 1.0


@dataclass(frozen=True, slots=True)
class Sample:
    """One robot state with everything known beside it.

    tracking_error: metres between the measured tool and the newest target that it has had one tick to follow; 0 if none
    tracking_angle: radians between the two orientations
    grip_onset_ns: capture time of the images behind the present command to the hand, or the time of that command
    carried: metres between the tool's places where the present or lost hold began and where it was last firm
    """

    state: RobotState
    command: Command | None
    episode: Episode
    phase: Phase
    phase_since_ns: int
    grip: Grip
    tracking_error: float
    tracking_angle: float
    grip_onset_ns: int
    carried: float = 0.0

    @property
    def stamp_ns(self) -> int:
        """Time of the robot state."""
        return self.state.stamp_ns


@dataclass(frozen=True, slots=True)
class FailureReport:
    """A failure, seen by one rule or model.

    stamp_ns: time of the robot state (or embedding) that showed it
    onset_ns: when the situation began; the observation nearest to it is the one to remember
    phase: the phase at the onset
    confidence: 0 to 1
    detector: name of the rule or model
    description: one sentence for people
    """

    failure_type: FailureType
    stamp_ns: int
    onset_ns: int
    phase: Phase
    confidence: float
    detector: str
    description: str
    evidence: tuple[Evidence, ...] = ()


class Rule(Protocol):
    """Watches for one kind of failure."""

    @property
    def name(self) -> str:
        """Name of the rule, as in events."""

    @property
    def failure_type(self) -> FailureType:
        """The kind of failure that it watches for."""

    @property
    def active(self) -> bool:
        """Whether a situation that was reported still lasts."""

    def update(self, sample: Sample) -> FailureReport | None:
        """Take one sample in; a report on the sample that shows a failure, once for each situation."""

    def reset(self) -> None:
        """Forget the present episode."""
