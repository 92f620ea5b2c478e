# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Similarity and attribute search: latency and recall by class, beside a full scan and beside a filter put on last."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import sqlalchemy as sa

from flow_rag_vla.labeling.registry import tables as t
from flow_rag_vla.labeling.registry.benchmark.objects import EMBEDDER, SHARES, World, category
from flow_rag_vla.labeling.registry.index.matrix import Vectors, most_similar
from flow_rag_vla.labeling.registry.index.searcher import LEAST_CANDIDATES
from flow_rag_vla.labeling.registry.queries import ObjectFilter, Order
from flow_rag_vla.labeling.registry.registry import Registry
from flow_rag_vla.labeling.registry.values import ReviewState

K = 10


@dataclass(frozen=True, slots=True)
class Latency:
    """Milliseconds; ``cpu_p95`` of processor time, which other programs do not lengthen."""

    p50: float
    p95: float
    cpu_p95: float

    @classmethod
    def of(cls, watch: Watch) -> Latency:
        """Of measured times."""
        p50, p95 = np.percentile(watch.wall, [50, 95])
        return cls(float(p50) * 1e3, float(p95) * 1e3, float(np.percentile(watch.processor, 95)) * 1e3)


class Watch:
    """Collects how long something takes, by the clock and of the processor."""

    def __init__(self) -> None:
        """Begin with nothing."""
        self.wall: list[float] = []
        self.processor: list[float] = []

    def __enter__(self) -> None:
        self._start = time.perf_counter(), time.process_time()

    def __exit__(self, *_: object) -> None:
        self.wall.append(time.perf_counter() - self._start[0])
        self.processor.append(time.process_time() - self._start[1])


@dataclass(frozen=True, slots=True)
class Similarity:
    """Searches with one filter. recall: mean share of the true nearest 10; late: of the filter put on after the search.

    name: class, or "" for no filter; matching: objects that pass; way: how it was answered
    scan: the same over every vector of the registry
    """

    name: str
    matching: int
    way: str
    latency: Latency
    recall: float
    scan: Latency
    late: float


def similarity(registry: Registry, queries: int, seed: int, tick: Callable[[], None]) -> list[Similarity]:
    """Search without a filter, and within each class, with queries from anywhere."""
    vectors, _ = World.drawn(np.random.default_rng(seed)).vectors(np.random.default_rng(seed + 1), queries)
    return [_one(registry, name, vectors, tick) for name in ("", *(category(n) for n in range(len(SHARES))))]


def _one(registry: Registry, name: str, queries: Vectors, tick: Callable[[], None]) -> Similarity:
    where = ObjectFilter(categories=(name,)) if name else ObjectFilter()
    with registry.database.read() as connection:
        row = connection.execute(sa.select(t.embedders)).one()
        searcher = registry.searching.searcher(row.embedder_id, EMBEDDER.dimension)
        shelf = searcher.catch_up(connection)
        categories = connection.execute(sa.select(t.categories.c.category_id, t.categories.c.name)).all()
    ids = {item.name: item.category_id for item in categories}
    allowed = shelf.column("live") & (shelf.column("category") == ids[name] if name else True)
    rows, positions = shelf.column("rows"), np.flatnonzero(allowed)
    times, scans, way = Watch(), Watch(), ""
    recalls: list[float] = []
    late: list[float] = []
    for query in queries:
        with times:
            answer = registry.search(query, EMBEDDER, k=K, where=where)
        way = answer.answered.way.value
        with scans:
            everything = shelf.matrix.similarities(query)
        truth = everything[positions]
        nearest = most_similar(truth, positions, K)[0]
        # By similarity, not by id: of equals any will do.
        recalls.append(_recall(np.array([hit.similarity for hit in answer.hits]), nearest))
        if searcher.index is not None:
            proposed = searcher.index.candidates(query, LEAST_CANDIDATES, shelf.column("live"), len(rows))
            late.append(_recall(everything[proposed[allowed[proposed]]], nearest))
        tick()
    return Similarity(
        name,
        len(positions),
        way,
        Latency.of(times),
        float(np.mean(recalls)),
        Latency.of(scans),
        float(np.mean(late)) if late else float("nan"),
    )


def _recall(found: Vectors, nearest: Vectors) -> float:
    if len(nearest) == 0:
        return 1.0
    close = int(np.count_nonzero(found >= nearest[-1] - 1e-5))
    return min(close, len(nearest)) / len(nearest)


@dataclass(frozen=True, slots=True)
class Attributes:
    """Pages of 50 with one filter; scan: the same rows by a scan of the table without its indexes."""

    name: str
    latency: Latency
    scan: Latency


def attributes(registry: Registry, repetitions: int, tick: Callable[[], None]) -> list[Attributes]:
    """The first pages of listings that people and datasets ask for."""
    rare, common = category(len(SHARES) - 1), category(0)
    asked = {
        "newest": (ObjectFilter(), Order.NEWEST),
        "lowest score, not reviewed": (ObjectFilter(states=(ReviewState.UNREVIEWED,)), Order.LOWEST_SCORE),
        "common class, lowest score": (ObjectFilter(categories=(common,)), Order.LOWEST_SCORE),
        "common class, newest, surer than 0.7": (ObjectFilter(categories=(common,), min_score=0.7), Order.NEWEST),
        "rare class, surer than 0.9": (ObjectFilter(categories=(rare,), min_score=0.9), Order.HIGHEST_SCORE),
        "three classes, lowest score": (
            ObjectFilter(categories=tuple(category(n) for n in (1, 3, 5))),
            Order.LOWEST_SCORE,
        ),
        "an attribute": (ObjectFilter(categories=(common,), attributes={"number": 13}), Order.NEWEST),
        "an episode": (ObjectFilter(episodes=("/generated/0",)), Order.NEWEST),
    }
    found = []
    for name, (where, order) in asked.items():
        times = Watch()
        for _ in range(repetitions):
            with times:
                registry.list_objects(where, order=order)
        found.append(Attributes(name, Latency.of(times), _table_scan(registry, order)))
        tick()
    return found


def _table_scan(registry: Registry, order: Order) -> Latency:
    key = "score" if order in (Order.LOWEST_SCORE, Order.HIGHEST_SCORE) else "row_id + 0"
    statement = (
        f"SELECT row_id FROM objects NOT INDEXED WHERE category_id > 0 AND deleted_ns IS NULL ORDER BY {key} LIMIT 50"
    )
    times = Watch()
    for _ in range(3):
        with times, registry.database.read() as connection:
            connection.exec_driver_sql(statement).all()
    return Latency.of(times)
