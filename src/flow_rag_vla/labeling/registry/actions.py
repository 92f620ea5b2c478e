# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What can be done with objects, and what a robot did with them: affordances and action sequences."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
import sqlalchemy as sa
from numpy.typing import NDArray

from flow_rag_vla.labeling.detections import ScoreKind
from flow_rag_vla.labeling.registry import tables as t
from flow_rag_vla.labeling.registry.catalogue import new_id, project_row, source_row
from flow_rag_vla.labeling.registry.checks import (
    LONGEST_TEXT,
    MOST_NUMBERS,
    checked_attributes,
    checked_name,
    checked_share,
    checked_whole,
)
from flow_rag_vla.labeling.registry.database import Database
from flow_rag_vla.labeling.registry.errors import ErrorCode, InvalidInputError, UnknownError
from flow_rag_vla.labeling.registry.rows import object_row
from flow_rag_vla.labeling.registry.values import Attribute

MOST_STEPS = 1_000_000
_AT_ONCE = 100
"""Rows that are read while one transaction is open."""


@dataclass(frozen=True, slots=True)
class Affordance:
    """Something that can be done with an object.

    name: such as graspable, pushable, stackable; score: 0 to 1, how sure or how often; episode: that showed it, or ""
    parameters: how, such as gripper_width in metres or a grasp pose x, y, z in metres, as plain numbers
    """

    object_id: str
    name: str
    score: float
    score_kind: ScoreKind
    episode: str = ""
    parameters: Mapping[str, Attribute] = field(default_factory=dict)
    who: str = ""
    created_ns: int = 0


class Role(str, Enum):
    """What an object is in an action sequence."""

    TARGET = "target"
    DESTINATION = "destination"
    OBSTACLE = "obstacle"
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class ActionSequence:
    """What a robot did, with the objects that it did it to.

    actions: (steps, width) float32; of the policy: 7 wide, metres and radians per tick, gripper 0 to 1
    start_ns: time of the first step; period_ns: from step to step; succeeded: None where nobody knows
    objects: (object id, role) pairs
    """

    source_id: str
    instruction: str
    actions: NDArray[np.float32]
    start_ns: int
    period_ns: int
    episode: str = ""
    succeeded: bool | None = None
    objects: tuple[tuple[str, Role], ...] = ()
    sequence_id: str = ""
    who: str = ""
    created_ns: int = 0


