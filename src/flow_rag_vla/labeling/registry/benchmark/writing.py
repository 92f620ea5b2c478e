# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Writers and readers as processes of their own, and registration one by one beside batches."""

from __future__ import annotations

import itertools
import multiprocessing
import random
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import sqlalchemy as sa

from flow_rag_vla.labeling.detections import Origin, ScoreKind
from flow_rag_vla.labeling.registry import tables as t
from flow_rag_vla.labeling.registry.doctor import Finding, examine
from flow_rag_vla.labeling.registry.errors import RegistryError
from flow_rag_vla.labeling.registry.queries import ObjectFilter, Order
from flow_rag_vla.labeling.registry.registry import Registry
from flow_rag_vla.labeling.registry.values import (
    ChangeKind,
    Embedder,
    ImageDraft,
    Mask,
    ObjectDraft,
    SourceDraft,
    SourceKind,
    Vector,
)

OBJECTS_A_BATCH = 20
CROWD_EMBEDDER = Embedder("generated", "small", 32)
OPENING_S = 120.0
"""How long processes may take to start on a machine with few cores."""


@dataclass(frozen=True, slots=True)
class Crowd:
    """What became of writers and readers that all went at once."""

    writers: int
    readers: int
    seconds: float
    batches: int
    acknowledged: int
    """Objects whose registration returned."""
    stored: int
    pages: int
    errors: int
    first_error: str
    lost: int = 0
    """Objects whose registration returned, but that are not there as they were sent."""
    torn: int = 0
    """Objects, vectors and histories that are there without the rest of their batch."""
    damage: int = 0
    """What the doctor finds afterwards."""
    slowest_s: float = 0.0
    """The longest that one registration took."""


@dataclass(frozen=True, slots=True)
class Killed:
    """What is left of writers that were killed with SIGKILL in the middle of their batches."""

    kills: int
    batches: int
    """Batches whose registration returned before the kill."""
    lost: int
    """Objects of these that are not there as they were sent."""
    torn: int
    """What is there of a batch without its rest: rows, or batches where each object had a call of its own."""
    damage: int
    """What the doctor finds afterwards; a mask whose batch never came is none, it removes that."""


def draft(image_id: str, number: int, mask: Mask | None = None, vector: Vector | None = None) -> ObjectDraft:
    """A small object."""
    return ObjectDraft(
        image_id,
        f"class_{number % 7}",
        (1, 1, 60, 40),
        0.5,
        ScoreKind.SIGMOID,
        Origin("generated", "1"),
        mask=mask,
        embedding=vector,
        embedder=None if vector is None else CROWD_EMBEDDER,
    )


def image_of(registry: Registry, path: str) -> str:
    """An image of 640 x 480 to put objects on."""
    source = registry.add_source(SourceDraft(SourceKind.IMAGE, path))
    return registry.add_images(source.source_id, [ImageDraft("image.png", 640, 480)])[0].image_id


def crowd(folder: Path, writers: int, readers: int, seconds: float, *, deferred: bool = False) -> Crowd:
    """Let processes write and read at once; ``deferred``: as it would be without BEGIN IMMEDIATE."""
    with Registry(folder) as registry:
        before = registry.count()
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["flow_rag_vla.labeling.registry.registry"])
    results = context.Queue()
    barrier = context.Barrier(writers + readers)
    tasks = [(_write, number) for number in range(writers)] + [(_read, number) for number in range(readers)]
    processes = [
        context.Process(target=task, args=(str(folder), number, seconds, deferred, barrier, results), daemon=True)
        for task, number in tasks
    ]
    for process in processes:
        process.start()
    try:
        answers = [results.get(timeout=OPENING_S + 4 * seconds) for _ in processes]
    finally:
        for process in processes:
            process.join(timeout=10)
            if process.is_alive():
                process.kill()
                process.join()
    with Registry(folder) as registry:
        stored = registry.count() - before
        told = {answer["writer"]: answer["batches"] for answer in answers if answer["writer"] is not None}
        lost, torn = missing(registry, told)
        damage = len(examine(registry, grace_s=0.0))
    errors = [text for answer in answers for text in answer["errors"]]
    total = {name: sum(answer[name] for answer in answers) for name in ("batches", "pages")}
    return Crowd(
        writers,
        readers,
        seconds,
        total["batches"],
        total["batches"] * OBJECTS_A_BATCH,
        stored,
        total["pages"],
        len(errors),
        errors[0] if errors else "",
        lost,
        torn,
        damage,
        max(answer["slowest_s"] for answer in answers),
    )


