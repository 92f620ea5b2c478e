# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Decisions as bytes, in the widths of their messages: equal exactly if every bit that is sent is."""

from __future__ import annotations

import struct

import numpy as np

from flow_rag_vla.control.loop import Command
from flow_rag_vla.core.action import ActionChunk, Provenance
from flow_rag_vla.core.correction import Correction
from flow_rag_vla.evaluate.decisions.memory import is_shaping


def command_bytes(command: Command) -> bytes:
    """Everything a command says, in the widths of its message."""
    target = b""
    if command.target is not None:
        target = (
            command.target.position.astype("<f8").tobytes()
            + command.target.orientation.astype("<f8").tobytes()
            + struct.pack("<f", command.target.gripper_width)
        )
    head = struct.pack(
        "<QqBBHQIf", command.tick, command.stamp_ns, int(command.mode), int(command.reason), int(command.clamps),
        command.chunk_id, command.chunk_index, command.observation_age_ms,
    )  # fmt: skip
    text = command.reason_text.encode()
    return head + command.action.astype("<f4").tobytes() + target + text + _provenance_bytes(command.provenance)


def chunk_bytes(chunk: ActionChunk) -> bytes:
    """Everything a chunk says, in the widths of its message."""
    spread = b"" if chunk.uncertainty is None else chunk.uncertainty.astype("<f4").tobytes()
    head = struct.pack("<QqH", chunk.chunk_id, chunk.stamp_ns, chunk.committed)
    return (
        head + chunk.task.encode() + chunk.actions.astype("<f4").tobytes() + spread
        + _provenance_bytes(chunk.provenance)
    )  # fmt: skip


def correction_bytes(correction: Correction) -> bytes:
    """Everything a correction does, in the widths of its message; cases that were only seen are left out."""
    cases = correction.case_ids if is_shaping(correction.mode) else ()
    parts = [struct.pack("<qBf", correction.stamp_ns, int(correction.mode), correction.strength)]
    for values in (correction.actions, correction.failed_actions):
        parts.append(b"-" if values is None else np.asarray(values).astype("<f4").tobytes())
    if correction.shift is not None:
        parts.append(np.asarray(correction.shift).astype("<f4").tobytes())
    parts.append(struct.pack(f"<{len(cases)}Q", *cases))
    return b"".join(parts)


def _provenance_bytes(provenance: Provenance) -> bytes:
    return (
        struct.pack(
            "<qQBf",
            provenance.observation_stamp_ns,
            provenance.noise_seed,
            int(provenance.correction),
            provenance.correction_strength,
        )
        + f"{provenance.policy}:{provenance.policy_revision}".encode()
        + struct.pack(f"<{len(provenance.case_ids)}Q", *provenance.case_ids)
    )