class ActionRecords:
    """The affordances and action sequences of one registry: ``Registry.actions``."""

    def __init__(self, database: Database) -> None:
        """Refer to an open database."""
        self._database = database

    def add_affordance(self, affordance: Affordance, *, who: str) -> Affordance:
        """Say what can be done with an object; the same name from the same episode replaces what was said.

        Raises:
            UnknownError: there is no such object.
            InvalidInputError: a value that makes no sense.
        """
        key = {
            "name": checked_name(affordance.name, "affordance"),
            "episode": checked_name(affordance.episode, "episode", empty=True),
        }
        values: dict[str, Any] = {
            "score": checked_share(affordance.score, "score"),
            "score_kind": affordance.score_kind.value,
            "parameters": checked_attributes(affordance.parameters, "parameters"),
            "who": checked_name(who, "who"),
            "created_ns": time.time_ns(),
        }
        with self._database.write() as connection:
            row_id = object_row(connection, affordance.object_id).row_id
            a = t.affordances
            same = sa.and_(a.c.row_id == row_id, *(a.c[name] == value for name, value in key.items()))
            if connection.execute(a.update().where(same).values(**values)).rowcount == 0:
                connection.execute(a.insert().values(row_id=row_id, **key, **values))
            return _affordance(connection.execute(_select_affordances().where(same)).one())

    def affordances(self, object_id: str) -> tuple[Affordance, ...]:
        """What can be done with an object, by name.

        Raises:
            UnknownError: there is no such object.
        """
        with self._database.read() as connection:
            where = t.affordances.c.row_id == object_row(connection, object_id).row_id
            return tuple(_affordance(row) for row in connection.execute(_select_affordances().where(where)))

    def objects_affording(
        self, name: str, *, min_score: float = 0.0, project: str = "", limit: int = 100
    ) -> tuple[Affordance, ...]:
        """Live objects with which something can be done, of one project or of all, the surest first.

        Raises:
            InvalidInputError: a score that is none.
            UnknownError: there is no such project.
        """
        a, o = t.affordances.c, t.objects.c
        least = checked_share(min_score, "min_score")
        statement = _select_affordances().order_by(None).order_by(a.score.desc(), a.affordance_id).limit(limit)
        with self._database.read() as connection:
            live = o.deleted_ns.is_(None), *_of_project(connection, o.project_id, project)
            rows = connection.execute(statement.where(a.name == name, a.score >= least, *live))
            return tuple(_affordance(row) for row in rows)

    def add_sequence(self, sequence: ActionSequence, *, who: str) -> ActionSequence:
        """Record what a robot did.

        Raises:
            UnknownError: an unknown source or object.
            InvalidInputError: actions that are not a finite (steps, width) array, or another value out of range.
        """
        actions = np.asarray(sequence.actions, dtype="<f4")
        sound = actions.ndim == 2 and 0 < len(actions) <= MOST_STEPS and 0 < actions.shape[1] <= MOST_NUMBERS
        if not sound or not np.isfinite(actions).all():
            raise InvalidInputError(
                ErrorCode.INVALID_VALUE,
                f"actions have the shape {actions.shape}" if not sound else "actions are not finite",
                f"give finite numbers of the shape (steps, width), at most {MOST_STEPS} steps",
            )
        values = {
            "sequence_id": new_id(),
            "instruction": checked_name(sequence.instruction, "instruction", empty=True, longest=LONGEST_TEXT),
            "episode": checked_name(sequence.episode, "episode", empty=True),
            "start_ns": checked_whole(sequence.start_ns, "start_ns"),
            "period_ns": checked_whole(sequence.period_ns, "period_ns", least=1),
            "actions": actions.tobytes(),
            "width": actions.shape[1],
            "succeeded": sequence.succeeded,
            "who": checked_name(who, "who"),
            "created_ns": time.time_ns(),
        }
        with self._database.write() as connection:
            source = source_row(connection, sequence.source_id).source_row
            found = connection.execute(t.sequences.insert().values(source_row=source, **values))
            assert found.inserted_primary_key is not None
            row = found.inserted_primary_key[0]
            for object_id, role in dict.fromkeys(sequence.objects):
                row_id = object_row(connection, object_id).row_id
                link = {"sequence_row": row, "row_id": row_id, "role": role.value}
                connection.execute(t.sequence_objects.insert().values(**link))
            return _sequences(connection, t.sequences.c.sequence_row == row)[0]

    def sequence(self, sequence_id: str) -> ActionSequence:
        """An action sequence.

        Raises:
            UnknownError: there is no such sequence.
        """
        with self._database.read() as connection:
            found = _sequences(connection, t.sequences.c.sequence_id == sequence_id)
        if not found:
            raise UnknownError(
                ErrorCode.UNKNOWN_SEQUENCE,
                f"there is no action sequence {sequence_id[:80]!r}",
                "list those of its episode or object",
            )
        return found[0]

    def sequences_of_episode(
        self, episode: str, *, project: str = "", limit: int = 0, after: str = ""
    ) -> tuple[ActionSequence, ...]:
        """The action sequences of an episode, by their start.

        Args:
            episode: of the robot.
            project: only those whose source is of it; "" for all.
            limit: at most so many; 0 for all.
            after: the last id of the page before, "" for the first page.

        Raises:
            UnknownError: there is no such project.
            InvalidInputError: ``invalid_cursor``: ``after`` is no sequence of this listing.
        """
        with self._database.read() as connection:
            where = t.sequences.c.episode == episode, *_of_project(connection, t.sources.c.project_id, project)
            return _sequences(connection, sa.and_(*where), limit, after)

    def sequences_with(
        self, object_id: str, *, project: str = "", limit: int = 0, after: str = ""
    ) -> tuple[ActionSequence, ...]:
        """The action sequences that an object is part of, by their start; see ``sequences_of_episode``.

        Raises:
            UnknownError: there is no such object or project.
            InvalidInputError: ``invalid_cursor``: ``after`` is no sequence of this listing.
        """
        with self._database.read() as connection:
            row_id = object_row(connection, object_id).row_id
            links = sa.select(t.sequence_objects.c.sequence_row).where(t.sequence_objects.c.row_id == row_id)
            where = t.sequences.c.sequence_row.in_(links), *_of_project(connection, t.sources.c.project_id, project)
            return _sequences(connection, sa.and_(*where), limit, after)

    def all_sequences(self, project: str = "") -> Iterator[ActionSequence]:
        """Every action sequence, of one project or of all, in the order in which they were recorded.

        Raises:
            UnknownError: there is no such project.
        """
        row_of = t.sequences.c.sequence_row
        after = 0
        while True:
            with self._database.read() as connection:
                where = row_of > after, *_of_project(connection, t.sources.c.project_id, project)
                statement = _select_sequences().where(*where).order_by(row_of).limit(_AT_ONCE)
                rows = connection.execute(statement).all()
                found = [_sequence(connection, row) for row in rows]
            yield from found
            if len(found) < _AT_ONCE:
                return
            after = rows[-1].sequence_row

    def all_affordances(self, project: str = "") -> Iterator[Affordance]:
        """What can be done with live objects, of one project or of all, in the order in which it was first said.

        Raises:
            UnknownError: there is no such project.
        """
        a, o = t.affordances.c, t.objects.c
        after = 0
        while True:
            with self._database.read() as connection:
                where = o.deleted_ns.is_(None), *_of_project(connection, o.project_id, project)
                statement = _select_affordances().where(a.affordance_id > after, *where)
                rows = connection.execute(statement.order_by(None).order_by(a.affordance_id).limit(_AT_ONCE)).all()
            yield from (_affordance(row) for row in rows)
            if len(rows) < _AT_ONCE:
                return
            after = rows[-1].affordance_id


