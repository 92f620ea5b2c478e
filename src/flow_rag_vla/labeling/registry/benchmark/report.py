# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The benchmark's run from end to end, and its figures in words."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from flow_rag_vla.labeling.registry.benchmark.objects import BATCH, SMALL_BATCH, fill
from flow_rag_vla.labeling.registry.benchmark.reading import Attributes, Similarity, attributes, similarity
from flow_rag_vla.labeling.registry.benchmark.writing import Crowd, Killed, Singles, crowd, killed, singles
from flow_rag_vla.labeling.registry.registry import Registry

SEED = 7
KILLS = 10
LATE_OBJECTS = 10_000
"""Registered in small batches once the registry holds all others."""
TARGETS = {"similarity_p95_ms": 50.0, "recall": 0.95, "attribute_p95_ms": 20.0, "objects_a_second": 5_000.0}
"""What the registry is held to, at a million objects."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Everything that was measured.

    objects_a_second, objects_a_cpu_second: in batches of ``BATCH``; small_batches: in batches of ``SMALL_BATCH``, into
    the registry that holds all of them; build_s: seconds to load the vectors, build the index and save it
    """

    objects: int
    objects_a_second: float
    objects_a_cpu_second: float
    small_batches: float
    singles: Singles
    build_s: float
    similarity: list[Similarity]
    attributes: list[Attributes]
    crowd: Crowd
    deferred: Crowd
    killed: Killed
    killed_singly: Killed

    def as_json(self) -> dict[str, object]:
        """Plain values."""
        return {**asdict(self), "targets": TARGETS}


def measure(
    objects: int,
    queries: int,
    writers: int,
    readers: int,
    seconds: float,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
    index: str = "faiss",
) -> Figures:
    """Fill a registry in a temporary folder, and measure it.

    Args:
        objects: how many.
        queries: similarity searches a class.
        writers: processes that write at once.
        readers: processes that read at once.
        seconds: for how long.
        progress: told what goes on, how much is done, of how much.
        index: kind of the index.
    """
    with tempfile.TemporaryDirectory(prefix="registry-benchmark-") as name:
        folder = Path(name)
        progress("writers and readers", 0, 4)
        together = crowd(folder / "crowd", writers, readers, seconds)
        progress("the same with deferred transactions", 1, 4)
        deferred = crowd(folder / "deferred", writers, readers, seconds, deferred=True)
        progress("writers that are killed", 2, 4)
        ended = killed(folder / "killed", KILLS), killed(folder / "killed_singly", KILLS, singly=True)
        progress("one by one", 3, 4)
        alone = singles(folder / "singles", 200)
        with Registry(folder / "registry", index=index) as registry:
            done = 0

            def tick(count: int = 1) -> None:
                nonlocal done
                done += count
                progress(what, done, total)

            what, total = "registration", objects
            registering = fill(registry, objects, SEED, tick)
            start = time.perf_counter()
            progress("index", 0, 1)
            registry.build_index()
            build_s = time.perf_counter() - start
            what, done, total = "similarity", 0, queries * 14
            found = similarity(registry, queries, SEED, tick)
            what, done, total = "attributes", 0, 8
            pages = attributes(registry, 40, tick)
            few = min(objects, LATE_OBJECTS)
            what, done, total = "registration in small batches", 0, few
            late, _ = fill(registry, few, SEED + 2, tick, batch_size=SMALL_BATCH, name="late/")
    wall, processor = registering
    return Figures(
        objects,
        objects / wall,
        objects / processor,
        few / late,
        alone,
        build_s,
        found,
        pages,
        together,
        deferred,
        *ended,
    )


def soak(
    writers: int,
    readers: int,
    seconds: float,
    progress: Callable[[str, int, int], None] = lambda what, done, total: None,
) -> tuple[Crowd, Crowd]:
    """Writers and readers at once in a temporary folder, and a tenth as long as it would be without BEGIN IMMEDIATE.

    Args:
        writers: processes that write.
        readers: processes that read.
        seconds: for how long.
        progress: told what goes on, how much is done, of how much.
    """
    with tempfile.TemporaryDirectory(prefix="registry-benchmark-") as name:
        progress(f"writers and readers for {seconds:g} s", 0, 2)
        together = crowd(Path(name, "crowd"), writers, readers, seconds)
        progress("the same with deferred transactions", 1, 2)
        deferred = crowd(Path(name, "deferred"), writers, readers, max(2.0, seconds / 10), deferred=True)
        progress("", 2, 2)
    return together, deferred


