# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""An open registry: its database and its folders."""

from __future__ import annotations

import secrets
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import sqlalchemy as sa

from flow_rag_vla.labeling.registry import tables as t
from flow_rag_vla.labeling.registry.catalogue import ensure_default_project
from flow_rag_vla.labeling.registry.database import BUSY_TIMEOUT_S, Database
from flow_rag_vla.labeling.registry.errors import ErrorCode, InvalidInputError, StorageError, files_checked
from flow_rag_vla.labeling.registry.masks import MaskFolder
from flow_rag_vla.labeling.registry.migrating import upgrade
from flow_rag_vla.labeling.registry.searching import Searching

DATABASE_FILE = "registry.db"
MASK_FOLDER = "masks"
INDEX_FOLDER = "index"
IMAGE_FOLDER = "images"

Self = TypeVar("Self", bound="OpenedRegistry")


class OpenedRegistry:
    """A folder (``registry.db``, ``masks/``, ``images/``, ``index/``), or a PostgreSQL database and a folder.

    Safe to use from several threads, and by several processes at once.
    """

    def __init__(
        self,
        location: str | Path,
        *,
        files: str | Path | None = None,
        index: str = "faiss",
        create: bool = True,
        busy_timeout_s: float = BUSY_TIMEOUT_S,
    ) -> None:
        """Open a registry and bring its database to the newest schema.

        Args:
            location: the folder, ``~`` is the home; or ``postgresql://user:password@host/database``.
            files: the folder for masks, images and index where the location is a URL.
            index: how similar objects are found among many: ``faiss``, ``chroma`` (an extra) or ``exact``.
            create: make it where there is none.
            busy_timeout_s: how long a write waits for others before it is refused as busy.

        Raises:
            InvalidInputError: a location that is none.
            StorageError: it is missing, damaged, or of a newer version.
            BusyError: the server does not answer.
        """
        text = str(location)
        if "://" in text:
            if files is None:
                raise InvalidInputError(
                    ErrorCode.INVALID_VALUE,
                    "a registry on a server needs a folder for masks",
                    "give one with 'files', the same for every process that uses the registry",
                )
            url, self.folder = text, Path(files).expanduser()
        else:
            self.folder = Path(text).expanduser()
            url = f"sqlite:///{self.folder / DATABASE_FILE}"
            if not create and not (self.folder / DATABASE_FILE).is_file():
                raise StorageError(
                    ErrorCode.STORAGE_FAILED,
                    f"{self.folder}: there is no registry",
                    "check the path, or make one: flow_rag_vla label PICTURES --registry FOLDER",
                )
        with files_checked(str(self.folder)):
            self.folder.mkdir(parents=True, exist_ok=True)
        self.database = Database(url, busy_timeout_s=busy_timeout_s)
        self.masks = MaskFolder(self.folder / MASK_FOLDER)
        self.image_folder = self.folder / IMAGE_FOLDER
        self.index_folder = self.folder / INDEX_FOLDER
        try:
            self.upgraded_from = upgrade(self.database)
            self.registry_id = self._identity()
            self.searching = Searching(self.database, self.registry_id, self.index_folder, index)
        except BaseException:
            self.database.close()
            raise

    def _identity(self) -> str:
        """A random name of this database: a copy of its index elsewhere is not taken for its own."""
        statement = sa.select(t.settings.c.value).where(t.settings.c.name == "registry_id")
        with self.database.read() as connection:
            found = connection.execute(statement).scalar()
        if found is None:
            with self.database.write() as connection:
                found = connection.execute(statement).scalar()
                if found is None:
                    found = secrets.token_hex(16)
                    connection.execute(t.settings.insert().values(name="registry_id", value=found))
                    ensure_default_project(connection)
        return str(found)

    def close(self) -> None:
        """Close the indexes and every connection."""
        self.searching.close()
        self.database.close()

    def __enter__(self: Self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
