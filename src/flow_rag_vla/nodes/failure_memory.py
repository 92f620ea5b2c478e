# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The failure memory: answers every embedding with a correction, and turns every failure into a case.

Threads. The executor is single-threaded and does what must be quick: search, publish, keep the recent past. Two
threads do what may be slow: the *writer* changes the store, one change after the other, and the *reader* lists,
exports, and prepares what the consensus is asked from. What is learned is in ``failure_memory_learning``, what is
served in ``failure_memory_services``.
"""

from __future__ import annotations

import dataclasses
import gc
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack

import numpy as np
from numpy.typing import NDArray
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.task import Future

from flow_rag_vla.bringup import topics
from flow_rag_vla.bringup.memory_settings import answering_settings, keying, learning_settings, memory_settings
from flow_rag_vla.bringup.parameters.failure_memory import FailureMemoryParameters
from flow_rag_vla.core.action import CorrectionMode
from flow_rag_vla.core.correction import Correction
from flow_rag_vla.data import message_values
from flow_rag_vla.data.message_values import MessageError
from flow_rag_vla.memory.answering import Answering, MemoryAnswer, NoKeyError, Whereabouts
from flow_rag_vla.memory.backlog import Backlog, Step
from flow_rag_vla.memory.consensus import Consensus
from flow_rag_vla.memory.episode import EpisodeMemory
from flow_rag_vla.memory.index import make_backend
from flow_rag_vla.memory.learning import Learner
from flow_rag_vla.memory.memory import FailureMemory
from flow_rag_vla.memory.rewind import Stage
from flow_rag_vla.memory.store import EncoderMismatchError, StoreError
from flow_rag_vla.nodes import failure_case_messages as messages
from flow_rag_vla.nodes import qos
from flow_rag_vla.nodes.case_cameras import CaseCameras
from flow_rag_vla.nodes.complaints import Complaints
from flow_rag_vla.nodes.diagnostics import ERROR, OK, WARN, Health
from flow_rag_vla.nodes.failure_memory_learning import MemoryLearning
from flow_rag_vla.nodes.failure_memory_services import EXPECTED, MemoryServices
from flow_rag_vla.nodes.jobs import BusyError, JobThread
from flow_rag_vla.nodes.lifecycle import ManagedNode, run_managed
from flow_rag_vla.nodes.parameters import NodeParameters
from flow_rag_vla.nodes.polling import PolledSubscription
from flow_rag_vla.nodes.runtime import StartError
from flow_rag_vla.nodes.stamps import to_ns
from flow_rag_vla.nodes.wire import robot_state_from_wire, stamp_from_wire
from flow_rag_vla.policy.observation import proprioception
from flow_rag_vla.policy.situation import SituationKeyError
from flow_rag_vla_interfaces import msg

FOLLOW_S = 0.25
"""How often states and commands are looked at while no embedding asks for them: four times as often as must be."""

THREAD_SWITCH_S = 0.0005
"""How long another thread may hold the interpreter when an embedding arrives; Python's default is ten times that."""


