# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Failure cases, searches and corrections to messages and back."""

from __future__ import annotations

import array
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.core.action import ACTION_DIM
from flow_rag_vla.core.correction import Correction
from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.data.message_values import MessageError, evidence
from flow_rag_vla.memory.case import FailureCase, OriginCredit
from flow_rag_vla.memory.episode import Failure
from flow_rag_vla.memory.images import CaseImage, checked_images
from flow_rag_vla.memory.results import RetrievedCase
from flow_rag_vla.memory.statistics import MemoryStatistics
from flow_rag_vla.nodes.conversions import evidence_messages, floats
from flow_rag_vla.nodes.stamps import to_ns, to_stamp
from flow_rag_vla_interfaces import msg


def failure_type(value: int) -> FailureType:
    """Failure type of a message field.

    Raises:
        MessageError: if there is no such type.
    """
    try:
        return FailureType(value)
    except ValueError:
        known = ", ".join(f"{int(item)} {item.name.lower()}" for item in FailureType)
        raise MessageError(f"failure type {value} is not one of {known}") from None


def chunk_rows(values: Sequence[float], horizon: int, name: str) -> NDArray[np.float32]:
    """(H, 7) float32 of a row-major field.

    Raises:
        MessageError: if the size does not fit the horizon.
    """
    rows = np.array(values, dtype=np.float32)
    if rows.size != horizon * ACTION_DIM:
        raise MessageError(f"{name} has {rows.size} numbers, expected {horizon} x {ACTION_DIM}")
    return rows.reshape(horizon, ACTION_DIM)


def failure(message: msg.FailureEvent) -> Failure:
    """Failure of an event; an event without an onset began when it showed.

    Raises:
        MessageError: if its type is unknown.
    """
    stamp_ns = to_ns(message.header.stamp)
    return Failure(
        stamp_ns,
        to_ns(message.onset) or stamp_ns,
        failure_type(message.failure_type),
        message.task,
        message.phase,
        evidence(message.evidence),
        message.description,
    )


def failure_case(message: msg.FailureCase, origin: str) -> FailureCase:
    """Case of a message that is to be added; ``origin`` stands in for an empty one.

    Raises:
        MessageError: if a size or the type is wrong.
        CaseError: if the case makes no sense.
    """
    correction = None
    if len(message.correction):
        correction = chunk_rows(message.correction, message.horizon, "correction")
    return FailureCase(
        failure_type=failure_type(message.failure_type),
        task=message.task,
        phase=message.phase,
        encoder=message.encoder,
        encoder_revision=message.encoder_revision,
        embedding=np.array(message.embedding, dtype=np.float32),
        failed_actions=chunk_rows(message.failed_actions, message.horizon, "failed_actions"),
        correction=correction,
        # Who calls the service with a correction and does not say whose is a person at a console.
        correction_source=message.correction_source or ("" if correction is None else "human"),
        proprioception=np.array(message.proprioception, dtype=np.float32),
        misreading=np.array(message.misreading, dtype=np.float32) if len(message.misreading) else None,
        evidence=evidence(message.evidence),
        note=message.note,
        uses=int(message.uses),
        successes=int(message.successes),
        retired=message.retired,
        retired_reason=message.retired_reason,
        origin=message.origin or origin,
        created_ns=to_ns(message.created),
        calibration_id=message.calibration_id,
        credits=tuple(OriginCredit(item.origin, int(item.uses), int(item.successes)) for item in message.credits),
    )


def case_images(messages: Iterable[msg.CaseImage]) -> tuple[CaseImage, ...]:
    """Pictures of messages.

    Raises:
        CaseError: if one is no picture, or they are too many.
    """
    return checked_images(tuple(CaseImage(item.name, item.format, bytes(item.data)) for item in messages))


