# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Why a robot is not following a chunk, in one sentence a person can act on."""

from __future__ import annotations

from flow_rag_vla.control.command import Episode
from flow_rag_vla.control.ladder import Mode, Reason
from flow_rag_vla.control.measurement import Measurement
from flow_rag_vla.control.queue import HeldChunk
from flow_rag_vla.control.takeover import Takeover


class Account:
    """What went wrong last, and how it is told.

    jump_ns: size of the clock's last jump, until something valid came after it
    invalid: what was wrong with the newest chunk; emergency: who asked for the stop; pace: what is wrong with the
        running episode's pace. All empty when there is nothing to tell.
    ended: whether an emergency stop ended the episode that is said to run
    """

    def __init__(self, measurement: Measurement, takeover: Takeover) -> None:
        self._measurement, self._takeover = measurement, takeover
        self.jump_ns: int | None = None
        self.invalid = ""
        self.emergency = ""
        self.pace = ""
        self.ended = False
        self.stopped: tuple[Reason, str] = (Reason.EPISODE_INACTIVE, "")
        """Why the robot was stopped: told for as long as it stays so after the reason itself is gone."""

    def told(
        self, mode: Mode, reason: Reason, episode: Episode, held: HeldChunk | None, steady_ns: int
    ) -> tuple[Reason, str]:
        """The reason to report in a mode that does not follow, and one sentence."""
        if mode is Mode.EMERGENCY_STOP:
            return Reason.EMERGENCY_STOP, f"emergency stop: {self.emergency}"
        if reason is Reason.NONE or (mode is Mode.IDLE and reason not in (Reason.STATE_MISSING, Reason.STATE_TOO_OLD)):
            if mode is Mode.IDLE:
                if self.pace:
                    return Reason.EPISODE_INACTIVE, f"episode {episode.episode_id} is not followed: {self.pace}"
                if not episode.running:
                    return Reason.EPISODE_INACTIVE, "no episode is running"
                if self.ended:
                    text = f"episode {episode.episode_id} was ended by an emergency stop; begin another"
                    return Reason.EPISODE_INACTIVE, text
                text = f"episode {episode.episode_id} is past its limit and nobody ended it"
                return Reason.EPISODE_INACTIVE, text
            why, text = self.stopped
            return why, f"stopped until a fresh chunk and a fresh state arrive ({text})"
        text = self._sentence(reason, episode, held, steady_ns)
        self.stopped = reason, text
        return reason, text

    def _sentence(self, reason: Reason, episode: Episode, held: HeldChunk | None, steady_ns: int) -> str:
        takeover = self._takeover
        if reason is Reason.STATE_MISSING:
            return "no robot state has arrived; is the robot driver or the simulator running?"
        if reason is Reason.STATE_TOO_OLD:
            return f"robot state is {self._measurement.age_ns(steady_ns) / 1e6:.0f} ms old"
        if reason is Reason.CLOCK_JUMP:
            return f"the clock jumped by {(self.jump_ns or 0) / 1e9:+.3f} s; waiting for a new state and a new chunk"
        if reason is Reason.TAKEOVER_LOST:
            age = f"{takeover.age_ns(steady_ns) / 1e6:.0f} ms" if takeover.arrival_steady_ns else "a clock jump"
            return f"{takeover.person} has the robot and has not been heard for {age}; send on, or release it"
        if reason is Reason.INVALID_ACTION:
            return f"the newest chunk was refused: {self.invalid}"
        if held is None:
            return f"no chunk for episode {episode.episode_id} has arrived"
        chunk = held.chunk
        if reason is Reason.CHUNK_TOO_OLD:
            return f"the observation behind chunk {chunk.chunk_id} is {held.age_ns(steady_ns) / 1e6:.0f} ms old"
        if reason is Reason.CHUNK_EXHAUSTED:
            return f"all {chunk.horizon} rows of chunk {chunk.chunk_id} are used"
        cases = ", ".join(map(str, chunk.provenance.case_ids)) or "none named"
        return f"the failure memory asks to hold (cases: {cases})"
