# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""This repository's own policy and encoder behind a policy server, as the contract ``plain`` says."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from flow_rag_vla.core.goal import parse_instruction
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.policy.encoders import make_encoder
from flow_rag_vla.policy.policy import FlowPolicy


class OwnPolicy:
    """Requests to answers. Like openpi's policies it knows nothing of chunks before."""

    def __init__(self) -> None:
        self._encoder = make_encoder("compact", "cpu")
        self._policy = FlowPolicy.load(None, "cpu")
        self.prompts: list[str] = []

    def __call__(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Actions (16, 7) of one observation."""
        prompt, values = request["prompt"], request["observation/state"].astype(float)
        self.prompts.append(prompt)
        images = {"front": request["observation/image"].copy(), "wrist": request["observation/wrist_image"].copy()}
        state = RobotState(0, values[:3], values[3:7] / np.linalg.norm(values[3:7]), gripper_width=float(values[7]))
        try:
            goal = parse_instruction(prompt)
        except ValueError:
            return {"actions": np.tile(np.float32([0, 0, 0, 0, 0, 0, 1]), (16, 1))}
        embedding = self._encoder.encode(images)
        chunk = self._policy.act(embedding, state, goal, stamp_ns=0, seed=len(self.prompts))
        return {"actions": chunk.actions, "server_timing": {"infer_ms": 1.0}}
