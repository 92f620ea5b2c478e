# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Builds a run folder as the graph leaves one: the simulator with its scripted expert, told on the graph's topics.

Physics, pictures, phases, records and the bag come from the same code as in the graph; only the delays between the
nodes are drawn at random.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flow_rag_vla.control.integrator import TargetIntegrator
from flow_rag_vla.core.action import TICK_NS, CorrectionMode
from flow_rag_vla.core.failure import Evidence
from flow_rag_vla.core.goal import Goal
from flow_rag_vla.data.bag_writer import BagWriter
from flow_rag_vla.data.definitions import Definitions
from flow_rag_vla.data.episode_record import FailureRecord, record_path, write_record
from flow_rag_vla.evaluate.episode import EpisodeState, EpisodeTracker, LoopSample, Outcome, Verdict
from flow_rag_vla.failure.phase import PhaseTracker
from flow_rag_vla.sim.camera import FRONT, WRIST
from flow_rag_vla.sim.expert import ScriptedExpert
from flow_rag_vla.sim.scene import sample_scene
from flow_rag_vla.sim.world import World

OWN = "flow_rag_vla_interfaces/msg"
START_NS = 1_790_000_000_000_000_000
TOPICS = {
    "/camera/front/image_raw": "sensor_msgs/msg/Image",
    "/camera/wrist/image_raw": "sensor_msgs/msg/Image",
    "/embedding": f"{OWN}/Embedding",
    "/action_chunk": f"{OWN}/ActionChunk",
    "/correction": f"{OWN}/Correction",
    "/command": f"{OWN}/ControlCommand",
    "/loop_statistics": f"{OWN}/LoopStatistics",
    "/failure_event": f"{OWN}/FailureEvent",
    "/memory_statistics": f"{OWN}/MemoryStatistics",
    "/episode_status": f"{OWN}/EpisodeStatus",
    "/simulator/ground_truth": f"{OWN}/SceneState",
    "/clock": "rosgraph_msgs/msg/Clock",
}


@dataclass(frozen=True, slots=True)
class PlannedEpisode:
    """One episode: drop_after: ticks of transport after which the hand lets go; remembered: the memory acts."""

    goal: Goal
    seed: int
    variant: str = "plain"
    drop_after: int = 0
    timeout: float = 12.0
    remembered: bool = False


