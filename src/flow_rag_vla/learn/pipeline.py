# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""From nothing to a checkpoint: demonstrations, encoder, policy, a second round on the policy's own errors, scores.

Each stage leaves its result in the work folder and is skipped when it is there, so an interrupted run goes on where
it stopped. A work folder belongs to one set of settings; another set is refused rather than mixed in.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file

from flow_rag_vla.core.files import replaced_file, write_text
from flow_rag_vla.core.goal import task_names
from flow_rag_vla.data.demonstrations import read_shard, shard_paths
from flow_rag_vla.learn.collect import CollectSettings, collect, collect_jobs
from flow_rag_vla.learn.few_demonstrations import SAMPLES
from flow_rag_vla.learn.progress import Progress
from flow_rag_vla.learn.samples import (
    ChunkSamples,
    Frames,
    chunk_samples,
    frames_of,
    joined_frames,
    joined_samples,
    read_samples,
    write_samples,
)
from flow_rag_vla.learn.train_encoder import EncoderTraining, readout_errors, train_encoder, train_readout
from flow_rag_vla.learn.train_policy import HORIZON, PolicyTraining, train_policy
from flow_rag_vla.policy.checkpoint import EncoderIdentity, PolicyConfig, load_checkpoint, save_checkpoint
from flow_rag_vla.policy.encoders import Encoder, make_encoder
from flow_rag_vla.policy.encoders.compact import CompactConfig, save_compact
from flow_rag_vla.policy.network import PolicyNetwork
from flow_rag_vla.policy.readout import Readout, ReadoutConfig

SECOND_ROUND_SEEDS = 20_000
"""First scene seed of the second round of demonstrations."""

POSED_SEEDS = 30_000
"""First scene seed of the posed scenes."""

HELD_OUT_SEEDS = 40_000
"""First scene seed of the demonstrations on which readouts are measured, never trained."""


READOUT_FILE = "readout.safetensors"


