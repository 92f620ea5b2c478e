# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Writes synthetic episodes as the recorder would: one bag with the topics that a calibration reads."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from flow_rag_vla.core.action import TICK_NS
from flow_rag_vla.core.goal import Goal
from flow_rag_vla.data.bag_writer import BagWriter
from flow_rag_vla.data.definitions import Definitions
from flow_rag_vla.failure.trace import Trace

OWN = "flow_rag_vla_interfaces/msg"
RUNNING, SUCCEEDED, FAILED, CANCELED = 2, 3, 4, 5
GAP_NS = 3_000_000_000


class BagBuilder:
    """One bag in a folder."""

    def __init__(
        self, folder: Path, *, without: Sequence[str] = (), encoder: str = "0123456789ab", slowdown: float = 0.0
    ) -> None:
        self._definitions = Definitions()
        self._bag = BagWriter(folder, self._definitions)
        self._encoder, self._slowdown = encoder, slowdown
        self._types = {
            "/episode_status": "EpisodeStatus",
            "/robot_state": "RobotState",
            "/command": "ControlCommand",
            "/embedding": "Embedding",
            "/action_chunk": "ActionChunk",
        }
        self._types = {topic: kind for topic, kind in self._types.items() if topic not in without}
        for topic, kind in self._types.items():
            self._bag.add_topic(topic, f"{OWN}/{kind}")
        self._now = 5_000_000_000

    def close(self) -> None:
        self._bag.close()

    def episode(
        self, number: int, trace: Trace, *, end: int | None = None, mode: int = 1, broken: bool = False
    ) -> None:
        """One episode; ``end`` replaces its outcome; mode: of the commands; broken: one embedding is not finite."""
        start = self._now
        info = trace.info
        words = Goal(info.task, info.target).instruction
        about = {"episode_id": number, "task": info.task, "instruction": words, "seed": info.seed, "variant": "plain"}
        about |= {"slowdown": self._slowdown}
        self._put("/episode_status", start, state=RUNNING, elapsed=0.0, timeout=10.0, **about)
        for row, frame in enumerate(trace.frames):
            stamp = start + row * 4 * TICK_NS
            for tick in range(4):
                self._state(stamp + tick * TICK_NS, frame.position, mode)
            values = frame.embedding.copy()
            if broken and row == 3:
                values[0] = np.nan
            self._put("/embedding", stamp, encoder="compact", revision=self._encoder, values=values)
            if frame.chunk is not None:
                chunk = frame.chunk
                source = self._definitions.message(
                    f"{OWN}/Provenance", policy="flow", policy_revision=chunk.provenance.policy_revision
                )
                self._put(
                    "/action_chunk",
                    stamp,
                    chunk_id=chunk.chunk_id,
                    task=info.task,
                    horizon=chunk.horizon,
                    action_dim=7,
                    tick_period=0.025,
                    actions=chunk.actions.ravel(),
                    uncertainty=chunk.uncertainty,
                    committed=chunk.committed,
                    provenance=source,
                )
        self._now = start + round(info.duration * 1e9)
        outcome = end if end is not None else (SUCCEEDED if info.success else FAILED)
        self._put("/episode_status", self._now, state=outcome, elapsed=info.duration, timeout=10.0, **about)
        self._now += GAP_NS

    def _state(self, stamp: int, position: Any, mode: int) -> None:
        point = self._definitions.message("geometry_msgs/msg/Point", x=position[0], y=position[1], z=position[2])
        down = self._definitions.message("geometry_msgs/msg/Quaternion", x=1.0, y=0.0, z=0.0, w=0.0)
        pose = self._definitions.message("geometry_msgs/msg/Pose", position=point, orientation=down)
        zeros = np.zeros(7)
        self._put("/command", stamp, target=pose, gripper_width=0.08, mode=mode)
        self._put(
            "/robot_state",
            stamp,
            end_effector=pose,
            joint_names=[f"joint{index}" for index in range(7)],
            joint_positions=zeros,
            joint_velocities=zeros,
            gripper_width=0.08,
        )

    def _put(self, topic: str, stamp: int, **fields: Any) -> None:
        if topic not in self._types:
            return
        time = self._definitions.message(
            "builtin_interfaces/msg/Time", sec=stamp // 1_000_000_000, nanosec=stamp % 1_000_000_000
        )
        header = self._definitions.message("std_msgs/msg/Header", stamp=time, frame_id="base_link")
        msgtype = f"{OWN}/{self._types[topic]}"
        message = self._definitions.message(msgtype, header=header, **fields)
        self._bag.write(topic, stamp, self._definitions.serialize(message, msgtype))