def in_words(figures: Figures) -> list[str]:
    """The figures as lines, each with its baseline."""
    worst = min(figures.similarity, key=lambda item: item.recall)
    rarest = min(figures.similarity, key=lambda item: item.matching)
    alone, many = figures.singles, figures.objects_a_second
    lines = [
        f"registration of {figures.objects} objects with vectors, in batches of {BATCH}: {many:.0f}/s "
        f"({figures.objects_a_cpu_second:.0f} a second of the processor), {many / alone.one_by_one:.0f} times one by "
        f"one ({alone.one_by_one:.0f}/s); then in batches of {SMALL_BATCH}: {figures.small_batches:.0f}/s; each with a "
        f"mask, in a batch of 200: {alone.with_masks:.0f}/s",
        f"index built and saved in {figures.build_s:.1f} s",
        "similarity, 10 nearest (p95 beside a scan of all vectors; recall beside a filter put on after the search):",
    ]
    for item in figures.similarity:
        times = f"p95 {item.latency.p95:7.2f} ms, {item.latency.cpu_p95:6.2f} of the processor"
        beside = f"(scan {item.scan.p95:7.2f} ms, ratio {item.latency.p95 / item.scan.p95:.2f})"
        lines.append(
            f"  {item.name or 'no filter':<10} {item.matching:>8} pass, {item.way:<14} {times} {beside}, "
            f"recall {item.recall:.3f} (put on after: {item.late:.3f})"
        )
    lines.append(
        f"  lowest recall {worst.recall:.3f} ({worst.name or 'no filter'}); rarest class: {rarest.recall:.3f}, "
        f"{rarest.matching} objects; worst p95 {max(item.latency.p95 for item in figures.similarity):.2f} ms"
    )
    lines.append("attributes, pages of 50 (p95 beside a scan of the table without its indexes):")
    for page in figures.attributes:
        lines.append(
            f"  {page.name:<38} p95 {page.latency.p95:7.2f} ms, {page.latency.cpu_p95:6.2f} of the processor "
            f"(scan {page.scan.p95:7.2f} ms, "
            f"ratio {page.latency.p95 / page.scan.p95:.2f})"
        )
    return [
        *lines,
        *crowd_in_words(figures.crowd, figures.deferred),
        *killed_in_words(figures.killed, figures.killed_singly),
    ]


def crowd_in_words(together: Crowd, deferred: Crowd) -> list[str]:
    """Writers and readers, and what they would have met without BEGIN IMMEDIATE."""
    return [
        f"{group.writers} writers and {group.readers} readers for {group.seconds:g} s, {name}: "
        f"{group.acknowledged} objects acknowledged, {group.stored} stored, {group.lost} lost, {group.torn} torn, "
        f"{group.damage} findings of the doctor, {group.pages} rounds of reading, longest registration "
        f"{group.slowest_s:.2f} s, {group.errors} errors"
        + (f" ({group.first_error[:90]})" if group.first_error else "")
        for name, group in (("BEGIN IMMEDIATE", together), ("deferred, the baseline", deferred))
    ]


def killed_in_words(together: Killed, singly: Killed) -> list[str]:
    """What kills leave of batches, and of the same objects one by one."""
    return [
        f"{group.kills} writers killed (SIGKILL) in the middle of {name}: {group.batches} acknowledged, {group.lost} "
        f"objects of them lost, {group.torn} left in part, {group.damage} findings of the doctor"
        for name, group in (("batches", together), ("the same one by one, the baseline", singly))
    ]


def missed(figures: Figures) -> list[str]:
    """The targets that were not reached."""
    found = []
    slowest = max(item.latency.p95 for item in figures.similarity)
    if slowest >= TARGETS["similarity_p95_ms"]:
        found.append(f"similarity search: p95 {slowest:.1f} ms, target {TARGETS['similarity_p95_ms']:g}")
    recall = float(np.min([item.recall for item in figures.similarity]))
    if recall < TARGETS["recall"]:
        found.append(f"recall: {recall:.3f}, target {TARGETS['recall']:g}")
    page = max(item.latency.p95 for item in figures.attributes)
    if page >= TARGETS["attribute_p95_ms"]:
        found.append(f"attribute search: p95 {page:.1f} ms, target {TARGETS['attribute_p95_ms']:g}")
    if figures.objects_a_second < TARGETS["objects_a_second"]:
        found.append(f"registration: {figures.objects_a_second:.0f}/s, target {TARGETS['objects_a_second']:g}")
    left = figures.killed
    if left.lost or left.torn or left.damage:
        found.append(f"kills: {left.lost} objects lost, {left.torn} batches in part, {left.damage} findings")
    return [*found, *missed_by_crowd(figures.crowd)]


def missed_by_crowd(group: Crowd) -> list[str]:
    """What writers and readers together may not do."""
    odd = group.acknowledged != group.stored
    if group.errors or group.lost or group.torn or group.damage or odd:
        return [
            f"writers and readers: {group.errors} errors, {group.lost} objects lost, {group.torn} torn, "
            f"{group.damage} findings, {group.acknowledged} acknowledged, {group.stored} stored"
        ]
    return []
