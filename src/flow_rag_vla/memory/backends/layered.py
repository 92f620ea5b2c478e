# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""The index of a group that may grow to a million: exact while it is small, compressed in the background beyond.

Three layers, from the newest cases to the oldest:

- the *tail*, float32, scanned exactly: every new case goes there, at once
- *pending* rows, two bytes a number, scanned exactly: what the tail held when it was full, until the builder has
  taken it into the segment
- the *segment*, compressed (``segment``), with its originals

A search looks at all three and compares what it found by the original vectors. A builder (``builder``) makes the next
segment from what is pending and replaces the old one in one assignment: no search ever waits, and none sees half of a
change.
"""

from __future__ import annotations

import dataclasses
import logging
import secrets
import threading
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from flow_rag_vla.memory.backends import segment as segments
from flow_rag_vla.memory.backends.base import Ids, IndexState, Vectors, best
from flow_rag_vla.memory.backends.builder import Builder, Stopped
from flow_rag_vla.memory.backends.originals import Originals, fixed, floats
from flow_rag_vla.memory.backends.segment import Segment

MEASURED_AT = 1.1
"""Growth after which the recall of a segment is measured again; that takes an exact scan of every row."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Layers:
    """Sizes at which an index changes its way.

    exact: vectors up to which a group has no segment: scanning 2,048 x 512 in float32 takes half a millisecond with
        cold caches
    tail: vectors scanned beside a segment before they are taken into it
    lists_from: vectors from which a segment sorts them into lists; scanning the codes of as many takes as long
    retrain_at: growth since codes were learnt after which they are learnt anew
    most_dead: share of removed vectors after which a segment is made without them
    """

    exact: int = 2048
    tail: int = 1024
    lists_from: int = 65_536
    retrain_at: float = 2.0
    most_dead: float = 0.25


@dataclass(frozen=True, slots=True, eq=False)
class Snapshot:
    """What an index holds at one moment, to be kept in files.

    epoch: names the rows: as long as it is the same, rows were only appended
    """

    epoch: str
    originals: Originals
    row_ids: Ids
    alive: Mask
    segment: Segment | None
    tail: Vectors
    tail_ids: Ids


@dataclass(frozen=True, slots=True, eq=False)
class _State:
    """What a search sees. Arrays may be longer than the counts: more is appended beyond them."""

    originals: Originals
    row_ids: Ids
    alive: Mask
    live_rows: int
    segment: Segment | None
    tail: Vectors
    tail_ids: Ids
    tail_alive: Mask
    tail_count: int
    live_tail: int


