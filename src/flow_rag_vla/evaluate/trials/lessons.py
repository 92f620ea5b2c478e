# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Lessons of simulated episodes: failures become cases, and somebody says what would have been right.

As in the memory's node, a case is made of what was seen and done at the onset of a failure. What leads into a failure
is done some pictures before it shows, so a few observations before the onset become cases too.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.control.integrator import TargetIntegrator
from flow_rag_vla.core.action import ActionChunk, CorrectionMode
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.evaluate.trials.answers import memory_stamp
from flow_rag_vla.failure.sample import FailureReport
from flow_rag_vla.memory.case import CaseError, FailureCase
from flow_rag_vla.memory.episode import EpisodeMemory, Failure, PendingFailure, SeenEmbedding
from flow_rag_vla.memory.memory import FailureMemory
from flow_rag_vla.policy.encoders import Encoder
from flow_rag_vla.policy.observation import proprioception
from flow_rag_vla.sim.expert import ScriptedExpert
from flow_rag_vla.sim.places import places
from flow_rag_vla.sim.scene import SceneSpec
from flow_rag_vla.sim.world import Snapshot, World

SOURCES: Mapping[str, str] = {
    "expert": "the scripted expert of the simulator, put into the moment before the failure",
    "later_success": "the attempt that went well later in the same episode, if one did",
    "none": "nobody: cases know only what failed",
}
"""Who says what would have been right."""

PRACTISED: Mapping[str, str] = {
    "takeover": "the scripted expert, who takes over when the start of a failed episode is practised afterwards",
    "rehearsal": "nobody: the start is practised afterwards, with what succeeds in a simulated copy and then in fact",
}
"""Who says it where a failed episode is practised; its cases are situations, see ``practised``."""

LEAD_IN = 3
"""Observations of a failure that become cases: the one at the onset and those before it."""

SPAN_NS, TOLERANCE_NS, LATER_NS = 60_000_000_000, 300_000_000, 20_000_000_000


class Teaching(Protocol):
    """Follows one episode, and makes of it what is to be learned."""

    @property
    def cases(self) -> tuple[int, ...]:
        """Ids of the cases that came of the episode."""
        ...

    @property
    def situations(self) -> int:
        """Embeddings of a success that went into the calibration, known after ``end``."""
        ...

    def begin(self, episode_id: int, spec: SceneSpec, stamp_ns: int) -> None:
        """The episode begins."""
        ...

    def observe(self, embedding: NDArray[np.float32], chunk: ActionChunk, state: RobotState) -> None:
        """An observation, and the chunk that was made of it."""
        ...

    def watch(self, state: RobotState, phase: str, reports: Sequence[FailureReport]) -> None:
        """A tick passed; ``reports``: what the detector saw in it."""
        ...

    def end(self, success: bool, used: Iterable[int]) -> None:
        """The episode is over; ``used``: cases that shaped it."""
        ...


