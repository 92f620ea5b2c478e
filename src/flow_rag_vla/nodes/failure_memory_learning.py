# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""How the failure memory learns: episodes, failures and takeovers become lessons for the writer's thread."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np

from flow_rag_vla.core.action import CLOSED_BELOW, GRIPPER, CorrectionMode
from flow_rag_vla.memory.backlog import Step
from flow_rag_vla.memory.episode import EpisodeMemory
from flow_rag_vla.memory.images import CaseImage
from flow_rag_vla.memory.learning import Learner
from flow_rag_vla.memory.memory import FailureMemory
from flow_rag_vla.memory.takeover import TakeoverRecorder
from flow_rag_vla.nodes import failure_case_messages as messages
from flow_rag_vla.nodes.case_cameras import CaseCameras, Pictures, encoded_pictures
from flow_rag_vla.nodes.failure_memory_services import EXPECTED
from flow_rag_vla.nodes.stamps import to_ns
from flow_rag_vla_interfaces import msg

Write = Callable[[str, Sequence[Step]], None]
"""(what, steps): have a lesson written on the writer's thread, and say what went wrong with it."""

PICTURE_NS = 1_000_000_000
"""How far the pictures of a takeover may be from its first command."""


class MemoryLearning:
    """Follows the topics that tell how episodes go. One thread calls it."""

    def __init__(
        self,
        memory: FailureMemory,
        episode: EpisodeMemory,
        learner: Learner,
        cameras: CaseCameras | None,
        *,
        write: Write,
        refuse: Callable[[str], None],
        learns: Callable[[], bool],
    ) -> None:
        """Follow.

        Args:
            memory: counts what made no case.
            episode: is told what happens.
            learner: says what is to be learned of it.
            cameras: whose pictures go with cases; None: no pictures.
            write: does what takes a while.
            refuse: is told what made no sense.
            learns: whether anything is to be learned at present; what happens is followed all the same.
        """
        self._memory, self._episode, self._learner, self._cameras = memory, episode, learner, cameras
        self._write, self._refuse, self._learns = write, refuse, learns
        self._takeover = TakeoverRecorder()

    def on_command(self, message: msg.ControlCommand) -> None:
        """The controller gave a command."""
        # It applies residuals, blends and holds itself, so only its commands tell of those.
        used = message.provenance
        if used.correction and len(used.case_ids) and used.correction in list(CorrectionMode):
            ids, strength = (int(case_id) for case_id in used.case_ids), float(used.correction_strength)
            self._episode.use(CorrectionMode(used.correction), ids, strength, int(message.chunk_id))
        kind = msg.ControlCommand
        if message.mode in (kind.MODE_FOLLOW, kind.MODE_TAKEOVER):
            self._episode.command_hand(to_ns(message.header.stamp), bool(message.action[GRIPPER] < CLOSED_BELOW))
        if message.mode == kind.MODE_TAKEOVER or (
            self._takeover.running and message.reason == kind.REASON_TAKEOVER_LOST
        ):
            # While the person is not heard the robot rests, which is a part of what was done.
            person = used.policy_revision if message.mode == kind.MODE_TAKEOVER else ""
            action = np.array(message.action, dtype=np.float32)
            self._takeover.add(person, int(message.tick), to_ns(message.header.stamp), action)
            self._episode.intervene()
        elif self._takeover.running:
            self._on_release()

    def on_status(self, message: msg.EpisodeStatus) -> None:
        """An episode began, goes on or ended."""
        kind = msg.EpisodeStatus
        ended = {kind.STATE_SUCCEEDED: True, kind.STATE_FAILED: False}
        found = self._learner.follow(
            int(message.episode_id),
            message.task,
            message.phase,
            running=message.state == kind.STATE_RUNNING,
            success=ended.get(message.state),
            stamp_ns=to_ns(message.header.stamp),
        )
        if found is not None and self._learns():
            lesson, result = found
            self._write("an episode's lesson", self._learner.learning(lesson, result))

    def on_failure(self, message: msg.FailureEvent) -> None:
        """The detector reported a failure."""
        try:
            failure = messages.failure(message)
            # What goes wrong under a person's hands is no failure of the policy.
            theirs = self._takeover.running and failure.onset_ns >= self._takeover.start_ns
            if theirs or not self._learns():
                self._learner.disregard(failure)
                return
            pending = self._learner.failed(failure)
        except EXPECTED as error:
            self._memory.refuse()
            self._refuse(f"failure event {message.event_id} made no case: {error}")
            return
        pictures = self._pictures(failure.onset_ns, self._learner.settings.onset_tolerance_ns)
        steps = self._learner.remembering(pending, _encoded_once(pictures))
        self._write(f"failure event {message.event_id}", steps)

    def _on_release(self) -> None:
        """A takeover has ended."""
        takeover = self._takeover.finish()
        if takeover is None or not self._learns():
            return
        try:
            lesson = self._learner.taken_over(takeover)
        except EXPECTED as error:
            self._refuse(f"takeover by {takeover.person} teaches nothing: {error}")
            return
        pictures = self._pictures(takeover.start_ns, PICTURE_NS)
        # After the failure's own cases, which may still wait to be written.
        self._write("a takeover", self._learner.learning_takeover(lesson, _encoded_once(pictures)))

    def _pictures(self, stamp_ns: int, tolerance_ns: int) -> Pictures:
        return () if self._cameras is None else self._cameras.near(stamp_ns, tolerance_ns)


def _encoded_once(pictures: Pictures) -> Callable[[], tuple[CaseImage, ...]]:
    """Encodes them on the thread that asks first."""
    return lru_cache(maxsize=1)(lambda: encoded_pictures(pictures))
