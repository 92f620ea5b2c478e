# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A policy in a closed loop without the graph, with the graph's delays.

A picture taken at one tick becomes a chunk that arrives some ticks later, and each tick runs the row that its
distance from the picture names: what controller and policy nodes do over topics.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.control.pace import Pace, carried, played
from flow_rag_vla.core.action import ACTION_DIM, GRIPPER, TICK_NS, ActionChunk
from flow_rag_vla.core.correction import Correction
from flow_rag_vla.core.goal import Goal
from flow_rag_vla.core.state import GRIPPER_MAX_WIDTH, RobotState
from flow_rag_vla.policy.encoders.base import Encoder
from flow_rag_vla.policy.policy import FlowPolicy

Corrector = Callable[[NDArray[np.float32], RobotState, Goal, int], "Correction | None"]
"""(embedding (D,), robot state, goal, stamp in nanoseconds) to what a failure memory answers."""

Belief = Callable[[RobotState], NDArray[np.floating]]
"""Robot state to a reading (READING_DIM,) that is believed instead of what the policy reads in its pictures."""

Arrival = Callable[[ActionChunk, int], ActionChunk]
"""(chunk, tick at which it arrives) to the chunk that is followed: the controller's part of a correction."""


def noise_seed(base: int, observed: int) -> int:
    """The seed of one chunk's noise, from the episode's seed and when its observation was made.

    observed: the tick of its picture, or its stamp; a function of the observation alone, so that a replayed bag draws
        the same
    """
    return int.from_bytes(hashlib.sha256(f"{base}:{observed}".encode()).digest()[:7], "big")


class ChunkFollower:
    """Makes chunks from pictures and gives the action of each tick."""

    def __init__(
        self,
        policy: FlowPolicy,
        encoder: Encoder,
        goal: Goal,
        *,
        seed: int,
        delay_ticks: int = 3,
        corrector: Corrector | None = None,
        arrived: Arrival | None = None,
        shift: NDArray[np.floating] | None = None,
        pace: float = 1.0,
        believed: Belief | None = None,
    ) -> None:
        policy.check_encoder(encoder.name, encoder.revision)
        if delay_ticks < 0:
            raise ValueError(f"delay_ticks is {delay_ticks}, expected at least 0")
        self._policy = policy
        self._encoder = encoder
        self._goal = goal
        self._seed = seed
        self._delay = delay_ticks
        self._corrector = corrector
        self._arrived = arrived
        self._shift = shift
        self._pace = Pace()
        self._pace.begin(pace)
        self._believed = believed
        self._active: ActionChunk | None = None
        self._pending: list[tuple[int, ActionChunk]] = []
        self._newest: ActionChunk | None = None
        self._gripper: float | None = None
        self.starved_ticks = 0
        """Ticks at which no chunk had a row left."""
        self.chunks = 0
        """Chunks made so far."""

    def observe(self, tick: int, images: Mapping[str, NDArray[np.uint8]], state: RobotState) -> ActionChunk:
        """Take one picture a camera at ``tick``; the chunk made of them runs from ``tick + delay_ticks`` on."""
        return self.observe_embedding(tick, self._encoder.encode(images), state)

    def observe_embedding(self, tick: int, embedding: NDArray[np.float32], state: RobotState) -> ActionChunk:
        """As ``observe``, with what the encoder makes of the pictures: (D,) float32 of unit length."""
        stamp = tick * TICK_NS
        correction = None
        if self._corrector is not None:
            correction = self._corrector(embedding, state, self._goal, stamp)
        chunk = self._policy.act(
            embedding,
            state,
            self._goal,
            seed=noise_seed(self._seed, tick),
            stamp_ns=stamp,
            previous=carried(self._newest, stamp, self._pace.value),
            delay_ticks=math.ceil(self._delay * self._pace.value),
            correction=correction,
            shift=self._shift,
            reading=None if self._believed is None else self._believed(state),
        )
        self._pending.append((tick + self._delay, chunk))
        self._newest = chunk
        self.chunks += 1
        return chunk

    def action(self, tick: int, state: RobotState) -> NDArray[np.float32]:
        """(7,) float32: the action of this tick; standing still, the gripper as it is, when there is none."""
        while self._pending and self._pending[0][0] <= tick:
            arrival, self._active = self._pending.pop(0)
            if self._arrived is not None:
                self._active = self._arrived(self._active, arrival)
        if self._gripper is None:
            self._gripper = float(state.gripper_width > 0.5 * GRIPPER_MAX_WIDTH)
        if self._active is not None:
            row = self._pace.rows(self._active.stamp_ns, tick * TICK_NS)
            if row < self._active.horizon:
                action = played(self._active.actions, row, self._pace.value).astype(np.float32, copy=False)
                self._gripper = float(action[GRIPPER])
                return action
        self.starved_ticks += 1
        still = np.zeros(ACTION_DIM, dtype=np.float32)
        still[GRIPPER] = self._gripper
        return still
