# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Parameters of the failure detector."""

from __future__ import annotations

from dataclasses import dataclass, fields

from flow_rag_vla.core.parameters import parameter
from flow_rag_vla.failure.thresholds import RuleThresholds

_RULES = RuleThresholds()


@dataclass(frozen=True, slots=True)
class FailureDetectorParameters:
    """When a gripper, a force, a tracking error or a pause means failure, and what the monitor is calibrated with."""

    autostart: bool = parameter(
        True, "Configure and activate at start; false: wait for a lifecycle manager (ros2 lifecycle set)"
    )
    grasp_empty_width: float = parameter(
        _RULES.grasp_empty_width,
        "Fingers nearer than this hold nothing",
        unit="m",
        minimum=0.0,
        maximum=0.08,
        live=True,
    )
    grasp_hold_effort: float = parameter(
        _RULES.grasp_hold_effort,
        "Fingers that press less than this hold nothing; 0 where the hand senses no effort",
        unit="N",
        minimum=0.0,
        maximum=200.0,
        live=True,
    )
    grasp_settle_time: float = parameter(
        _RULES.grasp_settle_time,
        "Least time from a closing command to settled fingers",
        unit="s",
        minimum=0.0,
        maximum=5.0,
        live=True,
    )
    grasp_confirm_time: float = parameter(
        _RULES.grasp_confirm_time,
        "How long settled fingers stay empty before that is a grasp failure",
        unit="s",
        minimum=0.0,
        maximum=5.0,
        live=True,
    )
    grasp_abandon_time: float = parameter(
        _RULES.grasp_abandon_time,
        "A hand that is told to close for less than this makes no attempt at a grasp",
        unit="s",
        minimum=0.0,
        maximum=5.0,
        live=True,
    )
    drop_min_hold: float = parameter(
        _RULES.drop_min_hold,
        "A hold that ends sooner, and with which nothing moved, was none: its end is a grasp failure, not a drop",
        unit="s",
        minimum=0.0,
        maximum=5.0,
        live=True,
    )
    drop_min_carry: float = parameter(
        _RULES.drop_min_carry,
        "Nor was one with which something moved and that ends sooner than this",
        unit="s",
        minimum=0.0,
        maximum=5.0,
        live=True,
    )
    carry_distance: float = parameter(
        _RULES.carry_distance,
        "Something has moved with the hand that went so far while it held it firmly",
        unit="m",
        minimum=0.0,
        maximum=0.5,
        live=True,
    )
    collision_force_free: float = parameter(
        _RULES.collision_force_free,
        "External force above this is a collision while reaching",
        unit="N",
        minimum=1.0,
        maximum=500.0,
        live=True,
    )
    collision_force_contact: float = parameter(
        _RULES.collision_force_contact,
        "External force above this is a collision while grasping, carrying, releasing or pushing",
        unit="N",
        minimum=1.0,
        maximum=500.0,
        live=True,
    )
    collision_force_pull: float = parameter(
        _RULES.collision_force_pull,
        "External force above this is a collision in tasks that move furniture",
        unit="N",
        minimum=1.0,
        maximum=500.0,
        live=True,
    )
    collision_time: float = parameter(
        _RULES.collision_time,
        "How long the force lasts before it is a collision",
        unit="s",
        minimum=0.0,
        maximum=5.0,
        live=True,
    )
    misalignment_distance: float = parameter(
        _RULES.misalignment_distance,
        "Distance between commanded and measured tool above which they disagree",
        unit="m",
        minimum=0.001,
        maximum=0.5,
        live=True,
    )
    misalignment_angle: float = parameter(
        _RULES.misalignment_angle,
        "Angle between commanded and measured tool above which they disagree",
        unit="rad",
        minimum=0.01,
        maximum=3.2,
        live=True,
    )
    misalignment_time: float = parameter(
        _RULES.misalignment_time,
        "How long they disagree before that is a misalignment",
        unit="s",
        minimum=0.0,
        maximum=10.0,
        live=True,
    )
    timeout_reach: float = parameter(
        _RULES.timeout_reach, "Longest approach", unit="s", minimum=0.1, maximum=600.0, live=True
    )
    timeout_grasp: float = parameter(
        _RULES.timeout_grasp,
        "Longest grasp: from the closing command until something moves with the hand",
        unit="s",
        minimum=0.1,
        maximum=600.0,
        live=True,
    )
    timeout_transport: float = parameter(
        _RULES.timeout_transport,
        "Longest carrying, pushing or pulling",
        unit="s",
        minimum=0.1,
        maximum=600.0,
        live=True,
    )
    timeout_release: float = parameter(
        _RULES.timeout_release, "Longest release", unit="s", minimum=0.1, maximum=600.0, live=True
    )
    stall_distance: float = parameter(
        _RULES.stall_distance,
        "A tool that stays within this distance makes no progress",
        unit="m",
        minimum=0.0005,
        maximum=0.5,
        live=True,
    )
    stall_time: float = parameter(
        _RULES.stall_time, "Longest time without progress", unit="s", minimum=0.1, maximum=600.0, live=True
    )
    rearm_time: float = parameter(
        _RULES.rearm_time,
        "How long a collision or misalignment must be over before the next one is told",
        unit="s",
        minimum=0.0,
        maximum=60.0,
        live=True,
    )
    merge_time: float = parameter(
        _RULES.merge_time,
        "Collision and misalignment this near in time are one failure",
        unit="s",
        minimum=0.0,
        maximum=60.0,
        live=True,
    )
    calibration: str = parameter("", "File of the monitor's calibration; empty: the one that ships; off: rules alone")
    before_after: str = parameter(
        "none",
        "Before/after classifier as one more score, fused where its band belongs to the calibration: a file; shipped: "
        "the one that ships; none: no such score",
    )
    false_alarm_rate: float = parameter(
        0.0,
        "Share of success episodes that may raise an alarm; 0: the calibration's own",
        minimum=0.0,
        maximum=0.5,
        live=True,
    )
    false_alarms_file: str = parameter(
        "",
        "File with what was counted of false alarms, for a detector that is started again; empty: in ~/.ros, by domain "
        "and namespace; off: none",
    )

    def thresholds(self) -> RuleThresholds:
        """The part that the rules read."""
        return RuleThresholds(**{entry.name: getattr(self, entry.name) for entry in fields(RuleThresholds)})
