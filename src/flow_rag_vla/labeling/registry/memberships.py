# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""Versions of datasets and who is in them; what a dataset means is said by those who build it."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import sqlalchemy as sa

from flow_rag_vla.labeling.registry import tables as t
from flow_rag_vla.labeling.registry.catalogue import chunks, new_id, project_row
from flow_rag_vla.labeling.registry.checks import checked_name
from flow_rag_vla.labeling.registry.database import Database
from flow_rag_vla.labeling.registry.errors import ConflictError, ErrorCode, InvalidInputError, UnknownError
from flow_rag_vla.labeling.registry.values import DEFAULT_PROJECT

LARGEST_DESCRIPTION = 1_000_000
PAGE = 5_000


@dataclass(frozen=True, slots=True)
class DatasetVersion:
    """One version of a dataset; a version never changes.

    version: 1 and up within its name; description: what it was made from (filter, splits, seed), any plain JSON
    last_change: the last change of the registry that it has seen; members: how many objects
    """

    name: str
    project: str = DEFAULT_PROJECT
    description: Mapping[str, Any] = field(default_factory=dict)
    dataset_id: str = ""
    version: int = 0
    last_change: int = 0
    members: int = 0
    who: str = ""
    created_ns: int = 0


@dataclass(frozen=True, slots=True)
class Member:
    """An object in a dataset, at the version that it had then, in a split such as train, val or test."""

    object_id: str
    split: str
    version: int = 0


class DatasetRecords:
    """The dataset versions of one registry: ``Registry.datasets``."""

    def __init__(self, database: Database) -> None:
        """Refer to an open database."""
        self._database = database

    def add(
        self,
        name: str,
        members: Sequence[Member],
        *,
        who: str,
        project: str = DEFAULT_PROJECT,
        description: Mapping[str, Any] | None = None,
        version: int = 0,
    ) -> DatasetVersion:
        """Record the next version of a dataset.

        Args:
            name: of the dataset.
            members: each object once; their versions are read here.
            who: who made it.
            project: whose dataset.
            description: plain JSON.
            version: its number, above those there are; 0: the next one.

        Raises:
            UnknownError: an unknown project or object.
            ConflictError: there is a version of this number or above it.
            InvalidInputError: an object given twice, or a description that is no JSON or too large.
        """
        name, who = checked_name(name, "dataset"), checked_name(who, "who")
        splits = {member.object_id: checked_name(member.split, "split") for member in members}
        if len(splits) != len(members):
            raise InvalidInputError(ErrorCode.INVALID_VALUE, "an object is given twice", "put it in one split")
        try:
            text = json.dumps(description or {}, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise InvalidInputError(
                ErrorCode.INVALID_VALUE, f"the description is no JSON ({error})", "give plain values"
            ) from error
        if len(text) > LARGEST_DESCRIPTION:
            raise InvalidInputError(
                ErrorCode.INVALID_VALUE, f"the description has {len(text)} characters", "leave the members out of it"
            )
        d = t.datasets.c
        with self._database.write() as connection:
            project_id = project_row(connection, project).project_id
            same = sa.and_(d.project_id == project_id, d.name == name)
            latest = int(connection.execute(sa.select(sa.func.max(d.version)).where(same)).scalar() or 0)
            if version and version <= latest:
                raise ConflictError(
                    ErrorCode.ALREADY_EXISTS, f"dataset {name!r} has a version {latest}", "take a higher number"
                )
            version = version or latest + 1
            change = connection.execute(sa.select(sa.func.max(t.history.c.change_id))).scalar() or 0
            values = {"project_id": project_id, "name": name, "version": version, "who": who, "last_change": change}
            found = connection.execute(
                t.datasets.insert().values(
                    dataset_id=new_id(), description=json.loads(text), created_ns=time.time_ns(), **values
                )
            )
            assert found.inserted_primary_key is not None
            row = found.inserted_primary_key[0]
            self._add_members(connection, row, splits)
            return _versions(connection, d.dataset_row == row)[0]

    @staticmethod
    def _add_members(connection: sa.Connection, row: int, splits: Mapping[str, str]) -> None:
        o = t.objects.c
        for part in chunks(list(splits)):
            statement = sa.select(o.row_id, o.object_id, o.version).where(o.object_id.in_(part))
            found = connection.execute(statement).all()
            missing = set(part) - {item.object_id for item in found}
            if missing:
                remedy = "list the objects to see which ids there are"
                raise UnknownError(ErrorCode.UNKNOWN_OBJECT, f"there is no object {min(missing)[:80]!r}", remedy)
            values = [
                {"dataset_row": row, "row_id": item.row_id, "version": item.version, "split": splits[item.object_id]}
                for item in found
            ]
            connection.execute(t.dataset_members.insert(), values)

    def get(self, dataset_id: str) -> DatasetVersion:
        """A version by its id.

        Raises:
            UnknownError: there is no such version.
        """
        with self._database.read() as connection:
            found = _versions(connection, t.datasets.c.dataset_id == dataset_id)
        if not found:
            remedy = "list the datasets"
            raise UnknownError(ErrorCode.UNKNOWN_DATASET, f"there is no dataset {dataset_id[:80]!r}", remedy)
        return found[0]

    def list_versions(self, project: str = "", name: str = "") -> tuple[DatasetVersion, ...]:
        """Versions by name, oldest first; of one project or name if they are given.

        Raises:
            UnknownError: there is no such project.
        """
        with self._database.read() as connection:
            terms: list[sa.ColumnElement[bool]] = [sa.true()]
            if project:
                terms.append(t.datasets.c.project_id == project_row(connection, project).project_id)
            if name:
                terms.append(t.datasets.c.name == name)
            return _versions(connection, sa.and_(*terms))

    def members(self, dataset_id: str) -> Iterator[Member]:
        """The members of a version in the order of registration, read in parts.

        Raises:
            UnknownError: there is no such version.
        """
        self.get(dataset_id)
        m, last = t.dataset_members.c, 0
        joined = t.dataset_members.join(t.objects, t.objects.c.row_id == m.row_id).join(t.datasets)
        while True:
            statement = (
                sa.select(m.row_id, t.objects.c.object_id, m.split, m.version)
                .select_from(joined)
                .where(t.datasets.c.dataset_id == dataset_id, m.row_id > last)
                .order_by(m.row_id)
                .limit(PAGE)
            )
            with self._database.read() as connection:
                rows = connection.execute(statement).all()
            yield from (Member(row.object_id, row.split, row.version) for row in rows)
            if len(rows) < PAGE:
                return
            last = rows[-1].row_id


def _versions(connection: sa.Connection, where: sa.ColumnElement[bool]) -> tuple[DatasetVersion, ...]:
    d = t.datasets.c
    count = sa.select(sa.func.count()).where(t.dataset_members.c.dataset_row == d.dataset_row).scalar_subquery()
    joined = t.datasets.join(t.projects, t.projects.c.project_id == d.project_id)
    statement = sa.select(t.datasets, t.projects.c.name.label("project"), count.label("members"))
    rows = connection.execute(statement.select_from(joined).where(where).order_by(t.projects.c.name, d.name, d.version))
    return tuple(
        DatasetVersion(
            row.name,
            row.project,
            row.description,
            row.dataset_id,
            row.version,
            row.last_change,
            row.members,
            row.who,
            row.created_ns,
        )
        for row in rows
    )
