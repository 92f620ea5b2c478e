"""The failure memory: answers every embedding with a correction, and turns every failure into a case.

Threads. The executor is single-threaded and does what must be quick: search, publish, keep the recent past. Two
threads do what may be slow: the *writer* changes the store, one change after the other, and the *reader* lists and
exports. Their services are ``async`` callbacks in a reentrant group: they wait for their thread while the executor
goes on answering embeddings, and are answered once the change is durable.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, TypeVar

import numpy as np
from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.node import Node
from rclpy.task import Future

from flow_rag_vla.bringup import topics
from flow_rag_vla.bringup.memory_settings import answering_settings, keying, memory_settings
from flow_rag_vla.bringup.parameters.failure_memory import FailureMemoryParameters
from flow_rag_vla.core.action import CorrectionMode
from flow_rag_vla.core.correction import Correction
from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.memory.answering import Answering, MemoryAnswer, NoKeyError, Whereabouts
from flow_rag_vla.memory.case import Array, CaseError, EncoderStamp, FailureCase, unit_embedding
from flow_rag_vla.memory.consensus import Consensus
from flow_rag_vla.memory.credit import COUNTED, CaseUse, UseResult
from flow_rag_vla.memory.episode import EpisodeLesson, EpisodeMemory, Failure, PendingFailure
from flow_rag_vla.memory.exchange import ExchangeError, export_cases, import_cases
from flow_rag_vla.memory.guard import STOPPED
from flow_rag_vla.memory.index import make_backend
from flow_rag_vla.memory.memory import FailureMemory
from flow_rag_vla.memory.results import AddResult
from flow_rag_vla.memory.store import CaseFilter, EncoderMismatchError, StoreError, UnknownCaseError
from flow_rag_vla.memory.takeover import Takeover, TakeoverRecorder, correction_of
from flow_rag_vla.nodes import conversions, qos
from flow_rag_vla.nodes import failure_case_messages as messages
from flow_rag_vla.nodes.case_cameras import CaseCameras, Pictures, encoded_pictures
from flow_rag_vla.nodes.complaints import Complaints
from flow_rag_vla.nodes.conversions import MessageError
from flow_rag_vla.nodes.diagnostics import ERROR, OK, WARN, Diagnostics, Health
from flow_rag_vla.nodes.jobs import BusyError, JobThread
from flow_rag_vla.nodes.parameters import NodeParameters
from flow_rag_vla.nodes.runtime import StartError, run
from flow_rag_vla.nodes.stamps import to_ns
from flow_rag_vla.policy.observation import proprioception
from flow_rag_vla.policy.situation import SituationKeyError
from flow_rag_vla_interfaces import msg, srv

EXPECTED = (CaseError, StoreError, LookupError, MessageError, ExchangeError, BusyError, ValueError, OSError)
"""What bad input or a bad disk raises; the text goes to the caller."""

LONGEST_LIST = 1000
DEFAULT_LIST = 100
MOST_REFUSALS = 100

THREAD_SWITCH_S = 0.0005
"""How long another thread may hold the interpreter when an embedding arrives; Python's default is ten times that."""

T = TypeVar("T")


