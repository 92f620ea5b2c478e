# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""What a registry says of projects, categories, sources, images and tracks."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from flow_rag_vla.labeling.registry import renaming, tracking
from flow_rag_vla.labeling.registry import tables as t
from flow_rag_vla.labeling.registry.catalogue import (
    categories_of,
    category_of,
    chunks,
    image_of,
    image_rows,
    new_id,
    project_of,
    project_row,
    select_images,
    select_sources,
    source_of,
    source_row,
)
from flow_rag_vla.labeling.registry.checks import (
    LARGEST_SIDE,
    checked_attributes,
    checked_name,
    checked_path,
    checked_whole,
)
from flow_rag_vla.labeling.registry.errors import ConflictError, ErrorCode, InvalidInputError
from flow_rag_vla.labeling.registry.opened import OpenedRegistry
from flow_rag_vla.labeling.registry.values import (
    DEFAULT_PROJECT,
    Category,
    Image,
    ImageDraft,
    Project,
    Source,
    SourceDraft,
    Track,
)


class CataloguingRegistry(OpenedRegistry):
    """The part of a registry that objects refer to."""

    def add_project(self, name: str, *, closed_vocabulary: bool = False, description: str = "") -> Project:
        """Add a project.

        Raises:
            ConflictError: there is one of this name.
            InvalidInputError: a name that is none.
        """
        name = checked_name(name, "project")
        values = {
            "closed_vocabulary": closed_vocabulary,
            "description": checked_name(description, "description", empty=True, longest=4_000),
            "created_ns": time.time_ns(),
        }
        with self.database.write() as connection:
            statement = sa.select(t.projects).where(t.projects.c.name == name)
            if connection.execute(statement).first() is not None:
                raise ConflictError(ErrorCode.ALREADY_EXISTS, f"there is a project {name!r}", "choose another name")
            connection.execute(t.projects.insert().values(name=name, **values))
            return project_of(connection.execute(statement).one())

    def projects(self) -> tuple[Project, ...]:
        """Every project by name; a new registry has one: ``default``."""
        with self.database.read() as connection:
            return tuple(project_of(row) for row in connection.execute(sa.select(t.projects).order_by("name")))

    def project(self, name: str) -> Project:
        """A project.

        Raises:
            UnknownError: there is no such project.
        """
        with self.database.read() as connection:
            return project_of(project_row(connection, name))

    def close_vocabulary(self, project: str, closed: bool = True) -> Project:
        """Say whether only a project's own categories may be registered.

        Raises:
            UnknownError: there is no such project.
        """
        with self.database.write() as connection:
            found = project_row(connection, project)
            where = t.projects.c.project_id == found.project_id
            connection.execute(t.projects.update().where(where).values(closed_vocabulary=closed))
            return project_of(project_row(connection, project))

    def add_category(self, name: str, *, project: str = DEFAULT_PROJECT, synonyms: Sequence[str] = ()) -> Category:
        """Add a category, or give one that is there further synonyms.

        Raises:
            ConflictError: the name or a synonym belongs to another category.
            UnknownError: there is no such project.
            InvalidInputError: a name that is none.
        """
        name = checked_name(name, "category")
        words = sorted({checked_name(word, "synonym") for word in synonyms} - {name})
        with self.database.write() as connection:
            project_id = project_row(connection, project).project_id
            rows = {row.name: row for row in categories_of(connection, project_id)}
            for other in rows.values():
                taken = {other.name, *other.synonyms} & {name, *words} if other.name != name else set()
                if taken:
                    raise ConflictError(
                        ErrorCode.ALREADY_EXISTS,
                        f"{sorted(taken)[0]!r} already means the category {other.name!r}",
                        "choose another word",
                    )
            if name in rows:
                words = sorted({*rows[name].synonyms, *words})
                where = t.categories.c.category_id == rows[name].category_id
                connection.execute(t.categories.update().where(where).values(synonyms=words))
            else:
                values = {"project_id": project_id, "name": name, "synonyms": words}
                connection.execute(t.categories.insert().values(**values))
            return Category(name, project, tuple(words))

    def rename_category(self, name: str, to: str, *, project: str = DEFAULT_PROJECT) -> Category:
        """Give a category another name; the old one stays as a synonym, also where it was misspelt.

        Raises:
            ConflictError: the new name, or a synonym of it, belongs to another category; see ``merge_category``.
            InvalidInputError: there is no such category, or the new name is none.
            UnknownError: there is no such project.
        """
        to = checked_name(to, "category")
        with self.database.write() as connection:
            renaming.rename(connection, project_row(connection, project).project_id, name, to)
        return self._category(to, project)

    def merge_category(self, name: str, into: str, *, who: str, project: str = DEFAULT_PROJECT) -> Category:
        """Make all objects of a category those of another one, of which its words become synonyms.

        Each object that moves is a change in the history. Others write in between; what is cut short goes on when it is
        asked for again.

        Raises:
            InvalidInputError: one of them is no category, or both are the same.
            UnknownError: there is no such project.
        """
        who = checked_name(who, "who")
        if name == into:
            raise InvalidInputError(ErrorCode.INVALID_VALUE, f"{name!r} into itself", "name two categories")
        left = 1
        while left:
            with self.database.write() as connection:
                project_id = project_row(connection, project).project_id
                left = renaming.move_some(connection, project_id, name, into, who)
        return self._category(into, project)

    def _category(self, name: str, project: str) -> Category:
        return next(item for item in self.categories(project, counted=True) if item.name == name)

    def categories(self, project: str = DEFAULT_PROJECT, *, counted: bool = False) -> tuple[Category, ...]:
        """A project's categories by name, with the number of their live objects if ``counted``.

        Raises:
            UnknownError: there is no such project.
        """
        with self.database.read() as connection:
            project_id = project_row(connection, project).project_id
            rows = categories_of(connection, project_id)
            counts: dict[int, int] = {}
            if counted:
                o = t.objects.c
                where = o.deleted_ns.is_(None), o.category_id.in_([row.category_id for row in rows])
                statement = sa.select(o.category_id, sa.func.count()).where(*where).group_by(o.category_id)
                counts = {row[0]: row[1] for row in connection.execute(statement)}
            return tuple(category_of(row, project, counts.get(row.category_id, 0)) for row in rows)

    def add_source(self, draft: SourceDraft) -> Source:
        """Add a source; the same kind, path and episode in the same project gives the source that is there.

        Raises:
            UnknownError: there is no such project.
            InvalidInputError: a path that climbs (``unsafe_path``), or a value out of range.
        """
        values: dict[str, Any] = {
            "kind": draft.kind.value,
            "path": checked_path(draft.path, "source path"),
            "episode": checked_name(draft.episode, "episode", empty=True),
        }
        rest: dict[str, Any] = {
            "width": checked_whole(draft.width, "width", most=LARGEST_SIDE),
            "height": checked_whole(draft.height, "height", most=LARGEST_SIDE),
            "captured_ns": checked_whole(draft.captured_ns, "captured_ns"),
            "licence": checked_name(draft.licence, "licence", empty=True),
            "attributes": checked_attributes(draft.attributes, "attributes"),
            "created_ns": time.time_ns(),
        }
        with self.database.write() as connection:
            values["project_id"] = project_row(connection, draft.project).project_id
            same = sa.and_(*(t.sources.c[name] == value for name, value in values.items()))
            if connection.execute(sa.select(t.sources.c.source_row).where(same)).first() is None:
                connection.execute(t.sources.insert().values(source_id=new_id(), **values, **rest))
            return source_of(connection.execute(select_sources().where(same)).one())

    def describe_source(self, source_id: str, *, licence: str | None = None, captured_ns: int | None = None) -> Source:
        """Say of a source what was not known when it was registered; versions of datasets that there are stay.

        Args:
            source_id: the source.
            licence: SPDX id or text, "" for unknown; None: as it is.
            captured_ns: when it was taken, UTC, 0 for unknown; None: as it is.

        Raises:
            UnknownError: there is no such source.
            InvalidInputError: a value out of range, or nothing is said.
        """
        values: dict[str, Any] = {}
        if licence is not None:
            values["licence"] = checked_name(licence, "licence", empty=True)
        if captured_ns is not None:
            values["captured_ns"] = checked_whole(captured_ns, "captured_ns")
        if not values:
            raise InvalidInputError(ErrorCode.INVALID_VALUE, "nothing is said of the source", "name what is to change")
        with self.database.write() as connection:
            row = source_row(connection, source_id).source_row
            connection.execute(t.sources.update().where(t.sources.c.source_row == row).values(**values))
            return source_of(source_row(connection, source_id))

    def source(self, source_id: str) -> Source:
        """A source.

        Raises:
            UnknownError: there is no such source.
        """
        with self.database.read() as connection:
            return source_of(source_row(connection, source_id))

    def sources(self, project: str = "", *, limit: int = 1_000, after: str = "") -> tuple[Source, ...]:
        """Sources in the order of registration; ``after``: the last id of the page before.

        Raises:
            UnknownError: there is no such project or source.
        """
        statement = select_sources().order_by(t.sources.c.source_row).limit(limit)
        with self.database.read() as connection:
            if project:
                statement = statement.where(t.sources.c.project_id == project_row(connection, project).project_id)
            if after:
                statement = statement.where(t.sources.c.source_row > source_row(connection, after).source_row)
            return tuple(source_of(row) for row in connection.execute(statement))

    def add_images(self, source_id: str, drafts: Sequence[ImageDraft]) -> tuple[Image, ...]:
        """Add images of a source; one that is there by name and frame is given back, if its size is the same.

        The digest of one whose digest was unknown is noted.

        Raises:
            UnknownError: there is no such source.
            ConflictError: an image of this name and frame has another size.
            InvalidInputError: a name that climbs (``unsafe_path``), or a size out of range.
        """
        wanted: list[dict[str, Any]] = [
            {
                "name": checked_path(draft.name, "image name", relative=True),
                "frame": checked_whole(draft.frame, "frame", most=(1 << 31) - 1),
                "stamp_ns": checked_whole(draft.stamp_ns, "stamp_ns"),
                "width": checked_whole(draft.width, "width", least=1, most=LARGEST_SIDE),
                "height": checked_whole(draft.height, "height", least=1, most=LARGEST_SIDE),
                "digest": checked_name(draft.digest, "digest", empty=True),
            }
            for draft in drafts
        ]
        with self.database.write() as connection:
            row = source_row(connection, source_id).source_row
            found = self._images_by_name(connection, row, [item["frame"] for item in wanted])
            new = {(item["frame"], item["name"]): item for item in wanted}
            missing = [item for key, item in new.items() if key not in found]
            if missing:
                values = [{**item, "image_id": new_id(), "source_row": row} for item in missing]
                connection.execute(t.images.insert(), values)
            learnt = [item for key, item in new.items() if item["digest"] and key in found and not found[key].digest]
            for item in learnt:
                image_id = found[item["frame"], item["name"]].image_id
                statement = t.images.update().where(t.images.c.image_id == image_id)
                connection.execute(statement.values(digest=item["digest"]))
            if missing or learnt:
                found = self._images_by_name(connection, row, [item["frame"] for item in wanted])
        images = tuple(found[item["frame"], item["name"]] for item in wanted)
        for image, item in zip(images, wanted, strict=True):
            if (image.width, image.height) != (item["width"], item["height"]):
                raise ConflictError(
                    ErrorCode.ALREADY_EXISTS,
                    f"image {image.name!r} is {image.width} x {image.height}, not {item['width']} x {item['height']}",
                    "register a changed image under another name",
                )
        return images

    @staticmethod
    def _images_by_name(connection: sa.Connection, row: int, frames: Sequence[Any]) -> dict[tuple[int, str], Image]:
        found: dict[tuple[int, str], Image] = {}
        for part in chunks(sorted(set(frames))):
            statement = select_images().where(t.images.c.source_row == row, t.images.c.frame.in_(part))
            found.update(((item.frame, item.name), image_of(item)) for item in connection.execute(statement))
        return found

    def image(self, image_id: str) -> Image:
        """An image.

        Raises:
            UnknownError: there is no such image.
        """
        with self.database.read() as connection:
            return image_of(image_rows(connection, [image_id])[image_id])

    def images_of_digest(self, digest: str, project: str = DEFAULT_PROJECT) -> tuple[Image, ...]:
        """The images of a project whose files have this SHA-256, oldest first.

        Raises:
            UnknownError: there is no such project.
        """
        with self.database.read() as connection:
            project_id = project_row(connection, project).project_id
            where = t.images.c.digest == digest, t.sources.c.project_id == project_id
            statement = select_images().where(*where).order_by(t.images.c.image_row)
            return tuple(image_of(item) for item in connection.execute(statement))

    def images(self, source_id: str, *, limit: int = 1_000, after: str = "") -> tuple[Image, ...]:
        """Images of a source by frame, then name; ``after``: the last id of the page before.

        Raises:
            UnknownError: there is no such source or image.
            InvalidInputError: a limit out of range.
        """
        if limit < 1:
            raise InvalidInputError(ErrorCode.INVALID_VALUE, f"limit is {limit}", "give 1 or more")
        i = t.images.c
        with self.database.read() as connection:
            row = source_row(connection, source_id).source_row
            statement = select_images().where(i.source_row == row).order_by(i.frame, i.name).limit(limit)
            if after:
                last = image_rows(connection, [after])[after]
                statement = statement.where(sa.tuple_(i.frame, i.name) > sa.tuple_(last.frame, last.name))
            return tuple(image_of(item) for item in connection.execute(statement))

    def add_track(self, source_id: str, object_ids: Sequence[str], *, who: str, name: str = "") -> Track:
        """Put objects of one source on a track.

        Args:
            source_id: the source.
            object_ids: its objects; those on another track change over, which the history shows.
            who: who says so.
            name: of the track within its source; a known one is added to, "" makes a new one.

        Raises:
            UnknownError: an unknown source or object.
            ConflictError: an object is of another source, or deleted.
            InvalidInputError: no objects.
        """
        name, who = checked_name(name, "track", empty=True) or new_id(), checked_name(who, "who")
        if not object_ids:
            raise InvalidInputError(ErrorCode.INVALID_VALUE, "a track of no objects", "give at least one object")
        with self.database.write() as connection:
            return tracking.add_track(connection, source_id, object_ids, who, name)

    def track(self, track_id: str) -> Track:
        """A track with its live objects in the order of time.

        Raises:
            UnknownError: there is no such track.
        """
        with self.database.read() as connection:
            return tracking.track(connection, track_id)

    def tracks(self, source_id: str) -> tuple[Track, ...]:
        """The tracks of a source that have live objects, in the order of their first.

        Raises:
            UnknownError: there is no such source.
        """
        with self.database.read() as connection:
            return tracking.tracks_of(connection, source_row(connection, source_id).source_row)
