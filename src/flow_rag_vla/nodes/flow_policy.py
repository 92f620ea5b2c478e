# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The flow action generator: embedding, proprioception and goal in, one action chunk out.

A chunk starts when its embedding arrives. The failure memory answers the same embedding in parallel; the policy
waits for that answer no longer than its budget, then samples without it and says so in the provenance.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray
from rclpy.clock import Clock
from rclpy.clock_type import ClockType

from flow_rag_vla.bringup import topics
from flow_rag_vla.bringup.held_model import HeldModel
from flow_rag_vla.bringup.parameters.flow_policy import FlowPolicyParameters
from flow_rag_vla.control.pace import carried, pace_of
from flow_rag_vla.core.action import TICK_NS, ActionChunk, CorrectionMode
from flow_rag_vla.core.correction import Correction
from flow_rag_vla.core.goal import Goal, UnknownTaskError, parse_instruction
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.data import message_values
from flow_rag_vla.data.message_values import MessageError
from flow_rag_vla.nodes import conversions, qos
from flow_rag_vla.nodes.complaints import Complaints
from flow_rag_vla.nodes.diagnostics import OK, WARN, Health
from flow_rag_vla.nodes.lifecycle import RUNNING, ManagedNode, run_managed
from flow_rag_vla.nodes.parameters import NodeParameters
from flow_rag_vla.nodes.recent_states import RecentStates
from flow_rag_vla.nodes.runtime import StartError
from flow_rag_vla.nodes.stamps import to_ns
from flow_rag_vla.nodes.torch_runtime import prepare_torch
from flow_rag_vla.policy.checkpoint import CheckpointError
from flow_rag_vla.policy.flow import Method
from flow_rag_vla.policy.follower import noise_seed
from flow_rag_vla.policy.policy import FlowPolicy
from flow_rag_vla.residency.errors import ResidencyError
from flow_rag_vla_interfaces import msg

DELAYS_KEPT = 20
"""Chunks over which the delay from capture to chunk is remembered; its maximum is what the next one commits to."""


@dataclass(frozen=True, slots=True)
class Observation:
    """An embedding that waits for its correction."""

    stamp_ns: int
    embedding: NDArray[np.float32]
    state: RobotState
    goal: Goal
    arrived_ns: int


