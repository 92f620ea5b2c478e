# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Values for an arm to the standard messages that drivers take."""

from __future__ import annotations

import array

import numpy as np
from builtin_interfaces.msg import Duration, Time
from geometry_msgs.msg import PoseStamped, TwistStamped
from numpy.typing import NDArray
from std_msgs.msg import Float64MultiArray
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from flow_rag_vla.nodes.conversions import pose_message
from flow_rag_vla.robot.profile import RobotProfile

Array = NDArray[np.float64]


def trajectory_message(names: list[str], positions: Array, period_s: float) -> JointTrajectory:
    """One point, a period from now.

    Without velocities, as controllers refuse a trajectory that ends in motion; and without a stamp, which means now,
    so that the driver's clock need not agree.
    """
    nanoseconds = round(period_s * 1e9)
    point = JointTrajectoryPoint(time_from_start=Duration(sec=nanoseconds // 10**9, nanosec=nanoseconds % 10**9))
    point.positions = array.array("d", positions.tolist())
    return JointTrajectory(joint_names=names, points=[point])


def positions_message(positions: Array) -> Float64MultiArray:
    """What a forward position controller takes: positions in the order that it was set up with."""
    return Float64MultiArray(data=array.array("d", positions.tolist()))


def arm_message(
    profile: RobotProfile,
    stamp: Time,
    joints: Array | None,
    position: Array | None,
    orientation: Array | None,
    twist: Array | None,
) -> JointTrajectory | Float64MultiArray | PoseStamped | TwistStamped:
    """The message of the profile's mode."""
    message: JointTrajectory | Float64MultiArray | PoseStamped | TwistStamped
    if joints is not None:
        if profile.mode == "joint_position":
            return positions_message(joints)
        return trajectory_message(list(profile.joint_names), joints, 1.0 / profile.command_rate)
    if position is not None and orientation is not None:
        message = PoseStamped(pose=pose_message(position, orientation))
    else:
        assert twist is not None
        message = TwistStamped()
        linear, angular = message.twist.linear, message.twist.angular
        linear.x, linear.y, linear.z, angular.x, angular.y, angular.z = (float(value) for value in twist)
    message.header.stamp, message.header.frame_id = stamp, profile.base_frame
    return message


ARM_TYPES = {
    "joint_trajectory": JointTrajectory,
    "joint_position": Float64MultiArray,
    "cartesian_pose": PoseStamped,
    "cartesian_twist": TwistStamped,
}
"""Message type of each mode."""

GRIPPER_TYPES = {"position": Float64MultiArray, "trajectory": JointTrajectory}