def _of_project(connection: sa.Connection, column: sa.Column[Any], project: str) -> tuple[sa.ColumnElement[bool], ...]:
    return (column == project_row(connection, project).project_id,) if project else ()


def _select_affordances() -> sa.Select[Any]:
    joined = t.affordances.join(t.objects, t.objects.c.row_id == t.affordances.c.row_id)
    statement = sa.select(t.affordances, t.objects.c.object_id).select_from(joined)
    return statement.order_by(t.affordances.c.name, t.affordances.c.episode)


def _affordance(row: Any) -> Affordance:
    return Affordance(
        row.object_id,
        row.name,
        row.score,
        ScoreKind(row.score_kind),
        row.episode,
        row.parameters,
        row.who,
        row.created_ns,
    )


def _select_sequences() -> sa.Select[Any]:
    joined = t.sequences.join(t.sources, t.sources.c.source_row == t.sequences.c.source_row)
    return sa.select(t.sequences, t.sources.c.source_id).select_from(joined)


def _sequences(
    connection: sa.Connection, where: sa.ColumnElement[bool], limit: int = 0, after: str = ""
) -> tuple[ActionSequence, ...]:
    s = t.sequences.c
    statement = _select_sequences().where(where)
    if after:
        # Without its steps, which may be many.
        place = statement.with_only_columns(s.start_ns, s.sequence_row).where(s.sequence_id == after)
        last = connection.execute(place).first()
        if last is None:
            raise InvalidInputError(
                ErrorCode.INVALID_CURSOR, f"{after[:80]!r} is no cursor of this listing", "begin again without a cursor"
            )
        statement = statement.where(sa.tuple_(s.start_ns, s.sequence_row) > sa.tuple_(*last))
    if limit:
        statement = statement.limit(limit)
    rows = connection.execute(statement.order_by(s.start_ns, s.sequence_row)).all()
    return tuple(_sequence(connection, row) for row in rows)


def _sequence(connection: sa.Connection, row: Any) -> ActionSequence:
    s = t.sequence_objects.c
    joined = t.sequence_objects.join(t.objects, t.objects.c.row_id == s.row_id)
    links = sa.select(t.objects.c.object_id, s.role).select_from(joined).where(s.sequence_row == row.sequence_row)
    objects = tuple((link.object_id, Role(link.role)) for link in connection.execute(links.order_by(s.row_id, s.role)))
    return ActionSequence(
        row.source_id,
        row.instruction,
        np.frombuffer(row.actions, dtype="<f4").astype(np.float32).reshape(-1, row.width),
        row.start_ns,
        row.period_ns,
        row.episode,
        row.succeeded,
        objects,
        row.sequence_id,
        row.who,
        row.created_ns,
    )
