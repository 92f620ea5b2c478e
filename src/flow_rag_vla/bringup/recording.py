"""Which topics a bag of the graph holds."""

from __future__ import annotations

from flow_rag_vla.bringup import topics

ROSOUT = "/rosout"

RECORDED_TOPICS: tuple[str, ...] = (
    topics.FRONT_IMAGE,
    topics.FRONT_INFO,
    topics.WRIST_IMAGE,
    topics.WRIST_INFO,
    topics.JOINT_STATES,
    topics.GRIPPER_STATE,
    topics.WRENCH,
    topics.ROBOT_STATE,
    topics.EMBEDDING,
    topics.ACTION_CHUNK,
    topics.CORRECTION,
    topics.COMMAND,
    topics.LOOP_STATISTICS,
    topics.FAILURE_EVENT,
    topics.FAILURE_SCORE,
    topics.MEMORY_STATISTICS,
    topics.EPISODE_STATUS,
    topics.EMERGENCY_STOP,
    topics.GROUND_TRUTH,
    topics.CLOCK,
    topics.DIAGNOSTICS,
    ROSOUT,
)
"""Every topic of the graph; types are taken from whoever publishes."""