class FlowPolicyNode(ManagedNode):
    """Samples one chunk for each embedding while an episode runs."""

    def __init__(self) -> None:
        super().__init__("flow_policy")
        self._complain = Complaints(self.get_logger())
        self._settings = NodeParameters(self, FlowPolicyParameters, self._configure, may_reload=self.may_reload)
        self._model: HeldModel[FlowPolicy] = HeldModel("policy")
        self._states = RecentStates(self._complain)
        self._corrections: deque[Correction] = deque(maxlen=4)
        self._delays: deque[int] = deque([3], maxlen=DELAYS_KEPT)
        self._goal: Goal | None = None
        self._episode = (0, 0)
        self._pace = 1.0
        self._previous: ActionChunk | None = None
        self._waiting: Observation | None = None
        self._chunks = self._without_memory = 0
        self._last_ms = 0.0
        self._publisher = self.create_lifecycle_publisher(msg.ActionChunk, topics.ACTION_CHUNK, qos.PLAN)

    def load(self) -> None:
        """Load the policy."""
        settings = self._settings.value
        device = prepare_torch(settings.device, settings.threads)
        try:
            policy = self._model.load(
                lambda place: FlowPolicy.load(settings.checkpoint or None, place),
                device,
                int(settings.model_memory * 1e6),
            )
        except CheckpointError as error:
            raise StartError(f"parameter checkpoint: {error}") from error
        except ResidencyError as error:
            raise StartError(f"parameter model_memory: {error}") from error
        self._report.hardware_id = f"{policy.name}:{policy.revision}"
        self.get_logger().info(f"policy {policy.name} {policy.revision} on {device}")

    def free(self) -> None:
        """Free the policy."""
        self._model.release()

    def begin(self) -> None:
        """Take embeddings."""
        self._states.subscribe(self)
        self.create_subscription(msg.EpisodeStatus, topics.EPISODE_STATUS, self._on_episode, qos.STATE)
        self.create_subscription(msg.Correction, topics.CORRECTION, self._on_correction, qos.PLAN)
        self.create_subscription(msg.Embedding, topics.EMBEDDING, self._on_embedding, qos.NEWEST)
        self._budget = self.create_timer(
            1.0, self._on_budget_spent, clock=Clock(clock_type=ClockType.STEADY_TIME), autostart=False
        )
        self._configure(self._settings.value)

    def rest(self) -> None:
        """Forget the episode and what was seen of it."""
        self._forget()
        self._goal, self._episode = None, (0, 0)

    def _configure(self, settings: FlowPolicyParameters) -> None:
        # What is set before the node is active is taken when it becomes that.
        if self.lifecycle_state in RUNNING:
            self._model.value.configure(
                solver=cast(Method, settings.solver),
                steps=settings.steps,
                samples=settings.samples,
                guidance=settings.guidance_strength,
            )
            self._budget.timer_period_ns = max(int(settings.correction_budget * 1e9), 100_000)

    def _on_episode(self, status: msg.EpisodeStatus) -> None:
        episode, pace = (int(status.episode_id), int(status.state)), pace_of(float(status.slowdown))
        if episode == self._episode:
            # As the controller has it: an episode that runs may be slowed down, and is never made faster.
            self._pace = min(self._pace, pace)
            return
        self._episode, self._pace = episode, pace
        self._previous, self._waiting, self._goal = None, None, None
        if status.state != msg.EpisodeStatus.STATE_RUNNING:
            return
        try:
            self._goal = parse_instruction(status.instruction)
        except UnknownTaskError as error:
            self._complain(str(error))

    def _on_correction(self, message: msg.Correction) -> None:
        try:
            correction = message_values.correction(message)
        except MessageError as error:
            self._complain(str(error))
            return
        self._corrections.append(correction)
        if self._waiting is not None and self._waiting.stamp_ns == correction.stamp_ns:
            self._sample(correction)

    def _on_embedding(self, message: msg.Embedding) -> None:
        if self._goal is None:
            return
        if self._states.take():
            self._forget_plan()
        try:
            observation = self._observe(message, self._goal)
        except (MessageError, CheckpointError) as error:
            self._complain(str(error))
            return
        superseded, self._waiting = self._waiting, observation
        early = next((item for item in self._corrections if item.stamp_ns == observation.stamp_ns), None)
        if early is not None or self._settings.value.correction_budget == 0:
            self._sample(early)
        elif superseded is None:
            self._budget.reset()
        # Else the timer of the observation before runs on: embeddings that come faster than the budget would
        # otherwise put the chunk off for ever.

    def _observe(self, message: msg.Embedding, goal: Goal) -> Observation:
        settings = self._settings.value
        self._model.value.check_encoder(message.encoder, message.revision)
        values = message_values.embedding_values(message, self._model.value.embedding_dimension)
        stamp_ns = to_ns(message.header.stamp)
        age = (to_ns(self.get_clock().now().to_msg()) - stamp_ns) * 1e-9
        if abs(age) > settings.max_embedding_age:
            when = "old" if age > 0 else "in the future"
            raise MessageError(
                f"embedding is {abs(age):.3f} s {when}, limit {settings.max_embedding_age} s; check the clocks"
            )
        if self._previous is not None and stamp_ns < self._previous.stamp_ns:
            # The clock went back (a bag looped, a simulation restarted): the old chunk's rows mean nothing now.
            self._forget()
        state = self._states.nearest(stamp_ns, settings.state_tolerance, "embedding")
        return Observation(stamp_ns, values, state, goal, time.monotonic_ns())

    def _on_budget_spent(self) -> None:
        self._budget.cancel()
        if self._waiting is not None:
            self._sample(None)

    def _sample(self, correction: Correction | None) -> None:
        self._budget.cancel()
        observation, self._waiting = self._waiting, None
        if observation is None:
            return
        if correction is None:
            self._without_memory += 1
            correction = Correction(observation.stamp_ns, CorrectionMode.TIMEOUT)
        started_ns = time.monotonic_ns()
        chunk = self._model.value.act(
            observation.embedding,
            observation.state,
            observation.goal,
            stamp_ns=observation.stamp_ns,
            seed=noise_seed(self._settings.value.seed, observation.stamp_ns),
            previous=carried(self._previous, observation.stamp_ns, self._pace),
            delay_ticks=math.ceil(max(self._delays) * self._pace),
            correction=correction,
        )
        finished_ns = time.monotonic_ns()
        self._previous = chunk
        message = conversions.chunk_message(chunk, topics.BASE_FRAME)
        message.inference_ms = self._last_ms = (finished_ns - started_ns) * 1e-6
        message.correction_wait_ms = (started_ns - observation.arrived_ns) * 1e-6
        self._publisher.publish(message)
        self._chunks += 1
        delay_ns = to_ns(self.get_clock().now().to_msg()) - observation.stamp_ns
        self._delays.append(min(max(math.ceil(delay_ns / TICK_NS), 1), chunk.horizon - 1))

    def _forget(self) -> None:
        self._states.clear()
        self._forget_plan()

    def _forget_plan(self) -> None:
        self._corrections.clear()
        self._previous, self._waiting = None, None

    def health(self) -> Health:
        """Whether embeddings come and become chunks."""
        figures = {
            "chunks": self._chunks,
            "refused": self._complain.count,
            "without_memory": self._without_memory,
            "inference_ms": round(self._last_ms, 2),
            "delay_ticks": max(self._delays),
            "model_mb": round(self._model.megabytes, 1),
            "last_problem": self._complain.last,
        }
        if self._goal is None:
            return OK, "ready, no episode is running", figures
        return (OK, "sampling", figures) if self._chunks else (WARN, "waiting for the first embedding", figures)


def main(args: Sequence[str] | None = None) -> int:
    """Run the flow policy node."""
    return run_managed(FlowPolicyNode, args)


if __name__ == "__main__":
    raise SystemExit(main())