class FailureMemoryNode(Node):
    """Remembers failures; see the module."""

    def __init__(self) -> None:
        super().__init__("failure_memory")
        self._complain = Complaints(self.get_logger())
        self._node_parameters = NodeParameters(self, FailureMemoryParameters, self._configure)
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
        if self._salvaged is not None:
            self.get_logger().error(str(self._salvaged))
        self._episode = EpisodeMemory(int(settings.history * 1e9))
        self._source = Answering(self._memory, self._episode, answering_settings(settings), made_with, deferred=True)
        try:
            self._source.renew()
        except StoreError as error:
            raise StartError(f"parameter database: {error}") from error
        self._renewing = False
        self._agreed: Consensus | None = None
        self._unanswered: dict[str, int] = {}
        self._takeover = TakeoverRecorder()
        self._cameras = CaseCameras(self) if settings.keep_images else None
        self._status: msg.EpisodeStatus | None = None
        self._answers = self._corrections = 0
        self._problem = ""
        self._mismatch = ""

        self._correction_publisher = self.create_publisher(msg.Correction, topics.CORRECTION, qos.PLAN)
        self._statistics_publisher = self.create_publisher(msg.MemoryStatistics, topics.MEMORY_STATISTICS, qos.STATE)
        self._writer = JobThread(self, "memory writer")
        self._reader = JobThread(self, "memory reader")
        for kind, topic, callback, profile in (
            (msg.Embedding, topics.EMBEDDING, self._on_embedding, qos.SENSOR),
            (msg.RobotState, topics.ROBOT_STATE, self._on_state, qos.SENSOR),
            (msg.ActionChunk, topics.ACTION_CHUNK, self._on_chunk, qos.PLAN),
            (msg.ControlCommand, topics.COMMAND, self._on_command, qos.SENSOR),
            (msg.EpisodeStatus, topics.EPISODE_STATUS, self._on_status, qos.STATE),
            (msg.FailureEvent, topics.FAILURE_EVENT, self._on_failure, qos.EVENT),
        ):
            self.create_subscription(kind, topic, callback, profile)
        waiting = ReentrantCallbackGroup()
        for kind, name, handler in (
            (srv.AddFailureCase, topics.ADD_CASE, self._add),
            (srv.GetFailureCase, topics.GET_CASE, self._get),
            (srv.SearchFailureCases, topics.SEARCH_CASES, self._search),
            (srv.ListFailureCases, topics.LIST_CASES, self._list),
            (srv.EditFailureCase, topics.EDIT_CASE, self._edit),
            (srv.RetireFailureCase, topics.RETIRE_CASE, self._retire),
            (srv.ExportFailureCases, topics.EXPORT_CASES, self._export),
            (srv.ImportFailureCases, topics.IMPORT_CASES, self._import),
            (srv.GetMemoryStatistics, topics.MEMORY_STATISTICS_SERVICE, self._get_statistics),
        ):
            self.create_service(kind, name, self._answering(name, handler), callback_group=waiting)
        self._diagnostics = Diagnostics(self, "failure_memory", self._health)
        self._timer = self.create_timer(1.0, self._every_second, clock=Clock(clock_type=ClockType.STEADY_TIME))
        stamp = self._memory.stamp
        self.get_logger().info(
            f"{self._memory.statistics().cases} cases of {stamp or 'no encoder yet'} in {self._memory.store.path}"
        )

    def destroy_node(self) -> None:
        """Write what is queued, then end."""
        for thread in ("_writer", "_reader"):
            if hasattr(self, thread):
                getattr(self, thread).close()
        if hasattr(self, "_memory"):
            self._memory.close()
        super().destroy_node()

    # What must be quick.

    def _on_embedding(self, message: msg.Embedding) -> None:
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
        if self._source.stale:
            self._renew()

    def _whereabouts(self) -> Whereabouts | None:
        status = self._status
        return None if status is None else Whereabouts(status.task, status.phase, status.instruction)

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

    def _on_state(self, message: msg.RobotState) -> None:
        # Converted only if a failure asks for it: 40 of them come each second.
        self._episode.proprioception.append(
            to_ns(message.header.stamp), lambda: proprioception(conversions.robot_state(message))
        )

    def _on_chunk(self, message: msg.ActionChunk) -> None:
        try:
            chunk = conversions.action_chunk(message)
        except MessageError as error:
            self._refuse(str(error))
            return
        self._episode.chunks.append(chunk.stamp_ns, chunk)
        used = chunk.provenance
        self._episode.use(used.correction, used.case_ids, used.correction_strength, chunk.chunk_id)

    def _on_command(self, message: msg.ControlCommand) -> None:
        # The controller applies residuals, blends and holds itself, so only its commands tell of those.
        used = message.provenance
        if used.correction and len(used.case_ids) and used.correction in list(CorrectionMode):
            ids, strength = (int(case_id) for case_id in used.case_ids), float(used.correction_strength)
            self._episode.use(CorrectionMode(used.correction), ids, strength, int(message.chunk_id))
        kind = msg.ControlCommand
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

    # Episodes and failures.

    def _on_status(self, message: msg.EpisodeStatus) -> None:
        stamp_ns = to_ns(message.header.stamp)
        episode = self._episode
        if message.state == msg.EpisodeStatus.STATE_RUNNING:
            if not episode.running or episode.episode_id != message.episode_id:
                episode.begin(int(message.episode_id), message.task, stamp_ns)
            if message.phase:
                episode.phases.append(stamp_ns, message.phase)
        elif episode.running:
            if message.state in (msg.EpisodeStatus.STATE_SUCCEEDED, msg.EpisodeStatus.STATE_FAILED):
                window_ns = int(self._node_parameters.value.later_success_window * 1e9)
                success = message.state == msg.EpisodeStatus.STATE_SUCCEEDED
                lesson = episode.end(success, stamp_ns, self._memory.threshold, window_ns)
                result = UseResult.SUCCESS if success else UseResult.FAILURE
            else:
                lesson, result = episode.cancel(), UseResult.CANCELLED
            if lesson.intervened:
                result = UseResult.INTERVENED
            self._write("an episode's lesson", lambda: self._learn(lesson, result))
        self._status = message

    def _on_failure(self, message: msg.FailureEvent) -> None:
        failure = None
        try:
            failure = messages.failure(message)
            if self._takeover.running and failure.onset_ns >= self._takeover.start_ns:
                # What goes wrong under a person's hands is no failure of the policy.
                self._episode.failed(failure, None)
                return
            tolerance_ns = int(self._node_parameters.value.onset_tolerance * 1e9)
            case = self._episode.case_of(failure, self._origin, tolerance_ns)
        except EXPECTED as error:
            self._memory.refuse()
            self._refuse(f"failure event {message.event_id} made no case: {error}")
            if failure is not None:
                self._episode.failed(failure, None)
            return
        pending = self._episode.failed(failure, case)
        pictures = self._cameras.near(failure.onset_ns, tolerance_ns) if self._cameras is not None else ()
        self._write(f"failure event {message.event_id}", lambda: self._remember(case, pending, pictures))

    def _remember(self, case: FailureCase, pending: PendingFailure | None, pictures: Pictures = ()) -> None:
        result = self._memory.add(case, encoded_pictures(pictures))
        if pending is not None:
            pending.case_id = result.case_id
        outcome = f"case {result.case_id}" if result.accepted else f"not active: {result.message}"
        self.get_logger().info(f"{case.failure_type.name.lower()} in {case.task}/{case.phase}: {outcome}")

    def _learn(self, lesson: EpisodeLesson, result: UseResult) -> None:
        # The episode that a case was made of is the first in which its situation came up and nothing followed it.
        known = {use.case_id for use in lesson.uses}
        founded = sorted({item.case_id for item in lesson.failures if item.case_id} - known)
        uses = (*lesson.uses, *(CaseUse(case_id) for case_id in founded))
        for case in self._memory.record_uses(uses, result, lesson.episode_id):
            self.get_logger().warning(f"case {case.case_id} is retired: {case.retired_reason}")
        if not lesson.used and result in COUNTED and lesson.task:
            self._memory.ledger.record_baseline(lesson.task, lesson.phases, result is UseResult.SUCCESS)
        for later in lesson.corrections:
            how = f"similarity {later.similarity:.3f}"
            self._learn_correction(later.pending, later.actions, "later_success", how)
        if lesson.situations and self._memory.stamp is not None:
            self._memory.observe_success(lesson.situations)
        if lesson.done:
            self._memory.observe_done([dataclasses.replace(item, origin=self._origin) for item in lesson.done])

    def _learn_correction(self, pending: PendingFailure, actions: Array, source: str, how: str) -> None:
        case_id = pending.case_id
        try:
            if not case_id or (source != "human" and self._memory.get(case_id).correction is not None):
                return
            case = self._memory.edit(case_id, correction=actions, correction_source=source)
            if case.retired and case.retired_reason.startswith(STOPPED):
                # It was kept out for what it lacked: with this correction it changes no success.
                self._memory.retire(case_id, False, f"its correction by {source} passes the guard")
        except (CaseError, StoreError, UnknownCaseError) as error:
            # Dropped meanwhile, stopped, or a known case of another horizon: nothing lost but this one lesson.
            self.get_logger().warning(f"case {case_id} did not learn its correction: {error}")
            return
        self.get_logger().info(f"case {case_id} learned its correction by {source} ({how})")

    # A person's takeover.

    def _on_release(self) -> None:
        """A takeover has ended: it corrects the failure that led to it, or is a failure and its correction itself."""
        takeover = self._takeover.finish()
        if takeover is None:
            return
        window_ns = int(self._node_parameters.value.takeover_window * 1e9)
        before = [
            item
            for item in self._episode.pending
            if item.failure.stamp_ns - int(1e9) <= takeover.end_ns
            and takeover.start_ns - item.failure.stamp_ns <= window_ns
        ]
        try:
            pending = before[-1] if before else self._foreseen(takeover)
            seen = [
                (stamp_ns, item.values)
                for stamp_ns, item in self._episode.embeddings.between(takeover.start_ns - 1, takeover.end_ns)
                if item.stamp == pending.case.stamp
            ]
            actions = correction_of(takeover, pending.case, pending.failure.onset_ns, seen, self._memory.threshold)
        except EXPECTED as error:
            self._refuse(f"takeover by {takeover.person} corrects no failure: {error}")
            return
        how = f"{takeover.person}, {len(takeover.ticks)} commands"
        if before:
            # After the case itself, which may still wait to be written.
            self._write("a takeover", lambda: self._learn_correction(pending, actions, "human", how))
            return
        case = dataclasses.replace(pending.case, correction=actions, correction_source="human")
        pictures = self._cameras.near(takeover.start_ns, int(1e9)) if self._cameras is not None else ()
        self._write("a takeover", lambda: self._remember(case, pending, pictures))

    def _foreseen(self, takeover: Takeover) -> PendingFailure:
        """The failure that a person kept from happening: whatever the policy was about to do where they took over."""
        failure = Failure(
            takeover.start_ns,
            takeover.start_ns,
            FailureType.UNKNOWN,
            "",
            "",
            description=f"{takeover.person} took over before a failure was detected",
        )
        tolerance_ns = int(self._node_parameters.value.onset_tolerance * 1e9)
        return PendingFailure(failure, self._episode.case_of(failure, self._origin, tolerance_ns))

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

    # Services.

    def _answering(self, name: str, handler: Callable[[Any, Any], Awaitable[None]]) -> Callable[..., Awaitable[Any]]:
        async def answer(request: Any, response: Any) -> Any:
            try:
                await handler(request, response)
            except EXPECTED as error:
                response.message = str(error)
                self.get_logger().warning(f"{name}: {error}")
            return response

        return answer

    async def _add(self, request: srv.AddFailureCase.Request, response: srv.AddFailureCase.Response) -> None:
        try:
            case = messages.failure_case(request.failure_case, self._origin)
        except EXPECTED:
            self._memory.refuse()
            raise
        self._source.check(case.stamp)
        images = messages.case_images(request.failure_case.images)
        result: AddResult = await self._writer.submit(lambda: self._memory.add(case, images))
        response.accepted, response.case_id, response.message = result.accepted, result.case_id, result.message

    async def _get(self, request: srv.GetFailureCase.Request, response: srv.GetFailureCase.Response) -> None:
        case_id = int(request.case_id)

        def read() -> msg.FailureCase:
            return messages.case_message(self._memory.get(case_id), images=self._memory.ledger.images(case_id))

        response.failure_case = await self._reader.submit(read)
        response.found = True

    async def _search(self, request: srv.SearchFailureCases.Request, response: srv.SearchFailureCases.Response) -> None:
        message = request.embedding
        values = unit_embedding(message.values)
        result = self._memory.search(
            values,
            stamp=EncoderStamp(message.encoder, message.revision, len(values)) if message.encoder else None,
            k=int(request.k) or None,
            threshold=None if request.threshold < -1.0 else float(request.threshold),
            task=request.task,
            phase=request.phase,
        )
        response.ok, response.from_cache, response.search_ms = True, result.from_cache, result.search_ms
        response.cases = [messages.retrieved_message(item) for item in result.cases]

    async def _list(self, request: srv.ListFailureCases.Request, response: srv.ListFailureCases.Response) -> None:
        which = CaseFilter(
            request.task,
            request.phase,
            tuple(messages.failure_type(value) for value in request.failure_types),
            request.include_retired,
        )
        limit = min(int(request.limit) or DEFAULT_LIST, LONGEST_LIST)
        offset = int(request.offset)

        def page() -> tuple[int, list[msg.FailureCase]]:
            total, cases = self._memory.page(which, offset, limit)
            return total, [messages.case_message(case, embedding=False) for case in cases]

        response.total, response.cases = await self._reader.submit(page)

    async def _edit(self, request: srv.EditFailureCase.Request, response: srv.EditFailureCase.Response) -> None:
        correction = None
        if request.set_correction and len(request.correction):
            correction = messages.chunk_rows(request.correction, request.horizon, "correction")
        kind = messages.failure_type(request.failure_type) if request.set_failure_type else None
        case_id, note = int(request.case_id), request.note if request.set_note else None
        forget = bool(request.set_correction) and correction is None
        # Who sets a correction and does not say whose it is, is a person.
        source = request.correction_source or "human"
        await self._writer.submit(
            lambda: self._memory.edit(
                case_id,
                correction=correction,
                correction_source=source,
                forget_correction=forget,
                failure_type=kind,
                note=note,
            )
        )
        response.ok = True

    async def _retire(self, request: srv.RetireFailureCase.Request, response: srv.RetireFailureCase.Response) -> None:
        case_id, retired, reason = int(request.case_id), bool(request.retired), request.reason
        await self._writer.submit(lambda: self._memory.retire(case_id, retired, reason))
        response.ok = True

    async def _export(self, request: srv.ExportFailureCases.Request, response: srv.ExportFailureCases.Response) -> None:
        path, retired, overwrite = request.path, bool(request.include_retired), bool(request.overwrite)
        response.exported = await self._reader.submit(
            lambda: export_cases(self._memory, path, include_retired=retired, overwrite=overwrite)
        )
        response.ok, response.message = True, f"{response.exported} cases in {path}"

    async def _import(self, request: srv.ImportFailureCases.Request, response: srv.ImportFailureCases.Response) -> None:
        path, origin, dry_run = request.path, request.origin, bool(request.dry_run)
        report = await self._writer.submit(lambda: import_cases(self._memory, path, origin=origin, dry_run=dry_run))
        response.ok, response.imported, response.duplicates = True, report.imported, report.duplicates
        response.message = "nothing stored: dry run" if dry_run else ""
        response.refused = len(report.refused)
        response.refusals = [str(item) for item in report.refused[:MOST_REFUSALS]]
        response.conflicts = report.conflicts[:MOST_REFUSALS]

    async def _get_statistics(
        self, _request: srv.GetMemoryStatistics.Request, response: srv.GetMemoryStatistics.Response
    ) -> None:
        response.statistics = self._statistics()

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
        if self._memory.refresh():
            self.get_logger().info(f"{self._memory.store.path} was changed by another program: loaded again")

    def _health(self) -> Health:
        statistics = self._memory.statistics()
        figures = {
            **{key: value for key, value in dataclasses.asdict(statistics).items() if key not in ("stamp", "index")},
            **{f"index_{key}": value for key, value in dataclasses.asdict(statistics.index).items()},
            "corrections": self._corrections,
            "answers": self._answers,
            **{f"unanswered_{reason}": count for reason, count in self._unanswered.items()},
            **self._consensus_figures(),
            "jobs_waiting": self._writer.waiting + self._reader.waiting,
            "encoder": str(statistics.stamp or ""),
            "database": str(self._memory.store.path),
        }
        if self._mismatch:
            return ERROR, self._mismatch, figures
        if statistics.damage:
            return ERROR, statistics.damage, figures
        if statistics.index.problem:
            return WARN, statistics.index.problem, figures
        if self._salvaged is not None:
            return WARN, str(self._salvaged), figures
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
        self._source.configure(answering_settings(settings))
        self._write("new parameters", lambda: self._memory.configure(memory_settings(settings)))


def main(args: Sequence[str] | None = None) -> int:
    """Run the failure memory node."""
    sys.setswitchinterval(THREAD_SWITCH_S)
    return run(FailureMemoryNode, None if args is None else list(args))


if __name__ == "__main__":
    raise SystemExit(main())