class Lessons:
    """Follows one episode, and makes cases of it in a memory."""

    def __init__(self, memory: FailureMemory, world: World, encoder: Encoder, source: str) -> None:
        self._memory, self._world, self._source = memory, world, source
        self._stamp = memory_stamp(encoder)
        self._episode = EpisodeMemory(SPAN_NS)
        self._moments: list[tuple[int, Snapshot]] = []
        self._pending: list[tuple[PendingFailure, int]] = []
        self._ids: dict[int, None] = {}
        self._started_ns = 0
        self._spec: SceneSpec | None = None
        self._situations = 0

    @property
    def cases(self) -> tuple[int, ...]:
        """Ids of the cases that the episode's failures are, new or known already."""
        return tuple(self._ids)

    @property
    def situations(self) -> int:
        """Embeddings of a success that went into the calibration, known after ``end``."""
        return self._situations

    def begin(self, episode_id: int, spec: SceneSpec, stamp_ns: int) -> None:
        """The episode begins."""
        self._spec, self._started_ns, self._stamp_ns = spec, stamp_ns, stamp_ns
        self._episode.begin(episode_id, spec.task, stamp_ns)

    def observe(self, embedding: NDArray[np.float32], chunk: ActionChunk, state: RobotState) -> None:
        """An observation, and the chunk that was made of it."""
        self._episode.embeddings.append(chunk.stamp_ns, SeenEmbedding(embedding, self._stamp))
        self._episode.chunks.append(chunk.stamp_ns, chunk)
        felt = proprioception(state)
        self._episode.proprioception.append(chunk.stamp_ns, lambda: felt)
        if self._source == "expert":
            self._moments.append((chunk.stamp_ns, self._world.save()))

    def watch(self, state: RobotState, phase: str, reports: Sequence[FailureReport]) -> None:
        """A tick passed; ``reports``: what the detector saw in it."""
        self._stamp_ns = state.stamp_ns
        if self._episode.phases.at(state.stamp_ns) != phase:
            self._episode.phases.append(state.stamp_ns, phase)
        for report in reports:
            self._remember(report)

    def end(self, success: bool, used: Iterable[int]) -> None:
        """The episode is over: credit for the cases that shaped it, later successes, and the calibration."""
        # Any mode that uses cases will do: credit does not ask how.
        self._episode.use(CorrectionMode.GUIDANCE, used)
        lesson = self._episode.end(success, self._stamp_ns, self._memory.threshold, LATER_NS)
        self._memory.record_use(lesson.used, lesson.success)
        if self._source == "later_success":
            for later in lesson.corrections:
                case_id = later.pending.case_id
                if case_id and self._memory.get(case_id).correction is None:
                    # One that the guard stops, or that contradicts a better one, is not learned.
                    with suppress(CaseError):
                        self._memory.edit(case_id, correction=later.actions, correction_source="later_success")
        self._situations = len(lesson.situations)
        if lesson.situations:
            self._memory.observe_success(lesson.situations)

    def _remember(self, report: FailureReport) -> None:
        known = [stamp for stamp, _ in self._episode.embeddings.between(self._started_ns - 1, report.onset_ns)]
        if not known:
            return
        for stamp_ns in known[-LEAD_IN:]:
            failure = Failure(
                report.stamp_ns,
                stamp_ns,
                report.failure_type,
                self._spec.task if self._spec is not None else "",
                report.phase.value,
                report.evidence,
                report.description,
            )
            try:
                case = self._episode.case_of(failure, "simulator", TOLERANCE_NS)
            except CaseError:
                # Nothing was in force then: there is nothing to remember.
                self._episode.failed(failure, None)
                continue
            case = self._corrected(case, stamp_ns)
            pending = self._episode.failed(failure, case)
            result = self._memory.add(case)
            if pending is not None:
                pending.case_id = result.case_id
            if result.case_id:
                self._ids[result.case_id] = None

    def _corrected(self, case: FailureCase, stamp_ns: int) -> FailureCase:
        moment = next((snapshot for stamp, snapshot in reversed(self._moments) if stamp == stamp_ns), None)
        if self._source != "expert" or moment is None or self._spec is None:
            return case
        return replace(
            case,
            correction=expert_chunk(self._world, self._spec, moment, case.horizon),
            correction_source="expert",
        )


def target_place(world: World, spec: SceneSpec, moment: Snapshot | None = None) -> NDArray[np.float64] | None:
    """(3,) metres, base frame: where the target of the goal is; None while the hand holds it.

    moment: not now but then; the world is as before
    """
    if moment is not None:
        now = world.save()
        try:
            world.restore(moment)
            return target_place(world, spec)
        finally:
            world.restore(now)
            world.forget(now)
    if ScriptedExpert(world, spec.goal, np.random.default_rng(0)).holding():
        return None
    return np.array(places(spec, world.scene_state())[spec.goal.target][0])


def expert_chunk(world: World, spec: SceneSpec, moment: Snapshot, horizon: int) -> NDArray[np.float32]:
    """(horizon, 7) float32: what the scripted expert does from a moment of this episode on; the world is as before."""
    now = world.save()
    try:
        state = world.restore(moment)
        expert, integrator = ScriptedExpert(world, spec.goal, np.random.default_rng(0)), TargetIntegrator()
        rows = []
        for _ in range(horizon):
            rows.append(expert.action())
            state = world.step(integrator.advance(rows[-1], state)[0])
        return np.stack(rows)
    finally:
        world.restore(now)
        world.forget(now)