class RunBuilder:
    """Writes one run folder."""

    def __init__(self, folder: Path, camera_rate: float = 5.0, simulated_clock: bool = False, seed: int = 0) -> None:
        self.folder = folder
        self._rng = np.random.default_rng(seed)
        self._definitions = Definitions()
        self._frame_ticks = round(40 / camera_rate)
        self._offset_ns = START_NS if simulated_clock else 0
        self._bag = BagWriter(folder / "bag", self._definitions)
        for topic, msgtype in TOPICS.items():
            self._bag.add_topic(topic, msgtype)
        self._pending: list[tuple[int, str, Any]] = []
        self._now = START_NS
        self._tick = self._late = self._chunk_id = self._event_id = self._cases = self._resets = 0
        self._chunk_stamp = START_NS
        self._mode = CorrectionMode.NONE

    def build(self, episodes: Sequence[PlannedEpisode], close: bool = True) -> Path:
        with World() as world:
            for number, plan in enumerate(episodes, start=1):
                self._episode(world, number, plan)
        self._flush()
        if close:
            self._bag.close()
        else:
            self._bag.checkpoint()
        about = {
            "command": ["flow_rag_vla", "sim", "--episodes", str(len(episodes))],
            "started": "2026-09-21T14:13:20+00:00", "seed": episodes[0].seed, "corrector": "dispatch",
        }  # fmt: skip
        (self.folder / "run.json").write_text(json.dumps(about), encoding="utf-8")
        return self.folder

    def _episode(self, world: World, number: int, plan: PlannedEpisode) -> None:
        spec = sample_scene(plan.goal.task, plan.variant, plan.seed, plan.goal)
        state = world.reset(spec)
        self._resets += 1
        expert, integrator = ScriptedExpert(world, plan.goal, self._rng), TargetIntegrator()
        tracker = EpisodeTracker(number, plan.goal.task, plan.variant, plan.seed, plan.goal.instruction)
        phases, gripper, carried = PhaseTracker(), float("nan"), 0
        self._status(tracker)
        self._now += 400_000_000
        self._tick += 1
        tracker.run(self._now, plan.timeout, loop=self._loop_sample())
        tick, dropped = 0, False
        while tracker.active:
            now = self._now + round(abs(self._rng.normal(0.0, 60e3)) + (self._rng.random() < 0.02) * 4e6)
            stamp = now - self._offset_ns
            self._put("/clock", now - 100_000, self._definitions.message(TOPICS["/clock"], clock=self._time(stamp)))
            phase = phases.update(state, gripper, plan.goal.task).value
            if tracker.observe_phase(self._now, phase) or tick % 4 == 0:
                self._status(tracker)
            if tick % self._frame_ticks == 0:
                self._observe(world, stamp, now, plan)
            action = expert.action()
            carried += phase == "transport"
            letting_go = plan.drop_after and plan.drop_after < carried <= plan.drop_after + 12
            if letting_go:
                action[6] = 1.0
                if not dropped:
                    dropped = True
                    self._failure(tracker, stamp, now + 250_000_000, phase)
            gripper = float(action[6])
            self._command(stamp, now, action)
            tracker.observe_command(now, self._chunk_id, self._mode, 0.8, (3, 7) if self._mode else ())
            self._truth(world, spec, stamp, now)
            target, _, _ = integrator.advance(action, state)
            state = world.step(target)
            tick += 1
            self._tick += 1
            self._now += TICK_NS
            if tick % 40 == 0:
                self._late += int(self._rng.random() < 0.1)
                tracker.observe_loop(self._loop_sample())
                self._statistics()
            tracker.observe_success(self._now, world.success())
            verdict = tracker.judge(self._now)
            if verdict is not None:
                tracker.decide(self._now, verdict)
                write_record(record_path(self.folder / "episodes", number), tracker.record())
        self._status(tracker)
        self._cases += dropped
        self._now += 600_000_000
        self._flush()

    def interrupt(self, number: int, plan: PlannedEpisode) -> None:
        """A record of an episode that was canceled before it began to move."""
        tracker = EpisodeTracker(number, plan.goal.task, plan.variant, plan.seed, plan.goal.instruction)
        tracker.run(self._now, plan.timeout)
        verdict = Verdict(Outcome.CANCELED, "canceled", "canceled on request")
        tracker.decide(self._now + 10**9, verdict)
        write_record(record_path(self.folder / "episodes", number), tracker.record())

    def _observe(self, world: World, stamp: int, now: int, plan: PlannedEpisode) -> None:
        for camera, topic in ((FRONT, "/camera/front/image_raw"), (WRIST, "/camera/wrist/image_raw")):
            pixels = world.render(camera)
            self._put(
                topic, now + 32_000_000, self._message(
                    topic, stamp, height=pixels.shape[0], width=pixels.shape[1], step=pixels.shape[1] * 3,
                    encoding="rgb8", data=np.ascontiguousarray(pixels).ravel(),
                ),
            )  # fmt: skip
        seen = now + round(self._rng.normal(45e6, 4e6))
        self._put(
            "/embedding", seen,
            self._message("/embedding", stamp, encoder="compact", revision="0f3a5c77d210",
                          values=np.full(64, 0.125, np.float32), inference_ms=float(self._rng.normal(3.2, 0.3))),
        )  # fmt: skip
        self._mode = CorrectionMode.GUIDANCE if plan.remembered and self._cases else CorrectionMode.NONE
        cases = [
            self._definitions.message(
                f"{OWN}/RetrievedCase", case_id=number, similarity=0.93 - 0.04 * index, failure_type=3,
                task=plan.goal.task, phase="transport", has_correction=True, uses=4, successes=3, credit=0.67,
            )
            for index, number in enumerate((3, 7))
        ] if self._cases else []  # fmt: skip
        self._put(
            "/correction", seen + 1_400_000,
            self._message("/correction", stamp, correction=int(self._mode), strength=0.8 if self._mode else 0.0,
                          cases=cases, threshold=0.85, search_ms=0.21),
        )  # fmt: skip
        self._chunk_id += 1
        source = self._definitions.message(
            f"{OWN}/Provenance", observation_stamp=self._time(stamp), policy="flow", policy_revision="9be1c04417aa",
            correction=int(self._mode), case_ids=np.array([3, 7] if self._mode else [], np.uint64),
        )  # fmt: skip
        self._chunk_stamp = stamp
        self._put(
            "/action_chunk", seen + round(self._rng.normal(9e6, 1e6)),
            self._message("/action_chunk", stamp, chunk_id=self._chunk_id, task=plan.goal.task, horizon=16,
                          action_dim=7, provenance=source, inference_ms=7.4, correction_wait_ms=1.5),
        )  # fmt: skip

    def _command(self, stamp: int, now: int, action: Any) -> None:
        source = self._definitions.message(
            f"{OWN}/Provenance", observation_stamp=self._time(self._chunk_stamp), policy="flow",
            correction=int(self._mode), case_ids=np.array([3, 7] if self._mode else [], np.uint64),
        )  # fmt: skip
        ready = (stamp - self._chunk_stamp) > 75_000_000 or self._chunk_id == 0
        self._put(
            "/command", now + 300_000,
            self._message("/command", stamp, tick=self._tick, action=np.asarray(action, np.float32),
                          mode=1, chunk_id=self._chunk_id if ready else max(0, self._chunk_id - 1), provenance=source),
        )  # fmt: skip

    def _failure(self, tracker: EpisodeTracker, stamp: int, now: int, phase: str) -> None:
        self._event_id += 1
        event_stamp = stamp + 240_000_000
        evidence = (Evidence("gripper_width", 0.012, 0.03, "m"), Evidence("gripper_effort", 0.4, 2.0, "N"))
        description = "the object left the gripper during transport"
        self._put(
            "/failure_event", now,
            self._message(
                "/failure_event", event_stamp, event_id=self._event_id, episode_id=tracker.episode_id, failure_type=3,
                confidence=0.94, task=tracker.task, phase=phase, detector="rule:drop", description=description,
                onset=self._time(stamp),
                evidence=[
                    self._definitions.message(
                        f"{OWN}/Evidence", name=item.name, value=item.value, threshold=item.threshold, unit=item.unit
                    )
                    for item in evidence
                ],
            ),
        )  # fmt: skip
        tracker.observe_failure(
            FailureRecord(
                self._event_id, "drop", 0.94, phase, "rule:drop", description, event_stamp, stamp,
                round(tracker.elapsed(self._now), 3), evidence,
            )
        )  # fmt: skip

    def _loop_sample(self) -> LoopSample:
        return LoopSample(40.0, 0.05, 1.2, 4.1, 0.42, self._tick, self._late, 0, 3, self._chunk_id, 0)

    def _statistics(self) -> None:
        sample = self._loop_sample()
        self._put(
            "/loop_statistics", self._now,
            self._message("/loop_statistics", self._now, window=1.0, rate_hz=40.0, tick_error_p50_ms=0.05,
                          tick_error_p99_ms=1.2, tick_error_max_ms=4.1, cpu_mean_ms=0.42, cpu_max_ms=1.0,
                          ticks=sample.ticks, late_ticks=sample.late_ticks, starved_ticks=3),
        )  # fmt: skip
        self._put(
            "/memory_statistics", self._now,
            self._message("/memory_statistics", self._now, cases=self._cases, capacity=10000, added=self._cases,
                          searches=self._chunk_id, search_p50_ms=0.2, search_p99_ms=0.4, encoder="compact"),
        )  # fmt: skip

    def _status(self, tracker: EpisodeTracker) -> None:
        running = tracker.state is not EpisodeState.RESETTING
        self._put(
            "/episode_status", self._now,
            self._message(
                "/episode_status", self._now, episode_id=tracker.episode_id, state=int(tracker.state),
                task=tracker.task, variant=tracker.variant, instruction=tracker.instruction, seed=tracker.seed,
                phase=tracker.phase, elapsed=tracker.elapsed(self._now) if running else 0.0,
            ),
        )  # fmt: skip

    def _truth(self, world: World, spec: Any, stamp: int, now: int) -> None:
        truth = world.scene_state()
        objects = []
        for name, (position, orientation) in truth.objects.items():
            pose = self._definitions.message(
                "geometry_msgs/msg/Pose",
                position=self._definitions.message(
                    "geometry_msgs/msg/Point", **dict(zip("xyz", map(float, position), strict=True))
                ),
                orientation=self._definitions.message(
                    "geometry_msgs/msg/Quaternion", **dict(zip("xyzw", map(float, orientation), strict=True))
                ),
            )
            objects.append(self._definitions.message(f"{OWN}/ObjectPose", name=name, pose=pose))
        self._put(
            "/simulator/ground_truth", now,
            self._message(
                "/simulator/ground_truth", stamp, reset_count=self._resets, task=spec.task, variant=spec.variant,
                seed=spec.seed, instruction=spec.goal.instruction, objects=objects,
                joint_positions=np.array(truth.joint_positions, float),
                articulation=np.array(truth.articulation, float), success=world.success(),
            ),
        )  # fmt: skip

    def _message(self, topic: str, stamp: int, **fields: Any) -> Any:
        header = self._definitions.message("std_msgs/msg/Header", stamp=self._time(stamp))
        return self._definitions.message(TOPICS[topic], header=header, **fields)

    def _time(self, stamp: int) -> Any:
        seconds, rest = divmod(int(stamp), 1_000_000_000)
        return self._definitions.message("builtin_interfaces/msg/Time", sec=seconds, nanosec=rest)

    def _put(self, topic: str, log_ns: int, message: Any) -> None:
        self._pending.append((int(log_ns), topic, message))

    def _flush(self) -> None:
        for log_ns, topic, message in sorted(self._pending, key=lambda item: item[0]):
            self._bag.write_message(topic, log_ns, message)
        self._pending.clear()
