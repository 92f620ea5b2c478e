# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The episodes on which failure detection is calibrated, trained, tuned and scored: which seeds, and where they lie."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from flow_rag_vla.failure.trace import Origin, Trace, TraceError, load_traces, save_traces
from flow_rag_vla.learn.progress import Progress, silent
from flow_rag_vla.learn.watched_rollouts import WatchedJob, fault_jobs, success_jobs, trace_origin, watch
from flow_rag_vla.policy.encoders import make_encoder
from flow_rag_vla.policy.policy import FlowPolicy


@dataclass(frozen=True, slots=True)
class Part:
    """Episodes of one purpose: undisturbed ones, or ones with a fault, from a seed on."""

    name: str
    faults: bool
    first_seed: int
    episodes: int

    def jobs(self, scale: float = 1.0) -> list[WatchedJob]:
        """What is to be run, at a share of the usual number."""
        count = max(8, round(self.episodes * scale))
        return fault_jobs(count, self.first_seed) if self.faults else success_jobs(count, self.first_seed)


CALIBRATION = Part("calibration", False, 40_000, 560)
TRAINING_FAULTS = Part("training_faults", True, 30_000, 300)
PARTS: tuple[Part, ...] = (
    CALIBRATION,
    TRAINING_FAULTS,
    Part("test", False, 110_000, 300),
    Part("test_faults", True, 120_000, 144),
)
"""Below seed 100,000 bands are calibrated, probes trained and choices made; from there on everything is only scored."""


def collect_part(
    part: Part,
    folder: str | Path | None,
    *,
    scale: float = 1.0,
    checkpoint: str | None = None,
    encoder: str = "compact",
    workers: int = 1,
    progress: Progress = silent,
) -> tuple[Origin, list[Trace]]:
    """The traces of a part, run now or read from ``folder``, where they are kept; None: they are not.

    Raises:
        TraceError: if the folder holds the traces of another policy or encoder.
    """
    jobs = part.jobs(scale)
    path = None if folder is None else Path(folder) / f"{part.name}_{len(jobs)}.safetensors"
    origin = trace_origin(FlowPolicy.load(checkpoint), make_encoder(encoder))
    if path is not None and path.is_file():
        known, traces = load_traces(path)
        if known != origin:
            raise TraceError(f"{path} holds episodes of {known}, not of {origin}; name another folder or remove it")
        progress(len(jobs), len(jobs), part.name)
        return origin, traces
    traces = run_jobs(jobs, checkpoint=checkpoint, encoder=encoder, workers=workers, progress=progress, note=part.name)
    if path is not None:
        save_traces(path, origin, traces)
    return origin, traces


def run_jobs(
    jobs: Sequence[WatchedJob],
    *,
    checkpoint: str | None = None,
    encoder: str = "compact",
    workers: int = 1,
    progress: Progress = silent,
    note: str = "episodes",
) -> list[Trace]:
    """Run jobs and say how far it is."""
    traces: list[Trace] = []
    for batch in watch(jobs, checkpoint=checkpoint, encoder=encoder, workers=workers):
        traces += batch
        progress(len(traces), len(jobs), note)
    return traces
