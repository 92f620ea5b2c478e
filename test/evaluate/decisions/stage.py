# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A graph in one process that leaves a bag as the real one does: policy, memory's answers and control loop by turns.

What comes late, twice, or in another order is drawn at random, and each tick writes down what it took, as the
controller does. Replays of the bag must give what was decided here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from flow_rag_vla.control.loop import Command, ControlLoop, Episode
from flow_rag_vla.control.pace import carried
from flow_rag_vla.core.action import TICK_NS, ActionChunk, CorrectionMode
from flow_rag_vla.core.correction import Correction
from flow_rag_vla.core.goal import Goal
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.data.bag_writer import BagWriter
from flow_rag_vla.data.definitions import Definitions, installed_definitions
from flow_rag_vla.policy.follower import noise_seed
from flow_rag_vla.policy.policy import FlowPolicy

OWN = "flow_rag_vla_interfaces/msg"
START_NS = 1_790_000_000_000_000_000
TYPES = {
    "robot_state": "RobotState", "embedding": "Embedding", "action_chunk": "ActionChunk", "correction": "Correction",
    "command": "ControlCommand", "tick_inputs": "TickInputs", "episode_status": "EpisodeStatus",
    "failure_event": "FailureEvent",
}  # fmt: skip
GOAL = Goal("pick_and_place", "red_cube")
EPISODE, STATE, CHUNK, CORRECTION, STOP, RESET = range(6)


@dataclass
class Made:
    """What was decided live."""

    bag: Path
    chunks: list[ActionChunk] = field(default_factory=list)
    corrections: list[Correction] = field(default_factory=list)
    commands: list[Command] = field(default_factory=list)


