# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The running graph's way back after a failure, driven by a trial: see ``memory.rewind``.

The class is the graph's own. It is given what the graph's memory hears: robot states and failures at 40 Hz, chunks as
they are made. Nobody is there to be asked, so after the last rewind the policy goes on (``rewind_ask: false``).
"""

from __future__ import annotations

from collections.abc import Sequence

from flow_rag_vla.core.action import ActionChunk
from flow_rag_vla.core.correction import Correction
from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.core.state import RobotState
from flow_rag_vla.failure.sample import FailureReport
from flow_rag_vla.memory.episode import EpisodeMemory, Failure
from flow_rag_vla.memory.rewind import Rewind, RewindSettings
from flow_rag_vla.policy.observation import proprioception

REWINDS: dict[str, str | None] = {"rewind": None, "rewind_by_cause": "by_cause"}
"""Methods that go back after a failure, and whose answers they follow otherwise; None: the policy acts alone."""

SPAN_NS = 60_000_000_000
"""How much of an episode is kept: all of the longest."""


class Rewinding:
    """What is done about failures in one episode."""

    def __init__(self, attempts: int) -> None:
        """Go back this often, at most."""
        self._episode = EpisodeMemory(SPAN_NS)
        self._rewind = Rewind(self._episode, RewindSettings(attempts, ask=False))

    @property
    def attempts(self) -> int:
        """Rewinds so far."""
        return self._rewind.attempts

    def begin(self, task: str, state: RobotState) -> None:
        """The episode begins."""
        self._episode.begin(1, task, state.stamp_ns)
        self._feel(state)

    def watch(self, state: RobotState, reports: Sequence[FailureReport]) -> None:
        """Take in the state after a tick, and what was reported of it."""
        self._feel(state)
        for item in reports:
            kind = FailureType(item.failure_type)
            failure = Failure(item.stamp_ns, item.onset_ns, kind, self._episode.task, item.phase.value, item.evidence)
            self._episode.failed(failure, None)

    def planned(self, chunk: ActionChunk) -> None:
        """Take in a chunk that was made."""
        self._episode.chunks.append(chunk.stamp_ns, chunk)

    def correct(self, stamp_ns: int, known: Correction | None) -> Correction:
        """What to do about an observation, of which the memory knows this."""
        return self._rewind.correct(stamp_ns, known or Correction(stamp_ns))

    def _feel(self, state: RobotState) -> None:
        self._episode.proprioception.append(state.stamp_ns, lambda: proprioception(state))