class LayeredIndex:
    """See the module. Reads need no lock, also beside a change; changes are called one at a time."""

    concurrent = True

    def __init__(self, dimension: int, builder: Builder, layers: Layers | None = None) -> None:
        """Make an empty index whose segments a builder makes."""
        self.layers = layers or Layers()
        self._dimension = dimension
        self._builder = builder
        # Held by what changes, and by the builder while it puts a segment in place.
        self._change = threading.Lock()
        self._building = False
        self._problem = ""
        self._epoch = secrets.token_hex(6)
        self._lookup: tuple[Originals, Ids, Ids] | None = None
        self._state = self._empty(Originals(np.empty((0, dimension), dtype=np.int16)))

    @staticmethod
    def restored(snapshot: Snapshot, builder: Builder, layers: Layers | None = None) -> LayeredIndex:
        """An index of what another one held."""
        index = LayeredIndex(snapshot.originals.dimension, builder, layers)
        index._epoch = snapshot.epoch
        index._state = dataclasses.replace(
            index._empty(snapshot.originals),
            row_ids=snapshot.row_ids,
            alive=snapshot.alive.copy(),
            live_rows=int(np.count_nonzero(snapshot.alive)),
            segment=snapshot.segment,
        )
        index.add(snapshot.tail_ids, snapshot.tail)
        index._ask()
        return index

    def snapshot(self) -> Snapshot:
        """What it holds, without what is appended or removed later."""
        with self._change:
            state = self._state
            live = np.flatnonzero(state.tail_alive[: state.tail_count])
            return Snapshot(
                self._epoch,
                state.originals,
                state.row_ids,
                state.alive.copy(),
                state.segment,
                state.tail[live],
                state.tail_ids[live],
            )

    def __len__(self) -> int:
        """Number of vectors."""
        state = self._state
        return state.live_rows + state.live_tail

    @property
    def has_segment(self) -> bool:
        """Whether some of it is compressed."""
        return self._state.segment is not None

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """Take vectors (N, D) in under new ids (N,)."""
        for start in range(0, len(ids), self.layers.exact):
            some = slice(start, start + self.layers.exact)
            with self._change:
                self._append(np.asarray(ids[some], dtype=np.int64), np.asarray(vectors[some], dtype=np.float32))
        self._ask()

    def remove(self, ids: Ids) -> None:
        """Forget ids; unknown ones are ignored."""
        gone = np.asarray(ids, dtype=np.int64)
        with self._change:
            state = self._state
            rows, in_rows = self._rows_of(state, gone)
            rows = np.unique(rows[in_rows])
            tail = np.flatnonzero(
                np.isin(state.tail_ids[: state.tail_count], gone) & state.tail_alive[: state.tail_count]
            )
            # In place: a search that runs sees a case that goes at this moment or does not.
            state.alive[rows] = False
            state.tail_alive[tail] = False
            self._state = dataclasses.replace(
                state, live_rows=state.live_rows - len(rows), live_tail=state.live_tail - len(tail)
            )
        self._ask()

    def search(self, queries: Vectors, k: int) -> tuple[Vectors, Ids]:
        """Give similarities and ids (Q, min(k, N)) for queries (Q, D), most similar first."""
        state = self._state
        count = min(k, state.live_rows + state.live_tail)
        queries = np.ascontiguousarray(queries, dtype=np.float32)
        parts = [self._in_tail(state, queries, count)] if state.tail_count or not len(state.originals) else []
        covered = 0 if state.segment is None else state.segment.count
        if covered < len(state.originals):
            parts.append(_scan(state, queries, count, covered, len(state.originals)))
        if state.segment is not None:
            parts.append(_in_segment(state, state.segment, queries, count))
        if len(parts) == 1:
            # In order already.
            similarities, ids = parts[0]
        else:
            similarities, ids = best(
                np.concatenate([part[0] for part in parts], axis=1),
                np.concatenate([part[1] for part in parts], axis=1),
                count,
            )
        if similarities.size and not np.isfinite(similarities[:, -1]).all():
            # Some went while this search ran.
            width = int(np.isfinite(similarities).sum(axis=1).min())
            similarities, ids = similarities[:, :width], ids[:, :width]
        return similarities, ids

    def ids(self) -> Ids:
        """Every id (N,)."""
        state = self._state
        tail = state.tail_ids[: state.tail_count][state.tail_alive[: state.tail_count]]
        return np.concatenate([state.row_ids[state.alive], tail])

    def vectors(self, ids: Ids) -> Vectors:
        """Give the vectors (N, D) of ids that are in the index."""
        wanted = np.asarray(ids, dtype=np.int64)
        with self._change:
            state = self._state
            rows, in_rows = self._rows_of(state, wanted)
            live = np.flatnonzero(state.tail_alive[: state.tail_count])
        found = np.empty((len(wanted), self._dimension), dtype=np.float32)
        found[in_rows] = floats(state.originals.take(rows[in_rows]))
        order = live[np.argsort(state.tail_ids[live])]
        rest = np.flatnonzero(~in_rows)
        found[rest] = state.tail[order[np.searchsorted(state.tail_ids[order], wanted[rest])]]
        return found

    def state(self) -> IndexState:
        """How it answers at the moment."""
        state = self._state
        segment = state.segment
        covered = 0 if segment is None else segment.count
        size = state.originals.nbytes + state.tail.nbytes + 9 * len(state.row_ids)
        return IndexState(
            "exact scan" if segment is None else segment.kind,
            state.live_rows + state.live_tail,
            1.0 if segment is None else segment.recall,
            state.tail_count + len(state.originals) - covered,
            (size + (0 if segment is None else segment.nbytes)) / 1e6,
            self._building,
            self._problem,
        )

    def _empty(self, originals: Originals) -> _State:
        return _State(
            originals,
            np.zeros(0, dtype=np.int64),
            np.zeros(0, dtype=np.bool_),
            0,
            None,
            np.empty((0, self._dimension), dtype=np.float32),
            np.zeros(0, dtype=np.int64),
            np.zeros(0, dtype=np.bool_),
            0,
            0,
        )

    def _append(self, ids: Ids, vectors: Vectors) -> None:
        state = self._state
        used = state.tail_count
        tail, tail_ids, tail_alive = state.tail, state.tail_ids, state.tail_alive
        if used + len(ids) > len(tail):
            # Readers keep the old arrays; what is written beyond their count they never look at.
            room = min(max(2 * len(tail), used + len(ids), 16), used + len(ids) + self.layers.exact)
            tail = np.empty((room, self._dimension), dtype=np.float32)
            tail_ids, tail_alive = np.zeros(room, dtype=np.int64), np.zeros(room, dtype=np.bool_)
            tail[:used], tail_ids[:used] = state.tail[:used], state.tail_ids[:used]
            tail_alive[:used] = state.tail_alive[:used]
        end = used + len(ids)
        tail[used:end], tail_ids[used:end], tail_alive[used:end] = vectors, ids, True
        state = dataclasses.replace(
            state,
            tail=tail,
            tail_ids=tail_ids,
            tail_alive=tail_alive,
            tail_count=end,
            live_tail=state.live_tail + len(ids),
        )
        self._state = self._flushed(state) if self._is_full(state) else state

    def _is_full(self, state: _State) -> bool:
        return state.tail_count >= (self.layers.exact if state.segment is None else self.layers.tail)

    def _flushed(self, state: _State) -> _State:
        """The tail's vectors as pending rows."""
        live = np.flatnonzero(state.tail_alive[: state.tail_count])
        return dataclasses.replace(
            self._empty(state.originals.appended(fixed(state.tail[live]))),
            row_ids=np.concatenate([state.row_ids, state.tail_ids[live]]),
            alive=np.concatenate([state.alive, np.ones(len(live), dtype=np.bool_)]),
            live_rows=state.live_rows + len(live),
            segment=state.segment,
        )

    def _rows_of(self, state: _State, ids: Ids) -> tuple[Ids, Mask]:
        """Places (N,) of ids among the rows, and which of them are there and alive."""
        if self._lookup is None or self._lookup[0] is not state.originals:
            live = np.flatnonzero(state.alive)
            # Cases come in the order of their ids, nearly: this sort is one pass.
            order = live[np.argsort(state.row_ids[live], kind="stable")]
            self._lookup = (state.originals, state.row_ids[order], order)
        _, known, places = self._lookup
        if len(known) == 0:
            return np.zeros(len(ids), dtype=np.int64), np.zeros(len(ids), dtype=np.bool_)
        where = np.minimum(np.searchsorted(known, ids), len(known) - 1)
        rows = places[where]
        return rows, (known[where] == ids) & state.alive[rows]

    def _in_tail(self, state: _State, queries: Vectors, count: int) -> tuple[Vectors, Ids]:
        used = state.tail_count
        if used == 0 or count == 0:
            return _none(len(queries))
        return _exact(queries, state.tail[:used], state.tail_ids[:used], state.tail_alive[:used], count)

    # What the builder does.

    def _ask(self) -> None:
        """Let the builder look, if there is something for it and it does not look yet."""
        with self._change:
            if self._building or not self._is_due(self._state):
                return
            self._building = True
        self._builder.submit(self._build)

    def _is_due(self, state: _State) -> bool:
        covered = 0 if state.segment is None else state.segment.count
        pending = len(state.originals) - covered
        if state.segment is None:
            # Rows of which most are gone are few enough for the tail's way.
            return state.live_rows >= self.layers.exact or state.live_rows < pending
        return pending >= self.layers.tail or self._is_full(state) or self._is_worn(state)

    def _is_worn(self, state: _State) -> bool:
        """Whether a segment must be learnt anew."""
        segment, rows = state.segment, len(state.originals)
        if segment is None:
            return True
        return rows >= self.layers.retrain_at * segment.trained_on or (
            rows - state.live_rows > self.layers.most_dead * rows
        )

    def _build(self) -> None:
        try:
            while True:
                with self._change:
                    if not self._is_due(self._state):
                        self._building, self._problem = False, ""
                        return
                self._build_once()
        except Stopped:
            self._building = False
        except (RuntimeError, MemoryError, ValueError) as error:
            # Searches go on with what there is; the next full tail tries again.
            self._problem = f"the compressed index could not be made ({error}); searches scan what it lacks"
            logging.getLogger(__name__).warning(self._problem)
            self._building = False

    def _build_once(self) -> None:
        with self._change:
            if self._is_full(self._state):
                self._state = self._flushed(self._state)
            state = self._state
            keep = state.alive.copy()
        if state.segment is not None and not self._is_worn(state):
            grown = segments.extended(state.segment, state.originals, self._builder.check)
            if grown.count >= MEASURED_AT * grown.measured_at:
                grown = segments.measured(grown, state.originals, self._builder.check)
            with self._change:
                self._state = dataclasses.replace(self._state, segment=grown)
            return
        rows = len(state.originals)
        kept = state.originals.selected(keep) if not keep.all() else state.originals
        found = None
        if len(kept) >= self.layers.exact:
            found = segments.build(kept, self.layers.lists_from, self._builder.check)
        with self._change:
            now = self._state
            if kept is state.originals:
                self._state = dataclasses.replace(now, segment=found)
                return
            later = now.originals.slice(rows, len(now.originals))
            alive = np.concatenate([now.alive[:rows][keep], now.alive[rows:]])
            self._epoch = secrets.token_hex(6)
            self._state = dataclasses.replace(
                now,
                originals=kept.appended(later),
                row_ids=np.concatenate([now.row_ids[:rows][keep], now.row_ids[rows:]]),
                alive=alive,
                live_rows=int(np.count_nonzero(alive)),
                segment=found,
            )