class Stage:
    """One run. Each tick: a state; every fourth: an embedding, whose chunk and correction arrive some ticks later."""

    def __init__(
        self,
        folder: Path,
        policy: FlowPolicy,
        seed: int = 0,
        namespace: str = "",
        inputs: bool = True,
        lose_states: float = 0.0,
        other_state: float = 0.0,
        late_states: float = 0.0,
        says_states: bool = False,
        late_statuses: bool = False,
        slowdown: float = 0.0,
    ) -> None:
        self.made = Made(folder / "bag")
        self._policy = policy
        self._rng = np.random.default_rng(seed)
        self._definitions: Definitions = installed_definitions()
        self._writer = BagWriter(self.made.bag, self._definitions)
        self._prefix = f"/{namespace}/" if namespace else "/"
        for topic, kind in TYPES.items():
            self._writer.add_topic(self._prefix + topic, f"{OWN}/{kind}")
        self._inputs, self._lose_states, self._other_state = inputs, lose_states, other_state
        self._late_states, self._says_states, self._late_statuses = late_states, says_states, late_statuses
        self._felt_before: list[RobotState] = []
        # As the message carries it: single precision.
        self._pace = 1.0 - float(np.float32(slowdown))
        self._before: RobotState | None = None
        self._loop = ControlLoop()
        self._position = np.array([0.45, 0.0, 0.25])
        self._coming: list[tuple[int, int, int, int, Any]] = []
        self._previous: ActionChunk | None = None
        self._now = START_NS
        self._steady = 5_000_000_000
        self._episode = Episode()

    def run(self, ticks: int, mode: CorrectionMode = CorrectionMode.GUIDANCE, stop_at: int = -1) -> Made:
        """So many ticks: 10 idle, 6 of a reset, then the episode; every third answer of the memory is of ``mode``."""
        for tick in range(ticks):
            # Jitter, as of a real timer; the steady clock does not see the same.
            self._now = START_NS + tick * TICK_NS + int(self._rng.integers(0, 3_000_000))
            self._steady = 5_000_000_000 + tick * TICK_NS + int(self._rng.integers(0, 2_000_000))
            taken: list[tuple[int, int, int]] = []
            if tick == stop_at:
                at = self._steady - 4_000_000
                self._loop.emergency_stop("asked for by a service call", at)
                taken.append((STOP, 2, self._steady - at))
            if tick == stop_at + 12 and stop_at >= 0:
                self._loop.reset_emergency_stop(self._steady - 1_000_000)
                taken.append((RESET, 2, 1_000_000))
            taken += self._status(tick)
            taken += self._state()
            if tick > 16 and tick % 4 == 0:
                self._observe(tick, mode)
            taken += self._arrivals(tick)
            command = self._loop.tick(self._now, self._steady)
            self.made.commands.append(command)
            self._write_command(command, taken)
            if command.target is not None:
                # The arm follows, not perfectly.
                self._position = self._position + 0.6 * (command.target.position - self._position)
        self._writer.close()
        return self.made

    def _write(self, topic: str, log_ns: int, **fields: Any) -> None:
        name = f"{OWN}/{TYPES[topic]}"
        self._writer.write_message(self._prefix + topic, log_ns, self._definitions.message(name, **fields))

    def _header(self, stamp: int) -> Any:
        message = self._definitions.message
        time = message("builtin_interfaces/msg/Time", sec=stamp // 10**9, nanosec=stamp % 10**9)
        return message("std_msgs/msg/Header", stamp=time, frame_id="base_link")

    def _status(self, tick: int) -> list[tuple[int, int, int]]:
        if tick not in (2, 10, 16) and tick % 5:
            return []
        state = 0 if tick < 10 else 1 if tick < 16 else 2
        elapsed = max(0, tick - 16) * 0.025
        self._episode = Episode(int(tick >= 10), state == 2, state == 1, GOAL.task, self._now, 12.0 - elapsed)
        # Later than what was decided four ticks on, which knew it.
        log_ns = self._now + (110_000_000 if self._late_statuses else 0)
        self._write(
            "episode_status", log_ns, header=self._header(self._now), episode_id=int(tick >= 10), state=state,
            task=GOAL.task, instruction=GOAL.instruction, elapsed=elapsed, timeout=12.0, phase="reach",
            slowdown=1.0 - self._pace,
        )  # fmt: skip
        # As the message carries them: single precision.
        remaining = float(np.float32(12.0)) - float(np.float32(elapsed))
        self._loop.set_episode(
            Episode(int(tick >= 10), state == 2, state == 1, GOAL.task, self._now, remaining, self._pace),
            self._now,
            self._steady,
        )
        return [(EPISODE, self._now, state)]

    def _state(self) -> list[tuple[int, int, int]]:
        stamp = self._now - 2_000_000
        width = float(np.float32(0.08))
        self._before = getattr(self, "_felt", None)
        self._felt_before = [*self._felt_before[-7:], *([] if self._before is None else [self._before])]
        self._felt = RobotState(
            stamp, self._position.copy(), np.array([1.0, 0.0, 0.0, 0.0]), np.zeros(7), np.zeros(7), width
        )
        if not self._rng.random() < self._lose_states:
            self._write_state(stamp, width)
        waited = int(self._rng.integers(0, 1_500_000))
        self._loop.offer_state(self._felt, self._now - waited, self._steady - waited)
        return [(STATE, stamp, waited)]

    def _write_state(self, stamp: int, width: float) -> None:
        message = self._definitions.message
        x, y, z = self._position.tolist()
        pose = message(
            "geometry_msgs/msg/Pose", position=message("geometry_msgs/msg/Point", x=x, y=y, z=z),
            orientation=message("geometry_msgs/msg/Quaternion", x=1.0, y=0.0, z=0.0, w=0.0),
        )  # fmt: skip
        # Later than the chunk of this tick: the recorder was held up.
        log_ns = stamp + (4_500_000 if self._late_states and self._rng.random() < self._late_states else 500_000)
        self._write(
            "robot_state", log_ns, header=self._header(stamp), end_effector=pose, gripper_width=width,
            joint_positions=np.zeros(7), joint_velocities=np.zeros(7),
        )  # fmt: skip

    def _observe(self, tick: int, mode: CorrectionMode) -> None:
        """An embedding; its correction, and a chunk that used it or did not wait."""
        stamp = self._felt.stamp_ns
        values = self._rng.normal(size=self._policy.embedding_dimension).astype(np.float32)
        values /= np.linalg.norm(values)
        encoder = self._policy.config.encoder
        self._write(
            "embedding", self._now + 100_000, header=self._header(stamp), encoder=encoder.name,
            revision=encoder.revision, values=values,
        )  # fmt: skip
        correction = Correction(stamp)
        if (tick // 4) % 3 == 0:
            actions = np.zeros((self._policy.horizon, 7), dtype=np.float32)
            actions[:, 1], actions[:, 6] = 0.008, 1.0
            correction = Correction(stamp, mode, 0.75, actions, (actions * 0.5)[None], (41,))
            if mode is CorrectionMode.SHIFT:
                shift = np.array([0.02, -0.012, 0.0], dtype=np.float32)
                correction = Correction(stamp, mode, 0.75, case_ids=(41,), shift=shift)
        in_time = self._rng.random() < 0.8
        delay = 0 if self._previous is None else int(self._rng.integers(1, 4))
        felt = self._felt
        if self._before is not None and self._rng.random() < self._other_state:
            # The state of this moment was lost on its way to the policy.
            felt = self._before
            if self._says_states:
                # Farther back than a search would look.
                felt = self._felt_before[0]
        chunk = self._policy.act(
            values, felt, GOAL, seed=noise_seed(0, stamp), stamp_ns=stamp,
            previous=carried(self._previous, stamp, self._pace),
            delay_ticks=delay, correction=correction if in_time else Correction(stamp, CorrectionMode.TIMEOUT),
        )  # fmt: skip
        self._previous = chunk
        self.made.chunks.append(chunk)
        self.made.corrections.append(correction)
        self._write_correction(correction)
        self._write_chunk(chunk)
        arrives = tick + int(self._rng.integers(1, 3))
        self._coming.append((arrives, CHUNK, stamp, int(self._rng.integers(0, 20_000_000)), chunk))
        late = arrives + int(self._rng.integers(-1, 2))
        self._coming.append((late, CORRECTION, stamp, int(self._rng.integers(0, 9_000_000)), correction))
        if self._rng.random() < 0.2:
            self._coming.append((arrives + 1, CHUNK, stamp, 0, chunk))

    def _write_correction(self, correction: Correction) -> None:
        cases = [
            self._definitions.message(
                f"{OWN}/RetrievedCase", case_id=case, similarity=0.97, failure_type=3, task=GOAL.task, phase="reach",
                has_correction=True, uses=2, successes=1, credit=0.5,
            )
            for case in correction.case_ids
        ]  # fmt: skip
        actions, failed = correction.actions, correction.failed_actions
        self._write(
            "correction", self._now + 300_000, header=self._header(correction.stamp_ns),
            correction=int(correction.mode), strength=correction.strength, cases=cases, threshold=0.9,
            horizon=0 if actions is None else actions.shape[0],
            actions=np.zeros(0, np.float32) if actions is None else actions.ravel(),
            failed_actions=np.zeros(0, np.float32) if failed is None else failed.ravel(),
            shift=np.zeros(0, np.float32) if correction.shift is None else correction.shift,
        )  # fmt: skip

    def _write_chunk(self, chunk: ActionChunk) -> None:
        assert chunk.uncertainty is not None
        self._write(
            "action_chunk", self._now + 900_000, header=self._header(chunk.stamp_ns), chunk_id=chunk.chunk_id,
            task=chunk.task, horizon=chunk.horizon, action_dim=7, tick_period=0.025, actions=chunk.actions.ravel(),
            uncertainty=chunk.uncertainty, committed=chunk.committed, provenance=self._provenance(chunk.provenance),
        )  # fmt: skip

    def _provenance(self, source: Any) -> Any:
        message, stamp = self._definitions.message, source.observation_stamp_ns
        state = source.state_stamp_ns if self._says_states else 0
        return message(
            f"{OWN}/Provenance",
            observation_stamp=message("builtin_interfaces/msg/Time", sec=stamp // 10**9, nanosec=stamp % 10**9),
            policy=source.policy, policy_revision=source.policy_revision, noise_seed=source.noise_seed,
            correction=int(source.correction), correction_strength=source.correction_strength,
            case_ids=np.array(source.case_ids, np.uint64),
            state_stamp=message("builtin_interfaces/msg/Time", sec=state // 10**9, nanosec=state % 10**9),
        )  # fmt: skip

    def _arrivals(self, tick: int) -> list[tuple[int, int, int]]:
        here = [item for item in self._coming if item[0] <= tick]
        self._coming = [item for item in self._coming if item[0] > tick]
        here.sort(key=lambda item: item[1])
        for _, kind, _, waited, value in here:
            now, steady = self._now - waited, self._steady - waited
            if kind == CHUNK:
                self._loop.offer_chunk(value, now, steady)
            else:
                self._loop.offer_correction(value, now, steady)
        return [(kind, stamp, waited) for _, kind, stamp, waited, _ in here]

    def _write_command(self, command: Command, taken: list[tuple[int, int, int]]) -> None:
        message = self._definitions.message
        fields: dict[str, Any] = {}
        if command.target is not None:
            position, turn = command.target.position.tolist(), command.target.orientation.tolist()
            fields["target"] = message(
                "geometry_msgs/msg/Pose",
                position=message("geometry_msgs/msg/Point", x=position[0], y=position[1], z=position[2]),
                orientation=message("geometry_msgs/msg/Quaternion", x=turn[0], y=turn[1], z=turn[2], w=turn[3]),
            )
            fields["gripper_width"] = command.target.gripper_width
        else:
            fields["target"] = message(
                "geometry_msgs/msg/Pose", orientation=message("geometry_msgs/msg/Quaternion", w=0.0)
            )
        self._write(
            "command", self._now + 2_000_000, header=self._header(command.stamp_ns), tick=command.tick,
            action=command.action, mode=int(command.mode), reason=int(command.reason), reason_text=command.reason_text,
            clamps=int(command.clamps), chunk_id=command.chunk_id, chunk_index=command.chunk_index,
            observation_age_ms=command.observation_age_ms, provenance=self._provenance(command.provenance), **fields,
        )  # fmt: skip
        if self._inputs:
            self._write(
                "tick_inputs", self._now + 2_100_000, header=self._header(command.stamp_ns), tick=command.tick,
                steady=self._steady, scheduled=self._loop.scheduled_ns,
                kinds=np.array([item[0] for item in taken], np.uint8),
                keys=np.array([item[1] for item in taken], np.uint64),
                details=np.array([item[2] for item in taken], np.uint32),
            )  # fmt: skip