class FailureMemoryNode(ManagedNode):
    """Remembers failures; see the module. While it is inactive its services look things up and change them."""

    def __init__(self) -> None:
        super().__init__("failure_memory")
        self._complain = Complaints(self.get_logger())
        self._node_parameters = NodeParameters(
            self, FailureMemoryParameters, self._configure, may_reload=self.may_reload
        )
        self._held = ExitStack()
        self._renewing = False
        self._agreed: Consensus | None = None
        self._stage = Stage.NONE
        self._withdrawn = 0
        self._unanswered: dict[str, int] = {}
        self._status: msg.EpisodeStatus | None = None
        self._answers = self._corrections = 0
        self._problem = ""
        self._mismatch = ""
        self._correction_publisher = self.create_lifecycle_publisher(msg.Correction, topics.CORRECTION, qos.PLAN)
        self._statistics_publisher = self.create_lifecycle_publisher(
            msg.MemoryStatistics, topics.MEMORY_STATISTICS, qos.STATE
        )

    def load(self) -> None:
        """Open the database, make the index, serve."""
        settings = self._node_parameters.value
        self._origin = memory_settings(settings).origin
        try:
            made_with = keying(settings)
        except SituationKeyError as error:
            raise StartError(f"parameter policy_checkpoint: {error}") from error
        try:
            self._memory, self._salvaged = FailureMemory.open(
                settings.database, memory_settings(settings), make_backend(settings.index, settings.device)
            )
        except (StoreError, ValueError) as error:
            raise StartError(f"parameter database, device or index: {error}") from error
        self._held.callback(self._memory.close)
        if self._salvaged is not None:
            self.get_logger().error(str(self._salvaged))
        self._episode = EpisodeMemory(int(settings.history * 1e9))
        self._source = Answering(self._memory, self._episode, answering_settings(settings), made_with, deferred=True)
        try:
            self._source.renew()
        except StoreError as error:
            raise StartError(f"parameter database: {error}") from error
        self._learner = Learner(self._memory, self._episode, learning_settings(settings), self._tell)
        self._backlog = Backlog()
        self._held.callback(self._give_up)
        self._writer = JobThread(self, "memory writer")
        self._reader = JobThread(self, "memory reader")
        # What is queued is written before the memory is closed.
        self._held.callback(self._reader.close)
        self._held.callback(self._writer.close)
        MemoryServices(
            self,
            self._memory,
            self._source,
            self._origin,
            writer=self._writer,
            reader=self._reader,
            statistics=self._statistics,
        )
        stamp = self._memory.stamp
        self.get_logger().info(
            f"{self._memory.statistics().cases} cases of {stamp or 'no encoder yet'} in {self._memory.store.path}"
        )
        # What is there now stays: to look at all of it again would halt an answer for more than 10 ms.
        gc.collect()
        gc.freeze()

    def free(self) -> None:
        """Write what is queued, and close the database."""
        gc.unfreeze()
        self._held.close()
        self._renewing = False
        self._agreed, self._mismatch = None, ""

    def begin(self) -> None:
        """Answer and learn."""
        self._learning = MemoryLearning(
            self._memory,
            self._episode,
            self._learner,
            CaseCameras(self) if self._node_parameters.value.keep_images else None,
            write=self._learn,
            refuse=self._refuse,
            learns=lambda: self._node_parameters.value.learn,
        )
        for kind, topic, callback, profile in (
            (msg.Embedding, topics.EMBEDDING, self._on_embedding, qos.SENSOR),
            (msg.ActionChunk, topics.ACTION_CHUNK, self._on_chunk, qos.PLAN),
            (msg.EpisodeStatus, topics.EPISODE_STATUS, self._on_status, qos.STATE),
            (msg.FailureEvent, topics.FAILURE_EVENT, self._on_failure, qos.EVENT),
        ):
            self.create_subscription(kind, topic, callback, profile)
        # Read when they are needed: 80 messages a second wake nobody, and a node that was not scheduled for a while
        # has every state up to an embedding when it answers it.
        self._states = PolledSubscription(self, msg.RobotState, topics.ROBOT_STATE, qos.LAST_SECOND)
        self._commands = PolledSubscription(self, msg.ControlCommand, topics.COMMAND, qos.LAST_SECOND)
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._follower = self.create_timer(FOLLOW_S, self._follow, clock=steady)
        self._timer = self.create_timer(1.0, self._every_second, clock=steady)

    def rest(self) -> None:
        """Forget which episode ran."""
        self._status = None

    # What must be quick.

    def _on_embedding(self, message: msg.Embedding) -> None:
        self._take_states()
        self._answers += 1
        stamp_ns = to_ns(message.header.stamp)
        answer = MemoryAnswer(Correction(stamp_ns), threshold=self._source.threshold)
        try:
            answer = self._source.answer(
                stamp_ns, message.values, message.encoder, message.revision, self._whereabouts()
            )
            self._mismatch = ""
        except NoKeyError as error:
            # Expected before the first episode and the first robot state, so it is counted and no warning.
            self._unanswered[error.reason] = self._unanswered.get(error.reason, 0) + 1
        except EncoderMismatchError as error:
            if not self._mismatch:
                self.get_logger().error(str(error))
            self._mismatch = str(error)
        except EXPECTED as error:
            self._refuse(f"embedding of {message.encoder!r}: {error}")
        self._correction_publisher.publish(
            messages.correction_message(
                answer.correction, message, self._answers, answer.found, answer.threshold, answer.search_ms
            )
        )
        self._corrections += answer.correction.mode != CorrectionMode.NONE
        self._agreed = answer.consensus or self._agreed
        self._tell_rewind()
        self._tell_withdrawal()
        self._take_commands()
        if self._source.stale:
            self._renew()

    def _whereabouts(self) -> Whereabouts | None:
        status = self._status
        return None if status is None else Whereabouts(status.task, status.phase, status.instruction)

    def _tell_rewind(self) -> None:
        """Log what is begun about a failure, once."""
        stage, rewind = self._stage, self._source.rewind
        self._stage = rewind.stage
        if rewind.stage is Stage.HELD and stage is not Stage.HELD:
            self.get_logger().error(f"held, a person is asked for: {rewind.request}")
        elif rewind.stage is not stage and rewind.stage is not Stage.NONE:
            self.get_logger().info(f"rewind {rewind.attempts} of this episode: {rewind.stage.value}")

    def _tell_withdrawal(self) -> None:
        """Log that the memory lets go of an arm that it led nowhere, once each time."""
        before, self._withdrawn = self._withdrawn, self._source.patience.withdrawn
        if self._withdrawn > before:
            settings = self._source.patience.settings
            self.get_logger().info(
                f"led for {settings.lead_ns * 1e-9:g} s within one phase: silent for {settings.rest_ns * 1e-9:g} s"
            )

    def _renew(self) -> None:
        """Judge the consensus' gates on the reader's thread; answers use the last ones meanwhile."""
        if self._renewing:
            return
        try:
            judged = self._reader.submit(self._source.renew)
        except BusyError:
            return
        self._renewing = True
        judged.add_done_callback(self._renewed)

    def _renewed(self, done: Future[None]) -> None:
        self._renewing = False
        error = done.exception()
        if error is not None:
            self._refuse(f"the consensus' gates are as they were: {error}")

    def _take_states(self) -> None:
        for data, _ in self._states.take_serialized():
            try:
                stamp_ns = stamp_from_wire(data)
            except MessageError as error:
                self._refuse(f"robot state: {error}")
                continue
            # Kept as they came, a third of a message object, and read only if something asks for it: 40 come a second.
            self._episode.proprioception.append(stamp_ns, _felt(data))

    def _take_commands(self) -> None:
        for message, _ in self._commands.take():
            self._learning.on_command(message)

    def _follow(self) -> None:
        self._take_states()
        self._take_commands()

    def _on_chunk(self, message: msg.ActionChunk) -> None:
        try:
            chunk = message_values.action_chunk(message)
        except MessageError as error:
            self._refuse(str(error))
            return
        self._episode.chunks.append(chunk.stamp_ns, chunk)
        used = chunk.provenance
        self._episode.use(used.correction, used.case_ids, used.correction_strength, chunk.chunk_id, chunk.stamp_ns)

    def _on_failure(self, message: msg.FailureEvent) -> None:
        # What came before it belongs to what is learned from it.
        self._follow()
        self._learning.on_failure(message)

    def _on_status(self, message: msg.EpisodeStatus) -> None:
        self._follow()
        self._learning.on_status(message)
        self._status = message

    def _tell(self, what: str, warn: bool) -> None:
        # Two calls: a place in the code logs at one severity only.
        if warn:
            self.get_logger().warning(what)
        else:
            self.get_logger().info(what)

    def _learn(self, what: str, steps: Sequence[Step]) -> None:
        self._write(what, lambda: self._backlog.write(steps))

    def _give_up(self) -> None:
        """The last try to write what waits, as the node ends."""
        try:
            self._backlog.retry()
        except EXPECTED as error:
            if self._backlog.waiting:
                self.get_logger().error(f"{self._backlog.waiting} lessons are lost: {error}")

    def _write(self, what: str, job: Callable[[], None]) -> None:
        try:
            answer = self._writer.submit(job)
        except BusyError as error:
            self._refuse(f"{what}: {error}")
            return
        answer.add_done_callback(lambda done: self._written(what, done))

    def _written(self, what: str, done: Future[None]) -> None:
        error = done.exception()
        if self._source.stale:
            self._renew()
        if error is not None:
            self._refuse(f"{what}: {error}")

    # Health.

    def _statistics(self) -> msg.MemoryStatistics:
        now_ns = self.get_clock().now().nanoseconds
        return messages.statistics_message(self._memory.statistics(), self._corrections, now_ns)

    def _every_second(self) -> None:
        self._statistics_publisher.publish(self._statistics())
        if self._writer.waiting == 0:
            # The console command may have changed the database meanwhile.
            self._write("a look at the database", self._refresh)

    def _refresh(self) -> None:
        if written := self._backlog.retry():
            self.get_logger().info(f"{written} lessons that had waited for the disk are written")
        if self._memory.refresh():
            self.get_logger().info(f"{self._memory.store.path} was changed by another program: loaded again")

    def health(self) -> Health:
        """What is known, and what is wrong with it."""
        statistics = self._memory.statistics()
        figures = {
            **{key: value for key, value in dataclasses.asdict(statistics).items() if key not in ("stamp", "index")},
            **{f"index_{key}": value for key, value in dataclasses.asdict(statistics.index).items()},
            "corrections": self._corrections,
            "answers": self._answers,
            **{f"unanswered_{reason}": count for reason, count in self._unanswered.items()},
            **self._consensus_figures(),
            "withdrawn": self._source.patience.withdrawn,
            "rewinds": self._source.rewind.attempts,
            "after_failure": self._source.rewind.stage.value,
            "jobs_waiting": self._writer.waiting + self._reader.waiting,
            "lessons_waiting": self._backlog.waiting,
            "encoder": str(statistics.stamp or ""),
            "database": str(self._memory.store.path),
        }
        if self._mismatch:
            return ERROR, self._mismatch, figures
        if statistics.damage:
            return ERROR, statistics.damage, figures
        if waiting := self._backlog.waiting:
            return WARN, f"{waiting} lessons wait to be written: {self._backlog.reason}", figures
        if statistics.index.problem:
            return WARN, statistics.index.problem, figures
        if self._salvaged is not None:
            return WARN, str(self._salvaged), figures
        if request := self._source.rewind.request:
            return WARN, f"a person is asked for: {request}", figures
        if self._problem:
            problem, self._problem = self._problem, ""
            return WARN, problem, figures
        return OK, f"{statistics.cases} cases", figures

    def _consensus_figures(self) -> dict[str, float]:
        """What the last answer by consensus rested on."""
        agreed = self._agreed
        if agreed is None:
            return {}
        return {
            "consensus_confidence": round(agreed.confidence, 4),
            "consensus_gate": round(agreed.gate, 4),
            "consensus_failures": round(agreed.failures, 4),
            "consensus_successes": round(agreed.successes, 4),
        }

    def _refuse(self, problem: str) -> None:
        """Say what was wrong, each kind at most once a second in the log, and always on the diagnostics."""
        self._problem = problem
        self._complain(problem)

    def _configure(self, settings: FailureMemoryParameters) -> None:
        if self.may_reload():
            return
        self._source.configure(answering_settings(settings))
        self._learner.settings = learning_settings(settings)
        self._write("new parameters", lambda: self._memory.configure(memory_settings(settings)))


def _felt(data: bytes) -> Callable[[], NDArray[np.float32]]:
    """How to get the proprioception (P,) of a serialized robot state; (0,) of one that makes no sense."""

    def read() -> NDArray[np.float32]:
        try:
            return proprioception(robot_state_from_wire(data))
        except MessageError:
            # It is read long after it came: what else was seen then, and the whole episode's lesson, must not go with
            # it. The detector and the controller name such a state when it comes.
            return np.zeros(0, dtype=np.float32)

    return read


def main(args: Sequence[str] | None = None) -> int:
    """Run the failure memory node."""
    sys.setswitchinterval(THREAD_SWITCH_S)
    return run_managed(FailureMemoryNode, args)


if __name__ == "__main__":
    raise SystemExit(main())