def case_message(case: FailureCase, *, embedding: bool = True, images: Sequence[CaseImage] = ()) -> msg.FailureCase:
    """Message of a case, without its embedding and pictures in listings."""
    message = msg.FailureCase(
        case_id=case.case_id,
        created=to_stamp(case.created_ns),
        failure_type=int(case.failure_type),
        task=case.task,
        phase=case.phase,
        encoder=case.encoder,
        encoder_revision=case.encoder_revision,
        proprioception=floats(case.proprioception),
        horizon=case.horizon,
        failed_actions=floats(case.failed_actions),
        correction_source=case.correction_source,
        misreading=[] if case.misreading is None else floats(case.misreading),
        evidence=evidence_messages(case.evidence),
        note=case.note,
        uses=case.uses,
        successes=case.successes,
        retired=case.retired,
        retired_reason=case.retired_reason,
        origin=case.origin,
        uid=case.uid,
        calibration_id=case.calibration_id,
        credits=[msg.CaseCredit(origin=item.origin, uses=item.uses, successes=item.successes) for item in case.credits],
        history=[
            msg.CaseRevision(stamp=to_stamp(item.stamp_ns), change=item.change, origin=item.origin, detail=item.detail)
            for item in case.history
        ],
        images=[msg.CaseImage(name=item.name, format=item.format, data=array.array("B", item.data)) for item in images],
    )
    if embedding:
        message.embedding = floats(case.embedding)
    if case.correction is not None:
        message.correction = floats(case.correction)
    return message


def retrieved_message(found: RetrievedCase) -> msg.RetrievedCase:
    """Message of a case that a search brought up."""
    summary = found.summary
    return msg.RetrievedCase(
        case_id=summary.case_id,
        similarity=float(found.similarity),
        failure_type=int(summary.group.failure_type),
        task=summary.group.task,
        phase=summary.group.phase,
        has_correction=summary.has_correction,
        uses=summary.uses,
        successes=summary.successes,
        credit=found.credit,
    )


def correction_message(
    correction: Correction,
    embedding: msg.Embedding,
    correction_id: int,
    found: Sequence[RetrievedCase],
    threshold: float,
    search_ms: float,
) -> msg.Correction:
    """Message of a correction that answers an embedding.

    Its cases are those used; when none was, those that came up, credible or not.
    """
    message = msg.Correction(
        correction_id=correction_id,
        correction=int(correction.mode),
        strength=float(correction.strength),
        guidance_until=float(correction.until),
        threshold=float(threshold),
        search_ms=float(search_ms),
        state_stamp=to_stamp(correction.state_stamp_ns),
    )
    message.header = embedding.header
    if correction.shift is not None:
        message.shift = floats(correction.shift)
    by_id: Mapping[int, RetrievedCase] = {item.case_id: item for item in found}
    shown = [by_id[case_id] for case_id in correction.case_ids if case_id in by_id] or found
    message.cases = [retrieved_message(item) for item in shown]
    if correction.actions is not None:
        message.horizon = int(correction.actions.shape[0])
        message.actions = floats(correction.actions)
    if correction.failed_actions is not None:
        message.horizon = int(correction.failed_actions.shape[1])
        message.failed_actions = floats(correction.failed_actions)
    return message


def statistics_message(statistics: MemoryStatistics, corrections: int, stamp_ns: int) -> msg.MemoryStatistics:
    """Message of the memory's statistics and the number of corrections that were no NONE."""
    stamp = statistics.stamp
    message = msg.MemoryStatistics(
        cases=statistics.cases,
        retired=statistics.retired,
        capacity=statistics.capacity,
        added=statistics.added,
        refused_duplicates=statistics.refused_duplicates,
        refused_invalid=statistics.refused_invalid,
        pruned=statistics.pruned,
        refused_guard=statistics.refused_guard,
        success_situations=statistics.success_situations,
        calibration_id=statistics.calibration_id,
        searches=statistics.searches,
        cache_hits=statistics.cache_hits,
        corrections=corrections,
        search_p50_ms=statistics.search_p50_ms,
        search_p99_ms=statistics.search_p99_ms,
        encoder="" if stamp is None else stamp.encoder,
        encoder_revision="" if stamp is None else stamp.revision,
        dimension=0 if stamp is None else stamp.dimension,
    )
    message.header.stamp = to_stamp(stamp_ns)
    return message