def _none(queries: int) -> tuple[Vectors, Ids]:
    return np.zeros((queries, 0), dtype=np.float32), np.zeros((queries, 0), dtype=np.int64)


def _exact(queries: Vectors, rows: Vectors, ids: Ids, alive: Mask, count: int) -> tuple[Vectors, Ids]:
    """The most similar of float32 rows (N, D); -inf where there are fewer."""
    import faiss

    # A setting of each thread. One search must not take the cores that the control loop runs on.
    faiss.omp_set_num_threads(1)
    dead = len(alive) - int(np.count_nonzero(alive))
    wanted = min(count + dead, len(rows))
    similarities, places = faiss.knn(queries, rows, wanted, metric=faiss.METRIC_INNER_PRODUCT)
    if dead:
        similarities = np.where(alive[places], similarities, np.float32(-np.inf))
    return best(similarities, ids[places], count)


def _scan(state: _State, queries: Vectors, count: int, start: int, stop: int) -> tuple[Vectors, Ids]:
    similarities, ids = _none(len(queries))
    for first, rows in state.originals.chunks(start, stop):
        here = slice(first, first + len(rows))
        found = _exact(queries, rows, state.row_ids[here], state.alive[here], count)
        similarities, ids = best(
            np.concatenate([similarities, found[0]], axis=1), np.concatenate([ids, found[1]], axis=1), count
        )
    return similarities, ids


def _in_segment(state: _State, segment: Segment, queries: Vectors, count: int) -> tuple[Vectors, Ids]:
    similarities = np.full((len(queries), count), -np.inf, dtype=np.float32)
    ids = np.full((len(queries), count), -1, dtype=np.int64)
    for number, query in enumerate(queries):
        places = _live_places(state, segment, query, count)
        one = query[np.newaxis, :]
        if places is None:
            found = _scan(state, one, count, 0, segment.count)
        else:
            near = state.originals.similarities(query, places)
            found = best(near[np.newaxis, :], state.row_ids[places][np.newaxis, :], count)
        width = found[0].shape[1]
        similarities[number, :width], ids[number, :width] = found[0][0], found[1][0]
    return similarities, ids


def _live_places(state: _State, segment: Segment, query: Vectors, count: int) -> Ids | None:
    """Places of candidates, at least ``count``; None where only a scan of everything can tell."""
    # Of more than half of the candidates the codes cannot tell which are nearest.
    candidates = max(segment.candidates, 4 * count)
    for most in (candidates, 8 * candidates):
        places = segment.places(query, most)
        places = places[state.alive[places]]
        if len(places) >= count:
            return places
        if most >= segment.count:
            break
    return None
