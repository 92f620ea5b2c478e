# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What is kept beside the cases: their uses, the episodes without any, what was done in successes, and pictures."""

from __future__ import annotations

import sqlite3
import sys
import time
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from flow_rag_vla.core.action import ACTION_DIM, CorrectionMode
from flow_rag_vla.memory.case import Array, EncoderStamp
from flow_rag_vla.memory.credit import COUNTED, CaseUse, Counts, UseRecord, UseResult
from flow_rag_vla.memory.images import CaseImage, put_images
from flow_rag_vla.memory.store import FailureStore

SUCCESSES_KEPT = 256
"""Successful situations kept of each task and phase: two in a hundred of them are still five."""


@dataclass(frozen=True, slots=True, eq=False)
class SuccessSituation:
    """What was done somewhere in an episode that succeeded.

    embedding: (D,) float32, unit length; actions: (H, 7) float32, the chunk in force there, units of ActionChunk
    """

    task: str
    phase: str
    stamp: EncoderStamp
    embedding: Array
    actions: Array
    episode_id: int = 0
    origin: str = ""
    success_id: int = 0

    def __str__(self) -> str:
        where = f"success situation {self.success_id} ({self.task}/{self.phase or 'any phase'}"
        return f"{where}, episode {self.episode_id}{f' of {self.origin}' if self.origin else ''})"


@dataclass(frozen=True, slots=True, eq=False)
class SuccessPlace:
    """The stored successes of one task and phase.

    vectors: (N, D) float32, their embeddings; situations: of the same order, whose embeddings are its rows
    """

    vectors: Array
    situations: tuple[SuccessSituation, ...]

    @staticmethod
    def of(situations: Sequence[SuccessSituation]) -> SuccessPlace:
        """At least one situation, all of one dimension. Their embeddings are held once."""
        vectors = np.stack([item.embedding for item in situations])
        vectors.setflags(write=False)
        shared = (replace(item, embedding=row) for item, row in zip(situations, vectors, strict=True))
        return SuccessPlace(vectors, tuple(shared))


Successes = Mapping[tuple[str, str], SuccessPlace]
"""Stored successes by task and phase."""


def by_place(situations: Iterable[SuccessSituation]) -> Successes:
    """Situations of one encoder by task and phase."""
    places: dict[tuple[str, str], list[SuccessSituation]] = {}
    for item in situations:
        places.setdefault((item.task, item.phase), []).append(item)
    return {place: SuccessPlace.of(some) for place, some in places.items()}