def killed(folder: Path, kills: int, *, singly: bool = False) -> Killed:
    """Kill one writer after the other, each somewhere in a batch; the next one goes on in the same registry.

    Args:
        folder: of the registry.
        kills: how many.
        singly: each object in a call of its own, as it would be without batches.

    Raises:
        RuntimeError: a writer ended by itself.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["flow_rag_vla.labeling.registry.registry"])
    generator = random.Random(kills)
    told: dict[int, int] = {}
    for number in range(kills):
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_write_on, args=(str(folder), number, singly, theirs), daemon=True)
        process.start()
        theirs.close()
        try:
            told[number] = int(ours.recv()) + 1 if ours.poll(OPENING_S) else 0
        except EOFError:
            told[number] = 0
        if not told[number]:
            process.kill()
            raise RuntimeError(f"writer {number} ended, or stored nothing within {OPENING_S:g} s: nothing is measured")
        # A batch takes some milliseconds: wherever in one the kill comes is left to chance.
        time.sleep(generator.uniform(0.0, 0.05))
        process.kill()
        process.join()
        try:
            while True:
                told[number] = int(ours.recv()) + 1
        except (EOFError, OSError):
            ours.close()
    with Registry(folder) as registry:
        lost, torn = _left(registry, told) if singly else missing(registry, told)
        findings = [found for found in examine(registry, grace_s=0.0) if found.finding is not Finding.ORPHAN_MASKS]
    return Killed(kills, sum(told.values()), lost, torn, len(findings))


def _left(registry: Registry, told: dict[int, int]) -> tuple[int, int]:
    """Objects lost, and batches of which a part is there, where each object had a call and a key of its own."""
    with registry.database.read() as connection:
        keys = [key.rsplit("/", 1)[0] for key in connection.execute(sa.select(t.batches.c.batch_key)).scalars()]
    there = Counter(keys)
    owed = [f"{number}/{batch}" for number, done in told.items() for batch in range(done)]
    return sum(OBJECTS_A_BATCH - there[key] for key in owed), sum(count < OBJECTS_A_BATCH for count in there.values())


def missing(registry: Registry, told: dict[int, int]) -> tuple[int, int]:
    """Objects lost and torn; ``told``: of how many batches each writer knows that they are stored."""
    with registry.database.read() as connection:
        columns = t.batches.c.batch_key, t.batches.c.first_row, t.batches.c.count
        stored: dict[str, tuple[int, int]] = {
            key: (first, count) for key, first, count in connection.execute(sa.select(*columns))
        }
        masked = set(connection.execute(sa.select(t.objects.c.row_id).where(t.objects.c.mask_path != "")).scalars())
        created = t.history.c.kind == ChangeKind.CREATED.value
        counted = (
            sa.select(sa.func.count()).select_from(t.objects),
            sa.select(sa.func.count()).select_from(t.vectors),
            sa.select(sa.func.count()).select_from(t.history).where(created),
        )
        rows = [int(connection.execute(statement).scalar() or 0) for statement in counted]
    whole = sum(count for _, count in stored.values())
    torn = sum(abs(count - whole) for count in rows) + abs(len(masked) - len(stored))
    # Each batch carries a mask on its first object.
    kept = {key for key, (first, count) in stored.items() if count == OBJECTS_A_BATCH and first in masked}
    owed = {f"{number}/{batch}" for number, done in told.items() for batch in range(done)}
    return OBJECTS_A_BATCH * len(owed - kept), torn


def _write(folder: str, number: int, seconds: float, deferred: bool, barrier: Any, results: Any) -> None:
    done, errors, slowest = 0, [], 0.0
    mask = np.zeros((480, 640), np.bool_)
    mask[1:40, 1:60] = True
    vector = np.zeros(CROWD_EMBEDDER.dimension, np.float32)
    vector[number % len(vector)] = 1.0
    with Registry(folder) as registry:
        if deferred:
            registry.database.begin_writing = "BEGIN"
        image_id = None
        barrier.wait(OPENING_S)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            start = time.monotonic()
            try:
                if image_id is None:
                    image_id = image_of(registry, f"/crowd/{number}")
                drafts = [draft(image_id, n, None if n else mask, vector) for n in range(OBJECTS_A_BATCH)]
                # A batch that was refused is sent again under its key.
                registry.register(drafts, who=f"writer {number}", key=f"{number}/{done}")
                done += 1
            except RegistryError as error:
                errors.append(str(error))
            slowest = max(slowest, time.monotonic() - start)
    results.put({"writer": number, "batches": done, "pages": 0, "errors": errors, "slowest_s": slowest})


def _write_on(folder: str, number: int, singly: bool, told: Any) -> None:
    """Register batches until the end, and tell the number of each that returned."""
    mask = np.zeros((480, 640), np.bool_)
    mask[1:40, 1:60] = True
    vector = np.zeros(CROWD_EMBEDDER.dimension, np.float32)
    vector[number % len(vector)] = 1.0
    with Registry(folder) as registry:
        image_id = image_of(registry, f"/killed/{number}")
        drafts = [draft(image_id, n, None if n else mask, vector) for n in range(OBJECTS_A_BATCH)]
        for done in itertools.count():
            if singly:
                for n, one in enumerate(drafts):
                    registry.register([one], who=f"writer {number}", key=f"{number}/{done}/{n}")
            else:
                registry.register(drafts, who=f"writer {number}", key=f"{number}/{done}")
            told.send(done)


def _read(folder: str, number: int, seconds: float, deferred: bool, barrier: Any, results: Any) -> None:
    pages, errors = 0, []
    with Registry(folder) as registry:
        barrier.wait(OPENING_S)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                page = registry.list_objects(order=Order.NEWEST if number % 2 else Order.LOWEST_SCORE, limit=20)
                registry.list_objects(ObjectFilter(min_score=0.2), cursor="", limit=5)
                if page.objects:
                    registry.history(page.objects[-1].object_id)
                pages += 1
            except RegistryError as error:
                errors.append(str(error))
    results.put({"writer": None, "batches": 0, "pages": pages, "errors": errors, "slowest_s": 0.0})


@dataclass(frozen=True, slots=True)
class Singles:
    """Objects a second: one a call, and batches with a mask each."""

    one_by_one: float
    with_masks: float


def singles(folder: Path, count: int) -> Singles:
    """Register a few objects one by one, then as many in a batch with masks."""
    mask = np.zeros((480, 640), np.bool_)
    mask[1:40, 1:60] = np.hypot(*np.mgrid[-19:20, -29:30]) < 25
    with Registry(folder) as registry:
        image_id = image_of(registry, "/singles")
        start = time.perf_counter()
        for number in range(count):
            registry.register([draft(image_id, number)], who="benchmark")
        alone = time.perf_counter() - start
        start = time.perf_counter()
        registry.register([draft(image_id, number, mask) for number in range(count)], who="benchmark")
        masked = time.perf_counter() - start
    return Singles(count / alone, count / masked)
