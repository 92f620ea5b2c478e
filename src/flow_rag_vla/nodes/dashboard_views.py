# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Messages as the live page's values. What makes no sense raises MessageError."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from diagnostic_msgs.msg import DiagnosticStatus
from sensor_msgs.msg import CameraInfo

from flow_rag_vla.control.ladder import Mode
from flow_rag_vla.core.action import CorrectionMode
from flow_rag_vla.core.failure import FailureType
from flow_rag_vla.data.message_values import MessageError, evidence
from flow_rag_vla.gateway.live.board import CommandSeen
from flow_rag_vla.gateway.live.geometry import StillCamera, looking_at
from flow_rag_vla.gateway.live.timeline import FailureSeen
from flow_rag_vla.nodes.stamps import to_ns
from flow_rag_vla_interfaces import msg

STATES = {
    msg.EpisodeStatus.STATE_IDLE: "idle",
    msg.EpisodeStatus.STATE_RESETTING: "resetting",
    msg.EpisodeStatus.STATE_RUNNING: "running",
    msg.EpisodeStatus.STATE_SUCCEEDED: "succeeded",
    msg.EpisodeStatus.STATE_FAILED: "failed",
    msg.EpisodeStatus.STATE_CANCELED: "canceled",
}


def command_seen(message: msg.ControlCommand) -> CommandSeen:
    """A command."""
    position, made = message.target.position, message.provenance
    target = position.x, position.y, position.z
    orientation = message.target.orientation
    # A quaternion of length 0: the controller knows no pose yet.
    known = any((orientation.x, orientation.y, orientation.z, orientation.w))
    return CommandSeen(
        to_ns(message.header.stamp),
        int(message.tick),
        tuple(float(value) for value in message.action),
        target if known else None,
        _name(Mode, message.mode),
        message.reason_text,
        int(message.clamps),
        int(message.chunk_id),
        int(message.chunk_index),
        float(message.observation_age_ms),
        _correction(made.correction),
        float(made.correction_strength),
        tuple(int(case_id) for case_id in made.case_ids),
        to_ns(made.observation_stamp),
    )


def failure_seen(message: msg.FailureEvent) -> FailureSeen:
    """A failure event."""
    return FailureSeen(
        to_ns(message.header.stamp),
        int(message.episode_id),
        _name(FailureType, message.failure_type),
        message.task,
        message.phase,
        message.detector,
        message.description,
        float(message.confidence),
        evidence(message.evidence),
    )


def episode_view(message: msg.EpisodeStatus) -> dict[str, Any]:
    """Where the episode stands."""
    return {
        "id": int(message.episode_id),
        "state": STATES.get(message.state, str(message.state)),
        "task": message.task,
        "variant": message.variant,
        "instruction": message.instruction,
        "seed": int(message.seed),
        "phase": message.phase,
        "elapsed": float(message.elapsed),
        "timeout": float(message.timeout),
        "failures": int(message.failures),
        "finished": int(message.episodes_finished),
        "succeeded": int(message.episodes_succeeded),
        "outcome": message.outcome,
        "intervened": message.intervened,
    }


def plan_view(message: msg.PlanReview, ends_ms: float) -> dict[str, Any]:
    """A plan that waits for a person until then, Unix epoch."""
    paces = [float(message.speed_scale), *(float(step.speed_scale) for step in message.plan.steps)]
    return {
        "id": message.deliberation_id,
        "instruction": message.instruction,
        "questions": list(message.questions),
        "steps": [step.instruction for step in message.plan.steps],
        "speed": min(paces),
        "ends": ends_ms,
    }


def loop_view(message: msg.LoopStatistics) -> dict[str, Any]:
    """How the loop does."""
    names = (
        "rate_hz", "tick_error_p50_ms", "tick_error_p99_ms", "tick_error_max_ms", "cpu_mean_ms", "cpu_max_ms", "window",
        "ticks", "late_ticks", "skipped_ticks", "starved_ticks", "chunks_accepted", "chunks_rejected",
        "corrections_applied", "corrections_timed_out",
    )  # fmt: skip
    view: dict[str, Any] = {name: getattr(message, name) for name in names}
    view["mode"] = _name(Mode, message.mode)
    view["stages"] = [
        {"stage": item.stage, "count": item.count, "p50_ms": item.p50_ms, "p99_ms": item.p99_ms, "max_ms": item.max_ms}
        for item in message.stages
    ]
    return view


