# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Learning by practice in the course of trials: what the robot could not do, it practises before it goes on.

A memory that begins empty grows with each failed episode. When a trial has failed, its start is practised as
``practice`` does it: the policy tries alone, and an expert or a rehearsal says what would have been right. When it went
well without the memory's help, what was seen is kept as a success.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.action import ActionChunk
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.evaluate.trials.labelled import Keeper, Seen
from flow_rag_vla.evaluate.trials.practice import Practice, Practising
from flow_rag_vla.evaluate.trials.protocol import Start
from flow_rag_vla.evaluate.trials.rehearsal import Rehearsal, read_rehearsals
from flow_rag_vla.evaluate.trials.rig import Rig
from flow_rag_vla.failure.sample import FailureReport
from flow_rag_vla.memory.memory import FailureMemory
from flow_rag_vla.sim.scene import SceneSpec


class PractisedLessons:
    """Follows one trial, then practises if it failed; takes the place of ``lessons.Lessons``."""

    def __init__(self, memory: FailureMemory, rig: Rig, source: str, folder: Path, start: Start) -> None:
        """Follow.

        Args:
            memory: gets what is learned, under the keys of the rig's policy.
            rig: is practised with.
            source: one of ``lessons.PRACTISED``.
            folder: of the bank; what was rehearsed in it before is gone on with.
            start: of the trial.
        """
        self._memory, self._rig, self._source, self._folder, self._start = memory, rig, source, folder, start
        self._keeper = Keeper(memory, rig.key)
        self._spec: SceneSpec | None = None
        self._place = 0
        self._seen: list[tuple[NDArray[np.float32], ActionChunk, RobotState, str | None]] = []
        self._phase: str | None = None
        self._cases: tuple[int, ...] = ()

    @property
    def situations(self) -> int:
        """None: the consensus needs no calibration."""
        return 0

    @property
    def cases(self) -> tuple[int, ...]:
        """Ids of the cases that practice made, known after ``end``."""
        return self._cases

    def begin(self, episode_id: int, spec: SceneSpec, stamp_ns: int) -> None:
        """The trial begins."""
        self._spec, self._place = spec, episode_id - 1

    def observe(self, embedding: NDArray[np.float32], chunk: ActionChunk, state: RobotState) -> None:
        """An observation, and the chunk that was made of it."""
        self._seen.append((embedding, chunk, state, self._phase))

    def watch(self, state: RobotState, phase: str, reports: Sequence[FailureReport]) -> None:
        """A tick passed."""
        self._phase = phase

    def end(self, success: bool, used: Iterable[int]) -> None:
        """The trial is over: credit for the cases that shaped it, then a success to keep or a start to practise."""
        assert self._spec is not None  # begun
        shaped = tuple(used)
        self._memory.record_use(shaped, success)
        if success:
            if not shaped:
                # Before its first tick an episode has no phase of its own: it is that of the next.
                first = next((phase for *_, phase in self._seen if phase is not None), self._phase or "")
                seen = [Seen(vector, state, phase or first, chunk) for vector, chunk, state, phase in self._seen]
                done = [(item, item.chunk.actions) for item in seen]
                self._keeper.success(self._place, self._spec.task, self._spec.goal, done)
            return
        practice: Practising
        if self._source == "rehearsal":
            practice = Rehearsal(self._rig, self._keeper, known=read_rehearsals(self._folder, before=self._place))
        else:
            practice = Practice(self._rig, self._keeper)
        self._cases = practice.episode(self._place, self._start).cases
        practice.finish(self._folder)
