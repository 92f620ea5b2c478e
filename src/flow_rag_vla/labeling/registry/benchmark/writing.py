"""Writers and readers as processes of their own, and registration one by one beside batches."""

from __future__ import annotations

import multiprocessing
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from flow_rag_vla.labeling.detections import Origin, ScoreKind
from flow_rag_vla.labeling.registry.errors import RegistryError
from flow_rag_vla.labeling.registry.queries import ObjectFilter, Order
from flow_rag_vla.labeling.registry.registry import Registry
from flow_rag_vla.labeling.registry.values import ImageDraft, ObjectDraft, SourceDraft, SourceKind

OBJECTS_A_BATCH = 20
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


def draft(image_id: str, number: int, mask: np.ndarray[Any, np.dtype[np.bool_]] | None = None) -> ObjectDraft:
    """A small object."""
    origin = Origin("generated", "1")
    return ObjectDraft(image_id, f"class_{number % 7}", (1, 1, 60, 40), 0.5, ScoreKind.SIGMOID, origin, mask=mask)


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
    )


def _write(folder: str, number: int, seconds: float, deferred: bool, barrier: Any, results: Any) -> None:
    done, errors = 0, []
    with Registry(folder) as registry:
        if deferred:
            registry.database.begin_writing = "BEGIN"
        image_id = None
        barrier.wait(OPENING_S)
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            try:
                if image_id is None:
                    image_id = image_of(registry, f"/crowd/{number}")
                registry.register([draft(image_id, n) for n in range(OBJECTS_A_BATCH)], who=f"writer {number}")
                done += 1
            except RegistryError as error:
                errors.append(str(error))
    results.put({"batches": done, "pages": 0, "errors": errors})


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
    results.put({"batches": 0, "pages": pages, "errors": errors})


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
