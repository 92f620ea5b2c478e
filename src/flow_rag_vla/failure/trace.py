# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Episodes as a failure monitor sees them, in memory and on disk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from flow_rag_vla.core.action import ACTION_DIM, ActionChunk
from flow_rag_vla.core.files import replaced_file
from flow_rag_vla.core.goal import Goal
from flow_rag_vla.core.phase import Phase
from flow_rag_vla.failure.frame import Frame

FORMAT = 1

_PHASES = tuple(Phase)


class TraceError(RuntimeError):
    """A file of traces that cannot be used; the text names it and the remedy."""


@dataclass(frozen=True, slots=True)
class TraceInfo:
    """What is known of an episode beside its frames.

    cause: what was done to it on purpose, "" for nothing; onset: seconds until that began; amount: in ``unit``
    duration: seconds; timeout_at: seconds until a rule said that time has run out, the duration if none did
    first_truth: seconds until the first thing that really went wrong, where a simulator knows; None otherwise
    """

    task: str
    target: str
    seed: int
    variant: str
    success: bool
    duration: float
    timeout_at: float
    cause: str = ""
    onset: float = 0.0
    amount: float = 0.0
    unit: str = ""
    strikes: int = 0
    description: str = ""
    first_truth: float | None = None


@dataclass(frozen=True, slots=True)
class Trace:
    """One episode: its label and its frames in order."""

    info: TraceInfo
    frames: tuple[Frame, ...]


@dataclass(frozen=True, slots=True)
class Origin:
    """Who made the embeddings and the chunks of some traces."""

    encoder: str
    encoder_revision: str
    policy: str
    policy_revision: str


def save_traces(path: str | Path, origin: Origin, traces: Sequence[Trace]) -> None:
    """Write traces to one safetensors file; it is whole or absent."""
    frames = [frame for trace in traces for frame in trace.frames]
    if not frames:
        raise TraceError(f"{path}: {len(traces)} traces without a frame are nothing to save")
    horizon = max((frame.chunk.horizon for frame in frames if frame.chunk is not None), default=0)
    actions = np.full((len(frames), horizon, ACTION_DIM), np.nan, dtype=np.float32)
    spread = np.full((len(frames), horizon), np.nan, dtype=np.float32)
    numbers = np.zeros((len(frames), 9), dtype=np.float64)
    whole = np.zeros((len(frames), 4), dtype=np.int64)
    for row, frame in enumerate(frames):
        chunk = frame.chunk
        if chunk is not None:
            actions[row, : chunk.horizon] = chunk.actions
            if chunk.uncertainty is not None:
                spread[row, : chunk.horizon] = chunk.uncertainty
        numbers[row] = (
            frame.elapsed,
            frame.phase_elapsed,
            *frame.position,
            frame.yaw,
            frame.gripper_width,
            frame.strain,
            frame.evidence,
        )
        rows, committed = (0, 0) if chunk is None else (chunk.horizon, chunk.committed)
        whole[row] = (frame.stamp_ns, _PHASES.index(frame.phase), rows, committed)
    tensors: dict[str, NDArray[Any]] = {
        "embedding": np.stack([frame.embedding for frame in frames]),
        "actions": actions,
        "spread": spread,
        "numbers": numbers,
        "whole": whole,
        "opening": np.array([frame.opening for frame in frames], dtype=np.float32),
        "counts": np.array([len(trace.frames) for trace in traces], dtype=np.int64),
    }
    metadata = {
        "format": str(FORMAT),
        "origin": json.dumps(asdict(origin)),
        "episodes": json.dumps([asdict(trace.info) for trace in traces]),
    }
    with replaced_file(path) as temporary:
        save_file(tensors, temporary, metadata=metadata)


def load_traces(path: str | Path) -> tuple[Origin, list[Trace]]:
    """Read what ``save_traces`` wrote.

    Raises:
        TraceError: for a file that is missing, damaged or of another format.
    """
    try:
        with safe_open(path, framework="np") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        if metadata.get("format") != str(FORMAT):
            raise TraceError(f"{path} has format {metadata.get('format')}, expected {FORMAT}; collect it again")
        origin = Origin(**json.loads(metadata["origin"]))
        infos = [TraceInfo(**entry) for entry in json.loads(metadata["episodes"])]
        return origin, _traces(infos, tensors)
    except (SafetensorError, OSError, ValueError, KeyError, TypeError, IndexError) as error:
        raise TraceError(f"{path} is no usable file of traces ({error}); collect it again") from None


def _traces(infos: Sequence[TraceInfo], tensors: dict[str, NDArray[Any]]) -> list[Trace]:
    traces, row = [], 0
    for info, count in zip(infos, tensors["counts"].tolist(), strict=True):
        frames = tuple(_frame(info, tensors, at) for at in range(row, row + count))
        traces.append(Trace(info, frames))
        row += count
    return traces


def _frame(info: TraceInfo, tensors: dict[str, NDArray[Any]], row: int) -> Frame:
    stamp_ns, phase, horizon, committed = tensors["whole"][row].tolist()
    elapsed, phase_elapsed, x, y, z, yaw, width, strain, evidence = tensors["numbers"][row].tolist()
    chunk = None
    if horizon:
        spread = tensors["spread"][row, :horizon]
        chunk = ActionChunk(
            row,
            stamp_ns,
            tensors["actions"][row, :horizon],
            info.task,
            None if np.isnan(spread).any() else spread,
            committed,
        )
    return Frame(
        stamp_ns=stamp_ns,
        elapsed=elapsed,
        task=info.task,
        goal=Goal(info.task, info.target) if info.target else None,
        phase=_PHASES[phase],
        phase_elapsed=phase_elapsed,
        embedding=tensors["embedding"][row],
        position=np.array([x, y, z]),
        yaw=yaw,
        gripper_width=width,
        opening=float(tensors["opening"][row]),
        strain=strain,
        evidence=evidence,
        chunk=chunk,
    )
