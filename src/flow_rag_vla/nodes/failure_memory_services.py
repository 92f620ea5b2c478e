# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The services of the failure memory: what people and other programs ask of it.

They are ``async`` callbacks in a reentrant group: they wait for their thread while the executor goes on answering
embeddings, and are answered once the change is durable.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node

from flow_rag_vla.bringup import topics
from flow_rag_vla.bringup.security.permission import CHANGING
from flow_rag_vla.data.message_values import MessageError
from flow_rag_vla.memory.answering import Answering
from flow_rag_vla.memory.case import CaseError, EncoderStamp, unit_embedding
from flow_rag_vla.memory.exchange import ExchangeError, export_cases, import_cases
from flow_rag_vla.memory.memory import FailureMemory
from flow_rag_vla.memory.store import CaseFilter, StoreError
from flow_rag_vla.nodes import failure_case_messages as messages
from flow_rag_vla.nodes.jobs import BusyError, JobThread
from flow_rag_vla.nodes.permission import permitted
from flow_rag_vla_interfaces import msg, srv

EXPECTED = (CaseError, StoreError, LookupError, MessageError, ExchangeError, BusyError, ValueError, OSError)
"""What bad input or a bad disk raises; the text goes to the caller."""

LONGEST_LIST = 1000
DEFAULT_LIST = 100
MOST_REFUSALS = 100


class MemoryServices:
    """Serves one memory. Changes go to the writer's thread, what reads much to the reader's."""

    def __init__(
        self,
        node: Node,
        memory: FailureMemory,
        source: Answering,
        origin: str,
        *,
        writer: JobThread,
        reader: JobThread,
        statistics: Callable[[], msg.MemoryStatistics],
    ) -> None:
        """Offer the services on a node.

        Args:
            node: gets them.
            memory: is asked and changed.
            source: knows which vectors fit.
            origin: robot that cases without one are of.
            writer: changes the store, one change after the other.
            reader: lists and exports.
            statistics: the message of the memory's statistics.
        """
        self._node, self._memory, self._source, self._origin = node, memory, source, origin
        self._writer, self._reader, self._statistics = writer, reader, statistics
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
            answer = self._answering(name, handler)
            answer = permitted(node, answer) if name in CHANGING else answer
            node.create_service(kind, name, answer, callback_group=waiting)

    def _answering(self, name: str, handler: Callable[[Any, Any], Awaitable[None]]) -> Callable[..., Awaitable[Any]]:
        async def answer(request: Any, response: Any) -> Any:
            try:
                await handler(request, response)
            except EXPECTED as error:
                response.message = str(error)
                self._node.get_logger().warning(f"{name}: {error}")
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
        result = await self._writer.submit(lambda: self._memory.add(case, images))
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
        response.conflicts = [*report.conflicts, *(str(item) for item in report.doubted)][:MOST_REFUSALS]

    async def _get_statistics(
        self, _request: srv.GetMemoryStatistics.Request, response: srv.GetMemoryStatistics.Response
    ) -> None:
        response.statistics = self._statistics()