def memory_view(message: msg.MemoryStatistics) -> dict[str, Any]:
    """How the memory does."""
    names = (
        "cases", "retired", "capacity", "added", "refused_duplicates", "refused_invalid", "refused_guard", "pruned",
        "searches", "cache_hits", "corrections", "search_p50_ms", "search_p99_ms", "encoder", "success_situations",
    )  # fmt: skip
    return {name: getattr(message, name) for name in names}


def node_view(status: DiagnosticStatus, heard_s: float) -> dict[str, Any]:
    """One node's health; ``heard_s`` is when it came, on a steady clock."""
    return {
        "level": status.level[0] if status.level else 0,
        "message": status.message,
        "hardware": status.hardware_id,
        "heard": heard_s,
        "figures": {item.key: item.value for item in status.values},
    }


def case_view(case: msg.FailureCase, *, whole: bool = False) -> dict[str, Any]:
    """A case for the page; ``whole`` adds what listings leave out."""
    view: dict[str, Any] = {
        "id": int(case.case_id),
        "created": to_ns(case.created) / 1e6,
        "type": _name(FailureType, case.failure_type),
        "task": case.task,
        "phase": case.phase,
        "correction_source": case.correction_source,
        "has_correction": len(case.correction) > 0,
        "note": case.note,
        "uses": int(case.uses),
        "successes": int(case.successes),
        "retired": case.retired,
        "retired_reason": case.retired_reason,
        "origin": case.origin,
    }
    if not whole:
        return view
    rows = case.horizon
    view |= {
        "encoder": f"{case.encoder} {case.encoder_revision}".strip(),
        "uid": case.uid,
        "evidence": [
            {"name": item.name, "value": item.value, "threshold": item.threshold, "unit": item.unit}
            for item in case.evidence
        ],
        "failed_actions": _rows(case.failed_actions, rows),
        "correction": _rows(case.correction, rows),
        "credits": [
            {"origin": item.origin, "uses": int(item.uses), "successes": int(item.successes)} for item in case.credits
        ],
        "history": [
            {"t": to_ns(item.stamp) / 1e6, "change": item.change, "origin": item.origin, "detail": item.detail}
            for item in case.history
        ],
        "images": [
            {
                "name": item.name,
                "url": f"data:image/{'png' if item.format == 'png' else 'jpeg'};base64,"
                + base64.b64encode(bytes(item.data)).decode("ascii"),
            }
            for item in case.images
        ],
    }
    return view


def still_camera(info: CameraInfo, pose: tuple[float, ...]) -> StillCamera:
    """A camera of its published intrinsics and where it stands: eye and point looked at, x y z each.

    Raises:
        MessageError: if the intrinsics are none.
    """
    matrix = np.array(info.k, dtype=float).reshape(3, 3)
    if info.width == 0 or info.height == 0 or not np.isfinite(matrix).all() or matrix[0, 0] <= 0.0:
        raise MessageError(f"camera_info of {info.header.frame_id!r} holds no intrinsics; calibrate the camera")
    eye, look_at = np.array(pose[:3]), np.array(pose[3:])
    return StillCamera(matrix, eye, looking_at(eye, look_at), int(info.width), int(info.height))


def _rows(values: Any, rows: int) -> list[list[float]]:
    numbers = np.array(values, dtype=np.float32)
    if not numbers.size or not rows or numbers.size % rows:
        return []
    table: list[list[float]] = numbers.reshape(rows, -1).tolist()
    return table


def _correction(value: int) -> CorrectionMode:
    try:
        return CorrectionMode(value)
    except ValueError:
        return CorrectionMode.NONE


def _name(kind: type[Mode] | type[FailureType], value: int) -> str:
    try:
        return kind(value).name.lower()
    except ValueError:
        return str(value)