class PipelineError(RuntimeError):
    """A training run cannot go on; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class PipelineSettings:
    """Everything that decides the outcome of a run.

    episodes: demonstrations of each goal by task, first round; second_episodes: disturbed by the first policy
    posed_scenes: layouts of each goal by task that teach the encoder, each in ``posed_frames`` poses
    held_out_episodes: of each goal by task, for measuring readouts
    encoder_frames: at most so many frames of demonstrations train the encoder, beside the posed ones
    encoder: ``compact`` trains one; anything that ``make_encoder`` takes is used as it is
    """

    episodes: Mapping[str, int] = field(
        default_factory=lambda: {"pick_and_place": 110, "push": 150, "stack": 150, "open_drawer": 160}
    )
    second_episodes: Mapping[str, int] = field(
        default_factory=lambda: {"pick_and_place": 35, "push": 70, "stack": 70, "open_drawer": 70}
    )
    posed_scenes: Mapping[str, int] = field(
        default_factory=lambda: {"pick_and_place": 350, "push": 400, "stack": 450, "open_drawer": 450}
    )
    posed_frames: int = 6
    held_out_episodes: Mapping[str, int] = field(default_factory=lambda: dict.fromkeys(task_names(), 4))
    encoder_frames: int = 12_000
    encoder: str = "compact"
    encoder_training: EncoderTraining = field(default_factory=EncoderTraining)
    first_policy: PolicyTraining = field(default_factory=lambda: PolicyTraining(iterations=3000))
    policy: PolicyTraining = field(default_factory=PolicyTraining)
    collect: CollectSettings = field(default_factory=CollectSettings)
    seed: int = 0

    def plain(self) -> dict[str, Any]:
        """As JSON values."""
        values: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return values


def scaled(settings: PipelineSettings, factor: float) -> PipelineSettings:
    """The same run with ``factor`` times the demonstrations and iterations, at least one of each."""

    def times(value: int) -> int:
        return max(1, round(value * factor))

    return replace(
        settings,
        episodes={task: times(count) for task, count in settings.episodes.items()},
        second_episodes={task: times(count) for task, count in settings.second_episodes.items()},
        posed_scenes={task: times(count) for task, count in settings.posed_scenes.items()},
        held_out_episodes={task: times(count) for task, count in settings.held_out_episodes.items()},
        encoder_frames=times(settings.encoder_frames),
        encoder_training=replace(settings.encoder_training, iterations=times(settings.encoder_training.iterations)),
        first_policy=replace(settings.first_policy, iterations=times(settings.first_policy.iterations)),
        policy=replace(settings.policy, iterations=times(settings.policy.iterations)),
    )


@dataclass(frozen=True, slots=True)
class Stage:
    """One step of the pipeline, as the progress display names it."""

    key: str
    title: str


STAGES = (
    Stage("demonstrations", "Demonstrations"),
    Stage("encoder", "Encoder and readout"),
    Stage("first_policy", "First policy"),
    Stage("second_demonstrations", "Demonstrations on its errors"),
    Stage("policy", "Policy"),
)


@dataclass(frozen=True, slots=True)
class PipelineResult:
    """Where the outcome lies and what each stage cost (seconds; CPU: of this process and its workers)."""

    encoder_folder: Path | None
    policy_folder: Path
    report: Mapping[str, Any]


def run_pipeline(
    work: str | Path,
    output: str | Path,
    settings: PipelineSettings | None = None,
    *,
    workers: int = 2,
    progress: Callable[[Stage], Progress],
) -> PipelineResult:
    """Train encoder and policy.

    Args:
        work: folder of intermediate results.
        output: folder that gets ``compact/`` (if an encoder was trained) and ``policy/``.
        settings: what to make.
        workers: processes for demonstrations, threads for training.
        progress: gives the progress callback of a stage.

    Raises:
        PipelineError: when the work folder holds a run with other settings.
    """
    settings = settings or PipelineSettings()
    run = _Run(Path(work), Path(output), settings, workers)
    run.claim()
    torch.set_num_threads(workers)
    for stage in STAGES:
        run.perform(stage, progress(stage))
    return run.result()


class _Run:
    """The state of one pipeline run: its folders and the cost of each stage."""

    def __init__(self, work: Path, output: Path, settings: PipelineSettings, workers: int) -> None:
        self.work, self.output, self.settings, self.workers = work, output, settings, workers
        self.report_file = work / "report.json"
        self.report: dict[str, Any] = {}

    def claim(self) -> None:
        """Make the work folder, or check that it belongs to these settings."""
        self.work.mkdir(parents=True, exist_ok=True)
        path = self.work / "settings.json"
        wanted = json.dumps(self.settings.plain(), indent=2, sort_keys=True) + "\n"
        if path.is_file() and path.read_text(encoding="utf-8") != wanted:
            raise PipelineError(
                f"{self.work} holds a training run with other settings; give another work folder, or delete this one"
            )
        write_text(path, wanted)
        if self.report_file.is_file():
            self.report = json.loads(self.report_file.read_text(encoding="utf-8"))

    def perform(self, stage: Stage, progress: Progress) -> None:
        """Do one stage unless it is done."""
        if stage.key in self.report:
            progress(1, 1, "done before")
            return
        wall, cpu = time.monotonic(), _cpu_seconds()
        facts: dict[str, Any] = getattr(self, f"_{stage.key}")(progress)
        facts["wall_s"] = round(time.monotonic() - wall, 1)
        facts["cpu_s"] = round(_cpu_seconds() - cpu, 1)
        self.report[stage.key] = facts
        write_text(self.report_file, json.dumps(self.report, indent=2) + "\n")

    def result(self) -> PipelineResult:
        """What was made."""
        trained = self.settings.encoder == "compact"
        return PipelineResult(self.output / "compact" if trained else None, self.output / "policy", self.report)

    # -- stages ----------------------------------------------------------------------------------------------------

    def _demonstrations(self, progress: Progress) -> dict[str, Any]:
        settings = self.settings
        jobs = collect_jobs(settings.episodes, self.work / "first", seed=settings.seed, settings=settings.collect)
        if settings.encoder == "compact":
            jobs += collect_jobs(
                settings.posed_scenes,
                self.work / "posed",
                first_seed=POSED_SEEDS,
                seed=settings.seed,
                posed_frames=settings.posed_frames,
                episodes_per_job=50,
            )
        jobs += collect_jobs(
            settings.held_out_episodes,
            self.work / "held_out",
            first_seed=HELD_OUT_SEEDS,
            seed=settings.seed,
            settings=settings.collect,
        )
        collect(jobs, self.workers, progress=progress)
        return self._counts("first")

    def _encoder(self, progress: Progress) -> dict[str, Any]:
        settings = self.settings
        if settings.encoder == "compact":
            frames = self._some_frames(settings.encoder_frames)
            network, readout = train_encoder(frames, CompactConfig(), settings.encoder_training, progress=progress)
            save_compact(network, self.output / "compact")
        else:
            embeddings, frames = self._embedded_frames(self._encoder_in_use(), "first", progress)
            readout = train_readout(embeddings, frames, settings.encoder_training, progress=progress)
        with replaced_file(self.work / READOUT_FILE) as temporary:
            save_file(readout.state_dict(), temporary)
        embeddings, held_out = self._embedded_frames(self._encoder_in_use(), "held_out", None)
        with torch.inference_mode():
            readings = readout(torch.from_numpy(embeddings), torch.from_numpy(held_out.proprioception)).numpy()
        return {"held_out_errors": asdict(readout_errors(readings, held_out)), "held_out_frames": len(held_out)}

    def _first_policy(self, progress: Progress) -> dict[str, Any]:
        encoder = self._encoder_in_use()
        samples = self._samples(encoder, "first")
        network = train_policy(samples, self._readout(encoder), self.settings.first_policy, progress=progress)
        self._save(network, encoder, self.work / "first_policy")
        return {"samples": len(samples)}

    def _second_demonstrations(self, progress: Progress) -> dict[str, Any]:
        settings = self.settings
        jobs = collect_jobs(
            settings.second_episodes,
            self.work / "second",
            first_seed=SECOND_ROUND_SEEDS,
            seed=settings.seed,
            settings=settings.collect,
            checkpoint=str(self.work / "first_policy"),
            encoder=self._encoder_name(),
        )
        collect(jobs, self.workers, progress=progress)
        return self._counts("second") if jobs else {"episodes": {}, "frames": 0}

    def _policy(self, progress: Progress) -> dict[str, Any]:
        encoder = self._encoder_in_use()
        rounds = ["first", "second"] if any(self.settings.second_episodes.values()) else ["first"]
        samples = joined_samples([self._samples(encoder, name) for name in rounds])
        first, _, _ = load_checkpoint(self.work / "first_policy")
        network = train_policy(samples, first.readout, self.settings.policy, progress=progress)
        revision = self._save(network, encoder, self.output / "policy")
        write_samples(self.output / "policy" / SAMPLES, samples)
        return {
            "samples": len(samples),
            "revision": revision,
            "parameters": sum(value.numel() for value in network.parameters()),
        }

    # -- parts -----------------------------------------------------------------------------------------------------

    def _counts(self, name: str) -> dict[str, Any]:
        episodes: dict[str, int] = {}
        frames = 0
        for path in shard_paths(self.work / name):
            for item in read_shard(path):
                episodes[item.goal.instruction] = episodes.get(item.goal.instruction, 0) + 1
                frames += int(item.frame_ticks.shape[0])
        return {"episodes": episodes, "frames": frames}

    def _some_frames(self, limit: int) -> Frames:
        """The posed scenes, and at most ``limit`` frames of the first round, drawn evenly."""
        rng = np.random.default_rng([self.settings.seed, 1])
        share = min(1.0, limit / max(int(self.report["demonstrations"]["frames"]), 1))
        parts = [frames_of(item) for path in shard_paths(self.work / "posed") for item in read_shard(path)]
        for path in shard_paths(self.work / "first"):
            for item in read_shard(path):
                frames = frames_of(item)
                parts.append(frames.take(np.flatnonzero(rng.random(len(frames)) < share)))
        return joined_frames(parts)

    def _embedded_frames(
        self, encoder: Encoder, name: str, progress: Progress | None
    ) -> tuple[NDArray[np.float32], Frames]:
        """Embeddings of every frame of a round, and the frames without their pictures."""
        embeddings, parts = [], []
        paths = shard_paths(self.work / name)
        for done, path in enumerate(paths, 1):
            for item in read_shard(path):
                frames = frames_of(item)
                embeddings.append(_embed(encoder, frames))
                parts.append(frames.without_images())
            if progress is not None:
                progress(done, len(paths), "embedding")
        return np.concatenate(embeddings), joined_frames(parts)

    def _samples(self, encoder: Encoder, name: str) -> ChunkSamples:
        """The chunk samples of a round; embedded once, then kept in the work folder."""
        kept = self.work / f"samples_{name}_{encoder.revision}.npz"
        if kept.is_file():
            return read_samples(kept)
        parts = []
        for path in shard_paths(self.work / name):
            for item in read_shard(path):
                frames = frames_of(item)
                parts.append(chunk_samples(item, frames, _embed(encoder, frames), HORIZON))
        samples = joined_samples(parts)
        write_samples(kept, samples)
        return samples

    def _encoder_name(self) -> str:
        return str(self.output / "compact") if self.settings.encoder == "compact" else self.settings.encoder

    def _encoder_in_use(self) -> Encoder:
        return make_encoder(self._encoder_name())

    def _readout(self, encoder: Encoder) -> Readout:
        readout = Readout(ReadoutConfig(encoder.dimension))
        readout.load_state_dict(load_file(self.work / READOUT_FILE))
        return readout.eval().requires_grad_(False)

    def _save(self, network: PolicyNetwork, encoder: Encoder, folder: Path) -> str:
        config = PolicyConfig(
            encoder=EncoderIdentity(encoder.name, encoder.revision, encoder.dimension),
            velocity=network.velocity.config,
            readout=network.readout.config,
            training=self.settings.plain(),
        )
        return save_checkpoint(network, config, folder)


def _embed(encoder: Encoder, frames: Frames) -> NDArray[np.float32]:
    parts = [
        encoder.encode_batch({camera: frames.images[camera][first : first + 64] for camera in encoder.cameras})
        for first in range(0, len(frames), 64)
    ]
    return np.concatenate(parts)


def _cpu_seconds() -> float:
    """CPU seconds of this process and of its ended workers."""
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system