class Ledger:
    """The tables beside the cases. Threads as in :class:`FailureStore`: one writes at a time, any number read."""

    def __init__(self, store: FailureStore) -> None:
        self._store = store

    # Uses.

    def record_uses(
        self, uses: Sequence[CaseUse], result: UseResult, episode_id: int, origin: str
    ) -> dict[int, Counts]:
        """Log how cases came up in an episode; give the new totals of those that it counts for.

        A case is counted once an episode at most, whatever the number of its modes, and by its share: one that had a
        small say is counted when its shares make up a whole episode. Ids that are not there are left out.

        Raises:
            StoreError: if it cannot be written; nothing was logged then.
        """
        totals: dict[int, Counts] = {}
        success = int(result is UseResult.SUCCESS)
        with self._store.transaction() as connection:
            known = {
                use.case_id: connection.execute("SELECT origin FROM cases WHERE case_id = ?", (use.case_id,)).fetchone()
                for use in uses
            }
            present = [use for use in uses if known[use.case_id] is not None]
            connection.executemany(
                "INSERT INTO uses (case_id, episode_id, origin, stamp_ns, mode, strength, chunks, result, share) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                [
                    (
                        use.case_id,
                        episode_id,
                        origin,
                        time.time_ns(),
                        int(use.mode),
                        use.strength,
                        use.chunks,
                        result,
                        use.share,
                    )
                    for use in present
                ],
            )
            followed: dict[int, float] = {}
            for use in present:
                if use.mode is not CorrectionMode.NONE:
                    followed[use.case_id] = min(followed.get(use.case_id, 0.0) + use.share, 1.0)
            for case_id in sorted(followed) if result in COUNTED else ():
                if not _whole(connection, case_id, result, followed[case_id]):
                    continue
                connection.execute(
                    "UPDATE cases SET uses = uses + 1, successes = successes + ? WHERE case_id = ?", (success, case_id)
                )
                # The origin's own share is what the others leave; see FailureCase.shares.
                if origin != known[case_id][0]:
                    connection.execute(
                        "INSERT INTO credits VALUES (?, ?, 1, ?) ON CONFLICT (case_id, origin) "
                        "DO UPDATE SET uses = uses + 1, successes = successes + excluded.successes",
                        (case_id, origin, success),
                    )
                row = connection.execute("SELECT uses, successes FROM cases WHERE case_id = ?", (case_id,)).fetchone()
                totals[case_id] = Counts(int(row[0]), int(row[1]))
        return totals

    def uses(self, case_id: int, limit: int = 100) -> list[UseRecord]:
        """The newest entries of a case in the log, newest first.

        Raises:
            StoreError: if it cannot be read.
        """
        with self._store.reading() as connection:
            rows = connection.execute(
                "SELECT use_id, case_id, episode_id, origin, stamp_ns, mode, strength, chunks, result, share FROM uses "
                "WHERE case_id = ? ORDER BY use_id DESC LIMIT ?",
                (case_id, limit),
            ).fetchall()
        return [
            UseRecord(
                row[0],
                row[1],
                row[2],
                row[3],
                row[4],
                CorrectionMode(row[5]),
                row[6],
                row[7],
                UseResult(row[8]),
                row[9],
            )
            for row in rows
        ]

    def last_use(self) -> int:
        """Number of the newest entry in the log of uses; 0 if there is none."""
        with self._store.reading() as connection:
            return int(connection.execute("SELECT coalesce(max(use_id), 0) FROM uses").fetchone()[0])

    def counted(self, case_id: int, after_use: int = 0) -> tuple[Counts, Counts]:
        """Episodes here after an entry of the log that a case shaped, and in which it came up and was not followed."""
        with self._store.reading() as connection:
            rows = connection.execute(
                "SELECT sum(share), sum(share * result), mode = 0 FROM ("
                # One row an episode, whatever number of modes; episode 0 is not one but any.
                "SELECT min(sum(share), 1.0) AS share, result, max(mode) AS mode FROM uses WHERE case_id = ? "
                "AND use_id > ? AND result IN (0, 1) "
                "GROUP BY CASE WHEN episode_id = 0 THEN -use_id ELSE episode_id END, origin"
                ") GROUP BY mode = 0",
                (case_id, after_use),
            ).fetchall()
        found = {bool(row[2]): Counts(float(row[0]), float(row[1])) for row in rows}
        return found.get(False, Counts()), found.get(True, Counts())

    # Episodes without a case.

    def record_baseline(self, task: str, phases: Iterable[str], success: bool) -> None:
        """Count an episode that no case shaped, for its task and each phase that it passed through."""
        with self._store.transaction() as connection:
            connection.executemany(
                "INSERT INTO baselines VALUES (?, ?, 1, ?) ON CONFLICT (task, phase) "
                "DO UPDATE SET episodes = episodes + 1, successes = successes + excluded.successes",
                [(task, phase, int(success)) for phase in sorted({"", *phases})],
            )

    def baseline(self, task: str, phase: str = "") -> Counts:
        """Episodes of a task, or of those that passed through a phase, that no case shaped."""
        with self._store.reading() as connection:
            row = connection.execute(
                "SELECT episodes, successes FROM baselines WHERE task = ? AND phase = ?", (task, phase)
            ).fetchone()
        return Counts() if row is None else Counts(int(row[0]), int(row[1]))

    # What was done in successes.

    def add_successes(
        self, situations: Sequence[SuccessSituation], generator: np.random.Generator, keep: int = SUCCESSES_KEPT
    ) -> None:
        """Offer situations to the sample of their task and phase, at most ``keep`` of each.

        Each situation ever offered is in the sample with the same chance (Vitter 1985, algorithm R).

        Raises:
            StoreError: if it cannot be written; the sample is as it was then.
        """
        with self._store.transaction() as connection:
            for item in situations:
                place = (item.task, item.phase)
                connection.execute(
                    "INSERT INTO reservoirs VALUES (?, ?, 1) ON CONFLICT (task, phase) DO UPDATE SET seen = seen + 1",
                    place,
                )
                seen = int(
                    connection.execute("SELECT seen FROM reservoirs WHERE task = ? AND phase = ?", place).fetchone()[0]
                )
                kept = connection.execute("SELECT count(*) FROM successes WHERE task = ? AND phase = ?", place)
                if int(kept.fetchone()[0]) >= keep:
                    drawn = int(generator.integers(seen))
                    if drawn >= keep:
                        continue
                    connection.execute(
                        "DELETE FROM successes WHERE success_id = (SELECT success_id FROM successes "
                        "WHERE task = ? AND phase = ? ORDER BY success_id LIMIT 1 OFFSET ?)",
                        (*place, drawn),
                    )
                connection.execute(
                    "INSERT INTO successes (task, phase, encoder, encoder_revision, embedding, actions, episode_id, "
                    "origin) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        *place,
                        item.stamp.encoder,
                        item.stamp.revision,
                        item.embedding.astype("<f4").tobytes(),
                        item.actions.astype("<f4").tobytes(),
                        item.episode_id,
                        item.origin,
                    ),
                )

    def successes(self, stamp: EncoderStamp) -> list[SuccessSituation]:
        """The sample, as far as it is of an encoder.

        Raises:
            StoreError: if it cannot be read.
        """
        with self._store.reading() as connection:
            rows = connection.execute(
                "SELECT success_id, task, phase, embedding, actions, episode_id, origin FROM successes "
                "WHERE encoder = ? AND encoder_revision = ? ORDER BY success_id",
                (stamp.encoder, stamp.revision),
            ).fetchall()
        return [
            SuccessSituation(
                sys.intern(row[1]),
                sys.intern(row[2]),
                stamp,
                np.frombuffer(row[3], dtype="<f4"),
                np.frombuffer(row[4], dtype="<f4").reshape(-1, ACTION_DIM),
                row[5],
                sys.intern(row[6]),
                row[0],
            )
            for row in rows
            if len(row[3]) == 4 * stamp.dimension
        ]

    def success_count(self) -> int:
        """Size of the sample."""
        with self._store.reading() as connection:
            return int(connection.execute("SELECT count(*) FROM successes").fetchone()[0])

    # Pictures.

    def put_images(self, images: Mapping[int, tuple[CaseImage, ...]]) -> None:
        """Replace the pictures of cases; ids that are not there are left out.

        Raises:
            CaseError: if a case has too many.
            StoreError: if it cannot be written; the pictures are as they were then.
        """
        with self._store.transaction() as connection:
            for case_id, some in images.items():
                if connection.execute("SELECT 1 FROM cases WHERE case_id = ?", (case_id,)).fetchone() is not None:
                    put_images(connection, case_id, some)

    def images(self, case_id: int) -> tuple[CaseImage, ...]:
        """The pictures of a case, by name; one that is damaged is left out."""
        with self._store.reading() as connection:
            rows = connection.execute(
                "SELECT name, format, data, checksum FROM images WHERE case_id = ? ORDER BY name", (case_id,)
            ).fetchall()
        return tuple(CaseImage(row[0], row[1], row[2]) for row in rows if zlib.crc32(row[2]) == row[3])


def _whole(connection: sqlite3.Connection, case_id: int, result: UseResult, share: float) -> bool:
    """Put a case's share of an episode to what it had before; say whether that makes up a whole one, now spent."""
    row = connection.execute("SELECT share FROM shares WHERE case_id = ? AND result = ?", (case_id, result)).fetchone()
    total = share + (0.0 if row is None else float(row[0]))
    # Thirds add up to one as far as a float can say it.
    whole = total >= 1.0 - 1e-9
    if row is not None or not whole or total > 1.0:
        connection.execute(
            "INSERT INTO shares VALUES (?, ?, ?) ON CONFLICT (case_id, result) DO UPDATE SET share = excluded.share",
            (case_id, result, max(total - whole, 0.0)),
        )
    return whole
